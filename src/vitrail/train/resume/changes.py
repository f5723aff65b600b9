"""Whether a training can resume: its checkpoint, changed settings, and model.

Settings may differ if the user allows them by name and the saved state stays valid. All settings can be allowed, except those that its
weights and its optimizer depend on: the ids of the vocabularies, the architecture, the kind of optimizer. New text is possible, too, if it
gives the same vocabulary.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.config import Duration
from vitrail.data.preparing.fingerprints import fingerprint
from vitrail.errors import ModelError, UsageError
from vitrail.runtime.device import choose_device, choose_dtype
from vitrail.train.loop import Progress, done_share
from vitrail.train.resume import checkpoints
from vitrail.train.resume.checkpoints import Checkpoint, Difference, differences, require_same
from vitrail.train.run_config import RunConfig
from vitrail.train.run_folder import holds_model
from vitrail.train.starting.warm_start import donor_digests
from vitrail.version import __version__

LENGTH = "train.duration"
STATE = "state"
"""If allowed, a new training may start in a folder whose model has no checkpoint left."""

_MODEL_MAY_CHANGE = frozenset({"variational", "truncate", "forget_bias", "kl_weight", "free_nats"})
"""Settings of a model, besides every dropout, that do not affect existing weights."""
_OF_PREPARED = ("data.digest", "vocabularies")
_MEASURE = ("data.", "train.select", "train.validation_sentences", "vitrail")
"""Settings that dev scores depend on."""


def setup_of(config: RunConfig, data: Mapping[str, Any], *, world: int) -> dict[str, Any]:
    """Everything that decides the bits of a training, under the names of `--set`. Text counts by its bytes, not by its path, and so does a
    model that weights are taken from.

    Args: data: the fingerprint of the prepared data.
    """
    table = config.model_dump(mode="json", exclude={"data", "init"})
    device = choose_device(config.train.device)
    # A newer setting is in a setup only where it is used, so that runs of earlier versions can resume.
    parts = zip(config.init, donor_digests(config), strict=True)
    if config.optimizer.layer_decay == 1:
        del table["optimizer"]["layer_decay"]
    if not config.optimizer.l2_start:
        del table["optimizer"]["l2_start"]
    for name in ("probes", "old_share", "validate_start"):
        if not getattr(config.train, name):
            del table["train"][name]
    if config.train.old_share != "auto":
        del table["train"]["old_lost"]
    if not config.lora.rank:
        del table["lora"]
    table |= {"init": {str(n): {"role": p.role, "freeze": p.freeze, "digest": d} for n, (p, d) in enumerate(parts)}} if config.init else {}
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
    """The newest good checkpoint of a run with everything for a resume. Raises ModelError where all are damaged."""
    parts = {"model": None, "optimizer": None, "average": None, "carried": None, "start": None}
    return checkpoints.load_latest(folder, expected=parts, optional={"carried", "start"})


def allowing_longer(allow: Collection[str], config: RunConfig, checkpoint: Checkpoint | None) -> Collection[str]:
    """What may differ: also the length, of a finished run that is asked to be longer in the same unit."""
    if checkpoint is None or not checkpoint.facts["finished"]:
        return allow
    saved, asked = Duration.parse(str(checkpoint.facts["setup"]["train"]["duration"])), config.train.duration
    return [*allow, LENGTH] if saved.unit == asked.unit and asked.amount > saved.amount else allow


def schedule_ended(checkpoint: Checkpoint, changes: Iterable[Difference], *, steps_per_epoch: int) -> bool | None:
    """Of a finished run that is made longer, whether its schedule had come to its end; None for any other run."""
    if not (checkpoint.facts["finished"] and any(item.name == LENGTH for item in changes)):
        return None
    saved = Duration.parse(str(checkpoint.facts["setup"]["train"]["duration"]))
    return done_share(saved, Progress.from_facts(checkpoint.facts["progress"]), steps_per_epoch=steps_per_epoch) >= 1


def require_resumable(
    config: RunConfig,
    folder: Path,
    checkpoint: Checkpoint | None,
    *,
    world: int,
    allow: Collection[str],
    kept: Mapping[str, Any] | None = None,
) -> None:
    """Compare all settings known before preparation with the newest checkpoint; None where nothing was trained.

    Args:   kept: see `fingerprint`.
    Raises: UsageError where this setup cannot resume it, or where there is a model but no checkpoint.
    """
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


def require_allowed_changes(saved: Mapping[str, Any], current: Mapping[str, Any], *, allow: Collection[str] = ()) -> list[Difference]:
    """Refuse a setup that differs from the saved one, unless every difference is allowed by name and the saved weights stay valid.

    Args:    current: may lack what is known only once the data are prepared: `data.digest` and `vocabularies`.
    Returns: the changes, to show to the user.
    Raises:  UsageError that lists what is not allowed, or what cannot work.
    """
    known = {name: value for name, value in saved.items() if name in current or name not in _OF_PREPARED}
    current = with_kept_donors(saved, current)
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
        allow = [*allow, "data.digest"]  # other text gives other data
    require_same(known, current, allow=allow)
    return found


def with_kept_donors(saved: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """A setup in which models that weights were taken from, and that are gone, have the digest that they had."""
    kept: Mapping[str, Any] = saved.get("init", {})
    parts = {
        number: part | {"digest": kept.get(number, part)["digest"]} if part["digest"] is None else part
        for number, part in current.get("init", {}).items()
    }
    return dict(current) | ({"init": parts} if parts else {})


def _why_not(name: str) -> str:
    """Why a difference can never be allowed; empty where it can."""
    part, _, rest = name.partition(".")
    if name == "vocabularies" or name.startswith("data.subwords."):
        return "its ids would mean other subwords"
    if part == "model" and not rest.endswith("dropout") and not rest.startswith("noise.") and rest not in _MODEL_MAY_CHANGE:
        return "its weights belong to another model"
    if part == "lora" and rest != "dropout":
        return "its weights belong to other adapters"
    if part == "init" and not rest.endswith(".digest"):
        return "its weights were taken at the start"
    return "its state belongs to another optimizer" if name in ("optimizer.kind", "optimizer.layer_decay") else ""


def invalidate_scores(changes: Iterable[Difference]) -> bool:
    """Whether dev scores from before and after these changes cannot be compared."""
    return any(item.name.startswith(_MEASURE) for item in changes)


def best_weights(folder: Path, progress: Progress) -> tuple[int, dict[str, Tensor]] | None:
    """The best step and its weights; None where its checkpoint is not kept, damaged, or the newest."""
    for path in checkpoints.checkpoints(folder):
        if int(path.name.rpartition("-")[2]) == progress.best_step < progress.step:
            with suppress(ModelError):
                tensors = checkpoints.load_checkpoint(path, expected={"model": None, "average": None}).tensors
                return progress.best_step, tensors["average"] or tensors["model"]
    return None
