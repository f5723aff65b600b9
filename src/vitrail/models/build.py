"""Build a model from a configuration, and count its parameters."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, overload

from torch import nn

from vitrail import renamed
from vitrail.data.vocabularies.subwords import EOS, Subwords, Vocabularies, WordVocabulary
from vitrail.models.architectures import AnyConfig, ModelConfig, require_fitting
from vitrail.models.base import Model, TranslationModel
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.classifier import BagClassifierConfig, RecurrentClassifierConfig, TransformerClassifierConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds import autoencoder
from vitrail.models.kinds.causal import CausalLanguageModel
from vitrail.models.kinds.classifier import BagClassifier, RecurrentClassifier, TransformerClassifier
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.models.kinds.transformer import Transformer
from vitrail.nn.probe import shorten_lookups

_MOVED = ("AnyModelConfig", "MODEL_KINDS", "PRESETS", "TASK_DATA", "TASK_MODELS", "TaskName", "preset", "read_config", "task_of")
__getattr__ = renamed.names(__name__, dict.fromkeys(_MOVED, "vitrail.models.architectures"))


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


_MAKERS: Mapping[str, Callable[[Any, int, int], Model]] = {
    "transformer": _make_transformer,
    "recurrent": _make_recurrent,
    "recurrent-language": _make_language,
    "causal-language": _make_causal,
    "masked-language": _make_masked,
    "transformer-classifier": _make_transformer_classifier,
    "recurrent-classifier": _make_recurrent_classifier,
    "bag-classifier": _make_bag_classifier,
    "transformer-autoencoder": autoencoder.transformer_autoencoder,
    "recurrent-autoencoder": autoencoder.recurrent_autoencoder,
}
"""For each kind, what builds the model from a configuration and the sizes of the source and target vocabularies."""


@overload
def build_model(config: ModelConfig, vocabularies: Vocabularies) -> TranslationModel: ...
@overload
def build_model(config: AnyConfig, vocabularies: Vocabularies) -> Model: ...
def build_model(config: AnyConfig, vocabularies: Vocabularies) -> Model:
    """A freshly initialised model (by torch's global generator) for these vocabularies.

    Raises UsageError where the configuration does not fit the vocabularies.
    """
    require_fitting(config, vocabularies)
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
    return _MAKERS[config.kind](config, source, target)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trained numbers by part, tied ones once; "total" is their sum."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.split(".")[0]] += parameter.numel()
    return {**counts, "total": counts.total()}
