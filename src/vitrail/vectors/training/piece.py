"""What a method of training gives to the loop."""

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
