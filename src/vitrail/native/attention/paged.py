"""Memory of keys and values in pages of 16 positions.

A page of keys is [width, 16]: the keys of 16 positions side by side, so that a query meets all of them at once. A page of values is
[16, width].
"""

from typing import NamedTuple

from vitrail.native.arrays import Floats

PAGE = 16


class Memory(NamedTuple):
    """Keys and values of some pages."""

    keys: Floats
    values: Floats


def pages(positions: int) -> int:
    """Pages for so many positions."""
    return -(-positions // PAGE)
