"""One sentence at a time with each system in turn: `vitrail bench latency`."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from vitrail.bench.translating.systems import REFERENCE
from vitrail.bench.translating.tuning import Wanted, at_their_best
from vitrail.errors import UsageError
from vitrail.runtime.machine import Machine, describe_machine

_BLOCK = 20
"""Sentences until it is the next system's turn."""


@dataclass(frozen=True)
class LatencyRow:
    """One system with one number of beams: milliseconds of each sentence, the same sentences in all rows."""

    system: str
    beams: int
    clock_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    """Processor time of all threads."""
    settings: str
    """The best ones, as they were found."""

    def share(self, other: "LatencyRow") -> float:
        """This row's time as a share of another's, in processor time: the median of the sentences."""
        return statistics.median(a / b for a, b in zip(self.cpu_ms, other.cpu_ms, strict=True))


@dataclass(frozen=True)
class LatencyBench:
    """All rows, the machine, and who was not there."""

    machine: Machine
    model: str
    sentences: int
    threads: int
    """At most; each system has the number that is best for it."""
    versions: Mapping[str, Mapping[str, str]]
    missing: tuple[str, ...]
    rows: tuple[LatencyRow, ...]

    def share(self, row: LatencyRow, other: str) -> float | None:
        """See `LatencyRow.share`; None without the other system."""
        found = [one for one in self.rows if one.system == other and one.beams == row.beams]
        return row.share(found[0]) if found else None

    def to_json(self) -> str:
        """The fields by name, as JSON, with medians, 90th percentiles and shares."""
        rows = [
            {
                **asdict(row),
                "clock_median_and_90th": _middle_and_most(row.clock_ms),
                "cpu_median_and_90th": _middle_and_most(row.cpu_ms),
                "share_of": {other.system: row.share(other) for other in self.rows if other.beams == row.beams},
            }
            for row in self.rows
        ]
        return json.dumps({**asdict(self), "rows": rows}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [self.machine.to_text(), f"{self.model}: {self.sentences:,} sentences, one at a time, at most {self.threads} threads"]
        lines += [f"not measured: {one}" for one in self.missing]
        titles = ("beams", "clock, ms", "90 %", "cpu, ms", "90 %", "of torch", "of CT2 int8")
        lines += ["", f"{'':<18}" + "".join(f" {title:>11}" for title in titles)]
        for row in self.rows:
            figures = (*_middle_and_most(row.clock_ms), *_middle_and_most(row.cpu_ms))
            shares = [self.share(row, other) for other in (REFERENCE, "ctranslate2 int8")]
            shown = [str(row.beams), *(f"{one:.2f}" for one in figures), *("" if one is None else f"{one:.2f}" for one in shares)]
            lines.append(f"{row.system:<18}" + "".join(f" {one:>11}" for one in shown))
        lines += ["", *(f"{row.system}, {row.beams} beams: {row.settings}" for row in self.rows if row.settings)]
        lines += ["", "medians and 90th percentiles of all sentences; shares of processor time, the median of the sentences"]
        return "\n".join(lines) + "\n"


def measure_latency(wanted: Wanted, texts: Sequence[str], *, say: Callable[[str], None]) -> LatencyBench:
    """Translate each text by itself, with each system in turn after a few texts. Precondition: `wanted.alone`."""
    if len(texts) < 2:
        raise UsageError(f"{len(texts)} sentences", expected="at least two")
    rows: list[LatencyRow] = []
    with at_their_best(wanted, texts, say=say) as best:
        for beams in wanted.beams:
            say(f"{beams} beams: {len(texts)} sentences one at a time")
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in best.systems}
            for first in range(0, len(texts), _BLOCK):
                for name, one in best.systems.items():
                    found = one.translate(texts[first : first + _BLOCK], beams)
                    times[name] += zip(found.seconds, found.cpu_seconds, strict=True)
            for name, one in best.systems.items():
                clock, cpu = (tuple(1000 * part for part in side) for side in zip(*times[name], strict=True))
                rows.append(LatencyRow(name, beams, clock, cpu, one.describe(beams)))
    model, threads = wanted.model.name, wanted.threads
    return LatencyBench(describe_machine(), model, len(texts), threads, best.versions, tuple(best.missing), tuple(rows))


def _middle_and_most(values: Sequence[float]) -> tuple[float, float]:
    """Median and 90th percentile."""
    return statistics.median(values), statistics.quantiles(values, n=10, method="inclusive")[-1]
