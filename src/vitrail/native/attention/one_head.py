"""One head of attention: scores of remembered keys, their softmax, and the mean of the values."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.attention.given import Given
from vitrail.native.attention.paged import FOUR, Memory
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import (
    exponential,
    join_fours,
    keep_first,
    larger,
    largest,
    load,
    multiply_add,
    spread,
    spread_at,
    spread_four,
    store,
    store_apart,
    total,
)

# pyright: reportArgumentType=false
# (an element of an array has no known type)

NEVER = -1e30
"""The score of a position that does not exist: its weight is 0."""


@compiled_inside
def keep(keys: Floats, key: int, values: Floats, value: int, width: int, memory: Memory, place: int) -> None:
    """Keep the key that begins at `key` of `keys`, and the value that begins at `value` of `values`, at a position of the memory."""
    within = place % FOUR
    to_keys, to_values = (place - within) * width + within, place * width
    for e in range(0, width, 16):
        store_apart(memory.keys, to_keys + FOUR * e, load(keys, key + e))
        store(memory.values, to_values + e, load(values, value + e))


@compiled_inside
def compare(z: Floats, query: int, keys: Floats, width: int, where: tuple[int, int, int], scores: Floats, out: int) -> None:
    """scores[out + s] = q·k_s. Args: where: the first key, the number of keys, the width of a head."""
    first, length, head = where
    four = FOUR * width
    for s in range(0, length, 16):
        a = b = c = d = spread(np.float32(0))
        k = first + s * width
        if length - s > 8:
            for e in range(0, head, 4):
                q = spread_four(z, query + e)
                a = multiply_add(q, load(keys, k), a)
                b = multiply_add(q, load(keys, k + four), b)
                c = multiply_add(q, load(keys, k + 2 * four), c)
                d = multiply_add(q, load(keys, k + 3 * four), d)
                k += 16
        else:
            for e in range(0, head, 4):
                q = spread_four(z, query + e)
                a = multiply_add(q, load(keys, k), a)
                b = multiply_add(q, load(keys, k + four), b)
                k += 16
        store(scores, out + s, keep_first(join_fours(a, b, c, d), length - s, np.float32(NEVER)))


@compiled_inside
def soften(scores: Floats, begin: int, length: int) -> None:
    """scores[s] becomes e^scores[s] / Σ_t e^scores[t]."""
    end, zero, top = begin + length, np.float32(0), load(scores, begin)
    for s in range(begin + 16, end, 16):
        top = larger(load(scores, s), top)
    most, sums = spread(largest(top)), spread(zero)
    for s in range(begin, end, 16):
        weight = keep_first(exponential(load(scores, s) - most), end - s, zero)
        sums = sums + weight
        store(scores, s, weight)
    share = spread(np.float32(1) / total(sums))
    for s in range(begin, end, 16):
        store(scores, s, load(scores, s) * share)


@compiled_inside
def mix(scores: Floats, begin: int, values: Floats, width: int, where: tuple[int, int, int], mixed: Floats, out: int) -> None:
    """mixed[out + e] = Σ_s scores[begin + s]·v_s[e]. Args: where: the first value, their number, the width of a head."""
    first, length, head = where
    zero = np.float32(0)
    for e in range(0, head, 16):
        even = odd = spread(zero)
        s = 0
        while s + 2 <= length:
            v = first + s * width + e
            even = multiply_add(spread_at(scores, begin + s), load(values, v), even)
            odd = multiply_add(spread_at(scores, begin + s + 1), load(values, v + width), odd)
            s += 2
        if s < length:
            even = multiply_add(spread_at(scores, begin + s), load(values, first + s * width + e), even)
        store(mixed, out + e, even + odd)


@compiled_inside
def keep_weights(given: Given, head: int, row: int, scores: Floats, begin: int, length: int) -> None:
    """Keep the weights scores[begin : begin + length] of a head, where it is one of those. Args: row: of `Given.tokens`."""
    slot = given.slots[head]
    if slot >= 0:
        to = (row * given.kept + slot) * given.stride
        for s in range(0, length, 16):
            store(given.weights, to + s, load(scores, begin + s))
