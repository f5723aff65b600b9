"""Marian's binary files: the weights of a model, and its shortlist.

A model is: version, number of items; for each item the lengths of its name, shape and data and its type; all names, all shapes; padding up
to a multiple of 256; all data, each padded to a multiple of 256. Numbers of 8 bits are stored output by output, [outputs, inputs], followed
by the multiplier that they were rounded with: the program puts them into the order that its processor wants.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FLOATS, BYTES, ROUNDED = 0x0404, 0x0101, 0x4101
"""Types of items: float32; 8 bits; 8 bits with their multiplier, for intgemm."""
_VERSION, _ALIGNED = 1, 256
_SHORTLIST = 0xF11A48D5013417F5
_WORD = (1 << 64) - 1


class Item(NamedTuple):
    """A weight of a file."""

    shape: tuple[int, ...]
    """As Marian's graph has it: [inputs, outputs]."""
    kind: int
    data: bytes


def floats(values: npt.NDArray[np.float32]) -> Item:
    """Numbers of 32 bits."""
    return Item(values.shape, FLOATS, values.astype("<f4").tobytes())


def rounded(values: npt.NDArray[np.int8], shape: tuple[int, ...], multiplier: float) -> Item:
    """Numbers of 8 bits. Args: values: [outputs, inputs]. shape: as the graph has it. multiplier: by which numbers were multiplied."""
    return Item(shape, ROUNDED, values.tobytes() + struct.pack("<f", multiplier))


def text(value: str) -> Item:
    """Settings."""
    data = value.encode() + b"\0"
    return Item((len(data),), BYTES, data)


def model_file(items: Mapping[str, Item]) -> bytes:
    """The file of these items, in the order of their names, in which the settings are last."""
    named = sorted(items.items())
    data = [item.data if item.kind == BYTES else _padded(item.data, _ALIGNED) for _, item in named]
    parts = [struct.pack("<QQ", _VERSION, len(named))]
    for (name, item), values in zip(named, data, strict=True):
        parts.append(struct.pack("<QQQQ", len(name.encode()) + 1, item.kind, len(item.shape), len(values)))
    parts += [name.encode() + b"\0" for name, _ in named]
    parts += [struct.pack(f"<{len(item.shape)}i", *item.shape) for _, item in named]
    before = sum(map(len, parts)) + 8
    gap = _ALIGNED - before % _ALIGNED
    return b"".join([*parts, struct.pack("<Q", gap), bytes(gap), *data])


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def shortlist_file(targets: Sequence[Sequence[int]], *, first: int, best: int) -> bytes:
    """A lexical shortlist: for each source token the target tokens that may be written where it is in the sentence.

    Args: first: target tokens 0 to `first` - 1 may always be written. best: most tokens of a source token, which is told and not used.
    """
    rows = [sorted(set(row)) for row in targets]
    offsets = np.cumsum([0, *map(len, rows)], dtype="<u8")
    ids = np.array([id for row in rows for id in row], dtype="<u4")
    # What follows the checksum is read in words of 8 bytes: where there is half a word at the end, it does not count.
    body = struct.pack("<QQQQ", first, best, len(offsets), len(ids)) + offsets.tobytes() + ids.tobytes()
    return struct.pack("<QQ", _SHORTLIST, _checksum(body)) + body


def _checksum(data: bytes) -> int:
    """Marian's `hashMem` over words of 64 bits."""
    seed = 0
    for word in np.frombuffer(data[: len(data) // 8 * 8], "<u8").tolist():
        seed ^= (word + 0x9E3779B9 + (seed << 6) + (seed >> 2)) & _WORD
    return seed
