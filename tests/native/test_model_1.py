"""IBM Model 1 against its equations in float64, written with dictionaries."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("numba")

from vitrail.native.shortlists.model_1 import Links, TokenPairs, learn_links, most_probable

SOURCES, TARGETS = 12, 15
Rows = Sequence[tuple[list[int], list[int]]]


def random_rows(count: int, seed: int = 0) -> Rows:
    draw = np.random.default_rng(seed)
    return [
        (draw.integers(0, SOURCES, draw.integers(1, 9)).tolist(), draw.integers(0, TARGETS - 2, draw.integers(1, 9)).tolist())
        for _ in range(count)
    ]


def pairs_of(rows: Rows) -> TokenPairs:
    sides = [[row[side] for row in rows] for side in (0, 1)]
    tokens = [np.array([token for row in side for token in row], np.int64) for side in sides]
    starts = [np.cumsum([0, *map(len, side)]).astype(np.int64) for side in sides]
    return TokenPairs(tokens[0], starts[0], tokens[1], starts[1])


def by_the_equations(rows: Rows, iterations: int) -> dict[tuple[int, int], float]:
    """p(t | s), by s and t."""
    said = [token for _, target in rows for token in target]
    shares = {token: said.count(token) / len(said) for token in said}
    counts: dict[tuple[int, int], float] = defaultdict(float)
    for source, target in rows:
        for s in source:
            for t in target:
                counts[s, t] += 1
    for _ in range(iterations + 1):
        totals: dict[int, float] = defaultdict(float)
        for (s, _), count in counts.items():
            totals[s] += count
        known = {link: count / totals[link[0]] for link, count in counts.items()}
        counts = defaultdict(float)
        for source, target in rows:
            for t in target:
                whole = shares[t] + sum(known[s, t] for s in source)
                for s in source:
                    counts[s, t] += known[s, t] / whole
    return known


def as_dict(links: Links) -> dict[tuple[int, int], float]:
    sources = np.repeat(np.arange(len(links.starts) - 1), np.diff(links.starts))
    return {(int(s), int(t)): float(p) for s, t, p in zip(sources, links.targets, links.weights, strict=True)}


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_probabilities_are_those_of_the_equations(iterations: int) -> None:
    rows = random_rows(60)
    found = as_dict(learn_links(pairs_of(rows), sources=SOURCES, targets=TARGETS, iterations=iterations))
    expected = by_the_equations(rows, iterations)
    assert found.keys() == expected.keys()
    assert all(abs(found[link] - expected[link]) < 1e-5 for link in expected)


def test_words_that_are_translated_one_by_one_are_found() -> None:
    draw = np.random.default_rng(1)
    rows = [(source, [token + 1 for token in reversed(source)]) for source in draw.integers(0, SOURCES, (80, 5)).tolist()]
    best = most_probable(learn_links(pairs_of(rows), sources=SOURCES, targets=TARGETS), 1)
    assert best.targets.tolist() == [token + 1 for token in range(SOURCES)] and (best.weights > 0.5).all()


def test_the_most_probable_come_first_and_the_lower_token_among_equals() -> None:
    links = Links(np.array([0, 4, 4, 6]), np.array([1, 3, 5, 9, 2, 4]), np.array([0.2, 0.4, 0.2, 0, 0.5, 0.5], np.float32))
    best = most_probable(links, 2)
    assert best.starts.tolist() == [0, 2, 2, 4]
    assert best.targets.tolist() == [3, 1, 2, 4] and np.allclose(best.weights, [0.4, 0.2, 0.5, 0.5])
    assert most_probable(links, 4).targets.tolist() == [3, 1, 5, 2, 4], "what never is a translation is left out"


def test_memory_is_bounded_by_dropping_the_rarest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(200, seed=2)
    everything = learn_links(pairs_of(rows), sources=SOURCES, targets=TARGETS, iterations=0)
    monkeypatch.setattr("vitrail.native.shortlists.model_1._CHUNK_CELLS", 100)
    in_pieces = learn_links(pairs_of(rows), sources=SOURCES, targets=TARGETS, iterations=0)
    assert as_dict(in_pieces) == as_dict(everything), "the division into pieces changes nothing"
    few = learn_links(pairs_of(rows), sources=SOURCES, targets=TARGETS, most=80)
    assert 40 <= len(few.targets) <= 80 < len(everything.targets)
    assert as_dict(few).keys() < as_dict(everything).keys()
