"""Every kind of model with a sentence run through it, made once."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from builders import TRANSLATING, settled

from vitrail.data.batches import Batch, collate
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig
from vitrail.inspection.collect import Arrays, collect
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.base import TranslationModel
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig

SOURCE, TARGET = [4, 9, 6, 12, 7], [8, 5, 11]
S, T = len(SOURCE) + 1, len(TARGET) + 1
TEXT = "afc bd"
TRANSFORMERS = {name: kind.config for name, kind in TRANSLATING.items() if isinstance(kind.config, TransformerConfig)}
RECURRENT = {name: kind.config for name, kind in TRANSLATING.items() if isinstance(kind.config, RecurrentConfig)}
ATTENTIVE = [name for name in TRANSLATING if name in TRANSFORMERS or RECURRENT[name].attention != "none"]


@cache
def model(name: str) -> TranslationModel:
    """With biases and gains that are not 0 and 1, which would prove nothing."""
    made = settled(TRANSLATING[name])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def batch(source: list[int] = SOURCE, target: list[int] = TARGET) -> Batch:
    return collate([source], [target])


@cache
def arrays(name: str) -> Arrays:
    return collect(model(name), SOURCE, TARGET)


def exact(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def translator(name: str, **search: object) -> InspectableTranslator:
    config = TranslateConfig(search=SearchConfig.model_validate({"beams": 3, "max_extra": 6, "max_ratio": 1} | search))
    return InspectableTranslator(model(name), vocabularies=TRANSLATING[name].vocabularies, config=config, languages=("xx", "yy"))


@cache
def record(name: str) -> Inspection:
    return translator(name).inspect(TEXT)
