"""The binary format of the word2vec program: a header in text, then each word, a space, and its numbers as float32."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vitrail.errors import DataError
from vitrail.vectors.formats.byte_reader import COPY_AGAIN, ByteReader
from vitrail.vectors.formats.gathering import Gathered, Gathering, Header, Say, require_room
from vitrail.vectors.formats.text import read_header
from vitrail.vectors.ngrams import Matrix

MOST_WORD_BYTES = 1 << 16
_BLOCK_NUMBERS = 1 << 18


def read_binary(path: Path, *, limit: int | None, say: Say) -> Gathered:
    """The words and vectors of a file of the word2vec program. Args: limit: only so many words. Raises DataError that names the word."""
    with ByteReader(path) as reader:
        header = read_header(reader.line(most=1 << 12).rstrip(b"\n"))
        assert header is not None, "detected by its header"
        require_room(path, header, least_bytes=header.words * (1 + 4 * header.dimension))
        gathering = Gathering(path, dimension=header.dimension, unit="word", limit=limit)
        wanted = header.words if limit is None else min(limit, header.words)
        size = max(1, _BLOCK_NUMBERS // header.dimension)
        for start in range(0, wanted, size):
            places = range(start + 1, min(wanted, start + size) + 1)
            words, rows = list[bytes](), np.zeros((len(places), header.dimension), dtype=np.float32)
            for row, place in zip(rows, places, strict=True):
                words.append(_word(reader, place, header))
                row[:] = np.frombuffer(reader.exactly(4 * header.dimension, what=f"the vector of word {place}"), dtype="<f4")
            gathering.rows(rows, of=gathering.words(words, places), places=places)
        if wanted == header.words and reader.peek(2).strip(b"\n"):
            raise DataError(f"{path}: its header says {header.words:,} words, and more follow", remedy=f"{COPY_AGAIN}, or correct it")
    return gathering.finish(say)


def _word(reader: ByteReader, place: int, header: Header) -> bytes:
    """A word before its space. Some programs end each vector with a line end, others do not."""
    word = reader.until(b" ", most=MOST_WORD_BYTES, what=f"word {place} of {header.words:,}").lstrip(b"\n")
    if any(byte < 0x20 for byte in word):
        raise DataError(
            f"{reader.path}: word {place}: {word[:40]!r} holds control characters",
            expected=f"a word, after {header.dimension} numbers a word as the header says",
            remedy=f"{COPY_AGAIN}; perhaps the header has another dimension than the vectors",
        )
    return word


def write_binary(write: Callable[[bytes], object], words: Sequence[str], rows: Iterator[Matrix], *, header: Header) -> None:
    """Write the format as the word2vec program does, with a line end after each vector. Args: rows: some vectors at a time."""
    write(f"{header.words} {header.dimension}\n".encode())
    number = 0
    for block in rows:
        pairs = zip(words[number : number + len(block)], block.astype("<f4", copy=False), strict=True)
        write(b"".join(word.encode("utf-8") + b" " + row.tobytes() + b"\n" for word, row in pairs))
        number += len(block)
