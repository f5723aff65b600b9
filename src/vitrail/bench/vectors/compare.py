"""Word vectors beside gensim and the fasttext program, same text and settings, in turn: `vitrail bench vectors`."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from vitrail.bench.vectors.vectors_worker import Maker, Objective, VectorsResult, VectorsTask
from vitrail.errors import UsageError
from vitrail.native.compiled import require_numba
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.runtime.measure_in_subprocess import measure_in_subprocess

MAKERS: dict[Objective, tuple[Maker, ...]] = {
    "skip-gram": ("vitrail", "gensim"),
    "skip-gram-hs": ("vitrail", "gensim"),
    "cbow": ("vitrail", "gensim"),
    "cbow-hs": ("vitrail", "gensim"),
    "fasttext": ("vitrail", "gensim", "fasttext"),
    "fasttext-cbow": ("vitrail", "gensim", "fasttext"),
    "glove": ("vitrail",),
}
"""Who trains what, ours first. Of GloVe no trainer is kept by anybody that could be installed."""


@dataclass(frozen=True)
class VectorsRow:
    """One program with one objective: its results in each round."""

    maker: Maker
    objective: Objective
    dimension: int
    threads: int
    results: tuple[VectorsResult, ...]

    @property
    def per_core(self) -> float:
        """Words per second of processor time, the median of the rounds."""
        return statistics.median(one.words / one.cpu_seconds for one in self.results)

    @property
    def by_the_clock(self) -> float:
        """Words per second of wall clock, the median of the rounds."""
        return statistics.median(one.words / one.wall_seconds for one in self.results)

    @property
    def peak_bytes(self) -> int:
        """The most memory, with the whole text, which the benchmark holds for every program."""
        return max(one.peak_bytes for one in self.results)

    def similarity(self, name: str) -> list[float]:
        """Of each seed."""
        return [one.similarity[name] for one in self.results]


@dataclass(frozen=True)
class VectorsBench:
    """All rows, and who was not there."""

    machine: Machine
    conditions: str
    missing: tuple[str, ...]
    rows: tuple[VectorsRow, ...]

    def to_json(self) -> str:
        """The fields by name, as JSON, with the ratios."""
        ratios = [{"maker": row.maker, "per core": self._ratio(row, cpu=True), "wall": self._ratio(row, cpu=False)} for row in self.rows]
        return json.dumps({**asdict(self), "ratios": ratios}, indent=2)

    def to_text(self) -> str:
        """A table for people: speeds, how often ours is as fast, and similarities of all seeds."""
        sets = list(self.rows[0].results[0].similarity) if self.rows else []
        lines = [self.machine.to_text().splitlines()[0], self.conditions, *(f"not installed: {name}" for name in self.missing), ""]
        lines.append(
            f"{'':<13} {'':<9} {'dim':>4} {'threads':>7}  {'words/s and core':>17} {'x':>5}  {'words/s':>11} {'x':>5}  {'MiB':>5}"
            + "".join(f"  {name:>28}" for name in sets)
        )
        for row in self.rows:
            ratios = [self._ratio(row, cpu=cpu) for cpu in (True, False)]
            shown = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            lines.append(
                f"{row.objective:<13} {row.maker:<9} {row.dimension:>4} {row.threads:>7}  {row.per_core:>17,.0f} {shown[0]:>5}  "
                f"{row.by_the_clock:>11,.0f} {shown[1]:>5}  {row.peak_bytes / 2**20:>5,.0f}"
                + "".join(f"  {_spread(row.similarity(name)):>28}" for name in sets)
            )
        return "\n".join([*lines, "", "x: how many times as fast Vitrail is, the median of the rounds"]) + "\n"

    def _ratio(self, row: VectorsRow, *, cpu: bool) -> float | None:
        if row.maker == "vitrail":
            return None
        key = (row.objective, row.dimension, row.threads)
        ours = next(one for one in self.rows if one.maker == "vitrail" and (one.objective, one.dimension, one.threads) == key)
        seconds = [
            (theirs.cpu_seconds / theirs.words) / (own.cpu_seconds / own.words)
            if cpu
            else (theirs.wall_seconds / theirs.words) / (own.wall_seconds / own.words)
            for own, theirs in zip(ours.results, row.results, strict=True)
        ]
        return statistics.median(seconds)


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    return f"{statistics.mean(known):.3f} ({min(known):.3f} to {max(known):.3f})"


def compare_vectors(
    text: Path,
    *,
    objectives: Sequence[Objective],
    dimensions: Sequence[int],
    threads: Sequence[int],
    epochs: int,
    repeats: int,
    similarity: Sequence[Path],
    say: Callable[[str], None],
) -> VectorsBench:
    """Train with each program in turn; round n has seed n. Raises UsageError, VitrailError where a measurement fails."""
    require_numba("word vectors")
    if unknown := [name for name in objectives if name not in MAKERS]:
        raise UsageError(f"objective {unknown[0]!r}", expected=", ".join(MAKERS))
    missing = tuple(name for name in ("gensim", "fasttext") if find_spec(name) is None)
    settings: list[tuple[Maker, Objective, int, int]] = [
        (maker, objective, dimension, count)
        for count in threads
        for dimension in dimensions
        for objective in objectives
        for maker in MAKERS[objective]
        if maker not in missing
    ]
    found: dict[tuple[Maker, Objective, int, int], list[VectorsResult]] = {setting: [] for setting in settings}
    for turn in range(repeats):
        say(f"round {turn + 1} of {repeats}")
        for setting in settings:
            maker, objective, dimension, count = setting
            task = VectorsTask(maker, objective, str(text), dimension, epochs, count, turn + 1, tuple(map(str, similarity)))
            result = measure_in_subprocess(
                "vitrail.bench.vectors.vectors_worker",
                asdict(task),
                name=f"{maker} {objective}",
                remedy="smaller text, or a smaller --dimension",
            )
            found[setting].append(VectorsResult(**result))
    conditions = (
        f"{text.name}; {epochs} epochs, {repeats} rounds; window 5, 5 negatives, words with 5 or more, 200,000 buckets of n-grams; glove: "
        "pairs, window 10"
    )
    return VectorsBench(describe_machine(), conditions, missing, tuple(VectorsRow(*key, tuple(results)) for key, results in found.items()))
