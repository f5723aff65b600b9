"""Some rows of a matrix as matrices of their own: one for each list of rows."""

import numpy as np

from vitrail.native.arrays import Integers
from vitrail.native.compiled import compiled_inside
from vitrail.native.matrices.packing import Linear, Listed, MatrixRows

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def some_rows(linear: Linear, first: int, end: int, stride: int) -> Linear:
    """Where rows of a matrix are in `Listed.matrices`. Args: stride: numbers from one row of the result to the next."""
    return Linear(first * linear.inputs, first, linear.inputs, end - first, linear.kind, 0, stride)


@compiled_inside
def _copy(rows: MatrixRows, row: int, out: Listed, place: int) -> None:
    """Copy a row to a place, counted in rows."""
    to, begin, width = (place - place % 16) * rows.width + place % 16, row * rows.width, rows.width
    for k in range(width):
        out.words[to + 16 * k] = rows.words[begin + k]
    out.biases[place] = rows.biases[row]
    if len(rows.scales) > 0:
        out.scales[place], out.offsets[place] = rows.scales[row], rows.offsets[row]


@compiled_inside
def _clear(rows: MatrixRows, out: Listed, place: int) -> None:
    """Make a row at a place give -inf."""
    to = (place - place % 16) * rows.width + place % 16
    for k in range(rows.width):
        out.words[to + 16 * k] = 0
    out.biases[place] = -np.inf
    if len(rows.scales) > 0:
        out.scales[place], out.offsets[place] = 0, 0


@compiled_inside
def gather(rows: MatrixRows, lists: Integers, starts: Integers, columns: Integers, out: Listed) -> None:
    """Copy the rows of each list; what pads a list gives -inf.

    Args: starts: list b is lists[starts[b]] to lists[starts[b + 1]]. columns: where its rows are put; multiples of 32.
    """
    for b in range(len(starts) - 1):
        shift = columns[b] - starts[b]
        for i in range(starts[b], starts[b + 1]):
            _copy(rows, lists[i], out, i + shift)
        for place in range(starts[b + 1] + shift, columns[b + 1]):
            _clear(rows, out, place)
