"""Products with matrices, in float32, in bfloat16 and in 8-bit numbers: out = x·Wᵀ + b, or out + x·Wᵀ + b.

A block is some rows of x times some tiles of 16 outputs, whose sums all stay in registers. A sum is taken in the order of the inputs
whatever the block, so that a row's result does not depend on how many rows there are.

In 8 bits, a row of x is written as bytes q with x ≈ s·(q - 128), s = max |x| / 127, and W[o] as v with W[o] ≈ t[o]·v:

    x·W[o] ≈ s·t[o]·(Σ q·v - 128·Σ v)

In bfloat16, x and W are rounded to 16 bits; products are exact, and sums are float32.
"""

from collections.abc import Callable

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.halves import dot2, store_halves
from vitrail.native.integers import (
    dot4,
    get_integers,
    integer_registers,
    load_integers,
    put_integers,
    rounded,
    spread_bytes,
    spread_integer,
    store_bytes,
    to_floats,
)
from vitrail.native.lanes import get, larger, largest, load, magnitude, multiply_add, put, registers, spread, spread_at, store, total
from vitrail.native.matrices.packing import BYTES, HALVES, ByteMatrices, FloatMatrices, HalfMatrices, Linear, Matrices, Quantised

ROWS_AT_ONCE = 96
"""Rows whose inputs stay in the cache while all tiles of a matrix pass."""


Span = tuple[int, int]
"""The first row and the one after the last."""
ByteBlock = Callable[[ByteMatrices, Linear, int, Quantised, Span, int, Floats], int]
HalfBlock = Callable[[HalfMatrices, Linear, int, Quantised, Span, int, Floats], int]
FloatBlock = Callable[[FloatMatrices, Linear, int, Floats, Span, int, Floats], int]


def _byte_block(rows: int, tiles: int) -> ByteBlock:
    shape = (0,) * (rows * tiles)

    def block(matrices: ByteMatrices, linear: Linear, layer: int, x: Quantised, span: Span, tile: int, out: Floats) -> int:
        """As many rows of the span as fill blocks; returns the first row that is left."""
        inputs, outputs = linear.inputs, linear.outputs
        begin = linear.weight + (layer * outputs + 16 * tile) * inputs
        number = linear.row + layer * outputs + 16 * tile
        sums = integer_registers(shape)
        row = span[0]
        while row + rows <= span[1]:
            for i in range(len(shape)):
                put_integers(sums, i, spread_integer(np.int32(0)))
            for k in range(0, inputs, 4):
                for t in range(tiles):
                    weights = load_integers(matrices.numbers, begin + 16 * (t * inputs + k))
                    for r in range(rows):
                        four = spread_bytes(x.numbers, (row + r) * inputs + k)
                        put_integers(sums, r * tiles + t, dot4(get_integers(sums, r * tiles + t), four, weights))
            for t in range(tiles):
                place = number + 16 * t
                scale, bias = load(matrices.scales, place), load(matrices.biases, place)
                offset = load_integers(matrices.offsets, place)
                for r in range(rows):
                    y = to_floats(get_integers(sums, r * tiles + t) - offset)
                    y = multiply_add(y, scale * spread_at(x.scales, row + r), bias)
                    at = (row + r) * outputs + 16 * (tile + t)
                    if linear.adds == 1:
                        y = y + load(out, at)
                    store(out, at, y)
            row += rows
        return row

    return compiled_inside(block)


def _half_block(rows: int, tiles: int) -> HalfBlock:
    shape = (0,) * (rows * tiles)

    def block(matrices: HalfMatrices, linear: Linear, layer: int, x: Quantised, span: Span, tile: int, out: Floats) -> int:
        """As many rows of the span as fill blocks; returns the first row that is left."""
        inputs, outputs = linear.inputs, linear.outputs
        begin = linear.weight + (layer * outputs + 16 * tile) * inputs
        number = linear.row + layer * outputs + 16 * tile
        sums = registers(shape)
        row = span[0]
        while row + rows <= span[1]:
            for i in range(len(shape)):
                put(sums, i, spread(np.float32(0)))
            for k in range(0, inputs, 2):
                for t in range(tiles):
                    weights = load_integers(matrices.numbers, begin + 16 * (t * inputs + k))
                    for r in range(rows):
                        two = spread_bytes(x.halves, (row + r) * inputs + k)
                        put(sums, r * tiles + t, dot2(get(sums, r * tiles + t), two, weights))
            for t in range(tiles):
                bias = load(matrices.biases, number + 16 * t)
                for r in range(rows):
                    y = get(sums, r * tiles + t) + bias
                    at = (row + r) * outputs + 16 * (tile + t)
                    if linear.adds == 1:
                        y = y + load(out, at)
                    store(out, at, y)
            row += rows
        return row

    return compiled_inside(block)


def _float_block(rows: int, tiles: int) -> FloatBlock:
    shape = (0,) * (rows * tiles)

    def block(matrices: FloatMatrices, linear: Linear, layer: int, x: Floats, span: Span, tile: int, out: Floats) -> int:
        """As many rows of the span as fill blocks; returns the first row that is left."""
        inputs, outputs = linear.inputs, linear.outputs
        begin = linear.weight + (layer * outputs + 16 * tile) * inputs
        number = linear.row + layer * outputs + 16 * tile
        sums = registers(shape)
        row = span[0]
        while row + rows <= span[1]:
            for i in range(len(shape)):
                put(sums, i, spread(np.float32(0)))
            for k in range(inputs):
                for t in range(tiles):
                    weights = load(matrices.numbers, begin + 16 * (t * inputs + k))
                    for r in range(rows):
                        one = spread_at(x, (row + r) * inputs + k)
                        put(sums, r * tiles + t, multiply_add(one, weights, get(sums, r * tiles + t)))
            for t in range(tiles):
                bias = load(matrices.biases, number + 16 * t)
                for r in range(rows):
                    y = get(sums, r * tiles + t) + bias
                    at = (row + r) * outputs + 16 * (tile + t)
                    if linear.adds == 1:
                        y = y + load(out, at)
                    store(out, at, y)
            row += rows
        return row

    return compiled_inside(block)


_bytes_8x2, _bytes_2x2, _bytes_1x8, _bytes_1x2 = (_byte_block(*size) for size in ((8, 2), (2, 2), (1, 8), (1, 2)))
_halves_8x2, _halves_2x2, _halves_1x8, _halves_1x2 = (_half_block(*size) for size in ((8, 2), (2, 2), (1, 8), (1, 2)))
_floats_8x2, _floats_2x2, _floats_1x8, _floats_1x2 = (_float_block(*size) for size in ((8, 2), (2, 2), (1, 8), (1, 2)))


@compiled_inside
def quantise(x: Floats, rows: int, inputs: int, out: Quantised) -> None:
    """Write each row as bytes 128 + round(127 x / max |x|) and its scale."""
    for row in range(rows):
        begin = row * inputs
        tops, zero = spread(np.float32(1e-30)), spread(np.float32(0))
        watch = zero  # becomes NaN where a number is not finite, which bytes cannot tell
        for k in range(0, inputs, 16):
            values = load(x, begin + k)
            tops, watch = larger(magnitude(values), tops), multiply_add(values, zero, watch)
        top = largest(tops)
        out.scales[row] = top / np.float32(127) + total(watch)
        factor, shift = spread(np.float32(127) / top), spread_integer(np.int32(128))
        for k in range(0, inputs, 16):
            store_bytes(out.numbers, begin + k, rounded(load(x, begin + k) * factor) + shift)


@compiled_inside
def _multiply_bytes(matrices: ByteMatrices, linear: Linear, layer: int, x: Quantised, rows: int, out: Floats) -> None:
    tiles = linear.outputs // 16
    for first in range(0, rows, ROWS_AT_ONCE):
        last, tile = min(rows, first + ROWS_AT_ONCE), 0
        if last - first == 1:
            while tile + 8 <= tiles:
                _bytes_1x8(matrices, linear, layer, x, (first, last), tile, out)
                tile += 8
        while tile < tiles:
            row = _bytes_8x2(matrices, linear, layer, x, (first, last), tile, out)
            if row < last:
                row = _bytes_2x2(matrices, linear, layer, x, (row, last), tile, out)
            if row < last:
                _bytes_1x2(matrices, linear, layer, x, (row, last), tile, out)
            tile += 2


@compiled_inside
def _multiply_halves(matrices: HalfMatrices, linear: Linear, layer: int, x: Quantised, rows: int, out: Floats) -> None:
    tiles = linear.outputs // 16
    for first in range(0, rows, ROWS_AT_ONCE):
        last, tile = min(rows, first + ROWS_AT_ONCE), 0
        if last - first == 1:
            while tile + 8 <= tiles:
                _halves_1x8(matrices, linear, layer, x, (first, last), tile, out)
                tile += 8
        while tile < tiles:
            row = _halves_8x2(matrices, linear, layer, x, (first, last), tile, out)
            if row < last:
                row = _halves_2x2(matrices, linear, layer, x, (row, last), tile, out)
            if row < last:
                _halves_1x2(matrices, linear, layer, x, (row, last), tile, out)
            tile += 2


@compiled_inside
def _multiply_floats(matrices: FloatMatrices, linear: Linear, layer: int, x: Floats, rows: int, out: Floats) -> None:
    tiles = linear.outputs // 16
    for first in range(0, rows, ROWS_AT_ONCE):
        last, tile = min(rows, first + ROWS_AT_ONCE), 0
        if last - first == 1:
            while tile + 8 <= tiles:
                _floats_1x8(matrices, linear, layer, x, (first, last), tile, out)
                tile += 8
        while tile < tiles:
            row = _floats_8x2(matrices, linear, layer, x, (first, last), tile, out)
            if row < last:
                row = _floats_2x2(matrices, linear, layer, x, (row, last), tile, out)
            if row < last:
                _floats_1x2(matrices, linear, layer, x, (row, last), tile, out)
            tile += 2


@compiled_inside
def multiply(matrices: Matrices, linear: Linear, layer: int, x: Floats, rows: int, room: Quantised, out: Floats) -> None:
    """out [rows, outputs] = x·Wᵀ + b of x [rows, inputs], or out + x·Wᵀ + b where the matrix adds.

    Args: room: for the rows in fewer bits.
    """
    if linear.kind == BYTES:
        quantise(x, rows, linear.inputs, room)
        _multiply_bytes(matrices.bytes, linear, layer, room, rows, out)
    elif linear.kind == HALVES:
        for k in range(0, rows * linear.inputs, 16):
            store_halves(room.halves, k, load(x, k))
        _multiply_halves(matrices.halves, linear, layer, room, rows, out)
    else:
        _multiply_floats(matrices.floats, linear, layer, x, rows, out)
