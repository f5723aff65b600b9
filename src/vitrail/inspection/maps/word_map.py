"""Word vectors on a plane: the most frequent words, the neighbours of each by cosine in all dimensions, and walks of chosen pairs.

The record, `extras["words"]` of a page and `WordMap.model_dump(mode="json")`: the words of `words` come in this order: those on the map,
`shown` of them, by falling frequency; then, also by falling frequency, others that the page knows by name. `gaps` gives their rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vitrail.config import Config
from vitrail.errors import UsageError
from vitrail.inspection.maps.similarity import Coordinates, ProjectionMethod, columns, project
from vitrail.vectors.explaining.objective import objective_of
from vitrail.vectors.explaining.walk import Walk
from vitrail.vectors.nearest import Best, unit
from vitrail.vectors.ngrams import Matrix
from vitrail.vectors.word_vectors import WordVectors

KNOWN = 50_000
"""The most frequent words that a page knows by name: some 300 KB of it."""
_QUERIES = 256


class WordMap(Config):
    """Words on a plane, as in this module's description."""

    format: int = 1
    name: str
    """Of the vectors."""
    total: int
    """Words that the vectors have."""
    dimension: int
    training: dict[str, Any]
    """What is known of the training: method, architecture, negatives, text_words; nothing of vectors of other programs."""
    ngrams: bool
    """Whether unseen words have vectors, too."""
    fold: bool
    """Whether no word has an upper case letter, so that case does not count."""
    method: ProjectionMethod
    shown: int
    words: tuple[str, ...]
    gaps: tuple[int, ...]
    """From each word's row to that of the next: the first is a row. At word `shown` it begins anew."""
    counts: tuple[int, ...] | None
    """How often each word on the map is in the text."""
    coordinates: Coordinates
    """Of the words on the map: x's and y's."""
    explained: tuple[float, ...] | None
    """The share of the variance of these words along x and along y; None for t-SNE and UMAP."""
    neighbours: tuple[tuple[int, ...], ...]
    """For each word on the map, places in `words`, the nearest first, by cosine in all dimensions among all words."""
    cosines: tuple[tuple[float, ...], ...]
    walks: tuple[Walk, ...]


class Wanted(NamedTuple):
    """What a map shows."""

    words: int = 2_000
    """The most frequent ones."""
    also: Sequence[str] = ()
    """Others, wherever they stand."""
    method: ProjectionMethod = "pca"
    neighbours: int = 10
    """Of each word."""


def map_words(vectors: WordVectors, wanted: Wanted, *, name: str, walks: Sequence[Walk] = ()) -> WordMap:
    """Lay out words by their vectors at length 1, so that near words on the map have a great cosine.

    Raises: UsageError for a word that is not there, and where the library of t-SNE or UMAP is not installed.
    Cost:   a product of each word on the map with each word of the vectors.
    """
    rows = [*range(min(wanted.words, len(vectors)))]
    for word in wanted.also:
        row = vectors.index.get(vectors.form_of(word))
        if row is None:
            raise vectors.unknown(word)
        rows.append(row)
    rows = sorted(set(rows))
    if len(rows) < 2:
        raise UsageError(f"a map of {len(rows)} word", expected="at least 2 words")
    units = unit(vectors.matrix[rows])
    found = project(units, method=wanted.method, components=2)
    near, cosines = _neighbours(vectors, rows, units, count=wanted.neighbours)
    on_map = set(rows)
    others = sorted({*range(min(KNOWN, len(vectors))), *near.ravel().tolist()} - on_map)
    place = {row: number for number, row in enumerate([*rows, *others])}
    return WordMap(
        name=name,
        total=len(vectors),
        dimension=vectors.dimension,
        training=_training(vectors),
        ngrams=vectors.ngrams is not None,
        fold=vectors.is_lower_case,
        method=wanted.method if len(rows) >= 5 else "pca",
        shown=len(rows),
        words=tuple(vectors.words[row] for row in (*rows, *others)),
        gaps=(*_gaps(rows), *_gaps(others)),
        counts=None if vectors.counts is None else tuple(vectors.counts[rows].tolist()),
        coordinates=columns(found),
        explained=found.explained,
        neighbours=tuple(tuple(place[row] for row in line) for line in near.tolist()),
        cosines=tuple(tuple(round(value, 4) for value in line) for line in cosines.tolist()),
        walks=tuple(walks),
    )


def _neighbours(vectors: WordVectors, rows: Sequence[int], units: Matrix, *, count: int) -> Best:
    """The nearest words of each, itself excluded."""
    parts = [
        vectors.nearest(units[start : start + _QUERIES], count=min(count, len(vectors) - 1), excluded=[[row] for row in part])
        for start in range(0, len(rows), _QUERIES)
        for part in [rows[start : start + _QUERIES]]
    ]
    return Best(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))


def _gaps(rows: Sequence[int]) -> list[int]:
    return [row - before for before, row in zip([0, *rows], rows, strict=False)]


def _training(vectors: WordVectors) -> dict[str, Any]:
    objective = objective_of(vectors.facts)
    known = {} if objective is None else {name: getattr(objective, name) for name in ("method", "architecture", "negatives", "kind")}
    words = vectors.facts.get("words of text")
    return known | ({"text_words": words} if isinstance(words, int) else {})
