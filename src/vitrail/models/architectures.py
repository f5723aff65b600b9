"""Every kind of model as its configuration says it: task, named sizes, and which vocabularies fit; without torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Tag, TypeAdapter

from vitrail.config import Config
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import UsageError
from vitrail.models.configs import autoencoder, causal, classifier, language, masked, recurrent, transformer
from vitrail.models.configs.autoencoder import RecurrentAutoencoderConfig, TransformerAutoencoderConfig
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.classifier import BagClassifierConfig, RecurrentClassifierConfig, TransformerClassifierConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig

TaskName = Literal["translation", "language", "masked", "classification", "autoencoding"]

TASK_MODELS: dict[TaskName, str] = {
    "translation": "a model that translates",
    "language": "a language model",
    "masked": "a masked language model",
    "classification": "a classifier",
    "autoencoding": "an autoencoder",
}
"""What a model of each task is called."""
TASK_DATA: dict[TaskName, str] = {
    "translation": "pairs",
    "language": "text",
    "masked": "text",
    "classification": "labels",
    "autoencoding": "text",
}
"""The kind of data that each task needs (`data.kind`)."""

ModelConfig = TransformerConfig | RecurrentConfig | TransformerAutoencoderConfig | RecurrentAutoencoderConfig
"""Every architecture that translates: an autoencoder translates into the same words."""
LanguageModelConfig = LanguageConfig | CausalConfig
"""Every architecture that writes text."""
ClassifierConfig = TransformerClassifierConfig | RecurrentClassifierConfig | BagClassifierConfig
"""Every architecture that gives labels."""
AnyConfig = ModelConfig | LanguageModelConfig | MaskedConfig | ClassifierConfig
"""Every architecture that can be built."""


class ModelKind(NamedTuple):
    """One kind of model: its configuration, presets and task."""

    config: type[Config]
    presets: Mapping[str, AnyConfig]
    task: TaskName
    """Its task."""


def _classifiers(config: type[ClassifierConfig]) -> dict[str, AnyConfig]:
    return {name: one for name, one in classifier.PRESETS.items() if isinstance(one, config)}


MODEL_KINDS: dict[str, ModelKind] = {
    "transformer": ModelKind(TransformerConfig, transformer.PRESETS, "translation"),
    "recurrent": ModelKind(RecurrentConfig, recurrent.PRESETS, "translation"),
    "recurrent-language": ModelKind(LanguageConfig, language.PRESETS, "language"),
    "causal-language": ModelKind(CausalConfig, causal.PRESETS, "language"),
    "masked-language": ModelKind(MaskedConfig, masked.PRESETS, "masked"),
    "transformer-classifier": ModelKind(TransformerClassifierConfig, _classifiers(TransformerClassifierConfig), "classification"),
    "recurrent-classifier": ModelKind(RecurrentClassifierConfig, _classifiers(RecurrentClassifierConfig), "classification"),
    "bag-classifier": ModelKind(BagClassifierConfig, _classifiers(BagClassifierConfig), "classification"),
    "transformer-autoencoder": ModelKind(TransformerAutoencoderConfig, autoencoder.TRANSFORMER_PRESETS, "autoencoding"),
    "recurrent-autoencoder": ModelKind(RecurrentAutoencoderConfig, autoencoder.RECURRENT_PRESETS, "autoencoding"),
}
PRESETS: dict[str, AnyConfig] = {name: config for kind in MODEL_KINDS.values() for name, config in kind.presets.items()}


def _kind(value: Any) -> str:
    """The kind in a table; by default a Transformer."""
    if isinstance(value, Config):
        return str(getattr(value, "kind", "none"))
    return str(value.get("kind", "transformer")) if isinstance(value, dict) else "none"  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


AnyModelConfig = Annotated[
    Annotated[TransformerConfig, Tag("transformer")]
    | Annotated[RecurrentConfig, Tag("recurrent")]
    | Annotated[LanguageConfig, Tag("recurrent-language")]
    | Annotated[CausalConfig, Tag("causal-language")]
    | Annotated[MaskedConfig, Tag("masked-language")]
    | Annotated[TransformerClassifierConfig, Tag("transformer-classifier")]
    | Annotated[RecurrentClassifierConfig, Tag("recurrent-classifier")]
    | Annotated[BagClassifierConfig, Tag("bag-classifier")]
    | Annotated[TransformerAutoencoderConfig, Tag("transformer-autoencoder")]
    | Annotated[RecurrentAutoencoderConfig, Tag("recurrent-autoencoder")],
    Discriminator(_kind),
]
"""The same as a field of a configuration: `kind` selects it, so that errors are about the right one."""

_ADAPTER: TypeAdapter[AnyConfig] = TypeAdapter(AnyModelConfig)


def read_config(table: Any) -> AnyConfig:
    """The configuration in a table. Raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(table)


def read_translator(table: Any) -> ModelConfig:
    """The same for a model that translates. Raises UsageError for one of another kind."""
    return require_translator(read_config(table))


def require_language(config: AnyConfig) -> LanguageModelConfig:
    """The configuration of a language model. Raises UsageError for one of another kind."""
    if not isinstance(config, LanguageModelConfig):
        raise UsageError(f"model.kind = {config.kind}: {TASK_MODELS[task_of(config)]}", expected="a language model")
    return config


def task_of(config: AnyConfig) -> TaskName:
    """The task of a model with this configuration."""
    return MODEL_KINDS[config.kind].task


def require_translator(config: AnyConfig) -> ModelConfig:
    """The configuration of a model that translates. Raises UsageError for one of another kind."""
    if not isinstance(config, ModelConfig):
        raise UsageError(f"model.kind = {config.kind}: {TASK_MODELS[task_of(config)]}", expected="a model that translates")
    return config


def require_fitting(config: AnyConfig, vocabularies: Vocabularies) -> None:
    """Raise UsageError where a model of this configuration cannot have these vocabularies."""
    if isinstance(config, ModelConfig) and config.tie == "all" and not vocabularies.joint:
        raise UsageError(
            "model.tie = all with separate vocabularies: source and target cannot share one embedding",
            remedy="--set model.tie=target, or --set data.subwords.joint=true",
        )


def preset(name: str, *, task: TaskName | None = "translation") -> Any:
    """A model of a named size. Raises UsageError that lists the names.

    Args: task: the required task; None: any.
    """
    fitting = [known for kind in MODEL_KINDS.values() if task in (None, kind.task) for known in kind.presets]
    if name not in fitting:
        raise UsageError(f"preset {name!r}", expected=" ".join(fitting))
    return PRESETS[name]
