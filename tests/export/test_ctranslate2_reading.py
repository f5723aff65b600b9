"""Translators that others made for CTranslate2 have the same numbers here (ours: test_round_trips.py); files that cannot be taken over."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail.data.vocabularies.subwords import EOS, SOS, Vocabularies, train_sentencepiece
from vitrail.errors import ModelError
from vitrail.export.translators.ctranslate2_folder import export_ctranslate2
from vitrail.export.translators.ctranslate2_reading import import_ctranslate2, read_binary
from vitrail.export.translators.ctranslate2_spec import OURS
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import load_model, save_model

ctranslate2 = pytest.importorskip("ctranslate2")

LINES = ["A man in a blue shirt is standing on a ladder cleaning a window.", "Les bâtisseurs de cathédrales n'aiment guère l'eau-de-vie !"]
SHAPE: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "feed_forward": 48, "dropout": 0.25}
CHANGES: list[dict[str, Any]] = [
    {},
    {"norm_position": "post", "tie": "target", "activation": "silu", "output_bias": True},
    {"positions": "learned", "max_positions": 40, "tie": "none", "activation": "gelu"},
    {"activation": "swiglu", "norm": "rms", "positions": "rotary"},
    {"positions": "none", "embedding_norm": True},
    {"positions": "tensor2tensor", "decoder_start": "zeros"},
]


def saved(folder: Path, changes: dict[str, Any]) -> Path:
    torch.manual_seed(3)
    vocabulary = train_sentencepiece(LINES * 20, size=330)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    config = TransformerConfig.model_validate(SHAPE | changes)
    made = unique_tensors(build_model(config, both))
    tensors = {name: value + 0.2 * torch.randn_like(value) if value.ndim == 1 else 1.5 * value for name, value in made.items()}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts={"source_language": "en", "step": 3})
    return folder


def without_ours(folder: Path) -> Path:
    """The same folder as if another program had made it."""
    for name in (OURS, "manifest.json", "README.md"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_what_others_made_has_the_same_numbers_here(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = saved(tmp_path / "model", changes)
    export_ctranslate2(model, tmp_path / "theirs", check=False)
    import_ctranslate2(without_ours(tmp_path / "theirs"), tmp_path / "ours")
    before, after = load_model(model), load_model(tmp_path / "ours")
    assert after.config == before.config.model_copy(update={"dropout": 0.1, "max_positions": after.config.max_positions})  # pyright: ignore
    for line in LINES:
        tokens = before.vocabularies.source.encode(line)
        assert after.vocabularies.source.encode(line) == tokens
        source, target = torch.tensor([[*tokens, EOS]]), torch.tensor([[SOS, *tokens]])
        with torch.inference_mode():
            logits = [one.model.read_out(one.model.decode(target, one.model.encode(source))) for one in (before, after)]
        torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=0)


def test_damaged_and_other_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    export_ctranslate2(saved(tmp_path / "model", {}), tmp_path / "whole", check=False)
    export_ctranslate2(tmp_path / "model", tmp_path / "int8", compute="int8", check=False)
    without_ours(tmp_path / "whole")
    data = (tmp_path / "whole" / "model.bin").read_bytes()
    other = data.replace(b"TransformerSpec", b"TransformerBert")
    many = data[:26] + struct.pack("<I", 1 << 30) + data[30:]
    for name, content, told in (
        ("cut", data[:-100_000], "ends within"),
        ("empty", b"", "ends within"),
        ("old", b"\5" + data[1:], "version 5"),
        ("other", other, "TransformerBert"),
        ("many", many, "1,073,741,824 variables"),
        ("int8", (tmp_path / "int8" / "model.bin").read_bytes(), "numbers of int8"),
    ):
        folder = tmp_path / f"{name}-folder"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "model.bin").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            import_ctranslate2(folder, tmp_path / "ours")
        assert told in str(caught.value) and not (tmp_path / "ours").exists()
    shutil.copytree(tmp_path / "whole", tmp_path / "pieces")
    (tmp_path / "pieces" / "joint.spm").unlink()
    with pytest.raises(ModelError, match="no SentencePiece model"):
        import_ctranslate2(tmp_path / "pieces", tmp_path / "ours")
    settings = json.loads((tmp_path / "whole" / "config.json").read_text())
    (tmp_path / "whole" / "config.json").write_text(json.dumps(settings | {"layer_norm_epsilon": 1e-3}))
    with pytest.raises(ModelError, match="epsilon"):
        import_ctranslate2(tmp_path / "whole", tmp_path / "ours")


def test_cut_anywhere_a_file_is_refused(tmp_path: Path) -> None:
    export_ctranslate2(saved(tmp_path / "model", {"encoder_layers": 1, "decoder_layers": 1}), tmp_path / "theirs", check=False)
    data = (tmp_path / "theirs" / "model.bin").read_bytes()
    for size in [*range(0, 200, 7), *range(200, len(data), len(data) // 40)]:
        (tmp_path / "cut.bin").write_bytes(data[:size])
        with pytest.raises(ModelError):
            read_binary(tmp_path / "cut.bin")
