"""Tiny runs on the phrasebook, and faults that are planted in copies of them."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.config import build, merge
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.files import JsonLines, seal, unseal
from vitrail.models.architectures import ModelConfig
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import load_folder, load_model, save_model
from vitrail.phrasebook.corpus import phrasebook
from vitrail.train.run import train
from vitrail.train.run_config import RunConfig

PAIRS = 3000
_MODEL = {"encoder_layers": 1, "decoder_layers": 1, "width": 64, "heads": 2, "feed_forward": 128, "dropout": 0.0}


def write_text(folder: Path, *, change: Callable[[list[str], list[str]], tuple[list[str], list[str]]] | None = None) -> dict[str, Any]:
    """The phrasebook as files; the table `data` of a configuration. Args: change: what is done to the sides of train."""
    folder.mkdir(parents=True)
    book = phrasebook(train_pairs=PAIRS)
    source, target = [pair.source for pair in book.train], [pair.target for pair in book.train]
    if change is not None:
        source, target = change(source, target)
    sides = {"train.en": source, "train.fr": target}
    sides |= {"dev.en": [pair.source for pair in book.dev[:200]], "dev.fr": [pair.target for pair in book.dev[:200]]}
    sides |= {"test.en": [pair.source for pair in book.test[:50]], "test.fr": [pair.target for pair in book.test[:50]]}
    for name, lines in sides.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    pairs = {part: {"source": str(folder / f"{part}.en"), "target": str(folder / f"{part}.fr")} for part in ("train", "dev", "test")}
    return {"corpora": [pairs["train"]], "dev": pairs["dev"], "test": pairs["test"], "subwords": {"size": 500}}


def tiny(data: dict[str, Any], changes: Mapping[str, Any] | None = None) -> RunConfig:
    """450 steps of a Transformer with one layer a side: 8 s."""
    table: dict[str, Any] = {
        "data": data,
        "model": _MODEL,
        "optimizer": {"learning_rate": 6e-3},
        "schedule": {"warmup": 50},
        "train": {
            "duration": "450 steps",
            "batch_tokens": 1024,
            "average_decay": 0.98,
            "validate_every": "225 steps",
            "validation_sentences": 16,
            "log_every": 25,
            "threads": 1,
            "device": "cpu",
            "precision": "fp32",
        },
    }
    return build(RunConfig, merge(table, dict(changes or {})), origin="test")


def train_tiny(folder: Path, changes: Mapping[str, Any] | None = None, **text: Any) -> None:
    """Train in a folder, its text beside it."""
    train(tiny(write_text(folder.with_name("text"), **text), changes), folder)


def copy(run: Path, folder: Path) -> Path:
    """A copy of a run, to plant a fault in."""
    return Path(shutil.copytree(run, folder))


def change_model(run: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change the tensors of the run's model in place."""
    loaded = load_folder(run)
    tensors = {name: tensor.clone() for name, tensor in unique_tensors(loaded.model).items()}
    change(tensors)
    save_model(run / "model", tensors=tensors, config=loaded.config, vocabularies=loaded.vocabularies, facts=loaded.facts)


def other_model(
    run: Path, config: ModelConfig, *, vocabularies: Vocabularies | None = None, change: Callable[[dict[str, Tensor]], None] | None = None
) -> None:
    """Put an untrained model of another architecture, or vocabulary, in place of the run's."""
    loaded = load_model(run)
    vocabularies = loaded.vocabularies if vocabularies is None else vocabularies
    torch.manual_seed(1)
    tensors = unique_tensors(build_model(config, vocabularies))
    if change is not None:
        change(tensors)
    save_model(run / "model", tensors=tensors, config=config, vocabularies=vocabularies, facts={})


def rewrite_texts(run: Path, name: str, source: Sequence[str], target: Sequence[str]) -> None:
    """Put other sentences in place of the run's dev or test text."""
    index = unseal((run / "data" / "prepared.json").read_bytes())
    for side, lines in (("source", source), ("target", target)):
        data = "".join(f"{line}\n" for line in lines).encode()
        (run / "data" / f"{name}.{side}").write_bytes(data)
        index["files"][f"{name}.{side}"] = {"size": len(data), "sha256": sha256(data).hexdigest()}
    (run / "data" / "prepared.json").write_bytes(seal(index))


def rewrite_metrics(run: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Put another log in place of the run's."""
    (run / "metrics.jsonl").unlink()
    with JsonLines(run / "metrics.jsonl") as log:
        for line in lines:
            log.append(line)


def train_line(step: int, *, nats: float, norm: float = 0.5, clipped: float | None = None, done: float = 1.0) -> dict[str, Any]:
    """A line of metrics on training."""
    clipped = min(norm, 1.0) if clipped is None else clipped
    values = {"loss_nats_per_token": nats, "perplexity": 2.718281828459045**nats, "gradient_norm": norm, "gradient_norm_clipped": clipped}
    return {"step": step, "kind": "train", "done_share": done, **values}


def dev_line(step: int, nats: float, *, best: bool = True) -> dict[str, Any]:
    """A line of metrics on a validation."""
    return {"step": step, "kind": "validation", "dev_loss_nats_per_token": nats, "best": best}
