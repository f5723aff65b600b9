"""Matrices laid out for the compiled code: in tiles of 16 outputs, in 8-bit numbers with their scales, in bfloat16 or in float32.

Nothing here needs torch or Numba: arrays of two dimensions in, arrays of one dimension out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.native.arrays import Allocate, Floats, aligned, allocate, padded

Precision = Literal["int8", "bf16", "fp32"]
BYTES, HALVES, FLOATS = 0, 1, 2
_KINDS: dict[Precision, int] = {"int8": BYTES, "bf16": HALVES, "fp32": FLOATS}

TILE, STEP = 16, 32
"""Outputs of a tile; inputs and outputs of a matrix are multiples of STEP."""


class Linear(NamedTuple):
    """y = x·Wᵀ + b of each layer of a stack: where its numbers begin in the arrays of its precision."""

    weight: int
    """Layer l begins at weight + l * inputs * outputs."""
    row: int
    """Of biases and scales; layer l begins at row + l * outputs."""
    inputs: int
    outputs: int
    kind: int
    """BYTES, HALVES or FLOATS."""
    adds: int
    """1: the result is added to what is there (a residual connection)."""
    stride: int
    """Numbers from one row of the result to the next: `outputs`, or more."""


class ByteMatrices(NamedTuple):
    """Matrices of 8-bit numbers: W[o, i] = scales[o] * numbers[o, i]. A tile is [inputs / 4, 16, 4]."""

    numbers: npt.NDArray[np.int8]
    scales: Floats
    biases: Floats
    offsets: npt.NDArray[np.int32]
    """128 times the sum of each row: inputs are bytes from 0 to 255 that stand for -128 to 127."""


class HalfMatrices(NamedTuple):
    """Matrices of bfloat16: the upper 16 bits of a float32. A tile is [inputs / 2, 16, 2]."""

    numbers: npt.NDArray[np.uint16]
    biases: Floats


class FloatMatrices(NamedTuple):
    """Matrices of float32. A tile is [inputs, 16]."""

    numbers: Floats
    biases: Floats


class Matrices(NamedTuple):
    """All matrices of a model, by precision."""

    bytes: ByteMatrices
    halves: HalfMatrices
    floats: FloatMatrices


class MatrixRows(NamedTuple):
    """A matrix row by row, so that some of its rows can be copied; without numbers where nobody asked for it."""

    words: npt.NDArray[np.int32]
    """[outputs, width]"""
    biases: Floats
    scales: Floats
    """Of 8-bit numbers; else empty, as are the offsets."""
    offsets: npt.NDArray[np.int32]
    width: int
    """Words of 32 bits of a row."""


_NO_ROWS = MatrixRows(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), 0)


class Listed(NamedTuple):
    """Room for copied rows of a matrix, in tiles of 16 again."""

    matrices: Matrices
    """Those of the matrix's precision."""
    words: npt.NDArray[np.int32]
    """Their numbers as words of 32 bits."""
    biases: Floats
    scales: Floats
    """As in `MatrixRows`."""
    offsets: npt.NDArray[np.int32]


def matrix_bytes(matrices: Matrices) -> int:
    """Bytes of all weights."""
    return sum(part.numbers.nbytes for part in matrices)


class Quantised(NamedTuple):
    """Rows as bytes, each with its scale, or as bfloat16."""

    numbers: npt.NDArray[np.uint8]
    scales: Floats
    halves: npt.NDArray[np.uint16]


def make_quantised(rows: int, width: int, make: Allocate) -> Quantised:
    """Room for so many rows of at most this width."""
    return Quantised(make(rows * width, np.uint8), make(rows, np.float32), make(rows * width, np.uint16))


def rows_of(matrices: Matrices, linear: Linear) -> MatrixRows:
    """A matrix of one layer, row by row."""
    part = matrices[linear.kind]
    numbers, rows = (
        part.numbers[linear.weight : linear.weight + linear.inputs * linear.outputs],
        slice(linear.row, linear.row + linear.outputs),
    )
    words = numbers.view(np.int32).reshape(linear.outputs // TILE, -1, TILE)
    width, whole = words.shape[1], linear.kind == BYTES
    return MatrixRows(
        aligned(words.transpose(0, 2, 1)),
        part.biases[rows],
        matrices.bytes.scales[rows] if whole else _NO_ROWS.scales,
        matrices.bytes.offsets[rows] if whole else _NO_ROWS.offsets,
        width,
    )


class ListedVocabulary(NamedTuple):
    """What makes logits of shortlists."""

    rows: MatrixRows
    """Of all tokens."""
    shared: Listed
    """Those of the tokens that every sentence may have."""
    own: Listed
    """Room for those that each sentence may have besides."""


def pick_rows(rows: MatrixRows, linear: Linear, tokens: npt.NDArray[Any]) -> Listed:
    """Some rows of a matrix in tiles, padded with rows that give -inf. Args: linear: of that matrix."""
    outputs = padded(len(tokens), STEP)
    out = make_listed(linear, outputs, lambda count, kind: aligned(np.zeros(count, kind)))
    words = np.zeros((outputs, rows.width), np.int32)
    words[: len(tokens)] = rows.words.reshape(linear.outputs, rows.width)[tokens]
    out.words[:] = words.reshape(-1, TILE, rows.width).transpose(0, 2, 1).reshape(-1)
    out.biases[:] = np.pad(rows.biases[tokens], (0, outputs - len(tokens)), constant_values=-np.float32(np.inf))
    if len(rows.scales):
        out.scales[: len(tokens)], out.offsets[: len(tokens)] = rows.scales[tokens], rows.offsets[tokens]
    return out


def make_listed(linear: Linear, outputs: int, make: Allocate) -> Listed:
    """Room for so many rows of a matrix, a multiple of 32."""
    kinds: tuple[Any, ...] = (np.int8, np.uint16, np.float32)
    words: npt.NDArray[np.int32] = make(outputs * linear.inputs * np.dtype(kinds[linear.kind]).itemsize // 4, np.int32)
    numbers: list[Any] = [words.view(kind) if linear.kind == number else np.zeros(0, kind) for number, kind in enumerate(kinds)]
    biases: Floats = make(outputs, np.float32)
    scales, offsets = (make(outputs if linear.kind == BYTES else 0, kind) for kind in (np.float32, np.int32))
    none = np.zeros(0, np.float32)
    matrices = Matrices(
        ByteMatrices(numbers[BYTES], scales, biases if linear.kind == BYTES else none, offsets),
        HalfMatrices(numbers[HALVES], biases if linear.kind == HALVES else none),
        FloatMatrices(numbers[FLOATS], biases if linear.kind == FLOATS else none),
    )
    return Listed(matrices, words, biases, scales, offsets)


NO_LISTS = ListedVocabulary(_NO_ROWS, *(make_listed(Linear(0, 0, 0, 0, 0, 0, 0), 0, allocate) for _ in range(2)))
"""Where nobody asks for shortlists."""


def to_halves(values: Floats) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 of each number, the even one of two. Precondition: all are finite."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@dataclass
class Pool:
    """Collects matrices of one precision."""

    precision: Precision
    _numbers: list[npt.NDArray[Any]] = field(default_factory=list)
    _biases: list[Floats] = field(default_factory=list)
    _scales: list[Floats] = field(default_factory=list)
    _offsets: list[npt.NDArray[np.int32]] = field(default_factory=list)
    _size: int = 0
    _rows: int = 0

    def add(self, layers: Sequence[tuple[Floats, Floats]], *, adds: bool = False) -> Linear:
        """Add one matrix [outputs, inputs] with its bias for each layer; both widths are multiples of 32."""
        weights, biases = (np.stack(parts) for parts in zip(*layers, strict=True))
        count, outputs, inputs = weights.shape
        made = Linear(self._size, self._rows, inputs, outputs, _KINDS[self.precision], int(adds), outputs)
        if self.precision == "int8":
            scale = (np.maximum(np.abs(weights).max(2), 1e-30) / np.float32(127)).astype(np.float32)
            whole = np.rint(weights / scale[:, :, None]).astype(np.int8)
            self._numbers.append(whole.reshape(count, outputs // TILE, TILE, inputs // 4, 4).transpose(0, 1, 3, 2, 4).reshape(-1))
            self._scales.append(scale.reshape(-1))
            self._offsets.append((128 * whole.sum(2, dtype=np.int32)).reshape(-1))
        elif self.precision == "bf16":
            halves = to_halves(weights).reshape(count, outputs // TILE, TILE, inputs // 2, 2)
            self._numbers.append(halves.transpose(0, 1, 3, 2, 4).reshape(-1))
        else:
            self._numbers.append(weights.reshape(count, outputs // TILE, TILE, inputs).transpose(0, 1, 3, 2).reshape(-1))
        self._biases.append(biases.reshape(-1))
        self._size += weights.size
        self._rows += biases.size
        return made

    def matrices(self) -> Matrices:
        """All of them as arrays."""

        def joined(parts: Sequence[npt.NDArray[Any]], kind: type[np.generic], *, of: Precision) -> npt.NDArray[Any]:
            return aligned(np.concatenate([np.zeros(0, kind), *(parts if of == self.precision else ())]).astype(kind))

        return Matrices(
            ByteMatrices(
                joined(self._numbers, np.int8, of="int8"),
                joined(self._scales, np.float32, of="int8"),
                joined(self._biases, np.float32, of="int8"),
                joined(self._offsets, np.int32, of="int8"),
            ),
            HalfMatrices(joined(self._numbers, np.uint16, of="bf16"), joined(self._biases, np.float32, of="bf16")),
            FloatMatrices(joined(self._numbers, np.float32, of="fp32"), joined(self._biases, np.float32, of="fp32")),
        )
