"""What one model can take from another, by role: which settings must fit, and the values of each weight."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vitrail.data.vocabularies.matching import MatchedRows, match_rows
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import UsageError
from vitrail.models.architectures import AnyConfig
from vitrail.models.base import Model
from vitrail.models.configs.blocks import BlockConfig, CellsConfig
from vitrail.models.configs.classifier import BagClassifierConfig
from vitrail.models.model_folder import LoadedFolder
from vitrail.models.places import HALVES, TABLES, Side, group_of, numbered, rank
from vitrail.vectors.embedding_rows import EmbeddingRows, rows_for
from vitrail.vectors.word_vectors import WordVectors

Role = Literal["all", "encoder", "decoder", "embeddings", "source_embeddings", "target_embeddings"]
"""What is taken; a later one of these takes the place of an earlier one's weights."""
ROLES: tuple[Role, ...] = ("all", "encoder", "decoder", "embeddings", "source_embeddings", "target_embeddings")

_BLOCK = ("width", "heads", "head_width", "feed_forward", "activation", "norm", "norm_position", "positions", "embedding_norm")
_CELL = ("cell", "embedding_width", "width", "norm", "residual")
_BAG = ("width", "word_ngrams", "buckets")
_READING = ("bidirectional", "reverse_source")
_ASKING = ("attention", "input_feeding")
AnyShape = BlockConfig | CellsConfig | BagClassifierConfig
"""What a model can be made of."""
_MADE_OF: dict[type[AnyShape], tuple[str, tuple[str, ...]]] = {
    BlockConfig: ("Transformer blocks", _BLOCK),
    CellsConfig: ("recurrent cells", _CELL),
    BagClassifierConfig: ("a bag of words", _BAG),
}
"""Its name, and the settings that must fit."""
_DEPTHS = ("decoder_layers", "layers")
_HALVES_OF: dict[Role, tuple[Side, ...]] = {"all": ("source", "target"), "encoder": ("source",), "decoder": ("target",)}
_SIDES_OF: dict[Role, tuple[Side, ...]] = {
    "embeddings": ("source", "target"),
    "source_embeddings": ("source",),
    "target_embeddings": ("target",),
}


# ---- settings --------------------------------------------------------------------------------------------------------------------


class VectorsShape(NamedTuple):
    """What stands for a model's configuration where word vectors are taken."""

    width: int
    kind: Literal["word-vectors"] = "word-vectors"


class Asked(NamedTuple):
    """One part that is asked for: its role, the folder's name, and the configuration of the model there."""

    role: Role
    named: str
    donor: AnyConfig | VectorsShape

    def __str__(self) -> str:
        return f"init {self.role} = {self.named}"


def fitting_settings(asked: Asked, config: type[AnyShape]) -> dict[str, Any]:
    """The settings of a model, of the given class, that weights of this role ask for, each with the donor's value.

    Raises UsageError where the two are built of different things, or the donor lacks the role.
    """
    role, donor = asked.role, asked.donor
    if role in _SIDES_OF:
        width = donor.embedding_width if isinstance(donor, CellsConfig) else donor.width
        return {"embedding_width" if issubclass(config, CellsConfig) else "width": width}
    if isinstance(donor, VectorsShape):
        raise UsageError(
            f"{asked}: word vectors are embeddings alone",
            expected="embeddings, source_embeddings or target_embeddings",
            remedy=f"--init embeddings={asked.named}",
        )
    known, own = set(type(donor).model_fields), set(config.model_fields)
    depths = [[name for name in _DEPTHS if name in fields] for fields in (own, known)]
    halves = _HALVES_OF[role]
    for what, fields, named in (("a model of kind " + donor.kind, known, depths[1]), ("the model that is trained", own, depths[0])):
        if not {"all": True, "encoder": "encoder_layers" in fields, "decoder": bool(named)}[role]:
            raise UsageError(f"{asked}: {what} has no {role}", expected=f"a model with one, for init {role}")
    (found, _), (wanted, fits) = (next(told for made, told in _MADE_OF.items() if issubclass(one, made)) for one in (type(donor), config))
    if found != wanted:
        raise UsageError(
            f"{asked}: a model of kind {donor.kind} is made of {found}", expected=f"one of {wanted}, as the model that is trained"
        )
    names = [*fits]
    if isinstance(donor, BlockConfig) and donor.positions == "learned":
        names.append("max_positions")
    names += ["encoder_layers", *_READING] if "source" in halves else []
    names += _ASKING if "target" in halves else ()
    fitting = {name: getattr(donor, name) for name in names if name in known & own}
    if "target" in halves and all(depths):
        fitting[depths[0][0]] = getattr(donor, depths[1][0])
    if role in ("all", "decoder") and "tie" in known & own and getattr(donor, "tie", True) in (False, "none"):
        fitting["tie"] = False if config.model_fields["tie"].annotation is bool else "none"
    return fitting


def all_fitting_settings(parts: Sequence[Asked], config: type[AnyShape]) -> dict[str, tuple[Asked, Any]]:
    """The settings that all parts ask for, each with the part that asks. Raises UsageError where two parts contradict each other."""
    found: dict[str, tuple[Asked, Any]] = {}
    for part in parts:
        settings = fitting_settings(part, config)
        against = {name: found[name] for name, value in settings.items() if name in found and found[name][1] != value}
        if against:
            other = next(iter(against.values()))[0]
            raise UsageError(
                f"{other}, with {', '.join(f'model.{name} = {value}' for name, (_, value) in against.items())}; "
                f"{part}, with {', '.join(f'model.{name} = {settings[name]}' for name in against)}",
                expected="models that agree in these: one model is made of both",
                remedy=f"vectors of the same dimension: vitrail vectors train --dimension {next(iter(against.values()))[1]}"
                if VectorsShape in (type(part.donor), type(other.donor))
                else f"take the embeddings alone of one of them, or train one with the settings of the other: "
                f"--set {' --set '.join(f'model.{name}={value}' for name, (_, value) in against.items())}",
            )
        found |= {name: (part, value) for name, value in settings.items() if name not in found}
    return found


def require_fitting(parts: Sequence[Asked], config: AnyConfig) -> None:
    """Refuse a model whose settings contradict what it takes. Raises UsageError that names each, before anything is built."""
    own = config.model_dump()
    wrong = {name: wanted for name, wanted in all_fitting_settings(parts, type(config)).items() if own[name] != wanted[1]}
    if isinstance(config, BlockConfig) and "head_width" in wrong:
        donor = wrong["head_width"][0].donor
        if isinstance(donor, BlockConfig) and config.width_of_head == donor.width_of_head:
            del wrong["head_width"]
    if not wrong:
        return
    part = next(iter(wrong.values()))[0]
    settings = {name: value for name, (other, value) in wrong.items() if other is part}
    if isinstance(part.donor, VectorsShape):
        width = own[next(iter(settings))]
        raise UsageError(
            f"{part}: vectors of {part.donor.width} numbers for model.{next(iter(settings))} = {width}",
            expected="vectors as wide as the embeddings",
            remedy=f"leave the width out, which is then chosen; or other vectors: vitrail vectors train --dimension {width}",
        )
    raise UsageError(
        f"{part}: " + ", ".join(f"model.{name} = {own[name]}" for name in settings),
        expected=", ".join(f"model.{name} = {value}" for name, value in settings.items()) + ", as in the model that it is taken from",
        remedy="leave these settings out: they are then chosen; or --set " + " --set ".join(f"model.{n}={v}" for n, v in settings.items()),
    )


# ---- weights ---------------------------------------------------------------------------------------------------------------------


class Coverage(Protocol):
    """How the tokens of a vocabulary got their rows."""

    @property
    def exact(self) -> int: ...
    @property
    def composed(self) -> int: ...
    @property
    def fresh(self) -> int: ...


class Transfer(NamedTuple):
    """Values for some weights of a model, by their common names."""

    values: dict[str, Tensor]
    origins: dict[str, int]
    """Of each, the memory of the donor's weight: where tied weights differ in it, they contradict each other."""
    rows: Mapping[Side, Coverage]
    """How the tokens of each side were matched."""


def take(role: Role, model: Model, vocabularies: Vocabularies, donor: LoadedFolder, *, named: str) -> Transfer:
    """The values that a model takes from another. Nothing is changed. Raises UsageError where a weight is of another shape."""
    own, others = model.shared_weights(), donor.model.shared_weights()
    pairs = _pairs(role, own, others)
    if not pairs:
        raise UsageError(f"init {role} = {named}: a model of kind {donor.config.kind} has nothing that this model could take")
    matched: dict[Side, MatchedRows] = {}
    found = Transfer({}, {}, matched)
    same_kind = getattr(model, "config", donor.config).kind == donor.config.kind
    for name, theirs in pairs.items():
        value = others[theirs]
        if name in TABLES:
            side, other = side_of_table(name, own), side_of_table(theirs, others)
            rows = matched[side] = matched.get(side) or match_rows(vocabularies.of(side), donor.vocabularies.of(other))
            _require_shape(name, own[name][0], value[0], named=f"{role} = {named}")
            sizes = (vocabularies.of(side).size, donor.vocabularies.of(other).size)
            value = compose(own[name], value, rows, sizes=sizes, more=same_kind)
        else:
            _require_shape(name, own[name], value, named=f"{role} = {named}")
        found.values[name], found.origins[name] = value, others[theirs].data_ptr()
    return found


def _pairs(role: Role, own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, str]:
    """The common name of each weight that is taken, and the donor's that it is taken from."""
    if role == "all":
        return {name: name for name in own if name in others}
    if role in _HALVES_OF:
        start = HALVES[_HALVES_OF[role][0]]
        return {name: name for name in own if name in others and name.startswith(start)}
    tables = [name for name in TABLES if name in own and side_of_table(name, own) in _SIDES_OF[role]]
    # A model with one side alone has one table for either.
    found = {name: [name, *(other for other in TABLES[:2] if name != "output_bias")] for name in tables}
    return {name: next(other for other in wanted if other in others) for name, wanted in found.items() if any(w in others for w in wanted)}


def side_of_table(name: str, weights: Mapping[str, Tensor]) -> Side:
    """The side whose tokens a table has: the output is of the target, or of the only text that the model knows."""
    if name == "source_embedding.weight" or "target_embedding.weight" not in weights:
        return "source"
    return "target"


def _require_shape(name: str, own: Tensor, value: Tensor, *, named: str) -> None:
    if own.shape != value.shape or own.dtype != value.dtype:
        raise UsageError(
            f"init {named}: {name} is {list(value.shape)} in the model that it is taken from",
            expected=f"{list(own.shape)}, as in the model that is trained",
            remedy="leave the settings of the model out: those that must fit are then chosen",
        )


def compose(fresh: Tensor, donor: Tensor, rows: MatchedRows, *, sizes: tuple[int, int], more: bool) -> Tensor:
    """A table for new tokens: rows of the donor, their mean where a token is made of several, and fresh rows for the others.

    All models scale embeddings by the square root of their width, so that rows of equal width need no other scale.
    Args: sizes: of the new vocabulary and of the donor's; further rows stand for no text. more: take these too, one by one.
    """
    found = fresh.clone()
    single = [(id, source[0]) for id, source in enumerate(rows.sources) if len(source) == 1]
    new, old = (torch.tensor(ids, dtype=torch.long, device=fresh.device) for ids in zip(*single, strict=True))
    donor = donor.to(fresh.device)
    found[new] = donor[old]
    for id, source in enumerate(rows.sources):
        if len(source) > 1:
            found[id] = donor[list(source)].mean(0)
    if more and len(fresh) - sizes[0] == len(donor) - sizes[1]:
        found[sizes[0] :] = donor[sizes[1] :]
    return found


def take_vectors(role: Role, model: Model, vocabularies: Vocabularies, vectors: WordVectors, *, named: str) -> Transfer:
    """The embeddings that a model takes from word vectors, and the output where it is tied to them. Nothing is changed.

    The rows that are taken are all multiplied by one number, so that their root mean square is that of the rows that were drawn: a model
    expects embeddings of that size. They are not centred.
    Raises: UsageError where no token has a vector, or the model has no such table.
    """
    own = model.shared_weights()
    tables = [name for name in TABLES[:2] if name in own and side_of_table(name, own) in _SIDES_OF[role]]
    if not tables:
        raise UsageError(f"init {role} = {named}: this model has no {role.replace('_', ' ')}", remedy=f"--init embeddings={named}")
    matched: dict[Side, EmbeddingRows] = {}
    found = Transfer({}, {}, matched)
    for name in tables:
        side = side_of_table(name, own)
        matched[side] = rows = rows_for(vocabularies.of(side), vectors)
        _require_vectors(rows, own[name], vectors, named=f"init {role} = {named}: {name}")
        value = own[name].clone()
        known = torch.from_numpy(np.flatnonzero(rows.known)).to(value.device)
        taken = torch.from_numpy(rows.values[rows.known]).to(value)
        value[known] = taken * (_spread(value[: len(rows.known)]) / _spread(taken))
        for other in (name, "output_weight"):
            if other in own and own[other].data_ptr() == own[name].data_ptr():
                found.values[other], found.origins[other] = value, vectors.matrix.ctypes.data
    return found


def _spread(rows: Tensor) -> Tensor:
    return rows.square().mean().sqrt()


def _require_vectors(rows: EmbeddingRows, own: Tensor, vectors: WordVectors, *, named: str) -> None:
    if own.shape[1] != vectors.dimension:
        raise UsageError(f"{named} has {own.shape[1]} columns", expected=f"{vectors.dimension}, as many as the vectors have numbers")
    if not rows.known.any():
        raise UsageError(
            f"{named}: none of the {len(rows.known):,} tokens has a vector among the {len(vectors):,} words",
            expected="vectors of the same language, of the same sort of tokens",
            remedy="name the vectors of this text's language, or train some on it: vitrail vectors train",
        )


class Part(NamedTuple):
    """What is taken from one model in one role."""

    role: Role
    named: str
    """The model's name for messages."""
    transfer: Transfer


def require_untangled(parts: Sequence[Part], own: Mapping[str, Tensor]) -> None:
    """Refuse tied weights that would be taken from two different ones.

    Args: parts: in the order of `ROLES`: a later one replaces an earlier one, embeddings whatever they are tied to.
    """
    taken: dict[str, tuple[Part, int]] = {}
    for part in parts:
        tables = {own[name].data_ptr() for name in part.transfer.values} if part.role in _SIDES_OF else set[int]()
        taken = {name: origin for name, origin in taken.items() if own[name].data_ptr() not in tables}
        taken |= {name: (part, part.transfer.origins[name]) for name in part.transfer.values}
    by_memory: dict[int, dict[str, tuple[Part, int]]] = {}
    for name, origin in taken.items():
        by_memory.setdefault(own[name].data_ptr(), {})[name] = origin
    for origins in by_memory.values():
        if len({memory for _, memory in origins.values()}) > 1:
            givers = dict.fromkeys(f"{part.role} = {part.named}" for part, _ in origins.values())
            raise UsageError(
                f"init {' and '.join(givers)}: {' and '.join(origins)} are one weight of this model",
                expected="one model to take it from, or a weight for each",
                remedy="--set model.tie=target (source embeddings of their own) or model.tie=none (an output of its own);"
                " or say where the embeddings come from: --init embeddings=FOLDER",
            )


# ---- telling ---------------------------------------------------------------------------------------------------------------------


def describe_parts(names: Iterable[str], *, of: Iterable[str]) -> list[str]:
    """Some weights of a model as parts: `encoder.0-3`, `decoder.0-3.cross_attention`; a layer that is meant as a whole is one part."""
    chosen, every = set(names), list(of)
    missing = {group_of(name) for name in every if name not in chosen}
    parts: dict[str, None] = {}
    for name in sorted((name for name in every if name in chosen), key=lambda name: rank(group_of(name))):
        group = group_of(name)
        below = name.removeprefix(group).lstrip(".").partition(".")[0]
        parts[f"{group}.{below}" if group in missing and below else group] = None
    layers: dict[str, list[int]] = {}
    for part in parts:
        pattern, number = numbered(part)
        layers.setdefault(pattern, []).append(number)
    return [pattern.format(_run(numbers)) for pattern, numbers in layers.items()]


def _run(numbers: Sequence[int]) -> str:
    whole = len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if whole else ",".join(map(str, numbers))
