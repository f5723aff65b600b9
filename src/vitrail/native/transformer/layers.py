"""The layers of a Transformer over some rows: embeddings, norms, the feed-forward layer.

A row is one token of a source in the encoder, and one hypothesis in the decoder. Widths D, E, F are padded; letters as in `vitrail.nn`.
"""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import Lanes, exponential, keep_first, larger, load, magnitude, multiply_add, spread, square_root, store, total
from vitrail.native.matrices.packing import Linear
from vitrail.native.matrices.products import multiply
from vitrail.native.transformer.architecture import AFFINE, GELU, LAYER_NORM, RELU, SILU
from vitrail.native.transformer.memory import Rooms
from vitrail.native.transformer.packing import EPSILON, Model


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
