"""Figures of an inspection for papers: PNG, SVG or PDF, as wide as a column or a page, the same bytes for the same record.

Drawn by matplotlib, which the extra `plot` brings; it is imported when a figure is drawn, and its settings are left as they were.
"""

import atexit
import io
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vitrail.errors import UsageError
from vitrail.files import holds, write_file
from vitrail.inspection.alignment.links import pool_by_word
from vitrail.inspection.contents import Side
from vitrail.inspection.record import Inspection
from vitrail.models.places import AttentionType, Place, gradient_places, layer_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

What = Literal["attention", "heads", "entropy", "alignment", "gradients", "steps"]
Width = Literal["column", "page"]

INCHES: dict[Width, float] = {"column": 3.3, "page": 6.9}
"""Widths of one column and of both, as in the ACL's style (3.03 and 6.3 of text) and IEEE's (3.5 and 7.16)."""

_MAP = "Blues"
"""From white to dark blue: readable by lightness alone, in print and with colour blindness."""
# Okabe and Ito 2008 without yellow, each with a dash of its own.
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", ":"), ("#cc79a7", "-."), ("#000000", "-"), ("#e69f00", "--"), ("#56b4e9", ":"))
_FONTS = (
    *("DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "WenQuanYi Zen Hei", "Hiragino Sans", "Yu Gothic", "Arial Unicode MS", "Unifont"),
)
_SETTINGS: dict[str, Any] = {
    "font.size": 7,
    "axes.linewidth": 0.5,
    "axes.titlesize": 7,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # TrueType: text stays text, and journals refuse Type 3
    "svg.fonttype": "path",  # looks the same without the font
    "svg.hashsalt": "vitrail",
    "savefig.dpi": 300,
}
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "Vitrail"},
    "pdf": {"CreationDate": None, "Creator": "Vitrail"},
    "png": {"Software": "Vitrail"},
}
is_figure = holds(b"Vitrail")
"""Whether a file is a figure drawn here; older figures are only marked as Matplotlib's."""
_DECADE = 10
"""Gradients that differ by more than this factor are drawn on a logarithmic axis, others from zero."""
_MOST_NUMBERED = 160
"""Maximal number of cells of a matrix with numbers written in."""


def figure(
    inspection: Inspection,
    path: str | Path,
    *,
    what: What = "attention",
    kind: AttentionType | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> None:
    """Draw one figure of an inspection.

    Args:
        what: one attention matrix, all heads of a kind, their entropies, word alignment, gradients by position, or decoding step by step.
        kind, layer, head: for `attention`, and `kind` for `heads`; None: attention to the source, or else of the text to itself.
    Raises: UsageError for an attention that does not exist, a suffix other than .png, .svg or .pdf, a missing matplotlib or font.
    """
    match what:
        case "attention":
            draw_attention(inspection, path, kind=kind, layer=layer, head=head)
        case "heads":
            draw_heads(inspection, path, kind=kind)
        case "entropy":
            draw_entropy(inspection, path)
        case "alignment":
            draw_alignment(inspection, path)
        case "gradients":
            draw_gradients(inspection, path)
        case "steps":
            draw_steps(inspection, path)


def draw_attention(
    inspection: Inspection,
    path: str | Path,
    *,
    kind: AttentionType | None = None,
    layer: int | None = None,
    head: int | None = None,
    width: Width | None = None,
) -> None:
    """One matrix of attention weights, the average over heads where no head is named; the last layer by default. See `figure`."""
    kind = kind or inspection.main_attention or "cross"
    places = inspection.attentions(kind)
    layer = max(places, default=0) if layer is None else layer
    weights = inspection.weights(kind, layer=layer)
    shown = weights.mean(0) if head is None else inspection.weights(kind, layer=layer, head=head)
    rows, columns = inspection.tokens_of(kind)
    which = f"head {head}" if head is not None else f"mean of {len(weights)} heads" if len(weights) > 1 else "one head"
    with _page(path, width=width or _width_for(columns)) as (sheet, inches):
        side = _cell(columns, rows, inches)
        sheet.set_size_inches(inches, side * len(rows) + _room(columns) + 0.45)
        axes = sheet.subplots()
        _matrix(axes, shown, rows, columns, cell=side)
        axes.set_title(f"{_KINDS[kind]}, layer {layer}, {which}", loc="left", pad=4)
        read = "target read" if "source" in inspection.sides else "read"
        axes.set_xlabel("source" if kind != "decoder" else read)
        axes.set_ylabel({"encoder": "source", "decoder": read, "cross": "target predicted"}[kind])


def draw_heads(inspection: Inspection, path: str | Path, *, kind: AttentionType | None = None) -> None:
    """Every head of every layer as a small matrix: layers down, heads across. See `figure`."""
    kind = kind or inspection.main_attention or "cross"
    weights = inspection.weights(kind)
    layers, heads = weights.shape[:2]
    with _page(path, width="column" if heads <= 4 else "page") as (sheet, inches):
        side = (inches - 0.35) / heads
        tall = side * min(2.0, max(0.4, weights.shape[2] / weights.shape[3]))
        sheet.set_size_inches(inches, tall * layers + 0.35)
        grid = sheet.subplots(layers, heads, squeeze=False)
        for (layer, head), axes in np.ndenumerate(grid):
            axes.imshow(weights[layer, head], cmap=_MAP, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if layer == 0:
                axes.set_title(f"head {head}", pad=2)
            if head == 0:
                axes.set_ylabel(f"layer {list(inspection.attentions(kind))[layer]}")


def draw_entropy(inspection: Inspection, path: str | Path) -> None:
    """Mean entropy of each head's rows in nats, as numbers in a grid of layers and heads for each kind of attention."""
    kinds: list[AttentionType] = [kind for kind in _KINDS if inspection.attentions(kind)]
    if not kinds:
        raise UsageError("entropy of attention: this model has none")
    found = [_entropies(inspection.weights(kind)) for kind in kinds]
    top = max(float(one.max()) for one in found)
    with _page(path, width="page" if len(kinds) > 1 else "column") as (sheet, inches):
        sheet.set_size_inches(inches, 0.22 * max(len(one) for one in found) + 0.75)
        for axes, kind, values in zip(sheet.subplots(1, len(kinds), squeeze=False)[0], kinds, found, strict=True):
            layers = [str(layer) for layer in inspection.attentions(kind)]
            _matrix(axes, values, layers, [str(head) for head in range(values.shape[1])], cell=0.22, top=max(top, 1e-6), decimals=2)
            axes.set_title(f"{_KINDS[kind]}: entropy in nats", loc="left", pad=4)
            axes.set_xlabel("head")
            axes.set_ylabel("layer")


def draw_alignment(inspection: Inspection, path: str | Path) -> None:
    """Weights between words with a dot at each link; for a record with the results of `alignment.align`. See `figure`."""
    links: list[list[int]] = np.asarray(inspection["alignment.links"], dtype=np.int64).tolist()
    source, target = inspection.source, inspection.target
    weights = pool_by_word(np.asarray(inspection["alignment.weights"], dtype=np.float32), sources=source.words, targets=target.words)
    rows, columns = _words(target), _words(source)
    if not weights.size:
        raise UsageError("alignment: a side without words")
    with _page(path, width=_width_for(columns)) as (sheet, inches):
        side = _cell(columns, rows, inches)
        sheet.set_size_inches(inches, side * len(rows) + _room(columns) + 0.45)
        axes = sheet.subplots()
        _matrix(axes, weights, rows, columns, cell=side, numbers=False)
        axes.scatter(
            [i for i, _ in links], [j for _, j in links], s=(side * 72 * 0.4) ** 2, c="#d55e00", edgecolors="white", linewidths=0.5
        )
        axes.set_title("Word alignment (dots) over cross-attention", loc="left", pad=4)
        axes.set_xlabel("source")
        axes.set_ylabel("target")


def draw_gradients(inspection: Inspection, path: str | Path) -> None:
    """Norm of the gradient of -log p(target) at each position of each layer's output. See `figure`."""
    places = [place for place in gradient_places(inspection.places) if f"gradients.{place.name}" in inspection.arrays]
    sides = {f"{side} position": [place for place in places if place.side == side] for side in inspection.sides}
    tokens = {"source": lambda: inspection.source_tokens, "target": lambda: inspection.predicted_tokens}
    labels = {f"{side} position": tokens[side]() for side in inspection.sides}
    kept = {side: some for side, some in sides.items() if some}
    if not kept:
        raise UsageError("no gradients in this record", expected="an inspection with its gradients")
    with _page(path, width="page" if len(kept) > 1 else "column") as (sheet, inches):
        sheet.set_size_inches(inches, 1.9 + _room(max(labels.values(), key=_room)))
        for axes, (side, some) in zip(sheet.subplots(1, len(kept), squeeze=False)[0], kept.items(), strict=True):
            for number, place in enumerate(some):
                colour, dash = _LINES[number % len(_LINES)]
                values = np.maximum(np.asarray(inspection.arrays[f"gradients.{place.name}"], dtype=np.float64), 1e-30)
                axes.plot(range(len(values)), values, color=colour, linestyle=dash, label=_short(place))
            low, high = axes.dataLim.intervaly
            if high > _DECADE * low:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            _ticks(axes.set_xticks, labels[side], size=7)
            axes.set_xlabel(side)
            axes.set_ylabel("gradient norm")
            axes.legend(fontsize=6, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, columnspacing=1)
            axes.grid(axis="y", linewidth=0.3, color="0.85")


def draw_steps(inspection: Inspection, path: str | Path) -> None:
    """Probability of each token of the translation, and entropy of the distribution it comes from. See `figure`."""
    steps = inspection.facts.decoding.steps
    labels = inspection.predicted_tokens
    with _page(path, width=_width_for(labels)) as (sheet, inches):
        sheet.set_size_inches(inches, 1.6 + _room(labels))
        axes = sheet.subplots()
        axes.bar(range(len(steps)), [step.chosen.probability for step in steps], color="#0072b2", width=0.7)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("probability (bars)")
        _ticks(axes.set_xticks, labels, size=min(7, 72 * 0.8 * (inches - 0.9) / len(labels)))
        other = axes.twinx()
        other.plot(range(len(steps)), [step.entropy for step in steps], color="#d55e00", marker="o", markersize=2.5)
        other.set_ylim(bottom=0)
        other.set_ylabel("entropy in nats (line)")


# Parts

_KINDS: dict[AttentionType, str] = {"encoder": "Encoder self-attention", "decoder": "Decoder self-attention", "cross": "Cross-attention"}


def _words(side: Side) -> list[str]:
    return [side.word(number) for number in range(len(side.words))]


def _short(place: Place) -> str:
    """`encoder.0.residual_2.sum` is written `encoder 0`, `encoder.0.forward_cell.hidden` as `encoder 0 forward`."""
    told = place.path if place.role == "hidden" else layer_of(place.name) or place.name
    return told.replace(".", " ").replace("_cell", "")


def _entropies(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(L H T S) -> (L H): -Σ a·log a of each row, averaged over rows."""
    wide = weights.astype(np.float64)
    return np.asarray(-(wide * np.log(np.where(wide > 0, wide, 1))).sum(3).mean(2), dtype=np.float32)


def _width_for(columns: Sequence[str]) -> Width:
    return "column" if len(columns) <= 14 else "page"


def _room(labels: Sequence[str]) -> float:
    """Inches that upright labels below or above a figure take, at 7 points."""
    return 0.068 * max(map(len, labels), default=1) + 0.1


def _cell(columns: Sequence[str], rows: Sequence[str], inches: float) -> float:
    """The side of a cell in inches: as the width allows, but limited for small matrices."""
    return min(0.24, (inches - _room(rows) - 0.35) / len(columns))


def _matrix(
    axes: "Axes",
    values: npt.NDArray[np.float32],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    cell: float,
    top: float = 1.0,
    decimals: int | None = None,
    numbers: bool = True,
) -> None:
    """A heat map with its numbers, as percentages unless decimals are given, where they are readable."""
    axes.imshow(values, cmap=_MAP, vmin=0, vmax=top, aspect="auto", interpolation="nearest")
    size = min(7, max(2, cell * 72 * 0.62))
    _ticks(axes.set_xticks, columns, size=size)
    _ticks(axes.set_yticks, rows, size=size)
    if numbers and values.size <= _MOST_NUMBERED:
        for (row, column), value in np.ndenumerate(values):
            text = f"{value:.{decimals}f}" if decimals is not None else f"{value * 100:.0f}"
            if decimals is not None or value >= 0.005:
                shade = "white" if value > 0.55 * top else "black"
                axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=min(6, size * 0.85))


def _ticks(place: Callable[..., Any], labels: Sequence[str], *, size: float) -> None:
    """Token labels, literally: a dollar sign starts no formula. Those of the x axis are vertical, unless all are short."""
    upright = "xtick" in getattr(place, "__name__", "") and max(map(len, labels), default=0) > 2
    place(
        range(len(labels)), labels=[_printable(label) for label in labels], fontsize=size, parse_math=False, rotation=90 if upright else 0
    )


def _printable(text: str) -> str:
    """A token as papers show it, without the mark of the space before it."""
    text = text.removeprefix("▁") or "␣"
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _keep_out_of_home() -> None:
    """Let matplotlib cache its font list in a temporary folder of this process, unless a folder is set or it is loaded already.

    Otherwise it would write to the user's folders, and read settings there, so figures would differ between machines. An existing font list
    is read: making one takes seconds.
    """
    if "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="vitrail-figures-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["MPLCONFIGDIR"] = folder
    with suppress(OSError, RuntimeError):  # no home
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
        for fonts in cache.glob("fontlist-v*.json"):
            shutil.copyfile(fonts, Path(folder, fonts.name))


@contextmanager
def _page(path: str | Path, *, width: Width) -> Generator[tuple["Figure", float]]:
    """A figure to draw on, and its width in inches; written when the block ends well."""
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _METADATA:
        raise UsageError(f"{path}: unknown file type", expected="a name that ends in .png, .svg or .pdf")
    try:
        _keep_out_of_home()
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.font_manager import fontManager
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise UsageError("figures are drawn by matplotlib, which is not installed", remedy="pip install 'vitrail[plot]'") from None
    installed = set(fontManager.get_font_names())
    settings: Any = _SETTINGS | {"font.family": [name for name in _FONTS if name in installed]}
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sheet = Figure(layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
        yield sheet, INCHES[width]
        sheet.savefig(buffer, format=suffix, metadata=_METADATA[suffix])
    missing = [match[1] for one in warned if (match := re.search(r"Glyph \d+ \((.*?)\) missing", str(one.message)))]
    if missing:
        raise UsageError(f"no installed font has {', '.join(dict.fromkeys(missing))[:200]}", remedy="install a Noto font of that script")
    write_file(path, buffer.getvalue(), ours=is_figure)
