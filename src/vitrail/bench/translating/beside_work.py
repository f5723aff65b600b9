"""Translation beside other work: the share of its speed that each system keeps. `vitrail bench busy --translate MODEL`."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from vitrail.bench.busy import BUSY_GOAL, fair_share, other_work
from vitrail.bench.translating.tuning import Tuned, Wanted, at_their_best
from vitrail.errors import UsageError
from vitrail.runtime.machine import Machine, describe_machine


@dataclass(frozen=True)
class BusyRow:
    """One system: sentences a second, one figure for each round."""

    system: str
    quiet: tuple[float, ...]
    busy: tuple[float, ...]

    @property
    def kept(self) -> float:
        """The share of its quiet speed that it keeps, the median of the rounds."""
        return statistics.median(busy / quiet for quiet, busy in zip(self.quiet, self.busy, strict=True))


@dataclass(frozen=True)
class BusyTranslation:
    """All systems, quiet and beside busy threads."""

    machine: Machine
    model: str
    beams: int
    threads: int
    busy_threads: int
    missing: tuple[str, ...]
    rows: tuple[BusyRow, ...]

    @property
    def fair_share(self) -> float:
        """See `busy.fair_share`."""
        return fair_share(self.machine.cores, self.threads, self.busy_threads)

    def to_json(self) -> str:
        """The fields by name, as JSON, with shares and the goal."""
        rows = [{**asdict(row), "kept": row.kept, "of_fair_share": row.kept / self.fair_share} for row in self.rows]
        return json.dumps({**asdict(self), "rows": rows, "fair_share": self.fair_share, "goal": BUSY_GOAL}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [self.machine.to_text(), f"{self.model}: {self.beams} beams, {self.threads} threads"]
        lines += [f"not measured: {one}" for one in self.missing]
        lines += ["", f"{'':<18} {'quiet, sentences/s':>20} {'busy':>10} {'kept':>8} {'of the fair share':>18}"]
        for row in self.rows:
            quiet, busy = statistics.median(row.quiet), statistics.median(row.busy)
            lines.append(f"{row.system:<18} {quiet:>20,.0f} {busy:>10,.0f} {row.kept:>8.2f} {row.kept / self.fair_share:>18.2f}")
        lines += ["", f"busy: beside one process of {self.busy_threads} busy threads; a fair share is {self.fair_share:.2f}"]
        return "\n".join(lines) + "\n"


def measure_busy_translation(
    wanted: Wanted, texts: Sequence[str], *, busy_threads: int, seconds: float, repeats: int, say: Callable[[str], None]
) -> BusyTranslation:
    """Translate the texts for about so many seconds with each system, quiet and beside busy threads, in rounds.

    Args: wanted: the first number of beams is measured. busy_threads: of another process, which is started and ended here.
    """
    if not texts or busy_threads < 1 or repeats < 1 or seconds <= 0:
        raise UsageError(f"{len(texts)} texts, {busy_threads} busy threads, {repeats} rounds", expected="at least 1 of everything")
    beams = wanted.beams[0]
    with at_their_best(wanted, texts, say=say) as best:
        speeds: dict[tuple[str, bool], list[float]] = {(name, busy): [] for name in best.systems for busy in (False, True)}
        for turn in range(repeats):
            for name, one in best.systems.items():
                speeds[name, False].append(_speed(one, texts, beams, seconds))
            with other_work(busy_threads):
                for name, one in best.systems.items():
                    speeds[name, True].append(_speed(one, texts, beams, seconds))
            say(f"round {turn + 1} of {repeats}")
    rows = tuple(BusyRow(name, tuple(speeds[name, False]), tuple(speeds[name, True])) for name in best.systems)
    return BusyTranslation(describe_machine(), wanted.model.name, beams, wanted.threads, busy_threads, tuple(best.missing), rows)


def _speed(system: Tuned, texts: Sequence[str], beams: int, seconds: float) -> float:
    """Sentences a second by the clock, of whole passes over the texts."""
    began, spent, done = time.perf_counter(), 0.0, 0
    while time.perf_counter() - began < seconds or not done:
        spent += sum(system.translate(texts, beams).seconds)
        done += len(texts)
    return done / spent
