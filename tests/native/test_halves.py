"""Numbers of 16 bits against torch's bfloat16."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.native.compiled import compiled
from vitrail.native.halves import dot2, store_halves
from vitrail.native.integers import load_integers, spread_bytes
from vitrail.native.lanes import load, spread, store
from vitrail.native.matrices.packing import to_halves


@compiled
def _round(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(0, len(values), 16):
        store_halves(out, i, load(values, i))


@compiled
def _dot(x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    sums = spread(np.float32(1))
    for k in range(0, len(x), 2):
        sums = dot2(sums, spread_bytes(x, k), load_integers(weights, 16 * k))
    store(out, 0, sums)


def _bfloat(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)


def test_rounding_is_that_of_torch() -> None:
    draw = np.random.default_rng(1)
    ties = (np.arange(64, dtype=np.uint32) << 15 | 0x3F800000).view(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40, -1e-3] * 2, np.float32)
    values = np.concatenate([draw.normal(size=160).astype(np.float32), ties, special])
    found = np.zeros(len(values), np.uint16)
    _round(values, found)
    expected, number = _bfloat(values), ~np.isnan(values)
    np.testing.assert_array_equal(found[number], expected[number])
    assert np.isnan((found[~number].astype(np.uint32) << 16).view(np.float32)).all()
    finite = np.isfinite(values)
    np.testing.assert_array_equal(to_halves(values[finite]), expected[finite])


def test_sums_of_products_are_those_of_float64() -> None:
    draw = np.random.default_rng(2)
    x, weights = (_bfloat(draw.normal(size=size).astype(np.float32)) for size in (40, (20, 16, 2)))
    out = np.zeros(16, np.float32)
    _dot(x, weights.reshape(-1), out)
    wide, wide_weights = ((one.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for one in (x, weights))
    np.testing.assert_allclose(out, 1 + np.einsum("kj,kij->i", wide.reshape(20, 2), wide_weights), rtol=1e-5, atol=1e-5)
