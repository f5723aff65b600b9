"""The cost of sequences by length, for each architecture: `vitrail experiment length`.

Time of a training step, time of a decoding step and peak memory, at equal tokens a batch and about equal parameters.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vitrail.bench.training_worker import fresh_model
from vitrail.errors import UsageError
from vitrail.experiments.length_worker import DECODE_WARMUP, TRAIN_WARMUP, LengthResult, LengthTask
from vitrail.files import Recognise, is_json_with
from vitrail.models.architectures import ModelConfig, preset
from vitrail.reports.charts import Section, Series, bullets, html_figure, is_page, line_chart, page, paragraph, series_table
from vitrail.reports.report_files import write_report_files
from vitrail.runtime.device import Precision
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.runtime.measure_in_subprocess import measure_in_subprocess

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
ARCHITECTURES: dict[str, str] = {
    "rnn": "RNN",
    "gru": "GRU",
    "lstm": "LSTM",
    "lstm-attention": "LSTM + Luong",
    "gru-attention": "GRU + Bahdanau",
    "tiny": "Transformer",
}
"""The measured presets, and the names of their lines."""
_REFERENCE = "tiny"


@dataclass(frozen=True)
class LengthConditions:
    """The conditions of every point."""

    batch_tokens: int = 2048
    """Target positions in a training batch, and as many source positions: batches of longer sentences have fewer of them."""
    decoded: int = 16
    """Sentences in a batch of decoding, at every length."""
    vocabulary: int = 2000
    """Small, so that the output layer, which is the same for all, does not dominate."""
    repeats: int = 3
    threads: int = 2
    precision: Precision = "auto"


_USUAL = LengthConditions()


@dataclass(frozen=True)
class LengthPoint:
    """One architecture at one length."""

    architecture: str
    length: int
    sentences: int
    """In a training batch."""
    measured: LengthResult

    @property
    def train_milliseconds(self) -> float:
        """Time of a training step per thousand target tokens."""
        return 1e6 * self.measured.train_seconds / (self.sentences * self.length)

    @property
    def decode_milliseconds(self) -> float:
        """Time of one decoding step, with its share of the encoder's time."""
        return 1e3 * self.measured.decode_seconds / self.length

    @property
    def train_megabytes(self) -> float:
        """Peak memory of training."""
        return self.measured.train_bytes / 1e6

    @property
    def decode_megabytes(self) -> float:
        """Peak memory of decoding."""
        return self.measured.decode_bytes / 1e6


_FIGURES: tuple[tuple[str, str, Callable[[LengthPoint], float]], ...] = (
    ("Training", "milliseconds per 1,000 target tokens", lambda point: point.train_milliseconds),
    ("Decoding", "milliseconds per step", lambda point: point.decode_milliseconds),
    ("Memory of training", "megabytes at most", lambda point: point.train_megabytes),
    ("Memory of decoding", "megabytes at most", lambda point: point.decode_megabytes),
)


@dataclass(frozen=True)
class LengthReport:
    """The measurements of every architecture at every length, and their conditions."""

    machine: Machine
    conditions: LengthConditions
    lengths: tuple[int, ...]
    points: tuple[LengthPoint, ...]

    def facts(self) -> tuple[str, ...]:
        """How it was measured, one fact a line."""
        asked = self.conditions
        sizes = {point.architecture: point.measured.parameters for point in self.points}
        parameters = ", ".join(f"{ARCHITECTURES[name]} {count:,}" for name, count in sizes.items())
        return (
            f"parameters: {parameters}",
            f"training: batches of {asked.batch_tokens:,} target positions and as many source positions, all sentences of a batch equally"
            f" long; whole updates as `vitrail train` makes them, the median of {asked.repeats} after {TRAIN_WARMUP} uncounted",
            f"decoding: {asked.decoded} sentences in a batch, as many greedy steps as the source has positions, float32;"
            f" the median of {asked.repeats} after {DECODE_WARMUP} uncounted",
            "memory: the peak of the process, minus its peak after one translation and one update of two positions:"
            " libraries, weights, gradients and moments are not counted",
            f"random words out of {asked.vocabulary:,}; {asked.threads} threads; training in {asked.precision};"
            " each architecture and length runs in a separate process",
        )

    def series(self, value: Callable[[LengthPoint], float]) -> list[Series]:
        """One line an architecture."""
        names = dict.fromkeys(point.architecture for point in self.points)
        own = {name: [point for point in self.points if point.architecture == name] for name in names}
        return [
            Series(ARCHITECTURES[name], [point.length for point in points], [value(point) for point in points])
            for name, points in own.items()
        ]

    def to_json(self) -> str:
        """The fields by name, and the values shown, as JSON."""
        shown = ("train_milliseconds", "decode_milliseconds", "train_megabytes", "decode_megabytes")
        record = asdict(self)
        record["points"] = [{**asdict(point), **{name: getattr(point, name) for name in shown}} for point in self.points]
        return json.dumps(record, indent=2)

    def to_text(self) -> str:
        """Four tables for people: a row an architecture, a column a length."""
        lines = [self.machine.to_text(), *self.facts()]
        for title, unit, value in _FIGURES:
            lines += ["", f"{title + ', ' + unit:<46}" + "".join(f"{length:>11}" for length in self.lengths)]
            lines += [f"{one.name:<46}" + "".join(f"{y or 0:>11,.2f}" for y in one.y) for one in self.series(value)]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """A page of four charts with their numbers."""
        sections = [Section("How it was measured", paragraph(self.machine.to_text()) + bullets(self.facts()))]
        for title, unit, value in _FIGURES:
            series = self.series(value)
            chart = line_chart(series, title=title, x_label="length, positions", y_label=unit, log_x=True, log_y=True)
            caption = f"{title}: {unit}, by the length of source and target; both scales are logarithmic. Lower is better."
            sections.append(Section(title, html_figure(chart, caption=caption, numbers=series_table(series, x_label="length"))))
        return page("The cost of length", sections)

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write length.html and length.json into a folder, and return their paths."""
        return write_report_files(length_report_files(folder), (self.to_html(), self.to_json()))


def length_report_files(folder: Path) -> dict[Path, Recognise]:
    """The files of a report, and how each is known to be one."""
    return {folder / "length.html": is_page, folder / "length.json": is_json_with("machine", "conditions", "points")}


def parse_lengths(text: str) -> tuple[int, ...]:
    """Parse lengths from the command line: "8,16,32". Raises UsageError where they are not numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"lengths {text!r}", expected="whole numbers with commas between them", remedy="--lengths 8,16,32") from None


def run_length_experiment(
    *,
    architectures: Sequence[str] = tuple(ARCHITECTURES),
    lengths: Sequence[int] = LENGTHS,
    conditions: LengthConditions = _USUAL,
    say: Callable[[str], None] = lambda _: None,
) -> LengthReport:
    """Measure training, decoding and memory of each architecture at each length.

    Args:
        architectures: names of presets; each gets about as many parameters as `tiny`.
        say: called with a line after each measurement.
    Raises: UsageError: impossible settings. VitrailError: a measurement failed.
    Cost:   42 processes by default: some minutes on 2 cores.
    """
    if unknown := [name for name in architectures if name not in ARCHITECTURES]:
        raise UsageError(f"architecture {unknown[0]!r}", expected=" ".join(ARCHITECTURES))
    if not architectures or not lengths or min(lengths) < 2 or min(conditions.repeats, conditions.threads, conditions.decoded) < 1:
        raise UsageError("nothing to measure", expected="architectures, lengths from 2, and at least 1 repeat, thread and sentence")
    if max(lengths) > conditions.batch_tokens:
        raise UsageError(f"length {max(lengths)} in batches of {conditions.batch_tokens} tokens", remedy="a larger --batch-tokens")
    machine, lengths = describe_machine(), tuple(sorted(set(lengths)))
    models = matched_models(architectures, vocabulary=conditions.vocabulary)
    # Lengths in the outer loop, so that a slow minute of the machine affects all architectures alike.
    found = [_measure(name, models[name], length, conditions, say) for length in lengths for name in models]
    return LengthReport(machine, conditions, lengths, tuple(sorted(found, key=lambda point: list(models).index(point.architecture))))


def _measure(name: str, model: ModelConfig, length: int, conditions: LengthConditions, say: Callable[[str], None]) -> LengthPoint:
    sentences = conditions.batch_tokens // length
    task = LengthTask(
        model=model.model_dump(mode="json"),
        vocabulary=conditions.vocabulary,
        length=length,
        sentences=sentences,
        decoded=conditions.decoded,
        repeats=conditions.repeats,
        threads=conditions.threads,
        precision=conditions.precision,
    )
    title = f"{ARCHITECTURES[name]} at {length} positions"
    result = measure_in_subprocess(
        "vitrail.experiments.length_worker", asdict(task), name=title, remedy="shorter --lengths or fewer --batch-tokens"
    )
    point = LengthPoint(name, length, sentences, LengthResult(**result))
    say(
        f"{title}: training {point.train_milliseconds:,.0f} ms per 1,000 tokens, {point.train_megabytes:,.0f} MB;"
        f" decoding {point.decode_milliseconds:.2f} ms a step, {point.decode_megabytes:,.0f} MB"
    )
    return point


def matched_models(names: Sequence[str], *, vocabulary: int) -> Mapping[str, ModelConfig]:
    """The presets of these names; the width of the recurrent ones is chosen so that they are as large as the Transformer `tiny`, with the
    same embedding width."""
    wanted = count_trained(preset(_REFERENCE), vocabulary)
    return {name: _sized(preset(name), wanted=wanted, vocabulary=vocabulary) for name in dict.fromkeys(names)}


def _sized(config: ModelConfig, *, wanted: int, vocabulary: int) -> ModelConfig:
    if config.is_reference:
        return config

    def as_wide(width: int) -> ModelConfig:
        return config.model_copy(update={"width": width})

    widths = range(16, 2048, 16)
    # Sizes grow with widths, so the first width that is large enough is found by halving.
    enough = bisect_left(widths, wanted, key=lambda width: count_trained(as_wide(width), vocabulary))
    near = [as_wide(width) for width in widths[max(0, enough - 1) : enough + 1]]
    return min(near, key=lambda one: abs(count_trained(one, vocabulary) - wanted))


def count_trained(config: ModelConfig, vocabulary: int) -> int:
    """Parameters of a model, counted without allocating it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in fresh_model(config, vocabulary).parameters())
