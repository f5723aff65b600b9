"""One step of a recurrent cell, as its equations; see `vitrail.nn.cells` for their sources.

W·x + b and U·h + b' of all gates are given, normed where a cell has layer norm. A state that padding is part of stays 0 there.
"""

from typing import NamedTuple

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import Lanes, exponential, load, multiply_add, sigmoid, spread, square_root, store, total
from vitrail.native.recurrent.architecture import GRU, LSTM
from vitrail.native.recurrent.memory import Carry, Gates
from vitrail.native.recurrent.packing import EPSILON


class Norm(NamedTuple):
    """A layer norm."""

    begin: int
    """Where its factors, terms and marks begin."""
    width: int
    real_width: int


class Row(NamedTuple):
    """Where the numbers of one row begin."""

    inputs: int
    recurrent: int
    carry: int
    width: int
    """w"""


@compiled_inside
def tanh(x: Lanes) -> Lanes:
    """2 / (1 + e^-2x) - 1, within 2e-7; NaN where x is not finite."""
    zero, one, two = spread(np.float32(0)), spread(np.float32(1)), spread(np.float32(2))
    return multiply_add(x, zero, two / (one + exponential(zero - two * x)) - one)


@compiled_inside
def normalise(norms: Floats, norm: Norm, x: Floats, begin: int) -> None:
    """x = (x - mean) / √(variance + ε)·g + b of one row, in place. Precondition: padding is 0."""
    width, zero, share = norm.width, spread(np.float32(0)), np.float32(1) / np.float32(norm.real_width)
    factors, terms, marks = norm.begin, norm.begin + width, norm.begin + 2 * width
    sums = zero
    for k in range(0, width, 16):
        sums = sums + load(x, begin + k)
    mean, sums = spread(total(sums) * share), zero
    for k in range(0, width, 16):
        d = (load(x, begin + k) - mean) * load(norms, marks + k)
        sums = multiply_add(d, d, sums)
    scale = spread(np.float32(1)) / square_root(spread(total(sums) * share + np.float32(EPSILON)))
    for k in range(0, width, 16):
        y = (load(x, begin + k) - mean) * scale
        store(x, begin + k, multiply_add(y, load(norms, factors + k), load(norms, terms + k)))


@compiled_inside
def _elman(gates: Gates, row: Row, carry: Carry) -> None:
    """h' = tanh(W·x + U·h)."""
    for k in range(0, row.width, 16):
        h = tanh(load(gates.inputs, row.inputs + k) + load(gates.recurrent, row.recurrent + k))
        store(carry.hidden, row.carry + k, h)


@compiled_inside
def _gru(gates: Gates, row: Row, carry: Carry) -> None:
    """r = σ(W_r·x + U_r·h);  z = σ(W_z·x + U_z·h);  n = tanh(W_n·x + r * U_n·h);  h' = n + z * (h - n)."""
    for k in range(0, row.width, 16):
        x, u = row.inputs + k, row.recurrent + k
        reset = sigmoid(load(gates.inputs, x) + load(gates.recurrent, u))
        update = sigmoid(load(gates.inputs, x + row.width) + load(gates.recurrent, u + row.width))
        candidate = tanh(multiply_add(reset, load(gates.recurrent, u + 2 * row.width), load(gates.inputs, x + 2 * row.width)))
        h = load(carry.hidden, row.carry + k)
        store(carry.hidden, row.carry + k, multiply_add(update, h - candidate, candidate))


@compiled_inside
def _lstm(norms: Floats, norm: Norm, gates: Gates, row: Row, carry: Carry) -> None:
    """i, f, o = σ(W·x + U·h);  g = tanh(W_g·x + U_g·h);  c' = f * c + i * g;  h' = o * tanh(c'), or o * tanh(norm(c')).

    The gates come in the order i, f, g, o. Args: norm: without a width where there is none.
    """
    w, shown = row.width, gates.recurrent
    for k in range(0, w, 16):
        x, u = row.inputs + k, row.recurrent + k
        added = sigmoid(load(gates.inputs, x) + load(gates.recurrent, u))
        kept = sigmoid(load(gates.inputs, x + w) + load(gates.recurrent, u + w))
        candidate = tanh(load(gates.inputs, x + 2 * w) + load(gates.recurrent, u + 2 * w))
        c = multiply_add(kept, load(carry.cell, row.carry + k), added * candidate)
        store(carry.cell, row.carry + k, c)
        store(shown, u, c)  # in the place of i, which is not needed any more
    if norm.width > 0:
        normalise(norms, norm, shown, row.recurrent)
    for k in range(0, w, 16):
        x, u = row.inputs + k, row.recurrent + k
        opened = sigmoid(load(gates.inputs, x + 3 * w) + load(gates.recurrent, u + 3 * w))
        store(carry.hidden, row.carry + k, opened * tanh(load(shown, u)))


@compiled_inside
def advance(kind: int, norms: Floats, norm: Norm, gates: Gates, row: Row, carry: Carry) -> None:
    """One step of a row: its states in `carry` become the next ones. Args: norm: of an LSTM's cell state."""
    if kind == LSTM:
        _lstm(norms, norm, gates, row, carry)
    elif kind == GRU:
        _gru(gates, row, carry)
    else:
        _elman(gates, row, carry)
