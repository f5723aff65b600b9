"""Arrays for compiled code."""

import ctypes
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LINE_BYTES = 64
"""Of a cache line, and of a vector of 16 numbers: rows that begin at a multiple are loaded at once."""

_KINDS: tuple[type[np.generic], ...] = (np.float32, np.float64, np.int64, np.int32, np.uint16, np.uint8)
Allocate = Callable[[int, Any], Any]
"""Makes an array of one dimension: its length and its type."""


def allocate(count: int, kind: Any) -> Any:
    """An array of one dimension, not filled."""
    return np.empty(count, kind)


Address = Callable[[npt.NDArray[Any]], int]
"""Says where an array begins in memory."""
_NOTHING = ctypes.c_char * 0


def address_of(array: npt.NDArray[Any]) -> int:
    """Where an array begins, in a quarter of the time that `array.ctypes` takes."""
    return ctypes.addressof(_NOTHING.from_buffer(cast(Any, array)))


class _Room:
    """Memory whose parts are arrays. Args: made: each array that was made and where it begins, by its id."""

    def __init__(self, most_bytes: int, made: dict[int, tuple[npt.NDArray[Any], int]]) -> None:
        self._most, self._used, self._made = most_bytes, 0, made
        self._resize(0)

    def _resize(self, size: int) -> None:
        self._size, room = size, aligned(np.empty(size, np.uint8))
        self._begin = address_of(room)
        self._views: dict[Any, npt.NDArray[Any]] = {kind: room.view(kind) for kind in _KINDS}

    def begin(self) -> None:
        """Arrays made so far are void. A room that was too small is a larger one from now on."""
        if self._size < min(self._used, self._most):
            self._resize(padded(min(2 * self._used, self._most), LINE_BYTES))
        self._used = 0

    def make(self, count: int, kind: Any) -> Any:
        """See `Allocate`. What is beyond the room gets memory of its own."""
        view = self._views[kind]
        begin, item = self._used, view.itemsize
        self._used += -(-item * count // LINE_BYTES) * LINE_BYTES
        if self._used > self._size:
            return np.empty(count, kind)
        made = view[begin // item : begin // item + count]
        self._made[id(made)] = made, self._begin + begin
        return made

    @property
    def is_enough(self) -> bool:
        """Whether all arrays made since `begin` are in it."""
        return self._used <= self._size

    def copy(self) -> npt.NDArray[np.uint8]:
        """What the arrays made since `begin` hold."""
        return self._views[np.uint8][: self._used].copy()

    def restore(self, copy: npt.NDArray[np.uint8]) -> None:
        """Let the arrays hold what they held."""
        self._views[np.uint8][: len(copy)] = copy


class Arena:
    """Memory for the arrays of some batches after those of others, so that the system need not hand out and clear pages anew.

    For one thread at a time. Args: most_bytes: of each of its two rooms.
    """

    def __init__(self, most_bytes: int = 1 << 28) -> None:
        self._made: dict[int, tuple[npt.NDArray[Any], int]] = {}
        self._kept, self._passing = _Room(most_bytes, self._made), _Room(most_bytes, self._made)
        self.reusable: Any = None
        """What its user made of its arrays and can use again; None again once they are void."""

    def begin(self) -> Allocate:
        """For arrays that are kept while several batches are computed. All arrays made so far are void."""
        self.reusable = None
        self._kept.begin()
        self._made.clear()
        return self._kept.make

    def begin_batch(self) -> Allocate:
        """For arrays that are needed while one batch is computed: they are where those of the batch before are."""
        self.reusable = None
        self._passing.begin()
        return self._passing.make

    def copy(self) -> npt.NDArray[np.uint8] | None:
        """What the arrays that are kept hold, for `restore`; None where some array has memory of its own."""
        return self._kept.copy() if self._kept.is_enough and self._passing.is_enough else None

    def restore(self, copy: npt.NDArray[np.uint8]) -> None:
        """Let the arrays that are kept hold what they held. Precondition: none was made since."""
        self._kept.restore(copy)

    def address_of(self, array: npt.NDArray[Any]) -> int:
        """Where an array begins: known of those that it made."""
        known = self._made.get(id(array))
        return address_of(array) if known is None else known[1]


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
