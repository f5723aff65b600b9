"""The model folder: everything that translation needs, portable, verified, without pickle. `stored` reads it; here it becomes a model.

model/  config.json  model.safetensors  joint.spm | source.spm + target.spm  README.md  FORMAT  manifest.json
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.files import publish_folder, read_whole
from vitrail.models.architectures import MODEL_KINDS, TASK_MODELS, AnyConfig, ModelConfig
from vitrail.models.base import Model, TranslationModel, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.stored import (
    ANOTHER_COPY,
    CONFIG,
    FORMAT,
    README,
    USES,
    WEIGHTS,
    StoredModel,
    TensorKind,
    digest_of_folder,
    is_model,
    model_folder,
    of_another_task,
    read_once,
    read_stored,
    read_stored_translator,
)


class LoadedFolder(NamedTuple):
    """A model of any kind, with its configuration, vocabularies and facts."""

    model: Model
    config: AnyConfig
    vocabularies: Vocabularies
    facts: dict[str, Any]
    """Facts from its training."""


class LoadedModel(NamedTuple):
    """A model that translates, with its configuration, vocabularies and facts."""

    model: TranslationModel
    config: ModelConfig
    vocabularies: Vocabularies
    facts: dict[str, Any]
    """Facts from its training: languages, scores, the longest source that it saw."""


def save_model(
    folder: Path,
    *,
    tensors: Mapping[str, Tensor],
    config: AnyConfig,
    vocabularies: Vocabularies,
    facts: Mapping[str, Any],
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write the model folder atomically. An existing one is replaced; foreign files in it are kept.

    Args:    tensors: those of `unique_tensors`, or their average. facts: plain JSON values. more: further files, such as an adapter's.
    Raises:  UsageError where something else is there; NotWritten when the disk refuses. The old folder is then intact.
    """
    document = {
        "format": FORMAT,
        "kind": config.kind,
        "model": config.model_dump(mode="json"),
        "vocabularies": {"files": list(vocabularies.files()), "digest": vocabularies.digest},
        "facts": dict(facts),
    }
    with publish_folder(folder, ours=is_model, edited=(README,)) as out:
        plain = {
            name: tensor.detach().float().cpu().contiguous() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
        }
        out.write(WEIGHTS, safetensors.torch.save(plain))
        for name, vocabulary in vocabularies.files().items():
            out.write(name, vocabulary.to_bytes())
        for name, data in (more or {}).items():
            out.write(name, data)
        out.write(CONFIG, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
        out.write("FORMAT", f"{FORMAT}\n".encode())
        out.write(README, _readme(config, facts).encode())


def load_model(folder: Path, *, device: torch.device | None = None) -> LoadedModel:
    """Read the folder of a model that translates. Raises what `load_folder` does, and ModelError for a model of another kind."""
    stored = read_stored_translator(folder)
    assert isinstance(stored.config, ModelConfig)
    return LoadedModel(build_stored_translator(stored, device=device), stored.config, stored.vocabularies, stored.facts)


def load_folder(folder: Path, *, device: torch.device | None = None) -> LoadedFolder:
    """Read a model folder, or the one in a run's folder, as `read_stored` does, and build the model.

    Raises ModelError naming the file and the reason, also where tensors do not fit the configuration.
    """
    return _loaded(read_stored(folder), device)


def load_with_digest(folder: Path) -> tuple[LoadedFolder, str]:
    """As `load_folder`, with the digest of the very files that were read; see `digest_of_folder`."""
    place = model_folder(folder)
    stored, digest = read_whole(place, lambda: (read_once(place), digest_of_folder(place)))
    return _loaded(stored, None), digest


def _loaded(stored: StoredModel, device: torch.device | None) -> LoadedFolder:
    return LoadedFolder(build_stored(stored, device=device), stored.config, stored.vocabularies, stored.facts)


def build_stored(stored: StoredModel, *, device: torch.device | None = None) -> Model:
    """The model of a folder, in evaluation mode. Raises ModelError where no model can be built, or the tensors do not fit it."""
    path = stored.folder / CONFIG
    try:
        with torch.device("meta"):
            wanted = unique_tensors(build_model(stored.config, stored.vocabularies))
    except (UsageError, RuntimeError, TypeError) as error:  # torch raises the last two for sizes beyond 64 bits
        raise ModelError(f"{path}: no model can be built from it: {str(error).splitlines()[0]}", remedy=ANOTHER_COPY) from None
    stored.require({name: TensorKind(tuple(one.shape), str(one.dtype).removeprefix("torch.")) for name, one in wanted.items()})
    model = build_model(stored.config, stored.vocabularies)
    fill(model, {name: torch.from_numpy(tensor) for name, tensor in stored.tensors.items()})
    return model.to(torch.device("cpu") if device is None else device).eval()


def build_stored_translator(stored: StoredModel, *, device: torch.device | None = None) -> TranslationModel:
    """The same of a folder whose model translates. Raises ModelError for another."""
    model = build_stored(stored, device=device)
    if not isinstance(model, TranslationModel):
        raise of_another_task(stored.folder, stored.config, expected="translation")
    return model


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into a model. Precondition: the names and shapes of `unique_tensors(model)`."""
    with torch.no_grad():
        for name, place in unique_tensors(model).items():
            place.copy_(tensors[name])


def _origins(init: Mapping[str, Any] | None) -> list[str]:
    """Where a model's first weights came from."""
    if init is None:
        return []
    lines = ["", "Its training started from other models:", ""]
    for part in init["parts"]:
        lines.append(f"- {part['role']} from {part['model']} ({part['kind']}, SHA-256 {part['digest'][:12]}): {', '.join(part['taken'])}")
        lines[-1] += "; frozen" * part["frozen"]
        lines += [
            f"  - which started from {one['model']} ({one['kind']}, SHA-256 {one['digest'][:12]})" for one in part.get("ancestors", ())
        ]
        for side, tokens in part["tokens"].items():
            lines.append(f"  - {side} tokens: " + ", ".join(f"{number:,} {how}" for how, number in tokens.items()))
            if side in part.get("text", {}):
                lines[-1] += f"; {part['text'][side]:.1%} of the text"
    return [*lines, f"- fresh: {', '.join(init['fresh']) or 'nothing'}"]


def _readme(config: AnyConfig, facts: Mapping[str, Any]) -> str:
    task = MODEL_KINDS[config.kind].task
    lines = [f"- {name}: {value}" for name, value in facts.items() if name != "init"]
    what = "A translator" if task == "translation" else TASK_MODELS[task].capitalize()
    use = f"`vitrail {USES[task].verb} PATH`, or `{USES[task].python}`."
    return "\n".join([f"# {what} trained with Vitrail", "", *lines, *_origins(facts.get("init")), "", use, ""])
