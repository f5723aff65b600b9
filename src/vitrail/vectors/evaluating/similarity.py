"""Similarity of words against people's: Spearman's rank correlation, and what of the questions could be asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.reports.figure import Figure
from vitrail.vectors.evaluating.questions import SimilarityPair, SimilaritySet
from vitrail.vectors.nearest import unit
from vitrail.vectors.ngrams import Matrix
from vitrail.vectors.word_vectors import WordVectors

Numbers = npt.NDArray[np.float64]
RESAMPLES = 1_000
_SEED = 1


@dataclass(frozen=True)
class SimilarityScore:
    """How well cosines follow the order that people gave to pairs."""

    name: str
    pairs: int
    in_vocabulary: int
    """Pairs of which both words are in the vocabulary."""
    from_ngrams: int
    """Pairs of which a word is not, and has a vector of its n-grams."""
    missing: tuple[str, ...]
    """Words without any vector; their pairs are left out."""
    spearman: Figure | None
    """Of all pairs that have vectors; None where fewer than two do, or all of them are equal."""
    spearman_in_vocabulary: Figure | None
    """Of the pairs in the vocabulary alone."""
    spearman_as_unseen: Figure | None
    """Of all pairs, each word by its n-grams alone, as if no training had seen it; None without n-grams."""
    more_if_folded: int
    """Pairs more that would have vectors if case did not count."""


def ranks(values: Numbers) -> Numbers:
    """The rank of each value, from 1; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def spearman(first: Numbers, second: Numbers) -> float:
    """Pearson's correlation of the ranks; NaN where it is not defined: fewer than two values, or all of them equal."""
    if len(first) < 2:
        return float("nan")
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths > 0 else float("nan")


def spearman_figure(first: Numbers, second: Numbers, *, bootstrap: int) -> Figure | None:
    """The correlation with the interval of resampled pairs; None where it is not defined."""
    value = spearman(first, second)
    if np.isnan(value):
        return None
    draws = np.random.default_rng(_SEED).integers(0, len(first), size=(bootstrap, len(first)))
    again = np.array([spearman(first[rows], second[rows]) for rows in draws])
    return Figure.of(value, again[~np.isnan(again)])


def evaluate_similarity(
    vectors: WordVectors, questions: SimilaritySet, *, fold_case: bool = False, bootstrap: int = RESAMPLES
) -> SimilarityScore:
    """Compare cosines with people's scores.

    Args: fold_case: a word is any word that is equal to it but for case, the most frequent of them. bootstrap: resamples; 0: no interval.
    """
    known, seen, missing = list[SimilarityPair](), list[bool](), dict[str, None]()
    for pair in questions.pairs:
        lacking = [word for word in pair[:2] if not _has_vector(vectors, word, fold_case=fold_case)]
        missing |= dict.fromkeys(lacking)
        if not lacking:
            known.append(pair)
            seen.append(all(vectors.row(word, fold_case=fold_case) is not None for word in pair[:2]))
    scores = np.array([pair.score for pair in known], dtype=np.float64)
    cosines = _cosines(*(_vectors_of(vectors, [str(pair[side]) for pair in known], fold_case=fold_case) for side in (0, 1)))
    inside = np.array(seen, dtype=bool)
    unseen = _as_unseen(vectors, known, fold_case=fold_case)
    return SimilarityScore(
        name=questions.name,
        pairs=len(questions.pairs),
        in_vocabulary=int(inside.sum()),
        from_ngrams=int((~inside).sum()),
        missing=tuple(missing),
        spearman=spearman_figure(cosines, scores, bootstrap=bootstrap),
        spearman_in_vocabulary=spearman_figure(cosines[inside], scores[inside], bootstrap=bootstrap),
        spearman_as_unseen=None if unseen is None else spearman_figure(unseen, scores, bootstrap=bootstrap),
        more_if_folded=0 if fold_case else _more_if_folded(vectors, questions),
    )


def _has_vector(vectors: WordVectors, word: str, *, fold_case: bool) -> bool:
    return vectors.row(word, fold_case=fold_case) is not None or (
        vectors.ngrams is not None and vectors.ngrams.vector(word.casefold() if fold_case else word) is not None
    )


def _vectors_of(vectors: WordVectors, words: Sequence[str], *, fold_case: bool) -> Matrix:
    found = np.zeros((len(words), vectors.dimension), dtype=np.float32)
    for place, word in enumerate(words):
        row = vectors.row(word, fold_case=fold_case)
        found[place] = vectors.vector(word.casefold() if fold_case else word) if row is None else vectors.matrix[row]
    return found


def _as_unseen(vectors: WordVectors, pairs: Sequence[SimilarityPair], *, fold_case: bool) -> Numbers | None:
    if vectors.ngrams is None:
        return None
    sides: list[Matrix] = []
    for side in (0, 1):
        words = [str(pair[side]) for pair in pairs]
        made = [vectors.ngrams.vector(word.casefold() if fold_case else word) for word in words]
        sides.append(np.array([np.zeros(vectors.dimension, dtype=np.float32) if one is None else one for one in made]))
    return _cosines(*sides)


def _cosines(first: Matrix, second: Matrix) -> Numbers:
    """Of each row with the same row of the other; rounded, so that words that are the same tie with each other."""
    return np.round((unit(first).astype(np.float64) * unit(second)).sum(axis=-1), 6)


def _more_if_folded(vectors: WordVectors, questions: SimilaritySet) -> int:
    def whole(pair: SimilarityPair, *, fold_case: bool) -> bool:
        return all(_has_vector(vectors, word, fold_case=fold_case) for word in pair[:2])

    return sum(whole(pair, fold_case=True) and not whole(pair, fold_case=False) for pair in questions.pairs)
