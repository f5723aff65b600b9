"""Small language models of each kind, with vocabularies of each kind over text in several scripts."""

from functools import cache

import numpy as np
import torch

from vitrail.data.vocabularies.subwords import SubwordsConfig, train_vocabulary
from vitrail.inspection.generator import InspectableGenerator
from vitrail.models.architectures import LanguageModelConfig
from vitrail.models.base import LanguageModel
from vitrail.models.build import build_model
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.language import LanguageConfig

CORPUS = [
    "the dog ate the food .",
    "a cat saw the dog , which was hungry .",
    "犬は餌を食べた。",
    "猫は犬を見た。",
    "الكلب يأكل الطعام .",
    "القطة ترى الكلب .",
    "कुत्ते ने खाना खाया ।",
    "बिल्ली ने कुत्ते को देखा ।",
]
TEXTS = ["the dog saw the cat .", "犬は猫を食べた。", "الكلب يرى القطة .", "बिल्ली ने खाना खाया ।"]
VOCABULARIES = ("word", "character", "bpe")


def _causal(**changes: object) -> CausalConfig:
    plain = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "context": 64, "dropout": 0.0}
    return CausalConfig.model_validate(plain | changes)


def _recurrent(**changes: object) -> LanguageConfig:
    return LanguageConfig.model_validate({"embedding_width": 8, "width": 12, "layers": 2, "dropout": 0.0} | changes)


CAUSAL: dict[str, LanguageModelConfig] = {
    "causal": _causal(),
    "causal-post-learned-untied": _causal(norm_position="post", positions="learned", max_positions=64, tie=False),
    "causal-rms-rotary-swiglu": _causal(norm="rms", positions="rotary", activation="swiglu"),
    "causal-normed-embedding": _causal(positions="none", embedding_norm=True),
}
RECURRENT: dict[str, LanguageModelConfig] = {
    "rnn": _recurrent(cell="rnn"),
    "gru-residual": _recurrent(cell="gru", residual=True),
    "lstm-untied-truncated": _recurrent(cell="lstm", tie=False, truncate=4),
}
LANGUAGE = CAUSAL | RECURRENT


@cache
def generator(name: str, kind: str = "character") -> InspectableGenerator:
    """With weights that are not those at the start of a training, where biases are 0."""
    torch.manual_seed(4)
    config = SubwordsConfig.model_validate({"kind": kind, "size": 340 if kind == "bpe" else 90, "least_count": 1})
    words = train_vocabulary(CORPUS, config=config)
    model = build_model(LANGUAGE[name], words).eval()
    assert isinstance(model, LanguageModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return InspectableGenerator(model, words.target)


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, for the kernels XXᵀ and YYᵀ."""
    first, second = ((values @ values.T) * (1 - np.eye(len(values))) for values in (x, y))
    n, one = len(x), np.ones(len(x))
    middle = (one @ first @ one) * (one @ second @ one) / ((n - 1) * (n - 2))
    return float((np.trace(first @ second) + middle - 2 / (n - 2) * (one @ first @ second @ one)) / (n * (n - 3)))
