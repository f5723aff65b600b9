"""The formula against torch's own count of what is computed."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitrail.data.batches import Batch, collate
from vitrail.ladder.flops import Shape, training_flops
from vitrail.models.architectures import ModelConfig, read_config
from vitrail.models.base import TranslationModel
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.causal import CausalLanguageModel
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.models.kinds.transformer import Transformer
from vitrail.nn.probe import trace

SOURCE_VOCABULARY, TARGET_VOCABULARY = 90, 110
TRANSFORMER = {"kind": "transformer", "width": 32, "heads": 4, "feed_forward": 48, "encoder_layers": 2, "decoder_layers": 3}
RECURRENT = {"kind": "recurrent", "width": 32, "embedding_width": 24}


def model(config: ModelConfig) -> TranslationModel:
    match config:
        case TransformerConfig():
            return Transformer(config, source_vocabulary=SOURCE_VOCABULARY, target_vocabulary=TARGET_VOCABULARY)
        case RecurrentConfig():
            return Recurrent(config, source_vocabulary=SOURCE_VOCABULARY, target_vocabulary=TARGET_VOCABULARY)


def batch() -> Batch:
    """Five rows of unequal length: there is padding on both sides."""
    lengths = [(9, 4), (5, 11), (12, 7), (3, 3), (8, 8)]
    return collate([[7] * source for source, _ in lengths], [[8] * target for _, target in lengths])


def counted(config: ModelConfig, given: Batch) -> int:
    """What torch counts, forward and backward, on the path that computes every intermediate value."""
    torch.manual_seed(0)
    made = model(config)
    with trace(made), FlopCounterMode(display=False) as counter:
        made.loss(given).nats.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "table",
    [
        TRANSFORMER,
        TRANSFORMER | {"activation": "swiglu", "head_width": 6, "tie": "none"},
        TRANSFORMER | {"decoder": "ssru"},
        *(RECURRENT | {"cell": cell} for cell in ("rnn", "gru", "lstm")),
        RECURRENT | {"bidirectional": False, "encoder_layers": 2, "decoder_layers": 3},
        *(RECURRENT | {"attention": kind} for kind in ("bahdanau", "luong-dot", "luong-general", "luong-concat")),
        RECURRENT | {"attention": "luong-dot", "input_feeding": True, "cell": "gru"},
    ],
    ids=str,
)
def test_the_formula_is_what_torch_counts(table: dict[str, Any]) -> None:
    config, given = read_config(table), batch()
    real = int((given.target_out != 0).sum())
    shape = Shape(len(given.source), given.source.shape[1], given.target_in.shape[1], real)
    assert training_flops(config, shape, vocabulary=TARGET_VOCABULARY) == pytest.approx(counted(config, given), rel=0.03)


@pytest.mark.parametrize(
    "config",
    [
        CausalConfig(layers=3, width=32, feed_forward=48),
        CausalConfig(layers=2, width=32, feed_forward=48, activation="swiglu", head_width=6, tie=False),
        *(
            LanguageConfig.model_validate({"cell": cell, "layers": 2, "width": 32, "embedding_width": 24})
            for cell in ("rnn", "gru", "lstm")
        ),
    ],
    ids=str,
)
def test_the_formula_holds_for_language_models(config: CausalConfig | LanguageConfig) -> None:
    torch.manual_seed(0)
    kind = CausalLanguageModel if isinstance(config, CausalConfig) else RecurrentLanguageModel
    made, given = kind(config, vocabulary=TARGET_VOCABULARY), batch()  # pyright: ignore[reportArgumentType]
    with trace(made), FlopCounterMode(display=False) as counter:
        made.loss(given).nats.backward()
    shape = Shape(*given.target_in.shape[:1], 0, given.target_in.shape[1], int((given.target_out != 0).sum()))
    assert training_flops(config, shape, vocabulary=TARGET_VOCABULARY) == pytest.approx(counter.get_total_flops(), rel=0.02)
