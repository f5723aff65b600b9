"""A small untrained translator with subwords of the phrasebook's languages, made once."""

from functools import cache

import torch

from vitrail.data.vocabularies.subwords import SubwordsConfig, Vocabularies, train_vocabularies
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.architectures import ModelConfig
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.phrasebook.corpus import phrasebook

SHORT = SearchConfig(beams=1, max_length=8)
TINY = TransformerConfig(encoder_layers=2, decoder_layers=2, width=16, heads=2, feed_forward=24, dropout=0.0)


@cache
def vocabularies() -> Vocabularies:
    # Words such as "magpies" are more than one token: 400 pieces are few.
    challenges = phrasebook(train_pairs=0).pronouns
    sides = [one.source for one in challenges], [text for one in challenges for text in (one.target, one.contrast)]
    return train_vocabularies(*sides, config=SubwordsConfig(kind="bpe", size=400, joint=True))


def untrained(config: ModelConfig = TINY) -> InspectableTranslator:
    torch.manual_seed(5)
    model = build_model(config, vocabularies()).eval()
    return InspectableTranslator(model, vocabularies=vocabularies(), config=TranslateConfig(search=SHORT))
