"""Vectors as rows of coloured cells, in SVG: blue above zero, orange below, stronger the farther from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.reports.charts import svg, words_at

_ROW, _GAP, _LEFT, _RIGHT = 18, 8, 120, 632
MOST_CELLS = 256
"""Cells of a row; longer vectors show their first ones."""


@dataclass(frozen=True)
class HeatRow:
    """A vector with its name."""

    name: str
    values: Sequence[float]


def heat_map(groups: Sequence[tuple[str, Sequence[HeatRow]]], *, title: str) -> str:
    """Draw groups of vectors, each group under its name and with a scale of its own. Returns an <svg> element."""
    body, top = [words_at(0, 16, title, bold=True)], 30.0
    cell = (_RIGHT - _LEFT) / max(1, max(min(MOST_CELLS, len(row.values)) for _, rows in groups for row in rows))
    for name, rows in groups:
        body.append(words_at(0, top + 12, name))
        top += 20
        scale = max((abs(value) for row in rows for value in row.values), default=0.0) or 1.0
        for row in rows:
            body.append(words_at(_LEFT - 6, top + 13, row.name[:14], anchor="end", size=12))
            for place, value in enumerate(row.values[:MOST_CELLS]):
                colour = "var(--series-0,#0072b2)" if value > 0 else "var(--series-1,#d55e00)"
                shape = f'x="{_LEFT + place * cell:.2f}" y="{top:.0f}" width="{cell:.2f}" height="{_ROW - 2}"'
                body.append(f'<rect {shape} style="fill:{colour}" fill-opacity="{min(1.0, abs(value) / scale):.2f}"/>')
            top += _ROW
        top += _GAP
    described = "; ".join(f"{name}: {len(rows)} of {len(rows[0].values)} numbers" for name, rows in groups)
    return svg(title, described, body, height=top)
