"""Two processes learn what one does from the same batches: for every kind of model, stopped on the way or not."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from same_bits import final, require_same
from training_runs import Fault, Trainer, run, tiny, train_in_ranks, write_text

from vitrail.models.architectures import MODEL_KINDS, TASK_DATA
from vitrail.train.request import to_run_config
from vitrail.train.run_config import RunConfig

BLOCKS = {"width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.1}
CELLS = {"embedding_width": 12, "width": 16, "dropout": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "transformer": {**BLOCKS, "encoder_layers": 1, "decoder_layers": 1, "norm": "batch", "dropout": 0.0},
    "recurrent": {**CELLS, "attention": "luong-general"},
    "recurrent-language": {**CELLS, "layers": 2, "truncate": 8},
    "causal-language": {**BLOCKS, "layers": 1, "context": 16},
    "masked-language": {**BLOCKS, "encoder_layers": 1, "context": 16},
    "transformer-classifier": {**BLOCKS, "encoder_layers": 1},
    "recurrent-classifier": CELLS,
    "bag-classifier": {"width": 12, "buckets": 300},
    "transformer-autoencoder": {**BLOCKS, "encoder_layers": 1, "decoder_layers": 1, "bottleneck": 8, "latent": "variational"},
    "recurrent-autoencoder": {**CELLS, "bottleneck": 8, "noise": {"deletion": 0.2}},
}
assert MODELS.keys() == MODEL_KINDS.keys()
TRAINING = {
    "duration": "12 steps",
    "batch_tokens": 160,
    "accumulate": 2,
    "average_decay": 0.9,
    "validate_every": "6 steps",
    "save_every": "4 steps",
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
}


def config(kind: str, folder: Path) -> RunConfig:
    if (data := TASK_DATA[MODEL_KINDS[kind].task]) == "pairs":
        return tiny(folder, {"model": {"kind": kind, **MODELS[kind]}, "train": TRAINING})
    source = Path(write_text(folder / "text")["source"])
    labels = folder / "labels"
    labels.write_text("".join(f"{len(line) % 3}\n" for line in source.read_text().splitlines()))
    small = {"subwords": {"kind": "character"}}
    table = {
        "text": {"text": [{"source": str(source)}], "holdout": {"dev_lines": 8, "test_lines": 0}, **small},
        "labels": {
            "examples": [{"source": str(source), "target": str(labels)}],
            "holdout": {"dev_examples": 8, "test_examples": 0},
            **small,
        },
    }[data]
    return to_run_config({"data": table, "model": {"kind": kind, **MODELS[kind]}, "train": TRAINING, "optimizer": {"learning_rate": 0.01}})


def require_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, but: tuple[str, ...]) -> None:
    """Weights, their average, the optimizer's state, and states that are carried on."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if not name.endswith(but):
            torch.testing.assert_close(found[name], tensor, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def end(ranks: list[Trainer], code: int) -> None:
    assert [one.wait() for one in ranks] == [code, code], [one.text() for one in ranks]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_two_processes_are_one_and_resume_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    asked = config(kind, tmp_path)
    whole = train_in_ranks(asked, tmp_path / "two")
    run(asked, tmp_path / "one")
    end(whole, 0)
    require_close(final(tmp_path / "two"), final(tmp_path / "one"), but=("running_mean", "running_variance"))
    end(train_in_ranks(asked, tmp_path / "stopped", faults={1: Fault(5, signals=(signal.SIGTERM,))}), 75)
    end(train_in_ranks(asked, tmp_path / "stopped"), 0)
    require_same(final(tmp_path / "stopped"), final(tmp_path / "two"))


@pytest.mark.slow
def test_two_processes_start_from_one_model(tmp_path: Path) -> None:
    donor = config("causal-language", tmp_path)
    run(donor, tmp_path / "donor")
    asked = to_run_config(donor.model_dump(mode="json") | {"init": [{"role": "all", "folder": str(tmp_path / "donor")}], "seed": 5})
    ranks = train_in_ranks(asked, tmp_path / "two")
    run(asked, tmp_path / "one")
    end(ranks, 0)
    require_close(final(tmp_path / "two"), final(tmp_path / "one"), but=())
