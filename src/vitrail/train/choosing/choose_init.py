"""Zero configuration for a start from other models: what must fit is chosen as it is in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import build
from vitrail.errors import UsageError
from vitrail.train.choosing.choose import PRESET, Choice

if TYPE_CHECKING:
    from vitrail.models.build import AnyConfig
    from vitrail.train.starting.init_config import InitConfig


class Donors(NamedTuple):
    """What the other models decide."""

    preset: str | None
    """The preset that is nearest to them; None where they leave that open."""
    choices: list[Choice]

    def over(self, choices: Sequence[Choice], asked: Mapping[str, Any]) -> list[Choice]:
        """All choices, these in place of others of the same name; those of a vocabulary that is taken say nothing."""
        names = {choice.name for choice in self.choices} | ({"data.subwords.size"} if _taken_vocabulary(asked) else set())
        return [*(choice for choice in choices if choice.name not in names), *self.choices]


def choose_for_donors(asked: Mapping[str, Any], *, pairs: bool) -> Donors:
    """Choose the preset and the settings that must fit the models named in `init`.

    Args:   asked: the user's settings, a nested table. pairs: whether the text is pairs of sentences.
    Raises: UsageError where no model could take this; ModelError where there is no model.
    """
    from vitrail.models.build import MODEL_KINDS, PRESETS  # loads torch
    from vitrail.models.model_folder import read_model_config
    from vitrail.models.transfer import fitting_settings
    from vitrail.train.starting.init_config import InitConfig, in_order

    shared = _sharing(asked) if pairs else []
    if not asked.get("init"):
        return Donors(None, shared)
    entries: Any = asked["init"]
    if not isinstance(entries, list | tuple):
        raise UsageError(f"init: found {entries!r}", expected="a list of tables: --init encoder=FOLDER")
    parts = in_order(tuple(build(InitConfig, entry, origin="settings: init") for entry in entries))
    donors = [(part, read_model_config(part.folder)) for part in parts]
    preset = asked.get(PRESET)
    found: list[Choice] = []
    if preset is None:
        fitting = [name for name, kind in MODEL_KINDS.items() if (kind.task == "translation") == pairs]
        kind = _kind(donors, fitting, asked=asked.get("model", {}))
        known = {name: PRESETS[name] for name in (*_USUAL, *PRESETS) if PRESETS[name].kind == kind}
        if known:
            preset = max(known, key=lambda name: _likeness(known[name], donors))
            found.append(Choice(PRESET, preset, f"the nearest to {_shown(parts)}"))
    if preset not in PRESETS:
        return Donors(None, [*found, *shared])
    wanted: dict[str, Choice] = {}
    for part, donor in donors:
        for name, value in fitting_settings(part.role, type(PRESETS[preset]), donor).items():
            if value is not None:
                wanted.setdefault(f"model.{name}", Choice(f"model.{name}", value, f"as the {_role(part)} of {part.folder}"))
    if pairs:
        for choice in [*shared, *_tables(donors)]:
            wanted.setdefault(choice.name, choice)
    return Donors(preset, [*found, *wanted.values()])


_USUAL = ("lstm-lm", "lstm-attention")
"""Of equally near presets, these."""


def _kind(donors: "Sequence[tuple[InitConfig, AnyConfig]]", fitting: list[str], *, asked: Any) -> str:
    """The kind of model that can take all of this: that of a whole model, or else the first one that is made of the same things."""
    from vitrail.models.build import MODEL_KINDS
    from vitrail.models.transfer import fitting_settings

    if isinstance(asked, dict) and "kind" in asked:
        return str(asked["kind"])  # pyright: ignore[reportUnknownArgumentType]
    whole = next((donor.kind for part, donor in donors if part.role == "all" and donor.kind in fitting), None)
    if whole is not None:
        return whole
    refusal: UsageError | None = None
    for name in fitting:
        try:
            for part, donor in donors:
                fitting_settings(part.role, MODEL_KINDS[name].config, donor)  # pyright: ignore[reportArgumentType]
        except UsageError as error:
            refusal = error
        else:
            return name
    assert refusal is not None
    named = ", ".join(f"{part.role} = {part.folder} ({donor.kind})" for part, donor in donors)
    raise UsageError(
        f"init {named}: no model for this text can take all of it", expected=refusal.expected, remedy="name its kind: --preset"
    )


def _likeness(config: "AnyConfig", donors: "Sequence[tuple[InitConfig, AnyConfig]]") -> int:
    from vitrail.models.transfer import fitting_settings

    own = config.model_dump()
    return sum(own[name] == value for part, donor in donors for name, value in fitting_settings(part.role, type(config), donor).items())


def _tables(donors: "Sequence[tuple[InitConfig, AnyConfig]]") -> list[Choice]:
    """Whether source and target can share one table: not where their embeddings come from two."""
    origins: dict[str, tuple[Path, str]] = {}
    for part, donor in donors:
        tied = str(getattr(donor, "tie", True))
        for side, roles in (("source", ("all", "encoder", "source_embeddings")), ("target", ("all", "decoder", "target_embeddings"))):
            if part.role in (*roles, "embeddings"):
                origins[side] = (part.folder, side if tied in ("target", "none") else "")
    if len(origins) < 2 or origins["source"] == origins["target"]:
        return []
    (one, _), (other, _) = origins["source"], origins["target"]
    if one != other:
        reason = f"the embeddings come from {one} and {other}"
        return [Choice("data.subwords.joint", False, reason), Choice("model.tie", "target", reason)]
    return [Choice("model.tie", "target", f"source and target embeddings of {one} are two")]


def _taken_vocabulary(asked: Mapping[str, Any]) -> Path | None:
    """The folder whose vocabulary is taken. A setting that cannot be is refused later, with all others."""
    table: Any = asked
    for name in ("data", "subwords", "taken_from"):
        table = table.get(name) if isinstance(table, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return Path(table) if isinstance(table, str | Path) else None


def _sharing(asked: Mapping[str, Any]) -> list[Choice]:
    """Whether there is one vocabulary, where it is taken."""
    from vitrail.data.vocabularies.taking import find_vocabularies

    folder = _taken_vocabulary(asked)
    if folder is None:
        return []
    joint = find_vocabularies(folder).joint
    reason = f"as the vocabulary of {folder}"
    return [Choice("data.subwords.joint", joint, reason), *([] if joint else [Choice("model.tie", "target", reason)])]


def _role(part: "InitConfig") -> str:
    return "model" if part.role == "all" else part.role.replace("_", " ")


def _shown(parts: "Sequence[InitConfig]") -> str:
    return " and ".join(dict.fromkeys(str(part.folder) for part in parts))
