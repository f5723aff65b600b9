"""Start from other models: check that they fit, take their weights, freeze what shall stay, and tell it all.

Everything is read and compared before the first weight is changed. A resumed run does not read the other models again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import UsageError
from vitrail.models.base import Model, unique_tensors
from vitrail.models.model_folder import LoadedFolder, digest_of_folder, load_folder, read_model_config
from vitrail.models.transfer import Part, describe_parts, require_fitting, require_untangled, take
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.init_config import in_order

Taken = dict[str, Any]
"""What was taken, as plain JSON values: `parts`, `fresh`, and the names of `frozen` weights."""


def donor_digests(config: RunConfig) -> list[str | None]:
    """The digest of each model that weights are taken from; None where it is gone, for a run that resumes without it."""
    return [digest_of_folder(part.folder) if part.folder.exists() else None for part in config.init]


def require_donors(config: RunConfig) -> None:
    """Refuse, by settings alone, models that do not fit. Raises UsageError, and ModelError where there is no model."""
    for part in config.init:
        require_fitting(part.role, config.model, _read_config(part.folder), named=str(part.folder))


def _read_config(folder: Path) -> Any:
    return read_model_config(folder)  # a folder of word vectors has no model: its reader will stand beside this one


def start_from(model: Model, config: RunConfig, vocabularies: Vocabularies) -> Taken:
    """Take the weights that the configuration names. Raises before anything is changed: ModelError, UsageError."""
    own = model.shared_weights()
    donors: dict[Path, LoadedFolder] = {}
    parts: list[Part] = []
    for part in in_order(config.init):
        donor = donors[part.folder] = donors.get(part.folder) or load_folder(part.folder)
        parts.append(Part(part.role, str(part.folder), take(part.role, model, vocabularies, donor, named=str(part.folder))))
    require_untangled(parts, own)
    for part in parts:
        for name, value in part.transfer.values.items():
            own[name].copy_(value)
    frozen = [part for part, asked in zip(parts, in_order(config.init), strict=True) if asked.freeze]
    memories = {own[name].data_ptr() for part in frozen for name in part.transfer.values}
    taken = {own[name].data_ptr() for part in parts for name in part.transfer.values}
    return {
        "parts": [
            _told(part, own, kind=donors[asked.folder].config.kind, frozen=asked.freeze)
            for part, asked in zip(parts, in_order(config.init), strict=True)
        ],
        "fresh": describe_parts([name for name, tensor in own.items() if tensor.data_ptr() not in taken], of=own),
        "frozen": [name for name, tensor in unique_tensors(model).items() if tensor.data_ptr() in memories],
    }


def _told(part: Part, own: Mapping[str, Tensor], *, kind: str, frozen: bool) -> dict[str, Any]:
    tokens = {side: {"exact": rows.exact, "composed": rows.composed, "fresh": rows.fresh} for side, rows in part.transfer.rows.items()}
    folder = Path(part.named)
    return {
        "role": part.role,
        "model": folder.absolute().parent.name if folder.name == "model" else folder.name,
        "kind": kind,
        "digest": digest_of_folder(folder),
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
    return lines


def tokens_to_text(tokens: Mapping[str, int]) -> str:
    """How the tokens of a vocabulary got their vectors."""
    if not tokens["composed"] and not tokens["fresh"]:
        return f"every row taken ({tokens['exact']:,})"
    return f"{tokens['exact']:,} taken as they are, {tokens['composed']:,} composed of others, {tokens['fresh']:,} fresh"


def freeze(model: Model, names: Collection[str]) -> tuple[nn.Module, ...]:
    """Freeze these weights. Returns the parts that are frozen as a whole: they stay in evaluation mode.

    Raises UsageError where nothing is left to train.
    """
    if not names:
        return ()
    parameters = dict(model.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UsageError("init: every weight is frozen, so that there is nothing to train", remedy="--set init.0.freeze=false")
    return tuple(_frozen_wholes(model))


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
