"""A text in windows of a fixed length, for language models that carry no state: packed without padding, in a new order each epoch."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.blocks import Ring
from vitrail.data.preparing.store import Store
from vitrail.errors import DataError

Documents = Literal["file", "paragraph", "line"]
"""What a document is: a file, the lines up to an empty one, or each line."""


class TextWindow(NamedTuple):
    """Tokens of a text, those that follow each of them, and the document that each belongs to. Nothing is padded."""

    tokens: Int[Tensor, "B T"]
    following: Int[Tensor, "B T"]
    documents: Int[Tensor, "B T"]


class Windows:
    """The batches of a training: any of them at any time, a pure function of (text, settings, seed, number).

    The text is a ring. Each epoch cuts it into windows of `length` tokens, from another token on, and reads them in another order; an
    epoch reads every token once, but for those that fill up the last batch. Documents are packed one after the other; the end of line
    that separates two of them belongs to the second, so that its first token is predicted from the mark alone.

    Args:   stores: of text, read one after the other. tokens: of a batch, at most: rows times length. documents: see `Documents`.
    Raises: DataError for a text that is shorter than one window.
    """

    def __init__(self, stores: Sequence[Store], *, tokens: int, length: int, seed: int, documents: Documents = "file") -> None:
        self._ring, self._seed = Ring(stores), seed
        self._size = self._ring.size
        if self._size < length + 1:
            raise DataError(
                f"{self._size:,} tokens of text",
                expected=f"at least {length + 1:,}: a window of {length:,} and what follows it",
                remedy=f"more text, or --set model.context={max(2, self._size - 1)}",
            )
        self.length, self._count = length, self._size // length
        self.rows = max(1, min(tokens // length, self._count))
        self._ends = document_starts(stores, self._ring.starts, documents)
        self._known: tuple[int, int, npt.NDArray[np.int64]] | None = None
        self.sizes = [self._size]
        """Tokens of the text."""

    def epoch_length(self, epoch: int) -> int:
        """How many batches an epoch has: always the same."""
        return -(-self._count // self.rows)

    def locate(self, number: int) -> tuple[int, int]:
        """The epoch and the position in it of batch `number`."""
        return divmod(number, self.epoch_length(0))

    def at(self, epoch: int, position: int) -> TextWindow:
        """The batch at a position of an epoch."""
        entry, order = self._layout(epoch)
        chosen = order[np.arange(position * self.rows, (position + 1) * self.rows) % self._count]
        starts = [(entry + int(window) * self.length) % self._size for window in chosen]
        ids = torch.from_numpy(np.stack([self._ring.read(start, self.length + 1) for start in starts]))
        documents = torch.from_numpy(np.stack([self._documents(start) for start in starts]))
        return TextWindow(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), documents)

    def _layout(self, epoch: int) -> tuple[int, npt.NDArray[np.int64]]:
        """Where an epoch begins to read, and the order of its windows."""
        known = self._known
        if known is None or known[0] != epoch:
            words = np.random.PCG64(np.random.SeedSequence((self._seed, epoch))).random_raw(self._count + 1)
            self._known = known = (epoch, int(words[0] % self._size), words[1:].argsort(kind="stable"))
        return known[1:]

    def longest(self) -> TextWindow:
        """A batch of the largest size."""
        return self.at(0, 0)

    def sequence(self, first: int, *, rank: int = 0, world: int = 1) -> Iterator[TextWindow]:
        """Batches from number `first` on, without end: those whose number is `rank` modulo `world`."""
        number = first + (rank - first) % world
        while True:
            yield self.at(*self.locate(number))
            number += world

    def _documents(self, start: int) -> npt.NDArray[np.int64]:
        """The number of the document of each token of a window; the end of the whole text begins the first one again."""
        places = np.arange(start, start + self.length)
        return np.searchsorted(self._ends, places % self._size, side="right") + places // self._size * len(self._ends)


def document_starts(stores: Sequence[Store], starts: npt.NDArray[np.int64], documents: Documents) -> npt.NDArray[np.int64]:
    """The places of the ends of line after which another document begins: of each file's last line, of empty lines, or of every line."""
    found: list[npt.NDArray[np.int64]] = []
    for store, start in zip(stores, starts[:-1].tolist(), strict=True):
        lengths = store.lengths("text").astype(np.int64)
        ends = start + np.cumsum(lengths) - 1
        last = np.zeros(len(lengths), dtype=bool)
        last[-1:] = True
        found.append(ends[{"line": np.ones_like(last), "paragraph": (lengths == 1) | last, "file": last}[documents]])
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
