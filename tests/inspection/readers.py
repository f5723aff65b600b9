"""Small masked language models and classifiers of each shape, over text in several scripts."""

from functools import cache

import torch
from language_models import CORPUS
from torch import nn

from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import SubwordsConfig, Vocabularies, train_vocabulary
from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller
from vitrail.models.architectures import AnyConfig
from vitrail.models.build import build_model
from vitrail.models.configs.classifier import BagClassifierConfig, RecurrentClassifierConfig, TransformerClassifierConfig
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.kinds.masked import MaskedLanguageModel

LABELS = ["animal", "पशु", "動物"]
_BLOCKS = {"encoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}


def _masked(**changes: object) -> MaskedConfig:
    return MaskedConfig.model_validate(_BLOCKS | {"context": 64} | changes)


def _transformer(**changes: object) -> TransformerClassifierConfig:
    return TransformerClassifierConfig.model_validate(_BLOCKS | {"context": 64, "head_dropout": 0.0} | changes)


def _recurrent(**changes: object) -> RecurrentClassifierConfig:
    plain = {"embedding_width": 8, "width": 12, "encoder_layers": 2, "dropout": 0.0, "head_dropout": 0.0, "context": 64}
    return RecurrentClassifierConfig.model_validate(plain | changes)


MASKED: dict[str, MaskedConfig] = {
    "masked": _masked(positions="rotary", activation="gelu"),
    "masked-post-learned-untied-first": _masked(norm_position="post", positions="learned", max_positions=64, tie=False, pooling="first"),
    "masked-rms-swiglu": _masked(norm="rms", activation="swiglu", embedding_norm=True),
}
CLASSIFIERS: dict[str, TransformerClassifierConfig | RecurrentClassifierConfig | BagClassifierConfig] = {
    "softmax-first": _transformer(pooling="first"),
    "sigmoid-two": _transformer(),
    "several": _transformer(several=True, norm_position="post"),
    "gru-mean": _recurrent(cell="gru"),
    "lstm-last": _recurrent(cell="lstm", pooling="last"),
    "lstm-last-reversed-one-way": _recurrent(cell="lstm", pooling="last", reverse_source=True, bidirectional=False),
    "bag": BagClassifierConfig(width=12, word_ngrams=3, buckets=150, context=64),
}


def _build(config: AnyConfig, words: Vocabularies) -> nn.Module:
    """With weights that are not those at the start of a training, where biases are 0."""
    torch.manual_seed(4)
    model = build_model(config, words).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _vocabulary(kind: str) -> Vocabularies:
    config = SubwordsConfig.model_validate({"kind": kind, "size": 340 if kind == "bpe" else 90, "least_count": 1})
    return train_vocabulary(CORPUS, config=config)


@cache
def filler(name: str, kind: str = "character") -> InspectableFiller:
    words = _vocabulary(kind)
    model = _build(MASKED[name], words)
    assert isinstance(model, MaskedLanguageModel)
    return InspectableFiller(model, words.target)


@cache
def classifier(name: str, kind: str = "character") -> InspectableClassifier:
    config = CLASSIFIERS[name]
    labels = LabelVocabulary(LABELS[:2] if name == "sigmoid-two" else LABELS, separator="," if config.several else "")
    words = Vocabularies(_vocabulary(kind).source, labels, joint=False)
    model = _build(config, words)
    assert isinstance(model, ClassifierModel)
    return InspectableClassifier(model, words)
