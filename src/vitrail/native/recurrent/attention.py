"""Attention of a recurrent decoder: one head, whose query is a state and whose values are the encoder's states."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import exponential, keep_first, larger, largest, load, multiply_add, spread, spread_at, store, store_apart, total
from vitrail.native.recurrent.architecture import DOT, GENERAL
from vitrail.native.recurrent.cells import tanh
from vitrail.native.recurrent.memory import PAGE, Workspace
from vitrail.native.recurrent.packing import Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)

_NEVER = -1e30
"""The score of a position that does not exist: its weight is 0."""


@compiled_inside
def remember(model: Model, work: Workspace, b: int, states: Floats, keys: Floats) -> None:
    """Keep the keys and values of a sentence. Args: states, keys: [tokens, W] of all sentences."""
    batch, width = work.batch, model.shape.width
    for row in range(batch.starts[b], batch.starts[b + 1]):
        position = row - batch.starts[b]
        page = (batch.pages[b] + position // PAGE) * PAGE * width
        for k in range(0, width, 16):
            store_apart(work.source.keys, page + PAGE * k + position % PAGE, load(keys, row * width + k))
            store(work.source.values, page + position % PAGE * width + k, load(states, row * width + k))


@compiled_inside
def _compare(query: Floats, begin: int, keys: Floats, first: int, width: int, length: int, scores: Floats) -> None:
    """scores[s] = q·k_s. Args: begin, first: where the query and the keys begin."""
    zero = np.float32(0)
    for s in range(0, length, PAGE):
        a = b = c = d = spread(zero)
        page = first + s * width
        for k in range(0, width, 4):
            a = multiply_add(spread_at(query, begin + k), load(keys, page + PAGE * k), a)
            b = multiply_add(spread_at(query, begin + k + 1), load(keys, page + PAGE * k + 16), b)
            c = multiply_add(spread_at(query, begin + k + 2), load(keys, page + PAGE * k + 32), c)
            d = multiply_add(spread_at(query, begin + k + 3), load(keys, page + PAGE * k + 48), d)
        store(scores, s, keep_first((a + b) + (c + d), length - s, np.float32(_NEVER)))


@compiled_inside
def _compare_additively(
    vector: Floats, query: Floats, begin: int, keys: Floats, first: int, length: int, scores: Floats
) -> None:
    """scores[s] = v·tanh(q + k_s). Args: begin, first: where the query and the keys begin."""
    width, zero = len(vector), np.float32(0)
    for s in range(0, length, PAGE):
        a = b = spread(zero)
        page = first + s * width
        for k in range(0, width, 2):
            a = multiply_add(spread_at(vector, k), tanh(spread_at(query, begin + k) + load(keys, page + PAGE * k)), a)
            b = multiply_add(spread_at(vector, k + 1), tanh(spread_at(query, begin + k + 1) + load(keys, page + PAGE * k + 16)), b)
        store(scores, s, keep_first(a + b, length - s, np.float32(_NEVER)))


@compiled_inside
def _soften(scores: Floats, length: int) -> None:
    """scores[s] becomes e^scores[s] / Σ_t e^scores[t]."""
    zero, top = np.float32(0), load(scores, 0)
    for s in range(16, length, 16):
        top = larger(load(scores, s), top)
    most, sums = spread(largest(top)), spread(zero)
    for s in range(0, length, 16):
        weight = keep_first(exponential(load(scores, s) - most), length - s, zero)
        sums = sums + weight
        store(scores, s, weight)
    share = spread(np.float32(1) / total(sums))
    for s in range(0, length, 16):
        store(scores, s, load(scores, s) * share)


@compiled_inside
def _mix(scores: Floats, values: Floats, first: int, width: int, length: int, mixed: Floats, out: int) -> None:
    """mixed[out + k] = Σ_s scores[s]·v_s[k]. Args: first: where the values begin."""
    zero = np.float32(0)
    for k in range(0, width, 16):
        even = odd = spread(zero)
        s = 0
        while s + 2 <= length:
            v = first + s * width + k
            even = multiply_add(spread_at(scores, s), load(values, v), even)
            odd = multiply_add(spread_at(scores, s + 1), load(values, v + width), odd)
            s += 2
        if s < length:
            even = multiply_add(spread_at(scores, s), load(values, first + s * width + k), even)
        store(mixed, out + k, even + odd)


@compiled_inside
def attend(model: Model, work: Workspace, b: int, query: Floats, begin: int, mixed: Floats, out: int) -> None:
    """mixed[out : out + W] = Σ_s a_s·m_s with a = softmax_s(score(q, m_s)), over the positions of sentence b.

    Args: query: begins at `begin`; where attention is additive, after its matrix.
    """
    shape, batch, source, scores = model.shape, work.batch, work.source, work.rooms.scores
    first, length = batch.pages[b] * PAGE * shape.width, batch.starts[b + 1] - batch.starts[b]
    if shape.attention in (DOT, GENERAL):
        _compare(query, begin, source.keys, first, shape.width, length, scores)
    else:
        _compare_additively(model.weights.vector, query, begin, source.keys, first, length, scores)
    _soften(scores, length)
    _mix(scores, source.values, first, shape.width, length, mixed, out)
