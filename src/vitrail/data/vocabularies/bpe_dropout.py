"""Reproducible BPE-dropout. SentencePiece's own (0.2.3) is seeded with entropy of the process, so that a resumed run would differ."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_WORD_START = "▁"


class Merges(NamedTuple):
    """The merges of a BPE vocabulary, as sorted arrays. A symbol is an id, or `size` + code point for a character without an id."""

    size: int
    rank: Ints
    """The rank of each id among all merges: the lowest is merged first."""
    code_points: Ints
    """Sorted code points of the characters that have an id, and `characters`, those ids."""
    characters: Ints
    pairs: Ints
    """Sorted left * size + right of the ids that may merge, and `merged`, the results."""
    merged: Ints


def read_merges(scores: Mapping[str, float], ids: Mapping[str, int], *, size: int) -> Merges:
    """Make the tables from the pieces of a vocabulary: any two pieces that together spell a third may merge into it."""
    by_score = sorted(ids, key=lambda piece: (-scores[piece], ids[piece]))
    rank = np.zeros(size, dtype=np.int64)
    rank[[ids[piece] for piece in by_score]] = np.arange(len(by_score))
    characters = sorted((ord(piece), id) for piece, id in ids.items() if len(piece) == 1)
    pairs = sorted(
        (ids[piece[:cut]] * size + ids[piece[cut:]], id)
        for piece, id in ids.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    )
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    known = np.array(characters, dtype=np.int64).reshape(-1, 2)
    return Merges(size, rank, known[:, 0], known[:, 1], table[:, 0], table[:, 1])


def segment(texts: Sequence[str], merges: Merges, *, seed: int, dropout: float) -> list[list[int]]:
    """Merge characters into pieces; before every merge, each candidate is skipped with probability `dropout`.

    Source: Provilkov et al. 2020, algorithm 1, run for all words of all texts at once: in each round every word does its best merge that
    was not skipped; a word is done when all of its candidates were skipped. Without dropout it is BPE.
    Args:    texts with ▁ for every space and one at the start.
    Returns: symbols (see `Merges`) of each text. A pure function of its arguments, on every platform.
    Cost:    one pass over all characters for each merge of the longest word: 10 ms for 270 sentences of 12 words.
    """
    joined = "".join(texts)
    code_points = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    symbols = _lookup(code_points, merges.code_points, merges.characters, missing=-1)
    symbols = np.where(symbols < 0, merges.size + code_points, symbols)
    ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    starts_word = code_points == ord(_WORD_START)
    alive = _merge_all(symbols, np.cumsum(starts_word), merges, seed=seed, dropout=dropout)
    counts = np.concatenate([[0], np.cumsum(alive)])
    kept = symbols[alive].tolist()
    cuts = [0, *counts[ends].tolist()]
    return [kept[start:end] for start, end in pairwise(cuts)]


def _merge_all(symbols: Ints, word: Ints, merges: Merges, *, seed: int, dropout: float) -> npt.NDArray[np.bool_]:
    """Merge `symbols` in place; returns which places still hold one. `word` numbers the word at each place; no merge crosses words."""
    count = len(symbols)
    alive = np.ones(count, dtype=np.bool_)
    # Two extra places, so that the neighbour of an end is one that never merges.
    after = np.arange(1, count + 2)
    before = np.arange(-1, count + 1)
    into = np.full(count + 1, -1, dtype=np.int64)
    here = np.flatnonzero(word[:-1] == word[1:]) if count else np.arange(0)
    into[here] = _merge_of(symbols[here], symbols[here + 1], merges)
    passed_over = np.uint64(min(int(dropout * 2.0**64), 2**64 - 1))
    generator = np.random.PCG64(np.random.SeedSequence(seed))
    while True:
        candidates = np.flatnonzero(into >= 0)
        if not len(candidates):
            return alive
        kept = candidates[generator.random_raw(len(candidates)) >= passed_over] if dropout > 0 else candidates
        if dropout > 0:
            _finish_words(into, word[candidates], word[kept], candidates)
        if not len(kept):
            continue
        first_of_word = np.flatnonzero(np.diff(word[kept], prepend=-1))
        best = np.minimum.reduceat((merges.rank[into[kept]] << 32) + kept, first_of_word) & 0xFFFFFFFF
        gone = after[best]
        symbols[best] = into[best]
        alive[gone] = False
        into[gone] = -1
        after[best] = after[gone]
        before[after[best]] = best
        for left in (best, before[best]):
            right = after[left]
            inside = (left >= 0) & (right < count)
            left, right = left[inside], right[inside]
            same = word[left] == word[right]
            into[left] = np.where(same, _merge_of(symbols[left], symbols[right], merges), -1)
        into[best[after[best] >= count]] = -1


def _finish_words(into: Ints, words: Ints, going_on: Ints, candidates: Ints) -> None:
    """Remove the candidates of the words that skipped all of theirs."""
    places = np.searchsorted(going_on, words)
    found = np.zeros(len(words), dtype=np.bool_)
    within = places < len(going_on)
    found[within] = going_on[places[within]] == words[within]
    into[candidates[~found]] = -1


def _merge_of(left: Ints, right: Ints, merges: Merges) -> Ints:
    known = (left < merges.size) & (right < merges.size)
    return np.where(known, _lookup(left * merges.size + right, merges.pairs, merges.merged, missing=-1), -1)


def _lookup(wanted: Ints, keys: Ints, values: Ints, *, missing: int) -> Ints:
    """The value of each key in sorted `keys`, or `missing`."""
    if not len(keys):
        return np.full(len(wanted), missing, dtype=np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], missing)
