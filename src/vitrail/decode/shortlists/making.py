"""Making a shortlist from the text of a model's training, or from other text of its languages."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.cleaning.normalise import Normalisation, encodable, normalise
from vitrail.data.preparing.prepared import Prepared, is_prepared, open_data
from vitrail.data.preparing.store import Store
from vitrail.data.reading.parallel_text import lines
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.data.vocabularies.vocabulary import SPECIAL, Subwords
from vitrail.decode.shortlists.table import Shortlist
from vitrail.errors import DataError, UsageError
from vitrail.models.stored import StoredModel, read_stored_translator
from vitrail.native.compiled import require_numba
from vitrail.native.shortlists.model_1 import TokenPairs, cells_of, learn_links, most_probable

MOST_PAIRS, MOST_CELLS = 1_000_000, 300_000_000
"""Of more pairs, or pairs of tokens, every second is read, every third, and so on: enough for a vocabulary of 32,000 to have each token
hundreds of times."""
_LONGEST = 1024
"""Pairs with a side of more tokens are left out."""
SPELLED = "spelled_"
"""Of a shortlist's facts: before `source` and `target`, the share of the text's tokens that are unknown, or spelled in single bytes."""
_SAMPLE = 100_000
"""Tokens of each side by which that is judged."""
_LINES = 50_000
"""Lines that are encoded together."""

Row = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ShortlistRecipe:
    """How many tokens a shortlist has."""

    candidates: int
    """Target tokens of each source token, the most probable."""
    frequent: int
    """Target tokens of every list, the most frequent."""


class _Texts(NamedTuple):
    """Files of sentences and their translations, line by line."""

    source: Path
    target: Path


def make_shortlist(folder: Path, recipe: ShortlistRecipe, *, source: Path | None = None, target: Path | None = None) -> Shortlist:
    """Learn a shortlist for the model of a run, from the text that it was trained on, or from the lines of two files.

    Raises UsageError for a model folder without a run where no files are named, for one file without the other, and without Numba;
    DataError where nothing can be learned.
    """
    require_numba("a shortlist")
    if (source is None) != (target is None):
        raise UsageError("--source without --target, or the other way round", expected="both, line by line")
    stored = read_stored_translator(folder)
    if source is not None and target is not None:
        rows = _of_files(stored, _Texts(source, target))
    else:
        rows = _of_run(folder, stored.vocabularies)
    pairs = _joined(rows)
    return _from_pairs(pairs, stored.vocabularies, recipe)


def _of_run(folder: Path, vocabularies: Vocabularies) -> list[tuple[Row, Row]]:
    """The pairs that a run was trained on."""
    if not is_prepared(folder / "data"):
        raise UsageError(f"{folder}: the text of its training is not there", remedy="the folder of the run, or --source FILE --target FILE")
    data = open_data(folder / "data")
    if not isinstance(data, Prepared):
        raise UsageError(f"{folder}: was not trained on pairs of sentences", expected="a translator's run")
    for store in data.stores:
        store.require(vocabularies)
    every = -(-sum(map(len, data.stores)) // MOST_PAIRS)
    return [pair for store in data.stores for pair in _rows(store, every)]


def _rows(store: Store, every: int) -> Iterator[tuple[Row, Row]]:
    for number in range(0, len(store), every):
        yield store.source(number), store.target(number)


def _of_files(stored: StoredModel, texts: _Texts) -> list[tuple[Row, Row]]:
    """The lines of two files as the model reads them."""
    counts = [sum(1 for _ in lines(path)) for path in texts]
    if counts[0] != counts[1]:
        raise DataError(f"{texts.target}: {counts[1]:,} lines, {texts.source}: {counts[0]:,} lines", expected="equal numbers of lines")
    every = max(1, -(-counts[0] // MOST_PAIRS))
    reading = Normalisation.from_fact(stored.facts.get("source_normalization"))
    sides = (
        _encoded((reading.source(encodable(line)) for line in islice(lines(texts.source), 0, None, every)), stored.vocabularies.source),
        _encoded((normalise(encodable(line)) for line in islice(lines(texts.target), 0, None, every)), stored.vocabularies.target),
    )
    return list(zip(*sides, strict=True))


def _encoded(texts: Iterable[str], vocabulary: Subwords) -> Iterator[Row]:
    rest = iter(texts)
    while some := list(islice(rest, _LINES)):
        yield from vocabulary.encode_arrays(some, threads=1)


def _joined(rows: Sequence[tuple[Row, Row]]) -> TokenPairs:
    """Pairs with tokens on both sides, as arrays; fewer of them where they have too many cells."""
    kept = [pair for pair in rows if min(map(len, pair)) > 0 and max(map(len, pair)) <= _LONGEST]
    if not kept:
        raise DataError("no sentence with its translation to learn a shortlist from", expected="some thousands")
    pairs = _arrays(kept)
    every = -(-int(cells_of(pairs).sum()) // MOST_CELLS)
    return pairs if every == 1 else _arrays(kept[::every])


def _arrays(rows: Sequence[tuple[Row, Row]]) -> TokenPairs:
    sides = [[pair[side] for pair in rows] for side in (0, 1)]
    tokens = [np.concatenate(side).astype(np.int64) for side in sides]
    starts = [np.cumsum([0, *map(len, side)], dtype=np.int64) for side in sides]
    return TokenPairs(tokens[0], starts[0], tokens[1], starts[1])


def _from_pairs(pairs: TokenPairs, vocabularies: Vocabularies, recipe: ShortlistRecipe) -> Shortlist:
    source, target = vocabularies.source, vocabularies.target
    links = most_probable(learn_links(pairs, sources=source.size, targets=target.size), recipe.candidates)
    counts = np.bincount(pairs.target, minlength=target.size)
    frequent = np.argsort(-counts, kind="stable")[: recipe.frequent]
    pieces = target.pieces(range(target.size))
    digits = [token for token, piece in enumerate(pieces) if len(piece.strip("▁ ")) == 1 and piece.strip("▁ ").isdigit()]
    ids = {piece: token for token, piece in enumerate(pieces) if token >= len(SPECIAL)}
    return Shortlist(
        starts=links.starts.astype(np.int32),
        tokens=links.targets.astype(np.int32),
        probabilities=links.weights,
        always=np.union1d([*range(len(SPECIAL)), *digits], frequent[counts[frequent] > 0]).astype(np.int32),
        copies=np.array([ids.get(piece, -1) for piece in source.pieces(range(source.size))], np.int32),
        target_size=target.size,
        vocabularies=vocabularies.digest,
        facts={
            "candidates": str(recipe.candidates),
            "frequent": str(recipe.frequent),
            "pairs": str(len(pairs.source_starts) - 1),
            f"{SPELLED}source": _spelled(pairs.source, source),
            f"{SPELLED}target": _spelled(pairs.target, target),
        },
    )


def _spelled(tokens: npt.NDArray[np.int64], vocabulary: Subwords) -> str:
    some = tokens[:_SAMPLE].tolist()
    return f"{vocabulary.spelled(some) / len(some):.3f}"
