"""Maps one space of word vectors onto another by a rotation, learned from a small dictionary, and finds translations in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitrail.errors import DataError, UsageError
from vitrail.vectors.nearest import Best, Scores, best_rows, unit
from vitrail.vectors.ngrams import Matrix
from vitrail.vectors.word_vectors import WordVectors

NEIGHBOURHOOD = 10
"""Words over which CSLS takes its mean (Conneau et al. 2018)."""
_BATCH = 512
_BLOCK_NUMBERS = 1 << 22
_MOST_REFINED = 20_000


class Space:
    """Word vectors made comparable: of length 1, around zero, of length 1 again (Artetxe et al. 2016). Made when they are read, block by
    block, so that no second matrix is kept."""

    def __init__(self, vectors: WordVectors) -> None:
        self.vectors = vectors
        total = np.zeros(vectors.dimension)
        size = max(1, _BLOCK_NUMBERS // vectors.dimension)
        for start in range(0, len(vectors), size):
            total += unit(vectors.matrix[start : start + size]).sum(axis=0, dtype=np.float64)
        self._mean = (total / len(vectors)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, place: slice | Sequence[int]) -> Matrix:
        """Some rows."""
        found = self.vectors.matrix[place if isinstance(place, slice) else list(place)]
        return unit(unit(found) - self._mean)


def fit_rotation(source: Matrix, target: Matrix) -> Matrix:
    """The orthogonal matrix W for which source·W is nearest to target: U·Vᵀ of the singular values of sourceᵀ·target (Schönemann 1966)."""
    left, _, right = np.linalg.svd(source.astype(np.float64).T @ target.astype(np.float64))
    return (left @ right).astype(np.float32)


@dataclass(frozen=True, eq=False)
class MappedSpaces:
    """A source space that a rotation takes into a target space.

    CSLS(x, y) = 2 cos(x, y) - r(x) - r(y), where r is the mean cosine of a word to its 10 nearest neighbours in the other space: what
    is near to everything is not taken for a translation of everything.
    """

    source: Space
    target: Space
    rotation: Matrix
    pairs: int
    """Pairs of words that the rotation was fitted to."""

    @classmethod
    def fit(cls, source: WordVectors, target: WordVectors, pairs: Sequence[tuple[str, str]]) -> "MappedSpaces":
        """Fit the rotation to pairs of words that are translations; those with a word that is not in its vocabulary are left out.

        Raises: UsageError for spaces of different dimensions; DataError where no pair is left.
        """
        if source.dimension != target.dimension:
            raise UsageError(
                f"vectors of {source.dimension} and of {target.dimension} numbers",
                expected="two spaces of the same dimension",
                remedy="train both with the same --dimension",
            )
        known = [(source.index[one], target.index[other]) for one, other in pairs if one in source and other in target]
        if not known:
            raise DataError(
                f"none of {len(pairs):,} pairs of the dictionary is in both vocabularies",
                expected="a source word and a target word a line, with the case and form that the vectors have",
                remedy="a dictionary of more frequent words, or exchange its columns",
            )
        return _fit(Space(source), Space(target), known)

    def refined(self, rounds: int, *, say: Callable[[str], None] = lambda line: None) -> "MappedSpaces":
        """Fit again to the pairs that are each other's best translations by CSLS, among the 20,000 most frequent words of each side."""
        found = self
        for number in range(1, rounds + 1):
            pairs = found.mutual_pairs(_MOST_REFINED)
            if not pairs:
                break
            found = _fit(found.source, found.target, pairs)
            say(f"refined {number} of {rounds}: {len(pairs):,} pairs are each other's best translation")
        return found

    def translations(self, rows: Sequence[int], *, count: int = 10, csls: bool = True) -> Best:
        """The best target words of source words, by CSLS without r(x), which is the same for all of them, or by cosine."""
        return self._best(rows, self.source, self.target, self.rotation, self._hubness if csls else None, count)

    def mutual_pairs(self, most: int) -> list[tuple[int, int]]:
        """Source and target words that are each other's best translation by CSLS, among the most frequent of each side."""
        some = self._first(most)
        there = some.translations(range(len(some.source)), count=1).rows[:, 0]
        back = some.turned.translations(range(len(some.target)), count=1).rows[:, 0]
        return [(row, int(found)) for row, found in enumerate(there.tolist()) if back[found] == row]

    def _first(self, most: int) -> "MappedSpaces":
        if most >= max(len(self.source), len(self.target)):
            return self
        source, target = (Space(space.vectors.first(most)) for space in (self.source, self.target))
        return MappedSpaces(source, target, self.rotation, self.pairs)

    @cached_property
    def turned(self) -> "MappedSpaces":
        """The same from the target to the source."""
        return MappedSpaces(self.target, self.source, np.ascontiguousarray(self.rotation.T), self.pairs)

    @cached_property
    def _hubness(self) -> Scores:
        """r(y) of each target word: the mean cosine to its nearest source words."""
        rows = range(len(self.target))
        back = self._best(rows, self.target, self.source, self.rotation.T, None, NEIGHBOURHOOD)
        return back.scores.mean(axis=1)

    @staticmethod
    def _best(rows: Sequence[int], asked: Space, among: Space, rotation: Matrix, hubness: Scores | None, count: int) -> Best:
        """The best rows of a space for rows of another. Args: hubness: r of each candidate, for CSLS."""
        parts: list[Best] = []
        for start in range(0, len(rows), _BATCH):
            queries = asked.rows(rows[start : start + _BATCH]) @ rotation

            def score(place: slice, queries: Matrix = queries) -> Scores:
                cosines = queries @ among.rows(place).T
                return cosines if hubness is None else 2 * cosines - hubness[place]

            parts.append(best_rows(len(among), score, queries=len(queries), count=count))
        return Best(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))


def _fit(source: Space, target: Space, pairs: Sequence[tuple[int, int]]) -> MappedSpaces:
    rotation = fit_rotation(source.rows([one for one, _ in pairs]), target.rows([other for _, other in pairs]))
    return MappedSpaces(source, target, rotation, len(pairs))
