"""Vectors of whole numbers against numpy, on this processor and on pretended ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.native.compiled import compiled
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
from vitrail.native.lanes import keep_first, larger, largest, load, magnitude, multiply_add, spread_at, store

SHAPE = (0, 0)


@compiled
def _operate(numbers: np.ndarray, others: np.ndarray, floats: np.ndarray, out: np.ndarray, packed: np.ndarray) -> None:
    x, y = load_integers(numbers, 0), load_integers(others, 0)
    store(out, 0, to_floats(x + y))
    store(out, 16, to_floats(x - y))
    store(out, 32, to_floats(rounded(load(floats, 0))))
    store(out, 48, to_floats(spread_integer(np.int32(7))))
    store_bytes(packed, 0, x + y)


@compiled
def _choose(a: np.ndarray, b: np.ndarray, count: int, out: np.ndarray) -> None:
    x, y = load(a, 0), load(b, 0)
    store(out, 0, larger(x, y))
    store(out, 16, magnitude(x))
    store(out, 32, multiply_add(x, y, spread_at(a, 3)))
    store(out, 48, keep_first(x, count, np.float32(-1)))
    out[64] = largest(x)


@compiled
def _products(unsigned: np.ndarray, signed: np.ndarray, steps: int, out: np.ndarray) -> None:
    """For two rows: the sum of dot4 over steps of 4 bytes of a row and of 64 of the matrix."""
    sums = integer_registers(SHAPE)
    for r in range(len(SHAPE)):
        put_integers(sums, r, spread_integer(np.int32(0)))
    for k in range(steps):
        for r in range(len(SHAPE)):
            put_integers(sums, r, dot4(get_integers(sums, r), spread_bytes(unsigned, 4 * (r * steps + k)), load_integers(signed, 64 * k)))
    for r in range(len(SHAPE)):
        store(out, 16 * r, to_floats(get_integers(sums, r)))


def test_each_operation_is_that_of_numpy() -> None:
    draw = np.random.default_rng(1)
    numbers, others = (draw.integers(-1000, 1000, 16).astype(np.int32) for _ in range(2))
    floats = np.concatenate([draw.normal(size=12) * 100, [0.5, 1.5, -0.5, -2.5]]).astype(np.float32)
    out, packed = np.zeros(64, np.float32), np.full(24, 9, np.uint8)
    _operate(numbers, others, floats, out, packed)
    np.testing.assert_array_equal(out, np.concatenate([numbers + others, numbers - others, np.rint(floats), np.full(16, 7)]))
    np.testing.assert_array_equal(packed, [*((numbers + others) % 256), *[9] * 8])


@pytest.mark.parametrize("count", [-3, 0, 1, 9, 16, 40])
def test_choices_are_those_of_numpy(count: int) -> None:
    draw = np.random.default_rng(2)
    a, b = (draw.normal(size=16).astype(np.float32) for _ in range(2))
    out = np.zeros(65, np.float32)
    _choose(a, b, count, out)
    kept = np.where(np.arange(16) < count, a, -1)
    np.testing.assert_allclose(out, np.concatenate([np.maximum(a, b), np.abs(a), a * b + a[3], kept, [a.max()]]), rtol=1e-6, atol=1e-7)


def products_are_exact() -> None:
    """Random bytes, and the extremes at which sums of 16 bits would overflow."""
    draw = np.random.default_rng(3)
    for steps, low, high in ((1, -128, 127), (7, -128, 127), (64, 127, 127), (64, -128, -128)):
        signed = draw.integers(low, high, (steps, 16, 4), dtype=np.int8, endpoint=True)
        unsigned = draw.integers(0 if low < high else 255, 255, (2, steps, 4), dtype=np.uint8, endpoint=True)
        out = np.zeros(32, np.float32)
        _products(unsigned.reshape(-1), signed.reshape(-1), steps, out)
        expected = np.einsum("rkj,kij->ri", unsigned.astype(np.int64), signed.astype(np.int64))
        np.testing.assert_array_equal(out.reshape(2, 16), expected)


def test_products_of_bytes_are_exact() -> None:
    products_are_exact()


PRETENDED = {
    "AVX-512 without VNNI": "+avx2,+fma,+avx512f,+avx512bw",
    "AVX2 with VNNI": "+avx2,+fma,+avxvnni",
    "AVX2": "+avx2,+fma",
    "SSE2": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("features", PRETENDED.values(), ids=PRETENDED)
def test_products_of_bytes_are_exact_on_other_processors(features: str, tmp_path: Path) -> None:
    from vitrail.native.compiled import processor_features

    if missing := {name[1:] for name in features.split(",") if name} - processor_features():
        pytest.skip(f"this processor lacks {', '.join(sorted(missing))}")
    pretence = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "VITRAIL_CACHE": str(tmp_path)}
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_integers; test_integers.products_are_exact()"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], env=os.environ | pretence, check=True)
