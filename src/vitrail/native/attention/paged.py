"""Memory of keys and values in pages of 16 positions.

Values are [positions, width]. Of keys, each four positions are [width, 4], so that a query meets four numbers of four keys at once.
"""

from typing import NamedTuple

from vitrail.native.arrays import Floats

PAGE, FOUR = 16, 4


class Memory(NamedTuple):
    """Keys and values of some pages."""

    keys: Floats
    values: Floats


def pages(positions: int) -> int:
    """Pages for so many positions."""
    return -(-positions // PAGE)
