"""Encoders of translators in sentence-transformers: the same vectors there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exits import pieces, saved, sentences

from vitrail import cli
from vitrail.decode.sentences.embedding import Embedder
from vitrail.errors import ModelError, UsageError
from vitrail.export import encoder_states
from vitrail.export.encoder_states import export_encoder, theirs

pytest.importorskip("sentence_transformers")

SHAPES: list[Any] = [
    {"tie": "target"},
    pytest.param({"positions": "learned", "max_positions": 48, "activation": "gelu"}, marks=pytest.mark.slow),
    pytest.param({"norm_position": "post", "embedding_norm": True, "activation": "silu"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_vectors_of_sentences_are_ours(
    tmp_path: Path, changes: dict[str, Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_states, "SENTENCES", 12)
    model = saved(tmp_path / "model", changes, pieces("unigram" if "activation" in changes else "bpe"))
    asked = ["export", str(model), "--to", "sentence-transformers", "-o", str(tmp_path / "out")]
    assert cli.run(asked) == 0, capfd.readouterr().err
    assert "checked with sentence-transformers" in capfd.readouterr().out
    lines = [*sentences(8), "Ça  va !"]
    ours = Embedder.load(model, engine="torch").embed(lines)
    np.testing.assert_allclose(theirs(tmp_path / "out", lines), np.asarray(ours), atol=1e-5)
    assert (tmp_path / "out" / "1_Pooling" / "config.json").exists() and (tmp_path / "out" / "manifest.json").exists()


def test_what_it_cannot_carry_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, told in (
        ({"norm": "rms", "activation": "swiglu"}, "model.norm = rms, model.activation = swiglu"),
        ({"norm_position": "post"}, "model.embedding_norm = False"),
        ({"positions": "rotary"}, "model.positions = rotary"),
        ({"cell": "lstm"}, "model.kind = recurrent"),
    ):
        with pytest.raises(UsageError, match=told):
            export_encoder(saved(tmp_path / "model", changes, pieces()), tmp_path / "out")
    model = saved(tmp_path / "model", {}, pieces())
    monkeypatch.setattr(encoder_states, "SENTENCES", 4)
    monkeypatch.setattr(encoder_states, "theirs", lambda folder, texts: np.zeros((len(texts), 32), np.float32))
    with pytest.raises(ModelError, match="vectors that differ"):
        export_encoder(model, tmp_path / "out")
    monkeypatch.setattr(encoder_states, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed"):
        export_encoder(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
