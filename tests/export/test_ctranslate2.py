"""Translators in CTranslate2: the same numbers there, and folders that it reads with nothing of ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrail import cli
from vitrail.data.vocabularies.subwords import EOS, SOS, CharacterVocabulary, Vocabularies, WordVocabulary, train_sentencepiece
from vitrail.decode.cross_attention import cross_attention
from vitrail.errors import ModelError, UsageError
from vitrail.export.translators import parity
from vitrail.export.translators.ctranslate2_folder import export_ctranslate2
from vitrail.export.translators.ctranslate2_spec import AlignmentHeads, CTranslate2Model, make_spec, names_of, obstacle, save_spec
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model, save_model

ctranslate2 = pytest.importorskip("ctranslate2")

LINES = ["A man in a blue shirt is standing on a ladder cleaning a window.", "Les bâtisseurs de cathédrales n'aiment guère l'eau-de-vie !"]
SHAPE: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "feed_forward": 48}
CHANGES: list[dict[str, Any]] = [
    {},
    {"norm_position": "post", "tie": "target"},
    {"activation": "gelu", "positions": "learned", "max_positions": 40},
    {"activation": "swiglu", "norm": "rms", "positions": "rotary"},
    {"norm": "rms", "norm_position": "post", "embedding_norm": True, "tie": "none"},
    {"positions": "none", "embedding_norm": True},
    {"positions": "tensor2tensor", "decoder_start": "zeros", "norm_position": "post"},
]


def saved(folder: Path, changes: dict[str, Any], *, pieces: bool = False) -> Path:
    """A model whose every weight was drawn, norms and biases too."""
    torch.manual_seed(3)
    vocabulary = train_sentencepiece(LINES * 20, size=330) if pieces else WordVocabulary.train(["a b c d e f g h i j k"], size=20)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    config = TransformerConfig.model_validate(SHAPE | changes)
    made = unique_tensors(build_model(config, both))
    tensors = {name: value + 0.2 * torch.randn_like(value) if value.ndim == 1 else 1.5 * value for name, value in made.items()}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts={"source_language": "en", "target_language": "fr"})
    return folder


def carried(loaded: LoadedModel, folder: Path, *, align: AlignmentHeads | None = None) -> CTranslate2Model:
    folder.mkdir()
    save_spec(make_spec(loaded, align=align), folder, compute="float32")
    names = names_of(loaded.vocabularies.target)
    return CTranslate2Model(folder, names=(names, names))


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_a_given_translation_has_the_same_log_probabilities_there(tmp_path: Path, changes: dict[str, Any]) -> None:
    loaded = load_model(saved(tmp_path / "model", changes))
    source, target = [4, 5, 6, 9], [7, 8, 9, 10, 11]
    with torch.inference_mode():
        hidden = loaded.model.decode(torch.tensor([[SOS, *target]]), loaded.model.encode(torch.tensor([[*source, EOS]])))
        expected = loaded.model.read_out(hidden)[0].log_softmax(1).gather(1, torch.tensor([[*target, EOS]]).t()).flatten()
    (found,) = carried(loaded, tmp_path / "theirs").score([source], [target])
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_its_attention_is_the_average_of_the_named_heads(tmp_path: Path) -> None:
    loaded = load_model(saved(tmp_path / "model", {}))
    source = [4, 5, 6, 9]
    for number, align in enumerate((AlignmentHeads(1, (3, 1)), AlignmentHeads(0, (2,)))):
        peer = carried(loaded, tmp_path / f"theirs{number}", align=align)
        tokens, weights = peer.attention(source, longest=9)
        (ours,) = cross_attention(loaded.model, [source], [tokens])
        expected = ours[align.layer, list(align.heads)].mean(0)[: len(tokens), :-1]
        assert weights.shape == expected.shape == (len(tokens), len(source)) and len(tokens) > 1
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_it_reads_and_writes_text_with_sentencepiece_alone(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    model = saved(tmp_path / "model", {}, pieces=True)
    assert cli.run(["export", str(model), "--to", "ctranslate2", "-o", str(tmp_path / "theirs"), "--no-check"]) == 0
    assert b"README.md" in capfdbinary.readouterr().out
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "theirs" / "joint.spm"))
    names = json.loads((tmp_path / "theirs" / "shared_vocabulary.json").read_text())
    loaded = load_model(model)
    for line in LINES:
        assert [names.index(piece) for piece in pieces.encode(line, out_type=str)] == loaded.vocabularies.source.encode(line)
    found = ctranslate2.Translator(str(tmp_path / "theirs")).translate_batch([pieces.encode(LINES[0], out_type=str)], max_decoding_length=8)
    assert isinstance(pieces.decode(found[0].hypotheses[0]), str)
    readme = (tmp_path / "theirs" / "README.md").read_text()
    assert 'model_file="joint.spm"' in readme and "en to fr" in readme
    assert "manifest.json" in {path.name for path in (tmp_path / "theirs").iterdir()}


def test_smaller_numbers_are_written(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", {})
    sizes: list[int] = []
    for compute in ("float32", "int8", "int8_bfloat16"):
        export_ctranslate2(model, tmp_path / compute, compute=compute, check=False)
        sizes.append((tmp_path / compute / "model.bin").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


def test_two_tokens_never_have_one_name() -> None:
    names = names_of(CharacterVocabulary(["▁", " ", "a"]))
    assert len(set(names)) == 7 and names[4:] == ["▁", "▁<5>", "a"]


def test_what_it_cannot_carry_is_refused_by_name(tmp_path: Path) -> None:
    for config, told in (
        (RecurrentConfig(), "model.kind = recurrent"),
        (TransformerConfig(norm="batch"), "model.norm = batch"),
        (TransformerConfig(head_width=16), "model.head_width = 16"),
        (TransformerConfig(decoder="ssru"), "model.decoder = ssru"),
    ):
        assert told in obstacle(config)
    with pytest.raises(UsageError, match="norm = batch") as caught:
        export_ctranslate2(saved(tmp_path / "batch", {"norm": "batch"}), tmp_path / "theirs")
    assert caught.value.expected and not (tmp_path / "theirs").exists()
    assert cli.run(["export", str(tmp_path / "batch"), "-o", str(tmp_path / "x"), "--compute", "int8"]) == 2


def test_the_check_can_fail_and_then_nothing_is_written(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", {}, pieces=True)
    texts = parity.check_texts(model, count=8)
    assert len(texts.sources) == 8 and not texts.references and texts.origin == "drawn from the vocabulary"
    found = parity.compare(model, lambda texts, beams: ["x"] * len(texts.sources), program="nobody", texts=texts)
    assert [row.equal for row in found.rows] == [0, 0] and "0 equal" in found.to_text()
    with pytest.raises(ModelError, match="nobody translates otherwise"):
        found.require(exact=True)
    from vitrail.export.translators.staging import publish_checked

    def refuse(folder: Path) -> None:
        assert (folder / "a").read_bytes() == b"1"
        found.require(exact=True)

    with pytest.raises(ModelError):
        publish_checked(tmp_path / "out", write=lambda folder: (folder / "a").write_bytes(b"1") and None, check=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_exits_are_listed_with_what_is_installed(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", "--list"]) == 0
    out = capfd.readouterr().out
    assert "ctranslate2: installed" in out and "huggingface" in out
