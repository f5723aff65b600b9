"""The model folder: everything that translation needs, portable, verified, without pickle.

model/  config.json  model.safetensors  joint.spm | source.spm + target.spm  README.md  FORMAT  manifest.json
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.files import (
    MANIFEST,
    is_being_replaced,
    is_json_with,
    is_published,
    publish_folder,
    read_manifest,
    read_whole,
    start_of,
    verify_folder,
)
from vitrail.models.base import Model, TranslationModel, unique_tensors
from vitrail.models.build import MODEL_KINDS, TASK_MODELS, AnyConfig, ModelConfig, TaskName, build_model, read_config

FORMAT = 2
"""Version of the folder, raised when an older program cannot read it; each has an upgrade step and a golden folder in the tests."""

CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
_UNUSED = (README, "FORMAT")
"""Files for people: nothing is loaded from them."""
_ANOTHER_COPY = "copy the folder again"
_MOST_DOCUMENT_BYTES = 16 << 20


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


def is_model(folder: Path) -> bool:
    """Whether a folder was written by `save_model`, though it may be damaged since."""
    return (
        is_published(folder)
        or is_json_with("format", "model", "vocabularies", "facts")(folder / CONFIG)
        or start_of(folder / "FORMAT", 8).strip().isdigit()
    )


def model_folder(folder: Path) -> Path:
    """The model folder: `model/` inside, for a run's folder."""
    inner = folder / "model"
    return inner if not (folder / CONFIG).exists() and (inner.is_dir() or is_being_replaced(inner)) else folder


def task_of_folder(folder: Path) -> TaskName | None:
    """The task of the model in a model folder or a run's folder; None where no model can be read."""
    try:
        return MODEL_KINDS[_read_document(model_folder(folder) / CONFIG)["kind"]].task
    except (ModelError, KeyError):
        return None


def read_model_config(folder: Path) -> AnyConfig:
    """The configuration of the model in a model folder or a run's folder, without its weights. Raises ModelError where there is none."""
    place = model_folder(folder)
    if not (place / CONFIG).exists():
        raise ModelError(f"{folder}: no model is there", expected="a model folder, or a run directory after its first validation")
    return _config_of(place / CONFIG, _read_document(place / CONFIG))


def read_facts(folder: Path) -> dict[str, Any]:
    """What the model in a model folder or a run's folder says of its training. Raises ModelError where there is none."""
    return _read_document(model_folder(folder) / CONFIG)["facts"]


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of the files of a model, in hexadecimal: of what its manifest says of them. Raises ModelError where there is none."""
    place = model_folder(folder)
    if not place.is_dir():
        raise ModelError(f"{folder}: no model is there", expected="a model folder, or a run directory after its first validation")
    entries = read_manifest(place)
    return sha256(json.dumps(sorted((name, entry.sha256) for name, entry in entries.items() if name not in _UNUSED)).encode()).hexdigest()


def load_model(folder: Path, *, device: torch.device | None = None) -> LoadedModel:
    """Read the folder of a model that translates. Raises what `load_folder` does, and ModelError for a model of another kind."""
    model, config, vocabularies, facts = load_folder(folder, device=device)
    if not isinstance(model, TranslationModel) or not isinstance(config, ModelConfig):
        raise of_another_task(folder, config, expected="translation")
    return LoadedModel(model, config, vocabularies, facts)


def of_another_task(folder: str | Path, config: AnyConfig, *, expected: TaskName) -> ModelError:
    """The error for a folder that holds a model of another task than expected; its remedy is the verb for the model that is there."""
    task = MODEL_KINDS[config.kind].task
    found = f"{folder}: holds {TASK_MODELS[task]} ({config.kind})"
    return ModelError(found, expected=TASK_MODELS[expected], remedy=f"vitrail {_USES[task].verb} {folder}")


def load_folder(folder: Path, *, device: torch.device | None = None) -> LoadedFolder:
    """Read a model folder, or the one in a run's folder, after verifying its files against its manifest.

    If a training replaces it at this moment it is read again, so that all files are of one step.
    Raises ModelError naming the file and the reason: missing, damaged, of a newer format, or with another model's vocabulary.
    """
    place = model_folder(folder)
    return read_whole(place, lambda: _load(place, device or torch.device("cpu")))


def load_with_digest(folder: Path) -> tuple[LoadedFolder, str]:
    """As `load_folder`, with the digest of the very files that were read; see `digest_of_folder`."""
    place = model_folder(folder)
    return read_whole(place, lambda: (_load(place, torch.device("cpu")), digest_of_folder(place)))


def _load(folder: Path, device: torch.device) -> LoadedFolder:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no model is there", expected="a model folder, or a run directory after its first validation")
    if not any((folder / name).exists() for name in ("FORMAT", MANIFEST)):
        raise ModelError(f"{folder}: is no Vitrail model", expected="a model folder, or the folder of a run, that vitrail has written")
    entries = verify_folder(folder, unused=_UNUSED)
    for name in (CONFIG, WEIGHTS):
        if name not in entries:
            raise ModelError(f"{folder / name}: is not in the manifest", remedy=_ANOTHER_COPY)
    document = _read_document(folder / CONFIG)
    vocabularies = Vocabularies.load(folder, listed=entries)
    if document["vocabularies"]["digest"] != vocabularies.digest:
        raise ModelError(f"{folder}: its vocabulary belongs to another model", remedy=_ANOTHER_COPY)
    config = _config_of(folder / CONFIG, document)
    if config.kind != document["kind"]:
        raise ModelError(f"{folder / CONFIG}: kind {document['kind']}, but a model of kind {config.kind}", remedy=_ANOTHER_COPY)
    _require_layers(folder / WEIGHTS, config)
    try:
        with torch.device("meta"):
            wanted = unique_tensors(build_model(config, vocabularies))
    except (UsageError, RuntimeError, TypeError) as error:  # torch raises the last two for sizes beyond 64 bits
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder / CONFIG}: no model can be built from it: {reason}", remedy=_ANOTHER_COPY) from None
    tensors = _read_tensors(folder / WEIGHTS, wanted)
    model = build_model(config, vocabularies)
    fill(model, tensors)
    return LoadedFolder(model.to(device).eval(), config, vocabularies, document["facts"])


def _config_of(path: Path, document: Mapping[str, Any]) -> AnyConfig:
    try:
        return read_config(document["model"])
    except ValidationError as error:
        raise ModelError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into a model. Precondition: the names and shapes of `unique_tensors(model)`."""
    with torch.no_grad():
        for name, place in unique_tensors(model).items():
            place.copy_(tensors[name])


def _require_layers(path: Path, config: AnyConfig) -> None:
    """Refuse a configuration with more layers than tensors before anything is built: each layer has several."""
    try:
        with safe_open(path, framework="pt", device="cpu") as content:
            tensors = len(list(content.keys()))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}", remedy=_ANOTHER_COPY) from None
    if config.depth > tensors:
        raise ModelError(f"{path}: {tensors} tensors", expected=f"those of {config.depth} layers", remedy=_ANOTHER_COPY)


def _read_document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_DOCUMENT_BYTES:
            raise ModelError(f"{path}: is larger than {_MOST_DOCUMENT_BYTES:,} bytes", remedy=_ANOTHER_COPY)
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from None
    if not isinstance(document, dict) or type(document.get("format")) is not int or document["format"] < 1:
        raise ModelError(f"{path}: not the configuration of a model")
    if document["format"] > FORMAT:
        raise ModelError(f"{path}: format {document['format']}", expected=f"format {FORMAT} or older", remedy="update vitrail")
    missing = {"model", "vocabularies", "facts"} - document.keys()
    if missing:
        raise ModelError(f"{path}: lacks {', '.join(sorted(missing))}", remedy=_ANOTHER_COPY)
    if not isinstance(document["facts"], dict):
        raise ModelError(f"{path}: facts is not a table", remedy=_ANOTHER_COPY)
    if document["format"] == 1:
        document = _from_format_1(document)  # pyright: ignore[reportUnknownArgumentType]
    match document:
        case {"kind": str(), "model": dict(), "vocabularies": {"digest": str()}}:
            return document  # pyright: ignore[reportUnknownVariableType]
        case _:
            raise ModelError(f"{path}: kind, model or vocabularies are invalid", remedy=_ANOTHER_COPY)


def _from_format_1(document: dict[str, Any]) -> dict[str, Any]:
    """Upgrade format 1: it had the kind inside `model`, or none for a Transformer, and only the digest of the vocabularies."""
    model = document["model"]
    kind = model.get("kind", "transformer") if isinstance(model, dict) else "none"  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return document | {"kind": kind, "vocabularies": {"digest": document["vocabularies"]}}


def _read_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read weights, after checking that their names and shapes fit the configuration."""
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    try:
        with safe_open(path, framework="pt", device="cpu") as content:
            names: list[str] = list(content.keys())
            found = {name: tuple(content.get_slice(name).get_shape()) for name in names}
            for name in sorted(found.keys() | shapes.keys()):
                if found.get(name) != shapes.get(name):
                    raise ModelError(f"{path}: {name} is {found.get(name)}", expected=str(shapes.get(name)), remedy=_ANOTHER_COPY)
            tensors = {name: content.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}", remedy=_ANOTHER_COPY) from None
    for name, tensor in tensors.items():
        if tensor.dtype != wanted[name].dtype:
            raise ModelError(f"{path}: {name} holds {tensor.dtype}", expected=str(wanted[name].dtype), remedy=_ANOTHER_COPY)
        if not tensor.isfinite().all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite", remedy="use an earlier checkpoint, or train again")
    return tensors


class _Use(NamedTuple):
    """How a model is used."""

    verb: str
    python: str


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


_USES: dict[TaskName, _Use] = {
    "translation": _Use("translate", 'vitrail.load("PATH").translate("...")'),
    "language": _Use("generate", 'vitrail.load("PATH").generate("...")'),
    "masked": _Use("fill", 'vitrail.load("PATH").fill("... [MASK] ...")'),
    "classification": _Use("classify", 'vitrail.load("PATH").classify("...")'),
    "autoencoding": _Use("translate", 'vitrail.Autoencoder.load("PATH").reconstruct(["..."])'),
}


def _readme(config: AnyConfig, facts: Mapping[str, Any]) -> str:
    task = MODEL_KINDS[config.kind].task
    lines = [f"- {name}: {value}" for name, value in facts.items() if name != "init"]
    what = "A translator" if task == "translation" else TASK_MODELS[task].capitalize()
    use = f"`vitrail {_USES[task].verb} PATH`, or `{_USES[task].python}`."
    return "\n".join([f"# {what} trained with Vitrail", "", *lines, *_origins(facts.get("init")), "", use, ""])
