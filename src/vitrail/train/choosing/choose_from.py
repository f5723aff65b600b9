"""Zero configuration for fine-tuning (`--from FOLDER`): weights, architecture and vocabulary of a model, and settings for new text."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import merge
from vitrail.errors import ModelError, UsageError
from vitrail.languages import same_language
from vitrail.train.choosing.choose import PRESET, TOKENS_PER_WORD, VALIDATION_SHARE, WARMUP_SHARE, Choice, tokens_a_step

if TYPE_CHECKING:
    from vitrail.models.architectures import AnyConfig

FROM, FREEZE = "from", "freeze"
"""Of a request: the folder that is fine-tuned, and the roles of it that stay as they are."""

RATE_SHARE = 0.3
"""Of the learning rate of a training from scratch."""
ADAPTER_RATE_SHARE = 1.0
"""The same with low-rank adapters, which start from nothing."""
STEPS, FEWEST_PASSES, MOST_PASSES = 500, 3, 30
"""A fine-tuning takes about so many steps, but passes over its new text at least and at most so often."""
WARMUP = 50
VALIDATIONS = 10
PATIENCE = 4
"""Validations without a better dev score after which it stops."""


def written_out(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A request with `from = FOLDER` as the settings that it stands for: all of the model is taken, and its vocabulary.

    Raises: UsageError where it contradicts other settings.
    """
    table = dict(asked)
    if FROM not in table:
        if FREEZE in table:
            raise UsageError(f"freeze = {table[FREEZE]} without a model", remedy="--from FOLDER; or --set init.0.freeze=true")
        return table
    folder = str(table[FROM])
    if PRESET in table or "kind" in _below(table, "model"):
        raise UsageError("--from with --preset", expected="one of the two: the architecture is that of the model")
    parts: Any = table.get("init", [])
    more = list(parts) if isinstance(parts, list | tuple) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if any(isinstance(part, dict) and part.get("role") == "all" for part in more):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        raise UsageError("--from and --init all", expected="one of the two")
    roles = [table[FREEZE]] if isinstance(table.get(FREEZE), str) else list(table.get(FREEZE, ()))
    frozen = [{"role": role, "folder": folder, "freeze": True} for role in roles]
    init = [{"role": "all", "folder": folder}, *frozen, *more]
    table["init"] = init if isinstance(parts, list | tuple) else merge({"init": init}, {"init": parts})["init"]
    subwords = _below(_below(table, "data"), "subwords")
    if not {"taken_from", "source_from", "target_from"} & subwords.keys():
        table["data"] = merge(dict(_below(table, "data")), {"subwords": {"taken_from": folder}})
    return table


def _below(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Any = table.get(name, {})
    return found if isinstance(found, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]


class Pass(NamedTuple):
    """One pass over the new text: what is drawn meanwhile, with the general text that is mixed in."""

    words: float
    """Of the text that is learned, roughly."""
    epochs: float
    """Its length in epochs of all text together."""


class Mixture(NamedTuple):
    """The same in pairs."""

    pairs: int
    epochs: float


def mixture_of(corpora: Sequence[tuple[int, float]], *, temperature: float) -> Mixture:
    """One pass over the new text among several corpora: those of the greatest weight. Args: corpora: pairs and weight of each."""
    from vitrail.data.batches import shares  # loads torch

    sizes, weights = [pairs for pairs, _ in corpora], [weight for _, weight in corpora]
    total = sum(sizes)
    new = [place for place, weight in enumerate(weights) if weight == max(weights)]
    drawn = shares(sizes, weights, temperature=temperature) if total else []
    of_new = sum(drawn[place] for place in new) if drawn else 0
    if not of_new:
        return Mixture(total, 1.0)
    epochs = sum(sizes[place] for place in new) / of_new
    return Mixture(max(1, round(total * epochs)), epochs)


def choose_from(asked: Mapping[str, Any], chosen: Sequence[Choice], *, data: str, a_pass: Pass) -> list[Choice]:
    """The choices of a fine-tuning in place of those of a training from scratch.

    Args: chosen: for the same text from scratch, and what must fit the model. data: the kind of text (`data.kind`).
    """
    folder, donor = Path(str(asked[FROM])), require_donor(asked, data=data)
    usual = {choice.name: choice for choice in chosen}
    found = _architecture(donor, usual, folder=folder)
    found += _old_dev(folder, asked) if data == "pairs" else []
    found += _length(asked, usual, a_pass)
    names = {choice.name for choice in found} | {"data.subwords.size"}
    return [*(choice for choice in chosen if choice.name not in names and not choice.name.startswith("model.")), *found]


def require_donor(asked: Mapping[str, Any], *, data: str) -> "AnyConfig":
    """The configuration of the model. Raises ModelError where there is none; UsageError where it is for another kind of text."""
    from vitrail.models.architectures import MODEL_KINDS, TASK_DATA, TASK_MODELS
    from vitrail.models.stored import CONFIG, model_folder, read_model_config

    folder = Path(str(asked[FROM]))
    if not (model_folder(folder) / CONFIG).exists():
        raise ModelError(
            f"--from {folder}: no model is there",
            expected="a model folder, or the folder of a run after its first validation",
            remedy="a model of another program: vitrail import",
        )
    donor = read_model_config(folder)
    task = MODEL_KINDS[donor.kind].task
    if TASK_DATA[task] != data:
        raise UsageError(
            f"--from {folder}: {TASK_MODELS[task]}, with data of kind {data}",
            expected=f"a model for this text, or text for this model (data of kind {TASK_DATA[task]})",
            remedy=f"to take a part of it: --init encoder={folder} or --init decoder={folder}",
        )
    return donor


def _architecture(donor: "AnyConfig", usual: Mapping[str, Choice], *, folder: Path) -> list[Choice]:
    """Every setting of the model in which it differs from its preset, dropout among them."""
    from vitrail.models.architectures import preset

    name = usual[PRESET].value if PRESET in usual else None
    own = donor.model_dump(mode="json")
    near = {} if name is None else preset(str(name), task=None).model_dump(mode="json")
    return [
        Choice(f"model.{key}", value, f"as the model of {folder}")
        for key, value in own.items()
        if value is not None and near.get(key) != value
    ]


def _old_dev(folder: Path, asked: Mapping[str, Any]) -> list[Choice]:
    """The dev set that the model was chosen by, where its run has one in the same languages."""
    from vitrail.models.stored import model_folder

    run = folder.parent if folder.name == "model" and model_folder(folder) == folder else folder
    sides = {side: run.absolute() / "data" / f"dev.{side}" for side in ("source", "target")}
    if not all(path.is_file() for path in sides.values()) or not _same_languages(folder, asked):
        return []
    text = {side: str(path) for side, path in sides.items()} | {"format": "plain"}
    return [Choice("data.old_dev", text, f"the dev set of {folder}: what is forgotten is seen")]


def _same_languages(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the text may be in the model's languages: not where both are known to differ."""
    from vitrail.config import build
    from vitrail.data.data_config import DataConfig

    data = build(DataConfig, dict(_below(asked, "data")), origin="settings")
    old, new = languages_of(folder), data.languages
    return any(corpus.tag for corpus in data.corpora) or all(
        not one or not other or same_language(one, other) for one, other in zip(old, new, strict=True)
    )


def languages_of(folder: Path) -> tuple[str, str]:
    """The languages of the model in a folder, as it says; empty where it does not."""
    from vitrail.models.stored import read_facts

    facts = read_facts(folder)
    return str(facts.get("source_language", "")), str(facts.get("target_language", ""))


def _length(asked: Mapping[str, Any], usual: Mapping[str, Choice], a_pass: Pass) -> list[Choice]:
    """Rate, warm-up, length, validations and patience."""
    adapters = bool(_below(asked, "lora").get("rank"))
    share = ADAPTER_RATE_SHARE if adapters else RATE_SHARE
    rate = float(usual["optimizer.learning_rate"].value) * share
    steps_a_pass = max(1, math.ceil(a_pass.words * TOKENS_PER_WORD / tokens_a_step(asked, int(usual["train.batch_tokens"].value))))
    passes = min(MOST_PASSES, max(FEWEST_PASSES, math.ceil(STEPS / steps_a_pass)))
    steps, length = passes * steps_a_pass, f"{passes * a_pass.epochs:.4g} epochs"
    every = max(1, round(steps / VALIDATIONS))
    kept = f"{share:g} of the rate from scratch: small steps keep more of what the model knows"
    return [
        Choice("optimizer.learning_rate", round(rate, 8), "adapters start from nothing" if adapters else kept),
        Choice("schedule.warmup", f"{WARMUP} steps, at most {WARMUP_SHARE}", "the optimizer's moments begin anew"),
        Choice("train.duration", length, f"{passes} passes over the new text: about {steps:,} steps"),
        Choice("train.validate_every", f"{every} steps, at most {VALIDATION_SHARE}", f"about {VALIDATIONS} validations"),
        Choice("train.patience", PATIENCE, "it stops when the dev score gets no better"),
        Choice("train.validate_start", True, "so that what is gained and lost is seen; a model that gets no better stays what it was"),
    ]
