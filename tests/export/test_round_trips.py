"""There and back: what an exit wrote and an import read is the same model, to the last bit of its weights."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy
import torch
from exits import drawn, pieces

from vitrail import cli
from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import PAD, SOS, SentencePieceSubwords, Vocabularies
from vitrail.export.huggingface import export_huggingface
from vitrail.export.marian.npz import export_marian
from vitrail.export.translators import ctranslate2_folder
from vitrail.export.translators.ctranslate2_folder import ExportedAlignment, export_ctranslate2
from vitrail.export.translators.ctranslate2_spec import AlignmentHeads
from vitrail.export.translators.seq2seq_folder import export_seq2seq
from vitrail.files import read_manifest
from vitrail.models.architectures import read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model
from vitrail.vectors import FORMATS, FormatName, WordVectors, load_vectors, save_vectors

BLOCK = {"width": 16, "heads": 2, "feed_forward": 24, "activation": "gelu"}
MASKED = {"kind": "masked-language", "encoder_layers": 2, "context": 40, "embedding_norm": True, **BLOCK}
CAUSAL = {"kind": "causal-language", "layers": 2, "context": 12, **BLOCK}
MARIAN = {"positions": "tensor2tensor", "decoder_start": "zeros", "output_bias": True}


class Trip(NamedTuple):
    """An exit, and a model that goes there and comes back."""

    to: str
    changes: dict[str, Any]
    vocabulary: str = "joint"


TRIPS = {
    "ctranslate2-plain": Trip("ctranslate2", {"dropout": 0.25}),
    "ctranslate2-post": Trip("ctranslate2", {"norm_position": "post", "tie": "target", "activation": "silu", "output_bias": True}),
    "ctranslate2-learned": Trip("ctranslate2", {"positions": "learned", "max_positions": 40, "tie": "none", "activation": "gelu"}, "two"),
    "ctranslate2-rotary": Trip("ctranslate2", {"activation": "swiglu", "norm": "rms", "positions": "rotary"}),
    "ctranslate2-norm-of-embeddings": Trip("ctranslate2", {"positions": "none", "embedding_norm": True}),
    "ctranslate2-zeros": Trip("ctranslate2", {"positions": "tensor2tensor", "decoder_start": "zeros"}, "unigram"),
    "marian-post": Trip("marian", {**MARIAN, "norm_position": "post", "activation": "silu"}, "one-list"),
    "marian-pre": Trip("marian", {**MARIAN, "norm_position": "pre", "tie": "target"}, "lists"),
    "marian-untied": Trip("marian", {**MARIAN, "norm_position": "post", "tie": "none"}, "lists"),
    "marian-joint": Trip("marian", {**MARIAN, "norm_position": "post"}, "mapped"),
    "huggingface-marian": Trip("huggingface", {"norm_position": "post", "output_bias": True}),
    "huggingface-marian-two": Trip(
        "huggingface", {"norm_position": "post", "activation": "silu", "tie": "target", "output_bias": True}, "two"
    ),
    "huggingface-marian-untied": Trip(
        "huggingface", {"norm_position": "post", "activation": "gelu", "tie": "none", "output_bias": True}, "two"
    ),
    "huggingface-pegasus": Trip("huggingface", {"norm_position": "pre"}),
    "language-bert": Trip("language", {**MASKED, "norm_position": "post", "positions": "learned", "max_positions": 48}),
    "language-bert-untied": Trip("language", {**MASKED, "norm_position": "post", "positions": "sinusoidal", "tie": False}, "character"),
    "language-roberta": Trip("language", {**MASKED, "positions": "learned", "max_positions": 48}, "unigram"),
    "language-roberta-sinusoids": Trip("language", {**MASKED, "positions": "sinusoidal", "tie": False}),
    "language-esm": Trip("language", {**MASKED, "positions": "rotary", "embedding_norm": False}),
    "language-esm-untied": Trip("language", {**MASKED, "positions": "rotary", "tie": False}),
    "language-neox": Trip("language", {**CAUSAL, "positions": "rotary", "heads": 4}),
    "language-neox-untied": Trip("language", {**CAUSAL, "positions": "rotary", "tie": False}),
    "language-gpt2": Trip("language", {**CAUSAL, "positions": "learned", "max_positions": 16}),
    "language-gpt2-sinusoids": Trip("language", {**CAUSAL, "positions": "tensor2tensor", "tie": False}),
}


def to_ctranslate2(model: Path, output: Path) -> None:
    export_ctranslate2(model, output, check=False)


def to_marian(model: Path, output: Path) -> None:
    export_marian(model, output, check=False)


def to_seq2seq(model: Path, output: Path) -> None:
    export_seq2seq(model, output, check=False)


EXITS: dict[str, Callable[[Path, Path], None]] = {
    "ctranslate2": to_ctranslate2,
    "marian": to_marian,
    "huggingface": to_seq2seq,
    "language": export_huggingface,
}


@cache
def vocabularies(name: str) -> Vocabularies:
    match name:
        case "two":
            return pieces(joint=False)
        case "lists" | "one-list":  # two SentencePiece models, and ids by lists or one list of both, as Marian has them
            both = pieces(joint=False)
            sides = [one for one in (both.source, both.target) if isinstance(one, SentencePieceSubwords)]
            lists = [one.pieces(range(4, one.size)) for one in sides]
            if name == "one-list":
                lists = [list(dict.fromkeys([*lists[0], *lists[1]]))] * 2
            mapped = [MappedPieces.of(one.to_bytes(), tokens, origin="drawn") for one, tokens in zip(sides, lists, strict=True)]
            return Vocabularies(mapped[0], mapped[1], joint=False)
        case _:
            return pieces("bpe" if name == "joint" else name)


def saved(folder: Path, trip: Trip) -> Path:
    """A model whose every weight was drawn, norms and biases too; for Marian with the rows that it has no place for."""
    both = vocabularies(trip.vocabulary)
    if trip.to == "language":
        config = read_config(trip.changes)
        torch.manual_seed(1)
        made = unique_tensors(build_model(config, both))
        tensors = {name: value + 0.2 * torch.randn_like(value) for name, value in made.items()}
    else:
        loaded = drawn(trip.changes, both)
        config, tensors = loaded.config, {name: value.detach().clone() for name, value in unique_tensors(loaded.model).items()}
    facts: dict[str, Any] = {"source_language": "en", "target_language": "fr", "step": 3}
    if trip.to == "marian":
        for name in {"output_weight", "target_embedding.weight", "source_embedding.weight"} & tensors.keys():
            tensors[name][[PAD, SOS]] = 0
        tensors["output_bias"][[PAD, SOS]] = -1e4
        facts = {"imported": "Marian", "search": {"repeat_ngram": 0, "allow_unknown": True}}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts=facts)
    return folder


@pytest.mark.parametrize("name", TRIPS)
def test_a_model_comes_back_to_the_last_bit(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = ExportedAlignment(AlignmentHeads(1, (2, 0)), "predicted", 0.5)
    monkeypatch.setattr(ctranslate2_folder, "find_alignment", lambda model: heads)  # that folder also names heads for its attention
    trip = TRIPS[name]
    if trip.to == "ctranslate2":
        pytest.importorskip("ctranslate2")
    model = saved(tmp_path / "model", trip)
    EXITS[trip.to](model, tmp_path / "theirs")
    assert cli.run(["import", str(tmp_path / "theirs"), "-o", str(tmp_path / "back")]) == 0
    before, after = (read_manifest(tmp_path / one) for one in ("model", "back"))
    assert before.keys() == after.keys()
    different = [file for file in before if (model / file).read_bytes() != (tmp_path / "back" / file).read_bytes()]
    assert different == []


@pytest.mark.parametrize("name", FORMATS)
def test_word_vectors_come_back_to_the_last_bit(tmp_path: Path, name: FormatName) -> None:
    """Counts and n-grams are not in all formats; of n-grams a .bin has the parts of a sum, see tests/vectors/test_formats.py."""
    made = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    save_vectors(WordVectors([f"w{number}" for number in range(300)], made), tmp_path / "own")
    save_vectors(load_vectors(tmp_path / "own"), tmp_path / "theirs", to=name)
    save_vectors(load_vectors(tmp_path / "theirs"), tmp_path / "back")
    assert (tmp_path / "back" / "words.txt").read_bytes() == (tmp_path / "own" / "words.txt").read_bytes()
    before, after = (safetensors.numpy.load_file(tmp_path / one / "vectors.safetensors")["vectors"] for one in ("own", "back"))
    assert before.tobytes() == made.tobytes() == after.tobytes()
