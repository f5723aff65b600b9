"""The encoder of a recurrent model, and one step of its decoder.

A row is one token of a source in the encoder, and one hypothesis in the decoder. Sources stand one after the other, without padding between
them. What does not need the state before is computed for all rows at once; the states step by step, those of all sentences together.
"""

import numpy as np

from vitrail.native.arrays import Floats, Integers
from vitrail.native.attention.one_head import keep_weights
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import load, spread, store
from vitrail.native.matrices.products import multiply
from vitrail.native.recurrent.architecture import BAHDANAU, CONCAT, NONE
from vitrail.native.recurrent.attention import attend, remember
from vitrail.native.recurrent.cells import Norm, Row, advance, normalise, tanh
from vitrail.native.recurrent.memory import Workspace
from vitrail.native.recurrent.packing import Cells, Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def copy(source: Floats, first: int, width: int, target: Floats, begin: int) -> None:
    """target[begin : begin + width] = source[first : first + width]."""
    for k in range(0, width, 16):
        store(target, begin + k, load(source, first + k))


@compiled_inside
def fill_zeros(x: Floats) -> None:
    """Precondition: the length is a multiple of 16."""
    for k in range(0, len(x), 16):
        store(x, k, spread(np.float32(0)))


@compiled_inside
def _norm_rows(model: Model, begin: int, cells: Cells, x: Floats, rows: int) -> None:
    """Layer norm over all gates of each row, in place, where cells have it."""
    if model.shape.layer_norm == 1:
        width = cells.recurrent.outputs
        norm = Norm(begin, width, model.shape.gates * cells.real_width)
        for row in range(rows):
            normalise(model.weights.norms, norm, x, row * width)


@compiled_inside
def _project(model: Model, cells: Cells, number: int, x: Floats, rows: int, work: Workspace) -> None:
    """The inputs' part of every gate, W·x + b, of all rows. Args: number: of the cell."""
    gates, quantised, matrices = work.rooms.gates.inputs, work.rooms.quantised, model.weights.matrices
    if number < cells.directions:
        multiply(matrices, cells.first, number, x, rows, quantised, gates)
    else:
        multiply(matrices, cells.above, number - cells.directions, x, rows, quantised, gates)
    _norm_rows(model, cells.input_norm + 3 * number * cells.recurrent.outputs, cells, gates, rows)


@compiled_inside
def _recur(model: Model, cells: Cells, number: int, hidden: Floats, rows: int, work: Workspace) -> None:
    """The states' part of every gate, U·h + b', of all rows."""
    gates, quantised = work.rooms.gates.recurrent, work.rooms.quantised
    multiply(model.weights.matrices, cells.recurrent, number, hidden, rows, quantised, gates)
    _norm_rows(model, cells.recurrent_norm + 3 * number * cells.recurrent.outputs, cells, gates, rows)


@compiled_inside
def _cell_norm(model: Model, cells: Cells, number: int) -> Norm:
    """The norm of an LSTM's cell state; without a width where there is none."""
    width = cells.width if model.shape.layer_norm == 1 else 0
    return Norm(cells.cell_norm + 3 * number * cells.width, width, cells.real_width)


@compiled_inside
def _read_layer(model: Model, work: Workspace, layer: int, direction: int, below: Floats, out: Floats) -> None:
    """Read all sentences with one cell of the encoder, each from its first token or from its last."""
    batch, cells, carry, shape = work.batch, model.encoder, work.reading, model.shape
    number, width, sentences = layer * cells.directions + direction, cells.width, len(batch.order)
    _project(model, cells, number, below, batch.starts[sentences], work)
    norm, column = _cell_norm(model, cells, number), direction * width
    fill_zeros(carry.hidden)
    fill_zeros(carry.cell)
    live, time = sentences, 0
    while live > 0:
        _recur(model, cells, number, carry.hidden, live, work)
        for rank in range(live):
            b = batch.order[rank]
            at = batch.starts[b] + time if direction == 0 else batch.starts[b + 1] - 1 - time
            row = Row(at * cells.recurrent.outputs, rank * cells.recurrent.outputs, rank * width, width)
            advance(shape.cell, model.weights.norms, norm, work.rooms.gates, row, carry)
            copy(carry.hidden, rank * width, width, out, at * shape.width + column)
        time += 1
        while live > 0 and batch.starts[batch.order[live - 1] + 1] - batch.starts[batch.order[live - 1]] <= time:
            live -= 1
    for rank in range(sentences):
        copy(carry.hidden, rank * width, width, work.ends.hidden, rank * shape.width + column)
        if shape.parts == 2:
            copy(carry.cell, rank * width, width, work.ends.cell, rank * shape.width + column)


@compiled_inside
def _add(x: Floats, count: int, out: Floats) -> None:
    """out = out + x, of so many numbers."""
    for k in range(0, count, 16):
        store(out, k, load(out, k) + load(x, k))


@compiled_inside
def _bridge(model: Model, work: Workspace, encoder_layer: int) -> None:
    """First states of the decoder's layers from the last ones of the encoder's layer: s_0 = tanh(W·h + b), of a cell state without tanh.

    The layers are counted from the top; the encoder's lowest may serve several.
    """
    shape, order, made = model.shape, work.batch.order, work.rooms.asked
    matrices, width, sentences = model.weights.matrices, shape.width, len(order)
    for layer in range(model.decoder.layers):
        if max(0, layer + model.encoder.layers - model.decoder.layers) == encoder_layer:
            first = layer * sentences * work.beams
            multiply(matrices, model.linears.bridge, layer * shape.parts, work.ends.hidden, sentences, work.rooms.quantised, made)
            for rank in range(sentences):
                to = (first + order[rank] * work.beams) * width
                for k in range(0, width, 16):
                    store(work.own.hidden, to + k, tanh(load(made, rank * width + k)))
            if shape.parts == 2:
                multiply(matrices, model.linears.bridge, layer * shape.parts + 1, work.ends.cell, sentences, work.rooms.quantised, made)
                for rank in range(sentences):
                    copy(made, rank * width, width, work.own.cell, (first + order[rank] * work.beams) * width)


@compiled_inside
def encode(model: Model, work: Workspace) -> None:
    """Read the sources: what attention reads of them, and the first states of the decoder; zeros without an encoder."""
    shape, batch, rooms = model.shape, work.batch, work.rooms
    rows, width, embedding = batch.starts[len(batch.starts) - 1], shape.width, shape.embedding
    if model.encoder.layers == 0:
        fill_zeros(work.own.hidden)
        fill_zeros(work.own.cell)
    for row in range(rows):
        copy(model.weights.embeddings, batch.tokens[row] * embedding, embedding, rooms.even, row * embedding)
    for layer in range(model.encoder.layers):
        below, above = (rooms.even, rooms.odd) if layer % 2 == 0 else (rooms.odd, rooms.even)
        for direction in range(model.encoder.directions):
            _read_layer(model, work, layer, direction, below, above)
        _bridge(model, work, layer)
        if shape.residual == 1 and layer > 0:
            _add(below, rows * width, above)
    if shape.attention != NONE:
        states, keys = (rooms.odd, rooms.even) if model.encoder.layers % 2 == 1 else (rooms.even, rooms.odd)
        if model.linears.key.inputs > 0:
            multiply(model.weights.matrices, model.linears.key, 0, states, rows, rooms.quantised, keys)
        else:
            copy(states, 0, rows * width, keys, 0)
        for b in range(len(batch.starts) - 1):
            remember(model, work, b, states, keys)


@compiled_inside
def _look(model: Model, work: Workspace, rows: int, places: Integers, query: Floats, out: Floats, span: tuple[int, int]) -> None:
    """What each row's attention gives. Args: query: [rows, W]. span: numbers of a row of `out`, and where the mean is put in it."""
    width, attention, rooms = model.shape.width, model.shape.attention, work.rooms
    asked = query
    if attention in (BAHDANAU, CONCAT):
        multiply(model.weights.matrices, model.linears.query, 0, query, rows, rooms.quantised, rooms.asked)
        asked = rooms.asked
    for row in range(rows):
        b = places[row] // work.beams
        attend(model, work, b, asked, row * width, out, row * span[0] + span[1])
        if work.given.kept > 0:
            length = work.batch.starts[b + 1] - work.batch.starts[b]
            keep_weights(work.given, 0, work.given.begins[b] + work.given.step[0], rooms.scores, 0, length)


@compiled_inside
def _gather(model: Model, work: Workspace, layer: int, rows: int, places: Integers) -> None:
    """The hidden states of a layer of the decoder, one row after the other."""
    width, first = model.shape.width, layer * work.beams * len(work.batch.order)
    for row in range(rows):
        copy(work.own.hidden, (first + places[row]) * width, width, work.rooms.hidden, row * width)


@compiled_inside
def _read_target(model: Model, work: Workspace, rows: int, places: Integers, last: Integers) -> None:
    """What the decoder's first layer reads: [y; context] with Bahdanau's attention, [y; h~] with input feeding, else y."""
    shape, rooms = model.shape, work.rooms
    embedding, read = shape.embedding, shape.read
    for row in range(rows):
        token = shape.target_embedding + last[row] * embedding
        copy(model.weights.embeddings, token, embedding, rooms.even, row * read)
        if shape.feeds == 1:
            copy(work.fed, places[row] * embedding, embedding, rooms.even, row * read + embedding)
    if shape.attention == BAHDANAU:
        _gather(model, work, model.decoder.layers - 1, rows, places)
        _look(model, work, rows, places, rooms.hidden, rooms.even, (read, embedding))
        for row in range(rows):
            to = row * shape.seen + shape.width
            copy(rooms.even, row * read + embedding, shape.width, rooms.seen, to)
            copy(rooms.even, row * read, embedding, rooms.seen, to + shape.width)


@compiled_inside
def _advance_layer(model: Model, work: Workspace, layer: int, rows: int, places: Integers, out: Floats) -> None:
    """One step of a layer of the decoder; its gates have their inputs already."""
    shape, cells, own = model.shape, model.decoder, work.own
    width, first = shape.width, layer * work.beams * len(work.batch.order)
    _gather(model, work, layer, rows, places)
    _recur(model, cells, layer, work.rooms.hidden, rows, work)
    norm = _cell_norm(model, cells, layer)
    for r in range(rows):
        place = (first + places[r]) * width
        row = Row(r * cells.recurrent.outputs, r * cells.recurrent.outputs, place, width)
        advance(shape.cell, model.weights.norms, norm, work.rooms.gates, row, own)
        copy(own.hidden, place, width, out, r * width)


@compiled_inside
def decode_step(model: Model, work: Workspace, rows: int, places: Integers, last: Integers) -> None:
    """Read one more token of each row; what the vocabulary is multiplied with is then in y [rows, E].

    Args: places: [rows] where the memory of each row is: sentence * K + a number below K. last: [rows] its last token.
    """
    shape, rooms, layers = model.shape, work.rooms, model.decoder.layers
    width, embedding = shape.width, shape.embedding
    _read_target(model, work, rows, places, last)
    for layer in range(layers):
        below, above = (rooms.even, rooms.odd) if layer % 2 == 0 else (rooms.odd, rooms.even)
        _project(model, model.decoder, layer, below, rows, work)
        _advance_layer(model, work, layer, rows, places, above)
        if shape.residual == 1 and layer > 0:
            _add(below, rows * width, above)
    states = rooms.odd if layers % 2 == 1 else rooms.even
    for row in range(rows):
        copy(states, row * width, width, rooms.seen, row * shape.seen)
    if shape.attention not in (NONE, BAHDANAU):
        _look(model, work, rows, places, states, rooms.seen, (shape.seen, width))
    multiply(model.weights.matrices, model.linears.readout, 0, rooms.seen, rows, rooms.quantised, rooms.y)
    for k in range(0, rows * embedding, 16):
        store(rooms.y, k, tanh(load(rooms.y, k)))
    if shape.feeds == 1:
        for row in range(rows):
            copy(rooms.y, row * embedding, embedding, work.fed, places[row] * embedding)


@compiled_inside
def copy_states(model: Model, work: Workspace, source: int, target: int) -> None:
    """Copy what a hypothesis remembers of its tokens from one place to another, in every layer."""
    width, own, hypotheses = model.shape.width, work.own, work.beams * len(work.batch.order)
    for layer in range(model.decoder.layers):
        begin, to = (layer * hypotheses + source) * width, (layer * hypotheses + target) * width
        copy(own.hidden, begin, width, own.hidden, to)
        if model.shape.parts == 2:
            copy(own.cell, begin, width, own.cell, to)
    if model.shape.feeds == 1:
        embedding = model.shape.embedding
        copy(work.fed, source * embedding, embedding, work.fed, target * embedding)
