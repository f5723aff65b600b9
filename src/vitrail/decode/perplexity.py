"""Perplexity of a given text: cross-entropy, perplexity per token and word, bits per byte."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vitrail.data.vocabularies.subwords import EOS, PAD, Subwords
from vitrail.data.windows import TextWindow
from vitrail.languages import writing_of
from vitrail.models.base import LanguageModel

_CHUNK, _LANE_TOKENS, _MOST_LANES = 128, 1_000, 8
"""A text is read in several places at once where each has a thousand tokens: what came before is unknown at the start of each alone."""
_ROWS = 32
"""Windows that are read side by side."""


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
def measure_text(model: LanguageModel, vocabulary: Subwords, lines: Sequence[str], *, stride: int | None = None) -> TextPerplexity:
    """Read lines one after the other and add up -log p of each token, given all that came before as far as the model looks back.

    A recurrent model carries its state on. A Transformer reads windows of `context` tokens, each `stride` further than the one before
    (unset: half of them), and counts the tokens that no window before had: each has at least `context - stride` tokens before it.

    Precondition: evaluation mode; at least one line. Cost: one forward pass, or context / stride of them.
    """
    rows = vocabulary.encode_batch(list(lines))
    ids = np.concatenate([np.array([EOS]), *(np.array([*row, EOS]) for row in rows)])
    context = model.context
    nats = _carried(model, ids) if context is None else _windowed(model, ids, context=context, stride=stride or max(1, context // 2))
    writing = writing_of(lines)
    words = 0 if writing.unspaced and not writing.parted else sum(len(line.split()) for line in lines)
    return TextPerplexity(nats, len(ids) - 1, words, sum(len(line.encode()) + 1 for line in lines))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _carried(model: LanguageModel, ids: npt.NDArray[np.int64]) -> float:
    """-log p of a text whose state is carried on."""
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
    return nats


def _windowed(model: LanguageModel, ids: npt.NDArray[np.int64], *, context: int, stride: int) -> float:
    """-log p of a text in windows, several at once; the last one is padded."""
    device, nats, count, again = next(model.parameters()).device, 0.0, len(ids) - 1, context - stride
    begins = range(0, max(1, count - again), stride)
    for first in range(0, len(begins), _ROWS):
        chosen = begins[first : first + _ROWS]
        tokens, following = (np.full((len(chosen), context), PAD) for _ in range(2))
        for row, begin in enumerate(chosen):
            size = min(context, count - begin)
            tokens[row, :size] = ids[begin : begin + size]
            new = again if begin else 0
            following[row, new:size] = ids[begin + new + 1 : begin + size + 1]
        window = [torch.from_numpy(part).to(device) for part in (tokens, following, np.zeros_like(tokens))]
        nats += float(model.loss(TextWindow(*window)).plain_nats)
    return nats
