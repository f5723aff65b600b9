"""An inspection drawn in the terminal: the translation step by step, attention as shaded cells, links between words, the beam tree."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vitrail.inspection.decoding import Node
from vitrail.inspection.drawing.pen import CANDIDATES, Pen, columns_of, step_line, wrapped
from vitrail.inspection.drawing.reading import read_to_parts
from vitrail.inspection.record import AttentionType, Inspection

_SHADES, _PLAIN_SHADES = " ░▒▓█", " .:+#"
_SHADE_FROM = (0.05, 0.25, 0.5, 0.75)
"""Weights at which each next shade begins; below the first, a cell is empty."""
# From the terminal's own ground to bright, dark text once it is bright: the steps of cividis among the 256 colours, for any kind of eye.
_COLOURS = ("", "48;5;17;38;5;231", "48;5;60;38;5;231", "48;5;102;38;5;16", "48;5;185;38;5;16")
_LONGEST_LABEL = 14
_LONGEST_HEADING = 8
_MOST_BRANCHES = 40
_MOST_BLOCKS = 3


def to_text(
    inspection: Inspection,
    *,
    kind: AttentionType | None = None,
    layer: int | None = None,
    head: int | None = None,
    width: int = 100,
    colour: bool = False,
    ascii: bool = False,
) -> str:
    """Draw an inspection as lines of text.

    Args:
        kind, layer, head: the attention to draw; by default that to the source, or else of the text to itself, averaged over the heads of
            the last layer.
        width: columns of the terminal; at least 40 are taken.
        colour: with ANSI codes. ascii: for streams that are not UTF-8; other characters are written as escapes.
    Raises: UsageError for an attention, layer or head that does not exist.
    """
    pen = Pen(max(40, width), colour, ascii)
    writes = "target" in inspection.sides
    parts = [_sentences(inspection, pen), _steps(inspection, pen)] if writes else read_to_parts(inspection, pen)
    kind = inspection.main_attention if kind is None else kind
    if kind is None or (kind == "cross" and len(inspection.sides) == 2 and not inspection.attentions("cross")):
        parts.append(wrapped(f"This model has no attention{' to its source' if len(inspection.sides) == 2 else ''}.", pen))
    else:
        parts.append(_attention(inspection, kind, layer, head, pen))
    parts += [_alignment(inspection, pen), _tree(inspection, pen)]
    return "\n\n".join("\n".join(line.rstrip() for line in part) for part in parts if part) + "\n"


def _sentences(inspection: Inspection, pen: Pen) -> list[str]:
    decoding = inspection.facts.decoding
    nats = sum(np.log(max(step.chosen.probability, 1e-45)) for step in decoding.steps)
    found = "drawn" if decoding.sampled else "greedy" if decoding.beams == 1 else f"best of {decoding.beams} beams"
    how = "given" if inspection.facts.given else found
    lines = wrapped("; ".join(inspection.notes), pen) if inspection.notes else list[str]()
    for text in inspection.texts:
        lines += [part for line in text.split("\n") for part in wrapped(pen.safe(line), pen)]
    told = f"{how}, log-probability {nats:.2f}, probability {np.exp(nats):.3g}"
    if "source" not in inspection.sides and decoding.steps:
        after = f", after {decoding.prefix} given tokens" if decoding.prefix else ""
        told = f"{how}{after}, log-probability {nats:.2f}, perplexity {np.exp(-nats / len(decoding.steps)):.2f} a token"
    told = wrapped(told, pen)
    if inspection.facts.parts > 1 and inspection.facts.translation is not None:
        told += wrapped(f"the whole translation: {pen.safe(inspection.facts.translation)}", pen)
    return [*(pen.bold(line) for line in lines), *told]


def _steps(inspection: Inspection, pen: Pen) -> list[str]:
    """Each token with its probability, and the other candidates."""
    labels = [pen.safe(step.chosen.piece) for step in inspection.facts.decoding.steps]
    room = min(_LONGEST_LABEL, max(map(columns_of, labels), default=1))
    title = "Step by step: probability of the token, entropy in nats, the likeliest tokens"
    lines = [pen.bold(line) for line in wrapped(title, pen)]
    for label, step in zip(labels, inspection.facts.decoding.steps, strict=True):
        lines.append(step_line(step, pen, label=label, room=room))
    return lines


# Attention


def _attention(inspection: Inspection, kind: AttentionType, layer: int | None, head: int | None, pen: Pen) -> list[str]:
    places = inspection.attentions(kind)
    layer = max(places, default=0) if layer is None else layer
    heads = inspection.weights(kind, layer=layer)
    weights = heads.mean(0) if head is None else inspection.weights(kind, layer=layer, head=head)
    rows, columns = inspection.tokens_of(kind)
    what = {
        "encoder": f"Encoder self-attention: each {'source ' * (len(inspection.sides) == 2)}token (row) looks at others",
        "decoder": "Decoder self-attention: each token read (row) looks back",
        "cross": "Cross-attention: where each token (row) was predicted from",
    }[kind]
    which = f"head {head} of {len(heads)}" if head is not None else f"average of {len(heads)} heads" if len(heads) > 1 else "its one head"
    title = f"{what}, in percent; layer {layer} (of 0 to {max(places)}), {which}"
    return [pen.bold(line) for line in wrapped(title, pen)] + list(_matrix(weights, rows, columns, pen))


def _matrix(weights: npt.NDArray[np.float32], rows: Sequence[str], columns: Sequence[str], pen: Pen) -> Iterator[str]:
    """Shaded cells with numbers; columns that do not fit go below, under the same rows. Of very many, the heaviest ones of each row."""
    labels = [pen.safe(row) for row in rows]
    room = min(_LONGEST_LABEL, max(map(columns_of, labels)))
    widths = [max(4, min(_LONGEST_HEADING, columns_of(pen.safe(column)))) for column in columns]
    blocks = list(_blocks(widths, pen.width - room))
    if len(blocks) > _MOST_BLOCKS:
        for label, row in zip(labels, weights, strict=True):
            best: list[int] = [at for at in np.argsort(-row, kind="stable")[:CANDIDATES].tolist() if row[at] >= 0.005]
            told = "  ".join(f"{pen.safe(columns[at])} {row[at] * 100:.0f}" for at in best)
            yield pen.cell(label, room) + " " + pen.cut(told, pen.width - room - 1)
        return
    for block in blocks:
        yield " " * room + "".join(" " + pen.cell(columns[at], widths[at], right=True) for at in block)
        for label, row in zip(labels, weights, strict=True):
            yield pen.cell(label, room) + "".join(" " + _shade(float(row[at]), widths[at], pen) for at in block)


def _blocks(widths: Sequence[int], room: int) -> Iterator[range]:
    """Columns that fit side by side, each after a space."""
    first = used = 0
    for at, width in enumerate(widths):
        if at > first and used + 1 + width > room:
            yield range(first, at)
            first, used = at, 0
        used += 1 + width
    yield range(first, len(widths))


def _shade(weight: float, columns: int, pen: Pen) -> str:
    """One cell: its shade, or its colour, and its percentage."""
    level = sum(weight >= least for least in _SHADE_FROM)
    number = f"{weight * 100:.0f}" if weight >= 0.005 else pen.mark("·", ".")
    if pen.colour:
        text = number.rjust(columns)
        return f"\x1b[{_COLOURS[level]}m{text}\x1b[0m" if level else text
    shade = (_PLAIN_SHADES if pen.ascii else _SHADES)[level]
    return shade * (columns - 3) + number.rjust(3)


# Alignment


def _alignment(inspection: Inspection, pen: Pen) -> list[str]:
    if "alignment.links" not in inspection.arrays:
        return []
    links: list[list[int]] = np.asarray(inspection["alignment.links"], dtype=np.int64).tolist()
    by_source: dict[int, list[int]] = {}
    for i, j in links:
        by_source.setdefault(i, []).append(j)
    arrow = pen.mark("→", "->")
    shown = [
        pen.safe(inspection.source.word(i)) + arrow + "+".join(pen.safe(inspection.target.word(j)) for j in sorted(targets))
        for i, targets in sorted(by_source.items())
    ]
    facts = inspection.facts.extras.get("alignment", {})
    lines = [pen.bold("Alignment"), *wrapped("  ".join(shown), pen)]
    lines += wrapped(pen.safe(str(facts.get("pharaoh", ""))), pen)
    return [*lines, *textwrap.wrap(pen.safe(str(facts.get("how", ""))), pen.width)]


# The beam tree


def _tree(inspection: Inspection, pen: Pen) -> list[str]:
    """The finished hypotheses, and the number of pruned candidates."""
    decoding = inspection.facts.decoding
    if decoding.beams == 1 or not decoding.nodes:
        return []
    children: dict[int | None, list[Node]] = {}
    for node in decoding.nodes:
        children.setdefault(node.parent, []).append(node)
    scores = {node.number: node.score for node in decoding.nodes if node.fate == "ended"}
    scores |= {one.node: one.score for one in decoding.finished if one.node is not None}
    best = decoding.finished[0].node if decoding.finished else None
    parents = {node.number: node.parent for node in decoding.nodes}
    living: set[int] = set()
    for number in scores:
        at: int | None = number
        while at is not None and at not in living:
            living.add(at)
            at = parents[at]
    lines = list(_branches(children, living, scores, best, pen))
    surplus = len(lines) - _MOST_BRANCHES
    lines = lines[:_MOST_BRANCHES] + ([f"and {surplus} more lines"] if surplus > 0 else [])
    given_up = sum(node.fate == "pruned" for node in decoding.nodes)
    ended = f"{len(scores)} hypothes{'i' if len(scores) == 1 else 'e'}s ended"
    title = f"Beam search: {ended}, {given_up:,} candidates pruned; score: log-probability, normalised by length"
    return [*(pen.bold(line) for line in wrapped(title, pen)), *lines]


def _branches(
    children: dict[int | None, list[Node]], living: set[int], scores: dict[int, float], best: int | None, pen: Pen
) -> Iterator[str]:
    """A line for each segment without a fork, the better branch first; with a stack instead of recursion, since translations may be
    long."""
    waiting: list[tuple[Node, str, str]] = []

    def push(parent: int | None, indent: str, *, root: bool = False) -> None:
        nodes = sorted((node for node in children.get(parent, []) if node.number in living), key=lambda node: node.score, reverse=True)
        for place, node in reversed(list(enumerate(nodes))):
            last = place == len(nodes) - 1
            if root:
                waiting.append((node, "", ""))
            else:
                fork = pen.mark("└ ", "`-") if last else pen.mark("├ ", "|-")
                waiting.append((node, indent + fork, indent + ("  " if last else pen.mark("│ ", "| "))))

    push(None, "", root=True)
    while waiting:
        node, start, indent = waiting.pop()
        pieces, lost = [node.piece], 0
        while True:
            following = children.get(node.number, [])
            kept = [one for one in following if one.number in living]
            lost += len(following) - len(kept)
            if len(kept) != 1:
                break
            node = kept[0]
            pieces.append(node.piece)
        text = "".join(pieces).replace("▁", " ").strip()
        tail = f"  {scores[node.number]:.3f}" if node.number in scores else ""
        tail += pen.mark(" ← best", " <- best") if node.number == best else ""
        tail += f"  ({lost} pruned)" if lost else ""
        start = start if columns_of(start) <= pen.width // 2 else pen.mark("… ", "~ ")
        line = start + pen.cut(text, max(8, pen.width - columns_of(start) - columns_of(tail))) + tail
        yield pen.cut(line, pen.width)
        push(node.number, indent)
