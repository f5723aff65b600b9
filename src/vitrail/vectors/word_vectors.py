"""Words and their vectors: similarity, neighbours, analogies."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from vitrail.errors import UsageError
from vitrail.vectors.nearest import Best, best_rows, inverse_lengths, unit
from vitrail.vectors.ngrams import Matrix, Ngrams

AnalogyMethod = Literal["3cosadd", "3cosmul"]
ANALOGY_METHODS: tuple[AnalogyMethod, ...] = get_args(AnalogyMethod)
_MUL_EPSILON = 0.001
"""Levy & Goldberg 2014, section 6."""
_SHOWN, _COMPARED = 5, 50_000


class Neighbour(NamedTuple):
    """A word, and how well it answers: a cosine, or the score of an analogy."""

    word: str
    score: float


class Outputs(NamedTuple):
    """What a training learns beside the words' vectors: what the words around are told by."""

    vectors: Matrix
    """[words, dimension]: of each word; with hierarchical softmax of each inner node of the tree; of GloVe the contexts' vectors u."""
    biases: Matrix | None = None
    """Of GloVe, [words, 2]: b of the word, c of the context."""


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words with one vector each, the most frequent words first.

    Args:
        words: no word twice.
        matrix: [words, dimension]; it is not copied, and read-only here.
        counts: how often each word was in the text.
        ngrams: what gives vectors to words that are not among these.
        facts: what is known of how they were made, as JSON; kept in our folder and printed in its README.
        outputs: where they were kept, and asked for when the vectors were read.
    Memory: words x dimension x 4 bytes, and beside it some 150 bytes a word; searches take 16 MiB more.
    """

    words: Sequence[str]
    matrix: Matrix
    counts: npt.NDArray[np.int64] | None = None
    ngrams: Ngrams | None = None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        assert self.matrix.ndim == 2 and self.matrix.dtype == np.float32, "a matrix of float32"
        assert len(self.words) == len(self.matrix) > 0, "a vector for each word, and at least one"
        assert self.counts is None or len(self.counts) == len(self.words), "a count for each word"
        assert self.ngrams is None or self.ngrams.vectors.shape[1] == self.dimension, "n-grams of the same dimension"
        assert self.outputs is None or self.outputs.vectors.shape == self.matrix.shape, "an output vector for each word"
        assert len(self.index) == len(self.words), "no word twice"
        view = self.matrix.view()
        view.flags.writeable = False
        object.__setattr__(self, "matrix", view)

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self.matrix.shape[1]

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def inverse_lengths(self) -> Matrix:
        """1 / length of each vector, 0 for vectors of zeros: `matrix[rows] @ v * inverse_lengths[rows]` are cosines with a unit vector."""
        return inverse_lengths(self.matrix)

    @cached_property
    def index_of_folded(self) -> dict[str, int]:
        """The row of the most frequent word among those that are equal but for case (Unicode case folding)."""
        found: dict[str, int] = {}
        for row, word in enumerate(self.words):
            found.setdefault(word.casefold(), row)
        return found

    @cached_property
    def is_lower_case(self) -> bool:
        """Whether no word has an upper case letter: their text was folded."""
        return all(word == word.lower() for word in self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.index

    def row(self, word: str, *, fold_case: bool = False) -> int | None:
        """The row of a word, also where its accents are characters of their own there (NFD) and not here; None where it is not here.

        Args: fold_case: of the most frequent word that is equal to it but for case.
        """
        for form in (word, normalize("NFC", word)):
            row = self.index_of_folded.get(form.casefold()) if fold_case else self.index.get(form)
            if row is not None:
                return row
        return None

    def form_of(self, word: str) -> str:
        """A word as it is written here: composed (NFC), and in lower case where no word has an upper case letter; else as it is."""
        row = self.row(word)
        if row is None and self.is_lower_case:
            row = self.row(word, fold_case=True)
        return word if row is None else self.words[row]

    def vector(self, word: str) -> Matrix:
        """The vector of a word; of a word that is not here, that of its n-grams. Raises UsageError where there is neither."""
        row = self.index.get(word)
        if row is not None:
            return self.matrix[row]
        found = None if self.ngrams is None else self.ngrams.vector(word)
        if found is None:
            raise self.unknown(word)
        return found

    def similarity(self, first: str, second: str) -> float:
        """The cosine of two words' vectors, 0 where one is all zeros. Raises UsageError for an unknown word."""
        return float(unit(self.vector(first)) @ unit(self.vector(second)))

    def neighbours(self, of: str | Matrix, count: int = 10) -> list[Neighbour]:
        """The words with the greatest cosine to a word, which is not among them, or to a vector. Raises UsageError for an unknown word."""
        vector = self.vector(of) if isinstance(of, str) else np.asarray(of, dtype=np.float32)
        if vector.shape != (self.dimension,):
            raise UsageError(
                f"a vector of shape {vector.shape}", expected=f"{self.dimension} numbers, as many as these words' vectors have"
            )
        excluded = [self.index[of]] if isinstance(of, str) and of in self.index else []
        (found,) = self._listed(self.nearest(unit(vector)[None], count=count, excluded=[excluded]))
        return found

    def analogy(self, a: str, b: str, c: str, *, method: AnalogyMethod = "3cosadd", count: int = 10) -> list[Neighbour]:
        """The words d for "a is to b as c is to d". The three words are not among them. Raises UsageError for an unknown word.

        3cosadd: cos(d, b - a + c) of unit vectors (Mikolov et al. 2013). 3cosmul: cos(d, b) cos(d, c) / (cos(d, a) + 0.001) with
        cosines moved to 0..1 (Levy & Goldberg 2014).
        """
        asked = [unit(self.vector(word))[None] for word in (a, b, c)]
        excluded = [[self.index[word] for word in (a, b, c) if word in self.index]]
        (found,) = self._listed(self.answers(asked[0], asked[1], asked[2], method=method, count=count, excluded=excluded))
        return found

    def nearest(self, queries: Matrix, *, count: int, excluded: list[list[int]] | None = None) -> Best:
        """The rows with the greatest cosines to each of some unit vectors. Args: excluded: rows not to be found, for each."""

        def cosines(place: slice) -> Matrix:
            return (queries @ self.matrix[place].T) * self.inverse_lengths[place]

        return best_rows(len(self), cosines, queries=len(queries), count=count, excluded=excluded)

    def answers(
        self, a: Matrix, b: Matrix, c: Matrix, *, method: AnalogyMethod, count: int, excluded: list[list[int]] | None = None
    ) -> Best:
        """`analogy` for many questions at once. Args: a, b, c: [questions, dimension], unit vectors. excluded: as for `nearest`."""
        if method not in ANALOGY_METHODS:
            raise UsageError(f"method {method!r}", expected=" or ".join(ANALOGY_METHODS))
        if method == "3cosadd":
            return self.nearest(unit(b - a + c), count=count, excluded=excluded)

        def products(place: slice) -> Matrix:
            block, scale = self.matrix[place].T, self.inverse_lengths[place]
            to_a, to_b, to_c = (((words @ block) * scale + 1) / 2 for words in (a, b, c))
            return (to_b * to_c / (to_a + _MUL_EPSILON)).astype(np.float32)

        return best_rows(len(self), products, queries=len(a), count=count, excluded=excluded)

    def _listed(self, best: Best) -> list[list[Neighbour]]:
        return [
            [Neighbour(self.words[int(row)], float(score)) for row, score in zip(rows, scores, strict=True) if np.isfinite(score)]
            for rows, scores in zip(best.rows, best.scores, strict=True)
        ]

    def unknown(self, word: str) -> UsageError:
        """The error for a word that has no vector; its remedy is words that are spelled alike."""
        near = self._spelled_alike(word)
        without = "" if self.ngrams is None else ", or one with an n-gram"
        return UsageError(
            f"{word!r}: is not among the {len(self):,} words",
            expected=f"a word of the vocabulary{without}",
            remedy=f"one that is spelled alike: {', '.join(near)}" if near else "the case and the form that the training text had",
        )

    def _spelled_alike(self, word: str) -> list[str]:
        folded = word.casefold()
        same = self.index_of_folded.get(folded)
        found = [] if same is None else [self.words[same]]
        some = [one for one in self.words[:_COMPARED] if abs(len(one) - len(word)) <= 2 and one not in found]
        return found + difflib.get_close_matches(folded, some, _SHOWN - len(found), cutoff=0.75)

    def first(self, count: int) -> "WordVectors":
        """The first words alone, without a copy of their vectors, and without output vectors, which need all words."""
        if count >= len(self):
            return self
        counts = None if self.counts is None else self.counts[:count]
        return WordVectors(self.words[:count], self.matrix[:count], counts, self.ngrams, self.facts)
