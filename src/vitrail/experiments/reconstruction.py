"""Reconstruction against the width of the bottleneck: `vitrail experiment reconstruction`.

Autoencoders, recurrent and Transformer, are trained on the same text, one for each width and seed, and give back the same test lines. Every
training is a run of its own in the folder of the study: what is stopped goes on, what is finished is not trained again.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch

from vitrail.config import Override
from vitrail.data.preparing.prepared import PreparedText, open_data
from vitrail.decode.sentences.autoencoder import Autoencoder
from vitrail.errors import UsageError
from vitrail.evaluation.kinds.reconstruction_score import ReconstructionScore, score_reconstruction
from vitrail.files import Recognise, is_json_with, make_folder, share_folder
from vitrail.reports.charts import Section, Series, bullets, html_figure, is_page, line_chart, page, paragraph, series_table, table
from vitrail.reports.report_files import write_report_files
from vitrail.train.log.display import TrainingDisplay
from vitrail.train.request import Request, keep_choices, plan_run, to_run_config
from vitrail.train.run import train

WIDTHS = (8, 16, 32, 64, 128, 256, 512)
KINDS = {"autoencoder-mini": "Transformer", "autoencoder-lstm": "LSTM"}
"""The presets that are compared, and what they are called."""


@dataclass(frozen=True)
class ReconstructionPlan:
    """What is trained."""

    text: Path
    test: Path | None = None
    """Lines to give back; held out from the text where there is none."""
    widths: tuple[int, ...] = WIDTHS
    presets: tuple[str, ...] = tuple(KINDS)
    seeds: int = 2
    settings: tuple[Override, ...] = ()
    """Of every training, such as its duration."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.presets if name not in KINDS]:
            raise UsageError(f"preset {unknown[0]!r}", expected=" ".join(KINDS))
        if not self.widths or min(self.widths) < 1 or self.seeds < 1 or not self.presets:
            raise UsageError("nothing to train", expected="widths from 1, and at least one seed and one preset")


@dataclass(frozen=True)
class Reconstructed:
    """One trained autoencoder and its score."""

    preset: str
    width: int
    seed: int
    steps: int
    parameters: int
    score: ReconstructionScore


@dataclass(frozen=True)
class ReconstructionReport:
    """All of them."""

    text: str
    lines: int
    """Lines that were given back."""
    settings: tuple[str, ...]
    points: tuple[Reconstructed, ...]

    def facts(self) -> tuple[str, ...]:
        """How it was measured, one fact a line."""
        seeds = len({point.seed for point in self.points})
        noun = "trainings" if seeds > 1 else "training"
        return (
            f"text: {self.text}; {self.lines:,} test lines, given back greedily from their vectors",
            f"{seeds} {noun} for each width, with the same other settings; {', '.join(self.settings) or 'settings as chosen'}",
            "intervals: from the lowest to the highest end of the trainings' 95 % intervals over test lines (Wilson; bootstrap for chrF)",
        )

    def series(self) -> list[Series]:
        """Exact lines in per cent, and chrF, of each kind."""
        found: list[Series] = []
        for preset in dict.fromkeys(point.preset for point in self.points):
            widths = sorted({point.width for point in self.points if point.preset == preset})
            groups = [[one.score for one in self.points if (one.preset, one.width) == (preset, width)] for width in widths]
            exact = [[100 * (one.given_back.share or 0) for one in group] for group in groups]
            low = [min(100 * (one.given_back.low or 0) for one in group) for group in groups]
            high = [max(100 * (one.given_back.high or 0) for one in group) for group in groups]
            found.append(Series(f"{KINDS[preset]}, exact", widths, list(map(mean, exact)), low, high))
            chrf = [mean(one.chrf_score.value for one in group) for group in groups]
            ends = [[(one.chrf_score.low, one.chrf_score.high) for one in group] for group in groups]
            lowest = [min(low or 0.0 for low, _ in group) for group in ends]
            highest = [max(high or 0.0 for _, high in group) for group in ends]
            found.append(Series(f"{KINDS[preset]}, chrF", widths, chrf, lowest, highest))
        return found

    def to_text(self) -> str:
        """A table for people: a row a width."""
        series = self.series()
        widths = sorted({point.width for point in self.points})
        lines = [*self.facts(), "", f"{'width':>6}" + "".join(f"{one.name:>30}" for one in series)]
        for width in widths:
            cells: list[str] = []
            for one in series:
                place = list(one.x).index(width) if width in one.x else None
                cells.append("" if place is None else f"{one.y[place]:.1f} ({one.low[place]:.1f} to {one.high[place]:.1f})")
            lines.append(f"{width:>6}" + "".join(f"{cell:>30}" for cell in cells))
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def to_html(self) -> str:
        """A page with one plot and its numbers."""
        series = self.series()
        chart = line_chart(
            series, title="Reconstruction", x_label="numbers in the bottleneck", y_label="exact lines in %, and chrF", log_x=True
        )
        caption = (
            "Lines given back exactly, and chrF, by the width of the bottleneck; the scale of widths is logarithmic. Higher is better."
        )
        rows = [
            [
                KINDS[one.preset],
                f"{one.width}",
                f"{one.seed}",
                f"{one.parameters:,}",
                f"{100 * (one.score.given_back.share or 0):.1f}",
                f"{one.score.chrf_score.value:.1f}",
                f"{one.score.loss_nats_per_token:.3f}",
            ]
            for one in self.points
        ]
        each = table(["kind", "width", "seed", "parameters", "exact, %", "chrF", "loss, nats a token"], rows, caption="Every training")
        return page(
            "Reconstruction against the width of the bottleneck",
            [
                Section("How it was measured", bullets(self.facts())),
                Section("All widths", html_figure(chart, caption=caption, numbers=series_table(series, x_label="width"))),
                Section("Every training", paragraph("One run each, in the folder of this study.") + each),
            ],
        )

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write reconstruction.html and reconstruction.json into a folder, and return their paths."""
        return write_report_files(reconstruction_report_files(folder), (self.to_html(), self.to_json()))


def reconstruction_report_files(folder: Path) -> dict[Path, Recognise]:
    """The files of a report, and how each is known to be one."""
    return {folder / "reconstruction.html": is_page, folder / "reconstruction.json": is_json_with("text", "lines", "points")}


def run_reconstruction_experiment(
    plan: ReconstructionPlan, folder: Path, *, say: Callable[[str], None] = lambda _: None
) -> ReconstructionReport:
    """Train what is not trained yet, in `folder`/runs, and score all on the same test lines.

    Raises: UsageError for settings that cannot be, or where a folder holds something else; Stopped, Interrupted: after saving.
    """
    points: list[Reconstructed] = []
    lines: list[str] = []
    first: Path | None = None
    # Seeds outside, so that a study that is stopped early has every width.
    for seed in range(1, plan.seeds + 1):
        for width in plan.widths:
            for preset in plan.presets:
                run = folder / "runs" / f"{preset}-{width}-{seed}"
                if first is not None and first != run and not (run / "data").exists():
                    make_folder(run)
                    share_folder(first / "data", run / "data")
                steps = _train(plan, run, preset=preset, width=width, seed=seed)
                first = first or run
                prepared = open_data(run / "data")
                assert isinstance(prepared, PreparedText)
                lines = prepared.test
                autoencoder = Autoencoder.load(run)
                parameters = sum(one.numel() for one in autoencoder.model.parameters())
                point = Reconstructed(preset, width, seed, steps, parameters, score_reconstruction(autoencoder, lines))
                points.append(point)
                exact, chrf = point.score.given_back.share or 0.0, point.score.chrf_score.value
                say(f"{KINDS[preset]}, {width} numbers, seed {seed}: {exact:.1%} exact, chrF {chrf:.1f}")
    order = list(KINDS)
    settings = tuple(f"{'.'.join(one.path)} = {one.value}" for one in plan.settings)
    points.sort(key=lambda one: (order.index(one.preset), one.width, one.seed))
    return ReconstructionReport(plan.text.name, len(lines), settings, tuple(points))


def _train(plan: ReconstructionPlan, run: Path, *, preset: str, width: int, seed: int) -> int:
    """Train one, or go on with it; returns its steps."""
    overrides = (
        Override(("data", "text"), [{"source": str(plan.text)}]),
        *([Override(("data", "test"), {"source": str(plan.test)})] if plan.test else []),
        Override(("preset",), preset),
        Override(("seed",), seed),
        *plan.settings,
        Override(("model", "bottleneck"), width),
    )
    planned = plan_run(Request(overrides=overrides), run, gpu=torch.cuda.is_available())
    with TrainingDisplay(run) as display:

        def begin() -> None:
            display.keep()
            keep_choices(run, planned.choices)

        return train(to_run_config(planned.table), run, observers=[display.observe], say=display.say, begin=begin).progress.step
