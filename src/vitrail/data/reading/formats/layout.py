"""Find the two text columns of a table: from the user, a header, or the cells."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vitrail.data.reading.lines import CUT_MARK
from vitrail.errors import DataError
from vitrail.languages import find_language

Column = int | str
"""A column by its number, from 1, or by its name in the header."""
Row = Sequence[str]

SAMPLE_ROWS = 1_000
SAMPLE_CHARACTERS = 1 << 22
"""A sample ends with the row that exceeds this, so that long rows do not fill the memory."""
_MOST = 0.9
"""A column is of a kind if at least this share of its cells is."""
_CELL_CHARACTERS = 40
_SIDES = (
    frozenset({"source", "src", "source_text", "source_sentence", "source text", "src_text", "sourcetext"}),
    frozenset({"target", "tgt", "trg", "target_text", "target_sentence", "target text", "translation", "tgt_text", "targettext"}),
)
LABELLED_NAMES = (
    frozenset(
        {"text", "sentence", "source", "content", "review", "review_text", "utterance", "question", "tweet", "comment", "comment_text"}
    ),
    frozenset({"label", "labels", "class", "classes", "category", "categories", "sentiment", "intent", "topic", "tag", "tags", "target"}),
)
"""Names of the columns of texts and of labels."""
_OTHER_NAMES = frozenset(
    {
        "id",
        "score",
        "url",
        "src_url",
        "tgt_url",
        "source_url",
        "target_url",
        "domain",
        "line",
        "index",
        "split",
        "licence",
        "license",
        "ref",
    }
)
_KINDS = (
    ("addresses of web pages", re.compile(r"(?:https?|ftp)://\S+|www\.\S+", re.IGNORECASE)),
    ("numbers", re.compile(r"(?=[^\d]*\d)[-+−]?[\d.,:/%eE+\-]+")),
    ("licences", re.compile(r".*\bCC[- ]?(?:BY|0)\b.*", re.IGNORECASE | re.DOTALL)),
    ("identifiers", re.compile(r"(?=[^\d_#/]*[\d_#/])[!-~]+")),
)


# No codes of three letters: nearly every such word is the code of some language, "one" and "two" too.
_CODE = re.compile(r"[a-z]{2}|[a-z]{2,3}[-_][a-z]{4}")


class Layout(NamedTuple):
    """The places of the two texts in each row of a table."""

    columns: tuple[int, int]
    """From 0."""
    width: int
    """Columns of a complete row; 0: rows differ, and a row with both texts is complete."""
    header: bool
    """The first row holds names."""
    told: bool
    """The user named the columns: an incomplete row is then left out instead of refused."""
    guessed: str
    """Notes on what was guessed; empty where nothing was."""
    option: str = "--corpus"
    """The option that names the file."""


class TableOptions(NamedTuple):
    """The user's options for a table."""

    columns: tuple[Column, Column] | None
    languages: tuple[str, str] | None
    labels: bool = False
    """The second column holds labels: whatever it holds is right, and may be a number or, in JSON, a list."""

    @property
    def option(self) -> str:
        """The option that names the file."""
        return "--examples" if self.labels else "--corpus"


def find_layout(sample: Sequence[Row], asked: TableOptions, *, name: str) -> Layout:
    """Decide from the first rows. Raises DataError, with three rows as they were read, where the text columns are ambiguous."""
    return _find_layout(sample, asked, name=name)._replace(option=asked.option)


def _find_layout(sample: Sequence[Row], asked: TableOptions, *, name: str) -> Layout:
    rows = [row for row in sample if any(row) and row[-1:] != [CUT_MARK]]
    if not rows:
        return Layout((0, 1), 2, False, asked.columns is not None, "")
    width, share = _usual_width(rows)
    header = _header(rows, asked) if rows[0] is sample[0] else None
    if asked.columns is not None:
        columns = _told_columns(rows[0], asked.columns, widest=max(map(len, rows)), name=name, option=asked.option)
        named = any(isinstance(column, str) for column in asked.columns)
        return Layout(columns, width if share >= _MOST and width > max(columns) else 0, named or header is not None, True, "")
    if width < 2:
        return Layout((0, 1), 2, False, False, "")  # the first row will be refused with its line number
    if header is not None and header[0] != header[1]:
        return Layout(header, width, True, False, f"the header names columns {header[0] + 1} and {header[1] + 1}")
    if asked.labels and width == 2:
        header = (0, 1) if header is not None or _names_labels(rows) else None
        return Layout((0, 1), 2, header is not None, False, "the first row is taken for a header" if header else "")
    body = rows if header is None else rows[1:]
    kinds = [_kind([row[place] for row in body if len(row) == width]) for place in range(width)]
    texts = [place for place, kind in enumerate(kinds) if not kind]
    if (width == 2 and set(kinds) <= {"", "nothing"}) or not body:
        return Layout((0, 1), width, header is not None, False, "" if header is None else "the first row is taken for a header")
    if asked.labels:
        raise _unclear_labels(rows, name=name)
    if len(texts) != 2:
        raise _unclear(rows, kinds, name=name)
    guessed = f"columns {texts[0] + 1} and {texts[1] + 1} of {width} are taken for the text; " + _others(kinds)
    return Layout((texts[0], texts[1]), width, header is not None, False, guessed)


def _usual_width(rows: Sequence[Row]) -> tuple[int, float]:
    """The most frequent number of columns, and the share of rows that have it."""
    width, number = Counter(map(len, rows)).most_common(1)[0]
    return width, number / len(rows)


def _header(rows: Sequence[Row], asked: TableOptions) -> tuple[int, int] | None:
    """The columns that a header names for source and target; twice one where the first row is a header and names none; else None."""
    names = [cell.strip().removeprefix("\ufeff").lower() for cell in rows[0]]
    if len(set(names)) != len(names):
        return None
    sides = [next((place for place, cell in enumerate(names) if cell in words), None) for words in _sides_of(asked)]
    if sides[0] is not None and sides[1] is not None:
        return sides[0], sides[1]
    codes = [place for place, cell in enumerate(names) if _CODE.fullmatch(cell) and find_language(cell)]
    sentences = any(" " in cell for row in rows[1:] for cell in row)  # in a list of words, codes are words, too
    if len(codes) >= 2 and sentences and all(place in codes or cell in _OTHER_NAMES for place, cell in enumerate(names)):
        return (codes[0], codes[1]) if len(codes) == 2 else (0, 0)
    known = sum(cell in _OTHER_NAMES or cell in _SIDES[0] | _SIDES[1] for cell in names)
    return (0, 0) if known >= 2 else None


def _names_labels(rows: Sequence[Row]) -> bool:
    """Whether the label of the first row must be the name of its column: every other label occurs several times, this one once."""
    counts = Counter(row[1] for row in rows[1:] if len(row) == 2)
    return len(rows) >= 10 and rows[0][1] not in counts and min(counts.values(), default=0) > 1 and " " not in rows[0][0].strip()


def _sides_of(asked: TableOptions) -> Iterable[frozenset[str]]:
    if asked.labels:
        yield from LABELLED_NAMES
        return
    languages = ("", "") if asked.languages is None else asked.languages
    for words, language in zip(_SIDES, languages, strict=True):
        yield words | {language.lower()} if language else words


def _told_columns(first: Row, columns: tuple[Column, Column], *, widest: int, name: str, option: str) -> tuple[int, int]:
    names = [cell.strip().removeprefix("\ufeff") for cell in first]
    places: list[int] = []
    for column in columns:
        if isinstance(column, str) and column not in names:
            raise DataError(f"{name}:1: no column is called {column}", expected="one of " + ", ".join(map(shorten_cell, names)))
        places.append(names.index(column) if isinstance(column, str) else column - 1)
    if max(places) >= widest:
        raise DataError(
            f"{name}:1: has {widest} columns, and column {max(places) + 1} is asked for",
            expected=f"columns from 1 to {widest}",
            remedy=f"name others: {option} FILE,columns=1:2",
        )
    return places[0], places[1]


def _kind(cells: Sequence[str]) -> str:
    """The kind of a column that is not text; empty for text."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if len(filled) <= (1 - _MOST) * len(cells):
        return "nothing"
    for kind, pattern in _KINDS:
        if sum(pattern.fullmatch(cell) is not None for cell in filled) >= _MOST * len(filled):
            return kind
    if len(filled) >= 20 and len(set(filled)) <= max(3, 0.01 * len(filled)) and not any(" " in cell for cell in set(filled)):
        return "labels"
    return ""


def _others(kinds: Sequence[str]) -> str:
    return "the others hold " + ", ".join(dict.fromkeys(kind for kind in kinds if kind)) if any(kinds) else ""


def _unclear(rows: Sequence[Row], kinds: Sequence[str], *, name: str) -> DataError:
    shown = "\n".join(f"    {describe_row(row)}" for row in rows[:3])
    texts = [str(place + 1) for place, kind in enumerate(kinds) if not kind]
    suggestion = f"{texts[0]}:{texts[1]}" if len(texts) >= 2 else "1:2"
    not_text = "; ".join(f"column {place + 1} holds {kind}" for place, kind in enumerate(kinds) if kind)
    return DataError(
        f"{name}: has {len(kinds)} columns, and it is not clear which two are the text"
        + (f" ({not_text})" if not_text else "")
        + f"; its first rows:\n{shown}",
        expected="a source and a target column",
        remedy=f"name the two by number: --corpus FILE,columns={suggestion}",
    )


def _unclear_labels(rows: Sequence[Row], *, name: str) -> DataError:
    shown = "\n".join(f"    {describe_row(row)}" for row in rows[:3])
    return DataError(
        f"{name}: has {len(rows[0])} columns, and it is not clear which is the text and which the label; its first rows:\n{shown}",
        expected="a text and its label, a tab between them, or a header that names columns text and label",
        remedy="name the two by number, the text first: --examples FILE,columns=2:1",
    )


def describe_row(row: Row) -> str:
    """A row as it was read, each cell with its number."""
    return " | ".join(f"{place}: {shorten_cell(cell)}" for place, cell in enumerate(row[:12], 1)) + (" | …" if len(row) > 12 else "")


def shorten_cell(text: str) -> str:
    """A cell for a message: invisible characters are spelled out, long text is cut."""
    spelled = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:_CELL_CHARACTERS])
    return spelled + ("…" if len(text) > _CELL_CHARACTERS else "")
