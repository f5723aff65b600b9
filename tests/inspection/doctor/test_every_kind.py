"""The doctor on models that read or write text alone: what it checks of each kind, what it does not, and what it says of that."""

from pathlib import Path
from typing import Any

import pytest
from planted_runs import change_model
from torch import Tensor

from vitrail.doctor.examine import examine
from vitrail.train.request import to_run_config
from vitrail.train.run import train

WORDS = ["γάτα", "σκύλος", "άλογο", "πουλί"]
SHAPE = {"width": 16, "dropout": 0.0}
BLOCKS = {"heads": 2, "feed_forward": 24, **SHAPE}
CELLS = {"embedding_width": 12, **SHAPE}
MODELS: dict[str, dict[str, Any]] = {
    "a language model": {"kind": "causal-language", "layers": 1, "context": 16, **BLOCKS},
    "a masked language model": {"kind": "masked-language", "encoder_layers": 2, "context": 16, **BLOCKS},
    "a classifier": {"kind": "transformer-classifier", "encoder_layers": 1, "context": 24, **BLOCKS},
    "a recurrent classifier": {"kind": "recurrent-classifier", "context": 24, **CELLS},
    "an autoencoder": {"kind": "transformer-autoencoder", "encoder_layers": 1, "decoder_layers": 1, "bottleneck": 8, "context": 16}
    | BLOCKS,
    "a recurrent autoencoder": {"kind": "recurrent-autoencoder", "bottleneck": 8, "context": 9, **CELLS},
}


def trained(folder: Path, model: dict[str, Any]) -> Path:
    lines = [f"η {WORDS[number % 4]} {number} {WORDS[number // 4 % 4]}" for number in range(120)]
    (folder / "text").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "labels").write_text("".join(f"{'ζώο' if number % 3 else 'λέξη'}\n" for number in range(120)), encoding="utf-8")
    if "classifier" in model["kind"]:
        data: dict[str, Any] = {"examples": [{"source": str(folder / "text"), "target": str(folder / "labels")}]}
        data["holdout"] = {"dev_examples": 24, "test_examples": 12}
    else:
        data = {"text": [{"source": str(folder / "text")}], "holdout": {"dev_lines": 24, "test_lines": 12}}
    settings = {"duration": "4 steps", "batch_tokens": 128, "validate_every": "4 steps", "threads": 1, "precision": "fp32"}
    table = {"data": data | {"subwords": {"kind": "word", "size": 200}}, "model": model, "train": settings | {"label_smoothing": 0.0}}
    train(to_run_config(table), folder / "run")
    return folder / "run"


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_inside_is_checked_and_what_does_not_apply_is_named(kind: str, tmp_path: Path) -> None:
    found = {one.check: one for one in examine(trained(tmp_path, MODELS[kind])).findings}
    assert found["heads"].severity != "unchecked" and found["neurons"].severity != "unchecked"
    blocks = "heads" in MODELS[kind]
    assert (" heads: " in found["heads"].found) == blocks and ("layers)" in found["neurons"].found) == blocks
    said = "an autoencoder" if "autoencoder" in kind else kind
    expected = "a classifier has texts and labels" if "classifier" in kind else f"{said} has no pairs of sentences"
    for check in ("misaligned lines", "same output", "repetition"):
        assert found[check].severity == "unchecked" and found[check].found == f"it does not apply: {expected}"
    if "autoencoder" in kind:
        assert found["gradients"].numbers["encoder_share"] > 0, "the encoder has read the line"


@pytest.mark.parametrize("kind", ["a masked language model", "a classifier"])
def test_a_head_whose_output_is_zero_is_found(kind: str, tmp_path: Path) -> None:
    run = trained(tmp_path, MODELS[kind])

    def silence(weights: dict[str, Tensor]) -> None:
        weights["encoder.0.self_attention.output.weight"][:, :8] = 0

    change_model(run, silence)
    (found,) = [one for one in examine(run).findings if one.check == "heads"]
    assert found.severity in ("warning", "fault") and found.numbers["silent"] == 1 and "encoder.0.self_attention head 0" in found.found
