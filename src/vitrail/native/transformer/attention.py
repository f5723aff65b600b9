"""Attention of one query to remembered keys and values, for all heads. √E is in the queries' weights already; see `packing`."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import exponential, keep_first, larger, largest, load, multiply_add, spread, spread_at, store, store_apart, total
from vitrail.native.transformer.memory import PAGE, Memory, Past, Rooms, Workspace
from vitrail.native.transformer.packing import Shape

_NEVER = -1e30
"""The score of a position that does not exist: its weight is 0."""


@compiled_inside
def turn(shape: Shape, turns: Floats, z: Floats, begin: int, position: int) -> None:
    """Turn each head by the angle of a position, where positions are rotary: (a, b) becomes (a cos - b sin, a sin + b cos).

    Args: turns: [positions, E] sines, then cosines. z: the heads begin at `begin`.
    """
    if shape.rotary == 0:
        return
    half, table = shape.head // 2, position * shape.head
    for first in range(begin, begin + shape.heads * shape.head, shape.head):
        for e in range(0, half, 16):
            sine, cosine = load(turns, table + e), load(turns, table + half + e)
            a, b = load(z, first + e), load(z, first + half + e)
            store(z, first + e, a * cosine - b * sine)
            store(z, first + half + e, a * sine + b * cosine)


@compiled_inside
def remember(shape: Shape, z: Floats, key: int, value: int, memory: Memory, place: int) -> None:
    """Keep the key and the value that begin at `key` and `value` of z, at a position of the memory."""
    width = shape.attention
    within = place % PAGE
    keys, values = (place - within) * width + within, place * width
    for e in range(0, width, 16):
        store_apart(memory.keys, keys + PAGE * e, load(z, key + e))
        store(memory.values, values + e, load(z, value + e))


@compiled_inside
def _compare(z: Floats, query: int, keys: Floats, width: int, where: tuple[int, int, int], scores: Floats, out: int) -> None:
    """scores[out + s] = q·k_s. Args: where: the first key, the number of keys, the width of a head."""
    first, length, head = where
    zero = np.float32(0)
    for s in range(0, length, 16):
        a = b = c = d = spread(zero)
        page = first + s * width
        for e in range(0, head, 4):
            k = page + PAGE * e
            a = multiply_add(spread_at(z, query + e), load(keys, k), a)
            b = multiply_add(spread_at(z, query + e + 1), load(keys, k + 16), b)
            c = multiply_add(spread_at(z, query + e + 2), load(keys, k + 32), c)
            d = multiply_add(spread_at(z, query + e + 3), load(keys, k + 48), d)
        store(scores, out + s, keep_first((a + b) + (c + d), length - s, np.float32(_NEVER)))


@compiled_inside
def _soften(scores: Floats, begin: int, length: int) -> None:
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
def _mix(scores: Floats, begin: int, values: Floats, width: int, where: tuple[int, int, int], mixed: Floats, out: int) -> None:
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
def attend(shape: Shape, rooms: Rooms, query: int, memory: Memory, past: Past, out: int) -> None:
    """mixed[out : out + H E] = softmax(q·K)·V of each head, for the query that begins at `query` of z.

    Each stage takes all heads, so that the processor need not wait for the one before.
    """
    begin, width, head, length = past.first * shape.attention, shape.attention, shape.head, past.length
    stride = (length + PAGE - 1) // PAGE * PAGE
    for h in range(shape.heads):
        _compare(rooms.z, query + h * head, memory.keys, width, (begin + PAGE * h * head, length, head), rooms.scores, h * stride)
    for h in range(shape.heads):
        _soften(rooms.scores, h * stride, length)
    for h in range(shape.heads):
        _mix(rooms.scores, h * stride, memory.values, width, (begin + h * head, length, head), rooms.mixed, out + h * head)


@compiled_inside
def copy_past(shape: Shape, work: Workspace, source: int, target: int, length: int) -> None:
    """Copy what a hypothesis remembers of its `length` tokens from one place to another, in every layer."""
    own, hypotheses, width = work.own, work.beams * (len(work.batch.starts) - 1), shape.attention
    keys, values = PAGE * ((length - 1) // PAGE + 1) * width, length * width
    for layer in range(shape.decoder_layers):
        begin = (layer * hypotheses + source) * work.room * width
        to = (layer * hypotheses + target) * work.room * width
        for k in range(0, keys, 16):
            store(own.keys, to + k, load(own.keys, begin + k))
        for k in range(0, values, 16):
            store(own.values, to + k, load(own.values, begin + k))
