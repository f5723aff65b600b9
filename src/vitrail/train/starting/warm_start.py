"""Start from other models: check that they fit, take their weights, freeze what shall stay, and tell it all.

Everything is read and compared before the first weight is changed. A resumed run does not read the other models again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import TrainingError, UsageError
from vitrail.models.adapters import add_adapters, digest_of
from vitrail.models.base import Model, unique_tensors
from vitrail.models.model_folder import LoadedFolder, digest_of_folder, load_with_digest, read_model_config
from vitrail.models.places import TABLES
from vitrail.models.transfer import Asked, Part, describe_parts, require_fitting, require_untangled, side_of_table, take
from vitrail.nn.layers import MaskedBatchNorm
from vitrail.nn.lora import is_adapter, plain_name
from vitrail.runtime.ranks import Ranks
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.init_config import InitConfig, in_order

Taken = dict[str, Any]
"""What was taken, as plain JSON values: `parts`, `fresh`, and the names of `frozen` weights."""


def donor_digests(config: RunConfig) -> list[str | None]:
    """The digest of each model that weights are taken from; None where it is gone, for a run that resumes without it."""
    return [digest_of_folder(part.folder) if part.folder.exists() else None for part in config.init]


def read_digests(config: RunConfig, taken: Taken, ranks: Ranks) -> list[str]:
    """The digests of the models that were read, which another training may have replaced since `donor_digests` looked.

    Raises TrainingError where another process has read another version.
    """
    known = {(asked.role, asked.folder): part["digest"] for asked, part in zip(in_order(config.init), taken["parts"], strict=True)}
    found = [known[part.role, part.folder] for part in config.init]
    own = torch.tensor([int(digest[:12], 16) for digest in found])
    everywhere = own.clone()
    ranks.sum(everywhere)
    if ranks.any(not torch.equal(everywhere, own * ranks.world)):
        raise TrainingError("init: a model was replaced while several processes read it", remedy="the same command again")
    return found


def require_donors(config: RunConfig) -> None:
    """Refuse, by settings alone, models that do not fit. Raises UsageError, and ModelError where there is no model."""
    require_fitting(asked_parts(config.init), config.model)


def asked_parts(parts: tuple[InitConfig, ...]) -> list[Asked]:
    """What is asked for, in the order in which it is taken. Raises ModelError where there is no model."""
    return [Asked(part.role, str(part.folder), _read_config(part.folder)) for part in in_order(parts)]


def _read_config(folder: Path) -> Any:
    return read_model_config(folder)  # a folder of word vectors has no model: its reader will stand beside this one


def start_from(model: Model, config: RunConfig, vocabularies: Vocabularies) -> Taken:
    """Take the weights that the configuration names. Raises before anything is changed: ModelError, UsageError."""
    own = model.shared_weights()
    read: dict[Path, tuple[LoadedFolder, str]] = {}
    parts: list[Part] = []
    for part in in_order(config.init):
        donor, _ = read[part.folder] = read.get(part.folder) or load_with_digest(part.folder)
        parts.append(Part(part.role, str(part.folder), take(part.role, model, vocabularies, donor, named=str(part.folder))))
    require_untangled(parts, own)
    for part in parts:
        for name, value in part.transfer.values.items():
            own[name].copy_(value)
    own_tensors = unique_tensors(model)
    frozen = [part for part, asked in zip(parts, in_order(config.init), strict=True) if asked.freeze]
    memories = {own[name].data_ptr() for part in frozen for name in part.transfer.values}
    taken = {own[name].data_ptr() for part in parts for name in part.transfer.values}
    told: Taken = {
        "parts": [
            _told(part, own, donor=read[asked.folder], frozen=asked.freeze)
            for part, asked in zip(parts, in_order(config.init), strict=True)
        ],
        "fresh": describe_parts([name for name, tensor in own.items() if tensor.data_ptr() not in taken], of=own),
        "frozen": [name for name, tensor in own_tensors.items() if tensor.data_ptr() in memories],
    }
    if config.lora.rank:
        tables = [(part, name) for part in parts for name in part.transfer.values if name in TABLES]
        partly = {own[name].data_ptr() for part, name in tables if _has_fresh(part, name, own)}
        told["base"] = [name for name, tensor in own_tensors.items() if tensor.data_ptr() in taken - partly]
        whole = [read[part.folder][0] for part in config.init if part.role == "all"]
        digest = digest_of(own_tensors)
        same = whole and whole[0].vocabularies.digest == vocabularies.digest and digest_of(unique_tensors(whole[0].model)) == digest
        told["adapter_base"] = digest if same else None
    return told


def _has_fresh(part: Part, name: str, own: Mapping[str, Tensor]) -> bool:
    rows = part.transfer.rows[side_of_table(name, own)]
    return rows.fresh > 0


def _told(part: Part, own: Mapping[str, Tensor], *, donor: tuple[LoadedFolder, str], frozen: bool) -> dict[str, Any]:
    tokens = {side: {"exact": rows.exact, "composed": rows.composed, "fresh": rows.fresh} for side, rows in part.transfer.rows.items()}
    folder = Path(part.named)
    return {
        "role": part.role,
        "model": folder.absolute().parent.name if folder.name == "model" else folder.name,
        "kind": donor[0].config.kind,
        "digest": donor[1],
        "frozen": frozen,
        "taken": describe_parts(part.transfer.values, of=own),
        "tokens": tokens,
    }


def to_lines(taken: Taken) -> list[str]:
    """What was taken, composed and left, for people."""
    lines: list[str] = []
    for part in taken["parts"]:
        lines.append(f"{part['role']} from {part['model']} ({part['kind']}): {', '.join(part['taken'])}{'; frozen' * part['frozen']}")
        for side, tokens in part["tokens"].items():
            lines.append(f"  {side} tokens: {tokens_to_text(tokens)}")
            if part["frozen"] and tokens["fresh"]:
                lines.append(
                    f"  WARNING: {tokens['fresh']:,} tokens without a vector of that model stay as they were drawn, since they are frozen"
                )
    lines.append(f"fresh: {', '.join(taken['fresh']) or 'nothing'}")
    if "base" in taken:
        lines.append("adapters: what was taken stays as it is; they are trained beside it, and merged into the model that is saved")
        if taken["adapter_base"] is None:
            lines.append("  no adapter is saved by itself: that needs all of one model and its own vocabulary (data.subwords.taken_from)")
    return lines


def tokens_to_text(tokens: Mapping[str, int]) -> str:
    """How the tokens of a vocabulary got their vectors."""
    if not tokens["composed"] and not tokens["fresh"]:
        return f"every row taken ({tokens['exact']:,})"
    return f"{tokens['exact']:,} taken as they are, {tokens['composed']:,} composed of others, {tokens['fresh']:,} fresh"


def as_trained(model: Model, config: RunConfig, taken: Taken) -> tuple[nn.Module, ...]:
    """Give a model its adapters, and freeze what shall stay. Returns the parts that stay in evaluation mode while training.

    These are the parts that are frozen as a whole; beside adapters, batch norms alone.
    Raises UsageError where nothing is left to train.
    """
    frozen = set(taken.get("frozen", ()))
    _freeze(model, frozen)
    resting = list(_frozen_wholes(model)) if frozen else []
    if config.lora.rank:
        add_adapters(model, config.lora, without=frozen)
        _freeze(model, {*frozen, *taken.get("base", ())})
        norms = [part for part in model.modules() if isinstance(part, MaskedBatchNorm)]
        resting += [norm for norm in norms if not any(parameter.requires_grad for parameter in norm.parameters())]
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("init: every weight is frozen, so that there is nothing to train", remedy="--set init.0.freeze=false")
    return tuple(dict.fromkeys(resting))


def _freeze(model: Model, names: Collection[str]) -> None:
    for name, parameter in model.named_parameters():
        if plain_name(name) in names and not is_adapter(name):
            parameter.requires_grad_(False)


def _frozen_wholes(module: nn.Module) -> Iterable[nn.Module]:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
    else:
        for child in module.children():
            yield from _frozen_wholes(child)


def frozen_tensors(model: Model, resting: Sequence[nn.Module]) -> set[str]:
    """The names of weights that no step changes: frozen parameters, and the running statistics of frozen norms."""
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    statistics = {id(buffer) for part in resting for buffer in part.buffers()}
    return still | {name for name, buffer in model.named_buffers() if id(buffer) in statistics}
