"""Cross-attention weights of many given pairs in batches, for every layer and head, by torch."""

from collections.abc import Sequence

import numpy as np
import torch

from vitrail.decode.engines.engine import Weights, require_alignable, without_attention
from vitrail.decode.forced import batches, forced_decode, make_batch
from vitrail.errors import UsageError
from vitrail.models.base import TranslationModel
from vitrail.models.places import attentions
from vitrail.nn.probe import trace

BATCH_TOKENS = 4096
"""Maximal number of target positions in a batch, padding included, unless a single pair has more."""
BATCH_CELLS = 1_000_000
"""Maximal number of weights per head in a batch, padding included, unless a single pair has more: memory grows with the square of the
length."""


def cross_layers(model: TranslationModel) -> dict[int, str]:
    """The Probes of the cross-attention weights: layer -> name. Raises UsageError for a model without cross-attention to tokens."""
    if not model.reads_tokens:
        raise UsageError(
            "an autoencoder: its attention reads one vector of the sentence, not the words", expected="a model that translates"
        )
    found = {one.layer: one.weights for one in attentions(model.places(), "cross")}
    if not found:
        raise without_attention()
    return found


def cross_attention(
    model: TranslationModel, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, batch_tokens: int = BATCH_TOKENS
) -> list[Weights]:
    """Read every source, force its translation, and return the weights of each pair: (L H T S), <eos> being the last row and column.

    Row t is from where token t is predicted: the decoder has read <sos> and the tokens before t.

    Args:   sources, targets: token ids without SOS and EOS. Precondition: the model is in evaluation mode.
    Raises: UsageError for a model without attention, or a side of more than `MOST_ALIGNED` tokens; ModelError for a compiled one.
    Cost:   one pass of encoder and decoder, in batches of like length; 1,000 sentences of 10 tokens in 1 s on one thread (tiny).
    """
    layers = cross_layers(model)
    require_alignable(sources, targets)
    found: list[Weights] = [np.empty(0, dtype=np.float32)] * len(sources)
    for batch in batches(sources, targets, rows=batch_tokens, tokens=batch_tokens, cells=BATCH_CELLS):
        padded = make_batch(model, [sources[number] for number in batch], [targets[number] for number in batch])
        with torch.inference_mode(), trace(model, only=set(layers.values()).__contains__) as seen:
            forced_decode(model, padded)
        # A recurrent decoder with input feeding calls it once per step; other decoders give all rows in one call.
        weights = torch.stack([torch.cat(seen[name], dim=2) for name in layers.values()], dim=1).float().cpu().numpy()
        for row, number in enumerate(batch):
            found[number] = weights[row, :, :, : len(targets[number]) + 1, : len(sources[number]) + 1].copy()
    return found
