"""What the tests of several exits share: models whose every weight was drawn, and the programs that are not in this environment."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail.data.batches import collate
from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Subwords, Vocabularies, train_sentencepiece
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.doctor.checks.programs import BERGAMOT
from vitrail.models.architectures import ModelConfig
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, save_model

WORDS = ["the", "a", "small", "red", "dog", "cat", "bird", "eats", "sees", "throws", "bread", "river", "near", "with", "and", "house"]
MOTS = ["le", "la", "petit", "rouge", "chien", "chat", "oiseau", "mange", "voit", "jette", "pain", "rivière", "près", "avec", "et", "pas"]
SHAPE: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "feed_forward": 48}


def config_of(changes: dict[str, Any]) -> ModelConfig:
    if "cell" in changes:
        return RecurrentConfig.model_validate({"width": 24, "embedding_width": 16} | changes)
    return TransformerConfig.model_validate(SHAPE | changes)


def drawn(changes: dict[str, Any], both: Vocabularies) -> LoadedModel:
    """A model whose every weight was drawn; with an output bias its translations end after some tokens."""
    config = config_of(changes)
    torch.manual_seed(5)
    model = build_model(config, both).eval()
    with torch.no_grad():
        for name, value in unique_tensors(model).items():
            value.copy_(value + 0.2 * torch.rand_like(value) if value.ndim == 1 else 1.5 * value)
            if name == "output_bias":
                value[EOS] = 4.0
    return LoadedModel(model, config, both, {"source_language": "en", "target_language": "fr"})


def pieces(kind: str = "bpe", *, joint: bool = True) -> Vocabularies:
    texts = [" ".join(words[at : at + 5]) for words in (WORDS, MOTS) for at in range(12)] * 9
    source: Subwords
    match kind:
        case "character":
            source = CharacterVocabulary.train(texts, size=40)
        case "mapped":
            plain = train_sentencepiece(texts, size=330)
            source = MappedPieces.of(plain.to_bytes(), [*plain.pieces(range(4, plain.size))[::-1], ">>fra<<"], origin="test")
        case _:
            source = train_sentencepiece(texts, size=330, kind="unigram" if kind == "unigram" else "bpe")
    target = source if joint else train_sentencepiece(texts[108:], size=310)
    return Vocabularies(source, target, joint=joint)


def saved(folder: Path, changes: dict[str, Any], both: Vocabularies) -> Path:
    loaded = drawn(changes, both)
    save_model(folder, tensors=unique_tensors(loaded.model), config=loaded.config, vocabularies=both, facts=loaded.facts)
    return folder


def taught(folder: Path, both: Vocabularies, changes: dict[str, Any] | None = None, *, steps: int = 150) -> Path:
    """A model that has learned to replace words, in seconds: its translations differ, and end."""
    config = config_of({"dropout": 0.0, "tie": "all" if both.joint else "none"} | (changes or {}))
    torch.manual_seed(5)
    model = build_model(config, both)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    lines = english(1200, seed=7)
    for step in range(steps):
        part = lines[32 * step % 1184 :][:32]
        batch = collate(both.source.encode_batch(part), both.target.encode_batch(list(map(replaced, part))))
        loss = model.loss(batch)
        optimizer.zero_grad()
        (loss.nats / loss.tokens).backward()
        optimizer.step()
    facts = {"source_language": "en", "target_language": "fr"}
    save_model(folder, tensors=unique_tensors(model), config=config, vocabularies=both, facts=facts)
    return folder


def english(count: int, *, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 6))) for _ in range(count)]


def replaced(line: str) -> str:
    return " ".join(MOTS[WORDS.index(word)] for word in line.split())


def sentences(count: int, *, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS + MOTS, k=draw.randint(2, 9))) for _ in range(count)]


def own_texts(model: Path, lines: Sequence[str], search: SearchConfig) -> list[str]:
    translator = Translator.load(model, engine="torch", config=TranslateConfig(precision="fp32"))
    return [one.text for one in translator.translate(lines, search=search)]


def program(name: str) -> Path:
    """A program of the folder that `benchmarks/environments.sh` builds; where it is missing, the test is skipped."""
    folder = os.environ.get("VITRAIL_PROGRAMS")
    place = {
        "argos": "argos/bin/python",
        "libretranslate": "libretranslate/bin/python",
        "lens": "lens/bin/python",
        "bergamot": f"bergamot/node_modules/{BERGAMOT}",
        "onnxruntime-web": "onnxruntime-web/node_modules/onnxruntime-web",
    }[name]
    if folder is None or not (Path(folder) / place).exists():
        pytest.skip(f"{name} is not there: benchmarks/environments.sh FOLDER {name}, then VITRAIL_PROGRAMS=FOLDER")
    return Path(folder) / place
