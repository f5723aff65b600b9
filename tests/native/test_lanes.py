"""The vector layer against numpy, operation by operation."""

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.native.arrays import LINE_BYTES, aligned_zeros, padded
from vitrail.native.compiled import compiled
from vitrail.native.lanes import (
    exponential,
    get,
    join_fours,
    largest,
    load,
    power_of_two,
    prefetch,
    put,
    reaches,
    registers,
    sigmoid,
    spread,
    spread_four,
    square_root,
    store,
    store_apart,
    total,
)


@compiled
def _operate(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> float:
    x, y = load(a, 0), load(b, 0)
    prefetch(out, 0)
    store(out, 0, x + y)
    store(out, 16, x - y)
    store(out, 32, x * y)
    store(out, 48, x / y)
    store(out, 64, square_root(y))
    store(out, 80, exponential(x))
    store(out, 96, spread(a[3]))
    return total(x)


@compiled
def _compare(a: np.ndarray, limit: float, out: np.ndarray) -> bool:
    x = load(a, 0)
    store(out, 0, power_of_two(x))
    out[16] = largest(x)
    return reaches(x, np.float32(limit))


@compiled
def _sum_rows(rows: np.ndarray, count: int, shape: tuple[int, ...]) -> float:
    sums = registers(shape)
    for v in range(len(shape)):
        put(sums, v, spread(np.float32(0)))
    for n in range(count):
        for v in range(len(shape)):
            put(sums, v, get(sums, v) + load(rows, 16 * (n * len(shape) + v)))
    found = np.float32(0)
    for v in range(len(shape)):
        found += total(get(sums, v))
    return found


def test_each_operation_is_that_of_numpy() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=16).astype(np.float32), generator.uniform(0.1, 2, 16).astype(np.float32)
    out = np.zeros(112, np.float32)
    sum_of_a = _operate(a, b, out)
    expected = np.concatenate([a + b, a - b, a * b, a / b, np.sqrt(b), np.exp(a), np.full(16, a[3])])
    np.testing.assert_allclose(out, expected, rtol=3e-7, atol=1e-7)
    assert sum_of_a == pytest.approx(a.sum(), abs=1e-5)


@pytest.mark.parametrize("x", [-200.0, -87.0, -30.0, -1e-6, 0.0, 1.0, 30.0, 88.0, 200.0])
def test_the_exponential_is_exact_to_its_last_bits_and_limited(x: float) -> None:
    out = np.zeros(112, np.float32)
    _operate(np.full(16, x, np.float32), np.ones(16, np.float32), out)
    np.testing.assert_allclose(out[80:96], np.exp(np.float64(np.clip(x, -87, 88))), rtol=4e-7)


@pytest.mark.parametrize("low", [-200.0, -126.0, -20.0, -0.5, 0.0, 100.0])
def test_powers_of_two_are_exact_to_their_last_bits_and_limited(low: float) -> None:
    out, x = np.zeros(17, np.float32), (low + np.linspace(0, 2, 16)).astype(np.float32)
    _compare(x, 0, out)
    np.testing.assert_allclose(out[:16], np.exp2(np.maximum(x.astype(np.float64), -126)), rtol=3e-7)


@pytest.mark.parametrize("place", [0, 7, 15])
def test_the_largest_is_found_in_every_place(place: int) -> None:
    out, x = np.zeros(17, np.float32), np.full(16, -3, np.float32)
    x[place] = 2
    assert _compare(x, 2, out) and not _compare(x, 2.5, out) and out[16] == 2
    x[place] = np.nan
    assert not _compare(x, -2, out) and _compare(x, -3, out)


@pytest.mark.parametrize("vectors", [1, 2, 7, 19])
def test_registers_hold_as_many_vectors_as_their_shape_has(vectors: int) -> None:
    rows = np.random.default_rng(2).integers(-9, 9, 5 * 16 * vectors).astype(np.float32)
    assert _sum_rows(rows, 5, (0,) * vectors) == rows.sum()


@pytest.mark.parametrize("count", [1, 100, 4097])
def test_arrays_begin_at_a_cache_line(count: int) -> None:
    array = aligned_zeros(count)
    assert array.ctypes.data % LINE_BYTES == 0 and array.shape == (count,) and not array.any()


def test_padded_is_the_next_multiple_of_sixteen() -> None:
    assert [padded(width) for width in (1, 16, 17, 100, 300)] == [16, 16, 32, 112, 304]


@compiled
def _open(a: np.ndarray, out: np.ndarray) -> None:
    store(out, 0, sigmoid(load(a, 0)))


def test_the_sigmoid_is_exact_to_its_last_bits_and_tells_what_is_no_number() -> None:
    a, out = (
        np.array([0, 1e-6, -1e-6, 1, -1, 5, -5, 20, -20, 86, -86, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32),
        np.zeros(16, np.float32),
    )
    _open(a, out)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(out[:11], 1 / (1 + np.exp(-a[:11].astype(np.float64))), rtol=4e-7)
    assert out[11] == 1 and 0 <= out[12] < 1e-37 and np.isnan(out[13:]).all()


@compiled
def _fours(a: np.ndarray, out: np.ndarray) -> None:
    store(out, 0, spread_four(a, 3))
    store(out, 16, join_fours(load(a, 0), load(a, 16), load(a, 32), load(a, 48)))
    store_apart(out, 33, load(a, 0))


def test_fours() -> None:
    a, out = np.random.default_rng(3).normal(size=64).astype(np.float32), np.zeros(96, np.float32)
    _fours(a, out)
    assert (out[:16] == np.repeat(a[3:7], 4)).all()
    np.testing.assert_allclose(out[16:32], a.reshape(4, 4, 4).sum(1).reshape(-1), rtol=1e-5, atol=1e-6)
    assert (out[33:97:4] == a[:16]).all() and np.count_nonzero(out[32:]) == 16
