"""Spoil sentences for a denoising autoencoder: delete, hide and shuffle words; drawn anew for every batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vitrail.data.batches import Batch, IdRow, collate
from vitrail.data.examples.masking import uniform, word_starts
from vitrail.data.noise_config import NoiseConfig
from vitrail.data.vocabularies.subwords import PAD, UNK, Subwords

Ids = npt.NDArray[np.int64]
Draws = npt.NDArray[np.float64]

MASK = UNK
"""What stands for hidden words: every vocabulary has it, and no text that the vocabulary covers holds it."""
_STREAMS = 6
_SPAN = 3.0
"""Mean length of a hidden span (Lewis et al. 2020)."""
_LENGTHS = np.cumsum([round(math.exp(-_SPAN) * _SPAN**k / math.factorial(k), 12) for k in range(16)])
"""Distribution function of the Poisson distribution with this mean."""


@dataclass(frozen=True)
class Denoising:
    """Makes a batch of rows: a pure function of rows and seed."""

    noise: NoiseConfig
    starts: npt.NDArray[np.bool_] | None = None
    """For each id, whether it begins a word. None: every token is by itself."""
    space: int | None = None
    """The space before each word but the first, where it is a token by itself: of single characters."""

    @classmethod
    def of(cls, vocabulary: Subwords, noise: NoiseConfig) -> "Denoising":
        """The noise on text with this vocabulary."""
        if not noise.whole_words:
            return cls(noise)
        first, *_ = vocabulary.pieces(vocabulary.encode("a"))
        spaces = [] if first.startswith("▁") else [id for id, piece in enumerate(vocabulary.pieces(range(vocabulary.size))) if piece == "▁"]
        return cls(noise, word_starts(vocabulary), spaces[0] if spaces else None)

    def __call__(self, source: Sequence[IdRow], target: Sequence[IdRow], /, *, seed: int) -> Batch:
        """See `batches.Collate`."""
        read = sum(map(len, source))
        drawn = uniform(_STREAMS * read + sum(map(len, target)), seed)
        of_source = drawn[: _STREAMS * read].reshape(_STREAMS, read)
        ends = np.cumsum([len(row) for row in source])
        parts = np.split(of_source, ends[:-1], axis=1)
        read_rows: list[IdRow] = [
            self._spoil(np.asarray(row, dtype=np.int64), part).tolist() for row, part in zip(source, parts, strict=True)
        ]
        batch = collate(read_rows, target)
        if self.noise.decoder_input:
            # Row by row and from left to right, as the draws are: the tokens after <s>, which are those of the target.
            tokens = batch.target_in[:, 1:].ne(PAD).nonzero(as_tuple=True)
            hidden = torch.from_numpy(drawn[_STREAMS * read :] < self.noise.decoder_input)
            batch.target_in[tokens[0][hidden], tokens[1][hidden] + 1] = MASK
        return batch

    def _spoil(self, ids: Ids, draws: Draws) -> Ids:
        """One sentence with noise. Args: draws: numbers of [0, 1), as many as tokens for each purpose."""
        noise, words = self.noise, self._words(ids)
        shuffled, deleted, hidden, lengths, places, rounding = draws
        if noise.shuffling:
            # Sorting i + U(0, k + 1) moves nothing by more than k places (Lample et al. 2018).
            order = np.argsort(np.arange(len(words)) + shuffled[: len(words)] * (noise.shuffling + 1), kind="stable")
            words = [words[place] for place in order]
        if noise.deletion:
            stays = int(deleted[: len(words)].argmax())  # of all the last to go
            words = [word for place, word in enumerate(words) if deleted[place] >= noise.deletion or place == stays]
        if noise.masking:
            words = [_MASKED if hidden[place] < noise.masking else word for place, word in enumerate(words)]
        if noise.infilling:
            left = int(noise.infilling * len(words) + rounding[0])
            for length, place in zip(np.searchsorted(_LENGTHS, lengths).tolist(), places.tolist(), strict=True):
                if left <= 0:
                    break
                length = min(length, left, len(words))
                start = int(place * (len(words) - length + 1))
                words[start : start + length] = [_MASKED]
                left -= length
        found = np.concatenate(words)
        return found[1:] if len(found) > 1 and found[0] == self.space else found

    def _words(self, ids: Ids) -> list[Ids]:
        if self.starts is None:
            return list(ids[:, None])
        words = np.split(ids, np.flatnonzero(self.starts[ids[1:]]) + 1)
        return words if self.space is None else [np.array([self.space, *words[0]], dtype=np.int64), *words[1:]]


_MASKED = np.array([MASK], dtype=np.int64)
