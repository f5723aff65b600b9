"""Figures of an inspection fit for a paper: PNG, SVG or PDF by the name of the file. Needs matplotlib (`pip install 'vitrail[plot]'`)."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail.errors import UsageError
from vitrail.files import write_file
from vitrail.inspection.record import Inspection, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.3, 6.9
"""Inches: the width of one column of a two-column paper, and of its page."""
_STYLE: Any = {
    "font.size": 8,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
    "svg.fonttype": "none",
    "svg.hashsalt": "vitrail",
}
_DASHES = ("-", "--", ":", "-.")


def draw_attention(
    inspection: Inspection, path: Path, *, kind: Kind = "cross", layer: int | None = None, head: int | None = None, width: float = COLUMN
) -> None:
    """One attention as a matrix: a row for each query, dark where it reads.

    Args:   layer: None: the last. head: None: the mean of the heads. width: inches.
    Raises: UsageError for an attention that is not there, another kind of file, or without matplotlib; NotWritten.
    """
    places = inspection.attentions(kind)
    layer = max(places, default=0) if layer is None else layer
    weights = inspection.weights(kind, layer=layer)
    shown = weights.mean(axis=0) if head is None else inspection.weights(kind, layer=layer, head=head)
    rows = {"encoder": inspection.source_tokens, "decoder": inspection.target_tokens, "cross": inspection.predicted_tokens}[kind]
    columns = inspection.target_tokens if kind == "decoder" else inspection.source_tokens
    height = max(1.2, width * (len(rows) + 4) / (len(columns) + 4))
    with _Canvas(path, width, height) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(np.asarray(shown), cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(columns)), _labels(columns), rotation=60, ha="left", va="bottom", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), _labels(rows))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03)
        bar.set_label("attention weight")
        bar.outline.set_linewidth(0.5)  # pyright: ignore[reportCallIssue]


def draw_gradients(inspection: Inspection, path: Path, *, width: float = COLUMN) -> None:
    """How strongly the translation's log-probability pulls at each source position, a line for each encoder layer, on a log axis.

    Raises: UsageError for another kind of file, or without matplotlib; NotWritten.
    """
    found = {name: inspection.arrays[name] for name in inspection.arrays if name.startswith("gradients.encoder.")}
    with _Canvas(path, width, 0.75 * width) as figure:
        axes = figure.add_subplot()
        for number, (name, norms) in enumerate(found.items()):
            label = f"layer {name.split('.')[2]}"
            axes.plot(np.asarray(norms), _DASHES[number % len(_DASHES)], color=_colour(number), label=label, marker="o", markersize=2, lw=1)
        axes.set_yscale("log")
        axes.set_xticks(range(len(inspection.source_tokens)), _labels(inspection.source_tokens), rotation=60, ha="right")
        axes.set_ylabel(r"$\|\partial(-\log p)\,/\,\partial h_t\|$")
        axes.legend(frameon=False)


def draw_entropy(inspection: Inspection, path: Path, *, width: float = COLUMN) -> None:
    """How unsure the model was at each position of the translation: entropy in nats, and the probability of what was said.

    Raises: UsageError for another kind of file, or without matplotlib; NotWritten.
    """
    steps = inspection.facts.decoding.steps
    with _Canvas(path, width, 0.75 * width) as figure:
        axes = figure.add_subplot()
        axes.bar(range(len(steps)), [step.entropy for step in steps], color=_colour(0), width=0.7)
        axes.set_xticks(range(len(steps)), _labels(inspection.predicted_tokens), rotation=60, ha="right")
        axes.set_ylabel("entropy (nats)")
        other = axes.twinx()
        other.plot([step.chosen.probability for step in steps], "--", color=_colour(1), marker="s", markersize=2, lw=1)
        other.set_ylim(0, 1.02)
        other.set_ylabel("probability of the token (dashed)")


class _Canvas:
    """A figure of a size, written to its file when all of it is drawn. Nothing of matplotlib's own state is changed."""

    def __init__(self, path: Path, width: float, height: float) -> None:
        if path.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise UsageError(f"{path}: no kind of figure", expected="a name that ends in .png, .svg or .pdf")
        try:
            from matplotlib import rc_context
            from matplotlib.figure import Figure
        except ImportError:
            raise UsageError("figures need matplotlib, which is not installed", remedy="pip install 'vitrail[plot]'") from None
        self._path, self._style = path, rc_context(_STYLE)
        self._style.__enter__()
        self._figure = Figure(figsize=(width, height), layout="constrained")

    def __enter__(self) -> "Figure":
        return self._figure

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._style.__exit__(None, None, None)

    def _write(self) -> None:
        """The same record gives the same bytes: no date stands in them."""
        form = self._path.suffix.lower()[1:]
        dates: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}, "png": {}}
        buffer = io.BytesIO()
        self._figure.savefig(buffer, format=form, dpi=300, metadata=dates[form])
        write_file(self._path, buffer.getvalue())


def _colour(number: int) -> str:
    """Okabe and Ito 2008: told apart by colour-blind people."""
    return ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")[number % 6]


def _labels(tokens: Sequence[str]) -> list[str]:
    """Tokens as they are read: spaces are left out, and nothing in them is taken for mathematics."""
    return [token.removeprefix("▁").replace("$", r"\$") or "▁" for token in tokens]
