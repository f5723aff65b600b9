"""Charts as SVG text, and self-contained HTML pages: no dependency, no script, no network.

    curve = Series("lstm", x=(1, 2, 3), y=(8.1, 12.4, 15.0), low=(7.2, 11.3, 13.9), high=(9.0, 13.5, 16.1))
    chart = line_chart([curve], title="BLEU over time", x_label="minutes", y_label="BLEU")
    body = figure(chart, caption="Higher is better.", numbers=series_table([curve], x_label="minutes"))
    text = page("A study", [Section("Quality", body)])

Lines differ by colour (Okabe and Ito 2008, chosen to be told apart by colour-blind people), by dash and by marker. A chart takes its text
colour from its page, for light and dark; a chart alone has a light background. All text is escaped here.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

from vitrail.files import holds
from vitrail.reports.scales import Axis, drawable, interval, is_numeric, number, scale

WIDTH, HEIGHT = 640, 380
_FONT, _ROW = 14, 18  # sizes of text and the distance of two labels, in the units of WIDTH
_TOP, _BOTTOM = 58, 52  # room for title and y label; for ticks and x label
_MOST_MARKERS = 40

# Okabe and Ito without yellow, which is invisible on white; text colour in place of black. The page has lighter ones for dark mode.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "currentColor", "#e69f00", "#56b4e9")
_DARK = ("#4aa3df", "#f08039", "#2fc197", "#e39ac3", "currentColor", "#ffbe3d", "#a9dcff")
_DASHES = ("none", "8 4", "2 3", "10 3 2 3", "14 5")
_MARKERS = ("circle", "square", "triangle", "diamond", "cross", "star")

_NOT_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Series:
    """One line: y[i] and, if given, its interval low[i] to high[i], at x[i]. None and not-a-number leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()

    def __post_init__(self) -> None:
        assert len(self.x) == len(self.y) and len(self.low) == len(self.high), f"{self.name}: lengths differ"
        assert len(self.low) in (0, len(self.x)), f"{self.name}: {len(self.low)} intervals for {len(self.x)} points"


@dataclass(frozen=True)
class Bar:
    """One bar with its interval; a row without a value is marked."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Section:
    """A part of a page: its heading as text, its body as HTML."""

    heading: str
    body: str


class _Dot(NamedTuple):
    x: float
    y: float
    low: float | None
    high: float | None
    label: str


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    categories: Sequence[str] = (),
) -> str:
    """Draw lines, each with its name at its end and a band where it has intervals. Returns an <svg> element.

    Args: categories: names for x = 0, 1, 2, ... in place of a scale of numbers.
    On a logarithmic axis, values not above 0 leave a gap, and the chart shows their number.
    """
    assert not (log_x and categories), "categories have no logarithm"
    lines = [_dots(one, log_x=log_x, log_y=log_y, categories=categories) for one in series]
    if categories:
        lines = _side_by_side(lines)
    dots = [dot for line in lines for dot in line if dot is not None]
    head = _heading(title, y_label)
    if not dots:
        return svg(title, f"{y_label} over {x_label}: no values.", [*head, words_at(WIDTH / 2, HEIGHT / 2, "no values", anchor="middle")])
    key = [_cut(one.name, 30) for one in series]
    right = WIDTH - (max(map(_width, key)) + 46 if any(key) else 16)
    height = max(HEIGHT, _TOP + _BOTTOM + _ROW * len(series))
    values = [value for dot in dots for value in (dot.y, dot.low, dot.high) if value is not None and drawable(value, log=log_y)]
    y = scale(values, start=height - _BOTTOM, end=_TOP, log=log_y, outward=True)
    left = 18 + max(_width(label) for _, label in y.ticks)
    if categories:
        named = tuple((float(index), _cut(name, 16)) for index, name in enumerate(categories))
        x = Axis(-0.5, len(categories) - 0.5, left, right, False, named)
    else:
        x = scale([dot.x for dot in dots], start=left + 8, end=right - 8, log=log_x, outward=False)
    body = [*head, *_grid(x, y, left=left, right=right), words_at((left + right) / 2, height - 8, x_label, anchor="middle")]
    body += [shape for index, line in enumerate(lines) for shape in _band(line, index, x, y, whiskers=bool(categories))]
    body += [shape for index, line in enumerate(lines) for shape in _line(line, index, x, y)]
    if any(key):
        body += _names(key, lines, x, y, right=right)
    hidden = sum(1 for one in series for value in one.y if value is not None) - len(dots)
    if hidden:
        body.append(words_at(right, 38, f"{hidden} values cannot be drawn", anchor="end", size=12))
    return svg(title, _line_words(series, lines, x_label=x_label, y_label=y_label), body, height=height)


def bar_chart(bars: Sequence[Bar], *, title: str, x_label: str) -> str:
    """Draw one bar per row, from zero, with its interval as a whisker and its value as text. Returns an <svg> element."""
    values = [value for bar in bars for value in (bar.value, bar.low, bar.high) if value is not None and drawable(value, log=False)]
    names = [_cut(bar.name, 24) for bar in bars]
    texts = [interval(bar.value, bar.low, bar.high) for bar in bars]
    left = 14 + max(map(_width, names), default=0)
    right = WIDTH - 14 - max(map(_width, texts), default=0)
    pitch, top = 34, 40
    height = top + pitch * len(bars) + _BOTTOM
    x = scale([0.0, *values], start=left, end=right, log=False, outward=True)
    body = [words_at(0, 18, _cut(title, 72), bold=True), words_at((left + right) / 2, height - 8, x_label, anchor="middle")]
    body += _ticks_below(x, top=top, bottom=height - _BOTTOM)
    zero = x.at(0.0)
    for index, (bar, name, text) in enumerate(zip(bars, names, texts, strict=True)):
        middle = top + pitch * (index + 0.5)
        body.append(words_at(left - 8, middle + 5, name, anchor="end"))
        end = zero
        if bar.value is not None and drawable(bar.value, log=False):
            end = x.at(bar.value)
            shape = f'<rect class="bar" x="{_n(min(zero, end))}" y="{_n(middle - 11)}" width="{_n(abs(end - zero))}" height="22"'
            body.append(f'{shape} style="fill:{_colour(index)}" fill-opacity="0.75">{_hint(f"{bar.name}: {text}")}</rect>')
            if bar.low is not None and bar.high is not None and drawable(bar.low, log=False) and drawable(bar.high, log=False):
                low, high = x.at(bar.low), x.at(bar.high)
                body.append(_path(f"M{_n(low)} {_n(middle)}H{_n(high)}M{_n(low)} {_n(middle - 6)}v12M{_n(high)} {_n(middle - 6)}v12"))
                end = max(end, high)
        body.append(words_at(max(end, zero) + 8, middle + 5, text))
    described = "; ".join(f"{bar.name} {text}" for bar, text in zip(bars, texts, strict=True))
    return svg(title, f"{x_label}: {described or 'no values'}.", body, height=height)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """An HTML table of texts; the first column has the rows' names. It scrolls separately on a narrow page."""
    rows = list(rows)
    named = f"<caption>{_text(caption)}</caption>" if caption else ""
    kinds = ["number" if is_numeric([row[column] for row in rows]) else "words" for column in range(1, len(header))]
    head = "".join(f'<th scope="col" class="{kind}">{_text(cell)}</th>' for cell, kind in zip(header, ["words", *kinds], strict=True))
    lines: list[str] = []
    for row in rows:
        cells = "".join(f'<td class="{kind}">{_text(cell)}</td>' for cell, kind in zip(row[1:], kinds, strict=True))
        lines.append(f'<tr><th scope="row" class="words">{_text(row[0])}</th>{cells}</tr>\n')
    label = _text(caption or "Table: " + ", ".join(filter(None, header)))
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0"><table>{named}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table></div>\n"
    )


def series_table(series: Sequence[Series], *, x_label: str, categories: Sequence[str] = ()) -> str:
    """The numbers of a line chart: a row for each x, a column for each series."""
    series = [one for one in series if len(one.x)]
    places = sorted({x for one in series for x in one.x})
    known = [{x: _values(one, index) for index, x in enumerate(one.x)} for one in series]
    rows = [[_place(x, categories), *(interval(*one[x]) if x in one else "" for one in known)] for x in places]
    return table([x_label, *(one.name for one in series)], rows)


def bars_table(bars: Sequence[Bar], *, x_label: str) -> str:
    """The numbers of a bar chart."""
    return table(["", x_label], [[bar.name, interval(bar.value, bar.low, bar.high)] for bar in bars])


def html_figure(chart: str, *, caption: str, numbers: str = "") -> str:
    """A chart with a caption on how to read it and, folded, its table of numbers (HTML)."""
    folded = f"<details><summary>Numbers</summary>\n{numbers}</details>" if numbers else ""
    return f"<figure>\n{chart}\n<figcaption>{_text(caption)}</figcaption>\n{folded}</figure>\n"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{_text(text)}</p>\n"


def bullets(texts: Iterable[str]) -> str:
    """A list of plain texts."""
    return "<ul>\n" + "".join(f"<li>{_text(text)}</li>\n" for text in texts) + "</ul>\n"


def page(title: str, sections: Sequence[Section], *, language: str = "en") -> str:
    """A self-contained HTML document: it opens from disk, has light and dark mode, and can be printed."""
    body = "".join(f"<section>\n<h2>{_text(one.heading)}</h2>\n{one.body}</section>\n" for one in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="{_text(language)}">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<main>\n<h1>{_text(title)}</h1>\n{body}</main>\n</body>\n</html>\n"
    )


is_page = holds(b"default-src 'none'; img-src data:; style-src 'unsafe-inline'", b"--ground:#fff;--ink:#1b1b1b")
"""Whether a file is a page that `page` made."""


def _style() -> str:
    dark = "".join(f"--series-{index}:{colour};" for index, colour in enumerate(_DARK))
    return f"""
:root{{color-scheme:light dark;--ground:#fff;--ink:#1b1b1b;--rule:#c9c9c9}}
@media screen and (prefers-color-scheme:dark){{:root{{--ground:#16181c;--ink:#e8e8e8;--rule:#4a4e55;{dark}}}}}
body{{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}}
main{{max-width:76rem;overflow-wrap:anywhere;margin:0 auto;padding:1rem}}
h1{{font-size:1.6rem;line-height:1.2}} h2{{font-size:1.2rem;margin:2rem 0 .5rem}}
figure{{margin:1rem 0 2rem;max-width:46rem}} figcaption{{margin:.4rem 0}} p,ul{{max-width:46rem}}
svg{{display:block;width:100%;height:auto}}
.wide{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums}}
caption{{text-align:left;font-weight:600;padding:.3rem 0}}
th,td{{padding:.25rem .4rem;border-bottom:1px solid var(--rule);overflow-wrap:normal}}
.number{{text-align:right}} .words{{text-align:left}} td.number{{white-space:nowrap}} thead th{{vertical-align:bottom}}
@media (min-width:40rem){{tbody th{{white-space:nowrap}}}}
:focus-visible{{outline:3px solid currentColor;outline-offset:2px}}
@media print{{figure,tr{{break-inside:avoid}} h2{{break-after:avoid}} main{{max-width:none;padding:0}} .wide{{overflow:visible}}
table{{font-size:.7rem}} th,td{{padding:.15rem .3rem}}
details::details-content{{content-visibility:visible;block-size:auto}}}}
"""


def svg(title: str, description: str, body: Iterable[str], *, height: float = HEIGHT) -> str:
    """An <svg> element with its title and description."""
    inner = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}" role="img" fill="currentColor" '
        f'font-family="system-ui,sans-serif" font-size="{_FONT}">\n'
        f"<title>{_text(title)}</title>\n<desc>{_text(description)}</desc>\n{inner}\n</svg>"
    )


def _heading(title: str, y_label: str) -> list[str]:
    return [words_at(0, 18, _cut(title, 72), bold=True), words_at(0, 40, _cut(y_label, 72))]


def _grid(x: Axis, y: Axis, *, left: float, right: float) -> list[str]:
    shapes = [f'<path class="axis" d="M{_n(left)} {_n(y.start)}H{_n(right)}" fill="none" stroke="currentColor"/>']
    for value, label in y.ticks:
        place = y.at(value)
        shapes.append(f'<path d="M{_n(left)} {_n(place)}H{_n(right)}" fill="none" stroke="currentColor" stroke-opacity="0.15"/>')
        shapes.append(words_at(left - 7, place + 5, label, anchor="end"))
    return shapes + _ticks_below(x, top=y.start, bottom=y.start + 5)


def _ticks_below(x: Axis, *, top: float, bottom: float) -> list[str]:
    """Ticks or grid lines from top to bottom; overlapping labels are left out."""
    shapes: list[str] = []
    free = -math.inf
    for value, label in x.ticks:
        place, half = x.at(value), _width(label) / 2
        opacity = "1" if bottom - top < 10 else "0.15"
        shapes.append(f'<path d="M{_n(place)} {_n(top)}V{_n(bottom)}" fill="none" stroke="currentColor" stroke-opacity="{opacity}"/>')
        if place - half >= free:
            shapes.append(words_at(place, bottom + 15, label, anchor="middle"))
            free = place + half + 6
    return shapes


def _side_by_side(lines: Sequence[Sequence[_Dot | None]]) -> list[list[_Dot | None]]:
    """Within a category the lines are side by side, so that no whisker hides another."""
    apart = min(0.06, 0.6 / len(lines))
    shifts = [(index - (len(lines) - 1) / 2) * apart for index in range(len(lines))]
    return [[dot and dot._replace(x=dot.x + shift) for dot in line] for line, shift in zip(lines, shifts, strict=True)]


def _band(line: Sequence[_Dot | None], index: int, x: Axis, y: Axis, *, whiskers: bool) -> list[str]:
    """The intervals: an area over neighbours; a whisker at a single point, or at every point on request."""
    shapes: list[str] = []
    for run in _runs(line, lambda dot: dot.low is not None and dot.high is not None):
        edges = [(x.at(dot.x), y.at(dot.low or 0.0), y.at(dot.high or 0.0)) for dot in run]
        if len(run) > 1:
            around = [(place, high) for place, _, high in edges] + [(place, low) for place, low, _ in reversed(edges)]
            outline = " ".join(f"{_n(place)},{_n(level)}" for place, level in around)
            opacity = 0.06 if whiskers else 0.13
            shapes.append(f'<polygon class="band" points="{outline}" style="fill:{_colour(index)}" fill-opacity="{opacity}"/>')
        if len(run) == 1 or whiskers:
            courses = (f"M{_n(place - 4)} {_n(high)}h8m-4 0V{_n(low)}m-4 0h8" for place, low, high in edges)
            shapes.append(_path("".join(courses), _colour(index)))
    return shapes


def _line(line: Sequence[_Dot | None], index: int, x: Axis, y: Axis) -> list[str]:
    shapes: list[str] = []
    for run in _runs(line, lambda dot: True):
        if len(run) > 1:
            course = "L".join(f"{_n(x.at(dot.x))} {_n(y.at(dot.y))}" for dot in run)
            shapes.append(_path("M" + course, _colour(index), kind="line", dash=_DASHES[index % len(_DASHES)]))
        every = math.ceil(len(run) / _MOST_MARKERS)
        marked = [dot for place, dot in enumerate(run) if place % every == 0 or dot is run[-1]]
        shapes += [_marker(index, x.at(dot.x), y.at(dot.y), hint=dot.label) for dot in marked]
    return shapes


def _names(key: Sequence[str], lines: Sequence[Sequence[_Dot | None]], x: Axis, y: Axis, *, right: float) -> list[str]:
    """The legend: each name with a sample, at the height of its line's end, moved apart where they would overlap."""
    ends = [(index, [dot for dot in line if dot is not None][-1]) for index, line in enumerate(lines) if any(line)]
    farthest = max(x.at(dot.x) for _, dot in ends)
    places = _spread([y.at(dot.y) for _, dot in ends], lowest=y.start, highest=y.end)
    shapes: list[str] = []
    for (index, dot), place in zip(ends, places, strict=True):
        if farthest - x.at(dot.x) < 2 * _ROW:
            leader = f"M{_n(x.at(dot.x))} {_n(y.at(dot.y))}L{_n(right + 6)} {_n(place)}"
            shapes.append(f'<path d="{leader}" fill="none" style="stroke:{_colour(index)}" stroke-opacity="0.5"/>')
        sample = f"M{_n(right + 6)} {_n(place)}h26"
        shapes.append(_path(sample, _colour(index), kind="key", dash=_DASHES[index % len(_DASHES)]))
        shapes += [_marker(index, right + 19, place, hint=key[index]), words_at(right + 37, place + 5, key[index])]
    return shapes


def _spread(places: Sequence[float], *, lowest: float, highest: float) -> list[float]:
    """Move labels apart to _ROW, as little as possible, between highest (the smaller number) and lowest."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + _ROW)
    limit = lowest
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - _ROW
    return [max(place, highest) for place in moved]


def _dots(one: Series, *, log_x: bool, log_y: bool, categories: Sequence[str]) -> list[_Dot | None]:
    dots: list[_Dot | None] = []
    for index, place in enumerate(one.x):
        value, low, high = _values(one, index)
        if value is None or not drawable(value, log=log_y) or not drawable(place, log=log_x):
            dots.append(None)
            continue
        bounded = low is not None and high is not None and drawable(low, log=False) and drawable(high, log=log_y)
        label = f"{one.name}, {_place(place, categories)}: {interval(value, low, high)}"
        dots.append(_Dot(place, value, low if bounded else None, high if bounded else None, label))
    return dots


def _values(one: Series, index: int) -> tuple[float | None, float | None, float | None]:
    return (one.y[index], one.low[index], one.high[index]) if one.low else (one.y[index], None, None)


def _runs(line: Sequence[_Dot | None], kept: Callable[[_Dot], bool]) -> list[list[_Dot]]:
    runs: list[list[_Dot]] = [[]]
    for dot in line:
        if dot is not None and kept(dot):
            runs[-1].append(dot)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _place(x: float, categories: Sequence[str]) -> str:
    return categories[int(x)] if categories else number(x)


def _line_words(series: Sequence[Series], lines: Sequence[Sequence[_Dot | None]], *, x_label: str, y_label: str) -> str:
    parts = [f"{y_label} over {x_label}."]
    for one, line in zip(series, lines, strict=True):
        dots = [dot for dot in line if dot is not None]
        if not dots:
            parts.append(f"{one.name}: no values.")
        elif len(dots) == 1:
            parts.append(f"{dots[0].label}.")
        else:
            first, last = (dot.label.removeprefix(f"{one.name}, ") for dot in (dots[0], dots[-1]))
            lowest, highest = min(dot.y for dot in dots), max(dot.y for dot in dots)
            parts.append(f"{one.name}: first {first}; last {last}; lowest {number(lowest)}, highest {number(highest)}.")
    return " ".join(parts)


def _marker(index: int, x: float, y: float, *, hint: str) -> str:
    shape = _MARKERS[index % len(_MARKERS)]
    outline = {
        "circle": "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "square": "m-3.6 -3.6h7.2v7.2h-7.2z",
        "triangle": "m0 -4.8l4.8 8.4h-9.6z",
        "diamond": "m0 -5.2l5.2 5.2l-5.2 5.2l-5.2 -5.2z",
        "cross": "m-5 -1.4h3.6v-3.6h2.8v3.6h3.6v2.8h-3.6v3.6h-2.8v-3.6h-3.6z",
        "star": "m0 -6l1.5 4.5l4.5 1.5l-4.5 1.5l-1.5 4.5l-1.5 -4.5l-4.5 -1.5l4.5 -1.5z",
    }[shape]
    return f'<path class="{shape}" d="M{_n(x)} {_n(y)}{outline}" style="fill:{_colour(index)}">{_hint(hint)}</path>'


def _path(course: str, colour: str = "currentColor", *, kind: str = "whisker", dash: str = "none") -> str:
    stroke = f'style="stroke:{colour}" stroke-width="{1.5 if kind == "whisker" else 2}" stroke-dasharray="{dash}"'
    return f'<path class="{kind}" d="{course}" fill="none" {stroke}/>'


def words_at(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False, size: int = _FONT) -> str:
    """A text in an <svg> element, escaped."""
    weight = ' font-weight="600"' if bold else ""
    smaller = f' font-size="{size}"' if size != _FONT else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{weight}{smaller}>{_text(text)}</text>'


def _hint(text: str) -> str:
    return f"<title>{_text(text)}</title>"


def _colour(index: int) -> str:
    place = index % len(_COLOURS)
    return f"var(--series-{place},{_COLOURS[place]})"


def _text(text: str) -> str:
    """Text escaped for HTML and XML; characters that they do not allow (controls, lone surrogates) become a replacement character."""
    return escape(_NOT_TEXT.sub("\ufffd", text))


def _width(text: str) -> float:
    """The approximate width of a text, without its font."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.58 for letter in text) * _FONT


def _cut(text: str, most: int) -> str:
    """Shorten in the middle: names of one kind often start the same and differ at the end."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[-tail:]}"


def _n(value: float) -> str:
    """A coordinate: at most two decimals, never "-0"."""
    return f"{round(value, 2) + 0.0:g}" if abs(value) < 1000 else f"{value:.2f}"
