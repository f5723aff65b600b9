"""The report of a comparison of architectures: a page with plots, Markdown, JSON, and text for the terminal."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from vitrail.evaluation.scores import Comparison, Score
from vitrail.files import Recognise, holds, is_json_with
from vitrail.ladder.rungs import BITS, Ladder, Rung, RungComparison
from vitrail.reports import charts
from vitrail.reports.charts import Bar, Section, Series
from vitrail.reports.report_files import write_report_files
from vitrail.reports.scales import is_numeric, number

FORMAT = 1
"""Version of report.json. It increases by one when a field changes its meaning or is removed."""

_MOST_CURVES = 8  # more gradient curves in one chart are unreadable
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#&~])")
_READING = (
    "± is half the width of the 95 % interval, brackets are its ends (scores and agreement: bootstrap over the sentences of the test set; "
    "pronouns: Wilson). "
    "Perplexity is per target token. Training FLOPs: 2 for each multiply-add of a matrix product, forward and backward. "
    "Minutes count training only. Times and speeds are those of the first seed."
)

_READING_TEXT = (
    "± is half the width of the 95 % interval (bootstrap over pieces of the test text, of 20 lines each). Lower is better. "
    "Ends of lines are counted, as a token and as a byte. Bits a byte can be compared with models of any vocabulary. "
    "Training FLOPs: 2 for each multiply-add of a matrix product, forward and backward. Minutes count training only. Times and speeds are "
    "those of the first seed; written tokens/s: 16 texts side by side."
)


class Grid(NamedTuple):
    """A table of texts; the first column names the rows."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class _Column:
    """A column of the main table; `cell` is empty where the rung was not measured."""

    header: str
    cell: Callable[[Rung], str]


@dataclass(frozen=True)
class _Drawing:
    svg: str
    caption: str
    numbers: str
    """The folded table of the page (HTML)."""
    grid: Grid | None = None
    """The table for Markdown, which has no plot, where it is short enough."""


@dataclass(frozen=True)
class _Part:
    """A section of the report, before it becomes HTML or Markdown."""

    heading: str
    texts: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    drawings: tuple[_Drawing, ...] = ()


def ladder_report_files(folder: Path) -> dict[Path, Recognise]:
    """The files of a report, and how each is recognised."""
    tells = holds(b" on the same data: ", b"## Results")
    return {
        folder / "report.json": is_json_with("format", "budget", "rungs", "pairs"),
        folder / "report.md": tells,
        folder / "report.html": charts.is_page,
    }


def write_report(ladder: Ladder, folder: Path) -> None:
    """Write report.json, report.md and report.html, each atomically. The same ladder gives the same bytes.

    Raises: NotWritten when a file cannot be written.
    """
    write_report_files(ladder_report_files(folder), (report_json(ladder), to_markdown(ladder), report_html(ladder)))


def report_json(ladder: Ladder) -> str:
    """All fields by name, and `format`; numbers that JSON lacks (NaN, infinity) are null."""
    return (
        json.dumps({"format": FORMAT, **asdict(ladder, dict_factory=_finite_fields)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def report_html(ladder: Ladder) -> str:
    """One self-contained page: tables, plots, and a sentence under each plot that describes it."""
    sections = [
        Section(
            part.heading,
            "".join(charts.table(grid.header, grid.rows) for grid in part.grids)
            + "".join(map(charts.paragraph, part.texts))
            + (charts.bullets(part.bullets) if part.bullets else "")
            + "".join(charts.html_figure(one.svg, caption=one.caption, numbers=one.numbers) for one in part.drawings),
        )
        for part in _parts(ladder)
    ]
    return charts.page(_title(ladder), sections)


def to_markdown(ladder: Ladder) -> str:
    """The same tables and sentences; the plots are in the page."""
    blocks = [f"# {_marked(_title(ladder))}"]
    for part in _parts(ladder):
        blocks.append(f"## {_marked(part.heading)}")
        blocks += [_markdown_table(grid) for grid in (*part.grids, *(one.grid for one in part.drawings if one.grid))]
        blocks += [_marked(text) for text in (*part.texts, *(one.caption for one in part.drawings))]
        if part.bullets:
            blocks.append("\n".join(f"- {_marked(text)}" for text in part.bullets))
    return "\n\n".join(blocks) + "\n"


def report_text(ladder: Ladder) -> str:
    """Aligned tables for the terminal: quality, cost, paired tests, notes."""
    names = _metric_names(ladder)
    blocks = [
        _title(ladder),
        _aligned(_rung_grid(ladder, _quality(ladder))),
        _aligned(_rung_grid(ladder, _COST)),
        *([_aligned(_pair_grid(ladder))] if ladder.pairs else []),
        *([_quality_sentence(ladder, names[0])] if names else []),
        "\n".join(f"note: {note}" for note in ladder.notes),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _title(ladder: Ladder) -> str:
    count = len(ladder.rungs)
    return f"{'1 architecture' if count == 1 else f'{count} architectures'} on the same data: {ladder.budget}"


def _parts(ladder: Ladder) -> Iterator[_Part]:
    names = _metric_names(ladder)
    columns = [_PARAMETERS, *_quality(ladder), *_COST]
    yield _Part("Results", (_READING_TEXT if _of_text(ladder) else _READING,), (), (_rung_grid(ladder, columns),))
    if ladder.notes:
        yield _Part("Notes", (), ladder.notes)
    machine = ladder.machine.replace("\n", "; ")
    facts = (f"Budget: {ladder.budget}", f"Machine: {machine}", *ladder.corpus)
    yield _Part("What was compared", (), facts, (_setting_grid(ladder),))
    if names:
        yield _Part("Quality", (), (), _seed_grids(ladder), (_quality_drawing(ladder, names[0]),))
    if ladder.pairs:
        unit = "piece by piece of 20 lines" if _of_text(ladder) else "sentence by sentence"
        text = f"Each system against its baseline, {unit}. p: how probable a difference at least as large is by chance alone."
        yield _Part("Paired tests", (text,), (), (_pair_grid(ladder),))
    bands = _band_names(ladder) if names else []
    if bands:
        yield _Part("Quality by source length", drawings=(_band_drawing(ladder, names[0], bands),))
    if any(rung.curve for rung in ladder.rungs):
        yield _Part("Quality over time", drawings=(_curve_drawing(ladder),))
    if any(rung.gradients for rung in ladder.rungs):
        yield _Part("How far the gradient reaches", drawings=tuple(_gradient_drawings(ladder)))
    signatures = tuple(dict.fromkeys(f"{one.name}|{one.signature}" for one in _all_scores(ladder)))
    if signatures:
        yield _Part("Signatures of the scores", (), signatures)


# Tables


_PARAMETERS = _Column("parameters", lambda rung: f"{rung.parameters:,}")
_COST = (
    _Column("training FLOPs", lambda rung: number(rung.training_flops)),
    _Column("tokens/s", lambda rung: _fixed(rung.tokens_per_second, 0)),
    _Column("peak memory", lambda rung: _memory(rung.peak_memory_bytes)),
    _Column("minutes", lambda rung: _fixed(rung.minutes, 1)),
    _Column("decoded sentences/s", lambda rung: _fixed(rung.sentences_per_second, 1)),
    _Column("written tokens/s", lambda rung: _fixed(rung.written_tokens_per_second, 0)),
)


def _quality(ladder: Ladder) -> list[_Column]:
    def metric(name: str) -> _Column:
        return _Column(name, lambda rung: _with_interval(_score(rung.scores, name)))

    def share(name: str) -> _Column:
        return _Column(name, lambda rung: next((_percent(one.share, one.low, one.high) for one in rung.shares if one.name == name), ""))

    shares = dict.fromkeys(one.name for rung in ladder.rungs for one in rung.shares)
    asked = any(rung.learned for rung in ladder.rungs)
    learned = _Column("has learned", lambda rung: "" if rung.learned is None else "yes" if rung.comparable else "no")
    return [
        *([learned] if asked else []),
        _Column("dev perplexity", lambda rung: _fixed(rung.dev_perplexity, 2)),
        *([] if _of_text(ladder) else [_Column("test perplexity", lambda rung: _fixed(rung.test_perplexity, 2))]),
        *map(metric, _metric_names(ladder)),
        *map(share, shares),
    ]


def _rung_grid(ladder: Ladder, columns: Sequence[_Column]) -> Grid:
    """A row for each rung; a column that no rung has anything for is left out."""
    cells = [(column.header, [column.cell(rung) for rung in ladder.rungs]) for column in columns]
    kept = [(header, found) for header, found in cells if any(found)]
    rows = [[rung.name, *(found[row] or "–" for _, found in kept)] for row, rung in enumerate(ladder.rungs)]
    return Grid(["rung", *(header for header, _ in kept)], rows)


def _setting_grid(ladder: Ladder) -> Grid:
    rows = [
        [
            *(rung.name, rung.title, " ".join(rung.settings) or "–"),
            *(_listed(map(str, rung.seeds)), f"{rung.steps:,}", _fixed(rung.epochs, 1)),
        ]
        for rung in ladder.rungs
    ]
    return Grid(["rung", "architecture", "settings", "seeds", "steps", "epochs"], rows)


def _seed_grids(ladder: Ladder) -> tuple[Grid, ...]:
    if all(len(rung.seed_scores) < 2 for rung in ladder.rungs):
        return ()
    name = _metric_names(ladder)[0]
    places = _decimals(name)
    rows = [
        [rung.name, _listed(_fixed(one, places) for one in rung.seed_scores), _fixed(fmean(rung.seed_scores), places), _range(rung, places)]
        for rung in ladder.rungs
        if rung.seed_scores
    ]
    return (Grid(["rung", f"{name} of each seed", "mean", "lowest to highest"], rows),)


def _pair_grid(ladder: Ladder) -> Grid:
    header = ["baseline and system", "metric", "from", "to", "difference", "95 % interval", "p bootstrap", "p randomisation"]
    return Grid(header, [_pair_row(pair, one) for pair in ladder.pairs for one in pair.comparisons])


def _pair_row(pair: RungComparison, one: Comparison) -> list[str]:
    places = _decimals(one.name)
    low, high = (_signed(end, places) for end in (one.low, one.high))
    values = [_fixed(one.baseline, places), _fixed(one.system, places), _signed(one.difference, places), f"{low} to {high}"]
    return [f"{pair.baseline}, {pair.system}", one.name, *values, _fixed(one.p_bootstrap, 4), _fixed(one.p_randomisation, 4)]


def _band_grid(ladder: Ladder, metric: str, bands: Sequence[tuple[int, int | None]]) -> Grid:
    header = ["words in the source", "sentences", *(f"{rung.name} {metric}" for rung in ladder.rungs)]
    rows: list[list[str]] = []
    for span in bands:
        counts = dict.fromkeys(str(band.sentences) for rung in ladder.rungs for band in rung.bands if (band.first, band.last) == span)
        rows.append([_span(span), _listed(counts), *(_with_interval(_band_score(rung, metric, span)) or "–" for rung in ladder.rungs)])
    return Grid(header, rows)


# Plots, each with a sentence that describes it


def _quality_drawing(ladder: Ladder, metric: str) -> _Drawing:
    scores = [(rung.name, _score(rung.scores, metric)) for rung in ladder.rungs]
    bars = [Bar(name, one.value, one.low, one.high) if one else Bar(name, None) for name, one in scores]
    chart = charts.bar_chart(bars, title=f"{metric} on the test set", x_label=f"{metric}, with its 95 % interval")
    return _Drawing(chart, _quality_sentence(ladder, metric), charts.bars_table(bars, x_label=metric))


def _quality_sentence(ladder: Ladder, metric: str) -> str:
    """Name the best rung, and the neighbours whose intervals do not overlap."""
    scored = _scored(ladder, metric)
    short = [rung for rung in ladder.rungs if not rung.comparable]
    if not scored:
        return _none_learned(ladder, short)
    best, top = (min if _of_text(ladder) else max)(scored, key=lambda item: item[1].value)
    superlative = "" if len(scored) == 1 else "the lowest " if _of_text(ladder) else "the highest "
    sentences = [f"{best} has {superlative}{metric}: {_with_interval(top)}."]
    apart: list[str] = []
    close: list[str] = []
    for (before, one), (after, other) in pairwise(scored):
        if one.low is not None and one.high is not None and other.low is not None and other.high is not None:
            (apart if one.high < other.low or other.high < one.low else close).append(f"{before} and {after}")
    if apart:
        sentences.append(f"The intervals of {'; of '.join(apart)} do not overlap.")
    if close:
        sentences.append(f"The intervals of {'; of '.join(close)} overlap.")
    if short:
        left = _listed(rung.name for rung in short)
        sentences.append(f"Not trained long enough to compare, and left out: {left}.{_longer(short)}")
    return " ".join(sentences)


def _none_learned(ladder: Ladder, short: Sequence[Rung]) -> str:
    if not short:
        return ""
    none = "No rung has" if len(short) > 1 else f"{short[0].name} has not"
    what = "predict its text" if _of_text(ladder) else "translate"
    return f"Not trained long enough to compare: {none} learned to {what} yet, so scores cannot be compared.{_longer(short)}"


def _longer(short: Sequence[Rung]) -> str:
    """The estimated budget that is enough for all of them."""
    needs = [rung.enough for rung in short if rung.enough]
    if not needs:
        return ""
    steps, minutes = max(one.steps for one in needs), max(one.minutes for one in needs)
    return f" About {steps:,} steps each would be enough, {minutes:,.1f} minutes for the slowest: a longer --budget, in a new folder."


def _band_drawing(ladder: Ladder, metric: str, bands: Sequence[tuple[int, int | None]]) -> _Drawing:
    names = [_span(span) for span in bands]
    series = [_band_series(rung, metric, bands) for rung in ladder.rungs]
    chart = charts.line_chart(
        series, title=f"{metric} by length of the source", x_label="words in the source", y_label=metric, categories=names
    )
    grid = _band_grid(ladder, metric, bands)
    sentences = ["Whiskers are 95 % intervals: a length with few sentences has a wide one.", _lead(ladder, metric, series, names)]
    return _Drawing(chart, " ".join(filter(None, sentences)), charts.table(grid.header, grid.rows), grid)


def _lead(ladder: Ladder, metric: str, series: Sequence[Series], names: Sequence[str]) -> str:
    """How the lead of the best rung over the worst one changes from short to long sentences."""
    order = [name for name, _ in sorted(_scored(ladder, metric), key=lambda item: item[1].value)]
    if len(order) < 2:
        return ""
    worst, best = (next(one for one in series if one.name == name) for name in (order[0], order[-1]))
    leads = [(name, high - low) for name, low, high in zip(names, worst.y, best.y, strict=True) if low is not None and high is not None]
    if len(leads) < 2:
        return ""
    (first, before), (last, after) = leads[0], leads[-1]
    return f"{best.name} less {worst.name}: {_signed(before)} {metric} at {first} words, {_signed(after)} at {last}."


def _band_series(rung: Rung, metric: str, bands: Sequence[tuple[int, int | None]]) -> Series:
    scores = [_band_score(rung, metric, span) for span in bands]
    values = [one and one.value for one in scores]
    return Series(rung.name, range(len(bands)), values, [one and one.low for one in scores], [one and one.high for one in scores])


def _curve_drawing(ladder: Ladder) -> _Drawing:
    if _of_text(ladder):
        return _loss_drawing(ladder)
    series = [Series(rung.name, [one.minutes for one in rung.curve], [one.dev_bleu for one in rung.curve]) for rung in ladder.rungs]
    x_label = "minutes, validations included"
    chart = charts.line_chart(series, title="BLEU on the dev set while training", x_label=x_label, y_label="dev BLEU")
    sentences = ["A steeper line learns faster; a flat end has converged within this budget.", _overtaking(ladder)]
    return _Drawing(chart, " ".join(filter(None, sentences)), charts.series_table(series, x_label=x_label))


def _loss_drawing(ladder: Ladder) -> _Drawing:
    series = [Series(rung.name, [one.minutes for one in rung.curve], [one.dev_loss for one in rung.curve]) for rung in ladder.rungs]
    x_label = "minutes, validations included"
    chart = charts.line_chart(series, title="Loss on the dev text while training", x_label=x_label, y_label="dev loss, nats a token")
    caption = "A steeper line learns faster; a flat end has converged within this budget; a line that rises again has begun to overfit."
    return _Drawing(chart, caption, charts.series_table(series, x_label=x_label))


def _overtaking(ladder: Ladder) -> str:
    """When the best rung passed the best that the worst one ever reached."""
    curves = [(rung.name, [one for one in rung.curve if math.isfinite(one.dev_bleu)]) for rung in ladder.rungs if rung.comparable]
    peaks = sorted((max(one.dev_bleu for one in curve), place) for place, (_, curve) in enumerate(curves) if curve)
    if len(peaks) < 2 or peaks[0][0] == peaks[-1][0]:
        return ""
    (low, worst), (_, best) = peaks[0], peaks[-1]
    minutes = next(one.minutes for one in curves[best][1] if one.dev_bleu > low)
    return f"{curves[best][0]} is above the best of {curves[worst][0]} ({_fixed(low, 2)}) after {_fixed(minutes, 1)} minutes."


def _gradient_drawings(ladder: Ladder) -> Iterator[_Drawing]:
    """One chart for all curves where they are few; otherwise the first of each rung together, then each rung's own."""
    title = "Gradient at each source position"
    total = sum(len(rung.gradients) for rung in ladder.rungs)
    series = [
        Series(rung.name if index == 0 else f"{rung.name} {one.name}", range(len(one.norms)), one.norms)
        for rung in ladder.rungs
        for index, one in enumerate(rung.gradients)
        if index == 0 or total <= _MOST_CURVES
    ]
    places: dict[str, list[str]] = {}
    for rung in ladder.rungs:
        if rung.gradients:
            places.setdefault(rung.gradients[0].name, []).append(rung.name)
    where = "; ".join(f"{place} ({_listed(names)})" for place, names in places.items())
    yield _gradient_drawing(series, title=title, where=f"Measured at {where}.")
    for rung in ladder.rungs:
        if total > _MOST_CURVES and len(rung.gradients) > 1:
            curves = [Series(one.name, range(len(one.norms)), one.norms) for one in rung.gradients]
            yield _gradient_drawing(curves, title=f"{title}: {rung.name}", where="Each curve is a place in the model.")


def _gradient_drawing(series: Sequence[Series], *, title: str, where: str) -> _Drawing:
    x_label = "positions before the last"
    chart = charts.line_chart(series, title=title, x_label=x_label, y_label="norm of dL/dh, relative to the last position", log_y=True)
    sentences = ["A falling line: the model hardly learns from words that far back.", where]
    farthest = min((len(one.y) for one in series if len(one.y)), default=0) - 1
    if farthest > 0:
        left = _listed(f"{one.name} {number(one.y[farthest])}" for one in series if len(one.y))
        sentences.append(f"What is left {farthest} {'position' if farthest == 1 else 'positions'} before the last: {left}.")
    return _Drawing(chart, " ".join(sentences), charts.series_table(series, x_label=x_label))


# Looking things up


def _metric_names(ladder: Ladder) -> list[str]:
    return list(dict.fromkeys(one.name for rung in ladder.rungs for one in rung.scores))


def _of_text(ladder: Ladder) -> bool:
    """Whether it compares language models, whose scores are the better the lower they are."""
    return ladder.task == "language"


def _decimals(metric: str) -> int:
    """Places after the point of a score."""
    return 3 if metric == BITS else 2


def _scored(ladder: Ladder, metric: str) -> list[tuple[str, Score]]:
    """The scores of the rungs that have learned their task; the scores of the others are meaningless."""
    return [(rung.name, one) for rung in ladder.rungs if rung.comparable and (one := _score(rung.scores, metric))]


def _all_scores(ladder: Ladder) -> list[Score]:
    return [one for rung in ladder.rungs for one in rung.scores]


def _score(scores: Sequence[Score], name: str) -> Score | None:
    return next((one for one in scores if one.name == name and math.isfinite(one.value)), None)


def _band_names(ladder: Ladder) -> list[tuple[int, int | None]]:
    """The lengths that any rung has scores for, from short to long."""
    spans = {(band.first, band.last) for rung in ladder.rungs for band in rung.bands if band.scores}
    return sorted(spans, key=lambda span: (span[0], math.inf if span[1] is None else span[1]))


def _band_score(rung: Rung, metric: str, span: tuple[int, int | None]) -> Score | None:
    return next((_score(band.scores, metric) for band in rung.bands if (band.first, band.last) == span), None)


# Words and numbers


def _span(span: tuple[int, int | None]) -> str:
    return f"{span[0]}+" if span[1] is None else f"{span[0]}–{span[1]}"


def _with_interval(one: Score | None) -> str:
    if one is None:
        return ""
    places = _decimals(one.name)
    if one.low is None or one.high is None:
        return _fixed(one.value, places)
    return f"{_fixed(one.value, places)} ± {_fixed((one.high - one.low) / 2, places)}"


def _percent(share: float | None, low: float | None, high: float | None) -> str:
    if share is None:
        return ""
    return f"{100 * share:.1f} %" if low is None or high is None else f"{100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _fixed(value: float | None, decimals: int) -> str:
    """A number with fixed decimals, in powers of ten if it is very long; empty for None."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.{decimals}f}" if abs(value) < 1e7 else number(value)


def _signed(value: float, decimals: int = 2) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−") if math.isfinite(value) else "–"


def _range(rung: Rung, decimals: int) -> str:
    return f"{_fixed(min(rung.seed_scores), decimals)} to {_fixed(max(rung.seed_scores), decimals)}"


def _memory(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _finite_fields(fields: list[tuple[str, object]]) -> dict[str, object]:
    return {name: _finite(value) for name, value in fields}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _marked(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _markdown_table(grid: Grid) -> str:
    rules = ["---:" if column and is_numeric([row[column] for row in grid.rows]) else "---" for column in range(len(grid.header))]
    header, *rows = ([_marked(cell) for cell in row] for row in (grid.header, *grid.rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rules, *rows))


def _aligned(grid: Grid) -> str:
    """Columns two spaces apart: the first to the left, the others to the right."""
    rows = [grid.header, *grid.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)
