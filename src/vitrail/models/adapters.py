"""Adapters of a model: which matrices get one, and the adapter as a file, to be merged into its base and taken out again."""

import json
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.errors import ModelError, UsageError
from vitrail.files import is_published, publish_folder, require_apart, verify_folder
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import load_folder, save_model
from vitrail.models.stored import model_folder
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.cells import SSRU, Cell
from vitrail.nn.layers import FeedForward
from vitrail.nn.lora import adapt, add_low_rank

FORMAT = 1
DOCUMENT, TENSORS = "adapter.json", "adapter.safetensors"
_UP, _DOWN = ".up", ".down"

Matrices = Literal["query", "key", "value", "output", "feed_forward", "recurrent"]


class LoraConfig(Config):
    """Low-rank adapters (LoRA): what was taken from other models stays as it is, and a thin matrix beside each of its matrices learns."""

    rank: int = Field(default=0, ge=0, le=4096)
    """Rank of each adapter. 0: none; the model itself is trained."""
    alpha: float = Field(default=16.0, gt=0)
    """An adapter is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the input's features that adapters do not see while training."""
    matrices: tuple[Matrices, ...] = ()
    """Which matrices get one: query, key, value and output of attentions, feed_forward, recurrent (of cells). Empty: query and value, or
    recurrent where there is no such attention."""

    @property
    def scale(self) -> float:
        """What an adapter is multiplied by."""
        return self.alpha / self.rank


def adaptable(model: nn.Module) -> dict[Matrices, list[str]]:
    """The paths of the matrices that can get an adapter, by role."""
    found: dict[Matrices, list[str]] = {}
    attention: tuple[Matrices, ...] = ("query", "key", "value", "output")
    for path, module in model.named_modules():
        match module:
            case MultiHeadAttention():
                for role in attention:
                    found.setdefault(role, []).append(f"{path}.{role}.weight")
            case FeedForward():
                names = [name for name in ("expand", "gate", "contract") if getattr(module, name) is not None]
                found.setdefault("feed_forward", []).extend(f"{path}.{name}.weight" for name in names)
            case SSRU():
                found.setdefault("recurrent", []).extend(f"{path}.{name}.weight" for name in ("candidate", "forget"))
            case Cell():
                found.setdefault("recurrent", []).extend(f"{path}.{name}" for name in ("input_weight", "hidden_weight"))
            case _:
                pass
    return found


def add_adapters(model: nn.Module, config: LoraConfig, *, without: Collection[str] = ()) -> None:
    """Give matrices of a model their adapters, whose first values are drawn by torch's global generator.

    Args:   without: names of matrices that get none.
    Raises: UsageError where the model has no matrices of a role.
    """
    known = adaptable(model)
    chosen = config.matrices or tuple(role for role in ("query", "value") if role in known) or ("recurrent",)
    lacking = [role for role in chosen if role not in known]
    if lacking:
        raise UsageError(
            f"lora.matrices: this model has no {' and no '.join(lacking)}", expected=" ".join(known) or "a model with such matrices"
        )
    paths = [path for role in chosen for path in known[role] if path not in without]
    if not paths:
        raise UsageError("lora: every matrix that could get an adapter is frozen", remedy="--set init.0.freeze=false")
    for path in paths:
        adapt(model, path, rank=config.rank, alpha=config.alpha, dropout=config.dropout)


# ---- an adapter by itself --------------------------------------------------------------------------------------------------------


class Adapter(NamedTuple):
    """What a training with adapters learned, without its base."""

    base: str
    """Digest of the weights that it belongs to; see `digest_of`."""
    scale: float
    weights: dict[str, tuple[Tensor, Tensor]]
    """Up and down by the name of the matrix."""

    def files(self) -> dict[str, bytes]:
        """The name of each file, and what it holds."""
        parts = {name + end: part for name, both in self.weights.items() for end, part in zip((_UP, _DOWN), both, strict=True)}
        tensors = {name: part.detach().float().cpu().contiguous() for name, part in parts.items()}
        document = {"format": FORMAT, "base": self.base, "scale": self.scale, "matrices": sorted(self.weights)}
        return {TENSORS: safetensors.torch.save(tensors), DOCUMENT: (json.dumps(document, indent=2) + "\n").encode()}


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bits of all weights, in hexadecimal."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {list(plain.shape)} {plain.dtype}\n".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter's folder atomically. Raises UsageError where something else is there; NotWritten."""
    with publish_folder(folder, ours=lambda path: is_published(path) and (path / DOCUMENT).exists()) as out:
        for name, data in adapter.files().items():
            out.write(name, data)


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter from its folder, or from the model or the run that it was trained in. Raises ModelError."""
    place = folder if (folder / DOCUMENT).exists() else model_folder(folder)
    if not (place / DOCUMENT).exists():
        raise ModelError(f"{folder}: no adapter is there", expected="an adapter's folder, or a run that was trained with lora.rank")
    verify_folder(place, unused=("README.md", "FORMAT"))
    try:
        document: Any = json.loads((place / DOCUMENT).read_bytes())
        tensors = safetensors.torch.load_file(place / TENSORS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ModelError(f"{place}: {error}", remedy="copy the folder again") from None
    match document:
        case {"format": int(number)} if number > FORMAT:
            raise ModelError(f"{place}: format {number}", expected=f"format {FORMAT} or older", remedy="update vitrail")
        case {"base": str(base), "scale": float(scale), "matrices": [*names]}:
            pairs = {str(name): (tensors.get(f"{name}{_UP}"), tensors.get(f"{name}{_DOWN}")) for name in names}
            whole = {name: (up, down) for name, (up, down) in pairs.items() if up is not None and down is not None}
            if len(tensors) == 2 * len(whole) == 2 * len(names):
                return Adapter(base, scale, whole)
        case _:
            pass
    raise ModelError(f"{place / DOCUMENT}: not the description of this adapter", remedy="copy the folder again")


class Merged(NamedTuple):
    """A model with an adapter merged into its matrices, and those matrices as they were."""

    model: nn.Module
    base: dict[str, Tensor]

    def unmerge(self) -> None:
        """Put the matrices of the base back, bit for bit: they were kept, as a difference of rounded numbers would not give them."""
        for name, tensor in self.base.items():
            self.model.get_parameter(name).data.copy_(tensor)


def merge(model: nn.Module, adapter: Adapter) -> Merged:
    """Merge an adapter into its base. Raises ModelError for another base; nothing is changed then."""
    own = unique_tensors(model)
    if digest_of(own) != adapter.base:
        raise ModelError(
            "the adapter belongs to other weights",
            expected=f"its base, the model whose weights have the digest {adapter.base[:12]}",
            remedy="name the model that its training started from",
        )
    kept = {name: own[name].clone() for name in adapter.weights}
    for name, (up, down) in adapter.weights.items():
        place = own[name]
        place.copy_(add_low_rank(place, up=up.to(place.device), down=down.to(place.device), scale=adapter.scale))
    return Merged(model, kept)


def merge_folder(base: Path, adapter: Path, output: Path) -> None:
    """Write the model that a base and an adapter make. Raises ModelError where one is missing or they do not belong together, UsageError
    where the result would take the place of either."""
    require_apart(output, inputs=[base, adapter])
    found, added = load_folder(base), load_adapter(adapter)
    merge(found.model, added)
    # Scores of the base, which are numbers with a fraction, are not those of the merged model.
    facts = {name: value for name, value in found.facts.items() if not (name.startswith("dev_") and isinstance(value, float))}
    facts["adapter"] = {"base": added.base, "matrices": len(added.weights)}
    save_model(output, tensors=unique_tensors(found.model), config=found.config, vocabularies=found.vocabularies, facts=facts)
