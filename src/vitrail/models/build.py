"""From a configuration to a model, and where its parameters are."""

from collections import Counter

from torch import nn

from vitrail.data.subwords import Vocabularies
from vitrail.errors import UsageError
from vitrail.models.base import TranslationModel
from vitrail.models.transformer import PRESETS, Transformer, TransformerConfig

ModelConfig = TransformerConfig
"""Every architecture that can be built; a union tagged by `kind` once there is a second."""


def build_model(config: ModelConfig, vocabularies: Vocabularies) -> TranslationModel:
    """A freshly initialised model (by torch's global generator) for these vocabularies.

    Raises UsageError where the configuration does not fit the vocabularies.
    """
    if config.tie == "all" and not vocabularies.joint:
        raise UsageError(
            "model.tie = all with separate vocabularies: source and target cannot share one embedding",
            remedy="--set model.tie=target, or --set data.subwords.joint=true",
        )
    return Transformer(config, source_vocabulary=vocabularies.source.size, target_vocabulary=vocabularies.target.size)


def preset(name: str) -> ModelConfig:
    """A model of a named size. Raises UsageError that lists the names."""
    if name not in PRESETS:
        raise UsageError(f"preset {name!r}", expected=" ".join(PRESETS))
    return PRESETS[name]


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trained numbers by part, tied ones once; "total" is their sum."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.split(".")[0]] += parameter.numel()
    return {**counts, "total": counts.total()}
