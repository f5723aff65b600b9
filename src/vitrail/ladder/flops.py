"""How much arithmetic a training takes, counted from the shapes of its matrix products.

One multiply-add counts as 2 FLOPs. Only matrix products are counted: they are nearly all there is. A training step costs three times
its forward pass, since each product has two in the backward pass, for its gradient by either factor.

With B rows of S source and T target positions as they are computed (<eos> and padding included), of which R target positions are real,
target vocabulary V, the forward multiply-adds are:

Transformer, width D, heads of A = H·E in all, feed-forward F (counted 2·D·F; 3·D·F with swiglu's gate):

    encoder layer   B·S·(4·D·A + 2·D·F + 2·S·A)
    decoder layer   B·T·(4·D·A + 2·D·F + 2·T·A)  +  B·T·2·D·A + B·S·2·D·A + B·T·2·S·A
    output          R·D·V

Recurrent, embeddings E, width D, G gates (RNN 1, GRU 3, LSTM 4), I the width of what a layer reads:

    encoder layer   B·S·G·D·(I + D), or with two directions of width D/2 each B·S·G·D·(I + D/2)
    decoder layer   B·T·G·D·(I + D); bridge: B·D·D for each layer's hidden state, and for its cell state
    attention       B·T·2·S·D; and by kind B·S·D·D for its keys (all but dot), B·T·D·D for its queries (Bahdanau, Luong's concat)
    readout, output B·T·E·(width of what is read) + R·E·V
"""

from typing import NamedTuple

import numpy as np

from vitrail.data.batches import plan_batches, within_max_length
from vitrail.data.preparing.prepare import Prepared
from vitrail.models.base import Shape
from vitrail.models.build import ModelConfig
from vitrail.train.run_config import RunConfig


class StepCost(NamedTuple):
    """What one update costs, on average over an epoch."""

    flops: float
    target_tokens: float
    """Real ones."""
    steps_per_epoch: int


def training_flops(config: ModelConfig, shape: Shape, *, vocabulary: int) -> int:
    """FLOPs of one batch, forward and backward: see the top of this module. Norms, softmax and the optimizer are not counted.

    Args: vocabulary: of the target.
    """
    return 3 * 2 * config.products(shape, vocabulary=vocabulary)


def step_cost(config: RunConfig, prepared: Prepared) -> StepCost:
    """What an update costs on prepared data: the mean over the batches of the first epoch, whose shapes are planned without reading a pair.

    Several corpora are counted as if each pair came once an epoch; subword dropout, which makes rows longer, is not counted.
    """
    kept = [within_max_length(store.source_lengths, store.target_lengths, max_length=config.pairs.max_length) for store in prepared.stores]
    sources, targets = (
        np.concatenate([lengths[rows] for lengths, rows in zip(sides, kept, strict=True)])
        for sides in ([store.source_lengths for store in prepared.stores], [store.target_lengths for store in prepared.stores])
    )
    batches = plan_batches(sources, targets, budget=config.train.batch_tokens, seed=config.seed, epoch=0)
    shapes = [
        Shape(len(rows), int(sources[rows].max()) + 1, int(targets[rows].max()) + 1, int(targets[rows].sum()) + len(rows))
        for rows in batches
    ]
    vocabulary, portion = prepared.vocabularies.target.size, config.train.accumulate / len(shapes)
    flops = sum(training_flops(config.translator, shape, vocabulary=vocabulary) for shape in shapes)
    tokens = sum(shape.real for shape in shapes)
    return StepCost(flops * portion, tokens * portion, max(1, len(shapes) // config.train.accumulate))
