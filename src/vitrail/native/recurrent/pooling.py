"""The compiled entry for what reads texts: one vector for each, and scores of labels made of it."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_entry, compiled_inside
from vitrail.native.lanes import load, spread, store
from vitrail.native.matrices.products import multiply
from vitrail.native.recurrent.layers import copy, encode
from vitrail.native.recurrent.memory import MEAN, Pooled, Texts, Workspace
from vitrail.native.recurrent.packing import Model
from vitrail.native.references import refer

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _mean(model: Model, work: Workspace, states: Floats, vectors: Floats) -> None:
    """v = Σ_i h_i / n of each text."""
    width, starts = model.shape.width, work.batch.starts
    for b in range(len(starts) - 1):
        share = spread(np.float32(1) / np.float32(starts[b + 1] - starts[b]))
        for k in range(0, width, 16):
            sums = spread(np.float32(0))
            for row in range(starts[b], starts[b + 1]):
                sums = sums + load(states, row * width + k)
            store(vectors, b * width + k, sums * share)


@compiled_inside
def _last(model: Model, work: Workspace, vectors: Floats) -> None:
    """v = h of the highest layer, of each direction after its last token."""
    width, order = model.shape.width, work.batch.order
    for rank in range(len(order)):
        copy(work.ends.hidden, rank * width, width, vectors, order[rank] * width)


@compiled_inside
def _pool(model: Model, work: Workspace, pooled: Pooled, which: int, scored: int) -> int:
    encode(model, work)
    if which == MEAN:
        _mean(model, work, work.rooms.odd if model.encoder.layers % 2 == 1 else work.rooms.even, pooled.vectors)
    else:
        _last(model, work, pooled.vectors)
    if scored == 1:
        texts = len(work.batch.order)
        multiply(model.weights.matrices, model.linears.vocabulary, 0, pooled.vectors, texts, work.rooms.quantised, pooled.scores)
    return 0


@compiled_entry
def pool(asked: Texts) -> int:
    """Read texts; their vectors and scores are then in `asked.pooled`."""
    return _pool(refer(asked.model), refer(asked.work), refer(asked.pooled), asked.which, asked.scored)
