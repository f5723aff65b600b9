"""Read TSV and CSV: all rows have as many columns as the first ones; a broken row is refused with its line number, or left out and
counted."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import NamedTuple

from vitrail.data.reading.formats.layout import SAMPLE_CHARACTERS, SAMPLE_ROWS, Layout, Row, TableOptions, describe_row, find_layout
from vitrail.data.reading.lines import CUT_MARK, Notes, is_cut, one_line
from vitrail.errors import DataError

DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class Dialect(NamedTuple):
    """How cells are divided."""

    delimiter: str
    quoted: bool
    """Cells may be quoted, as in RFC 4180: within quotes a delimiter is text, and two quotes are one."""
    guessed: str
    """Notes on what was guessed."""


class Table(NamedTuple):
    """Rows, and the places of the texts in them. `lines` are the numbers of the rows' last lines."""

    rows: Iterator[tuple[int, Row]]
    layout: Layout
    dialect: Dialect
    shown: list[tuple[str, str]]
    """The first three pairs, as they are read."""


def open_table(texts: Iterator[str], *, kind: str, delimiter: str, asked: TableOptions, name: str) -> Table:
    """Find the layout of a table from its first rows.

    Args:    texts: its lines. kind: `auto` (by the name .tsv), `tsv` (never quoted) or `csv`. delimiter: empty: it is guessed.
    Raises:  DataError where the text columns are ambiguous.
    """
    head = list(_take(texts))
    dialect = _find_dialect(head, kind=kind, delimiter=delimiter, name=name)
    rows = _rows(chain(head, texts), dialect, name=name)
    sample = list(islice(rows, len(head))) if not dialect.quoted else list(_sample_rows(rows, len(head)))
    layout = find_layout([row for _, row in sample], asked, name=name)
    first = sample[1:] if layout.header else sample
    whole = [row for _, row in first if len(row) > max(layout.columns) and (not layout.width or len(row) == layout.width)]
    shown = [(row[layout.columns[0]], row[layout.columns[1]]) for row in whole[:3]]
    return Table(chain(sample, rows), layout, dialect, shown)


def _take(texts: Iterator[str]) -> Iterator[str]:
    """The first lines, as many as a sample has."""
    characters = 0
    for text in islice(texts, SAMPLE_ROWS):
        yield text
        characters += len(text)
        if characters > SAMPLE_CHARACTERS:
            return


def _sample_rows(rows: Iterator[tuple[int, Row]], lines: int) -> Iterator[tuple[int, Row]]:
    """Rows of the first lines only, so that an error in a later row is reported when it is read."""
    for line, row in rows:
        yield line, row
        if line >= lines:
            return


def read_table(table: Table, *, notes: Notes, name: str) -> Iterator[tuple[str, str]]:
    """Both texts of every row but the header. An empty row is an empty pair."""
    source, target = table.layout.columns
    torn, first_torn = 0, 0
    for line, row in islice(table.rows, 1 if table.layout.header else 0, None):
        if row and is_cut(row[-1]):
            yield CUT_MARK, CUT_MARK
        elif not any(row) and len(row) <= 1:
            yield "", ""
        elif len(row) == table.layout.width if table.layout.width else len(row) > max(source, target):
            yield one_line(row[source]), one_line(row[target])
        elif table.layout.told:
            torn, first_torn = torn + 1, first_torn or line
            yield "", ""
        else:
            raise _torn(row, table, where=f"{name}:{line}")
    notes.add(name, f"row of another number of columns left out (the first: line {first_torn:,})", torn)


def count_rows(table: Table) -> int:
    """Rows but the header."""
    return sum(1 for _ in table.rows) - table.layout.header


def _torn(row: Row, table: Table, *, where: str) -> DataError:
    dialect, layout = table.dialect, table.layout
    mark = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}.get(dialect.delimiter, dialect.delimiter)
    found = f"has no {mark}" if len(row) == 1 else f"has {len(row)} columns, and the rows before it have {layout.width}"
    cause = f"a {mark} inside a text tears it" if len(row) > layout.width else f"source, a {mark}, target"
    quotes = "; if quotes enclose fields, add format=csv" if not dialect.quoted and any(cell.startswith('"') for cell in row) else ""
    columns = ":".join(str(column + 1) for column in layout.columns)
    return DataError(
        f"{where}: {found}: {describe_row(row)}",
        expected=f"{layout.width} columns in every row ({cause})",
        remedy=f"fix the line; or name the columns, then rows like this are left out: {layout.option} FILE,columns={columns}{quotes}",
    )


# ---- cells ---------------------------------------------------------------------------------------------------------------------


def _find_dialect(head: Sequence[str], *, kind: str, delimiter: str, name: str) -> Dialect:
    if kind == "csv":
        return Dialect(delimiter, True, "") if delimiter else _sniff(head, name=name)
    if kind == "auto" and _looks_quoted(head):
        return Dialect("\t", True, "quotes enclose fields as in CSV, and are not part of the text (format=tsv keeps them)")
    return Dialect("\t", False, "")


def _looks_quoted(head: Sequence[str]) -> bool:
    """Whether a program quoted the fields: nearly all cells are quoted, or some are, with doubled quotes inside."""
    cells = [cell for text in head for cell in text.split("\t") if cell]
    opened = [cell for cell in cells if cell.startswith('"')]
    if not all(_QUOTED.fullmatch(cell) for cell in opened):
        return False
    return any('""' in cell[1:-1] for cell in opened) or len(opened) >= max(2, 0.9 * len(cells))


def _sniff(head: Sequence[str], *, name: str) -> Dialect:
    """The delimiter with which most rows have the same number of columns; of equal ones the first in DELIMITERS."""
    best, best_share = "", 0.0
    for delimiter in DELIMITERS:
        widths: list[int] = []
        with suppress(DataError):  # a sample may end within a quoted field; what is wrong before it shows when it is read
            widths.extend(len(row) for _, row in _rows(iter(head), Dialect(delimiter, True, ""), name=name) if any(row))
        usual = max(set(widths), key=widths.count, default=0)
        share = widths.count(usual) / len(widths) if usual >= 2 else 0.0
        if share > best_share:
            best, best_share = delimiter, share
    if not best:
        return Dialect(",", True, "")
    return Dialect(best, True, "" if best == "," else f"fields are divided by {best!r}")


def _rows(texts: Iterator[str], dialect: Dialect, *, name: str) -> Iterator[tuple[int, Row]]:
    if not dialect.quoted:
        for line, text in enumerate(texts, 1):
            yield line, ([CUT_MARK] if is_cut(text) else text.split(dialect.delimiter))
        return
    # A carriage return within a line would end a row for csv, though no line ends there.
    reader = csv.reader((f"{text}\n".replace("\r", " ") for text in texts), delimiter=dialect.delimiter, strict=True)
    begun = 1
    try:
        for row in reader:
            yield reader.line_num, row
            begun = reader.line_num + 1
    except csv.Error as error:
        where = f"{name}:{begun}" if begun >= reader.line_num else f"{name}:{begun} to {reader.line_num}"
        raise DataError(
            f"{where}: not CSV ({error})",
            expected="fields with quotes, line ends or delimiters in quotes, and quotes in them doubled",
            remedy="fix the line: is a quote left open? If quotes are part of the text, add format=tsv or delimiter",
        ) from None
