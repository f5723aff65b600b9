"""Models as plain bytes, for another process: configuration as JSON, weights as safetensors."""

import json
from collections.abc import Sequence
from typing import Any

import safetensors.torch
import torch

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.ensemble import Ensemble, Translating
from vitrail.errors import ModelError
from vitrail.models.architectures import read_translator
from vitrail.models.base import Continues, TranslationModel, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import fill
from vitrail.models.stored import PackedModel


def pack_models(model: Continues, vocabularies: Vocabularies) -> tuple[PackedModel, ...]:
    """Pack each model of an ensemble. Raises ModelError for one that this program did not build, or that is compiled."""
    models = model.members if isinstance(model, Ensemble) else (model,)
    return tuple(_pack_model(one, vocabularies) for one in models)


def unpack_models(packed: Sequence[PackedModel], vocabularies: Vocabularies, device: torch.device) -> Translating:
    """The models, in evaluation mode."""
    models = [_unpack_model(config, weights, vocabularies).to(device).eval() for config, weights in packed]
    return models[0] if len(models) == 1 else Ensemble(models, digests=[vocabularies.digest] * len(models))


def _pack_model(model: Continues, vocabularies: Vocabularies) -> PackedModel:
    with torch.device("meta"):
        known = isinstance(model, TranslationModel) and type(model) is type(build_model(model.config, vocabularies))
    if not known or not isinstance(model, TranslationModel):
        raise ModelError(
            f"a {type(model).__name__} cannot be sent to another process", expected="a model as it was loaded or trained, not compiled"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in unique_tensors(model).items()}
    return json.dumps(model.config.model_dump(mode="json")), safetensors.torch.save(tensors)


def _unpack_model(config: str, weights: bytes, vocabularies: Vocabularies) -> TranslationModel:
    document: Any = json.loads(config)
    tensors = safetensors.torch.load(weights)
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    model = build_model(read_translator(document), vocabularies)
    if len(kinds) == 1:
        model.to(kinds.pop())
    fill(model, tensors)
    return model
