"""Vectors as text: a word and its numbers in each line, with a header (word2vec, fastText's .vec) or without (GloVe)."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.errors import DataError
from vitrail.vectors.formats.byte_reader import COPY_AGAIN, ByteReader
from vitrail.vectors.formats.gathering import Gathered, Gathering, Header, Say, require_room
from vitrail.vectors.ngrams import Matrix

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACES = b" \t\r\n"
_BLOCK_NUMBERS = 1 << 18
_MOST_LINE_BYTES = 1 << 24
_LOOKED_AT_LINES = 100
_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?\s*(\d{1,18})[ \t]+(\d{1,18})\s*")


class _Line(NamedTuple):
    number: int
    text: bytes
    """Without the spaces at its end."""


def read_header(line: bytes) -> Header | None:
    """The number of words and of numbers a word, where a first line is that; None where it is a word's line."""
    found = _HEADER.fullmatch(line)
    return None if found is None else Header(int(found[1]), int(found[2]))


def numbers(text: bytes) -> Matrix | None:
    """Numbers with spaces between them, as float32; None where something else is among them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what older versions of NumPy have in place of an error
            return np.fromstring(text, dtype=np.float32, sep=" ")
    except (ValueError, DeprecationWarning):
        return None


def is_number(field: bytes) -> bool:
    """Whether a field is one number."""
    found = numbers(field)
    return found is not None and len(found) == 1


def guess_dimension(lines: Sequence[bytes]) -> int:
    """How many numbers stand after a word in most of some lines; 0 where none do. Words may be numbers, and may have spaces in them."""
    found: Counter[int] = Counter()
    for line in lines:
        fields = line.split()
        trailing = next((place for place, field in enumerate(reversed(fields)) if not is_number(field)), len(fields))
        if fields:
            found[min(trailing, len(fields) - 1)] += 1
    return found.most_common(1)[0][0] if found else 0


def read_text(path: Path, *, limit: int | None, say: Say) -> Gathered:
    """The words and vectors of a file in text. Args: limit: only so many words. Raises DataError that names the line."""
    with ByteReader(path) as reader:
        first = reader.peek(1 << 12).partition(b"\n")[0]
        header = read_header(first)
        if header is not None:
            require_room(path, header, least_bytes=2 * header.words * header.dimension)
            dimension, source = header.dimension, "the header says"
            reader.line(most=_MOST_LINE_BYTES)
        else:
            head = reader.peek(1 << 20).removeprefix(BYTE_ORDER_MARK).split(b"\n")[:_LOOKED_AT_LINES]
            dimension, source = guess_dimension(head[:-1] or head), "most lines have"
        if dimension < 1:
            raise DataError(f"{path}:1: no numbers after a word", expected="a word and its numbers in each line", remedy=COPY_AGAIN)
        gathering = Gathering(path, dimension=dimension, unit="line", limit=limit)
        if first.startswith(BYTE_ORDER_MARK):
            gathering.note("begins with a byte order mark: removed", 1)
        expected = f"{dimension} numbers after the word, as {source}"
        for block in _blocks(reader, gathering, start=1 if header is None else 2, dimension=dimension):
            words, rows = _parse(path, block, dimension=dimension, expected=expected)
            places = [line.number for line in block]
            gathering.rows(rows, of=gathering.words(words, places), places=places)
            if header is not None and gathering.seen > header.words:
                raise _miscounted(path, header, f"line {places[-(gathering.seen - header.words)]} is one more")
    if header is not None and gathering.seen < header.words and gathering.wanted != 0:
        raise _miscounted(path, header, f"there are {gathering.seen:,}")
    return gathering.finish(say)


def _miscounted(path: Path, header: Header, found: str) -> DataError:
    return DataError(f"{path}: its header says {header.words:,} words, and {found}", remedy=f"{COPY_AGAIN}, or correct its first line")


def _blocks(reader: ByteReader, gathering: Gathering, *, start: int, dimension: int) -> Iterator[list[_Line]]:
    """The lines that hold something, several at a time, until the file ends or enough words are read."""
    size, block, number = max(1, _BLOCK_NUMBERS // dimension), list[_Line](), start
    while raw := reader.line(most=_MOST_LINE_BYTES):
        if len(raw) == _MOST_LINE_BYTES:
            raise DataError(f"{reader.path}:{number}: is longer than {_MOST_LINE_BYTES:,} bytes", expected="a word and its numbers")
        if raw.endswith(b"\r\n"):
            gathering.note("ends in a carriage return: removed", number)
        text = (raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw).rstrip(_SPACES)
        if text:
            block.append(_Line(number, text))
        elif raw.strip(b"\r\n") or reader.peek(1):
            gathering.note("is blank: left out", number)
        wanted = gathering.wanted
        if len(block) == size or (wanted is not None and len(block) == wanted):
            yield block
            block = []
            if gathering.wanted == 0:
                return
        number += 1
    if block:
        yield block


def _parse(path: Path, block: list[_Line], *, dimension: int, expected: str) -> tuple[list[bytes], Matrix]:
    """Words and vectors of some lines: all at once where each has one word and its numbers, otherwise line by line."""
    parts = [line.text.partition(b" ") for line in block]
    if all(len(rest.split()) == dimension for _, _, rest in parts):
        found = numbers(b" ".join(rest for _, _, rest in parts))
        if found is not None and len(found) == dimension * len(block):
            return [word for word, _, _ in parts], found.reshape(len(block), dimension)
    pairs = [_parse_line(path, line, dimension=dimension, expected=expected) for line in block]
    return [word for word, _ in pairs], np.stack([row for _, row in pairs])


def _parse_line(path: Path, line: _Line, *, dimension: int, expected: str) -> tuple[bytes, Matrix]:
    """A line whose word may have spaces in it, or be empty. Raises DataError for another number of numbers, or what is none."""
    parts = line.text.rsplit(None, dimension)
    if len(parts) == dimension and line.text[:1] in (b" ", b"\t"):
        parts = [b"", *parts]
    inner = parts[0].split()[1:]
    if len(parts) <= dimension or (inner and is_number(inner[-1])):
        count = next((place for place, field in enumerate(reversed(line.text.split())) if not is_number(field)), len(parts) - 1)
        raise DataError(f"{path}:{line.number}: {count} numbers", expected=expected, remedy=COPY_AGAIN)
    found = numbers(b" ".join(parts[1:]))
    if found is None or len(found) != dimension:
        wrong = next((field for field in parts[1:] if not is_number(field)), b"")
        shown = wrong[:40].decode("utf-8", "backslashreplace")
        raise DataError(f"{path}:{line.number}: {shown!r} is not a number", expected=expected, remedy=COPY_AGAIN)
    return parts[0], found


def write_text(write: Callable[[bytes], object], words: Sequence[str], rows: Iterator[Matrix], *, header: Header | None) -> None:
    """Write a word and its numbers a line; each number with as few digits as give the same float32 back.

    Args: rows: the vectors, some rows at a time. header: what the first line says; None: there is none (GloVe).
    """
    if header is not None:
        write(f"{header.words} {header.dimension}\n".encode())
    number = 0
    for block in rows:
        lines = (f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words[number : number + len(block)], block, strict=True))
        write("".join(lines).encode("utf-8"))
        number += len(block)
