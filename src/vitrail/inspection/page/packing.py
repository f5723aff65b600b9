"""Arrays as text in a page: numbers exact or rounded, several arrays deflated together, equal ones told once."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.generic]
Precision = Literal["float32", "float16", "rounded8"]
"""float16 is off by at most 2^-11 of a number; rounded8 by at most 1/510 of the range between an array's least and largest numbers."""


@dataclass(frozen=True)
class Group:
    """Arrays that go into a page together, or not at all."""

    entries: dict[str, dict[str, Any]]
    """By name: shape, type, where its bytes lie in `data`; or the name of an array that holds the same numbers."""
    data: str
    """Deflated, in base64."""
    known: dict[str, dict[str, Any]] = field(repr=False)
    """What later groups may refer to: by digest."""

    @property
    def size(self) -> int:
        """Bytes that it takes in the page, beside its entries."""
        return len(self.data)


def pack(arrays: Mapping[str, Values], *, precision: Precision, known: Mapping[str, dict[str, Any]]) -> Group:
    """Pack a group.

    Args: known: what earlier groups of the same page hold; equal arrays are told by their names.
    """
    entries: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}
    parts: list[bytes] = []
    at = 0
    for name, values in arrays.items():
        digest = _digest(values)
        same = own.get(digest) or known.get(digest)
        if same is not None:
            entries[name] = {"shape": list(values.shape), **same}
            continue
        part, entry = _encode(values, precision)
        entries[name] = {"shape": list(values.shape), **entry, "at": at}
        parts.append(part)
        at += len(part)
        own[digest] = {"same": name}
        if values.ndim == 3:
            # Heads side by side: Z of every head is what their concatenation holds, row by row.
            own.setdefault(_digest(values.swapaxes(0, 1).reshape(values.shape[1], -1)), {"same": name, "merged": True})
    return Group(entries, deflate(b"".join(parts)), own)


def deflate(data: bytes) -> str:
    """Deflated, as text in base64."""
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def least_size(arrays: Mapping[str, Values], precision: Precision) -> float:
    """A guess from below of a group's size, in no time: what is 0 takes next to nothing, a code of one byte takes a tenth or more, equal
    arrays are told once, a number that was not rounded takes four fifths of itself."""
    width, share = {"float32": (4, 0.8), "float16": (2, 0.8), "rounded8": (1, 0.1)}[precision]
    different = {_digest(values): int(np.count_nonzero(values)) for values in arrays.values() if values.dtype != np.bool_}
    return sum(different.values()) * width * share * 4 / 3


def _digest(values: Values) -> str:
    values = np.ascontiguousarray(values)
    return hashlib.blake2b(values.tobytes(), digest_size=16, key=f"{values.shape}{values.dtype}".encode()[:64]).hexdigest()


def _encode(values: Values, precision: Precision) -> tuple[bytes, dict[str, Any]]:
    """Bytes in little-endian order, and what it takes to read them."""
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values, dtype="u1").tobytes(), {"type": "uint8"}
    if values.dtype.kind in "iu":  # layers, ranks, places of words: rounded ones would be others
        return np.ascontiguousarray(values, dtype="<f4").tobytes(), {"type": "float32"}
    if precision == "rounded8":
        codes, low, high = round8(values)
        return codes.tobytes(), {"type": "rounded8", "low": low, "high": high}
    # Beyond what a half can hold nothing is rounded: such numbers are the matter of a person who looks for them.
    fits = precision == "float16" and float(np.abs(values.astype(np.float64)).max(initial=0)) < 65_000
    kind = "float16" if fits else "float32"
    return np.ascontiguousarray(values, dtype="<f2" if fits else "<f4").tobytes(), {"type": kind}


def round8(values: Values) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Codes 0 to 255, and the numbers that 0 and 255 stand for. A number between is low + code·(high - low)/255.

    Where all are >= 0, 0 stands for 0: what is masked stays exactly so. Not-a-number becomes low.
    """
    wide = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = min(float(wide.min(initial=0)), 0.0), float(wide.max(initial=0))
    span = high - low or 1.0
    return np.rint((wide - low) / span * 255).astype(np.uint8), low, low + span
