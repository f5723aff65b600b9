"""Attention weights of given translations, kept while a decoder reads them without a search."""

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from vitrail.native.arrays import Allocate, Floats, Integers, allocate
from vitrail.native.attention.paged import PAGE, pages


class Given(NamedTuple):
    """Translations, one after the other, and the weights of some heads: row r has those from which token r + 1 is predicted."""

    tokens: Integers
    """[T] of all, each with the token before its first."""
    begins: Integers
    """[B + 1] translation b has the tokens begins[b] to begins[b + 1]; nothing is given where there are none."""
    slots: Integers
    """[L H] which of the kept heads a head is, or -1."""
    weights: Floats
    """[T, kept heads, stride]; numbers beyond a sentence's positions have no meaning."""
    step: Integers
    """[1] tokens that were read of each translation, by a decoder that reads one after the other."""
    stride: int
    """Numbers of one head's row: the positions of the longest source, padded to pages."""
    kept: int
    """How many heads are kept."""


def make_given(
    targets: Sequence[Sequence[int]], heads: Collection[int], *, all_heads: int, longest: int, make: Allocate = allocate
) -> Given:
    """Translations to read.

    Args: targets: each with the token before its first. heads: whose weights are kept, of `all_heads`. longest: positions of a source.
    """

    def whole(values: Sequence[int]) -> Integers:
        made = make(len(values), np.int64)
        made[:] = values
        return made

    order = {head: slot for slot, head in enumerate(heads)}
    rows, stride = sum(map(len, targets)), PAGE * pages(longest)
    return Given(
        whole([token for target in targets for token in target]),
        whole([0, *accumulate(map(len, targets))]),
        whole([order.get(head, -1) for head in range(all_heads)]),
        make(rows * len(order) * stride, np.float32),
        whole([0]),
        stride,
        len(order),
    )


def nothing_given(make: Allocate = allocate) -> Given:
    """For a search."""
    none = make(0, np.int64)
    return Given(none, none, none, make(0, np.float32), none, 0, 0)
