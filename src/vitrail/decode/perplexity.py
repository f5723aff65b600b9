"""Perplexity of a given text: cross-entropy, perplexity per token and word, bits per byte."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.languages import writing_of
from vitrail.models.base import LanguageModel

_CHUNK, _LANE_TOKENS, _MOST_LANES = 128, 1_000, 8
"""A text is read in several places at once if each has a thousand tokens: only at the start of each is the context unknown."""


@dataclass(frozen=True)
class TextPerplexity:
    """The cross-entropy of a text. Every line's end is counted as a token, and as a byte."""

    nats: float
    """-log p of the whole text."""
    tokens: int
    words: int
    """Words between spaces; 0 in scripts without spaces, as in Japanese and Thai."""
    bytes: int
    """Of UTF-8."""

    def figures(self) -> dict[str, float]:
        """The figures by name. Values per token depend on the vocabulary; those per word and per byte can be compared between
        vocabularies."""
        words = {"perplexity_per_word": _exp(self.nats / self.words)} if self.words else {}
        return {
            "loss_nats_per_token": self.nats / self.tokens,
            "perplexity": _exp(self.nats / self.tokens),
            **words,
            "bits_per_byte": self.nats / math.log(2) / self.bytes,
        }

    def to_text(self) -> str:
        """The figures in one line."""
        found = self.figures()
        words = f", {found['perplexity_per_word']:.4g} a word ({self.words:,})" if self.words else ""
        return f"perplexity {found['perplexity']:.2f} a token ({self.tokens:,}){words}; {found['bits_per_byte']:.3f} bits a byte"


@torch.inference_mode()
def measure_text(model: LanguageModel, vocabulary: Subwords, lines: Sequence[str]) -> TextPerplexity:
    """Read lines one after the other, carrying the state on, and sum the loss of the tokens.

    Precondition: evaluation mode; at least one line. Cost: one forward pass.
    """
    rows = vocabulary.encode_batch(list(lines))
    ids = np.concatenate([np.array([EOS]), *(np.array([*row, EOS]) for row in rows)])
    lanes = max(1, min(_MOST_LANES, (len(ids) - 1) // _LANE_TOKENS))
    device, nats = next(model.parameters()).device, 0.0
    size = -(-(len(ids) - 1) // lanes)
    whole, rest = divmod(len(ids) - 1, size)
    parts = [np.stack([ids[lane * size : (lane + 1) * size + 1] for lane in range(whole)])] if whole else []
    parts += [ids[None, whole * size :]] if rest else []
    for part in parts:
        tokens = torch.from_numpy(part.astype(np.int64)).to(device)
        state = model.start(len(tokens))
        for before, after in zip(tokens[:, :-1].split(_CHUNK, dim=1), tokens[:, 1:].split(_CHUNK, dim=1), strict=True):
            loss, state = model.loss_from(before, after, state)
            nats += float(loss.plain_nats)
    writing = writing_of(lines)
    words = 0 if writing.unspaced and not writing.parted else sum(len(line.split()) for line in lines)
    return TextPerplexity(nats, len(ids) - 1, words, sum(len(line.encode()) + 1 for line in lines))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
