"""Language models in Hugging Face's layouts: the same logits, tokens and vectors of sentences there. The way back: test_round_trips.py."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from vitrail import cli
from vitrail.data.batches import pad_rows
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Subwords, Vocabularies, WordVocabulary, train_sentencepiece
from vitrail.errors import ModelError, UsageError
from vitrail.export.huggingface import export_huggingface, import_huggingface, largest_difference
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.model_folder import load_folder, save_model

transformers = pytest.importorskip("transformers")

LINES = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Les bâtisseurs de cathédrales, l'été, n'aiment guère l'eau-de-vie !",
    "猫が静かな川のそばで魚を食べる。二人の少年がパンを投げる。",
    "बिल्ली नदी के किनारे मछली खाती है और बच्चे रोटी फेंकते हैं।",
    "القطة تأكل السمك بجانب النهر الهادئ",
    "Two  spaces, a ▁ sign, 😀 and a tab\tinside",
]
VOCABULARIES = {
    "bpe": lambda: train_sentencepiece(LINES[:4] * 20, size=420, kind="bpe"),
    "unigram": lambda: train_sentencepiece(LINES[:4] * 20, size=400, kind="unigram"),
    "bpe-grown": lambda: train_sentencepiece(LINES[:2] * 20, size=340, kind="bpe").extended(LINES[2:4] * 3, most=80),
    "unigram-grown": lambda: train_sentencepiece(LINES[:2] * 20, size=320, kind="unigram").extended(LINES[2:4] * 3, most=80),
    "character": lambda: CharacterVocabulary.train(LINES[:4], size=120),
}
BLOCK = {"width": 16, "heads": 2, "feed_forward": 24, "activation": "gelu", "dropout": 0.1}
MASKED = {"encoder_layers": 2, "context": 40, "embedding_norm": True, **BLOCK}
CAUSAL = {"layers": 2, "context": 12, **BLOCK}
CONFIGS = {
    "bert": MaskedConfig.model_validate({**MASKED, "norm_position": "post", "positions": "learned", "max_positions": 48}),
    "bert-untied": MaskedConfig.model_validate({**MASKED, "norm_position": "post", "tie": False, "pooling": "first"}),
    "pre-norm": MaskedConfig.model_validate({**MASKED, "positions": "learned", "max_positions": 48}),
    "pre-norm-sinusoidal": MaskedConfig.model_validate({**MASKED, "tie": False}),
    "esm": MaskedConfig.model_validate({**MASKED, "positions": "rotary", "embedding_norm": False}),
    "esm-untied": MaskedConfig.model_validate({**MASKED, "positions": "rotary", "tie": False}),
    "gpt-neox": CausalConfig.model_validate({**CAUSAL, "positions": "rotary", "heads": 4}),
    "gpt-neox-untied": CausalConfig.model_validate({**CAUSAL, "positions": "rotary", "tie": False}),
    "gpt2": CausalConfig.model_validate({**CAUSAL, "positions": "learned", "max_positions": 16}),
    "gpt2-untied": CausalConfig.model_validate({**CAUSAL, "positions": "sinusoidal", "tie": False}),
}


def saved(folder: Path, config: MaskedConfig | CausalConfig, vocabulary: Subwords) -> Path:
    """A model whose every weight was drawn, norms and biases too."""
    torch.manual_seed(1)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    made = build_model(config, both)
    tensors = {name: value + 0.2 * torch.randn_like(value) for name, value in unique_tensors(made).items()}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts={"step": 3, "language": "fr"})
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_every_logit_is_the_same_there(tmp_path: Path, name: str) -> None:
    ours = saved(tmp_path / "ours", CONFIGS[name], VOCABULARIES["bpe"]())
    export_huggingface(ours, tmp_path / "theirs")
    assert largest_difference(ours, tmp_path / "theirs") < 1e-4


def test_sinusoids_that_were_trained_on_elsewhere_come_back_as_learned_positions(tmp_path: Path) -> None:
    ours, rows = saved(tmp_path / "ours", CONFIGS["gpt2-untied"], VOCABULARIES["bpe"]()), "transformer.wpe.weight"
    export_huggingface(ours, tmp_path / "theirs")
    weights = safetensors.torch.load_file(tmp_path / "theirs" / "model.safetensors")
    weights[rows][3, 1] += 0.5
    safetensors.torch.save_file(weights, tmp_path / "theirs" / "model.safetensors")
    import_huggingface(tmp_path / "theirs", tmp_path / "back")
    after = load_folder(tmp_path / "back")
    assert isinstance(after.config, CausalConfig) and after.config.positions == "learned"
    torch.testing.assert_close(unique_tensors(after.model)["target_positions.weight"], weights[rows], atol=0, rtol=0)


def test_the_check_can_fail(tmp_path: Path) -> None:
    ours = saved(tmp_path / "ours", CONFIGS["bert"], VOCABULARIES["character"]())
    export_huggingface(ours, tmp_path / "theirs")
    weights = safetensors.torch.load_file(tmp_path / "theirs" / "model.safetensors")
    weights["cls.predictions.bias"][7] += 0.01
    safetensors.torch.save_file(weights, tmp_path / "theirs" / "model.safetensors", metadata={"format": "pt"})
    assert largest_difference(ours, tmp_path / "theirs") > 5e-3


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("config", ["pre-norm", "gpt2"])
def test_text_gets_the_same_tokens_there(tmp_path: Path, kind: str, config: str) -> None:
    vocabulary = VOCABULARIES[kind]()
    export_huggingface(saved(tmp_path / "ours", CONFIGS[config], vocabulary), tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs", local_files_only=True)
    for line in LINES:
        ids = vocabulary.encode(line)
        assert theirs(line)["input_ids"] == ([2, *ids, 3] if config == "pre-norm" else ids)
        if kind != "character":
            assert theirs.decode(ids, clean_up_tokenization_spaces=False).replace("\ufdd01", "▁") == vocabulary.decode(ids)
    if config == "pre-norm":
        assert theirs("a [MASK] b")["input_ids"].count(vocabulary.size) == 1 and theirs.mask_token_id == vocabulary.size


@pytest.mark.parametrize("config", ["bert", "bert-untied", "pre-norm", "pre-norm-sinusoidal", "esm", "esm-untied"])
def test_sentence_transformers_gives_our_vectors(tmp_path: Path, config: str) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    vocabulary = VOCABULARIES["bpe"]()
    ours = load_folder(saved(tmp_path / "ours", CONFIGS[config], vocabulary))
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "theirs"), device="cpu", local_files_only=True)
    short = [line[:20] for line in LINES]
    found = torch.from_numpy(theirs.encode(short))
    rows = vocabulary.encode_batch(short)
    model: Any = ours.model
    with torch.inference_mode():
        torch.testing.assert_close(found, model.embed(pad_rows(rows, start=True)), atol=1e-5, rtol=1e-5)


def test_what_a_layout_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    vocabulary = VOCABULARIES["character"]()
    for changes, told in (
        ({"norm": "rms", "activation": "relu"}, "model.norm = rms, model.activation = relu"),
        ({"positions": "rotary"}, "model.norm_position = post"),
        ({"positions": "none"}, "model.positions = none"),
        ({"embedding_norm": False}, "model.embedding_norm = False"),
        ({"head_width": 4}, "model.head_width = 4"),
    ):
        config = CONFIGS["bert"].model_copy(update=changes)
        with pytest.raises(UsageError) as caught:
            export_huggingface(saved(tmp_path / told, config, vocabulary), tmp_path / "theirs")
        assert told in str(caught.value)
    words = WordVocabulary([" a", " b"])
    with pytest.raises(UsageError, match="whole words"):
        export_huggingface(saved(tmp_path / "words", CONFIGS["gpt2"], words), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_a_damaged_or_foreign_folder_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    export_huggingface(saved(tmp_path / "ours", CONFIGS["gpt2"], VOCABULARIES["bpe"]()), tmp_path / "whole")

    def changed(name: str, change: Any) -> Path:
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        change(tmp_path / name)
        return tmp_path / name

    def without_weight(folder: Path) -> None:
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        del weights["transformer.h.1.ln_2.bias"]
        safetensors.torch.save_file(weights, folder / "model.safetensors")

    def another_kind(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | {"model_type": "llama"}))

    def without_vocabulary(folder: Path) -> None:
        (folder / "joint.spm").unlink()

    for name, change, told in (
        ("weight", without_weight, "transformer.h.1.ln_2.bias: missing"),
        ("kind", another_kind, "model_type 'llama'"),
        ("vocabulary", without_vocabulary, "no vocabulary"),
        ("none", lambda folder: (folder / "config.json").unlink(), "config.json"),
    ):
        with pytest.raises(ModelError) as caught:
            import_huggingface(changed(name, change), tmp_path / "back")
        assert told in str(caught.value) and not (tmp_path / "back").exists()


def test_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "ours", CONFIGS["pre-norm"], VOCABULARIES["bpe"]())
    assert cli.run(["export", str(tmp_path / "ours"), "-o", str(tmp_path / "theirs")]) == 0
    assert "no logit differs" in capfd.readouterr().err
    assert cli.run(["import", str(tmp_path / "theirs"), "-o", str(tmp_path / "back")]) == 0
    assert cli.run(["fill", str(tmp_path / "back"), "A man in a [MASK]"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 5
