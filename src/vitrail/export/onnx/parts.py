"""What an exported translator consists of."""

from typing import NamedTuple


class Carried(NamedTuple):
    """A state that the decoder reads at one step and writes for the next."""

    read: str
    """The decoder's input."""
    written: str
    """The decoder's output."""
    start: str = ""
    """The encoder's output that it is before the first step; empty: zeros."""
    zeros: tuple[int, ...] = ()
    """The shape of one row of these zeros."""


class Graphs(NamedTuple):
    """Two models in ONNX, and what passes between them."""

    encoder: bytes
    decoder: bytes
    given: tuple[str, ...]
    """Outputs of the encoder that every step of the decoder reads as they are."""
    carried: tuple[Carried, ...]
