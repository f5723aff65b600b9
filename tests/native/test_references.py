"""Named tuples by reference: fields, tuples in tuples, writing into arrays; what is small goes by value."""

from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.native.arrays import Floats, Integers
from vitrail.native.compiled import compiled, compiled_inside, signature_of
from vitrail.native.references import Reference, refer


class Pair(NamedTuple):
    first: int
    second: float


class Inner(NamedTuple):
    values: Floats
    pair: Pair


class Outer(NamedTuple):
    inner: Inner
    places: Integers
    count: int


@compiled_inside
def _scale(inner: Inner, pair: Pair) -> float:
    for i in range(len(inner.values)):
        inner.values[i] *= pair.second
    return inner.pair.second + pair.first


@compiled_inside
def _both(outer: Outer) -> float:
    return _scale(outer.inner, outer.inner.pair) + outer.places[1] + outer.count


@compiled
def _call(outer: Outer) -> float:
    return _both(refer(outer))


def test_a_reference_is_what_it_refers_to() -> None:
    outer = Outer(Inner(np.arange(3, dtype=np.float32), Pair(7, 0.5)), np.array([1, 100]), 1000)
    assert _call(outer) == 0.5 + 7 + 100 + 1000
    np.testing.assert_array_equal(outer.inner.values, [0, 0.5, 1])


def test_large_tuples_go_by_reference_and_small_ones_by_value() -> None:
    outer, pair = (signature_of(one, inside=True).args[-1] for one in (_both.py_func, _scale.py_func))  # type: ignore[attr-defined]
    assert isinstance(outer, Reference) and not isinstance(pair, Reference)
    assert not isinstance(signature_of(_both.py_func).args[0], Reference)  # type: ignore[attr-defined]
