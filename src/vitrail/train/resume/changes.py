"""Whether a training can go on: from which checkpoint, with which differences, and with which model.

What was allowed by name may differ, but only what can work. Everything that a training is told can change with permission, but for what
its weights and its optimizer mean: the ids of the vocabularies, the architecture, the kind of optimizer. New text can come, too, where the
same vocabulary comes of it.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.data.preparing.fingerprints import fingerprint
from vitrail.errors import ModelError, UsageError
from vitrail.runtime.device import choose_device, choose_dtype
from vitrail.train.loop import Progress
from vitrail.train.resume import checkpoints
from vitrail.train.resume.checkpoints import Checkpoint, Difference, differences, require_same
from vitrail.train.run_config import RunConfig
from vitrail.train.run_folder import holds_model
from vitrail.version import __version__

STATE = "state"
"""Allowed by name, a training may begin anew in a folder whose model has no checkpoint left to go on from."""

_MODEL_MAY_CHANGE = frozenset({"variational", "truncate", "forget_bias"})
"""Settings of a model, besides every dropout, that mean nothing to weights which are there."""
_OF_PREPARED = ("data.digest", "vocabularies")
_MEASURE = ("data.", "train.select", "train.validation_sentences", "vitrail")
"""What dev scores are measured on, and how."""


def setup_of(config: RunConfig, data: Mapping[str, Any], *, world: int) -> dict[str, Any]:
    """What decides the bits of a training, under the names that `--set` knows. Text goes by its bytes, not by where it lies.

    Args: data: the fingerprint of the prepared data.
    """
    table = config.model_dump(mode="json", exclude={"data"})
    device = choose_device(config.train.device)
    return {
        **table,
        **data,
        "train": table["train"] | {"threads": torch.get_num_threads()},
        "processes": world,
        "torch": torch.__version__,
        "vitrail": __version__,
        "device": device.type,
        "dtype": str(choose_dtype(config.train.precision, device)),
    }


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest good checkpoint of a run with all that a training needs of it. Raises ModelError where there are only damaged ones."""
    parts = {"model": None, "optimizer": None, "average": None, "carried": None}
    return checkpoints.load_latest(folder, expected=parts, optional={"carried"})


def require_resumable(
    config: RunConfig, folder: Path, *, world: int, allow: Collection[str], kept: Mapping[str, Any] | None = None
) -> Checkpoint | None:
    """The newest good checkpoint, once all that can be known before data are prepared was held against it; None where nothing was trained.

    Args:   kept: see `fingerprint`.
    Raises: UsageError where this setup cannot go on from it, or where there is a model but no checkpoint.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None:
        saved, asked = checkpoint.facts["setup"], setup_of(config, fingerprint(config.data, kept=kept), world=world)
        if config.train.select == "auto":
            asked["train"]["select"] = saved["train"]["select"]
        require_allowed_changes(saved, asked, allow=allow)
    elif holds_model(folder) and STATE not in allow:
        raise UsageError(
            f"{folder}: has a model but no checkpoint in state/, so its training cannot resume",
            expected="a new folder, or permission to replace this model",
            remedy=f"-o with another name keeps it; --allow-change {STATE} trains from the start and replaces it at the first validation",
        )
    return checkpoint


def require_allowed_changes(saved: Mapping[str, Any], current: Mapping[str, Any], *, allow: Collection[str] = ()) -> list[Difference]:
    """Refuse a setup that differs from the saved one, unless every difference is allowed by name and the saved weights can bear it.

    Args:    current: may lack what is known only once the data are prepared: `data.digest` and `vocabularies`.
    Returns: the changes, to be told to the user.
    Raises:  UsageError that lists what is not allowed, or what cannot work.
    """
    known = {name: value for name, value in saved.items() if name in current or name not in _OF_PREPARED}
    found = differences(known, current)
    impossible = [f"{item} ({reason})" for item in found if (reason := _why_not(item.name))]
    if impossible:
        raise UsageError(
            "the run was saved with different settings: " + "; ".join(impossible),
            expected="the settings that its weights were trained with; --allow-change cannot allow this",
            remedy="train in a new folder",
        )
    new_text = any(item.name.startswith("data.") and item.name not in _OF_PREPARED for item in found)
    if new_text and any(name == "data" or name.startswith("data.") for name in allow):
        allow = [*allow, "data.digest"]  # what is prepared from other text is other data
    require_same(known, current, allow=allow)
    return found


def _why_not(name: str) -> str:
    """Why a difference can never be allowed; empty where it can."""
    part, _, rest = name.partition(".")
    if name == "vocabularies" or name.startswith("data.subwords."):
        return "its ids would mean other subwords"
    if part == "model" and not rest.endswith("dropout") and rest not in _MODEL_MAY_CHANGE:
        return "its weights belong to another model"
    return "its state belongs to another optimizer" if name == "optimizer.kind" else ""


def invalidate_scores(changes: Iterable[Difference]) -> bool:
    """Whether dev scores from before these changes say nothing about those after."""
    return any(item.name.startswith(_MEASURE) for item in changes)


def best_weights(folder: Path, progress: Progress) -> tuple[int, dict[str, Tensor]] | None:
    """What was the model at the best step, and that step; None where its checkpoint is not kept, damaged, or the newest."""
    for path in checkpoints.checkpoints(folder):
        if int(path.name.rpartition("-")[2]) == progress.best_step < progress.step:
            with suppress(ModelError):
                tensors = checkpoints.load_checkpoint(path, expected={"model": None, "average": None}).tensors
                return progress.best_step, tensors["average"] or tensors["model"]
    return None
