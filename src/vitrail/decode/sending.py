"""A translator as plain bytes, for another process: configuration as JSON, weights as safetensors, vocabularies as their files."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import safetensors.torch
import torch

from vitrail.data.subwords import Vocabularies
from vitrail.decode.ensemble import Ensemble, Translating
from vitrail.errors import ModelError
from vitrail.models.base import TranslationModel
from vitrail.models.build import build_model, read_translator
from vitrail.models.folder import fill, unique_tensors


class Packed(NamedTuple):
    """All that it takes to build models again."""

    models: tuple[tuple[str, bytes], ...]
    """Of each: its configuration and its weights; several vote."""
    vocabularies: Mapping[str, bytes]
    device: str


def pack(model: Translating, vocabularies: Vocabularies, device: torch.device) -> Packed:
    """Raises ModelError for a model that this program did not build, or that is compiled."""
    models = model.members if isinstance(model, Ensemble) else (model,)
    files = {name: vocabulary.to_bytes() for name, vocabulary in vocabularies.files().items()}
    return Packed(tuple(_pack_model(one, vocabularies) for one in models), files, device.type)


def unpack(packed: Packed) -> tuple[Translating, Vocabularies, torch.device]:
    """The models, in evaluation mode, on the device that they were on; its vocabularies."""
    vocabularies = Vocabularies.from_bytes(packed.vocabularies)
    device = torch.device(packed.device)
    models = [_unpack_model(config, weights, vocabularies).to(device).eval() for config, weights in packed.models]
    return models[0] if len(models) == 1 else Ensemble(models, digests=[vocabularies.digest] * len(models)), vocabularies, device


def _pack_model(model: Translating, vocabularies: Vocabularies) -> tuple[str, bytes]:
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
