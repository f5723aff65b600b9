"""Checkpoints, written atomically and verified, and the comparison of two setups.

    runs/en-fr/state/step-002000/  model.safetensors  optimizer.safetensors  state.json  manifest.json

Resume is bit-identical: every tensor is restored exactly. No pickle: tensors are safetensors, the rest is JSON.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.errors import ModelError, UsageError
from vitrail.files import (
    Damaged,
    FileEntry,
    holds_others,
    is_published,
    publish_folder,
    read_manifest,
    remove_folder,
    verify_file,
    verify_folder,
)

FORMAT = 1
STATE = "state.json"
_STEP = re.compile(r"step-(\d{6,18})")
_SUFFIX = ".safetensors"
_ANOTHER_COPY = "copy the folder again, or train in a new one"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_log = logging.getLogger(__name__)

CheckpointFacts = dict[str, Any]
"""Plain JSON values: numbers (finite), text, lists, tables, true, false, null."""


class Spec(NamedTuple):
    """The expected shape and dtype of a tensor, checked before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Checkpoint(NamedTuple):
    """A checkpoint as it was saved: tensors by group and name, tied names sharing one tensor again."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    facts: CheckpointFacts


def specs(tensors: Mapping[str, Tensor]) -> dict[str, Spec]:
    """The shape and dtype of each tensor, for `expected`."""
    return {name: Spec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


# ---- saving ----------------------------------------------------------------------------------------------------------------------


def save_checkpoint(folder: Path, *, step: int, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> Path:
    """Write `state/step-NNNNNN` in a run's folder: one safetensors file per group, the facts, the manifest; atomically.

    Tensors that are tied (the same memory under several names) are stored once and tied again on loading.
    Args:    tensors: {"model": {...}, "optimizer": {...}, "average": {...}}; a group without tensors gets a file too.
    Returns: the checkpoint's folder. One of the same step is replaced.
    Raises:  NotWritten when the disk refuses; earlier checkpoints are intact.
    Cost:    one group at a time is held in memory a second time.
    """
    path = folder / "state" / f"step-{step:06d}"
    aliases: dict[str, dict[str, str]] = {}
    with publish_folder(path, ours=_is_checkpoint) as target:
        for group, named in tensors.items():
            kept, aliases[group] = _without_ties(named)
            target.write(group + _SUFFIX, safetensors.torch.save(kept))
        state = {"format": FORMAT, "step": step, "aliases": aliases, "facts": dict(facts)}
        target.write(STATE, (json.dumps(state, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder with a checkpoint's name is one, perhaps damaged."""
    return is_published(path) or (path / STATE).exists() or any(path.glob(f"*{_SUFFIX}"))


def _without_ties(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors ready to be written, and {tied name: name with its values}."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    memories: set[int] = set()
    for name, tensor in named.items():
        place = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if place in first:
            aliases[name] = first[place]
            continue
        first[place] = name
        tensor = tensor.detach().cpu().contiguous()
        # Two views of one memory must be two tensors in the file: safetensors refuses what it takes for tied.
        memory = tensor.untyped_storage()
        kept[name] = tensor.clone() if memory.nbytes() != tensor.nbytes or memory.data_ptr() in memories else tensor
        memories.add(memory.data_ptr())
    return kept, aliases


# ---- loading ---------------------------------------------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, oldest first, unverified."""
    found = [(int(match[1]), path) for path in (folder / "state").glob("step-*") if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def load_latest(folder: Path, *, expected: Mapping[str, Mapping[str, Spec] | None], optional: Collection[str] = ()) -> Checkpoint | None:
    """The newest good checkpoint of a run's folder; each newer one that is damaged costs one warning line with file and reason.

    Args:    expected: the groups to load, with the shape and dtype of every tensor in them; None where the caller checks
             those itself, as `restore_optimizer` does.
             optional: which of these groups may be absent.
    Returns: None where nothing was saved yet.
    Raises:  ModelError when all are damaged, when one is of a newer format, or when tensors are not as expected: an older checkpoint would
    not be either, and going back without a message would lose work.
    """
    refused: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            found = load_checkpoint(path, expected=expected, optional=optional)
        except Damaged as error:
            refused.append(error.found)
            continue
        for reason in refused:
            _log.warning("%s; resuming from %s instead", reason, path.name)
        return found
    if refused:
        raise ModelError(f"{folder}: no checkpoint can be used: " + "; ".join(refused), remedy=_ANOTHER_COPY)
    return None


def load_checkpoint(path: Path, *, expected: Mapping[str, Mapping[str, Spec] | None], optional: Collection[str] = ()) -> Checkpoint:
    """Load one checkpoint, verified: manifest, shapes and dtypes before any tensor is read, then finite values.

    Args:   expected, optional: as for `load_latest`.
    Raises: Damaged naming the file; ModelError when it is of a newer format or its tensors are not as expected.
    """
    entries = verify_folder(path)
    if STATE not in entries:
        raise Damaged(f"{path / STATE}: is not in the manifest", remedy=_ANOTHER_COPY)
    state = _read_state(path)
    tensors: dict[str, dict[str, Tensor]] = {}
    for group, wanted in expected.items():
        file = path / (group + _SUFFIX)
        if file.name not in entries:
            if group in optional:
                continue
            raise ModelError(f"{path}: has no {file.name}", remedy=_ANOTHER_COPY)
        with _opened(file) as content:
            aliases = _checked_aliases(file, content, state.aliases.get(group, {}))
            if wanted is not None:
                _require_specs(file, _header(content, aliases), wanted)
            # A copy: some releases of safetensors hand out the mapped file, which another process could still change or cut.
            tensors[group] = {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118
        for name, tensor in tensors[group].items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise Damaged(f"{file}: {name} holds NaN or infinity", remedy=_ANOTHER_COPY)
        tensors[group] |= {alias: tensors[group][name] for alias, name in aliases.items()}
    return Checkpoint(path, state.step, tensors, state.facts)


class _State(NamedTuple):
    step: int
    aliases: dict[str, dict[str, str]]
    facts: CheckpointFacts


def _read_state(path: Path) -> _State:
    """Read `state.json`. Precondition: the file was verified."""
    file = path / STATE
    try:
        table = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise Damaged(f"{file}: cannot be read as JSON", remedy=_ANOTHER_COPY) from None
    match table:
        case {"format": int(number)} if number > FORMAT:
            raise ModelError(
                f"{file}: has format {number}", expected=f"format {FORMAT} or older", remedy="update vitrail: pip install -U vitrail"
            )
        case {"format": 1, "step": int(step), "aliases": dict(aliases), "facts": dict(facts)} if path.name == f"step-{step:06d}":
            return _State(step, {str(group): _names(file, names) for group, names in aliases.items()}, {**facts})
        case _:
            raise Damaged(f"{file}: is not the state of {path.name}", remedy=_ANOTHER_COPY)


def _names(file: Path, value: Any) -> dict[str, str]:
    match value:
        case dict(names) if all(isinstance(name, str) for pair in names.items() for name in pair):
            return {str(alias): str(name) for alias, name in names.items()}
        case _:
            raise Damaged(f"{file}: aliases are not pairs of names", remedy=_ANOTHER_COPY)


@contextmanager
def _opened(file: Path) -> Generator[safe_open, None, None]:
    """A safetensors file open for reading its header and tensors. Raises Damaged for any other file."""
    try:
        with safe_open(file, "pt") as content:
            yield content
    except SafetensorError as error:
        raise Damaged(f"{file}: is not a safetensors file: {error}", remedy=_ANOTHER_COPY) from None


def _checked_aliases(file: Path, content: safe_open, aliases: dict[str, str]) -> dict[str, str]:
    stored = set(content.keys())
    for alias, name in aliases.items():
        if alias in stored or name not in stored:
            raise Damaged(f"{file}: {alias} cannot be tied to {name}", remedy=_ANOTHER_COPY)
    return aliases


def _header(content: safe_open, aliases: Mapping[str, str]) -> dict[str, Spec | None]:
    """Shape and dtype of every name, read without the values; None for a dtype that we never write."""
    header: dict[str, Spec | None] = {}
    for name in content.keys():  # noqa: SIM118 - not a mapping
        part = content.get_slice(name)
        dtype = _DTYPES.get(part.get_dtype())
        header[name] = None if dtype is None else Spec(tuple(part.get_shape()), dtype)
    return header | {alias: header[name] for alias, name in aliases.items()}


def _require_specs(file: Path, found: Mapping[str, Spec | None], wanted: Mapping[str, Spec]) -> None:
    wrong = [
        name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name) or (name in found) != (name in wanted)
    ]
    if not wrong:
        return
    shown = "; ".join(f"{name}: {_describe(found.get(name))} instead of {_describe(wanted.get(name))}" for name in wrong[:5])
    more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    raise ModelError(
        f"{file}: does not fit this configuration: {shown}{more}",
        remedy="use the configuration that the run was started with, or train in a new folder",
    )


def _describe(spec: Spec | None) -> str:
    return "nothing" if spec is None else f"{list(spec.shape)} {str(spec.dtype).removeprefix('torch.')}"


# ---- optimizers ------------------------------------------------------------------------------------------------------------------


class FlatOptimizer(NamedTuple):
    """An optimizer's state as named tensors ("0.exp_avg") and plain facts (learning rates, betas, ...)."""

    tensors: dict[str, Tensor]
    facts: CheckpointFacts


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> FlatOptimizer:
    """Flatten an optimizer's state for saving; `restore_optimizer` restores it, to the bit."""
    saved = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    state: CheckpointFacts = {}
    for index, values in saved["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else state)[f"{index}.{key}"] = value
    groups: list[CheckpointFacts] = []
    for number, group in enumerate(saved["param_groups"]):
        tensors |= {f"group{number}.{key}": value for key, value in group.items() if isinstance(value, Tensor)}
        groups.append({key: value for key, value in group.items() if not isinstance(value, Tensor)})
    return FlatOptimizer(tensors, {"kind": type(optimizer).__name__, "state": state, "groups": groups})


def restore_optimizer(optimizer: torch.optim.Optimizer, *, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Load the state from `flatten_optimizer` into a new optimizer.

    Raises: ModelError for another kind, other parameters, or a tensor without its parameter's shape. (A tensor of
            one element, such as a step count, may belong to a parameter of any shape.)
    """
    current = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if facts["kind"] != type(optimizer).__name__:
        raise _other_optimizer(f"is of {facts['kind']}, not of {type(optimizer).__name__}")
    owned = [(group["params"], group.get("param_names")) for group in current["param_groups"]]
    if [(group["params"], group.get("param_names")) for group in facts["groups"]] != owned:
        raise _other_optimizer("is of other parameters")
    state: dict[int, dict[str, Any]] = {}
    groups = [_as_before(group, like) for group, like in zip(facts["groups"], current["param_groups"], strict=True)]
    for name, value in (*tensors.items(), *facts["state"].items()):
        owner, _, key = name.partition(".")
        if owner.startswith("group") and owner[5:].isdecimal() and int(owner[5:]) < len(groups):
            groups[int(owner[5:])][key] = value
        elif owner.isdecimal() and int(owner) < len(parameters):
            shape = parameters[int(owner)].shape
            if isinstance(value, Tensor) and value.numel() != 1 and value.shape != shape:
                raise _other_optimizer(f"has {name} of shape {list(value.shape)} for a parameter of shape {list(shape)}")
            state.setdefault(int(owner), {})[key] = value
        else:
            raise _other_optimizer(f"has {name}, which belongs to no parameter")
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _as_before(group: Mapping[str, Any], like: Mapping[str, Any]) -> CheckpointFacts:
    """A parameter group as it was before JSON made lists of its tuples."""
    return {key: tuple(value) if isinstance(like.get(key), tuple) else value for key, value in group.items()}


def _other_optimizer(reason: str) -> ModelError:
    return ModelError(
        f"the saved optimizer state {reason}", remedy="use the configuration that the run was started with, or train in a new folder"
    )


# ---- keeping and averaging -------------------------------------------------------------------------------------------------------


def _no_metric(facts: CheckpointFacts) -> float | None:
    return None


def prune(
    folder: Path, *, keep_last: int, keep_best: int = 0, metric: Callable[[CheckpointFacts], float | None] = _no_metric
) -> list[Path]:
    """Remove the checkpoints that are neither among the last nor among the best; the newest good one is always kept.

    A checkpoint with foreign files is kept, too.

    Args:    metric: computes a figure from a checkpoint's facts, lower is better; None: it has none.
    Returns: the removed folders. Nothing is removed when none is good.
    Raises:  NotWritten when one cannot be removed; no part of it is visible.
    Cost:    reads the newest checkpoint whole to verify it, and `state.json` of the others.
    """
    assert keep_last >= 1 and keep_best >= 0, "a training needs a checkpoint to go on from"
    found = checkpoints(folder)
    good = next((path for path in reversed(found) if _is_good(path)), None)
    if good is None:
        return []
    ranked = sorted((value, -int(path.name[5:]), path) for path in found if (value := _figure(path, metric)) is not None)
    keep = {good, *found[-keep_last:], *(path for _, _, path in ranked[:keep_best])}
    removed = [path for path in found if path not in keep and not holds_others(path)]
    for path in removed:
        remove_folder(path)
    return removed


def _is_good(path: Path) -> bool:
    try:
        verify_folder(path)
    except ModelError:
        return False
    return True


def _figure(path: Path, metric: Callable[[CheckpointFacts], float | None]) -> float | None:
    try:
        verify_file(path / STATE, read_manifest(path).get(STATE, FileEntry(0, "")))
        facts = _read_state(path).facts
    except ModelError:
        return None
    value = metric(facts)
    return float(value) if value is not None and math.isfinite(value) else None


def average(paths: Sequence[Path], *, group: str = "model") -> dict[str, Tensor]:
    """The mean of one group's tensors over several checkpoints, summed in float64, in the tensors' own dtype.

    Source: checkpoint averaging as in Vaswani et al. 2017, §6.1. Tensors that are not floating point are the last checkpoint's.
    Raises: Damaged naming the file; ModelError when the checkpoints are not of the same shapes.
    Cost:   memory for two checkpoints and for the sums in float64.
    """
    assert paths, "the mean of nothing"
    *others, last = paths
    newest = load_checkpoint(last, expected={group: None}).tensors[group]
    kept, aliases = _without_ties(newest)
    sums = {name: tensor.double() for name, tensor in kept.items() if tensor.is_floating_point()}
    for path in others:
        tensors = load_checkpoint(path, expected={group: specs(newest)}).tensors[group]
        for name, total in sums.items():
            total += tensors[name]
    mean = kept | {name: (total / len(paths)).to(kept[name].dtype) for name, total in sums.items()}
    return mean | {alias: mean[name] for alias, name in aliases.items()}


# ---- the same setup? -------------------------------------------------------------------------------------------------------------


class _Absent:
    """Marks a missing setting, as opposed to null."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


class Difference(NamedTuple):
    """A setting that differs from the saved run's; `ABSENT` where one side does not have it."""

    name: str
    saved: Any
    current: Any

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.saved)} when saved, {_shown(self.current)} now"


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[Difference]:
    """What changed between two nested tables of settings, by dotted name ("data.digest"), in alphabetical order.

    Both are compared as in JSON: a tuple equals a list. 1 equals 1.0, but not true.
    """
    return _differences(json.loads(json.dumps(saved)), json.loads(json.dumps(current)), "")


def _differences(saved: CheckpointFacts, current: CheckpointFacts, prefix: str) -> list[Difference]:
    found: list[Difference] = []
    for name in sorted(saved.keys() | current.keys()):
        before, now = saved.get(name, ABSENT), current.get(name, ABSENT)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        elif before != now or isinstance(before, bool) != isinstance(now, bool):
            found.append(Difference(f"{prefix}{name}", before, now))
    return found


def _shown(value: Any) -> str:
    text = repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def require_same(saved: Mapping[str, Any], current: Mapping[str, Any], *, allow: Collection[str] = ()) -> list[Difference]:
    """Refuse to resume with a changed setup, unless each change is allowed by name ("data.digest") or by a part ("data").

    Returns: the allowed changes, to show to the user.
    Raises:  UsageError that lists every other change.
    """
    found = differences(saved, current)
    refused = [item for item in found if not any(item.name == name or item.name.startswith(f"{name}.") for name in allow)]
    if refused:
        raise UsageError(
            "the run was saved with different settings: " + "; ".join(str(item) for item in refused),
            expected="the same settings, so that the run resumes exactly",
            remedy="train in a new folder, or allow each change: " + " ".join(f"--allow-change {item.name}" for item in refused),
        )
    return found
