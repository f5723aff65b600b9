"""From a configuration to a model, and where its parameters are."""

from collections import Counter
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter
from torch import nn

from vitrail.data.subwords import Vocabularies
from vitrail.errors import UsageError
from vitrail.models import recurrent, transformer
from vitrail.models.base import TranslationModel
from vitrail.models.recurrent import Recurrent, RecurrentConfig
from vitrail.models.transformer import Transformer, TransformerConfig
from vitrail.nn.probe import shorten_lookups


def _kind(value: Any) -> str:
    """A table that does not say its kind is a Transformer's."""
    if isinstance(value, TransformerConfig | RecurrentConfig):
        return value.kind
    return str(value.get("kind", "transformer")) if isinstance(value, dict) else "none"  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


ModelConfig = TransformerConfig | RecurrentConfig
"""Every architecture that can be built."""

AnyModelConfig = Annotated[
    Annotated[TransformerConfig, Tag("transformer")] | Annotated[RecurrentConfig, Tag("recurrent")], Discriminator(_kind)
]
"""The same as a field of a configuration: `kind` says which, so that errors speak of the one that was meant."""

PRESETS: dict[str, ModelConfig] = {**transformer.PRESETS, **recurrent.PRESETS}

_ADAPTER: TypeAdapter[ModelConfig] = TypeAdapter(AnyModelConfig)


def read_config(table: Any) -> ModelConfig:
    """The configuration that a table stands for. Raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(table)


def build_model(config: ModelConfig, vocabularies: Vocabularies) -> TranslationModel:
    """A freshly initialised model (by torch's global generator) for these vocabularies.

    Raises UsageError where the configuration does not fit the vocabularies.
    """
    if config.tie == "all" and not vocabularies.joint:
        raise UsageError(
            "model.tie = all with separate vocabularies: source and target cannot share one embedding",
            remedy="--set model.tie=target, or --set data.subwords.joint=true",
        )
    model = make_model(config, source=vocabularies.source.size, target=vocabularies.target.size)
    shorten_lookups(model)
    return model


def make_model(config: ModelConfig, *, source: int, target: int) -> TranslationModel:
    """A freshly initialised model for vocabularies of these sizes."""
    match config:
        case TransformerConfig():
            return Transformer(config, source_vocabulary=source, target_vocabulary=target)
        case RecurrentConfig():
            return Recurrent(config, source_vocabulary=source, target_vocabulary=target)


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
