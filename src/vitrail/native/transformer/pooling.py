"""The compiled entry for models without a decoder: sentences in; one vector for each out, or those of tokens, and scores made of them."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_entry, compiled_inside
from vitrail.native.lanes import load, spread, store
from vitrail.native.matrices.products import multiply
from vitrail.native.references import refer
from vitrail.native.transformer.encoder import encode
from vitrail.native.transformer.layers import gelu, normalise
from vitrail.native.transformer.memory import GUESSES, MEAN, PRODUCT, Pooled, Texts, Workspace
from vitrail.native.transformer.packing import Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _mean(model: Model, work: Workspace, vectors: Floats) -> None:
    """v = Σ_i h_i / n of each sentence."""
    width, y, starts = model.shape.width, work.rooms.y, work.batch.starts
    for b in range(len(starts) - 1):
        share = spread(np.float32(1) / np.float32(starts[b + 1] - starts[b]))
        for k in range(0, width, 16):
            sums = spread(np.float32(0))
            for row in range(starts[b], starts[b + 1]):
                sums = sums + load(y, row * width + k)
            store(vectors, b * width + k, sums * share)


@compiled_inside
def _gather(model: Model, work: Workspace, pooled: Pooled) -> None:
    """The vectors of the tokens that are asked for."""
    width, y = model.shape.width, work.rooms.y
    for row in range(len(pooled.tokens)):
        begin = pooled.tokens[row] * width
        for k in range(0, width, 16):
            store(pooled.vectors, row * width + k, load(y, begin + k))


@compiled_inside
def _before_guesses(model: Model, work: Workspace, vectors: Floats, rows: int) -> None:
    """y = norm(gelu(W·v + b)) of each row."""
    rooms, linear = work.rooms, model.linears.readout
    multiply(model.weights.matrices, linear, 0, vectors, rows, rooms.quantised, rooms.x)
    for k in range(0, rows * model.shape.width, 16):
        store(rooms.x, k, gelu(load(rooms.x, k)))
    normalise(model, model.norms.readout, 0, rooms.x, rows, rooms.y)


@compiled_inside
def _pool(model: Model, work: Workspace, pooled: Pooled, which: int, scores: int) -> int:
    vocabulary, rooms = model.linears.vocabulary, work.rooms
    encode(model, work)
    if which == MEAN:
        _mean(model, work, pooled.vectors)
    else:
        _gather(model, work, pooled)
    rows = len(pooled.vectors) // model.shape.width
    if scores == PRODUCT:
        multiply(model.weights.matrices, vocabulary, 0, pooled.vectors, rows, rooms.quantised, pooled.scores)
    elif scores == GUESSES:
        _before_guesses(model, work, pooled.vectors, rows)
        multiply(model.weights.matrices, vocabulary, 0, rooms.y, rows, rooms.quantised, pooled.scores)
    return 0


@compiled_entry
def pool(asked: Texts) -> int:
    """Read texts; their vectors and scores are then in `asked.pooled`."""
    return _pool(refer(asked.model), refer(asked.work), refer(asked.pooled), asked.which, asked.scores)
