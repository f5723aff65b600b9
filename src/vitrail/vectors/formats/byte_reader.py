"""Reads a file of vectors piece by piece, plain or compressed, and says where it ends too early."""

from pathlib import Path
from types import TracebackType

import numpy as np

from vitrail.data.reading.lines import open_bytes
from vitrail.errors import DataError
from vitrail.vectors.ngrams import Matrix

_PIECE_BYTES = 1 << 20
COPY_AGAIN = "copy or download the file again"


class ByteReader:
    """The bytes of a file in order, unpacked where its name and content say that it is compressed.

    Args:   path: a file; a compressed one (.gz, .bz2, .xz, .zst) is unpacked while it is read.
    Raises: DataError where it cannot be opened, is damaged, or ends before what is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = open_bytes(path)
        self._held, self._at = b"", 0

    def __enter__(self) -> "ByteReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stream.close()

    def _more(self) -> bool:
        """Hold some more bytes; whether there were any."""
        found = self._stream.read(_PIECE_BYTES)
        self._held, self._at = self._held[self._at :] + found, 0
        return bool(found)

    def peek(self, size: int) -> bytes:
        """At most so many bytes, which stay to be read; fewer only where the file ends."""
        while len(self._held) - self._at < size and self._more():
            pass
        return self._held[self._at : self._at + size]

    def exactly(self, size: int, *, what: str) -> bytes:
        """So many bytes. Args: what: what they are, for the error where they are not there."""
        found = self.peek(size)
        if len(found) < size:
            raise self.cut_short(what)
        self._at += size
        return found

    def until(self, mark: bytes, *, most: int, what: str) -> bytes:
        """The bytes before a mark of one byte, which is read too. Raises DataError where the mark is not among so many bytes."""
        searched = 0
        while (place := self._held.find(mark, self._at + searched)) < 0:
            searched = len(self._held) - self._at
            if searched > most:
                break
            if not self._more():
                raise self.cut_short(what)
        if place < 0 or place - self._at > most:
            raise DataError(f"{self.path}: {what} is longer than {most:,} bytes", expected="a file of word vectors", remedy=COPY_AGAIN)
        found = self._held[self._at : place]
        self._at = place + 1
        return found

    def line(self, *, most: int) -> bytes:
        """A line with its end; without one at the end of the file, and empty after it. Not more than so many bytes of it."""
        place = self._held.find(b"\n", self._at)
        while place < 0 and len(self._held) - self._at < most:
            searched = len(self._held) - self._at
            if not self._more():
                break
            place = self._held.find(b"\n", self._at + searched)
        end = min(place + 1 if place >= 0 else len(self._held), self._at + most)
        found = self._held[self._at : end]
        self._at = end
        return found

    def fill(self, matrix: Matrix, *, what: str) -> None:
        """Read the numbers of a matrix, row by row, as little-endian float32."""
        if not matrix.size:
            return
        rows = max(1, _PIECE_BYTES // (4 * matrix.shape[1]))
        for start in range(0, len(matrix), rows):
            part = matrix[start : start + rows]
            part[:] = np.frombuffer(self.exactly(4 * part.size, what=what), dtype="<f4").reshape(part.shape)

    def cut_short(self, what: str) -> DataError:
        """The error for a file that ends within something."""
        return DataError(f"{self.path}: ends within {what}", expected="the whole file", remedy=COPY_AGAIN)
