"""GloVe: its steps are those of automatic differentiation and of a plain program, and its vectors know which words are alike."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.errors import TrainingError, UsageError
from vitrail.vectors.training.cooccurrence import Counting, Pairs, count_pairs
from vitrail.vectors.training.glove import GloveState, begin_glove, glove_pass_block, weigh


def drawn_pairs(vocabulary: int, *, count: int, seed: int = 0) -> Pairs:
    """Different pairs in groups of words, some of them more frequent than x_max."""
    generator = np.random.default_rng(seed)
    words, contexts = np.divmod(np.sort(generator.choice(vocabulary**2, count, replace=False)), vocabulary)
    weights = np.exp(generator.normal(2, 2, count))
    return Pairs(words.astype(np.int32), contexts.astype(np.int32), weights.astype(np.float32))


def numbers(state: GloveState) -> dict[str, np.ndarray]:
    """Vectors and biases of words and contexts, and their sums of squares, in float64, without constants and padding."""
    size, arrays = state.dimension, {name: array.astype(np.float64) for name, array in state.arrays().items()}
    found = {}
    for rows, bias in (("word", size), ("context", size + 1)):
        for name, array in ((f"{rows} vectors", arrays[f"{rows}s"]), (f"{rows} squares", arrays[f"{rows}_squares"])):
            found[name] = np.concatenate([array[:, :size], array[:, bias : bias + 1]], axis=1)
    return found


def plain_pass(pairs: Pairs, state: dict[str, np.ndarray], *, rate: float, x_max: float = 100, alpha: float = 0.75) -> float:
    """A pass as the paper has it, one pair after the other, in float64; the state changes in place."""
    w, u, s, t = (state[name] for name in ("word vectors", "context vectors", "word squares", "context squares"))
    loss = 0.0
    for i, j, x in zip(*pairs, strict=True):
        share = min(1.0, (float(x) / x_max) ** alpha)
        error = w[i, :-1] @ u[j, :-1] + w[i, -1] + u[j, -1] - math.log(x)
        loss += share * error**2
        a = rate * np.clip(share * error * np.append(u[j, :-1], 1), -100, 100)
        b = rate * np.clip(share * error * np.append(w[i, :-1], 1), -100, 100)
        w[i] -= a / np.sqrt(s[i])
        u[j] -= b / np.sqrt(t[j])
        s[i] += a**2
        t[j] += b**2
    return loss


def require_close(found: dict[str, np.ndarray], right: dict[str, np.ndarray], *, within: float) -> None:
    for name in right:
        np.testing.assert_allclose(found[name], right[name], rtol=within, atol=within, err_msg=name)


@pytest.mark.parametrize("dimension", [14, 20])
def test_a_step_is_that_of_automatic_differentiation(dimension: int) -> None:
    """Pairs that share no row: all their gradients can be taken at once."""
    generator, rate = np.random.default_rng(1), 0.05
    state = begin_glove(50, dimension=dimension, seed=1)
    for array in (state.arrays()["words"], state.arrays()["contexts"]):
        array[:, :dimension] *= 30
    pairs = Pairs(*(generator.permutation(50).astype(np.int32) for _ in range(2)), np.geomspace(0.1, 5000, 50).astype(np.float32))
    before = numbers(state)
    w, u = (torch.tensor(before[name], requires_grad=True) for name in ("word vectors", "context vectors"))
    own, other = w[pairs.words.tolist()], u[pairs.contexts.tolist()]
    weights = torch.tensor(pairs.weights, dtype=torch.float64)
    error = (own[:, :-1] * other[:, :-1]).sum(1) + own[:, -1] + other[:, -1] - weights.log()
    loss = ((weights / 100) ** 0.75).clamp(max=1) @ error**2
    (loss / 2).backward()

    found, count = glove_pass_block(pairs, state, rate)
    assert count == 50 and found == pytest.approx(float(loss.detach()), rel=1e-6)
    after = numbers(state)
    for rows, tensor in (("word", w), ("context", u)):
        assert tensor.grad is not None and float(tensor.grad.abs().max()) < 100
        steps = rate * tensor.grad.numpy()
        np.testing.assert_allclose(after[f"{rows} vectors"] - before[f"{rows} vectors"], -steps, rtol=1e-4, atol=2e-7)
        np.testing.assert_allclose(after[f"{rows} squares"] - 1, steps**2, rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize("dimension", [1, 14, 20])
def test_passes_are_those_of_a_plain_program(dimension: int) -> None:
    state, pairs = begin_glove(40, dimension=dimension, seed=2), drawn_pairs(40, count=900)
    plain = numbers(state)
    for _ in range(3):
        loss, _ = glove_pass_block(pairs, state, 0.05)
        assert loss == pytest.approx(plain_pass(pairs, plain, rate=0.05), rel=1e-5)
    require_close(numbers(state), plain, within=1e-4)


def test_pairs_in_any_order_and_other_weighting() -> None:
    pairs = drawn_pairs(40, count=900)
    mixed = Pairs(*(array[np.random.default_rng(3).permutation(900)] for array in pairs))
    state = begin_glove(40, dimension=14, seed=2, x_max=7, alpha=0.5)
    plain = numbers(state)
    assert glove_pass_block(mixed, state, 0.1)[0] == pytest.approx(plain_pass(mixed, plain, rate=0.1, x_max=7, alpha=0.5), rel=1e-5)
    require_close(numbers(state), plain, within=1e-4)


def test_large_gradients_are_limited() -> None:
    state, pairs = begin_glove(3, dimension=14, seed=2), Pairs(*np.array([[0, 0, 1], [1, 2, 2]], np.int32), np.full(3, 1e6, np.float32))
    for array in (state.arrays()["words"], state.arrays()["contexts"]):
        array[:, :14] *= 1000
    plain = numbers(state)
    glove_pass_block(pairs, state, 0.05)
    plain_pass(pairs, plain, rate=0.05)
    assert (plain["word squares"] == 1 + (0.05 * 100) ** 2).any(), "no gradient was limited"
    require_close(numbers(state), plain, within=1e-3)


def test_constants_and_padding_stay() -> None:
    state = begin_glove(40, dimension=20, seed=2)
    for _ in range(20):
        glove_pass_block(drawn_pairs(40, count=900), state, 1.0)
    arrays = state.arrays()
    assert (arrays["words"][:, 21] == 1).all() and (arrays["contexts"][:, 20] == 1).all()
    assert not arrays["words"][:, 22:].any() and not arrays["contexts"][:, 22:].any()
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_weighting() -> None:
    weights = np.array([1e-3, 1, 50, 99.99, 100, 1e9], np.float32)
    logarithms, shares = weigh(weights, x_max=100, alpha=0.75)
    np.testing.assert_allclose(logarithms, np.log(weights.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(shares, np.minimum(1, (weights.astype(float) / 100) ** 0.75), rtol=3e-6)


def test_the_same_seed_gives_the_same_bytes_and_saved_arrays_go_on() -> None:
    pairs, states = drawn_pairs(40, count=900), [begin_glove(40, dimension=20, seed=seed) for seed in (5, 5, 6, 7)]
    first, second, other, fresh = states
    for state in (first, second, other):
        glove_pass_block(pairs, state, 0.05)
    assert all(np.array_equal(array, second.arrays()[name]) for name, array in first.arrays().items())
    assert not np.array_equal(first.vectors(), other.vectors())
    for name, array in first.arrays().items():
        fresh.arrays()[name][:] = array
    glove_pass_block(pairs, first, 0.05)
    glove_pass_block(pairs, fresh, 0.05)
    assert np.array_equal(first.vectors(), fresh.vectors())


def test_vectors_of_words_and_contexts_and_their_biases() -> None:
    state = begin_glove(40, dimension=20, seed=2)
    arrays = state.arrays()
    assert np.array_equal(state.vectors(), arrays["words"][:, :20] + arrays["contexts"][:, :20])
    assert np.array_equal(state.vectors(contexts=False), arrays["words"][:, :20])
    words, contexts = state.biases()
    assert words.shape == contexts.shape == (40,) and not np.array_equal(words, contexts)
    assert all(0 < np.abs(array).max() <= 0.5 / 20 for array in (state.vectors(contexts=False), words, contexts))
    state.vectors()[:] = 7
    assert np.abs(arrays["words"][:, :20]).max() < 1


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, 0.0, -0.05])
def test_rates_that_are_none_are_refused(rate: float) -> None:
    state = begin_glove(40, dimension=14, seed=2)
    before = state.vectors()
    with pytest.raises(UsageError, match="a learning rate of") as caught:
        glove_pass_block(drawn_pairs(40, count=9), state, rate)
    assert caught.value.expected and caught.value.remedy and np.array_equal(state.vectors(), before)


@pytest.mark.parametrize("wrong", [{"x_max": 0.0}, {"x_max": math.nan}, {"alpha": math.inf}, {"alpha": -1.0}])
def test_weightings_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} = "):
        begin_glove(40, dimension=14, seed=2, **wrong)


def test_a_training_that_diverges_says_so() -> None:
    state = begin_glove(40, dimension=14, seed=2)
    with pytest.raises(TrainingError, match="not finite") as caught:
        for _ in range(5):
            glove_pass_block(drawn_pairs(40, count=900), state, 1e30)
    assert "--rate 1e+29" in caught.value.remedy


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("number", [-1, 40])
def test_pairs_of_another_vocabulary_are_refused(place: int, number: int) -> None:
    pairs = drawn_pairs(40, count=9)
    pairs[place][4] = number
    with pytest.raises(UsageError, match="another vocabulary"):
        glove_pass_block(pairs, begin_glove(40, dimension=14, seed=2), 0.05)


def test_an_empty_block_is_no_step() -> None:
    empty = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert glove_pass_block(empty, begin_glove(40, dimension=14, seed=2), 0.05) == (0.0, 0)


# ---- a small language: nouns of two kinds, each with verbs of its own -------------------------------------------------------------

BEASTS, TOOLS = range(6), range(6, 12)
BEAST_VERBS, TOOL_VERBS = range(12, 16), range(16, 20)


GOLDEN_LOSSES = (1927.67096, 0.716660)
GOLDEN_VECTOR = [-0.258272, 0.176817, 0.116850, -0.207264, 0.007047, -0.120239]


def small_language(folder: Path, *, block_pairs: int = 1 << 12) -> list[Pairs]:
    generator = np.random.default_rng(0)
    lines: list[int] = []
    for number in range(4000):
        nouns, verbs = ((BEASTS, BEAST_VERBS), (TOOLS, TOOL_VERBS))[number % 2]
        lines += [generator.choice(nouns), generator.choice(verbs), generator.choice(nouns), -1]
    counting = Counting(window=2, memory_bytes=1 << 24, block_pairs=block_pairs)
    pairs = count_pairs(np.array(lines, np.int32), folder=folder, vocabulary=20, counting=counting)
    return [pairs.block(number) for number in range(pairs.blocks)]


def likeness(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def test_words_of_one_kind_become_alike(tmp_path: Path) -> None:
    """The golden numbers are those of the first release; they hold to three digits on every processor."""
    blocks, state = small_language(tmp_path / "pairs"), begin_glove(20, dimension=14, seed=1)
    losses = [sum(glove_pass_block(block, state, 0.05)[0] for block in blocks) for _ in range(30)]
    assert losses == sorted(losses, reverse=True)
    found = likeness(state.vectors())
    alike = min(found[i, j] for kind in (BEASTS, TOOLS) for i in kind for j in kind)
    unlike = max(found[i, j] for i in BEASTS for j in TOOLS)
    assert alike > unlike + 0.5
    assert losses[0] == pytest.approx(GOLDEN_LOSSES[0], rel=1e-3) and losses[-1] == pytest.approx(GOLDEN_LOSSES[1], rel=1e-3)
    np.testing.assert_allclose(state.vectors()[0, :6], GOLDEN_VECTOR, rtol=1e-3, atol=1e-4)


def test_threads_without_locks_learn_as_well_as_one(tmp_path: Path) -> None:
    blocks, alone, together = small_language(tmp_path / "pairs", block_pairs=40), *(begin_glove(20, dimension=14, seed=1) for _ in range(2))
    assert len(blocks) > 4
    with ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            one = sum(glove_pass_block(block, alone, 0.05)[0] for block in blocks)
            several = sum(loss for loss, _ in pool.map(lambda block: glove_pass_block(block, together, 0.05), blocks))
    assert several == pytest.approx(one, rel=0.1)
