"""The layers of a Transformer over some rows: embeddings, norms, attention, feed-forward; the encoder, and one step of the decoder.

A row is one token of a source in the encoder, and one hypothesis in the decoder. Sources stand one after the other, without padding between
them. Widths D, E, F are padded; letters as in `vitrail.nn`.
"""

import numpy as np

from vitrail.native.arrays import Floats, Integers
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import Lanes, exponential, keep_first, larger, load, magnitude, multiply_add, spread, square_root, store, total
from vitrail.native.matrices.packing import Linear
from vitrail.native.matrices.products import multiply
from vitrail.native.transformer.architecture import AFFINE, GELU, LAYER_NORM, RELU, SILU
from vitrail.native.transformer.attention import attend, remember, turn
from vitrail.native.transformer.memory import PAGE, Past, Rooms, Workspace
from vitrail.native.transformer.packing import EPSILON, Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def embed(model: Model, begin: int, positions: int, token: int, position: int, row: int, rooms: Rooms) -> None:
    """x[row] = X·√D + P. Args: begin, positions: where the embeddings and positions of the side begin."""
    width, weights = model.shape.width, model.weights
    from_token, from_position, to = begin + token * width, positions + position * width, row * width
    for k in range(0, width, 16):
        value = load(weights.embeddings, from_token + k)
        if model.shape.adds_positions == 1:
            value = value + load(weights.positions, from_position + k)
        store(rooms.x, to + k, value)


@compiled_inside
def normalise(model: Model, norm: int, layer: int, x: Floats, rows: int, out: Floats) -> None:
    """out = (x - mean) / √(variance + ε)·g + b; of RMS norm x / √(mean(x²) + ε)·g; of batch norm x·g + b. x and out may be the same."""
    shape, numbers = model.shape, model.weights.norms
    width, real = shape.width, shape.real_width
    factors = norm + 2 * layer * width
    zero, share = np.float32(0), np.float32(1) / np.float32(real)
    for row in range(rows):
        begin = row * width
        mean, scale = spread(zero), spread(np.float32(1))
        if shape.norm == LAYER_NORM:
            sums = spread(zero)
            for k in range(0, width, 16):
                sums = sums + load(x, begin + k)
            mean = spread(total(sums) * share)
        if shape.norm != AFFINE:
            sums = spread(zero)
            for k in range(0, width, 16):
                d = keep_first(load(x, begin + k) - mean, real - k, zero)
                sums = multiply_add(d, d, sums)
            scale = spread(np.float32(1)) / square_root(spread(total(sums) * share + np.float32(EPSILON)))
        for k in range(0, width, 16):
            y = (load(x, begin + k) - mean) * scale
            store(out, begin + k, multiply_add(y, load(numbers, factors + k), load(numbers, factors + width + k)))


@compiled_inside
def gelu(x: Lanes) -> Lanes:
    """x·Φ(x), within 1e-7·|x| (Φ by formula 7.1.26 of Abramowitz and Stegun 1964)."""
    one, size = spread(np.float32(1)), magnitude(x)
    t = one / multiply_add(size, spread(np.float32(0.3275911 * 0.7071067811865476)), one)
    p = spread(np.float32(1.061405429))
    p = multiply_add(p, t, spread(np.float32(-1.453152027)))
    p = multiply_add(p, t, spread(np.float32(1.421413741)))
    p = multiply_add(p, t, spread(np.float32(-0.284496736)))
    p = multiply_add(p, t, spread(np.float32(0.254829592)))
    tail = p * t * exponential(x * x * spread(np.float32(-0.5))) * spread(np.float32(0.5))
    return larger(x, spread(np.float32(0))) - size * tail


@compiled_inside
def activate(model: Model, rows: int, outputs: int, z: Floats) -> None:
    """f(z) of each row; of SwiGLU silu(z[:F]) * z[F:2F], whose rows are then half as wide. In place."""
    hidden, kind = model.shape.hidden, model.shape.activation
    zero, one = spread(np.float32(0)), spread(np.float32(1))
    for row in range(rows):
        begin, to = row * outputs, row * hidden
        for k in range(0, hidden, 16):
            value = load(z, begin + k)
            if kind == RELU:
                value = larger(value, zero)
            elif kind == GELU:
                value = gelu(value)
            elif kind == SILU:
                value = value / (one + exponential(zero - value))
            else:
                value = value / (one + exponential(zero - value)) * load(z, begin + hidden + k)
            store(z, to + k, value)


@compiled_inside
def before(model: Model, norm: int, layer: int, rows: int, rooms: Rooms) -> None:
    """y = what a sublayer reads: norm(x) with pre-norm, else x."""
    if model.shape.pre_norm == 1:
        normalise(model, norm, layer, rooms.x, rows, rooms.y)
    else:
        for k in range(0, rows * model.shape.width, 16):
            store(rooms.y, k, load(rooms.x, k))


@compiled_inside
def after(model: Model, norm: int, layer: int, rows: int, rooms: Rooms) -> None:
    """What follows a sublayer's sum: x = norm(x) with post-norm."""
    if model.shape.pre_norm == 0:
        normalise(model, norm, layer, rooms.x, rows, rooms.x)


@compiled_inside
def feed_forward(model: Model, linears: tuple[Linear, Linear], norm: int, layer: int, rows: int, rooms: Rooms) -> None:
    """x = x + W2·f(W1·norm(x) + b1) + b2. Args: linears: W1 and W2."""
    expand, contract = linears
    before(model, norm, layer, rows, rooms)
    multiply(model.weights.matrices, expand, layer, rooms.y, rows, rooms.quantised, rooms.z)
    activate(model, rows, expand.outputs, rooms.z)
    multiply(model.weights.matrices, contract, layer, rooms.z, rows, rooms.quantised, rooms.x)
    after(model, norm, layer, rows, rooms)


@compiled_inside
def _attend_within(model: Model, first: int, last: int, work: Workspace) -> None:
    """Self-attention of the rows of one sentence to each other; queries, keys and values are in z."""
    shape, rooms, turns = model.shape, work.rooms, model.weights.positions
    width = shape.attention
    for row in range(first, last):
        query = row * 3 * width
        turn(shape, turns, rooms.z, query, row - first)
        turn(shape, turns, rooms.z, query + width, row - first)
        remember(shape, rooms.z, query + width, query + 2 * width, work.within, row - first)
    for row in range(first, last):
        attend(shape, rooms, row * 3 * width, work.within, Past(0, last - first), row * width)


@compiled_inside
def encode(model: Model, work: Workspace) -> None:
    """Read the sources, and keep their keys and values for every layer of the decoder."""
    shape, linears, norms, batch, rooms = model.shape, model.linears, model.norms, work.batch, work.rooms
    rows, sentences = len(batch.tokens), len(batch.starts) - 1
    for b in range(sentences):
        for row in range(batch.starts[b], batch.starts[b + 1]):
            embed(model, 0, 0, batch.tokens[row], row - batch.starts[b], row, rooms)
    if shape.embedding_norm == 1:
        normalise(model, norms.source, 0, rooms.x, rows, rooms.x)
    for layer in range(shape.encoder_layers):
        before(model, norms.encoder_1, layer, rows, rooms)
        multiply(model.weights.matrices, linears.encoder_qkv, layer, rooms.y, rows, rooms.quantised, rooms.z)
        for b in range(sentences):
            _attend_within(model, batch.starts[b], batch.starts[b + 1], work)
        multiply(model.weights.matrices, linears.encoder_out, layer, rooms.mixed, rows, rooms.quantised, rooms.x)
        after(model, norms.encoder_1, layer, rows, rooms)
        feed_forward(model, (linears.encoder_expand, linears.encoder_contract), norms.encoder_2, layer, rows, rooms)
    before(model, norms.encoder_end, 0, rows, rooms)
    for layer in range(shape.decoder_layers):
        multiply(model.weights.matrices, linears.cross_source, layer, rooms.y, rows, rooms.quantised, rooms.z)
        for b in range(sentences):
            first = PAGE * (layer * batch.pages[sentences] + batch.pages[b])
            for row in range(batch.starts[b], batch.starts[b + 1]):
                key = row * 2 * shape.attention
                remember(shape, rooms.z, key, key + shape.attention, work.source, first + row - batch.starts[b])


@compiled_inside
def _attend_to_own(model: Model, work: Workspace, layer: int, rows: int, places: Integers, position: int) -> None:
    """Self-attention of each hypothesis to its tokens so far."""
    shape, linears, norm, rooms, turns = model.shape, model.linears, model.norms.decoder_1, work.rooms, model.weights.positions
    width, hypotheses = shape.attention, work.beams * (len(work.batch.starts) - 1)
    before(model, norm, layer, rows, rooms)
    multiply(model.weights.matrices, linears.decoder_qkv, layer, rooms.y, rows, rooms.quantised, rooms.z)
    for row in range(rows):
        query, first = row * 3 * width, (layer * hypotheses + places[row]) * work.room
        turn(shape, turns, rooms.z, query, position)
        turn(shape, turns, rooms.z, query + width, position)
        remember(shape, rooms.z, query + width, query + 2 * width, work.own, first + position)
        attend(shape, rooms, query, work.own, Past(first, position + 1), row * width)
    multiply(model.weights.matrices, linears.decoder_out, layer, rooms.mixed, rows, rooms.quantised, rooms.x)
    after(model, norm, layer, rows, rooms)


@compiled_inside
def _attend_to_source(model: Model, work: Workspace, layer: int, rows: int, places: Integers) -> None:
    """Attention of each hypothesis to its source."""
    shape, linears, norm, rooms, batch = model.shape, model.linears, model.norms.decoder_2, work.rooms, work.batch
    all_pages = batch.pages[len(batch.starts) - 1]
    before(model, norm, layer, rows, rooms)
    multiply(model.weights.matrices, linears.cross_query, layer, rooms.y, rows, rooms.quantised, rooms.z)
    for row in range(rows):
        b = places[row] // work.beams
        past = Past(PAGE * (layer * all_pages + batch.pages[b]), batch.starts[b + 1] - batch.starts[b])
        attend(shape, rooms, row * shape.attention, work.source, past, row * shape.attention)
    multiply(model.weights.matrices, linears.cross_out, layer, rooms.mixed, rows, rooms.quantised, rooms.x)
    after(model, norm, layer, rows, rooms)


@compiled_inside
def decode_step(model: Model, work: Workspace, rows: int, places: Integers, last: Integers, position: int) -> None:
    """Read one more token of each row; what the vocabulary is multiplied with is then in y [rows, D].

    Args: places: [rows] where the memory of each row is: sentence * K + a number below K. last: [rows] its last token.
    """
    shape, norms, rooms = model.shape, model.norms, work.rooms
    for row in range(rows):
        embed(model, shape.target_embedding, shape.target_positions, last[row], position, row, rooms)
    if shape.embedding_norm == 1:
        normalise(model, norms.target, 0, rooms.x, rows, rooms.x)
    for layer in range(shape.decoder_layers):
        _attend_to_own(model, work, layer, rows, places, position)
        _attend_to_source(model, work, layer, rows, places)
        feed_forward(model, (model.linears.decoder_expand, model.linears.decoder_contract), norms.decoder_3, layer, rows, rooms)
    before(model, norms.decoder_end, 0, rows, rooms)
