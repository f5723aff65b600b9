"""A model's folder, read without torch: its configuration, vocabularies and facts, and its tensors as arrays.

model/  config.json  model.safetensors  joint.spm | source.spm + target.spm  README.md  FORMAT  manifest.json
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from vitrail.config import reason
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import ModelError
from vitrail.files import (
    MANIFEST,
    holds,
    is_being_replaced,
    is_json_with,
    is_published,
    publish_folder,
    read_manifest,
    read_whole,
    start_of,
    verify_folder,
)
from vitrail.models.architectures import MODEL_KINDS, TASK_MODELS, AnyConfig, ModelConfig, TaskName, read_config

FORMAT = 2
"""Version of the folder, raised when an older program cannot read it; each has an upgrade step and a golden folder in the tests."""

CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
SHORTLIST = "shortlist.safetensors"
"""What a translator's words may become: made of a finished model, and read by those who ask for it; see `vitrail.decode.shortlists`."""
ANOTHER_COPY = "copy the folder again"
_UNUSED = (README, "FORMAT", SHORTLIST)
"""Files for people, from which nothing is loaded, and what is no part of the model itself."""
_MOST_DOCUMENT_BYTES = 16 << 20
_DTYPES = {"F64": "float64", "F32": "float32", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
"""NumPy's name of each type of number that it has."""


class TensorKind(NamedTuple):
    """What a tensor must be."""

    shape: tuple[int, ...]
    dtype: str = "float32"


PackedModel = tuple[str, bytes]
"""A model's configuration as JSON and its weights as safetensors, for another process."""


class StoredModel(NamedTuple):
    """A model as its folder has it, every file verified. Whether its tensors fit its configuration is for `require` to say."""

    folder: Path
    config: AnyConfig
    vocabularies: Vocabularies
    facts: dict[str, Any]
    """Facts from its training."""
    tensors: dict[str, npt.NDArray[Any]]

    def pack(self) -> PackedModel:
        """Configuration and weights; vocabularies are sent apart."""
        return json.dumps(self.config.model_dump(mode="json")), save(self.tensors)

    @classmethod
    def unpack(cls, packed: PackedModel, vocabularies: Vocabularies) -> "StoredModel":
        """The inverse of `pack`, without facts and folder."""
        config, weights = packed
        return cls(Path(), read_config(json.loads(config)), vocabularies, {}, load(weights))

    def require(self, wanted: Mapping[str, TensorKind]) -> None:
        """Raise ModelError where the tensors are not exactly these."""
        path = self.folder / WEIGHTS
        for name in sorted(self.tensors.keys() | wanted.keys()):
            found = tuple(self.tensors[name].shape) if name in self.tensors else None
            shape = wanted[name].shape if name in wanted else None
            if found != shape:
                raise ModelError(f"{path}: {name} is {found}", expected=str(shape), remedy=ANOTHER_COPY)
            if self.tensors[name].dtype != wanted[name].dtype:
                raise ModelError(f"{path}: {name} holds {self.tensors[name].dtype}", expected=wanted[name].dtype, remedy=ANOTHER_COPY)


def is_model(folder: Path) -> bool:
    """Whether a folder was written by `save_model`, though it may be damaged since."""
    listed = is_published(folder) and holds(b'"FORMAT"')(folder / MANIFEST)
    return (
        listed
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


def read_stored(folder: Path) -> StoredModel:
    """Read a model folder, or the one in a run's folder, after verifying its files against its manifest.

    If a training replaces it at this moment it is read again, so that all files are of one step.
    Raises ModelError naming the file and the reason: missing, damaged, of a newer format, or with another model's vocabulary.
    """
    place = model_folder(folder)
    return read_whole(place, lambda: read_once(place))


def read_stored_translator(folder: Path) -> StoredModel:
    """The same for a model that translates. Raises ModelError for one of another kind, too."""
    stored = read_stored(folder)
    if not isinstance(stored.config, ModelConfig):
        raise of_another_task(folder, stored.config, expected="translation")
    return stored


def read_once(folder: Path) -> StoredModel:
    """As `read_stored`, of a model folder that nobody replaces meanwhile."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no model is there", expected="a model folder, or a run directory after its first validation")
    if not any((folder / name).exists() for name in ("FORMAT", MANIFEST)):
        raise ModelError(f"{folder}: is no Vitrail model", expected="a model folder, or the folder of a run, that vitrail has written")
    entries = verify_folder(folder, unused=_UNUSED)
    for name in (CONFIG, WEIGHTS):
        if name not in entries:
            raise ModelError(f"{folder / name}: is not in the manifest", remedy=ANOTHER_COPY)
    document = _read_document(folder / CONFIG)
    vocabularies = Vocabularies.load(folder, listed=entries)
    if document["vocabularies"]["digest"] != vocabularies.digest:
        raise ModelError(f"{folder}: its vocabulary belongs to another model", remedy=ANOTHER_COPY)
    config = _config_of(folder / CONFIG, document)
    if config.kind != document["kind"]:
        raise ModelError(f"{folder / CONFIG}: kind {document['kind']}, but a model of kind {config.kind}", remedy=ANOTHER_COPY)
    return StoredModel(folder, config, vocabularies, document["facts"], _read_tensors(folder / WEIGHTS, config))


def with_file(folder: Path, name: str, data: bytes) -> None:
    """Put a file into a model folder, in place of an earlier one of that name. The folder is replaced as a whole; its other files stay.

    Raises ModelError where the model is damaged; NotWritten when the disk refuses. The old folder is then intact.
    """
    entries = verify_folder(folder, unused=(README,))
    with publish_folder(folder, ours=is_model, edited=(README,)) as out:
        for one, entry in entries.items():
            content = (folder / one).read_bytes() if one != name else b""
            if content and (one != README or sha256(content).hexdigest() == entry.sha256):  # people's own README is kept as theirs
                out.write(one, content)
        out.write(name, data)


def of_another_task(folder: str | Path, config: AnyConfig, *, expected: TaskName) -> ModelError:
    """The error for a folder that holds a model of another task than expected; its remedy is the verb for the model that is there."""
    task = MODEL_KINDS[config.kind].task
    found = f"{folder}: holds {TASK_MODELS[task]} ({config.kind})"
    return ModelError(found, expected=TASK_MODELS[expected], remedy=f"vitrail {USES[task].verb} {folder}")


def _config_of(path: Path, document: Mapping[str, Any]) -> AnyConfig:
    try:
        return read_config(document["model"])
    except ValidationError as error:
        raise ModelError(f"{path}: {reason(error)}", remedy=ANOTHER_COPY) from None


def _read_document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_DOCUMENT_BYTES:
            raise ModelError(f"{path}: is larger than {_MOST_DOCUMENT_BYTES:,} bytes", remedy=ANOTHER_COPY)
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from None
    if not isinstance(document, dict) or type(document.get("format")) is not int or document["format"] < 1:
        raise ModelError(
            f"{path}: not the configuration of a model",
            expected="a model folder, or the folder of a run, that vitrail has written",
            remedy="a model of another program: vitrail import",
        )
    if document["format"] > FORMAT:
        raise ModelError(f"{path}: format {document['format']}", expected=f"format {FORMAT} or older", remedy="update vitrail")
    missing = {"model", "vocabularies", "facts"} - document.keys()
    if missing:
        raise ModelError(f"{path}: lacks {', '.join(sorted(missing))}", remedy=ANOTHER_COPY)
    if not isinstance(document["facts"], dict):
        raise ModelError(f"{path}: facts is not a table", remedy=ANOTHER_COPY)
    if document["format"] == 1:
        document = _from_format_1(document)  # pyright: ignore[reportUnknownArgumentType]
    match document:
        case {"kind": str(), "model": dict(), "vocabularies": {"digest": str()}}:
            return document  # pyright: ignore[reportUnknownVariableType]
        case _:
            raise ModelError(f"{path}: kind, model or vocabularies are invalid", remedy=ANOTHER_COPY)


def _from_format_1(document: dict[str, Any]) -> dict[str, Any]:
    """Upgrade format 1: it had the kind inside `model`, or none for a Transformer, and only the digest of the vocabularies."""
    model = document["model"]
    kind = model.get("kind", "transformer") if isinstance(model, dict) else "none"  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return document | {"kind": kind, "vocabularies": {"digest": document["vocabularies"]}}


def _read_tensors(path: Path, config: AnyConfig) -> dict[str, npt.NDArray[Any]]:
    """Read weights. A configuration with more layers than tensors is refused before anything is read or built: each layer has several."""
    try:
        with safe_open(path, framework="np") as content:
            names: list[str] = list(content.keys())
            if config.depth > len(names):
                raise ModelError(f"{path}: {len(names)} tensors", expected=f"those of {config.depth} layers", remedy=ANOTHER_COPY)
            for name in names:
                if (dtype := content.get_slice(name).get_dtype()) not in _DTYPES:
                    raise ModelError(f"{path}: {name} holds {dtype}", expected="float32", remedy=ANOTHER_COPY)
            tensors = {name: content.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}", remedy=ANOTHER_COPY) from None
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite", remedy="use an earlier checkpoint, or train again")
    return tensors


class Use(NamedTuple):
    """How a model is used."""

    verb: str
    python: str


USES: dict[TaskName, Use] = {
    "translation": Use("translate", 'vitrail.load("PATH").translate("...")'),
    "language": Use("generate", 'vitrail.load("PATH").generate("...")'),
    "masked": Use("fill", 'vitrail.load("PATH").fill("... [MASK] ...")'),
    "classification": Use("classify", 'vitrail.load("PATH").classify("...")'),
    "autoencoding": Use("translate", 'vitrail.Autoencoder.load("PATH").reconstruct(["..."])'),
}
"""How models of each task are used."""
