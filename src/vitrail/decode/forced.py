"""Forced decoding: a model's values for given translations, or given texts, without search. Without a source, sources are empty."""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.batches import Batch, IdRow, collate
from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.base import AutoregressiveModel

_UNBOUNDED = sys.maxsize


class Losses(NamedTuple):
    """-log p(target | source) of each pair in nats, summed over its tokens, <eos> included; and the number of tokens."""

    nats: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]

    @property
    def per_token(self) -> npt.NDArray[np.float64]:
        """The mean over each pair's tokens."""
        return self.nats / self.tokens


def make_batch(model: AutoregressiveModel, sources: Sequence[IdRow], targets: Sequence[IdRow], *, ended: bool = True) -> Batch:
    """Pairs of token ids without SOS and EOS as one batch, on the device of a model's weights.

    Args: ended: whether translations end with <eos>. False, for one cut at the limit of length, is allowed for a single pair.
    """
    device = next(model.parameters()).device
    source, target_in, target_out = (part.to(device) for part in collate(sources, targets))
    target_in[:, 0] = model.first
    if ended:
        return Batch(source, target_in, target_out)
    assert len(sources) == 1
    return Batch(source, target_in[:, :-1], target_out[:, :-1])


def forced_decode(model: AutoregressiveModel, batch: Batch) -> Float[Tensor, "B T D"]:
    """The decoder's last vectors for given translations, every position at once: position t depends on targets 0 to t.

    The caller decides whether gradients are recorded; hooks of `nn.probe` run.
    Precondition: the batch is on the device of the model's weights.
    """
    return model.read_given(batch)


def log_p(model: AutoregressiveModel, hidden: Float[Tensor, "B T D"], target: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """log p(y_t | y_<t, x) in nats, from the decoder's vectors; values at padding have no meaning."""
    logits = model.read_out(hidden).float()
    return -F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)


@torch.inference_mode()
def distributions(model: AutoregressiveModel, source: IdRow, target: IdRow, *, ended: bool = True) -> Float[Tensor, "T V"]:
    """log p(token | source, target before it) of every token at each position, the end included; in float64 from the logits on.

    Args: source, target: ids without SOS and EOS. ended: see `make_batch`. Precondition: the model is in evaluation mode.
    """
    hidden = forced_decode(model, make_batch(model, [source], [target], ended=ended))
    return model.read_out(hidden)[0].double().log_softmax(-1).cpu()


@torch.inference_mode()
def losses(model: AutoregressiveModel, sources: Sequence[IdRow], targets: Sequence[IdRow]) -> Losses:
    """The loss of each pair of ids without SOS and EOS, without smoothing.

    Precondition: the model is in evaluation mode. Cost: one forward pass over all pairs, in batches of similar length.
    """
    found = Losses(np.zeros(len(sources)), np.zeros(len(sources), dtype=np.int64))
    for numbers in batches(sources, targets):
        batch = make_batch(model, [sources[number] for number in numbers], [targets[number] for number in numbers])
        real = batch.target_out != PAD
        values = log_p(model, forced_decode(model, batch), batch.target_out).double() * real
        found.nats[numbers] = -values.sum(1).cpu().numpy()
        found.tokens[numbers] = real.sum(1).cpu().numpy()
    return found


def batches(
    sources: Sequence[IdRow], targets: Sequence[IdRow], *, rows: int = 32, tokens: int = _UNBOUNDED, cells: int = _UNBOUNDED
) -> Iterator[list[int]]:
    """Indices of pairs in batches of similar length, the longest first.

    Args: rows: pairs in a batch, at most. tokens: positions of the longer side with padding, at most. cells: attention weights of one head
    with padding (rows times the square of the longest), at most; memory grows with these. A single pair may exceed both.
    """
    lengths = [(len(target) + 1, len(source) + 1) for source, target in zip(sources, targets, strict=True)]
    batch, longest = list[int](), 0
    for number in sorted(range(len(lengths)), key=lambda number: (max(lengths[number]), *lengths[number]), reverse=True):
        size = max(lengths[number])
        longest, count = max(longest, size), len(batch) + 1
        if batch and (count > rows or count * longest > tokens or count * longest**2 > cells):
            yield batch
            batch, longest = [], size
        batch.append(number)
    if batch:
        yield batch
