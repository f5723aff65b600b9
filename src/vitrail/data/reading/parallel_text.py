"""Parallel text (two plain files, TSV, CSV, JSON, TMX, PO, XLIFF; compressed; stdin), one pair at a time, by the rules of `lines`."""

from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from math import log
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.cleaning.normalise import ends_in_word
from vitrail.data.reading.formats.catalogues import read_catalogue
from vitrail.data.reading.formats.json_records import Records, open_records, read_records
from vitrail.data.reading.formats.layout import TableOptions, shorten_cell
from vitrail.data.reading.formats.prepared_pairs import INDEX, count_prepared_pairs, read_prepared_pairs
from vitrail.data.reading.formats.tables import Table, count_rows, open_table, read_table
from vitrail.data.reading.formats.tmx import read_tmx
from vitrail.data.reading.lines import (
    CUT_MARK,
    DEFAULT_LIMITS,
    STDIN,
    Notes,
    count_lines,
    is_cut,
    is_stream,
    lines,
    open_text,
    read_lines,
    require_unchanged,
    shown_name,
    stamp,
)
from vitrail.data.reading.unpack import Limits, bare_name
from vitrail.errors import DataError, UsageError

__all__ = ["CUT_MARK", "DEFAULT_LIMITS", "STDIN", "Limits", "Notes", "ParallelText", "SentencePair", "is_cut", "lines"]


class SentencePair(NamedTuple):
    """One sentence and its translation; `line` counts lines from 1 (TMX, PO, XLIFF, arrays: units; CSV: rows, its header among them)."""

    source: str
    target: str
    line: int


def _fit(source: str, target: str, ratio: float) -> float:
    """Score whether two lines can be translations of each other: ratio of lengths, final mark, numbers, emptiness."""
    if not source or not target:
        return 0.0 if source == target else -3.0
    score = -min(abs(log((len(source) + 5) / (len(target) + 5) / ratio)), 2.0)
    score += source[-1] == target[-1] or (ends_in_word(source) and ends_in_word(target))
    return score + (any(map(str.isdigit, source)) == any(map(str.isdigit, target)))


def _first_suspicious(longer: Path, shorter: Path, *, surplus: int, limits: Limits) -> int:
    """Guess the line from which two files no longer match, when one has `surplus` lines more.

    Assume that the surplus lines are together before line k of the longer file. Then lines before k match line by line, and lines after k
    match `surplus` lines apart; the k returned maximises the summed fit (see _fit), found in one pass as the peak of a running sum of
    differences.
    """
    notes, ratio = Notes(), max(longer.stat().st_size, 1) / max(shorter.stat().st_size, 1)
    here, ahead, other = (read_lines(path, notes=notes, limits=limits) for path in (longer, longer, shorter))
    total = peak = 0.0
    last_straight = 0
    for number, (straight, shifted, text) in enumerate(zip(here, islice(ahead, surplus, None), other, strict=False), 1):
        total += _fit(straight, text, ratio) - _fit(shifted, text, ratio)
        if total > peak:
            peak, last_straight = total, number
    return last_straight + 1


def _refuse_unequal(source: Path, target: Path, *, counts: tuple[int, int], limits: Limits) -> None:
    swap = counts[0] < counts[1]
    longer, shorter = (target, source) if swap else (source, target)
    line = _first_suspicious(longer, shorter, surplus=abs(counts[0] - counts[1]), limits=limits)
    raise DataError(
        f"{source} has {counts[0]:,} lines and {target} has {counts[1]:,}; the first suspicious line is {line:,}",
        expected="as many lines on both sides, line n of one the translation of line n of the other",
        remedy=f"compare both files around line {line:,} for a line added, split or lost",
    )


def _read_plain(source: Path, target: Path, *, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
    sides = (read_lines(path, notes=notes, limits=limits) for path in (source, target))
    for number, (left, right) in enumerate(zip_longest(*sides)):
        if left is None or right is None:
            ended = shown_name(source if left is None else target)
            raise DataError(f"{ended}: ends after line {number:,}, before the other side does", expected="as many lines on both sides")
        yield left, right


def _at(pairs: Iterator[SentencePair], places: Iterable[int]) -> Iterator[SentencePair]:
    """The pairs at some places, in their order; all are read."""
    wanted = iter(places)
    following = next(wanted, None)
    for place, pair in enumerate(pairs):
        if place == following:
            yield pair
            following = next(wanted, None)


TextFormat = Literal["plain", "tsv", "csv", "json", "jsonl", "tmx", "po", "xliff", "prepared"]
_SUFFIXES: dict[str, TextFormat] = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tmx": "tmx",
    ".po": "po",
    ".xliff": "xliff",
    ".xlf": "xliff",
}
_ONE_FILE = "one TSV, CSV, JSON, JSONL, TMX, PO or XLIFF file"


class ParallelText(Config):
    """Files of parallel text and their format."""

    source: Path
    """The source sentences; or the one file of any other format; `-` is stdin. .gz, .bz2, .xz and .zst are unpacked while read."""
    target: Path | None = None
    """The target sentences, when they are in a file of their own."""
    format: Literal["auto", "plain", "tsv", "csv", "json", "jsonl", "tmx", "po", "xliff", "prepared"] = "auto"
    """File format; auto goes by the name of the file. `tsv`: no quotes; `csv`: fields may be quoted, also with tabs between;
    `prepared`: the pairs that a run was trained on, RUN/data/prepared.json."""
    columns: tuple[int | str, int | str] | None = None
    """Which columns of a TSV or CSV are source and target, by number from 1 or by name; of JSON, which keys. Unset: guessed and
    reported."""
    delimiter: str = Field(default="", max_length=1)
    """Delimiter of the fields of a CSV; empty: guessed."""
    languages: tuple[str, str] | None = None
    """Source and target language, such as ["en", "fr"]: needed for TMX, and for JSON of {"translation": {"en": ..., "fr": ...}}."""
    name: str = ""
    """Name of this corpus in reports; empty: the name of the source file."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight of this corpus when several are mixed, relative to the others."""
    most: int = Field(default=0, ge=0)
    """At most so many pairs of this corpus are read, spread evenly over it. 0: all."""
    tag: str = Field(default="", max_length=40)
    """A word that is put before every source, such as <2fr>: of a model for several target languages or styles, it says which."""
    holdout: bool = True
    """Whether dev and test pairs may be held out from this corpus. No for text that is no fair test, such as back-translations."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "ParallelText":
        kind = self.kind
        if (kind == "plain") != (self.target is not None):
            raise UsageError(
                f"{self.source}: {kind} text with{'' if self.target else 'out'} a target file", expected=f"two files, or {_ONE_FILE}"
            )
        if self.source == self.target == STDIN:
            raise UsageError("both sides from stdin", expected="at most one", remedy="pipe in TSV: --corpus -,format=tsv")
        if kind == "tmx" and self.languages is None:
            raise UsageError(f"{self.source}: TMX without languages", remedy="name them: --languages en,fr")
        if self.columns is not None and kind not in ("tsv", "csv", "json", "jsonl"):
            raise UsageError(f"{self.source}: columns of {kind} text", expected="columns with TSV, CSV or JSON")
        if self.columns is not None and (
            self.columns[0] == self.columns[1] or any(column == "" or (isinstance(column, int) and column < 1) for column in self.columns)
        ):
            raise UsageError(f"{self.source}: columns {self.columns[0]} and {self.columns[1]}", expected="two, by number from 1 or by name")
        if self.tag and (self.tag.split() != [self.tag] or not self.tag.isprintable()):
            raise UsageError(f"{self.source}: tag {self.tag!r}", expected="one word, such as <2fr>")
        if self.delimiter and kind != "csv":
            raise UsageError(f"{self.source}: a delimiter of {kind} text", expected="a delimiter with format=csv")
        return self

    @property
    def kind(self) -> TextFormat:
        """The format, found from the names where it is `auto`. Raises UsageError when it cannot be found."""
        if self.format != "auto":
            return self.format
        if self.target is not None:
            return "plain"
        if self.source.name == INDEX:
            return "prepared"
        found = _SUFFIXES.get(bare_name(self.source).suffix.lower())
        if found is None:
            if self.source != STDIN and self.source.is_file():
                open_text(self.source, limits=DEFAULT_LIMITS).close()  # reports the kind of a file that is not text
            raise UsageError(
                f"{shown_name(self.source)}: one file of unknown format",
                expected=f"a name ending in {' '.join(_SUFFIXES)}, or two plain files",
                remedy="name its format: --corpus FILE,format=tsv; or give both files: --corpus FILE,FILE",
            )
        return found

    @property
    def label(self) -> str:
        """Name of this corpus in reports."""
        return self.name or shown_name(self.source)

    def tagged(self, source: str) -> str:
        """A source with this corpus's tag before it."""
        return f"{self.tag} {source}" if self.tag else source

    @property
    def _paths(self) -> tuple[Path, ...]:
        return (self.source,) if self.target is None else (self.source, self.target)

    @property
    def _asked(self) -> TableOptions:
        return TableOptions(self.columns, self.languages)

    def count(self, *, limits: Limits = DEFAULT_LIMITS) -> int:
        """Count the pairs, in a quick pass over the files; at most `most`.

        Raises: DataError when a file cannot be read or the sides are unequal: both counts, and a guess where the lines stop matching;
        UsageError for
                stdin and pipes, which cannot be read twice.
        """
        found = self._count(limits)
        return min(found, self.most) if self.most else found

    def _count(self, limits: Limits) -> int:
        streams = [shown_name(path) for path in self._paths if is_stream(path)]
        if streams:
            raise UsageError(f"{streams[0]}: cannot be counted and then read", expected="a file", remedy="store it in a file first")
        if self.kind == "tsv":
            table = self._table(Notes(), limits)
            if not table.dialect.quoted:  # every line is a row
                return count_lines(self.source, limits=limits) - table.layout.header
            return count_rows(table)
        if self.kind == "prepared":
            return count_prepared_pairs(self.source)
        if self.kind == "jsonl":
            self._json(Notes(), limits)
        elif self.target is None:
            return sum(1 for _ in self._records(Notes(), limits))
        counts = [count_lines(path, limits=limits) for path in self._paths]
        if self.target is not None and counts[0] != counts[1]:
            _refuse_unequal(self.source, self.target, counts=(counts[0], counts[1]), limits=limits)
        return counts[0]

    def pairs(self, *, notes: Notes | None = None, limits: Limits = DEFAULT_LIMITS) -> Iterator[SentencePair]:
        """Yield every pair in order, none left out; with `most`, so many of them.

        The lengths of two files are compared before the first pair; those of pipes and stdin only at their end.

        Args:    notes: gets the repairs.
        Raises:  DataError at the call or while reading (file:line first): see the module; UsageError never.
        """
        before = [stamp(path) for path in self._paths]
        files = [path for path in self._paths if not is_stream(path)]
        if len(files) == 2 and not self.most:
            self._count(limits)
        for path in files:
            open_text(path, limits=limits, xml=self.kind in ("tmx", "xliff")).close()
        every = self._checked(before, notes=Notes() if notes is None else notes, limits=limits)
        if not self.most:
            return every
        total = self._count(limits)
        # Pair k of n is taken where k * most / n passes a whole number: n pairs give `most` of them, wherever they begin.
        taken = (place for place in range(total) if (place + 1) * self.most // total > place * self.most // total)
        return _at(every, taken if total > self.most else range(total))

    def describe(self, *, limits: Limits = DEFAULT_LIMITS) -> str:
        """Notes on the guessed format, with the first three pairs; empty where nothing was guessed.

        Raises: DataError where the format cannot be found.
        """
        guessed, shown = "", list[tuple[str, str]]()
        if self.kind in ("tsv", "csv"):
            table = self._table(Notes(), limits)
            guessed, shown = "; ".join(filter(None, (table.dialect.guessed, table.layout.guessed))), table.shown
        elif self.kind in ("json", "jsonl"):
            records = self._json(Notes(), limits)
            guessed, shown = records.guessed, records.shown
        return (
            ""
            if not guessed
            else "\n".join([f"{self.label}: {guessed}", *(f"  {shorten_cell(s)}  |  {shorten_cell(t)}" for s, t in shown)])
        )

    def _checked(self, before: list[tuple[int, int, int, int] | None], *, notes: Notes, limits: Limits) -> Iterator[SentencePair]:
        table = self._table(notes, limits) if self.kind in ("tsv", "csv") else None
        records = self._records(notes, limits) if table is None else read_table(table, notes=notes, name=shown_name(self.source))
        first = 2 if table is not None and table.layout.header else 1  # line n of the file, as an editor shows it
        for number, (source, target) in enumerate(records, first):
            yield SentencePair(source, target, number)
        for path, stamped in zip(self._paths, before, strict=True):
            require_unchanged(path, stamped)

    def _table(self, notes: Notes, limits: Limits) -> Table:
        texts = read_lines(self.source, notes=notes, limits=limits)
        kind = "auto" if self.kind == "tsv" and self.format == "auto" else self.kind
        return open_table(texts, kind=kind, delimiter=self.delimiter, asked=self._asked, name=shown_name(self.source))

    def _json(self, notes: Notes, limits: Limits) -> Records:
        stream = open_text(self.source, limits=limits)
        return open_records(stream, self._asked, name=shown_name(self.source), notes=notes, limits=limits)

    def _records(self, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
        if self.target is not None:
            return _read_plain(self.source, self.target, notes=notes, limits=limits)
        match self.kind:
            case "tsv" | "csv":
                return read_table(self._table(notes, limits), notes=notes, name=shown_name(self.source))
            case "json" | "jsonl":
                return read_records(self._json(notes, limits), self._asked, name=shown_name(self.source))
            case "prepared":
                return read_prepared_pairs(self.source)
            case "po" | "xliff" as kind:
                return read_catalogue(self.source, kind, languages=self.languages, notes=notes, limits=limits)
            case _:
                assert self.languages is not None
                return read_tmx(self.source, languages=self.languages, limits=limits)
