"""Marian's own files: CTranslate2's converter reads what is written (the way back: test_round_trips.py)."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch

from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, Vocabularies, train_sentencepiece
from vitrail.errors import ModelError, UsageError
from vitrail.export.marian import npz as marian_npz
from vitrail.export.marian.npz import export_marian, import_marian
from vitrail.export.translators import parity
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model

pytest.importorskip("ctranslate2")

WORDS = ["the", "a", "small", "red", "dog", "cat", "bird", "eats", "sees", "throws", "bread", "river", "near", "with", "and", "house"]
MOTS = ["le", "la", "petit", "rouge", "chien", "chat", "oiseau", "mange", "voit", "jette", "pain", "rivière", "près", "avec", "et", "pas"]
SHAPE: dict[str, Any] = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "width": 32,
    "heads": 4,
    "feed_forward": 48,
    "output_bias": True,
    "positions": "tensor2tensor",
    "decoder_start": "zeros",
}


def spm(words: list[str], size: int) -> bytes:
    draw, model = random.Random(1), io.BytesIO()
    lines = [" ".join(draw.choices(words, k=6)) for _ in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=size, hard_vocab_limit=False, num_threads=1, minloglevel=2
    )
    return model.getvalue()


def pieces_of(data: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return [processor.id_to_piece(id) for id in range(3, processor.get_piece_size())]


def saved(folder: Path, changes: dict[str, Any], *, zero: bool = True) -> Path:
    """A model like those that come from Marian: it begins from zeros, and writes neither padding nor <s>."""
    torch.manual_seed(9)
    models = [spm(WORDS, 90), spm(MOTS, 100)]
    lists = [pieces_of(model) for model in models]
    if changes.get("tie", "all") == "all":
        lists = [list(dict.fromkeys([*lists[0], *lists[1]]))] * 2
    sides = [MappedPieces.of(model, tokens, origin="drawn") for model, tokens in zip(models, lists, strict=True)]
    both = Vocabularies(sides[0], sides[1], joint=False)
    config = TransformerConfig.model_validate(SHAPE | changes)
    made = unique_tensors(build_model(config, both))
    tensors = {name: value + 0.2 * torch.randn_like(value) if value.ndim == 1 else 1.5 * value for name, value in made.items()}
    for name in ("output_weight", "target_embedding.weight", "source_embedding.weight"):
        if zero and name in tensors:
            tensors[name][[PAD, SOS]] = 0
    if "output_bias" in tensors:
        tensors["output_bias"][[PAD, SOS]], tensors["output_bias"][EOS] = -1e4, 7.0
    facts = {"imported": "Marian", "search": {"repeat_ngram": 0, "allow_unknown": True}}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts=facts)
    return folder


CHANGES: list[dict[str, Any]] = [
    {"norm_position": "post", "activation": "silu"},
    {"norm_position": "pre", "tie": "target"},
    {"norm_position": "post", "tie": "none"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_converter_of_ctranslate2_reads_it(tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(tmp_path / "model", changes)
    monkeypatch.setattr(marian_npz, "check_texts", lambda folder, given: parity.check_texts(folder, count=24, given=given))
    found = export_marian(model, tmp_path / "theirs")
    assert found is not None and [row.equal for row in found.rows] == [24, 24], found.to_text()


def test_a_model_that_was_trained_here_goes_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row of <s> is any, as training leaves it; its vocabulary has padding, <s> and bytes; nothing unknown is written."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(words, k=6)) for words in (WORDS, MOTS) for _ in range(200)]
    both = Vocabularies(*[train_sentencepiece(lines, size=340)] * 2, joint=True)
    torch.manual_seed(9)
    config = TransformerConfig.model_validate(SHAPE | {"norm_position": "post", "output_bias": False})
    tensors = {name: 1.5 * value for name, value in unique_tensors(build_model(config, both)).items()}
    assert tensors["output_weight"][SOS].any()
    save_model(tmp_path / "model", tensors=tensors, config=config, vocabularies=both, facts={})
    monkeypatch.setattr(marian_npz, "check_texts", lambda folder, given: parity.check_texts(folder, count=24, given=given))
    found = export_marian(tmp_path / "model", tmp_path / "theirs")
    assert found is not None and [row.equal for row in found.rows] == [24, 24], found.to_text()


def test_what_marian_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    for number, (changes, zero, told) in enumerate(
        (
            ({"norm_position": "post", "activation": "gelu"}, True, "model.activation = gelu"),
            ({"positions": "rotary"}, True, "model.positions = rotary"),
            ({"decoder": "ssru"}, True, "model.decoder = ssru"),
            ({"positions": "sinusoidal"}, True, "model.positions = sinusoidal"),
            ({"decoder_start": "token"}, False, "model.decoder_start = token, where Marian begins from zeros"),
        )
    ):
        with pytest.raises(UsageError, match=told):
            export_marian(saved(tmp_path / str(number), changes, zero=zero), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_damaged_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    export_marian(saved(tmp_path / "model", {"norm_position": "post"}), tmp_path / "theirs", check=False)
    folder = tmp_path / "theirs"
    whole = (folder / "model.npz").read_bytes()
    arrays = dict(np.load(folder / "model.npz"))
    settings = arrays["special:model.yml"].tobytes()

    def written(**changes: Any) -> bytes:
        packed = io.BytesIO()
        np.savez(packed, **{name: value for name, value in (arrays | changes).items() if value is not None})
        return packed.getvalue()

    gelu = np.frombuffer(settings.replace(b'"relu"', b'"gelu"'), dtype=np.int8)
    cases = [
        (whole[:5000], "zip"),
        (b"nothing", "zip"),
        (written(**{"special:model.yml": None}), "has no special:model.yml"),
        (written(**{"special:model.yml": gelu}), "transformer-ffn-activation: gelu"),
        (written(encoder_l1_self_Wq=None), "encoder_l1_self_Wq"),
        (written(encoder_l1_self_Wq=np.zeros((32, 32), np.int8)), "encoder_l1_self_Wq"),
        (written(encoder_l1_self_Wq=np.zeros((32, 8), np.float32)), "encoder.0.self_attention.query.weight"),
        (written(Wemb=arrays["Wemb"][:-1]), "rows"),
        (written(more=np.array([{}], dtype=object)), "allow_pickle"),
    ]
    for content, told in cases:
        (folder / "model.npz").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            import_marian(folder, tmp_path / "ours")
        assert told in str(caught.value), told
    (folder / "model.npz").write_bytes(whole)
    (folder / "vocab.yml").write_text('"a": 0\n"b": 2\n')
    with pytest.raises(ModelError, match="is no vocabulary"):
        import_marian(folder, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
