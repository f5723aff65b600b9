"""Our Transformer as plain files that other toolkits' processes read without Vitrail."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from torch import nn

from vitrail.bench.translating.workers.serve import DESCRIPTION, SOURCE, TARGET, WEIGHTS
from vitrail.data.vocabularies.subwords import SentencePieceSubwords
from vitrail.decode.search_config import SearchConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel
from vitrail.nn.positions import sinusoids

_POSITIONS = 1024


def obstacle(loaded: LoadedModel) -> str:
    """Why other toolkits get no such model from us; empty where they do."""
    config = loaded.config
    if not isinstance(config, TransformerConfig) or config.kind != "transformer":
        return "only Transformers are carried over"
    plain = config.norm == "layer" and config.activation in ("relu", "gelu") and config.positions == "sinusoidal"
    if not plain or config.embedding_norm or config.width_of_head * config.heads != config.width:
        return "only layer norm, relu or gelu, sinusoidal positions and heads of width / heads are carried over"
    if config.decoder == "ssru" or config.decoder_start == "zeros":
        return "only decoders with self-attention that begin from <s> are carried over"
    if config.output_bias:
        return "a bias on the output is not carried over"
    if not all(isinstance(one, SentencePieceSubwords) for one in (loaded.vocabularies.source, loaded.vocabularies.target)):
        return "only SentencePiece vocabularies are carried over"
    return ""


def carry(loaded: LoadedModel, folder: Path) -> None:
    """Write a model's sizes, weights and vocabularies. Precondition: no obstacle."""
    config = loaded.config
    assert isinstance(config, TransformerConfig)
    tensors: dict[str, npt.NDArray[np.float32]] = {
        name: np.array(tensor.detach().float().numpy()) for name, tensor in loaded.model.named_parameters(remove_duplicate=False)
    }
    save_file(tensors | {"positions": sinusoids(_POSITIONS, config.width).numpy()}, folder / WEIGHTS)
    search: Mapping[str, Any] = loaded.facts.get("search", {})
    description = {
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "width": config.width,
        "heads": config.heads,
        "feed_forward": config.feed_forward,
        "activation": config.activation,
        "pre": config.norm_position == "pre",
        "epsilon": _epsilon(loaded.model),
        "target_vocabulary": loaded.vocabularies.target.size,
        "length_penalty": search.get("length_penalty", SearchConfig().length_penalty),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    (folder / SOURCE).write_bytes(loaded.vocabularies.source.to_bytes())
    (folder / TARGET).write_bytes(loaded.vocabularies.target.to_bytes())


def _epsilon(model: nn.Module) -> float:
    """What its norms add to a variance."""
    return next(module.eps for module in model.modules() if isinstance(module, nn.LayerNorm))
