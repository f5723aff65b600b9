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

Language models have the decoder's terms alone: a Transformer's layers without cross-attention, a recurrent one's without bridge.
"""

from typing import NamedTuple

import numpy as np

from vitrail.data.batches import plan_batches, within_max_length
from vitrail.data.blocks import Blocks
from vitrail.data.preparing.prepare import Prepared
from vitrail.data.preparing.prepared import PreparedText
from vitrail.data.text_config import TextConfig
from vitrail.data.windows import Windows
from vitrail.models.architectures import LanguageModelConfig, ModelConfig, require_language
from vitrail.models.configs.blocks import Shape
from vitrail.train.run_config import RunConfig


class StepCost(NamedTuple):
    """What one update costs, on average over an epoch."""

    flops: float
    target_tokens: float
    """Real ones."""
    steps_per_epoch: int


def shape_of(config: RunConfig) -> ModelConfig | LanguageModelConfig:
    """The model's shape. Raises UsageError where it neither translates nor writes text."""
    return require_language(config.model) if config.task == "language" else config.translator


def training_flops(config: ModelConfig | LanguageModelConfig, shape: Shape, *, vocabulary: int) -> int:
    """FLOPs of one batch, forward and backward: see the top of this module. Norms, softmax and the optimizer are not counted.

    Args: vocabulary: of the target.
    """
    return 3 * 2 * config.products(shape, vocabulary=vocabulary)


def step_cost(config: RunConfig, prepared: Prepared | PreparedText) -> StepCost:
    """What an update costs on prepared data: the mean over the batches of the first epoch, whose shapes are planned without reading a pair.

    Several corpora are counted as if each pair came once an epoch; subword dropout, which makes rows longer, is not counted.
    """
    if isinstance(prepared, PreparedText):
        return _text_cost(config, prepared)
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


def _text_cost(config: RunConfig, prepared: PreparedText) -> StepCost:
    """What an update of a language model costs: all its batches have the same size."""
    shape, train, data = require_language(config.model), config.train, config.data
    vocabulary = prepared.vocabularies.target.size
    if shape.window is not None:
        assert isinstance(data, TextConfig)
        text = Windows(prepared.stores, tokens=train.batch_tokens, length=shape.window, seed=config.seed, documents=data.documents)
        rows = text.rows
    else:
        length = shape.truncate or train.batch_tokens
        text = Blocks(prepared.stores, tokens=train.batch_tokens, length=length, groups=train.accumulate, seed=config.seed)
        rows = text.lanes
    tokens = rows * text.length
    flops = training_flops(shape, Shape(rows, 0, text.length, tokens), vocabulary=vocabulary)
    return StepCost(float(flops * train.accumulate), float(tokens * train.accumulate), max(1, text.epoch_length(0) // train.accumulate))
