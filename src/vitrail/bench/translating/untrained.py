"""A Transformer of a preset's sizes with random weights: for the speed of models that nobody has trained here."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vitrail.data.vocabularies.growing import NewPiece, with_pieces
from vitrail.data.vocabularies.subwords import BEFORE_CHARACTERS, SentencePieceSubwords, Vocabularies, train_sentencepiece
from vitrail.errors import UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import PRESETS
from vitrail.models.model_folder import save_model

VOCABULARY, TOKENS = 32_000, 16
"""Tokens of its vocabulary, and of each of its translations where nothing else is said."""


@contextmanager
def untrained_model(preset: str, texts: Sequence[str], *, vocabulary: int = VOCABULARY) -> Generator[Path]:
    """The folder of such a model, for a while. Its vocabulary is learned from the texts, and filled up with tokens that no text has.

    Raises UsageError for a preset that is no Transformer's.
    """
    if preset not in PRESETS:
        raise UsageError(f"model {preset}: no such folder, and no preset", expected=f"a folder, or one of {', '.join(PRESETS)}")
    learned = train_sentencepiece(texts, size=vocabulary)
    more = [NewPiece(f"unused-{number}", -float(number - BEFORE_CHARACTERS)) for number in range(learned.size, vocabulary)]
    filled = SentencePieceSubwords.from_bytes(with_pieces(learned.to_bytes(), more), origin="the filled vocabulary")
    vocabularies, config = Vocabularies(filled, filled, joint=True), PRESETS[preset]
    with TemporaryDirectory(prefix="vitrail-bench-") as above, torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tensors = unique_tensors(build_model(config, vocabularies))
        save_model(Path(above) / preset, tensors=tensors, config=config, vocabularies=vocabularies, facts={})
        yield Path(above) / preset
