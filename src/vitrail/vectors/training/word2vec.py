"""Word2Vec and fastText: what their kernels need, and one piece of text at a time."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrail.native.arrays import aligned_zeros, padded
from vitrail.vectors.ngrams import Ngrams, word_buckets
from vitrail.vectors.steps.draws import word_table
from vitrail.vectors.steps.kernels import LONGEST, Bags, Learner, Objective, Rates, Reading, Rows, Workspace, cbow, skip_gram
from vitrail.vectors.steps.tree import huffman_paths
from vitrail.vectors.training.config import VectorsConfig
from vitrail.vectors.training.corpus import LINE_END, WordCounts
from vitrail.vectors.training.pieces import PieceResult
from vitrail.vectors.word_vectors import Outputs, WordVectors

_PIECE_TOKENS = 1 << 18
_LAST_SHARE = 1e-4
"""Of the learning rate, at the end."""


class Word2Vec:
    """A training by windows, whose text lies in a file of numbers.

    Memory: 4 bytes x (words, twice, and buckets of n-grams) x dimension, rounded up to a multiple of 16.
    """

    unit = "words"

    def __init__(self, config: VectorsConfig, vocabulary: WordCounts, tokens: Path) -> None:
        self._config, self._vocabulary = config, vocabulary
        self._tokens = np.memmap(tokens, dtype="<i4", mode="r")
        self._ends = _piece_ends(self._tokens)
        words, buckets = len(vocabulary.words), config.ngrams.buckets if config.method == "fasttext" else 0
        self._width = padded(config.dimension)
        inputs, outputs = aligned_zeros((words + buckets) * self._width), aligned_zeros(words * self._width)
        generator = np.random.default_rng(config.seed)
        table = inputs.reshape(-1, self._width)
        for begin in range(0, len(table), 1 << 16):  # as in word2vec and fastText: uniform up to half of 1 / dimension
            block = table[begin : begin + (1 << 16), : config.dimension]
            block[:] = (generator.random(block.shape, np.float32) - 0.5) / config.dimension
        counts = vocabulary.counts
        self._kernel = skip_gram if config.architecture == "skip-gram" else cbow
        self._learner = Learner(
            Rows(inputs, outputs, (0,) * (self._width // 16)),
            self._bags(),
            _objective(config, counts),
            Reading(keep_shares(counts, sample=config.sample), config.window),
        )

    @property
    def pieces(self) -> int:
        """Pieces of the text."""
        return len(self._ends)

    def compile(self) -> None:
        """Compile the kernel, if it is not yet."""
        self._kernel(np.zeros(0, np.int32), self._learner, Rates(0.0, 0.0), self._workspace(0, 0))

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All that training changes."""
        return {"inputs": self._learner.rows.inputs, "outputs": self._learner.rows.outputs}

    def read_piece(self, epoch: int, piece: int) -> PieceResult:
        """Learn from one piece of the text. Its random numbers and rates depend on seed, epoch and piece alone."""
        begin, end = self._ends[piece - 1] if piece else 0, self._ends[piece]
        tokens = np.array(self._tokens[begin:end], np.int32)
        first, last = (self._rate_after(epoch, int(place)) for place in (begin, end))
        steps, loss, watched = self._kernel(tokens, self._learner, Rates(first, last), self._workspace(epoch, piece))
        return PieceResult(words=int(np.count_nonzero(tokens != LINE_END)), steps=steps, loss=loss, watched=watched, rate=last)

    def vectors(self) -> WordVectors:
        """The vectors as they are now; of fastText, those of words are the mean of their own and their n-grams'."""
        size, dimension, words = len(self._vocabulary.words), self._config.dimension, self._vocabulary.words
        table = self._learner.rows.inputs.reshape(-1, self._width)[:, :dimension]
        matrix, ngrams = np.ascontiguousarray(table[:size]), None
        if self._config.method == "fasttext":
            options = self._config.ngrams
            ngrams = Ngrams(np.ascontiguousarray(table[size:]), options.shortest, options.longest)
            ngrams.compose(words, matrix)
        outputs = None
        if self._config.keep_outputs:
            outputs = Outputs(np.ascontiguousarray(self._learner.rows.outputs.reshape(-1, self._width)[:, :dimension]))
        return WordVectors(words, matrix, self._vocabulary.counts, ngrams, outputs=outputs)

    def _rate_after(self, epoch: int, place: int) -> float:
        done = (epoch + place / len(self._tokens)) / self._config.epochs
        return self._config.first_rate * (1 - (1 - _LAST_SHARE) * done)

    def _bags(self) -> Bags:
        words = self._vocabulary.words
        own = np.arange(len(words), dtype=np.int64)
        if self._config.method != "fasttext":
            return Bags(np.arange(len(words) + 1, dtype=np.int64), own.astype(np.int32))
        options = self._config.ngrams
        rows, sizes = word_buckets(words, minn=options.shortest, maxn=options.longest, buckets=options.buckets)
        starts = np.concatenate([[0], np.cumsum(sizes + 1)])
        with_own = np.insert(rows + len(words), np.cumsum(sizes) - sizes, own)
        return Bags(starts, with_own.astype(np.int32))

    @cached_property
    def _most_rows(self) -> int:
        """Input rows of the largest step."""
        most = int(np.diff(self._learner.bags.starts).max())
        return most if self._config.architecture == "skip-gram" else most * 2 * self._config.window

    def _workspace(self, epoch: int, piece: int) -> Workspace:
        config, objective = self._config, self._learner.objective
        targets = config.negatives + 1 if config.negatives else int(np.diff(objective.paths.starts).max())
        most, places = padded(targets), 2 * config.window + 1
        return Workspace(
            state=np.random.SeedSequence([config.seed, epoch, piece]).generate_state(1, np.uint64).astype(np.uint64),
            words=np.zeros(LONGEST, np.int32),
            bag=np.zeros(self._most_rows, np.int32),
            targets=np.zeros(places * most, np.int32),
            labels=aligned_zeros(places * most),
            counts=np.zeros(places, np.int32),
            scores=aligned_zeros(most),
        )


def keep_shares(counts: npt.NDArray[np.int64], *, sample: float) -> npt.NDArray[np.uint32]:
    """How often each word is kept, of 2^32: sqrt(t / f) + t / f for a share f of the text, as the word2vec program does it; 0: always."""
    if sample == 0:
        return np.full(len(counts), 2**32 - 1, np.uint32)
    ratio = sample * counts.sum() / counts
    return np.minimum((np.sqrt(ratio) + ratio) * 2**32, 2**32 - 1).astype(np.uint32)


def _objective(config: VectorsConfig, counts: npt.NDArray[np.int64]) -> Objective:
    noise = word_table(counts.astype(np.float64) ** config.noise_power)
    if config.negatives:
        return Objective(config.negatives, noise, Bags(np.zeros(1, np.int64), np.zeros(1, np.int32)), np.zeros(1, np.float32))
    return Objective(0, noise, *huffman_paths(counts))


def _piece_ends(tokens: "np.memmap[tuple[int, ...], np.dtype[np.int32]]") -> Sequence[int]:
    """Where pieces of about equal size end: after a line, as far as lines are shorter than a piece."""
    ends: list[int] = []
    place = 0
    while place < len(tokens):
        place = min(place + _PIECE_TOKENS, len(tokens))
        after = np.flatnonzero(np.asarray(tokens[place : place + _PIECE_TOKENS]) == LINE_END)
        place += int(after[0]) + 1 if len(after) else 0
        ends.append(place)
    return ends
