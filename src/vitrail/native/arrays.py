"""Arrays for compiled code."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LINE_BYTES = 64
"""Of a cache line, and of a vector of 16 numbers: rows that begin at a multiple are loaded at once."""

Allocate = Callable[[int, Any], Any]
"""Makes an array of one dimension: its length and its type."""


def allocate(count: int, kind: Any) -> Any:
    """An array of one dimension, not filled."""
    return np.empty(count, kind)


def aligned_zeros(count: int) -> Floats:
    """Zeros [count] of float32 that begin at a cache line."""
    spare = LINE_BYTES // 4
    whole = np.zeros(count + spare, np.float32)
    begin = -whole.ctypes.data % LINE_BYTES // 4
    return whole[begin : begin + count]


def aligned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy of one dimension that begins at a cache line."""
    room = np.zeros(values.nbytes + LINE_BYTES, np.uint8)
    begin = -room.ctypes.data % LINE_BYTES
    copy = room[begin : begin + values.nbytes].view(values.dtype)
    copy[:] = values.reshape(-1)
    return copy


def padded(width: int, to: int = 16) -> int:
    """The width up to the next multiple."""
    return -(-width // to) * to
