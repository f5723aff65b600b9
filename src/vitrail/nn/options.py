"""What layers and cells can be chosen to be, by the names that configurations have for it; without torch."""

from typing import Literal, NamedTuple

Activation = Literal["relu", "gelu", "swiglu"]
Norm = Literal["layer", "rms", "batch"]
NormPosition = Literal["pre", "post"]
CellKind = Literal["rnn", "gru", "lstm"]
CellNorm = Literal["none", "layer", "batch"]
Pooling = Literal["first", "mean"]
"""first: the vector of the first token, as BERT's [CLS]; mean: the mean over all tokens."""


class CellSize(NamedTuple):
    """How much of a recurrent cell there is."""

    gates: int
    """G: the number of vectors of width D to which the input is projected."""
    parts: int
    """Tensors in its carry."""


CELL_SIZES: dict[CellKind, CellSize] = {"rnn": CellSize(1, 1), "gru": CellSize(3, 1), "lstm": CellSize(4, 2)}
