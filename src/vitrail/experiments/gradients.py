"""Vanishing and exploding gradients, measured: `vitrail experiment gradients`.

Small models of each architecture are trained briefly on long sentences, with and without clipping; before, during and after training the
gradient is measured at every time step of the source.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from vitrail.bench.training_speed import read_pairs
from vitrail.data.batches import Batch, collate
from vitrail.data.preparing.prepared import open_prepared
from vitrail.data.vocabularies.subwords import SubwordsConfig, Vocabularies, train_vocabularies
from vitrail.errors import DataError, UsageError
from vitrail.evaluation.gradient_norms import PlaceNorms, longest_batches, measure_gradients
from vitrail.files import Recognise, is_json_with
from vitrail.models.architectures import ModelConfig
from vitrail.models.architectures import preset as named_model
from vitrail.models.base import TranslationModel
from vitrail.models.build import build_model
from vitrail.models.model_folder import load_model
from vitrail.nn.cells import Cell
from vitrail.phrasebook.corpus import phrasebook
from vitrail.reports.charts import Section, Series, html_figure, is_page, line_chart, page, paragraph, series_table, table
from vitrail.reports.report_files import write_report_files
from vitrail.runtime.device import seed_all, set_threads
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.train.optim import ClippedNorm, Optimizer, OptimizerConfig

PRESETS = ("rnn", "gru", "lstm", "lstm-attention", "tiny")
"""`tiny` is the Transformer."""
MILESTONES = (0.0, 0.1, 0.5, 1.0)
"""Shares of the training after which the gradients are measured."""
ROWS = 16
"""Sentences in a batch; twice as many held-out sentences are used to measure."""
_VOCABULARY = 1_000
_TEXT_PAIRS = 4_000
_COLUMNS = (5, 10, 20, 30, 40, 50, 75)


@dataclass(frozen=True)
class Clipping:
    """How a gradient is clipped; 0: not at all."""

    name: str
    norm: float = 0.0
    value: float = 0.0


CLIPPINGS = (Clipping("off"), Clipping("norm 1", norm=1.0), Clipping("value 0.01", value=0.01))


@dataclass(frozen=True)
class GradientConditions:
    """How the models are trained. Raises UsageError for impossible values."""

    length: int = 50
    """Sentences are joined until the source has at least this many subwords."""
    steps: int = 200
    recurrent_scale: float = 3.0
    """Presets with an Elman cell are trained a second time, with initial recurrent weights scaled by this factor; 1: not."""
    width: int = 64
    """Width of all models, instead of that of the presets."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """adamw divides each number of the gradient by its usual size, so clipping has little effect."""
    threads: int = 2

    def __post_init__(self) -> None:
        if min(self.length - 1, self.steps, self.width // 8, self.threads) < 1 or not 0 < self.recurrent_scale < math.inf:
            raise UsageError(
                f"length {self.length}, steps {self.steps}, width {self.width}, recurrent scale {self.recurrent_scale}",
                expected="a length of 2 or more, a step or more, a width of 8 or more, a scale above 0",
            )


@dataclass(frozen=True)
class Milestone:
    """The gradient by time step after so many steps of training; empty where a weight or a loss was no longer finite."""

    step: int
    places: tuple[PlaceNorms, ...]


@dataclass(frozen=True)
class GradientHistory:
    """One training of one model; for an existing run, only one milestone."""

    system: str
    clipping: str
    """Name of the clipping; empty for an existing run."""
    milestones: tuple[Milestone, ...]
    nats_per_token: tuple[float, ...]
    """The loss of each step."""
    before: tuple[float, ...]
    """The L2 norm of the whole gradient at each step, per target token, before clipping."""
    after: tuple[float, ...]
    diverged: int | None
    """The step whose loss or gradient was not finite, where the training ended; None: no such step."""

    def encoder(self, milestone: Milestone) -> tuple[PlaceNorms, ...]:
        """The layers of the encoder, the lowest first."""
        return tuple(place for place in milestone.places if place.side == "source")


@dataclass(frozen=True)
class GradientReport:
    """The measurements of all trainings, and their conditions."""

    machine: Machine
    conditions: str
    courses: tuple[GradientHistory, ...]

    def to_json(self) -> str:
        """The fields by name, as JSON; norms as they are, not relative to the last."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """Tables for people."""
        parts = [f"{self.machine.to_text()}\n{self.conditions}", _text_table(*_by_step(self.courses))]
        if any(course.clipping for course in self.courses):
            parts.append(_text_table(*_by_training(self.courses)))
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        """One self-contained page with a chart of each training."""
        return page("Gradients by time step", [*_charts(self), Section("Conditions", paragraph(self.conditions))])


class LongPairBatches(NamedTuple):
    """Batches of long pairs: some to train on, others to measure on."""

    vocabularies: Vocabularies
    training: list[Batch]
    measured: list[Batch]


def run_gradient_experiment(
    *,
    presets: Sequence[str] = PRESETS,
    source: Path | None = None,
    target: Path | None = None,
    conditions: GradientConditions = GradientConditions(),
    clippings: Sequence[Clipping] = CLIPPINGS,
    say: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Train each model with each way of clipping, and measure the gradient at each time step before, during and after training.

    Args:
        source, target: two parallel text files; None: the built-in phrasebook.
        say: called with a line after each training.
    Raises: UsageError, DataError: impossible settings or unusable text.
    """
    configs = {name: narrow(named_model(name), width=conditions.width) for name in presets}
    corpus = make_long_pairs(_pairs(source, target), length=conditions.length)
    machine, threads = describe_machine(), set_threads(conditions.threads)
    courses: list[GradientHistory] = []
    for system, config, scale in _systems(configs, conditions.recurrent_scale):
        free: GradientHistory | None = None
        for clipping in clippings:
            if free is not None and never_acts(clipping, free):
                courses.append(replace(free, clipping=clipping.name))
            else:
                model = start_model(config, corpus.vocabularies, recurrent_scale=scale)
                courses.append(train_and_measure(model, corpus, system=system, clipping=clipping, conditions=conditions))
            free = courses[-1] if clipping == CLIPPINGS[0] else free
            say(_last_line(courses[-1]))
    text = (
        f"source: at least {conditions.length} subwords, vocabulary {corpus.vocabularies.source.size:,}; width {conditions.width},"
        f" no dropout; {conditions.optimizer}, {conditions.steps} steps of {ROWS} sentences;"
        f" measured on {2 * ROWS} others; {threads} threads"
    )
    return GradientReport(machine, text, tuple(courses))


def never_acts(clipping: Clipping, free: GradientHistory) -> bool:
    """Whether a clipping would not have changed the unclipped training: then the results are the same, to the bit."""
    return clipping.value == 0 and free.diverged is None and max(free.before) <= clipping.norm


def measure_run(folder: Path, *, sentences: int = 64) -> GradientReport:
    """The gradient at each time step of a run's model, on the longest sentences of its dev set.

    Raises ModelError where the folder is not a run, DataError where it has no dev set.
    """
    loaded = load_model(folder)
    dev = open_prepared(folder / "data").dev
    batches = longest_batches(loaded.vocabularies, dev.source, dev.target, sentences=sentences)
    places = measure_gradients(loaded.model, batches)
    course = GradientHistory(str(folder), "", (Milestone(int(loaded.facts.get("step", 0)), places),), (), (), (), None)
    return GradientReport(describe_machine(), f"{places[0].sentences} of the longest sentences of the dev set", (course,))


def gradient_report_files(folder: Path) -> dict[Path, Recognise]:
    """The files of a report, and how each is recognised."""
    return {folder / "gradients.html": is_page, folder / "gradients.json": is_json_with("machine", "conditions", "courses")}


def write_gradient_report(report: GradientReport, folder: Path) -> tuple[Path, Path]:
    """Write `gradients.html` and `gradients.json` into a folder. Raises NotWritten when a file cannot be written."""
    html, numbers = write_report_files(gradient_report_files(folder), (report.to_html(), report.to_json() + "\n"))
    return html, numbers


def narrow(config: ModelConfig, *, width: int) -> ModelConfig:
    """The same architecture at a smaller width, without dropout."""
    return config.with_width(width).model_copy(update={"dropout": 0.0})


def _systems(configs: dict[str, ModelConfig], scale: float) -> Iterator[tuple[str, ModelConfig, float]]:
    """Name, configuration and scale of the recurrent weights."""
    for name, config in configs.items():
        yield name, config, 1.0
        if config.recurrent_cell == "rnn" and scale != 1:
            yield f"{name}, U x {scale:g}", config, scale


def start_model(config: ModelConfig, vocabularies: Vocabularies, *, recurrent_scale: float = 1.0) -> TranslationModel:
    """A new model with a fixed seed and scaled recurrent matrices U."""
    seed_all(1)
    model = build_model(config, vocabularies)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Cell):
                part.hidden_weight.mul_(recurrent_scale)
    return model


def _pairs(source: Path | None, target: Path | None) -> list[tuple[str, str]]:
    if source is None and target is None:
        return [(pair.source, pair.target) for pair in phrasebook(train_pairs=_TEXT_PAIRS).train]
    return read_pairs(source, target)[:_TEXT_PAIRS]


def make_long_pairs(pairs: Sequence[tuple[str, str]], *, length: int) -> LongPairBatches:
    """Join neighbouring pairs until each source has at least `length` subwords. Raises DataError where the text is too short for that."""
    sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    vocabularies = train_vocabularies(sources, targets, config=SubwordsConfig(size=_VOCABULARY))
    rows: list[tuple[list[int], list[int]]] = []
    source: list[int] = []
    target: list[int] = []
    for one, other in zip(vocabularies.source.encode_batch(sources), vocabularies.target.encode_batch(targets), strict=True):
        source, target = source + one, target + other
        if len(source) >= length:
            rows.append((source, target))
            source, target = [], []
    if len(rows) < 3 * ROWS:
        raise DataError(
            f"{len(pairs):,} pairs make {len(rows)} sentences of {length} subwords",
            expected=f"at least {3 * ROWS}",
            remedy="a smaller --length",
        )
    batches = [collate(*map(list, zip(*rows[start : start + ROWS], strict=True))) for start in range(0, len(rows) - ROWS + 1, ROWS)]
    return LongPairBatches(vocabularies, batches[2:], batches[:2])


def train_and_measure(
    model: TranslationModel, corpus: LongPairBatches, *, system: str, clipping: Clipping, conditions: GradientConditions
) -> GradientHistory:
    """Train for some steps at a constant rate and measure at the milestones; stop at a loss or gradient that is not finite."""
    kind, steps = conditions.optimizer, conditions.steps
    rate = {"adamw": 2e-3, "sgd": 0.1}[kind]
    learner = Optimizer(model, OptimizerConfig(kind=kind, learning_rate=rate, clip_norm=clipping.norm, clip_value=clipping.value))
    wanted = {round(share * steps) for share in MILESTONES}
    milestones = [_milestone(model, corpus.measured, step=0)]
    nats: list[float] = []
    norms: list[ClippedNorm] = []
    diverged = None
    model.train()
    for step in range(1, steps + 1):
        learner.clear()
        loss = model.loss(corpus.training[(step - 1) % len(corpus.training)])
        (loss.nats / loss.tokens).backward()
        norm = learner.clip()
        if not (math.isfinite(float(loss.nats.detach())) and math.isfinite(norm.before)):
            diverged = step
            break
        nats.append(float(loss.nats.detach() / loss.tokens))
        norms.append(norm)
        learner.step(1.0)
        if step in wanted:
            milestones.append(_milestone(model, corpus.measured, step=step))
    before, after = tuple(norm.before for norm in norms), tuple(norm.after for norm in norms)
    return GradientHistory(system, clipping.name, tuple(milestones), tuple(nats), before, after, diverged)


def _milestone(model: TranslationModel, batches: Sequence[Batch], *, step: int) -> Milestone:
    places = measure_gradients(model, batches)
    finite = all(math.isfinite(norm) for place in places for norm in place.norms)
    return Milestone(step, places if finite else ())


def _last_line(course: GradientHistory) -> str:
    end = f"diverged at step {course.diverged}" if course.diverged else f"loss {course.nats_per_token[-1]:.4g}"
    return f"{course.system}, clipping {course.clipping}: {end}, largest gradient {max(course.before, default=math.nan):.3g}"


def _by_step(courses: Sequence[GradientHistory]) -> tuple[list[str], list[list[str]]]:
    """A table of the norm at the last position and earlier ones relative to it: all encoder layers at the start, the top one later."""
    reached = [len(place.norms) for course in courses for one in course.milestones for place in course.encoder(one)]
    columns = [column for column in _COLUMNS if column < max(reached, default=0)]
    rows: list[list[str]] = []
    begun: set[str] = set()
    for course in courses:
        for milestone in course.milestones:
            if milestone.step == 0 and course.system in begun:  # all have the same start
                continue
            begun.add(course.system)
            layers = course.encoder(milestone)
            for place in layers if milestone is course.milestones[0] else layers[-1:]:
                norms = place.curve().norms
                earlier = [f"{norms[column]:.2g}" if column < len(norms) else "" for column in columns]
                clipping = course.clipping if milestone.step else ""
                rows.append([course.system, clipping, f"{milestone.step}", place.name, f"{place.norms[0]:.2g}", *earlier])
    return ["|dL/dh|", "clipping", "step", "place", "at the last", *(f"-{column}" for column in columns)], rows


def _by_training(courses: Sequence[GradientHistory]) -> tuple[list[str], list[list[str]]]:
    """The whole gradient's norm of every training."""
    header = [
        "norm of the gradient",
        "clipping",
        "median",
        "largest",
        "largest after clipping",
        "first loss",
        "last loss",
        "diverged at step",
    ]
    rows: list[list[str]] = []
    for course in courses:
        if course.clipping:
            nats, diverged = course.nats_per_token, str(course.diverged or "")
            figures = [statistics.median(course.before), max(course.before), max(course.after), nats[0], nats[-1]] if nats else []
            rows.append([course.system, course.clipping, *([f"{value:.4g}" for value in figures] or [""] * 5), diverged])
    return header, rows


def _text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, the first to the left."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = (
        "  ".join(cell.rjust(widths[place]) if place else cell.ljust(widths[0]) for place, cell in enumerate(row))
        for row in (header, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def _charts(report: GradientReport) -> Iterator[Section]:
    starts = {course.system: (course, course.milestones[0]) for course in report.courses}
    title = "At initialisation" if report.courses[0].clipping else "As trained"
    yield Section(title, _step_chart(list(starts.values()), title=title))
    for clipping in dict.fromkeys(course.clipping for course in report.courses if course.clipping):
        ends = [(course, course.milestones[-1]) for course in report.courses if course.clipping == clipping]
        name = f"After training, clipping: {clipping}"
        yield Section(name, _step_chart(ends, title=name))
    for course, start in starts.values():
        if len(course.encoder(start)) > 1:
            yield Section(f"{course.system}, layer by layer", _layer_chart(course, start))
    for system in dict.fromkeys(course.system for course in report.courses if course.clipping):
        yield Section(
            f"{system}: the whole gradient", _norm_chart([course for course in report.courses if course.system == system], system)
        )
    yield Section("Numbers", table(*_by_step(report.courses)) + table(*_by_training(report.courses)))


def _series(name: str, place: PlaceNorms) -> Series:
    norms = place.curve().norms
    return Series(name, x=tuple(-float(back) for back in range(len(norms))), y=norms)


def _step_chart(courses: Sequence[tuple[GradientHistory, Milestone]], *, title: str) -> str:
    series = [_series(course.system, course.encoder(one)[-1]) for course, one in courses if one.places]
    return _figure(
        series,
        title=title,
        caption="Norm of the gradient of a sentence's loss by the encoder's state (top layer, forward direction) at each source position, "
        "relative to the last. Falling to the left: the gradient vanishes; rising: it explodes.",
    )


def _layer_chart(course: GradientHistory, start: Milestone) -> str:
    series = [_series(place.name, place) for place in course.encoder(start)]
    return _figure(series, title=f"{course.system}: by layer", caption="The same for each layer of the encoder.")


def _figure(series: Sequence[Series], *, title: str, caption: str) -> str:
    x_label = "source position, counted from the last"
    chart = line_chart(series, title=title, x_label=x_label, y_label="|dL/dh|, relative", log_y=True)
    return html_figure(chart, caption=caption, numbers=series_table(series, x_label=x_label))


def _norm_chart(courses: Sequence[GradientHistory], system: str) -> str:
    series = [
        Series(f"clipping {course.clipping}", x=tuple(float(step + 1) for step in range(len(course.before))), y=course.before)
        for course in courses
    ]
    chart = line_chart(series, title=system, x_label="step", y_label="norm before clipping", log_y=True)
    return html_figure(chart, caption="L2 norm of the whole gradient per target token, before clipping, under each way of clipping.")
