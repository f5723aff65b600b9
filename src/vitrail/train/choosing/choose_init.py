"""Zero configuration for a start from other models: what must fit is chosen as it is in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import build
from vitrail.errors import UsageError
from vitrail.train.choosing.choose import PRESET, Choice

if TYPE_CHECKING:
    from vitrail.models.architectures import AnyConfig
    from vitrail.models.transfer import Asked


class Donors(NamedTuple):
    """What the other models decide."""

    preset: str | None
    """The preset that is nearest to them; None where they leave that open."""
    choices: list[Choice]
    any_preset: bool = False
    """Whether every model could take this, so that the text decides which one is trained."""

    def over(self, choices: Sequence[Choice], asked: Mapping[str, Any]) -> list[Choice]:
        """All choices, these in place of others of the same name; those of a vocabulary that is taken say nothing."""
        names = {choice.name for choice in self.choices} | ({"data.subwords.size"} if _taken_vocabulary(asked) else set())
        return [*(choice for choice in choices if choice.name not in names), *self.choices]


def choose_for_donors(asked: Mapping[str, Any], *, data: str) -> Donors:
    """Choose the preset and the settings that must fit the models named in `init`.

    Args:   asked: the user's settings, a nested table. data: the kind of text (`data.kind`).
    Raises: UsageError where no model could take this; ModelError where there is no model.
    """
    pairs = data == "pairs"
    shared = _sharing(asked) if pairs else []
    if not asked.get("init"):
        return Donors(None, shared)
    from vitrail.models.architectures import PRESETS
    from vitrail.models.transfer import VectorsShape, all_fitting_settings
    from vitrail.train.starting.init_config import InitConfig
    from vitrail.train.starting.warm_start import asked_parts

    entries: Any = asked["init"]
    if not isinstance(entries, list | tuple):
        raise UsageError(f"init: found {entries!r}", expected="a list of tables: --init encoder=FOLDER")
    parts = asked_parts(tuple(build(InitConfig, entry, origin="settings: init") for entry in entries))
    preset, found = asked.get(PRESET), list[Choice]()
    if preset is None and "kind" not in asked.get("model", {}) and all(isinstance(part.donor, VectorsShape) for part in parts):
        return Donors(None, shared, any_preset=True)
    if preset is None:
        kind = _kind(parts, asked.get("model", {}), data=data)
        known = {name: PRESETS[name] for name in (*_USUAL, *PRESETS) if PRESETS[name].kind == kind}
        if known:
            preset = max(known, key=lambda name: _likeness(known[name], parts))
            found.append(Choice(PRESET, preset, f"the nearest to {' and '.join(dict.fromkeys(part.named for part in parts))}"))
    if preset not in PRESETS:
        return Donors(None, [*found, *shared])
    wanted: dict[str, Choice] = {}
    for name, (part, value) in all_fitting_settings(parts, type(PRESETS[preset])).items():
        if value is not None:
            wanted[f"model.{name}"] = Choice(f"model.{name}", value, f"as the {_role(part)} of {part.named}")
    for choice in [*shared, *(_tables(parts) if pairs else ()), *_heads(PRESETS[preset], wanted, asked.get("model", {}))]:
        wanted.setdefault(choice.name, choice)
    return Donors(preset, [*found, *wanted.values()])


_USUAL = ("lstm-lm", "lstm-attention")
"""Of equally near presets, these."""


def _kind(parts: "Sequence[Asked]", model: Any, *, data: str) -> str:
    """The kind of model that can take all of this: that of a whole model, or else the first one that is made of the same things.

    Raises UsageError where there is none: why the first one cannot.
    """
    from vitrail.models.architectures import MODEL_KINDS, TASK_DATA
    from vitrail.models.transfer import all_fitting_settings

    if isinstance(model, dict) and "kind" in model:
        return str(model["kind"])  # pyright: ignore[reportUnknownArgumentType]
    fitting = [name for name, kind in MODEL_KINDS.items() if TASK_DATA[kind.task] == data]
    whole = next((part.donor.kind for part in parts if part.role == "all" and part.donor.kind in fitting), None)
    if whole is not None:
        return whole
    refusals: list[UsageError] = []
    for name in fitting:
        try:
            all_fitting_settings(parts, MODEL_KINDS[name].config)  # pyright: ignore[reportArgumentType]
        except UsageError as error:
            refusals.append(error)
        else:
            return name
    raise refusals[0]


def _likeness(config: "AnyConfig", parts: "Sequence[Asked]") -> int:
    from vitrail.models.transfer import all_fitting_settings

    own = config.model_dump()
    return sum(own[name] == value for name, (_, value) in all_fitting_settings(parts, type(config)).items())


def _tables(parts: "Sequence[Asked]") -> list[Choice]:
    """Whether source and target can share one table: not where their embeddings come from two."""
    from vitrail.models.transfer import VectorsShape

    origins: dict[str, tuple[str, str]] = {}
    for part in parts:
        tied = str(getattr(part.donor, "tie", True))
        for side, roles in (("source", ("all", "encoder", "source_embeddings")), ("target", ("all", "decoder", "target_embeddings"))):
            if part.role in (*roles, "embeddings"):
                origins[side] = (part.named, side if tied in ("target", "none") else "")
    if len(origins) == 1 and isinstance(parts[0].donor, VectorsShape):
        ((side, (named, _)),) = origins.items()
        reason = f"{named} is for the {side} alone"
        return [Choice("data.subwords.joint", False, reason), Choice("model.tie", "target", reason)]
    if len(origins) < 2 or origins["source"] == origins["target"]:
        return []
    (one, _), (other, _) = origins["source"], origins["target"]
    if one != other:
        reason = f"the embeddings come from {one} and {other}"
        return [Choice("data.subwords.joint", False, reason), Choice("model.tie", "target", reason)]
    return [Choice("model.tie", "target", f"source and target embeddings of {one} are two")]


def _heads(config: "AnyConfig", wanted: Mapping[str, Choice], model: Any) -> list[Choice]:
    """Heads into which a width divides that embeddings ask for. Raises UsageError where no usual number of heads does."""
    from vitrail.models.configs.blocks import BlockConfig

    width = wanted.get("model.width")
    asked: Mapping[str, Any] = model if isinstance(model, dict) else {}
    if not isinstance(config, BlockConfig) or width is None or "model.heads" in wanted or {"width", "heads", "head_width"} & set(asked):
        return []
    positions = asked.get("positions", config.word_order)
    even = 2 if positions == "rotary" else 1
    heads = next((heads for heads in range(config.heads, 0, -1) if width.value % (heads * even) == 0), 0)
    if heads < min(2, config.heads) or (positions in ("sinusoidal", "tensor2tensor") and width.value % 2):
        raise UsageError(
            f"model.width = {width.value}, {width.reason}",
            expected=f"a width for {positions} positions that divides into several heads, for example {config.width}",
            remedy=f"vectors of another dimension: vitrail vectors train --dimension {config.width}; or a recurrent model, for any",
        )
    return [] if heads == config.heads else [Choice("model.heads", heads, f"width {width.value} does not divide into {config.heads}")]


def _role(part: "Asked") -> str:
    return "model" if part.role == "all" else part.role.replace("_", " ")


def _taken_vocabulary(asked: Mapping[str, Any], *, named: str = "taken_from") -> Path | None:
    """The folder whose vocabulary is taken. A setting that cannot be is refused later, with all others."""
    table: Any = asked
    for name in ("data", "subwords", named):
        table = table.get(name) if isinstance(table, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return Path(table) if isinstance(table, str | Path) else None


def _sharing(asked: Mapping[str, Any]) -> list[Choice]:
    """Whether there is one vocabulary, where it is taken."""
    from vitrail.data.vocabularies.taking import find_vocabularies

    if any(_taken_vocabulary(asked, named=named) is not None for named in ("source_from", "target_from")):
        reason = "vocabularies are taken for each side"
        return [Choice("data.subwords.joint", False, reason), Choice("model.tie", "target", reason)]
    folder = _taken_vocabulary(asked)
    if folder is None:
        return []
    found = find_vocabularies(folder)
    reason = f"as the vocabulary of {folder}"
    return [Choice("data.subwords.joint", found.joint, reason), *([] if found.shares_ids else [Choice("model.tie", "target", reason)])]
