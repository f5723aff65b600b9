"""Vectors of sentences by every kind of model that makes them, and who makes none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.cli import run
from vitrail.data.batches import pad_rows
from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.decode.sentences.embedding import Embedder, nearest_rows
from vitrail.errors import ModelError, UsageError
from vitrail.models.architectures import read_config
from vitrail.models.base import Embeds, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model

TEXTS = ["ann sees cats", "bob has 犬", "아이 likes cats and 犬 and bob and ann", "", "cats"]
WORDS = WordVocabulary.train(TEXTS, size=50, least_count=1)
BOTH = Vocabularies(WORDS, WORDS, joint=True)
BLOCK = {"encoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "dropout": 0.1}
KINDS = {
    "transformer": {**BLOCK, "decoder_layers": 1},
    "recurrent": {"embedding_width": 8, "width": 16, "attention": "luong-general"},
    "masked-language": {**BLOCK, "context": 6},
    "transformer-autoencoder": {**BLOCK, "decoder_layers": 1, "bottleneck": 5, "context": 6},
    "recurrent-autoencoder": {"embedding_width": 8, "width": 16, "bottleneck": 5},
}


def saved(folder: Path, kind: str, **table: object) -> Path:
    torch.manual_seed(2)
    config = read_config({"kind": kind, **(KINDS.get(kind) or table)})
    save_model(folder, tensors=unique_tensors(build_model(config, BOTH)), config=config, vocabularies=BOTH, facts={})
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_with_an_encoder_makes_vectors(tmp_path: Path, kind: str) -> None:
    embedder = Embedder.load(saved(tmp_path / "model", kind))
    assert isinstance(embedder.model, Embeds) and isinstance(embedder.model, torch.nn.Module)
    found = embedder.embed(TEXTS)
    assert found.shape == (5, 5 if "autoencoder" in kind else 16) and np.isfinite(found).all()
    # Each is what the model makes of that sentence by itself, and to the bit the same in any company.
    for text, vector in zip(TEXTS, found, strict=True):
        assert np.array_equal(embedder.embed([text])[0], vector)
        with torch.inference_mode():
            alone = embedder.model.embed(pad_rows([embedder.encode(text)], start=embedder.model.marks_start))[0]
        np.testing.assert_allclose(vector, alone, atol=1e-5)
    assert np.array_equal(embedder.embed(TEXTS[::-1]), found[::-1])
    assert embedder.embed([]).shape[0] == 0


def test_sentences_beyond_the_context_are_cut(tmp_path: Path) -> None:
    masked = Embedder.load(saved(tmp_path / "masked", "masked-language"))
    assert len(masked.encode(TEXTS[2])) == 4  # with <s> and </s>, 6
    auto = Embedder.load(saved(tmp_path / "auto", "transformer-autoencoder"))
    assert len(auto.encode(TEXTS[2])) == 5  # with </s>, 6
    assert np.array_equal(auto.embed([TEXTS[2]]), auto.embed([" ".join(TEXTS[2].split()[:5])]))


def test_neighbours_are_by_cosine_and_ties_keep_their_order() -> None:
    vectors = np.array([[1, 0], [0, 0], [0, 2], [3, 0], [1, 1]], dtype=np.float32)
    assert nearest_rows(np.array([2, 0], dtype=np.float32), vectors, top=5) == [
        (0, 1.0), (3, 1.0), (4, pytest.approx(0.5**0.5)), (1, 0.0), (2, 0.0)
    ]  # fmt: skip


def test_who_makes_no_vectors_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "context": 16}
    language = saved(tmp_path / "gpt", "causal-language", **table)
    with pytest.raises(ModelError, match="a language model, which makes no vectors"):
        Embedder.load(language)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXTS[:3]) + "\n")
    assert run(["embed", str(language), "--text", str(text)]) != 0 and "encoder" in capsys.readouterr().err
    embedder = Embedder.load(saved(tmp_path / "tr", "transformer"))
    with pytest.raises(UsageError, match="nothing to compare"):
        embedder.nearest("", TEXTS)
    assert run(["embed", str(tmp_path / "tr"), "--text", str(text), "--nearest", "ann", "-o", str(tmp_path / "v.npy")]) == 2
