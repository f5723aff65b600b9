"""How far back each architecture can remember: `vitrail experiment lag`.

A problem whose answer is `lag` time steps back is learned from scratch, for increasing lags, under the same conditions for all
architectures. Each architecture and seed runs in a separate process with one thread, as many in parallel as there are cores.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from vitrail.errors import UsageError
from vitrail.experiments.lag_job import SHORTEST, Architecture, Job, LagConditions, Trial
from vitrail.files import Recognise, is_json_with
from vitrail.reports.charts import Section, Series, html_figure, is_page, line_chart, page, paragraph, table
from vitrail.reports.report_files import write_report_files
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.runtime.measure_in_subprocess import measure_in_subprocess

LENGTHS = (5, 10, 20, 40, 80, 160, 320)
SEEDS = (1, 2, 3)
ARCHITECTURES: dict[Architecture, str] = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "attention": "attention"}
"""The architectures, and their names in tables."""
_SLOWEST_FIRST: tuple[Architecture, ...] = ("gru", "lstm", "rnn", "attention")
_NOT_TRIED = "-"


@dataclass(frozen=True)
class LagReport:
    """The results at every lag, and their conditions."""

    machine: Machine
    conditions: LagConditions
    lengths: tuple[int, ...]
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    """By architecture, seed and lag."""
    seconds: float
    """Wall-clock time of everything."""

    def trials_of(self, architecture: Architecture, lag: int) -> list[Trial]:
        """One trial a seed."""
        return [trial for trial in self.trials if trial.architecture == architecture and trial.lag == lag]

    def reach(self, architecture: Architecture) -> int:
        """The longest lag up to which every seed solved the task; 0 if even the shortest failed."""
        reached = 0
        for lag in self.lengths:
            if not all(trial.solved for trial in self.trials_of(architecture, lag)):
                break
            reached = lag
        return reached

    def sentence(self) -> str:
        """The lag up to which each architecture succeeds, in rising order."""
        reached = {title: self.reach(architecture) for architecture, title in ARCHITECTURES.items()}
        parts = [f"{title} {self._reach_text(lag)}" for title, lag in sorted(reached.items(), key=lambda item: item[1])]
        who = f"Every one of {len(self.seeds)} seeds succeeds" if len(self.seeds) > 1 else "The one seed succeeds"
        return f"{who} up to lag: {', '.join(parts)}."

    def _reach_text(self, lag: int) -> str:
        if lag == 0:
            return f"none (not even {self.lengths[0]})"
        return f"{lag} (the longest tried)" if lag == self.lengths[-1] else str(lag)

    def to_json(self) -> str:
        """The fields by name, and the longest lag of each architecture, as JSON."""
        reach = {architecture: self.reach(architecture) for architecture in ARCHITECTURES}
        return json.dumps({**asdict(self), "reach": reach, "sentence": self.sentence()}, indent=2)

    def to_text(self) -> str:
        """Tables for people."""
        lines = [*self._conditions(), ""]
        for title, cell in self._tables():
            lines += [title, *_aligned(self._header(), self._rows(cell)), ""]
        return "\n".join([*lines, self.sentence(), self._duration()]) + "\n"

    def _duration(self) -> str:
        spent = sum(trial.processor_seconds for trial in self.trials)
        return f"{self.seconds:.0f} seconds of wall-clock time, {spent:.0f} of processor time for training"

    def to_html(self) -> str:
        """A page with two charts and all numbers, in one file."""
        tables = self._tables()
        score = "accuracy" if self.conditions.task == "recall" else "mean squared error"
        charts = [
            self._chart(lambda trial: trial.score, title=f"The {self.conditions.task} task", y_label=score, log_y=False),
            self._chart(lambda trial: trial.gradient_before, title="Gradient before training", y_label="first / last step", log_y=True),
        ]
        captions = [
            f"{self.sentence()} Bands: lowest to highest seed. After its first failure a seed is not trained for longer lags.",
            "Norm of the gradient at the state of the first time step over that of the last one: 1 means that nothing vanishes.",
        ]
        sections = [Section("Conditions", "".join(map(paragraph, [*self._conditions(), self._duration()])))]
        for heading, chart, caption, part in zip(("Success", "Gradients"), charts, captions, (tables[:2], tables[2:]), strict=True):
            numbers = "".join(table(self._header(), self._rows(cell), caption=title) for title, cell in part)
            sections.append(Section(heading, html_figure(chart, caption=caption, numbers=numbers)))
        return page("The lag task: how far back can it remember?", sections)

    def _chart(self, value: Callable[[Trial], float | None], *, title: str, y_label: str, log_y: bool) -> str:
        series: list[Series] = []
        for architecture, name in ARCHITECTURES.items():
            found = {lag: [value(trial) for trial in self.trials_of(architecture, lag)] for lag in self.lengths}
            tried = {lag: [one for one in values if one is not None] for lag, values in found.items()}
            whole = {lag: values for lag, values in tried.items() if values}
            middle, low, high = ([of(values) for values in whole.values()] for of in (statistics.median, min, max))
            series.append(Series(name, tuple(whole), middle, low, high))
        return line_chart(series, title=title, x_label="lag (time steps)", y_label=y_label, log_x=True, log_y=log_y)

    def _conditions(self) -> list[str]:
        asked = self.conditions
        rates = " then ".join(f"{rate:g}" for rate in asked.learning_rates)
        lags = "the given lag only" if asked.exact else "lags drawn from 2 to the given one"
        # Its second line warns of a busy machine, which changes the time but not the results.
        machine = self.machine.to_text().partition("\n")[0]
        return [
            machine,
            f"{_TASKS[asked.task]}; trained on {lags}, tested on 1,000 new sequences of the given lag",
            f"one layer of width {asked.width}; at most {asked.steps:,} updates of {asked.batch} sequences; Adam, learning rate {rates}"
            f" where that fails; gradient clipped to norm {asked.clip_norm:g}; seeds {', '.join(map(str, self.seeds))}",
        ]

    def _tables(self) -> list[tuple[str, Callable[[Sequence[Trial]], str]]]:
        score = "accuracy" if self.conditions.task == "recall" else "mean squared error"
        return [
            (f"{score} (each seed; -: a shorter lag was failed)", lambda trials: " ".join(_score(trial.score) for trial in trials)),
            ("updates until solved (median of the seeds that did)", _median_steps),
            ("gradient at the first time step / at the last, before training (median)", lambda trials: _median(_before(trials))),
            ("the same after training", lambda trials: _median(_after(trials))),
        ]

    def _header(self) -> list[str]:
        return ["lag", *map(str, self.lengths)]

    def _rows(self, cell: Callable[[Sequence[Trial]], str]) -> list[list[str]]:
        return [
            [title, *(cell(self.trials_of(architecture, lag)) for lag in self.lengths)] for architecture, title in ARCHITECTURES.items()
        ]


_TASKS = {
    "recall": "recall: name the first of eight symbols after `lag` further ones of the same eight; success: accuracy above 0.9",
    "adding": "adding: the sum of two marked numbers, one in each half of `lag`; success: error below a tenth of a constant's 0.167",
}


def _score(score: float | None) -> str:
    return _NOT_TRIED if score is None else f"{score:.2f}" if score >= 0.1 else f"{score:.3f}"


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0e}" if values else _NOT_TRIED


def _before(trials: Sequence[Trial]) -> list[float]:
    return [trial.gradient_before for trial in trials]


def _after(trials: Sequence[Trial]) -> list[float]:
    return [trial.gradient_after for trial in trials if trial.gradient_after is not None]


def _median_steps(trials: Sequence[Trial]) -> str:
    solved = [trial.steps for trial in trials if trial.solved]
    return f"{statistics.median(solved):.0f}" if solved else _NOT_TRIED


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return [f"{line[0]:<{widths[0]}}  " + "  ".join(map(str.rjust, line[1:], widths[1:])) for line in lines]


def run_lag_experiment(
    *,
    lengths: Sequence[int] = LENGTHS,
    seeds: Sequence[int] = SEEDS,
    conditions: LagConditions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> LagReport:
    """Train every architecture from scratch at every lag, until it fails.

    Args:
        conditions: the same for all; None: the defaults of `LagConditions`.
        say: called with a line after each architecture and seed.
    Raises: UsageError: impossible lags, seeds or conditions. VitrailError: a process failed.
    Cost:   three minutes on 2 cores with the defaults.
    """
    conditions = LagConditions() if conditions is None else conditions
    _check(lengths, seeds, conditions)
    machine, started = describe_machine(), time.perf_counter()
    ordered = tuple(sorted(set(lengths)))
    jobs = [Job(architecture, seed, ordered, conditions) for architecture in _SLOWEST_FIRST for seed in seeds]
    found: dict[tuple[Architecture, int], list[Trial]] = {}
    with ThreadPoolExecutor(min(machine.cores, len(jobs))) as pool:
        futures = {pool.submit(_run_apart, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                job, trials = futures[future], future.result()
                found[job.architecture, job.seed] = trials
                reached = max((trial.lag for trial in trials if trial.solved), default=0)
                say(f"{len(found)} of {len(jobs)}: {ARCHITECTURES[job.architecture]}, seed {job.seed}: solved up to lag {reached}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    trials = tuple(trial for architecture in ARCHITECTURES for seed in seeds for trial in found[architecture, seed])
    return LagReport(machine, conditions, ordered, tuple(seeds), trials, time.perf_counter() - started)


def lag_report_files(folder: Path) -> dict[Path, Recognise]:
    """The files of a report, and how each is recognised."""
    return {folder / "lag.html": is_page, folder / "lag.json": is_json_with("machine", "trials", "reach")}


def write_lag_report(report: LagReport, folder: Path) -> tuple[Path, Path]:
    """Write `lag.html` and `lag.json` into a folder. Raises NotWritten when a file cannot be written."""
    html, numbers = write_report_files(lag_report_files(folder), (report.to_html(), report.to_json() + "\n"))
    return html, numbers


def parse_lags(text: str) -> tuple[int, ...]:
    """Parse lags from the command line: "5,10,20". Raises UsageError where they are not numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise _bad_lengths(repr(text)) from None


def _bad_lengths(found: str) -> UsageError:
    expected = f"whole numbers, each at least {SHORTEST}, with commas between them"
    return UsageError(f"lags {found}", expected=expected, remedy=f"--lengths {','.join(map(str, LENGTHS))}")


def _check(lengths: Sequence[int], seeds: Sequence[int], conditions: LagConditions) -> None:
    if not lengths or min(lengths) < SHORTEST:
        raise _bad_lengths(", ".join(map(str, lengths)) or "none")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UsageError(
            f"seeds {', '.join(map(str, seeds)) or 'none'}", expected="different whole numbers, none below 0", remedy="--seeds 3"
        )
    counts = (conditions.steps, conditions.batch, *conditions.learning_rates)
    if min(counts) <= 0 or not conditions.learning_rates:
        raise UsageError(
            f"steps {conditions.steps}, batch {conditions.batch}, learning rates {conditions.learning_rates}",
            expected="more than 0 of each, and at least one rate",
        )
    if conditions.width < 4 or conditions.width % 4:
        raise UsageError(f"width {conditions.width}", expected="a multiple of 4, for the attention's four heads")


def _run_apart(job: Job) -> list[Trial]:
    """Run a job in a new process. Raises VitrailError when it fails."""
    name = f"{ARCHITECTURES[job.architecture]} with seed {job.seed}"
    done = measure_in_subprocess("vitrail.experiments.lag_worker", asdict(job), name=name, remedy="fewer or shorter --lengths")
    return [Trial(**trial) for trial in done["trials"]]
