"""Build a model from a configuration, and count its parameters."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, overload

from pydantic import Discriminator, Tag, TypeAdapter
from torch import nn

from vitrail.config import Config
from vitrail.data.vocabularies.subwords import EOS, Subwords, Vocabularies, WordVocabulary
from vitrail.errors import UsageError
from vitrail.models.base import Model, TranslationModel
from vitrail.models.kinds import autoencoder, causal, classifier, language, masked, recurrent, transformer
from vitrail.models.kinds.autoencoder import RecurrentAutoencoderConfig, TransformerAutoencoderConfig
from vitrail.models.kinds.causal import CausalConfig, CausalLanguageModel
from vitrail.models.kinds.classifier import (
    BagClassifier,
    BagClassifierConfig,
    RecurrentClassifier,
    RecurrentClassifierConfig,
    TransformerClassifier,
    TransformerClassifierConfig,
)
from vitrail.models.kinds.language import LanguageConfig, RecurrentLanguageModel
from vitrail.models.kinds.masked import MaskedConfig, MaskedLanguageModel
from vitrail.models.kinds.recurrent import Recurrent, RecurrentConfig
from vitrail.models.kinds.transformer import Transformer, TransformerConfig
from vitrail.nn.probe import shorten_lookups

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
    """One kind of model: its configuration, presets, task and constructor."""

    config: type[Config]
    make: Callable[[Any, int, int], Model]
    """Builds the model from a configuration and the sizes of the source and target vocabularies."""
    presets: Mapping[str, AnyConfig]
    task: TaskName
    """Its task."""


def _make_transformer(config: TransformerConfig, source: int, target: int) -> Model:
    return Transformer(config, source_vocabulary=source, target_vocabulary=target)


def _make_recurrent(config: RecurrentConfig, source: int, target: int) -> Model:
    return Recurrent(config, source_vocabulary=source, target_vocabulary=target)


def _make_language(config: LanguageConfig, source: int, target: int) -> Model:
    return RecurrentLanguageModel(config, vocabulary=target)


def _make_masked(config: MaskedConfig, source: int, target: int) -> Model:
    return MaskedLanguageModel(config, vocabulary=target)


def _make_causal(config: CausalConfig, source: int, target: int) -> Model:
    return CausalLanguageModel(config, vocabulary=target)


def _make_transformer_classifier(config: TransformerClassifierConfig, source: int, target: int) -> Model:
    return TransformerClassifier(config, vocabulary=source, labels=target - (EOS + 1))


def _make_recurrent_classifier(config: RecurrentClassifierConfig, source: int, target: int) -> Model:
    return RecurrentClassifier(config, vocabulary=source, labels=target - (EOS + 1))


def _make_bag_classifier(config: BagClassifierConfig, source: int, target: int) -> Model:
    return BagClassifier(config, vocabulary=source, labels=target - (EOS + 1))


MODEL_KINDS: dict[str, ModelKind] = {
    "transformer": ModelKind(
        TransformerConfig,
        _make_transformer,
        transformer.PRESETS,
        "translation",
    ),
    "recurrent": ModelKind(
        RecurrentConfig,
        _make_recurrent,
        recurrent.PRESETS,
        "translation",
    ),
    "recurrent-language": ModelKind(
        LanguageConfig,
        _make_language,
        language.PRESETS,
        "language",
    ),
    "causal-language": ModelKind(
        CausalConfig,
        _make_causal,
        causal.PRESETS,
        "language",
    ),
    "masked-language": ModelKind(
        MaskedConfig,
        _make_masked,
        masked.PRESETS,
        "masked",
    ),
    "transformer-classifier": ModelKind(
        TransformerClassifierConfig,
        _make_transformer_classifier,
        {name: config for name, config in classifier.PRESETS.items() if isinstance(config, TransformerClassifierConfig)},
        "classification",
    ),
    "recurrent-classifier": ModelKind(
        RecurrentClassifierConfig,
        _make_recurrent_classifier,
        {name: config for name, config in classifier.PRESETS.items() if isinstance(config, RecurrentClassifierConfig)},
        "classification",
    ),
    "bag-classifier": ModelKind(
        BagClassifierConfig,
        _make_bag_classifier,
        {name: config for name, config in classifier.PRESETS.items() if isinstance(config, BagClassifierConfig)},
        "classification",
    ),
    "transformer-autoencoder": ModelKind(
        TransformerAutoencoderConfig,
        autoencoder.transformer_autoencoder,
        autoencoder.TRANSFORMER_PRESETS,
        "autoencoding",
    ),
    "recurrent-autoencoder": ModelKind(
        RecurrentAutoencoderConfig,
        autoencoder.recurrent_autoencoder,
        autoencoder.RECURRENT_PRESETS,
        "autoencoding",
    ),
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


@overload
def build_model(config: ModelConfig, vocabularies: Vocabularies) -> TranslationModel: ...
@overload
def build_model(config: AnyConfig, vocabularies: Vocabularies) -> Model: ...
def build_model(config: AnyConfig, vocabularies: Vocabularies) -> Model:
    """A freshly initialised model (by torch's global generator) for these vocabularies.

    Raises UsageError where the configuration does not fit the vocabularies.
    """
    if isinstance(config, ModelConfig) and config.tie == "all" and not vocabularies.shares_ids:
        raise UsageError(
            "model.tie = all with separate vocabularies: source and target cannot share one embedding",
            remedy="--set model.tie=target, or --set data.subwords.joint=true",
        )
    model = make_model(config, source=vocabularies.source.size, target=vocabularies.target.size)
    if isinstance(model, BagClassifier):
        model.name_tokens(_names(vocabularies.source))
    shorten_lookups(model)
    return model


def _names(vocabulary: Subwords) -> list[str]:
    """The text of each token; a word is the same with and without a space before it."""
    pieces = vocabulary.pieces(range(vocabulary.size))
    return [piece.removeprefix("▁") for piece in pieces] if isinstance(vocabulary, WordVocabulary) else pieces


@overload
def make_model(config: ModelConfig, *, source: int, target: int) -> TranslationModel: ...
@overload
def make_model(config: AnyConfig, *, source: int, target: int) -> Model: ...
def make_model(config: AnyConfig, *, source: int, target: int) -> Model:
    """A freshly initialised model for vocabularies of these sizes; the text of a language model is a target."""
    return MODEL_KINDS[config.kind].make(config, source, target)


def preset(name: str, *, task: TaskName | None = "translation") -> Any:
    """A model of a named size. Raises UsageError that lists the names.

    Args: task: the required task; None: any.
    """
    fitting = [known for kind in MODEL_KINDS.values() if task in (None, kind.task) for known in kind.presets]
    if name not in fitting:
        raise UsageError(f"preset {name!r}", expected=" ".join(fitting))
    return PRESETS[name]


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trained numbers by part, tied ones once; "total" is their sum."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.split(".")[0]] += parameter.numel()
    return {**counts, "total": counts.total()}
