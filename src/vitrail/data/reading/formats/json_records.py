"""Read JSON: one record per line, or an array of records; flat, nested, or a list of two texts."""

import codecs
import io
import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, cast

from vitrail.data.reading.formats.layout import LABELLED_NAMES, SAMPLE_CHARACTERS, Column, TableOptions, shorten_cell
from vitrail.data.reading.lines import CUT_MARK, UNITS, Notes, is_cut, one_line, split_lines
from vitrail.data.reading.unpack import BUFFER_BYTES, Limits
from vitrail.errors import DataError

_SAMPLE = 100
_KEYS = (("src", "tgt"), ("src", "trg"), ("source_text", "target_text"), ("source", "human"))
"""The last: corrections of translations, {"source": ..., "machine": ..., "human": ...}."""
_EXPECTED = '{"source": "...", "target": "..."}'
_WHITE = " \t\n\r"


Paths = tuple[Column, Column]
"""Where source and target are: dotted keys, or places in a list, from 1."""


class Record(NamedTuple):
    """One record, and the line on which it begins."""

    line: int
    value: Any
    characters: int
    instead: str | None = None
    """CUT_MARK in place of a record that is too long, empty for an empty line."""


class Records(NamedTuple):
    """Records, and the places of the texts in them."""

    values: Iterator[Record]
    paths: tuple[Paths, ...]
    """The first of these that a record has is used."""
    guessed: str
    shown: list[tuple[str, str]]


def open_records(stream: io.BufferedReader, asked: TableOptions, *, name: str, notes: Notes, limits: Limits) -> Records:
    """Find the places of the texts in the first records. Raises DataError where they are ambiguous."""
    if _begins_array(stream.peek(4096)[:4096]):
        values = _array(stream, name=name, limit=limits.line_bytes)
    else:
        values = _lines(split_lines(stream, name=name, notes=notes, limits=limits), name=name)
    sample = list(_take(values))
    good = [record for record in sample if record.instead is None]
    paths, guessed = _find_paths(good, asked, name=name)
    records = Records(chain(sample, values), paths, guessed, [])
    return records._replace(shown=[pair_of(record, records, asked, name=name) for record in good[:3]] if guessed else [])


def _take(values: Iterator[Record]) -> Iterator[Record]:
    characters = 0
    for record in islice(values, _SAMPLE):
        yield record
        characters += record.characters
        if characters > SAMPLE_CHARACTERS:
            return


def read_records(records: Records, asked: TableOptions, *, name: str) -> Iterator[tuple[str, str]]:
    """Both texts of every record."""
    for record in records.values:
        if record.instead is not None:
            yield record.instead, record.instead
        else:
            yield pair_of(record, records, asked, name=name)


def pair_of(record: Record, records: Records, asked: TableOptions, *, name: str) -> tuple[str, str]:
    """The two texts of a record. Raises DataError with its line where it lacks one."""
    try:
        paths = next((paths for paths in records.paths if all(_has(record.value, path) for path in paths)), records.paths[-1])
        source, target = (_at(record.value, path) for path in paths)
        target = _label(target) if asked.labels else target
        if not (isinstance(source, str) and isinstance(target, str)):
            raise TypeError("a side is not text")
    except (KeyError, TypeError, IndexError) as error:
        raise _no_pair(record, f"{type(error).__name__}: {error}", asked, name=name) from None
    return one_line(source), one_line(target)


def _label(value: Any) -> Any:
    """A label as text: a number or a truth value too, and several of a list with UNITS between them."""
    if isinstance(value, list):
        parts = [_label(one) for one in cast(list[Any], value)]
        return UNITS.join(parts) if all(isinstance(part, str) for part in parts) else value
    return json.dumps(value) if isinstance(value, int | float) else value


def _no_pair(record: Record, why: str, asked: TableOptions, *, name: str) -> DataError:
    nested = ' or {"translation": {...}} with both languages' if asked.languages else ""
    texts = _keys(record.value) if isinstance(record.value, dict) else []
    keys = f"; its keys are {', '.join(map(shorten_cell, texts))}" if texts else ""
    if isinstance(record.value, dict) and not texts:
        keys = f"; none of its keys holds text: {', '.join(map(shorten_cell, list(record.value)[:40]))}"
    return DataError(
        f"{name}:{record.line}: not a pair ({why}){keys}",
        expected='{"text": "...", "label": "..."}' if asked.labels else f"{_EXPECTED}{nested}",
        remedy=f"name the keys: {asked.option} FILE,columns=KEY:KEY (nested ones with dots)",
    )


def _keys(value: Any, prefix: str = "") -> list[str]:
    """The paths of all texts in a record."""
    found: list[str] = []
    for key, below in cast(dict[str, Any], value).items():
        if isinstance(below, str):
            found.append(f"{prefix}{key}")
        elif isinstance(below, dict) and not prefix:
            found += _keys(below, f"{key}.")
    return found[:40]


def _at(value: Any, path: Column) -> Any:
    if isinstance(path, int):
        if not isinstance(value, list):
            raise TypeError("not a list")
        return cast(list[Any], value)[path - 1]
    if isinstance(value, dict) and path in value:  # a key may hold a dot itself
        return cast(dict[str, Any], value)[path]
    for part in path.split("."):
        if not isinstance(value, dict):
            raise TypeError("not an object")
        value = cast(dict[str, Any], value)[part]
    return cast(Any, value)


def _find_paths(sample: Sequence[Record], asked: TableOptions, *, name: str) -> tuple[tuple[Paths, ...], str]:
    if asked.columns is not None:
        return (asked.columns,), ""
    if asked.labels:
        keys: list[str] = list(sample[0].value) if sample and isinstance(sample[0].value, dict) else []
        named = [next((key for key in keys if key.lower() in words), None) for words in LABELLED_NAMES]
        if named[0] is None or named[1] is None:
            return (("text", "label"),), ""
        return ((named[0], named[1]),), "" if named == [
            "text",
            "label",
        ] else f"{named[0]!r} is taken for the text, {named[1]!r} for the label"
    told = asked.languages
    plain = (*(((f"translation.{told[0]}", f"translation.{told[1]}"), told) if told else ()), ("source", "target"))
    values = [record.value for record in sample]
    if not values or any(all(_has(values[0], path) for path in paths) for paths in plain):
        return plain, ""
    if all(isinstance(value, list) and len(cast(list[Any], value)) == 2 for value in values):
        return ((1, 2),), "each record is a list of two texts"
    keys = _keys(values[0]) if isinstance(values[0], dict) else []
    known = next((paths for paths in _KEYS if set(paths) <= set(keys)), None)
    if known is None and len(keys) == 2 and all(isinstance(value, dict) and _keys(value) == keys for value in values):
        known = (keys[0], keys[1])
    if known is None:
        raise _no_pair(sample[0], "no source and target", asked, name=name)
    return (known,), _found(known)


def _found(paths: tuple[str, str]) -> str:
    return f"{paths[0]!r} is taken for the source and {paths[1]!r} for the target"


def _has(value: Any, path: Column) -> bool:
    try:
        return isinstance(_at(value, path), str)
    except (KeyError, TypeError, IndexError):
        return False


# ---- records -------------------------------------------------------------------------------------------------------------------


def _begins_array(head: bytes) -> bool:
    """Whether a file is one array: it opens one, and its first line is not a complete array of texts."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not text.startswith(b"["):
        return False
    try:
        value: Any = json.loads(text.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return True
    return not all(isinstance(one, str) for one in cast(list[Any], value)) or not value


def _lines(texts: Iterator[str], *, name: str) -> Iterator[Record]:
    for line, text in enumerate(texts, 1):
        if is_cut(text):
            yield Record(line, None, len(text), CUT_MARK)
        elif not text.strip(_WHITE):
            yield Record(line, None, len(text), "")
        else:
            yield Record(line, _decode(text, line, name=name), len(text))


def _decode(text: str, line: int, *, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{name}:{line}: not a pair ({type(error).__name__}: {error})",
            expected=f"{_EXPECTED} on each line, or an array of such",
        ) from None


def _array(stream: io.BufferedReader, *, name: str, limit: int) -> Iterator[Record]:
    """The records of one array, decoded one by one while reading: memory is bounded by the longest."""
    with stream:
        reading = _Array(stream, name=name, limit=limit)
        reading.expect("[")
        mark = reading.peek()
        while mark != "]":
            yield reading.record()
            mark = reading.peek()
            if mark != "]":
                reading.expect(",")
        reading.expect("]")
        if reading.peek():
            raise reading.refuse("text after the end of the array")


class _Array:
    """The text of an array, read in pieces."""

    def __init__(self, stream: io.BufferedReader, *, name: str, limit: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._texts = map(decoder.decode, iter(partial(stream.read1, BUFFER_BYTES), b""))
        self._name, self._limit = name, limit
        self._text, self._place, self._line = "", 0, 1
        self._decoder = json.JSONDecoder()

    def refuse(self, why: str) -> DataError:
        return DataError(f"{self._name}:{self._line}: {why}", expected=f"an array of {_EXPECTED}, or one record a line")

    def _more(self) -> bool:
        text = next(self._texts, None)
        if text is not None:
            self._text, self._place = self._text[self._place :] + text, 0
        return text is not None

    def _go_to(self, place: int) -> None:
        self._line += self._text.count("\n", self._place, place)
        self._place = place

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            place = self._place
            while place < len(self._text) and self._text[place] in "\ufeff" + _WHITE:
                place += 1
            self._go_to(place)
            if place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def expect(self, mark: str) -> None:
        """Skip this character. Raises DataError where another one is found."""
        found = self.peek()
        if found != mark:
            raise self.refuse(f"found {found!r}, expected {mark!r}" if found else "the array does not end")
        self._place += 1

    def record(self) -> Record:
        """The next value; it may span several lines."""
        if not self.peek():
            raise self.refuse("the array does not end")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except RecursionError:
                raise self.refuse("not a pair (nested too deep)") from None
            except ValueError as error:
                held = len(self._text) - self._place
                if held > self._limit:
                    raise self.refuse(f"not a pair, or one of more than {self._limit:,} characters ({error})") from None
                # Twice as much each time, so that a long record is not parsed again for each piece.
                while self._more() and len(self._text) < 2 * held:
                    pass
                if len(self._text) - self._place == held:
                    raise self.refuse(f"not a pair ({error})") from None
                continue
            found = Record(self._line, value, end - self._place)
            self._go_to(end)
            return found
