"""The loss of single sentences, without smoothing: what several checks compare."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from vitrail.data.batches import Batch, Row, collate
from vitrail.data.subwords import PAD
from vitrail.models.base import TranslationModel

_ROWS = 32
"""Sentences in a batch; those of like length go together."""


@torch.inference_mode()
def nats_by_sentence(
    model: TranslationModel, source: Sequence[Row], target: Sequence[Row]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """-log p(target | source) of each pair in nats, summed over its tokens, <eos> included; and how many tokens these are.

    Precondition: the model is in evaluation mode. Cost: one forward pass over all pairs.
    """
    device = next(model.parameters()).device
    nats, tokens = np.zeros(len(source)), np.zeros(len(source), dtype=np.int64)
    order = sorted(range(len(source)), key=lambda place: (len(target[place]), len(source[place])))
    for start in range(0, len(order), _ROWS):
        places = order[start : start + _ROWS]
        batch = Batch(*(part.to(device) for part in collate([source[i] for i in places], [target[i] for i in places])))
        logits = model.read_out(model.decode(batch.target_in, model.encode(batch.source))).float()
        chosen = logits.log_softmax(2).gather(2, batch.target_out[:, :, None]).squeeze(2)
        real = batch.target_out != PAD
        nats[places] = -(chosen * real).sum(1).double().cpu().numpy()
        tokens[places] = real.sum(1).cpu().numpy()
    return nats, tokens
