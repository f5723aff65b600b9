"""Start from other models: check that they fit, take their weights, freeze what shall stay, and tell it all.

Everything is read and compared before the first weight is changed. A resumed run does not read the other models again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.data.preparing.store import Store
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import ModelError, TrainingError, UsageError
from vitrail.languages import same_language
from vitrail.models.adapters import add_adapters, digest_of
from vitrail.models.base import Model, unique_tensors
from vitrail.models.model_folder import LoadedFolder, load_with_digest
from vitrail.models.places import TABLES, Side
from vitrail.models.stored import CONFIG, digest_of_folder, model_folder, read_model_config
from vitrail.models.transfer import (
    Asked,
    Part,
    VectorsShape,
    describe_parts,
    require_fitting,
    require_untangled,
    side_of_table,
    take,
    take_vectors,
)
from vitrail.nn.layers import MaskedBatchNorm
from vitrail.nn.lora import is_adapter, plain_name
from vitrail.runtime.ranks import Ranks
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.init_config import InitConfig, in_order
from vitrail.vectors.embedding_rows import EmbeddingRows, share_of_text
from vitrail.vectors.formats.looking import digest_of_vectors, load_vectors_with_digest, may_be_vectors, read_dimension
from vitrail.vectors.word_vectors import WordVectors

Donor = tuple[LoadedFolder | WordVectors, str]
"""What weights are taken from, and the digest of the files that were read."""
Taken = dict[str, Any]
"""What was taken, as plain JSON values: `parts`, `fresh`, and the names of `frozen` weights."""
_SAMPLED_TOKENS = 10_000_000
"""Of a text, for the share of it that word vectors cover."""
_LITTLE_TEXT = 0.5
"""Where vectors cover less of the text, they are probably not those that were meant."""


def donor_digests(config: RunConfig) -> list[str | None]:
    """The digest of each model that weights are taken from; None where it is gone, for a run that resumes without it."""
    return [_digest(part.folder) if part.folder.exists() else None for part in config.init]


def _digest(folder: Path) -> str:
    return digest_of_vectors(folder) if may_be_vectors(folder) else digest_of_folder(folder)


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
    if may_be_vectors(folder):
        return VectorsShape(read_dimension(folder))
    if not (model_folder(folder) / CONFIG).exists():
        expected = "a model folder, a run directory after its first validation, or word vectors, in a folder or a file"
        raise ModelError(f"{folder}: no model is there, and no word vectors", expected=expected)
    return read_model_config(folder)


def start_from(model: Model, config: RunConfig, vocabularies: Vocabularies, stores: Sequence[Store] = ()) -> Taken:
    """Take the weights that the configuration names. Raises before anything is changed: ModelError, UsageError, DataError.

    Args: stores: the text, for the share of it that word vectors cover.
    """
    own = model.shared_weights()
    read: dict[Path, Donor] = {}
    parts: list[Part] = []
    for part in in_order(config.init):
        donor, _ = read[part.folder] = read.get(part.folder) or _load(part.folder)
        take_from: Any = take_vectors if isinstance(donor, WordVectors) else take
        parts.append(Part(part.role, str(part.folder), take_from(part.role, model, vocabularies, donor, named=str(part.folder))))
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
            _told(part, own, donor=read[asked.folder], frozen=asked.freeze) | _covered(part, stores)
            for part, asked in zip(parts, in_order(config.init), strict=True)
        ],
        "fresh": describe_parts([name for name, tensor in own.items() if tensor.data_ptr() not in taken], of=own),
        "frozen": [name for name, tensor in own_tensors.items() if tensor.data_ptr() in memories],
    }
    if config.lora.rank:
        tables = [(part, name) for part in parts for name in part.transfer.values if name in TABLES]
        partly = {own[name].data_ptr() for part, name in tables if _has_fresh(part, name, own)}
        told["base"] = [name for name, tensor in own_tensors.items() if tensor.data_ptr() in taken - partly]
        whole = [donor for part in config.init if part.role == "all" and isinstance(donor := read[part.folder][0], LoadedFolder)]
        digest = digest_of(own_tensors)
        same = whole and whole[0].vocabularies.digest == vocabularies.digest and digest_of(unique_tensors(whole[0].model)) == digest
        told["adapter_base"] = digest if same else None
    return told


def _load(folder: Path) -> Donor:
    return load_vectors_with_digest(folder) if may_be_vectors(folder) else load_with_digest(folder)


def _covered(part: Part, stores: Sequence[Store]) -> dict[str, Any]:
    """The share of the training text's tokens that word vectors cover, by side."""
    found: dict[Side, float] = {}
    for side, rows in part.transfer.rows.items():
        if isinstance(rows, EmbeddingRows) and stores:
            role = side if side in stores[0].roles else stores[0].roles[0]
            each = _SAMPLED_TOKENS // len(stores)
            found[side] = round(share_of_text(rows, np.concatenate([store.ids(role)[:each] for store in stores])), 4)
    return {"text": found} if found else {}


def _has_fresh(part: Part, name: str, own: Mapping[str, Tensor]) -> bool:
    rows = part.transfer.rows[side_of_table(name, own)]
    return rows.fresh > 0


def _told(part: Part, own: Mapping[str, Tensor], *, donor: Donor, frozen: bool) -> dict[str, Any]:
    tokens = {side: {"exact": rows.exact, "composed": rows.composed, "fresh": rows.fresh} for side, rows in part.transfer.rows.items()}
    folder = Path(part.named)
    facts: Mapping[str, Any] = donor[0].facts if isinstance(donor[0], LoadedFolder) else {}
    before, languages = ancestors(facts), [str(facts.get(f"{side}_language", "")) for side in ("source", "target")]
    return {
        "role": part.role,
        "model": folder.absolute().parent.name if folder.name == "model" else folder.name,
        "kind": "word-vectors" if isinstance(donor[0], WordVectors) else donor[0].config.kind,
        "digest": donor[1],
        "frozen": frozen,
        "taken": describe_parts(part.transfer.values, of=own),
        "tokens": tokens,
        **({"languages": languages} if all(languages) else {}),
        **({"ancestors": before} if before else {}),
    }


def other_languages(taken: Taken, facts: Mapping[str, Any]) -> list[str]:
    """A line for each whole model that was made for other languages than the text. Args: facts: of the prepared text."""
    own = [str(facts.get(f"{side}_language", "")) for side in ("source", "target")]
    return [
        f"WARNING: {part['model']} translates from {' to '.join(part['languages'])}, this text is from {' to '.join(own)}"
        for part in taken.get("parts", ())
        if part["role"] == "all" and all(own) and not all(map(same_language, part.get("languages", own), own))
    ]


def ancestors(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """The models that a model started from, the nearest first: name, kind and digest of each. Args: facts: of the model."""
    init: Any = facts.get("init")
    whole = next((part for part in (init or {}).get("parts", ()) if part["role"] == "all"), None)
    if whole is None:
        return []
    return [{name: whole[name] for name in ("model", "kind", "digest")}, *whole.get("ancestors", [])]


def to_lines(taken: Taken) -> list[str]:
    """What was taken, composed and left, for people."""
    lines: list[str] = []
    for part in taken["parts"]:
        lines.append(f"{part['role']} from {part['model']} ({part['kind']}): {', '.join(part['taken'])}{'; frozen' * part['frozen']}")
        for side, tokens in part["tokens"].items():
            share = part.get("text", {}).get(side)
            lines.append(f"  {side} tokens: {tokens_to_text(tokens)}{'' if share is None else f'; {share:.1%} of the text'}")
            if share is not None and share < _LITTLE_TEXT:
                lines.append(
                    f"  WARNING: {1 - share:.1%} of the text have no vector: are these vectors of this language, and of such tokens?"
                )
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
