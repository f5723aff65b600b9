"""The decoder: what it keeps of the sources and of the hypotheses, and how it reads tokens. A row is one token of a hypothesis."""

import numpy as np

from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import larger, load, multiply_add, sigmoid, spread, store
from vitrail.native.matrices.products import multiply
from vitrail.native.transformer.attention import attend, copy_past, keep_heads, remember, turn
from vitrail.native.transformer.layers import after, before, embed, feed_forward, normalise
from vitrail.native.transformer.memory import PAGE, Past, Workspace
from vitrail.native.transformer.packing import Model, Shape

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def keep_sources(model: Model, work: Workspace) -> None:
    """Keep the keys and values of the sources for every layer; what the encoder made of them is in y."""
    shape, batch, rooms = model.shape, work.batch, work.rooms
    sentences = len(batch.starts) - 1
    rows = batch.starts[sentences]
    for layer in range(shape.decoder_layers):
        multiply(model.weights.matrices, model.linears.cross_source, layer, rooms.y, rows, rooms.quantised, rooms.z)
        for b in range(sentences):
            first = PAGE * (layer * batch.pages[sentences] + batch.pages[b])
            for row in range(batch.starts[b], batch.starts[b + 1]):
                key = row * 2 * shape.attention
                remember(shape, rooms.z, key, key + shape.attention, work.source, first + row - batch.starts[b])


@compiled_inside
def _attend_to_own(model: Model, work: Workspace, layer: int, rows: int) -> None:
    """Self-attention of each row to the tokens of its hypothesis so far; of those that are read together, to earlier rows and itself."""
    shape, linears, norm, rooms, turns = model.shape, model.linears, model.norms.decoder_1, work.rooms, model.weights.positions
    width, hypotheses = shape.attention, work.beams * (len(work.batch.starts) - 1)
    before(model, norm, layer, rows, rooms)
    multiply(model.weights.matrices, linears.decoder_qkv, layer, rooms.y, rows, rooms.quantised, rooms.z)
    for row in range(rows):
        position = work.reading.positions[row]
        query, first = row * 3 * width, (layer * hypotheses + work.reading.places[row]) * work.room
        turn(shape, turns, rooms.z, query, position)
        turn(shape, turns, rooms.z, query + width, position)
        remember(shape, rooms.z, query + width, query + 2 * width, work.own, first + position)
        attend(shape, rooms, query, work.own, Past(first, position + 1), row * width)
    multiply(model.weights.matrices, linears.decoder_out, layer, rooms.mixed, rows, rooms.quantised, rooms.x)
    after(model, norm, layer, rows, rooms)


@compiled_inside
def _recur(model: Model, work: Workspace, layer: int, rows: int) -> None:
    """An SSRU in place of self-attention: f = σ(W_f·y + b_f);  c = f * c + (1 - f) * W·y;  x = x + max(c, 0).

    c is 0 before the first token of a hypothesis. Of those that are read together, each row begins from the c of the one before.
    """
    norm, rooms, reading, width = model.norms.decoder_1, work.rooms, work.reading, model.shape.width
    first, zero = layer * work.beams * (len(work.batch.starts) - 1), spread(np.float32(0))
    before(model, norm, layer, rows, rooms)
    multiply(model.weights.matrices, model.linears.decoder_cell, layer, rooms.y, rows, rooms.quantised, rooms.z)
    for row in range(rows):
        place, begin, begins = (first + reading.places[row]) * width, 2 * row * width, reading.positions[row] == 0
        for k in range(0, width, 16):
            candidate, kept = load(rooms.z, begin + k), sigmoid(load(rooms.z, begin + width + k))
            past = zero if begins else load(work.cells, place + k)
            c = multiply_add(kept, past - candidate, candidate)
            store(work.cells, place + k, c)
            store(rooms.x, row * width + k, load(rooms.x, row * width + k) + larger(zero, c))  # in this order NaN stays NaN
    after(model, norm, layer, rows, rooms)


@compiled_inside
def copy_memory(shape: Shape, work: Workspace, source: int, target: int, length: int) -> None:
    """Copy what a hypothesis remembers of its `length` tokens from one place to another, in every layer."""
    if shape.recurs == 0:
        copy_past(shape, work, source, target, length)
        return
    hypotheses, width = work.beams * (len(work.batch.starts) - 1), shape.width
    for layer in range(shape.decoder_layers):
        begin, to = (layer * hypotheses + source) * width, (layer * hypotheses + target) * width
        for k in range(0, width, 16):
            store(work.cells, to + k, load(work.cells, begin + k))


@compiled_inside
def _attend_to_source(model: Model, work: Workspace, layer: int, rows: int) -> None:
    """Attention of each row to its source."""
    shape, linears, norm, rooms, batch = model.shape, model.linears, model.norms.decoder_2, work.rooms, work.batch
    all_pages = batch.pages[len(batch.starts) - 1]
    before(model, norm, layer, rows, rooms)
    multiply(model.weights.matrices, linears.cross_query, layer, rooms.y, rows, rooms.quantised, rooms.z)
    for row in range(rows):
        b = work.reading.places[row] // work.beams
        past = Past(PAGE * (layer * all_pages + batch.pages[b]), batch.starts[b + 1] - batch.starts[b])
        attend(shape, rooms, row * shape.attention, work.source, past, row * shape.attention)
        if work.given.kept > 0:
            keep_heads(shape, work, layer, row, past.length)
    multiply(model.weights.matrices, linears.cross_out, layer, rooms.mixed, rows, rooms.quantised, rooms.x)
    after(model, norm, layer, rows, rooms)


@compiled_inside
def decode(model: Model, work: Workspace, rows: int) -> None:
    """Read the tokens of `work.reading`; what the vocabulary is multiplied with is then in y [rows, D]."""
    shape, norms, rooms, reading = model.shape, model.norms, work.rooms, work.reading
    for row in range(rows):
        embed(model, shape.target_embedding, shape.target_positions, reading.tokens[row], reading.positions[row], row, rooms)
    if shape.embedding_norm == 1:
        normalise(model, norms.target, 0, rooms.x, rows, rooms.x)
    for layer in range(shape.decoder_layers):
        if shape.recurs == 1:
            _recur(model, work, layer, rows)
        else:
            _attend_to_own(model, work, layer, rows)
        if shape.encoder_layers > 0:
            _attend_to_source(model, work, layer, rows)
        feed_forward(model, (model.linears.decoder_expand, model.linears.decoder_contract), norms.decoder_3, layer, rows, rooms)
    before(model, norms.decoder_end, 0, rows, rooms)
