"""Arrays for compiled code."""

import numpy as np
import numpy.typing as npt

LINE_BYTES = 64
"""Of a cache line, and of a vector of 16 numbers: rows that begin at a multiple are loaded at once."""


def aligned_zeros(count: int) -> npt.NDArray[np.float32]:
    """Zeros [count] of float32 that begin at a cache line."""
    spare = LINE_BYTES // 4
    whole = np.zeros(count + spare, np.float32)
    begin = -whole.ctypes.data % LINE_BYTES // 4
    return whole[begin : begin + count]


def padded(width: int) -> int:
    """The width up to the next multiple of 16."""
    return -(-width // 16) * 16
