"""Training throughput against models of the same kind from other toolkits: `vitrail bench train`.

Each measurement is a separate process; systems take turns, round by round, so that a slow minute of the machine affects all of them.
"""

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.bench.peers.all_peers import all_systems, peers_of
from vitrail.bench.peers.systems import LABEL_SMOOTHING, Maker, System
from vitrail.bench.training_worker import SpeedResult, SpeedTask, save_batches
from vitrail.config import Config, Override, build, with_overrides
from vitrail.data.batches import Batch, Batches
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import SubwordsConfig, train_vocabularies
from vitrail.errors import DataError, UsageError
from vitrail.models.architectures import AnyModelConfig, ModelConfig, require_translator
from vitrail.models.architectures import preset as named_model
from vitrail.phrasebook.corpus import phrasebook
from vitrail.runtime.device import Precision
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.runtime.measure_in_subprocess import measure_in_subprocess

WARMUP_STEPS = 4
_LONGEST_PAIR = 256


@dataclass(frozen=True)
class SpeedRow:
    """The measurements of one system; tokens are real target tokens: <eos> counted, padding not."""

    system: System
    title: str
    """Display name."""
    precision: str
    """The one used: bf16 or fp32."""
    parameters: int
    tokens_per_second: tuple[float, ...]
    """One figure a round."""
    first_loss: float
    last_loss: float

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.tokens_per_second)


class Ratio(NamedTuple):
    """Our throughput over that of a peer's best setting, by the median of its rounds."""

    peer: Maker
    title: str
    best: System
    of_medians: float
    least: float
    """Smallest of the rounds."""
    most: float


@dataclass(frozen=True)
class BenchReport:
    """Throughputs, and their conditions."""

    machine: Machine
    conditions: str
    rows: tuple[SpeedRow, ...]
    missing: dict[str, str]
    """Systems that could not be measured, and why."""

    def ratios(self) -> tuple[Ratio, ...]:
        """Vitrail as it trains (the first row) against each peer that was measured."""
        ours, found = self.rows[0], list[Ratio]()
        makers: dict[Maker, None] = dict.fromkeys(row.system.maker for row in self.rows)
        for maker in makers:
            if maker == "vitrail":
                continue
            best = max((row for row in self.rows if row.system.maker == maker), key=lambda row: row.median)
            rounds = [a / b for a, b in zip(ours.tokens_per_second, best.tokens_per_second, strict=True)]
            found.append(Ratio(maker, best.title, best.system, ours.median / best.median, min(rounds), max(rounds)))
        return tuple(found)

    def to_json(self) -> str:
        """The fields by name, medians and ratios too, as JSON."""
        record = asdict(self)
        record["rows"] = [{**asdict(row), "median": row.median} for row in self.rows]
        record["ratios"] = [{**ratio._asdict(), "best": asdict(ratio.best)} for ratio in self.ratios()]
        return json.dumps(record, indent=2)

    def to_text(self) -> str:
        """A table for people, with every setting of every peer."""
        lines = [self.machine.to_text(), self.conditions, ""]
        lines.append(f"{'real target tokens a second':<28}  type   median     min     max  settings")
        for row in self.rows:
            figures = "  ".join(f"{value:6,.0f}" for value in (row.median, min(row.tokens_per_second), max(row.tokens_per_second)))
            lines.append(f"{row.title:<28}  {row.precision}   {figures}  {row.system.to_text()}")
        lines += [f"{name:<28}  {why}" for name, why in self.missing.items()]
        lines.append("")
        for ratio in self.ratios():
            lines.append(
                f"vitrail / {ratio.title} at its best: x{ratio.of_medians:.2f} (rounds x{ratio.least:.2f} to x{ratio.most:.2f};"
                f" its best: {ratio.best.precision}, {ratio.best.to_text()})"
            )
        return "\n".join(lines) + "\n"


class BenchCorpus(NamedTuple):
    """Batches to train on, and the size of the vocabulary that their ids come from."""

    batches: list[Batch]
    vocabulary: int


def measure_training_speed(
    *,
    source: Path | None = None,
    target: Path | None = None,
    preset: str = "tiny",
    batch_tokens: int = 4096,
    threads: int = 2,
    steps: int = 20,
    repeats: int = 3,
    precision: Precision = "auto",
    vocabulary: int = 10_000,
    overrides: Sequence[Override] = (),
    say: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Measure training throughput of Vitrail and of models of the same kind from other toolkits: same sizes, same batches, same settings.

    Args:
        source, target: two parallel text files; None: the built-in phrasebook.
        preset, overrides: the model, and changes to it (`model.width`, ...).
        steps: counted in each measurement, after `WARMUP_STEPS` that are not.
        repeats: rounds; in each, every system is measured once.
        precision: of Vitrail; its fp32 and the peers' fp32 and bf16 are also measured.
        say: called with a line after each measurement.
    Raises: UsageError, DataError: impossible settings or unusable text. VitrailError: a measurement failed.
    Cost:   18 systems (Transformers; 10 to 14 recurrent) times `repeats` processes: a quarter of an hour with the defaults on 2 cores.
    """
    model = sized_model(preset, overrides)
    if min(batch_tokens, threads, steps, repeats) < 1:
        raise UsageError(f"batch_tokens {batch_tokens}, threads {threads}, steps {steps}, repeats {repeats}", expected="at least 1 of each")
    pairs = read_pairs(source, target)
    corpus = make_bench_corpus(pairs, vocabulary=vocabulary, batch_tokens=batch_tokens, count=WARMUP_STEPS + steps)
    return compare_systems(corpus, model=model, systems=all_systems(model, precision), threads=threads, repeats=repeats, say=say)


class _Wanted(Config):
    """The settings that `--set` may change here."""

    model: AnyModelConfig


def sized_model(preset: str, overrides: Sequence[Override]) -> ModelConfig:
    """A model of a named size with some settings changed. Raises UsageError."""
    table = {"model": named_model(preset).model_dump(mode="json")}
    return require_translator(build(_Wanted, with_overrides(table, overrides), origin="--set").model)


def read_pairs(source: Path | None, target: Path | None) -> list[tuple[str, str]]:
    """All pairs of two files, or of the phrasebook's training set."""
    if source is None and target is None:
        return [(pair.source, pair.target) for pair in phrasebook().train]
    if source is None or target is None:
        raise UsageError(f"only {source or target}", expected="source and target files, or neither for the built-in phrasebook")
    text = ParallelText(source=source, target=target, format="plain")
    readable = [(pair.source, pair.target) for pair in text.pairs() if (pair.source + pair.target).isprintable()]
    if not readable:
        raise DataError(f"{source}, {target}: no pair of printable text")
    return readable


class EncodedPairs:
    """Pairs as ids, in memory, with the interface that `Batches` needs."""

    def __init__(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> None:
        self._sides = tuple([np.array(row, dtype=np.int32) for row in rows] for rows in (sources, targets))
        self.source_lengths, self.target_lengths = (np.array(list(map(len, side)), dtype=np.int32) for side in self._sides)

    def __len__(self) -> int:
        return len(self._sides[0])

    def source(self, index: int, /) -> npt.NDArray[np.int32]:
        return self._sides[0][index]

    def target(self, index: int, /) -> npt.NDArray[np.int32]:
        return self._sides[1][index]


def make_bench_corpus(pairs: Sequence[tuple[str, str]], *, vocabulary: int, batch_tokens: int, count: int) -> BenchCorpus:
    """Learn a joint vocabulary of that size (or smaller, if the text is small) and make the first `count` batches of a training."""
    sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    subwords = train_vocabularies(sources, targets, config=SubwordsConfig(size=vocabulary)).target
    encoded = EncodedPairs(subwords.encode_batch(sources), subwords.encode_batch(targets))
    batches = Batches([encoded], budget=batch_tokens, seed=1, max_length=_LONGEST_PAIR)
    return BenchCorpus(list(islice(batches.sequence(0), count)), subwords.size)


def compare_systems(
    corpus: BenchCorpus,
    *,
    model: ModelConfig,
    systems: Sequence[System],
    threads: int,
    repeats: int,
    warmup: int = WARMUP_STEPS,
    say: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Measure systems in turn on the same batches, `repeats` times; the first system is compared with the others.

    Raises VitrailError when a measurement fails. A peer that is not installed is reported as missing.
    """
    machine, peers = describe_machine(), peers_of(model)
    titles: dict[Maker, str] = {"vitrail": "vitrail", **{peer.maker: peer.title for peer in peers}}
    missing: dict[Maker, str] = {peer.maker: why for peer in peers if (why := peer.obstacle())}
    measurable = [system for system in systems if system.maker not in missing]
    found: dict[System, list[SpeedResult]] = {system: [] for system in measurable}
    with tempfile.TemporaryDirectory(prefix="vitrail-bench-") as folder:
        file = Path(folder, "batches.safetensors")
        save_batches(file, corpus.batches)
        shape = model.model_dump(mode="json")
        for turn in range(repeats):
            for system in measurable:
                task = SpeedTask(
                    **asdict(system), model=shape, vocabulary=corpus.vocabulary, batches=str(file), warmup=warmup, threads=threads
                )
                title = titles[system.maker]
                result = measure_system(task, title=title)
                found[system].append(result)
                speed = result.tokens / result.seconds
                say(f"round {turn + 1} of {repeats}: {title}, {result.precision}, {system.to_text()}: {speed:,.0f} tokens/s")
    assert len({result.tokens for results in found.values() for result in results}) == 1, "all systems see the same tokens"
    rows = tuple(_row(system, titles[system.maker], results) for system, results in found.items())
    conditions = _conditions(corpus, model, threads=threads, warmup=warmup)
    return BenchReport(machine, conditions, rows, {titles[maker]: why for maker, why in missing.items()})


def measure_system(task: SpeedTask, *, title: str) -> SpeedResult:
    """Run a task in a new process. Raises VitrailError with the last line of its output when it fails."""
    return SpeedResult(
        **measure_in_subprocess("vitrail.bench.training_worker", asdict(task), name=title, remedy="a smaller batch or preset")
    )


def _row(system: System, title: str, results: Sequence[SpeedResult]) -> SpeedRow:
    speeds = tuple(result.tokens / result.seconds for result in results)
    last = results[-1]
    return SpeedRow(system, title, last.precision, last.parameters, speeds, last.first_loss, last.last_loss)


def _conditions(corpus: BenchCorpus, model: ModelConfig, *, threads: int, warmup: int) -> str:
    positions = max(batch.target_out.numel() for batch in corpus.batches)
    return (
        f"{model.describe()}, vocabulary {corpus.vocabulary:,}, tie {model.tie}; {threads} threads;\n"
        f"{len(corpus.batches) - warmup} steps a round after {warmup} uncounted, batches of up to {positions:,} target positions;"
        f" fused AdamW, clipping at 1.0, dropout {model.dropout},"
        f" label smoothing {LABEL_SMOOTHING}"
    )
