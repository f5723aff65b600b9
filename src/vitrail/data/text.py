"""Parallel text (two plain files, TSV, JSONL, TMX; gzip; stdin), one pair at a time, by the rules of `lines`."""

import json
from collections.abc import Iterator
from itertools import islice, zip_longest
from math import log
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.lines import (
    CUT_MARK,
    DEFAULT_LIMITS,
    STDIN,
    Limits,
    Notes,
    count_lines,
    is_cut,
    is_stream,
    lines,
    one_line,
    open_text,
    read_lines,
    require_unchanged,
    shown_name,
    stamp,
)
from vitrail.data.tmx import read_tmx
from vitrail.errors import DataError, UsageError

__all__ = ["CUT_MARK", "DEFAULT_LIMITS", "STDIN", "Limits", "Notes", "ParallelText", "SentencePair", "is_cut", "lines"]


class SentencePair(NamedTuple):
    """One sentence and its translation; `line` counts lines (TMX: translation units) from 1."""

    source: str
    target: str
    line: int


def _fit(source: str, target: str, ratio: float) -> float:
    """How well two lines could be translations by their looks: length against the corpus ratio, final mark, numbers, emptiness."""
    if not source or not target:
        return 0.0 if source == target else -3.0
    score = -min(abs(log((len(source) + 5) / (len(target) + 5) / ratio)), 2.0)
    score += source[-1] == target[-1] or (source[-1].isalnum() and target[-1].isalnum())
    return score + (any(map(str.isdigit, source)) == any(map(str.isdigit, target)))


def _first_suspicious(longer: Path, shorter: Path, *, surplus: int, limits: Limits) -> int:
    """Guess the line from which two files no longer match, when one has `surplus` lines more.

    Suppose the surplus lines stand together before line k of the longer file. Then lines fit straight across before k and `surplus`
    apart after it; the k returned maximises the summed fit (see _fit), found in one pass as the peak of a running sum of differences.
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


def _read_tsv(path: Path, *, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
    """The first two columns. More are ignored and counted; a line without a tab is refused unless it is empty."""
    extra = 0
    for number, text in enumerate(read_lines(path, notes=notes, limits=limits), 1):
        columns = text.split("\t", 2)
        if is_cut(text):
            yield CUT_MARK, CUT_MARK
        elif len(columns) == 1 and text:
            raise DataError(f"{shown_name(path)}:{number}: has no tab", expected="source, a tab, target")
        else:
            extra += len(columns) > 2
            yield columns[0], columns[1] if text else ""
    notes.add(shown_name(path), "line with further columns, ignored", extra)


def _json_sides(record: Any, *, languages: tuple[str, str] | None) -> tuple[Any, Any]:
    if languages is not None and "translation" in record:
        return record["translation"][languages[0]], record["translation"][languages[1]]
    return record["source"], record["target"]


def _read_jsonl(path: Path, *, languages: tuple[str, str] | None, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(read_lines(path, notes=notes, limits=limits), 1):
        if is_cut(text) or not text:
            yield text[-1:], text[-1:]  # the mark alone, or an empty pair
            continue
        try:
            sides = _json_sides(json.loads(text), languages=languages)
            if not all(isinstance(side, str) for side in sides):
                raise TypeError("a side is not text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            wanted = '{"source": "...", "target": "..."}' + (' or {"translation": {...}} with both languages' if languages else "")
            raise DataError(f"{shown_name(path)}:{number}: not a pair ({type(error).__name__}: {error})", expected=wanted) from None
        yield one_line(sides[0]), one_line(sides[1])


class ParallelText(Config):
    """Where parallel text is and how it is written."""

    source: Path
    """The source sentences; or the one file of a TSV, JSONL or TMX; `-` is stdin. A name ending in .gz is unzipped while it is read."""
    target: Path | None = None
    """The target sentences, when they stand in a file of their own."""
    format: Literal["auto", "plain", "tsv", "jsonl", "tmx"] = "auto"
    """How pairs are written; auto goes by the name of the file."""
    languages: tuple[str, str] | None = None
    """Source and target language, such as ["en", "fr"]: needed for TMX, and for JSONL of {"translation": {"en": ..., "fr": ...}}."""
    name: str = ""
    """What reports call this corpus; empty: the name of the source file."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How often this corpus is drawn from when several are mixed, relative to the others."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "ParallelText":
        kind = self.kind
        if (kind == "plain") != (self.target is not None):
            raise UsageError(
                f"{self.source}: {kind} text with{'' if self.target else 'out'} a target file",
                expected="two files, or one TSV, JSONL or TMX",
            )
        if self.source == self.target == STDIN:
            raise UsageError("both sides from stdin", expected="at most one", remedy="pipe in TSV and set format to tsv")
        if kind == "tmx" and self.languages is None:
            raise UsageError(f"{self.source}: TMX without languages", remedy='set languages, for example ["en", "fr"]')
        return self

    @property
    def kind(self) -> Literal["plain", "tsv", "jsonl", "tmx"]:
        """The format, found from the names where it is `auto`. Raises UsageError when they do not tell."""
        if self.format != "auto":
            return self.format
        if self.target is not None:
            return "plain"
        match Path(self.source.name.removesuffix(".gz")).suffix.lower():
            case ".tsv":
                return "tsv"
            case ".jsonl":
                return "jsonl"
            case ".tmx":
                return "tmx"
            case _:
                raise UsageError(
                    f"{self.source}: one file of unknown format", expected=".tsv, .jsonl or .tmx, or a target file", remedy="set format"
                )

    @property
    def label(self) -> str:
        """What reports call this corpus."""
        return self.name or shown_name(self.source)

    @property
    def _paths(self) -> tuple[Path, ...]:
        return (self.source,) if self.target is None else (self.source, self.target)

    def count(self, *, limits: Limits = DEFAULT_LIMITS) -> int:
        """How many pairs there are, after a quick pass over the files.

        Raises: DataError when a file cannot be read or the sides are unequal: both counts, and a guess where they part; UsageError for
                stdin and pipes, which cannot be read twice.
        """
        streams = [shown_name(path) for path in self._paths if is_stream(path)]
        if streams:
            raise UsageError(f"{streams[0]}: cannot be counted and then read", expected="a file", remedy="store it in a file first")
        if self.kind == "tmx":
            return sum(1 for _ in self._records(Notes(), limits))
        counts = [count_lines(path, limits=limits) for path in self._paths]
        if self.target is not None and counts[0] != counts[1]:
            _refuse_unequal(self.source, self.target, counts=(counts[0], counts[1]), limits=limits)
        return counts[0]

    def pairs(self, *, notes: Notes | None = None, limits: Limits = DEFAULT_LIMITS) -> Iterator[SentencePair]:
        """Yield every pair in order, none left out.

        Two files are compared in length before the first pair; a pipe or stdin can only be found shorter when it ends.

        Args:    notes: filled with what was repaired.
        Raises:  DataError at the call or while reading (file:line first): see the module; UsageError never.
        """
        before = [stamp(path) for path in self._paths]
        files = [path for path in self._paths if not is_stream(path)]
        if len(files) == 2:
            self.count(limits=limits)
        for path in files:
            open_text(path, limits=limits, xml=self.kind == "tmx").close()
        return self._checked(before, notes=Notes() if notes is None else notes, limits=limits)

    def _checked(self, before: list[tuple[int, int, int, int] | None], *, notes: Notes, limits: Limits) -> Iterator[SentencePair]:
        for number, (source, target) in enumerate(self._records(notes, limits), 1):
            yield SentencePair(source, target, number)
        for path, stamped in zip(self._paths, before, strict=True):
            require_unchanged(path, stamped)

    def _records(self, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
        if self.target is not None:
            return _read_plain(self.source, self.target, notes=notes, limits=limits)
        if self.kind == "tsv":
            return _read_tsv(self.source, notes=notes, limits=limits)
        if self.kind == "jsonl":
            return _read_jsonl(self.source, languages=self.languages, notes=notes, limits=limits)
        assert self.languages is not None
        return read_tmx(self.source, languages=self.languages, limits=limits)
