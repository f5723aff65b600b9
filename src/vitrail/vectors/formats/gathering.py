"""Gathers the words and vectors of a file while it is read, and says what was wrong with them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.errors import DataError
from vitrail.vectors.formats.byte_reader import COPY_AGAIN
from vitrail.vectors.ngrams import Matrix, Rows

Say = Callable[[str], None]
_FIRST_ROWS = 4096


class Header(NamedTuple):
    """What the first line of a file says of it."""

    words: int
    dimension: int


class Gathered(NamedTuple):
    """Words and their vectors, and which of the file's entries they are."""

    words: list[str]
    matrix: Matrix
    entries: Rows


class Gathering:
    """Words and vectors of a file so far. Memory grows with what was read, never with what a header promises.

    Args:
        dimension: numbers of each vector.
        unit: what an entry is called in messages: a "line" or a "word" of the file.
        limit: entries to read; None: all.
        any_bytes: leave out words that are not UTF-8, whatever is wrong with them. Otherwise only words whose last character was
            cut are left out, as some programs cut long words after so many bytes, and other words refuse the file.
    """

    def __init__(self, path: Path, *, dimension: int, unit: str, limit: int | None = None, any_bytes: bool = False) -> None:
        self._path, self._unit, self._limit, self._any_bytes = path, unit, limit, any_bytes
        self._words: dict[str, None] = {}
        self._entries: list[int] = []
        self._matrix = np.zeros((0, dimension), dtype=np.float32)
        self._notes: dict[str, tuple[int, int]] = {}
        self._filled = 0
        self.dimension = dimension
        self.seen = 0
        """Entries so far, with those that were left out."""

    @property
    def wanted(self) -> int | None:
        """Entries that are still to be read; None: as many as there are."""
        return None if self._limit is None else self._limit - self.seen

    def note(self, what: str, place: int) -> None:
        """Remember that something was mended. Args: place: the number of the line or word."""
        number, first = self._notes.get(what, (0, place))
        self._notes[what] = number + 1, first

    def words(self, words: Sequence[bytes], places: Sequence[int]) -> list[int]:
        """Add words, and return which of them are kept: not those that were there before, and not those that are no text.

        Raises DataError for a word that is not UTF-8.
        """
        kept: list[int] = []
        for number, (raw, place) in enumerate(zip(words, places, strict=True)):
            word = self._word(raw, place)
            if word is not None:
                self._words[word] = None
                self._entries.append(self.seen + number)
                kept.append(number)
        self.seen += len(words)
        return kept

    def _word(self, raw: bytes, place: int) -> str | None:
        try:
            word = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if not self._any_bytes and error.reason != "unexpected end of data":
                raise DataError(
                    f"{self._path}: {self._unit} {place}: {raw[:60]!r} is not UTF-8",
                    expected="words in UTF-8",
                    remedy="iconv -f THEIR-ENCODING -t UTF-8 for a file of text; otherwise copy or download it again",
                ) from None
            self.note("is not UTF-8: left out", place)
            return None
        reason = "is empty: left out" if not word else "holds a line end: left out" if "\n" in word else ""
        reason = "is there already: left out" if word in self._words else reason
        if reason:
            self.note(reason, place)
        return None if reason else word

    def rows(self, rows: Matrix, *, of: Sequence[int], places: Sequence[int]) -> None:
        """Add the vectors of words that are kept. Args: of: the rows that are. Raises DataError for a number that is not finite."""
        kept = rows if len(of) == len(rows) else rows[list(of)]
        finite = np.isfinite(kept).all(axis=1)
        if not finite.all():
            place = places[of[int(np.argmin(finite))]]
            raise DataError(
                f"{self._path}: {self._unit} {place}: holds a number that is not finite in 32 bits (NaN or infinity)",
                expected="finite numbers",
                remedy="leave that word out, or train again at a lower rate",
            )
        end = self._filled + len(kept)
        if end > len(self._matrix):
            # No view of it was handed on, and on Linux a large block of memory grows without a copy.
            self._matrix.resize((max(end, _FIRST_ROWS, len(self._matrix) * 5 // 4), self._matrix.shape[1]), refcheck=False)
        self._matrix[self._filled : end] = kept
        self._filled = end

    def finish(self, say: Say) -> Gathered:
        """What was gathered; what was mended is told. Raises DataError where no word is left."""
        for what, (number, first) in self._notes.items():
            where = f"{self._unit} {first}" if number == 1 else f"{number:,} {self._unit}s, the first {first}"
            say(f"{self._path}: {where}: {what}")
        if not self._words:
            raise DataError(f"{self._path}: holds no word vectors", expected="a word and its numbers in each line", remedy=COPY_AGAIN)
        self._matrix.resize((self._filled, self._matrix.shape[1]), refcheck=False)
        return Gathered(list(self._words), self._matrix, np.array(self._entries, dtype=np.int64))


def require_room(path: Path, header: Header, *, least_bytes: int) -> None:
    """Refuse a header that promises nothing, or more than the file can hold, before anything is read. Raises DataError.

    Args: least_bytes: those that so many words need at least in this format.
    """
    said = f"{path}: its header says {header.words:,} words of {header.dimension:,} numbers"
    if header.words < 1 or header.dimension < 1:
        raise DataError(said, expected="at least one word of one number", remedy="train with more text, or correct the header")
    size = None if path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst") else path.stat().st_size
    if size is not None and size < least_bytes:
        raise DataError(f"{said}, {least_bytes:,} bytes at least, and the file has {size:,}", remedy=f"{COPY_AGAIN}, or correct the header")
