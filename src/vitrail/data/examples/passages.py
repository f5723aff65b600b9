"""Passages of a text, for models that read a line, or a few neighbouring ones, by themselves: what `Batches` batches by length."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vitrail.data.batches import Indices, Lengths
from vitrail.data.blocks import Ring
from vitrail.data.preparing.store import Store
from vitrail.data.windows import Documents, document_starts
from vitrail.errors import DataError


class Passages:
    """Rows of ids with at most `length` tokens each; every token of the text is in one of them, but for ends of lines between them.

    A passage is one line, or, where documents are longer than a line, as many neighbouring lines of one document as fit, with the end of
    a line (EOS) between them. A longer line is cut in pieces of about equal length.

    Source and target of a passage are the same row (see `batches.Pairs`).
    Args:   stores: of text. length: without the marks at its ends.
    Raises: DataError where no line holds anything.
    """

    def __init__(self, stores: Sequence[Store], *, length: int, documents: Documents = "line") -> None:
        self._ring = Ring(stores)
        starts = self._ring.starts[:-1].tolist()
        lengths = [store.lengths("text") for store in stores]
        ends = np.concatenate([start + np.cumsum(of_text, dtype=np.int64) for of_text, start in zip(lengths, starts, strict=True)])
        closed = np.isin(ends - 1, document_starts(stores, self._ring.starts, documents))
        self._starts, self._ends = _cut(ends, closed, length=length)
        if len(self._starts) == 0:
            raise DataError("no line of the text holds anything", expected="lines to learn from")

    @property
    def source_lengths(self) -> Lengths:
        """Of every passage."""
        return (self._ends - self._starts).astype(np.int32)

    target_lengths = source_lengths

    def __len__(self) -> int:
        return len(self._starts)

    def source(self, index: int, /) -> npt.NDArray[np.int32]:
        """The ids of a passage, without the mark at its end."""
        start = int(self._starts[index])
        return self._ring.read(start, int(self._ends[index]) - start).astype(np.int32)

    target = source


def _cut(ends: Indices, closed: npt.NDArray[np.bool_], *, length: int) -> tuple[Indices, Indices]:
    """The first place of each passage and the one after its last.

    Args: ends: the place after each line, whose last token is its EOS. closed: whether a document ends with the line.
    """
    starts = np.concatenate([[0], ends[:-1]])
    found: list[tuple[int, int]] = []
    begin = -1
    for start, end, last in zip(starts.tolist(), (ends - 1).tolist(), closed.tolist(), strict=True):
        if begin >= 0 and end - begin > length:  # the line does not fit behind those before it
            found.append((begin, start - 1))
            begin = -1
        if last and start == end and begin >= 0:  # an empty line that only ends the document
            found.append((begin, start - 1))
            begin = -1
        if end - start > length:
            pieces = -(-(end - start) // length)
            marks = np.linspace(start, end, pieces + 1).round().astype(int).tolist()
            found += list(pairwise(marks))
            continue
        begin = start if begin < 0 else begin
        if last:
            found.append((begin, end))
            begin = -1
    if begin >= 0:
        found.append((begin, int(ends[-1]) - 1))
    kept = np.array([span for span in found if span[1] > span[0]], dtype=np.int64).reshape(-1, 2)
    return kept[:, 0], kept[:, 1]
