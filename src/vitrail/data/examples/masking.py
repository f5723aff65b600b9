"""Hide tokens of sentences for a masked language model: which, and behind what, is drawn anew for every batch."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.batches import IdRow, pad_rows
from vitrail.data.vocabularies.subwords import EOS, PAD, Subwords
from vitrail.languages import is_unspaced

_MASKED, _REPLACED = 0.8, 0.9
"""Of the chosen tokens, 80 % are hidden behind the mask, the next 10 % become a random token, the others stay (Devlin et al. 2019)."""


class MaskedBatch(NamedTuple):
    """Sentences in which some tokens are hidden."""

    source: Int[Tensor, "B S"]
    """<s> x1 .. xn </s>, then PAD, with the mask in place of hidden tokens."""
    following: Int[Tensor, "B S"]
    """The tokens to guess at their positions; PAD elsewhere."""


@dataclass(frozen=True)
class Masking:
    """Makes a batch of rows: a pure function of rows and seed."""

    vocabulary: int
    """Ids of the vocabulary; the mask is the next one."""
    share: float
    """Of the tokens to guess: at least one of each row."""
    starts: npt.NDArray[np.bool_] | None = None
    """For each id, whether it begins a word: hides whole words. None: single tokens."""

    @classmethod
    def of(cls, vocabulary: Subwords, *, share: float, whole_words: bool) -> "Masking":
        """The masking of text with this vocabulary."""
        return cls(vocabulary.size, share, word_starts(vocabulary) if whole_words else None)

    def __call__(self, rows: Sequence[IdRow], target: Sequence[IdRow] = (), /, *, seed: int) -> MaskedBatch:
        """See `batches.Collate`; the rows hold neither SOS nor the last EOS, and there is no other target."""
        source = pad_rows(rows, start=True)
        following = torch.full_like(source, PAD)
        total = sum(map(len, rows))
        drawn = uniform(3 * total, seed)
        order, fate, others = np.split(drawn, 3)
        at = 0
        for place, ids in enumerate(rows):
            ids = np.asarray(ids, dtype=np.int64)
            span = slice(at, at + len(ids))
            chosen = self._choose(ids, order[span])
            hidden = np.where(fate[span] < _MASKED, self.vocabulary, ids)
            replaced = (fate[span] >= _MASKED) & (fate[span] < _REPLACED)
            hidden[replaced] = EOS + 1 + (others[span][replaced] * (self.vocabulary - EOS - 1)).astype(np.int64)
            source[place, 1 : len(ids) + 1] = torch.from_numpy(np.where(chosen, hidden, ids))
            following[place, 1 : len(ids) + 1] = torch.from_numpy(np.where(chosen, ids, PAD))
            at += len(ids)
        return MaskedBatch(source, following)

    def _choose(self, ids: npt.NDArray[np.int64], order: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which tokens are to be guessed: the first in a random order, of tokens or of words, but no ends of lines."""
        allowed = ids > EOS
        wanted = max(1, round(self.share * int(allowed.sum())))
        if self.starts is None:
            chosen = np.zeros(len(ids), dtype=bool)
            chosen[np.argsort(np.where(allowed, order, 2.0), kind="stable")[:wanted]] = True
            return chosen & allowed
        begins = self.starts[ids] | ~allowed
        begins[1:] |= ~allowed[:-1]
        word = np.cumsum(begins) - begins[0]
        sizes = np.bincount(word, weights=allowed)
        ranked = np.argsort(order[: len(sizes)], kind="stable")
        enough = int(np.searchsorted(np.cumsum(sizes[ranked]), wanted)) + 1
        return np.isin(word, ranked[:enough]) & allowed


def word_starts(vocabulary: Subwords) -> npt.NDArray[np.bool_]:
    """For each id, whether a word begins with it: after a space, at a sign that is no letter, at letters of scripts without spaces."""
    pieces = vocabulary.pieces(range(vocabulary.size))
    return np.array([piece.startswith("▁") or not _goes_on(piece) for piece in pieces])


def _goes_on(piece: str) -> bool:
    """Whether a piece without a space before it continues a word."""
    if piece.startswith("<0x"):  # a byte of a character
        return True
    first = piece[:1]
    if unicodedata.category(first or " ").startswith("M") or first in ("'", "’", "-"):
        return True
    return first.isalnum() and not is_unspaced(first)


def uniform(count: int, seed: int) -> npt.NDArray[np.float64]:
    """Numbers of [0, 1). From raw bits: numpy keeps their stream the same in all versions, but not that of its distributions."""
    words: npt.NDArray[np.uint64] = np.random.PCG64(np.random.SeedSequence((seed, 7))).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
