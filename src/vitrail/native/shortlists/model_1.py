"""IBM Model 1 on token ids (Brown et al. 1993): how probable each target token is beside a source token, in compiled code.

    p(t | pair) = p0(t) + sum over the source's tokens s of p(t | s)
    c(s, t) += p(t | s) / p(t | pair)        for each t of a target and each s of its source, in every pair
    p(t | s) = c(s, t) / sum over t' of c(s, t')

p0 is the share of t in the text: what the empty source word of the paper would become, not learned. Differs from the paper in this, and in
the beginning: p(t | s) is the share of t among the tokens beside s.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vitrail.native.arrays import Floats, Integers
from vitrail.native.compiled import compiled

ITERATIONS = 3
"""Two find lists as good as five."""
MOST_LINKS = 12_000_000
"""Pairs of tokens that are learned at most: of more, the rarest are dropped while the text is read (as in lossy counting, Manku and
Motwani 2002)."""
_CHUNK_CELLS = 8_000_000
"""Cells that are counted at once: a cell is a source token beside a target token."""


class TokenPairs(NamedTuple):
    """Sources and targets, one after the other."""

    source: Integers
    source_starts: Integers
    """[pairs + 1]"""
    target: Integers
    target_starts: Integers


class Links(NamedTuple):
    """Which target tokens are beside each source token."""

    starts: Integers
    """[S + 1]"""
    targets: Integers
    """Rising for each source token."""
    weights: Floats
    """Of each link: a probability, or a count."""


@compiled
def _write_cells(pairs: TokenPairs, first: int, last: int, targets: int, out: Integers) -> None:
    """source * targets + target of each cell of some pairs."""
    count = 0
    for pair in range(first, last):
        for i in range(pairs.source_starts[pair], pairs.source_starts[pair + 1]):
            for j in range(pairs.target_starts[pair], pairs.target_starts[pair + 1]):
                out[count] = pairs.source[i] * targets + pairs.target[j]
                count += 1


@compiled
def _expect(pairs: TokenPairs, links: Links, shares: Floats, places: Integers, counts: Floats) -> None:
    """Add the expected count of each link to `counts`. Args: shares: p0. places: room for the longest source."""
    for pair in range(len(pairs.source_starts) - 1):
        begin, end = pairs.source_starts[pair], pairs.source_starts[pair + 1]
        for j in range(pairs.target_starts[pair], pairs.target_starts[pair + 1]):
            target = pairs.target[j]
            total = shares[target]
            for i in range(begin, end):
                low, high = links.starts[pairs.source[i]], links.starts[pairs.source[i] + 1]
                last = high
                while low < high:
                    middle = (low + high) // 2
                    if links.targets[middle] < target:
                        low = middle + 1
                    else:
                        high = middle
                places[i - begin] = -1
                if low < last and links.targets[low] == target:
                    places[i - begin] = low
                    total += links.weights[low]
            for i in range(end - begin):
                if places[i] >= 0:
                    counts[places[i]] += links.weights[places[i]] / total


def cells_of(pairs: TokenPairs) -> Integers:
    """[pairs] source tokens times target tokens."""
    return np.diff(pairs.source_starts) * np.diff(pairs.target_starts)


def _chunks(pairs: TokenPairs) -> Iterator[tuple[int, int, int]]:
    """Pairs from one number to another, and how many cells they have."""
    ends, first = np.cumsum(cells_of(pairs)), 0
    while first < len(ends):
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK_CELLS, side="right")))
        yield first, last, int(ends[last - 1]) - done
        first = last


def _count(pairs: TokenPairs, targets: int, most: int) -> tuple[Integers, Integers]:
    """source * targets + target of each link, rising, and in how many cells it is: of at most so many links."""
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for first, last, cells in _chunks(pairs):
        found = np.empty(cells, np.int64)
        _write_cells(pairs, first, last, targets, found)
        more, numbers = np.unique(found, return_counts=True)
        keys, places = np.unique(np.concatenate([keys, more]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, numbers]), minlength=len(keys)).astype(np.int64)
        if len(keys) > most:
            kept = np.sort(np.argsort(-counts, kind="stable")[: most // 4 * 3])
            keys, counts = keys[kept], counts[kept]
    return keys, counts


def _shares_by_source(links: Links, counts: Floats) -> Links:
    """The links with counts divided by their sum over each source token."""
    lengths = np.diff(links.starts)
    sums = np.bincount(np.repeat(np.arange(len(lengths)), lengths), counts, minlength=len(lengths))
    return links._replace(weights=(counts / np.repeat(np.maximum(sums, 1e-30), lengths)).astype(np.float32))


def learn_links(pairs: TokenPairs, *, sources: int, targets: int, most: int = MOST_LINKS, iterations: int = ITERATIONS) -> Links:
    """p(t | s) of tokens that are beside each other. Precondition: all ids are below `sources` and `targets`.

    Cost: 12 bytes a link and 24 while they are counted; for each cell, 0.1 µs of counting and 0.04 µs for each iteration.
    """
    keys, counts = _count(pairs, targets, most)
    starts = np.searchsorted(keys, np.arange(sources + 1) * targets).astype(np.int64)
    links = _shares_by_source(Links(starts, keys % targets, np.zeros(0, np.float32)), counts.astype(np.float32))
    shares = (np.bincount(pairs.target, minlength=targets) / max(1, len(pairs.target))).astype(np.float32)
    places = np.zeros(int(np.diff(pairs.source_starts).max(initial=0)), np.int64)
    for _ in range(iterations):
        expected = np.zeros(len(keys), np.float32)
        _expect(pairs, links, shares, places, expected)
        links = _shares_by_source(links, expected)
    return links


def most_probable(links: Links, count: int) -> Links:
    """The most probable links of each source token, at most so many, best first; the lower target token first among equals."""
    sources = np.repeat(np.arange(len(links.starts) - 1), np.diff(links.starts))
    order = np.lexsort((links.targets, -links.weights, sources))
    rank = np.arange(len(order)) - links.starts[sources[order]]
    kept = order[(rank < count) & (links.weights[order] > 0)]
    starts = np.searchsorted(sources[kept], np.arange(len(links.starts))).astype(np.int64)
    return Links(starts, links.targets[kept], links.weights[kept])
