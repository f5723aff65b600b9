"""Pieces of text: what a method of training makes of one, and several threads that read them without locks."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vitrail.vectors.word_vectors import WordVectors


class PieceResult(NamedTuple):
    """What was done on one piece."""

    words: int
    """Of the text; of GloVe, pairs."""
    steps: int
    loss: float
    """The sum of the losses that were watched."""
    watched: int
    rate: float
    """The learning rate at the end."""


class Learning(Protocol):
    """A training in progress.

    Pieces may be read by several threads at once, which change the same arrays without locks (Hogwild: Niu et al. 2011).
    """

    unit: str
    """What is read: words or pairs."""

    @property
    def pieces(self) -> int:
        """Pieces of one epoch."""
        ...

    def compile(self) -> None:
        """Compile what reads pieces, if it is not yet."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All that training changes: what is saved, and read back in place."""
        ...

    def read_piece(self, epoch: int, piece: int) -> PieceResult:
        """Learn from one piece."""
        ...

    def vectors(self) -> WordVectors:
        """The vectors as they are now."""
        ...


def run_pieces(
    learning: Learning, places: Iterable[int], *, threads: int, go_on: Callable[[], bool] = lambda: True
) -> Iterator[PieceResult]:
    """Read pieces, numbered over all epochs, and yield their results in order.

    `go_on` is asked after each piece, so that there is progress in any case. Once it says no, no piece is begun; those that were begun are
    finished and yielded. With one thread one follows the other.
    """

    def read(place: int) -> PieceResult:
        return learning.read_piece(*divmod(place, learning.pieces))

    pending = iter(places)
    if threads == 1:
        for place in pending:
            yield read(place)
            if not go_on():
                return
        return
    with ThreadPoolExecutor(threads) as pool:
        # Twice as many as threads: no thread waits until the oldest piece is finished.
        running = [pool.submit(read, place) for place in islice(pending, 2 * threads)]
        while running:
            yield running.pop(0).result()
            if go_on():
                running += [pool.submit(read, place) for place in islice(pending, 1)]
