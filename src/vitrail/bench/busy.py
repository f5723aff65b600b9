"""Training speed on a quiet machine and beside other work, for several OpenMP wait policies: `vitrail bench busy`.

One training per policy, all alive from the first round to the last; they take turns, and the others sleep.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from vitrail.bench.busy_worker import BusySpeed, BusyTask
from vitrail.bench.training_speed import make_bench_corpus, read_pairs, sized_model
from vitrail.bench.training_worker import save_batches
from vitrail.errors import UsageError, VitrailError
from vitrail.runtime.cores import SPIN_COUNT, WAITING
from vitrail.runtime.device import Precision
from vitrail.runtime.machine import Machine, describe_machine

OLD, OURS = "OpenMP default", f"Vitrail's (spin count {SPIN_COUNT:,})"
QUIET_GOAL, BUSY_GOAL = 0.97, 0.8
"""Goals: share of OpenMP's default speed when quiet; of its fair share beside other work."""
_WARMUP_STEPS = 4
_BATCHES = 16
_AS_EVER = {"KMP_BLOCKTIME": "200"}
"""The default of LLVM's OpenMP, which GNU's ignores: a value must be set, or Vitrail would set its own."""


@dataclass(frozen=True)
class WaitPolicy:
    """One wait policy and its results, one figure per round."""

    name: str
    setting: dict[str, str]
    """Variables of the environment."""
    quiet: tuple[float, ...]
    """Real target tokens a second."""
    busy: tuple[float, ...]
    digest: str
    """Digest of the weights after the first steps: equal if the policy changes no bit."""


@dataclass(frozen=True)
class BusyReport:
    """Speeds in both states; the first policy is the baseline."""

    machine: Machine
    conditions: str
    threads: int
    busy_threads: int
    ways: tuple[WaitPolicy, ...]

    @property
    def fair_share(self) -> float:
        """See `fair_share`."""
        return fair_share(self.machine.cores, self.threads, self.busy_threads)

    def ratios(self, way: WaitPolicy) -> tuple[float, float]:
        """Speed when quiet relative to the baseline's; speed beside other work relative to the fair share of the baseline's quiet speed."""
        quiet, busy = statistics.median(way.quiet), statistics.median(way.busy)
        first = statistics.median(self.ways[0].quiet)
        return quiet / first, busy / (first * self.fair_share)

    @property
    def same_bits(self) -> bool:
        """Whether all policies trained the same weights."""
        return len({way.digest for way in self.ways}) == 1

    def to_json(self) -> str:
        """The fields by name, medians and ratios too, as JSON."""
        ways = [{**asdict(way), **dict(zip(("quiet_ratio", "busy_ratio"), self.ratios(way), strict=True))} for way in self.ways]
        record = asdict(self) | {"fair_share": self.fair_share, "same_bits": self.same_bits, "ways": ways}
        return json.dumps(record | {"goals": {"quiet_ratio": QUIET_GOAL, "busy_ratio": BUSY_GOAL}}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        width = max(len(way.name) for way in self.ways)
        lines = [self.machine.to_text(), self.conditions, ""]
        lines.append(f"{'wait policy':<{width}}   quiet tokens/s    of the default    busy tokens/s   of the fair share")
        for way in self.ways:
            quiet, busy = self.ratios(way)
            figures = f"{statistics.median(way.quiet):14,.0f}   {quiet:15.2f}   {statistics.median(way.busy):14,.0f}   {busy:17.2f}"
            lines.append(f"{way.name:<{width}}   {figures}")
        lines += [
            "",
            f"busy: beside one process of {self.busy_threads} busy threads; a fair share is {self.fair_share:.2f}; medians of rounds",
        ]
        lines.append(f"weights after {_WARMUP_STEPS} steps: {'the same bits' if self.same_bits else 'NOT the same bits'}")
        return "\n".join(lines) + "\n"


def fair_share(cores: int, threads: int, busy_threads: int) -> float:
    """The share of the cores that each thread gets when all runnable threads get equally much, relative to the quiet state."""
    return min(1.0, cores / (threads + busy_threads)) / min(1.0, cores / threads)


def measure_busy_training(
    *,
    preset: str = "tiny",
    batch_tokens: int = 4096,
    threads: int = 2,
    busy_threads: int | None = None,
    seconds: float = 5.0,
    repeats: int = 5,
    precision: Precision = "auto",
    spin_counts: Sequence[int] = (),
    settle: float = 1.0,
    pairs: Sequence[tuple[str, str]] | None = None,
    vocabulary: int = 10_000,
    say: Callable[[str], None] = lambda _: None,
) -> BusyReport:
    """Measure training in both states, round by round, so that a slow minute of the machine affects all policies.

    Args:
        busy_threads: of the other process, which is started and ended here; None: as many as train.
        seconds: of each measurement; whole steps are counted. repeats: rounds; in each, every policy is measured in both states.
        spin_counts: more policies to measure. settle: seconds of training before each measurement. pairs: None: the built-in phrasebook.
    Raises: UsageError. VitrailError: a training failed.
    """
    if min(batch_tokens, threads, repeats, *spin_counts, 1) < 1 or seconds <= 0 or (busy_threads is not None and busy_threads < 1):
        raise UsageError("a number below 1 was given", expected="at least 1 of everything, and more than 0 seconds")
    busy_threads = threads if busy_threads is None else busy_threads
    model = sized_model(preset, ())
    corpus = make_bench_corpus(pairs or read_pairs(None, None), vocabulary=vocabulary, batch_tokens=batch_tokens, count=_BATCHES)
    settings = {OLD: {}, OURS: dict(WAITING)} | {f"spin count {count:,}": {"GOMP_SPINCOUNT": str(count)} for count in spin_counts}
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="vitrail-bench-") as folder, ExitStack() as stack:
        file = Path(folder, "batches.safetensors")
        save_batches(file, corpus.batches)
        task = BusyTask(model.model_dump(mode="json"), corpus.vocabulary, str(file), threads, precision, _WARMUP_STEPS, settle)
        trainings = {name: stack.enter_context(_training(name, task, setting)) for name, setting in settings.items()}
        say(f"{len(trainings)} trainings are ready")
        speeds: dict[tuple[str, bool], list[float]] = {(name, busy): [] for name in settings for busy in (False, True)}
        for turn in range(repeats):
            _round(trainings, speeds, seconds=seconds)
            with other_work(busy_threads):
                _round(trainings, speeds, seconds=seconds, busy=True)
            shown = (f"{name} {speeds[name, False][-1]:,.0f} and {speeds[name, True][-1]:,.0f}" for name in settings)
            say(f"round {turn + 1} of {repeats}, tokens/s quiet and busy: {'; '.join(shown)}")
        found = [
            WaitPolicy(name, setting, tuple(speeds[name, False]), tuple(speeds[name, True]), trainings[name].digest)
            for name, setting in settings.items()
        ]
    conditions = f"{model.describe()}, vocabulary {corpus.vocabulary:,}; {threads} threads; batches of up to {batch_tokens:,} positions"
    return BusyReport(machine, f"{conditions}; {repeats} rounds of {seconds:g} s", threads, busy_threads, tuple(found))


def read_counts(text: str) -> tuple[int, ...]:
    """Numbers with commas between them. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--spin-counts {text}", expected="numbers above 0 with commas between them, such as 3000,30000")
    return tuple(map(int, parts))


class _Training:
    """A training in another process, which trains for the requested times."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self._name, self._process, self.digest = name, process, ""

    def begin(self, task: BusyTask) -> None:
        """Make it build its model and warm up."""
        self.digest = str(self._ask(json.dumps(asdict(task)))["digest"])

    def train_for(self, seconds: float) -> float:
        """Tokens per second, over about `seconds`."""
        speed = BusySpeed(**self._ask(str(seconds)))
        return speed.tokens / speed.seconds

    def _ask(self, line: str) -> dict[str, Any]:
        entrance, exit = _pipes(self._process)
        try:
            entrance.write(f"{line}\n")
            entrance.flush()
            return json.loads(exit.readline())
        except (OSError, ValueError):
            raise VitrailError(f"measuring {self._name}: its process has ended", remedy="a smaller batch or preset") from None


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


@contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str]) -> Generator["subprocess.Popen[str]", None, None]:
    """A process with line-based input and output, ended on exit."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment), text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _training(name: str, task: BusyTask, setting: Mapping[str, str]) -> Generator[_Training, None, None]:
    said = dict(setting) or _AS_EVER
    inherited = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", *WAITING)}
    with _process(["vitrail.bench.busy_worker"], inherited | said) as process:
        training = _Training(name, process)
        training.begin(task)
        yield training


@contextmanager
def other_work(threads: int) -> Generator[None, None, None]:
    """Keep so many threads of another process busy."""
    with _process(["vitrail.bench.busy_loop", str(threads)], os.environ) as process:
        _pipes(process)[1].readline()
        yield


def _round(
    trainings: Mapping[str, _Training], speeds: Mapping[tuple[str, bool], list[float]], *, seconds: float, busy: bool = False
) -> None:
    for name, training in trainings.items():
        speeds[name, busy].append(training.train_for(seconds))
