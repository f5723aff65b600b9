"""`vitrail compare`: train several architectures on the same data within the same budget, or take existing runs, and measure them.

FOLDER/  data/  report.html  report.md  report.json
         <rung>/  asked.json  rung.json  seed-1/  seed-2/  ...      each seed a whole run, which shares the files of data/
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vitrail.config import read_toml
from vitrail.data.preparing.fingerprints import stamps
from vitrail.data.preparing.holder import RUNG_REQUEST, holds_comparison
from vitrail.data.preparing.prepare import DataConfig, Prepared, fingerprint, prepare
from vitrail.data.preparing.prepared import PreparedText, Texts, is_prepared, open_data
from vitrail.data.text_config import TextConfig
from vitrail.errors import Interrupted, ModelError, Stopped, TrainingError, UsageError, VitrailError
from vitrail.files import FolderLock, is_json_with, require_folder, require_own, share_folder, write_file
from vitrail.ladder.ladder_plan import LadderSpec, Plan, PlannedRung, data_config, facts_of, plan_ladder, require_possible
from vitrail.ladder.ladder_report import ladder_report_files, write_report
from vitrail.ladder.measure import MeasuredRung, Run, RungLabel, compare_rungs, measure_rung, read_training, rung_from_json, rung_to_json
from vitrail.ladder.rung_worker import read_process
from vitrail.ladder.rungs import Ladder, Rung, RungComparison
from vitrail.ladder.text_measure import compare_text_rungs, measure_text_rung
from vitrail.models.architectures import MODEL_KINDS, TaskName
from vitrail.phrasebook.corpus import Phrasebook
from vitrail.runtime.stopping import StopRequest
from vitrail.train.choosing.choose import LEAST_STEPS
from vitrail.train.resume.checkpoints import differences
from vitrail.train.run_config import RunConfig

RUNG = "rung.json"
FEW_SENTENCES = 200
"""A note warns of a test set with fewer sentences."""
_STOPPED = "stopped; finished trainings and measurements are kept"
_LOOK_SECONDS = 0.2

Say = Callable[[str], None]


def run_ladder(spec: LadderSpec, folder: Path, *, book: Phrasebook | None = None, machine: str = "", say: Say = lambda _: None) -> Ladder:
    """Train every rung in a process of its own, one after the other, measure each, and write the report after each.

    The same call resumes: measured rungs are reused, trainings continue from their checkpoints.

    Args:
        book: the phrasebook, where the text is the phrasebook's.
        machine: a description of the machine, for the report.
        say: called with each line meant for the user; the trainings themselves write to stderr.
    Raises:
        UsageError: invalid settings, text or budget; or the folder has a comparison with other settings. DataError: unusable text.
        TrainingError: some rung failed; the report has the others.
        Stopped, Interrupted: after saving; the same call resumes.
    """
    facts = facts_of(spec)
    data = data_config(spec, facts)
    require_possible(spec, facts=facts, data=data)
    require_own_comparison(folder, [rung.name for rung in spec.rungs], inputs=stamps(data))
    with FolderLock(folder), StopRequest() as stop:
        with stop.at_once(_STOPPED):
            _require_same_data(data, folder)
            prepared = prepare(data, folder / "data", say=say, accept=lambda _: None)  # this folder's lock is ours, and rungs are the same
            assert isinstance(prepared, Data)
            if not held_out(prepared, "dev").target:
                remedy = "--dev FILE" if spec.task == "language" else "--dev-source and --dev-target"
                raise UsageError("no dev text", expected="dev text to choose the best step", remedy=remedy)
            plan = plan_ladder(spec, prepared, facts=facts, data=data)
            for rung in plan.rungs:
                _require_same_rung(rung, prepared, folder)
        test = held_out(prepared, "test")
        report = _Report(folder, plan.budget, _corpus(data, prepared), machine, test, plan.notes, spec.task)
        _LadderRun(plan, report, prepared, seeds=spec.seeds, book=book, stop=stop, say=say).run_all()
        return report.ladder()


Data = Prepared | PreparedText


def held_out(data: Data, name: Literal["dev", "test"]) -> Texts:
    """Dev or test text; that of a language model is a target without a source."""
    if isinstance(data, PreparedText):
        return Texts([], data.dev if name == "dev" else data.test)
    return data.dev if name == "dev" else data.test


def measure(runs: Sequence[Run], named: RungLabel, *, test: Texts, book: Phrasebook | None = None) -> MeasuredRung:
    """Measure the runs of a rung, of either task; see `measure_rung`."""
    if isinstance(runs[0].data, PreparedText):
        return measure_text_rung(runs, named, test=test.target)
    return measure_rung(runs, named, test=test, book=book)


def _require_no_run(folder: Path) -> None:
    """Refuse a folder that is a run."""
    if any((folder / name).exists() for name in ("config.toml", "model")):
        raise UsageError(f"{folder}: is a run", expected="a separate folder for the comparison", remedy="-o another folder")


def require_own_comparison(folder: Path, rungs: Iterable[str], *, inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder where other files have the names that a comparison writes. Nothing is changed."""
    require_folder(folder)
    _require_no_run(folder)
    asked, measured = is_json_with("train", "seed", "data"), is_json_with("asked", "rung", "translations")
    named = {folder / name / RUNG_REQUEST: asked for name in rungs} | {folder / name / RUNG: measured for name in rungs}
    require_own({folder / "data": is_prepared, **ladder_report_files(folder), **named}, what="a comparison", inputs=inputs)


def _require_same_data(data: DataConfig | TextConfig, folder: Path) -> None:
    """Refuse other text before it replaces the text that rungs were trained on."""
    if not holds_comparison(folder):
        return
    try:
        saved = open_data(folder / "data").fingerprint
    except ModelError:
        return
    _refuse_changes(folder, map(str, differences(saved, fingerprint(data))))


def _require_same_rung(rung: PlannedRung, prepared: Data, folder: Path) -> None:
    """Refuse to resume a rung that was started with other settings."""
    try:
        saved: Any = json.loads((folder / rung.name / RUNG_REQUEST).read_bytes())
    except (OSError, ValueError):
        return
    _refuse_changes(folder / rung.name, map(str, differences(saved, _asked(rung, prepared))))


def _refuse_changes(folder: Path, changes: Iterable[str]) -> None:
    if found := list(changes):
        raise UsageError(
            f"{folder}: has a comparison with other settings: " + "; ".join(found),
            expected="the same settings, to resume",
            remedy="compare in a new folder",
        )


def _asked(rung: PlannedRung, prepared: Data) -> dict[str, Any]:
    """All inputs that determine the result of a rung, except the number of seeds."""
    return {**rung.config.model_dump(mode="json", exclude={"data"}), "data": prepared.digest}


def _corpus(data: DataConfig | TextConfig, prepared: Data) -> tuple[str, ...]:
    facts = prepared.facts
    if isinstance(data, TextConfig):
        names = ", ".join(text.label for text in data.text)
        sizes = f"{facts['lines']:,} lines of {facts['tokens']:,} tokens to train on"
        return f"{names}: {sizes}, {facts['dev_lines']:,} lines of dev, {facts['test_lines']:,} of test", _vocabulary(prepared)
    names = ", ".join(corpus.label for corpus in data.corpora)
    sizes = f"{facts['pairs']:,} pairs to train on, {facts['dev_pairs']:,} of dev, {facts['test_pairs']:,} of test"
    return f"{names}: {sizes}", _vocabulary(prepared)


def _vocabulary(prepared: Data) -> str:
    if isinstance(prepared, PreparedText):
        return f"one vocabulary of {prepared.facts['vocabulary']:,} tokens"
    source, target = prepared.facts["source_vocabulary"], prepared.facts["target_vocabulary"]
    return (
        f"one vocabulary of {target:,} subwords" if prepared.vocabularies.joint else f"vocabularies of {source:,} and {target:,} subwords"
    )


@dataclass
class _Report:
    """The report of a comparison, rewritten after each rung."""

    folder: Path
    budget: str
    corpus: tuple[str, ...]
    machine: str
    test: Texts
    notes: tuple[str, ...]
    task: TaskName = "translation"
    measured: list[MeasuredRung] = field(default_factory=list[MeasuredRung])
    pairs: list[RungComparison] = field(default_factory=list[RungComparison])

    def __post_init__(self) -> None:
        count, unit = len(self.test.target), "lines" if self.task == "language" else "sentences"
        if count < FEW_SENTENCES:
            small = f"test set of {count} {unit}: too few to distinguish good systems" if count else "no test set: nothing is scored"
            self.notes = (*self.notes, small)

    def add(self, one: MeasuredRung, prepared: Data) -> None:
        """Add a rung, and compare it with the one before it if both have learned their task."""
        before = [other for other in self.measured if other.rung.comparable]
        if before and one.rung.comparable and self.test.target:
            if isinstance(prepared, Prepared):
                self.pairs.append(compare_rungs(prepared, self.test, baseline=before[-1], system=one))
            elif (pair := compare_text_rungs(before[-1], one)) is not None:
                self.pairs.append(pair)
        self.measured.append(one)
        self.notes += not_learned(one.rung, self.task)

    def write(self, *, more: Sequence[str] = ()) -> None:
        """Write the report so far, with further notes."""
        ladder = self.ladder()
        write_report(replace(ladder, notes=(*ladder.notes, *more)), self.folder)

    def ladder(self) -> Ladder:
        """The comparison so far."""
        rungs = tuple(one.rung for one in self.measured)
        return Ladder(self.budget, self.corpus, self.machine, rungs, tuple(self.pairs), self.notes, self.task)


@dataclass
class _LadderRun:
    """The rungs of one ladder, one after the other."""

    plan: Plan
    report: _Report
    prepared: Data
    seeds: int
    book: Phrasebook | None
    stop: StopRequest
    say: Say

    def run_all(self) -> None:
        failed: dict[str, str] = {}
        for place, rung in enumerate(self.plan.rungs):
            try:
                measured = self._take(rung)
            except (Stopped, Interrupted):
                raise
            except VitrailError as error:
                failed[rung.name] = str(error)
                self.say(f"{rung.name}: failed: {error}")
                self.report.notes += (f"{rung.name} failed: {error.found}",)
            else:
                self.report.add(measured, self.prepared)
            waiting = ", ".join(later.name for later in self.plan.rungs[place + 1 :])
            if self.report.measured:
                self.report.write(more=[f"not yet measured: {waiting}"] if waiting else [])
        if failed:
            raise TrainingError(
                "; ".join(f"{name} failed: {told}" for name, told in failed.items()),
                expected=f"all {len(self.plan.rungs)} rungs",
                remedy="run the same command again to retry only these; the report has the others",
            )

    def _take(self, rung: PlannedRung) -> MeasuredRung:
        """Train and measure a rung, unless it is measured already."""
        folder = self.report.folder / rung.name
        asked = {**_asked(rung, self.prepared), "seeds": self.seeds, "phrasebook": self.book is not None}
        if (kept := read_rung(folder / RUNG, asked=asked)) is not None:
            self.say(f"{rung.name}: measured already")
            return kept
        write_file(folder / RUNG_REQUEST, _json(_asked(rung, self.prepared)))
        runs: list[Path] = []
        for seed in range(rung.config.seed, rung.config.seed + self.seeds):
            runs.append(folder / f"seed-{seed}")
            self.say(f"{rung.name}: training, seed {seed}: {rung.parameters:,} parameters, {rung.config.train.duration}")
            self._train(rung.config.model_copy(update={"seed": seed}), runs[-1])
        self.say(f"{rung.name}: measuring")
        with self.stop.at_once(_STOPPED):
            named = RungLabel(rung.name, rung.title, rung.settings)
            found = measure([Run.open(run) for run in runs], named, test=self.report.test, book=self.book)
        write_file(folder / RUNG, rung_to_json(found, asked=asked).encode())
        self.say(f"{rung.name}: {summary(found)}")
        return found

    def _train(self, config: RunConfig, run: Path) -> None:
        """Train in another process. Signals to stop are forwarded to it; its own process group keeps it from receiving them twice."""
        if not (run / "data").exists():
            share_folder(self.prepared.folder, run / "data")
        command = [sys.executable, "-m", "vitrail.ladder.rung_worker", str(run)]
        own_group = 0 if os.name == "posix" else None
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=own_group) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(config.model_dump_json().encode() + b"\n")
                process.stdin.flush()
            told = False
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                if self.stop.signal is not None and not told:
                    told = True
                    process.send_signal(self.stop.signal)
        self._judge(process.returncode, run)

    def _judge(self, code: int, run: Path) -> None:
        """Raise the error that ended a training, if there was one."""
        told = str(read_process(run).get("error", ""))
        if self.stop.signal is not None:
            raise self.stop.error(told.partition("\n")[0] or _STOPPED)
        if code == Stopped.exit_code:
            raise Stopped(told.partition("\n")[0] or _STOPPED, remedy="run the same command again to resume")
        if code < 0:
            name = signal.Signals(-code).name
            raise TrainingError(f"its process was killed by {name}", remedy="if memory ran out, --set train.batch_tokens=1024")
        if code:
            raise TrainingError(told or f"its process ended with exit code {code}", remedy="" if told else f"see {run / 'log.txt'}")


def read_rung(path: Path, *, asked: dict[str, Any]) -> MeasuredRung | None:
    """A rung measured before with the same settings; None where there is none."""
    try:
        before, found = rung_from_json(path.read_bytes())
        same = not differences(before, asked)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if same else None


def not_learned(rung: Rung, task: TaskName = "translation") -> tuple[str, ...]:
    """A note on a rung whose scores cannot be compared, with an estimate of the training it needs."""
    if rung.comparable or rung.learned is None or rung.enough is None:
        return ()
    why = "; ".join(rung.learned.doubts)
    enough = f"it needs about {rung.enough.steps:,} steps ({rung.enough.minutes:,.1f} minutes)"
    what = "to predict its text" if task == "language" else "to translate"
    short = "is not trained long enough to compare" if rung.steps < LEAST_STEPS else f"has not learned {what}, and cannot be compared"
    return (f"{rung.name} {short}, after {rung.steps:,} steps: {why}; {enough}",)


def summary(measured: MeasuredRung) -> str:
    """A rung on one line."""
    rung = measured.rung
    parts = [f"dev perplexity {rung.dev_perplexity:.2f}", *(f"{score.name} {score.value:.4g}" for score in rung.scores)]
    parts += [f"{rung.tokens_per_second:,.0f} tokens/s", f"{rung.minutes:.1f} minutes"]
    return ", ".join([*parts, *([] if rung.comparable else ["not trained long enough to compare"])])


def _json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


# ---- existing runs -------------------------------------------------------------------------------------------------------------


def compare_runs(
    folders: Sequence[Path],
    folder: Path,
    *,
    test: Texts | None = None,
    book: Phrasebook | None = None,
    machine: str = "",
    say: Say = lambda _: None,
) -> Ladder:
    """Measure existing runs, in the given order, and write the report; nothing is written into the runs.

    Args:
        test: None: that of the runs, which must be the same. book: as for `run_ladder`; `test` is then its test set.
    Raises: UsageError where the runs cannot be compared: other vocabularies, other test sets, one run alone. ModelError.
    """
    runs = [Run.open(one) for one in folders]
    if len(runs) < 2:
        raise UsageError("only one run" if runs else "no run", expected="at least two", remedy="vitrail evaluate scores one run")
    require_own_comparison(folder, names_of(folders))
    if holds_comparison(folder) or any(folder.resolve() in run.folder.resolve().parents for run in runs):
        raise UsageError(
            f"{folder}: has runs, or another comparison", expected="a separate folder for this comparison", remedy="-o another folder"
        )
    task = _common_task(runs)
    _require_one_vocabulary(runs)
    test = test or _common_test(runs)
    if book is not None and task == "language":
        raise UsageError("--phrasebook with language models", expected="runs of translators that were tested on the phrasebook")
    if book is not None and test.source != [pair.source for pair in book.test]:
        raise UsageError("--phrasebook, but the test set is another text", expected="runs that were tested on the phrasebook")
    report = _Report(folder, _durations(runs), (_vocabulary(runs[0].data),), machine, test, _caveats(runs), task)
    settings = distinguishing([run.config for run in runs])
    with FolderLock(folder), StopRequest() as stop:
        for run, name, told in zip(runs, names_of(folders), settings, strict=True):
            with stop.at_once(_STOPPED):
                report.add(_take_run(run, RungLabel(name, name, told), report, book=book, say=say), runs[0].data)
        report.write()
    return report.ladder()


def _take_run(run: Run, named: RungLabel, report: _Report, *, book: Phrasebook | None, say: Say) -> MeasuredRung:
    manifest = json.loads((run.folder / "model" / "manifest.json").read_bytes()) if (run.folder / "model").is_dir() else {}
    steps = read_training(run).steps
    asked: dict[str, Any] = {
        "run": str(run.folder.absolute()),
        "model": manifest,
        "steps": steps,
        "settings": list(named.settings),
        "test": [*report.test],
        "phrasebook": book is not None,
    }
    path = report.folder / named.name / RUNG
    if (kept := read_rung(path, asked=asked)) is not None:
        say(f"{named.name}: measured already")
        return kept
    say(f"{named.name}: measuring")
    found = measure([run], named, test=report.test, book=book)
    write_file(path, rung_to_json(found, asked=asked).encode())
    say(f"{named.name}: {summary(found)}")
    return found


def is_language_run(folder: Path) -> bool:
    """Whether a folder is the run of a language model; False where it is no run."""
    try:
        kind = read_toml(folder / "config.toml").get("model", {}).get("kind")
    except UsageError:
        return False
    return kind in MODEL_KINDS and MODEL_KINDS[kind].task == "language"


def _common_task(runs: Sequence[Run]) -> TaskName:
    first, *others = runs
    for other in others:
        if other.config.task != first.config.task:
            raise UsageError(
                f"{first.folder} is a model for {first.config.task}, {other.folder} one for {other.config.task}",
                expected="runs of one task: their figures measure different things",
            )
    return first.config.task


def _require_one_vocabulary(runs: Sequence[Run]) -> None:
    first = runs[0]
    for other in runs[1:]:
        if other.data.vocabularies.digest != first.data.vocabularies.digest:
            raise UsageError(
                f"{first.folder} and {other.folder} have different vocabularies",
                expected="one vocabulary for all: perplexities over different tokens cannot be compared",
                remedy="train them on the same prepared text (vitrail compare --text FILE); "
                "bits a byte of each can be compared all the same: vitrail evaluate RUN --source FILE"
                if isinstance(first.data, PreparedText)
                else "train them on the same prepared text (vitrail compare --source FILE --target FILE), "
                "or compare translations only: vitrail evaluate OUTPUT --baseline OTHER --reference FILE",
            )


def _common_test(runs: Sequence[Run]) -> Texts:
    first = runs[0]
    for other in runs[1:]:
        if held_out(other.data, "test") != held_out(first.data, "test"):
            raise UsageError(
                f"{first.folder} and {other.folder} have different test sets",
                expected="one test set for all",
                remedy="name one: --test FILE"
                if isinstance(first.data, PreparedText)
                else "name one: --test-source FILE --test-target FILE",
            )
    return held_out(first.data, "test")


def _durations(runs: Sequence[Run]) -> str:
    durations = [str(run.config.train.duration) for run in runs]
    same = len(set(durations)) == 1
    return f"{durations[0]} each" if same else "as each was trained: " + ", ".join(durations)


def _caveats(runs: Sequence[Run]) -> tuple[str, ...]:
    notes = [f"{run.folder.name} is not fully trained" for run in runs if not read_training(run).finished]
    if any(run.data.digest != runs[0].data.digest for run in runs):
        notes.append("the runs were not trained on the same prepared data")
    if any(held_out(run.data, "dev") != held_out(runs[0].data, "dev") for run in runs):
        notes.append("the runs have different dev sets: their dev losses cannot be compared")
    return tuple(notes)


def names_of(folders: Sequence[Path]) -> list[str]:
    """A short unique name for each folder: its own, with as many parent folders as needed."""
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UsageError("a run is given twice", expected="different runs")
    depth = 1
    while len({one[-depth:] for one in parts}) < len(parts):
        depth += 1
    return ["-".join(part.strip(os.sep) for part in one[-depth:]) for one in parts]


def distinguishing(configs: Sequence[RunConfig]) -> list[tuple[str, ...]]:
    """The settings in which the runs differ, for each run, as `--set` takes them; without those of the text."""
    tables = [_flat(config.model_dump(mode="json", exclude={"data"})) for config in configs]
    names = [name for table in tables for name in table]
    unlike = [name for name in dict.fromkeys(names) if any(table.get(name, ...) != tables[0].get(name, ...) for table in tables)]
    return [tuple(f"{name}={table[name]}" for name in unlike if name in table) for table in tables]


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}  # pyright: ignore[reportUnknownArgumentType]
    return found
