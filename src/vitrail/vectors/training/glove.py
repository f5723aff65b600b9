"""GloVe: vectors whose products tell how often words stand near each other (Pennington et al. 2014), in compiled code.

    J = sum over pairs of  f(X) d²,   d = w·u + b + c - ln X,   f(X) = min(1, (X / x_max)^alpha)

w and b are the vector and the bias of the word, u and c those of the context; X is how often they stand near each other (`cooccurrence`).
One step of AdaGrad (Duchi et al. 2011) for each pair, as the authors' program does it: with the gradients g = f d u of w, f d w of u, and
f d of b and c,

    a = rate * min(max(g, -100), 100),   w <- w - a / sqrt(s),   s <- s + a²,   s = 1 at the start.

It differs from that program in this: a number that is not finite is an error, not a step that is left out; biases have the limit and the
rate, too; numbers are float32. The gradients are those of J / 2.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vitrail.errors import TrainingError, UsageError
from vitrail.native.arrays import aligned_zeros, padded
from vitrail.native.compiled import compiled
from vitrail.native.lanes import clamp, get, load, prefetch, put, registers, spread, square_root, store, total
from vitrail.vectors.training.cooccurrence import Pairs
from vitrail.vectors.training.draws import Floats

_LIMIT = 100.0
"""Of each number of a gradient."""
_NEVER = float(np.finfo(np.float32).max)
"""A sum of squares so large that no step changes the number."""
_AHEAD = 8
"""Rows are fetched so many pairs before they are used."""


class GloveRows(NamedTuple):
    """One row for each word, one after the other. A product of two rows is w·u + b + c, so that biases need no code of their own."""

    words: Floats
    """[vocabulary * width]: w, b, 1, then zeros up to a multiple of 16 numbers."""
    contexts: Floats
    """u, 1, c, zeros."""
    word_squares: Floats
    """The sum s for each number of `words`; that of the 1 is so large that it stays 1."""
    context_squares: Floats
    shape: tuple[int, ...]
    """As many zeros as a row has vectors of 16: the width is 16 * len(shape), known when the code is compiled."""


@dataclass(frozen=True)
class GloveState:
    """All that training changes, and how pairs are weighted.

    Memory: 16 bytes x words x (dimension + 2, rounded up to a multiple of 16).
    """

    rows: GloveRows
    dimension: int
    x_max: float
    alpha: float

    def arrays(self) -> dict[str, Floats]:
        """All that training changes, [vocabulary, width] each: to be saved, and read back in place."""
        width = 16 * len(self.rows.shape)
        return {name: getattr(self.rows, name).reshape(-1, width) for name in GloveRows._fields if name != "shape"}

    def vectors(self, *, contexts: bool = True) -> Floats:
        """[vocabulary, dimension]: the sums of the vectors of word and context, as in the paper (section 4.2), or those of words alone."""
        arrays = self.arrays()
        vectors = arrays["words"][:, : self.dimension].copy()
        if contexts:
            vectors += arrays["contexts"][:, : self.dimension]
        return vectors

    def biases(self) -> tuple[Floats, Floats]:
        """[vocabulary] those of words, and of contexts."""
        arrays = self.arrays()
        return arrays["words"][:, self.dimension].copy(), arrays["contexts"][:, self.dimension + 1].copy()


def begin_glove(vocabulary: int, *, dimension: int, seed: int, x_max: float = 100.0, alpha: float = 0.75) -> GloveState:
    """Vectors and biases before training: uniform up to half of 1 / dimension, as in the authors' program.

    Raises: UsageError for a weighting that is none.
    """
    for name, value in (("x_max", x_max), ("alpha", alpha)):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} = {value}", expected="a finite number above 0")
    width, generator = padded(dimension + 2), np.random.default_rng(seed)
    words, contexts, word_squares, context_squares = (aligned_zeros(vocabulary * width) for _ in range(4))
    for rows, squares, bias, one in ((words, word_squares, 0, 1), (contexts, context_squares, 1, 0)):
        table = rows.reshape(-1, width)
        for begin in range(0, vocabulary, 1 << 16):
            drawn = (generator.random((min(1 << 16, vocabulary - begin), dimension + 1), np.float32) - 0.5) / dimension
            block = table[begin : begin + len(drawn)]
            block[:, :dimension], block[:, dimension + bias], block[:, dimension + one] = drawn[:, :-1], drawn[:, -1], 1
        squares[:] = 1
        squares.reshape(-1, width)[:, dimension + one] = _NEVER
    return GloveState(GloveRows(words, contexts, word_squares, context_squares, (0,) * (width // 16)), dimension, x_max, alpha)


def glove_pass_block(block: Pairs, state: GloveState, rate: float) -> tuple[float, int]:
    """Learn from a block of pairs, once; the vectors change in place.

    Several threads may work on several blocks of one state at once, without locks (Hogwild: Niu et al. 2011). One thread gives the same
    bytes each time.
    Returns: the sum of f(X) d², each before its step, and the number of pairs.
    Raises: UsageError for a rate that is none; TrainingError where the loss is not finite.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"a learning rate of {rate}", expected="a finite number above 0", remedy="--rate 0.05")
    _require_fitting(block, state)
    logarithms, shares = weigh(block.weights, x_max=state.x_max, alpha=state.alpha)
    loss = float(fit(block, logarithms, shares, state.rows, np.float32(rate)))
    if not math.isfinite(loss):
        raise TrainingError("the loss is not finite", expected="a lower learning rate", remedy=f"--rate {rate / 10:g}")
    return loss, len(block.words)


def _require_fitting(block: Pairs, state: GloveState) -> None:
    """Compiled code does not check indices."""
    vocabulary = len(state.arrays()["words"])
    for numbers in (block.words, block.contexts):
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < vocabulary:
            raise UsageError("pairs of another vocabulary", expected=f"words 0 to {vocabulary - 1}", remedy="count the pairs again")


def weigh(weights: Floats, *, x_max: float, alpha: float) -> tuple[Floats, Floats]:
    """ln X and f(X) of pairs."""
    logarithms = np.log(weights)
    shares = np.exp(np.minimum((logarithms - np.float32(math.log(x_max))) * np.float32(alpha), np.float32(0)))
    return logarithms, shares


@compiled
def fetch(word: int, rows: Floats, squares: Floats, shape: tuple[int, ...]) -> None:
    """Begin to fetch the row of a word."""
    for place in range(word * 16 * len(shape), (word + 1) * 16 * len(shape), 16):
        prefetch(rows, place)
        prefetch(squares, place)


@compiled
def fit(pairs: Pairs, logarithms: Floats, shares: Floats, rows: GloveRows, rate: np.float32) -> float:
    """A step for each pair, in their order. While the word stays the same, its row stays in registers: half the work for the memory."""
    shape, loss, n = rows.shape, 0.0, 0
    vector, squares = registers(shape), registers(shape)
    while n < len(pairs.words):
        word = pairs.words[n]
        own = np.int64(word) * 16 * len(shape)
        for v in range(len(shape)):
            put(vector, v, load(rows.words, own + 16 * v))
            put(squares, v, load(rows.word_squares, own + 16 * v))
        while n < len(pairs.words) and pairs.words[n] == word:
            if n + _AHEAD < len(pairs.words):
                fetch(np.int64(pairs.contexts[n + _AHEAD]), rows.contexts, rows.context_squares, shape)
                if pairs.words[n + _AHEAD] != pairs.words[n + _AHEAD - 1]:
                    fetch(np.int64(pairs.words[n + _AHEAD]), rows.words, rows.word_squares, shape)
            row = np.int64(pairs.contexts[n]) * 16 * len(shape)
            product = get(vector, 0) * load(rows.contexts, row)
            for v in range(1, len(shape)):
                product = product + get(vector, v) * load(rows.contexts, row + 16 * v)
            error = total(product) - logarithms[n]
            weighted = shares[n] * error
            loss += np.float64(weighted) * np.float64(error)
            by, step, limit = spread(weighted), spread(rate), np.float32(_LIMIT)
            for v in range(len(shape)):
                place, w = row + 16 * v, get(vector, v)
                u, s, t = load(rows.contexts, place), get(squares, v), load(rows.context_squares, place)
                a, b = step * clamp(by * u, limit), step * clamp(by * w, limit)
                put(vector, v, w - a / square_root(s))
                put(squares, v, s + a * a)
                store(rows.contexts, place, u - b / square_root(t))
                store(rows.context_squares, place, t + b * b)
            n += 1
        for v in range(len(shape)):
            store(rows.words, own + 16 * v, get(vector, v))
            store(rows.word_squares, own + 16 * v, get(squares, v))
    return loss
