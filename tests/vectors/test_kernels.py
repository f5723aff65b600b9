"""The steps of Word2Vec and fastText against autograd, drawn words against their table, the tree against its definition."""

import heapq

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

pytest.importorskip("numba")

from vitrail.native.arrays import aligned_zeros, padded
from vitrail.native.compiled import compiled
from vitrail.vectors.steps.draws import draw_below, draw_bits, draw_word, word_table
from vitrail.vectors.steps.kernels import LONGEST, Reading, Rows, Workspace, learn, read_line
from vitrail.vectors.steps.tree import huffman_paths
from vitrail.vectors.training.word2vec import keep_shares


def _workspace(*, bag: int, targets: int) -> Workspace:
    most = padded(targets)
    return Workspace(
        np.ones(1, np.uint64),
        np.zeros(LONGEST, np.int32),
        np.zeros(bag, np.int32),
        np.zeros(most, np.int32),
        aligned_zeros(most),
        np.zeros(1, np.int32),
        aligned_zeros(most),
    )


@pytest.mark.parametrize("dimension", [1, 16, 100])
@pytest.mark.parametrize(("bag", "targets"), [(1, 6), (3, 1), (7, 40)])
def test_one_step_is_the_gradient_of_the_loss(dimension: int, bag: int, targets: int) -> None:
    generator = np.random.default_rng(dimension + bag)
    width = padded(dimension)
    tables = [aligned_zeros(50 * width) for _ in range(2)]
    for table in tables:
        table.reshape(50, width)[:, :dimension] = generator.normal(size=(50, dimension)) * 0.4
    work = _workspace(bag=bag, targets=targets)
    work.bag[:], work.targets[:targets] = generator.permutation(50)[:bag], generator.permutation(50)[:targets]
    work.labels[:targets] = generator.integers(0, 2, targets)
    inputs, outputs = (torch.tensor(table.reshape(50, width), dtype=torch.float64, requires_grad=True) for table in tables)
    scores = outputs[work.targets[:targets].tolist()] @ inputs[work.bag.tolist()].mean(0)
    labels = torch.tensor(work.labels[:targets], dtype=torch.float64)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum")
    loss.backward()
    assert inputs.grad is not None and outputs.grad is not None

    found = learn(Rows(tables[0], tables[1], (0,) * (width // 16)), work, bag, 0, targets, 0.1, True)

    assert found == pytest.approx(loss.item(), rel=1e-5)
    # Each input row gets the gradient of the mean undivided, as in all these programs: `bag` times its own gradient.
    np.testing.assert_allclose(tables[0].reshape(50, width), (inputs - 0.1 * bag * inputs.grad).detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(tables[1].reshape(50, width), (outputs - 0.1 * outputs.grad).detach().numpy(), atol=2e-6)
    assert not tables[0].reshape(50, width)[:, dimension:].any(), "the padding stays zero"


@compiled
def _bits(state: np.ndarray, found: np.ndarray) -> None:
    for place in range(len(found)):
        found[place] = draw_bits(state)


def test_random_bits_are_those_of_the_published_generator() -> None:
    found = np.zeros(3, np.uint64)
    _bits(np.zeros(1, np.uint64), found)
    assert [hex(int(value)) for value in found] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


@compiled
def _draws(weights: object, limit: int, state: np.ndarray, words: np.ndarray, places: np.ndarray) -> None:
    for place in range(len(words)):
        words[place] = draw_word(weights, state)
        places[place] = draw_below(limit, state)


@pytest.mark.parametrize("size", [2, 7, 1000])
def test_drawn_words_match_their_weights(size: int) -> None:
    weights = np.random.default_rng(size).zipf(1.5, size).astype(np.float64) ** 0.75
    words, places = np.zeros(400_000, np.int64), np.zeros(400_000, np.int64)
    _draws(word_table(weights), 7, np.full(1, size, np.uint64), words, places)
    often = weights / weights.sum() * len(words) >= 5
    seen, expected = np.bincount(words, minlength=size), weights / weights.sum() * len(words)
    seen, expected = np.append(seen[often], seen[~often].sum()), np.append(expected[often], expected[~often].sum())
    kept = expected > 0
    assert chisquare(seen[kept], expected[kept]).pvalue > 1e-4
    assert chisquare(np.bincount(places, minlength=7)).pvalue > 1e-4


def test_the_tree_has_the_least_mean_length_and_its_probabilities_sum_to_one() -> None:
    counts = np.random.default_rng(3).zipf(1.3, 300).clip(max=10**6).astype(np.int64)
    paths, turns = huffman_paths(counts)
    lengths = np.diff(paths.starts)
    heap = [int(count) for count in counts]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        cost += joined
        heapq.heappush(heap, joined)
    assert int((lengths * counts).sum()) == cost
    scores = np.random.default_rng(4).normal(size=len(counts) - 1) * 3
    left = 1 / (1 + np.exp(-scores))
    probabilities = [
        np.prod(np.where(turns[start:end] == 1, left[paths.rows[start:end]], 1 - left[paths.rows[start:end]]))
        for start, end in zip(paths.starts, paths.starts[1:], strict=False)
    ]
    assert sum(probabilities) == pytest.approx(1, abs=1e-12)


@compiled
def _kept(tokens: np.ndarray, reading: Reading, work: Workspace) -> int:
    kept, place = 0, 0
    while place < len(tokens):
        count, place = read_line(tokens, place, reading, work)
        kept += count
    return kept


def test_subsampling_keeps_the_share_that_its_formula_says() -> None:
    counts = np.array([900_000, 90_000, 10_000])
    shares = keep_shares(counts, sample=1e-3)
    for word, share in enumerate(counts / counts.sum()):
        tokens = np.tile(np.array([word] * 99 + [-1], np.int32), 1000)
        kept = _kept(tokens, Reading(shares, 5), _workspace(bag=1, targets=1)) / 99_000
        assert kept == pytest.approx(min(1, np.sqrt(1e-3 / share) + 1e-3 / share), abs=0.01)
    assert (keep_shares(counts, sample=0) == 2**32 - 1).all()


def test_a_line_longer_than_the_workspace_is_read_in_parts() -> None:
    tokens = np.zeros(2 * LONGEST + 7, np.int32)
    assert _kept(tokens, Reading(np.full(1, 2**32 - 1, np.uint32), 5), _workspace(bag=1, targets=1)) == len(tokens)
