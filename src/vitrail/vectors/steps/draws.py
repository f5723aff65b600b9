"""Random numbers and random words in compiled code."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.native.compiled import compiled

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]


class WordTable(NamedTuple):
    """Words to be drawn by their weights: Walker's alias method (1977), exact to 2^-32.

    A place of the table is drawn uniformly; the word is the place itself if a second number is below `keep`, else `other`.
    """

    keep: npt.NDArray[np.uint32]
    other: Integers


def word_table(weights: npt.NDArray[np.float64]) -> WordTable:
    """The table of weights, which need not sum to 1 (Vose 1991)."""
    size = len(weights)
    scaled = weights * (size / weights.sum())
    keep, other = np.full(size, 2**32 - 1, np.uint32), np.arange(size, dtype=np.int32)
    small = [int(word) for word in np.flatnonzero(scaled < 1)]
    large = [int(word) for word in np.flatnonzero(scaled >= 1)]
    while small and large:
        less, more = small.pop(), large[-1]
        keep[less], other[less] = min(int(scaled[less] * 2**32), 2**32 - 1), more
        scaled[more] -= 1 - scaled[less]
        if scaled[more] < 1:
            small.append(large.pop())
    return WordTable(keep, other)


@compiled
def draw_bits(state: npt.NDArray[np.uint64]) -> np.uint64:
    """64 random bits (splitmix64: Steele, Lea and Flood 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    bits = state[0]
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@compiled
def draw_below(limit: int, state: npt.NDArray[np.uint64]) -> int:
    """A whole number of 0 .. limit - 1 (Lemire 2019, without the rejection: the error is below limit / 2^32)."""
    return int(((draw_bits(state) >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@compiled
def draw_word(table: WordTable, state: npt.NDArray[np.uint64]) -> int:
    """A word of the table."""
    bits = draw_bits(state)
    place = int(((bits >> np.uint64(32)) * np.uint64(len(table.keep))) >> np.uint64(32))
    other = int(table.other[place])
    # Without a branch, which no processor could foresee.
    own = int(np.uint32(bits & np.uint64(0xFFFFFFFF)) < table.keep[place])
    return other + (place - other) * own
