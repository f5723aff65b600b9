"""Attention of a recurrent decoder: one head, whose query is a state and whose values are the encoder's states."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.attention.one_head import NEVER, compare, keep, mix, soften
from vitrail.native.attention.paged import FOUR, PAGE
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import join_fours, keep_first, load, multiply_add, spread, spread_four, store
from vitrail.native.recurrent.architecture import DOT, GENERAL
from vitrail.native.recurrent.cells import tanh
from vitrail.native.recurrent.memory import Workspace
from vitrail.native.recurrent.packing import Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def remember(model: Model, work: Workspace, b: int, states: Floats, keys: Floats) -> None:
    """Keep the keys and values of a sentence. Args: states, keys: [tokens, W] of all sentences."""
    batch, width = work.batch, model.shape.width
    for row in range(batch.starts[b], batch.starts[b + 1]):
        position = row - batch.starts[b]
        keep(keys, row * width, states, row * width, width, work.source, batch.pages[b] * PAGE + position)


@compiled_inside
def _compare_additively(vector: Floats, query: Floats, begin: int, keys: Floats, first: int, length: int, scores: Floats) -> None:
    """scores[s] = v·tanh(q + k_s). Args: begin, first: where the query and the keys begin."""
    width, four, zero = len(vector), FOUR * len(vector), np.float32(0)
    for s in range(0, length, 16):
        a = b = c = d = spread(zero)
        for k in range(0, width, 4):
            v, q, at = spread_four(vector, k), spread_four(query, begin + k), first + s * width + FOUR * k
            a = multiply_add(v, tanh(q + load(keys, at)), a)
            b = multiply_add(v, tanh(q + load(keys, at + four)), b)
            c = multiply_add(v, tanh(q + load(keys, at + 2 * four)), c)
            d = multiply_add(v, tanh(q + load(keys, at + 3 * four)), d)
        store(scores, s, keep_first(join_fours(a, b, c, d), length - s, np.float32(NEVER)))


@compiled_inside
def attend(model: Model, work: Workspace, b: int, query: Floats, begin: int, mixed: Floats, out: int) -> None:
    """mixed[out : out + W] = Σ_s a_s·m_s with a = softmax_s(score(q, m_s)), over the positions of sentence b.

    Args: query: begins at `begin`; where attention is additive, after its matrix.
    """
    shape, batch, source, scores = model.shape, work.batch, work.source, work.rooms.scores
    first, length = batch.pages[b] * PAGE * shape.width, batch.starts[b + 1] - batch.starts[b]
    if shape.attention in (DOT, GENERAL):
        compare(query, begin, source.keys, shape.width, (first, length, shape.width), scores, 0)
    else:
        _compare_additively(model.weights.vector, query, begin, source.keys, first, length, scores)
    soften(scores, 0, length)
    mix(scores, 0, source.values, shape.width, (first, length, shape.width), mixed, out)
