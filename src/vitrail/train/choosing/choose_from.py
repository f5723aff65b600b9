"""Zero configuration for fine-tuning (`--from FOLDER`): weights, architecture and vocabulary of a model, and settings for new text."""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import merge
from vitrail.errors import ModelError, UsageError
from vitrail.languages import same_language
from vitrail.train.choosing.choose import PRESET, VALIDATION_SHARE, WARMUP_SHARE, Choice, tokens_a_step

if TYPE_CHECKING:
    from vitrail.data.reading.parallel_text import ParallelText
    from vitrail.models.architectures import AnyConfig

FROM, FREEZE = "from", "freeze"
"""Of a request: the folder that is fine-tuned, and the roles of it that stay as they are."""

RATE_SHARE, MIXED_RATE_SHARE = 0.3, 0.6
"""Of the learning rate of a training from scratch; the same where old text is mixed in, which keeps what the model knows."""
ADAPTER_RATE_SHARE = 1.0
"""The same with low-rank adapters, which start from nothing."""
STEPS, FEWEST_PASSES, MOST_PASSES = 1000, 3, 60
"""A fine-tuning takes about so many steps of new text, but passes over it at least and at most so often. Old text comes on top."""
NEW_TOKENS = 2_000
"""At most so many of the new text's pieces become tokens: those that occur twice, hardly any of text like the old."""
OLD_PAIRS = 200_000
"""Of the model's own text, so many pairs are mixed in at most, or as many as are new: they are prepared once more."""
WARMUP = 50
VALIDATIONS = 10
PATIENCE = 4
"""Validations without a better dev score after which it stops."""
_SAMPLE = 2_000


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
    """One pass over the new text: what is drawn meanwhile, with other corpora that are mixed in."""

    tokens: float
    """Of the text that is learned, roughly."""
    epochs: float
    """Its length in epochs of all corpora together."""
    pairs: int = 0
    """Of a translator."""


def tokens_a_pair(asked: Mapping[str, Any], corpora: "Sequence[ParallelText]") -> float:
    """Mean target tokens of a pair in the model's vocabulary, ends counted: more where it knows the text less well. Of the first pairs."""
    from vitrail.data.vocabularies.taking import find_vocabularies

    texts = [pair.target.encode("utf-8", "ignore").decode() for corpus in corpora for pair in islice(corpus.pairs(), _SAMPLE)]
    rows = find_vocabularies(Path(str(asked[FROM]))).target.encode_batch(texts)
    return 1 + sum(map(len, rows)) / max(1, len(rows))


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
    if data == "pairs":
        found += _new_tokens(folder, asked)
        found += _old_texts(folder, asked, most=max(OLD_PAIRS, a_pass.pairs))
        found += _choosing(asked, found)
    found += _length(asked, usual, a_pass, old_part=_old_part(asked, found))
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


def _new_tokens(folder: Path, asked: Mapping[str, Any]) -> list[Choice]:
    """Tokens of the new text's own: where the model's embeddings are trained, and its vocabulary can grow."""
    from vitrail.data.vocabularies.mapped import MappedPieces
    from vitrail.data.vocabularies.taking import find_vocabularies

    if _below(asked, "lora").get("rank") or asked.get(FREEZE) or isinstance(find_vocabularies(folder).target, MappedPieces):
        return []
    return [Choice("data.subwords.new_tokens", NEW_TOKENS, "at most: what occurs twice in the new text and takes several tokens now")]


def _old_texts(folder: Path, asked: Mapping[str, Any], *, most: int) -> list[Choice]:
    """The text that the model was trained on, and the dev set that it was chosen by, where its run has them in the same languages."""
    from vitrail.data.preparing.store import INDEX
    from vitrail.models.stored import model_folder

    if not _same_languages(folder, asked):
        return []
    run = folder.parent if folder.name == "model" and model_folder(folder) == folder else folder
    data = run.absolute() / "data"
    sides = {side: data / f"dev.{side}" for side in ("source", "target")}
    found: list[Choice] = []
    if all(path.is_file() for path in sides.values()):
        text = {side: str(path) for side, path in sides.items()} | {"format": "plain"}
        found.append(Choice("data.old_dev", text, f"the dev set of {folder}: what is forgotten is seen"))
    if (data / INDEX).is_file():
        found.append(
            Choice("data.old", [{"source": str(data / INDEX), "most": most}], f"the text of {folder} is mixed in: less is forgotten")
        )
    elif not _below(asked, "data").get("old"):
        gone = f"the text that {folder} was trained on is not there: more is forgotten, unless --old FILE,FILE names some"
        found.append(Choice("data.old", False, gone))
    return found


def _choosing(asked: Mapping[str, Any], found: Sequence[Choice]) -> list[Choice]:
    """By what the model is chosen, and how much of the old weights goes into it where its old dev text is there."""
    choices = [Choice("train.select", "loss", "it counts each token: less a matter of chance than chrF where the dev text is short")]
    data = _below(asked, "data")
    old_dev = data.get("more_dev") or data.get("old_dev", any(choice.name == "data.old_dev" for choice in found))
    if old_dev and not _below(asked, "lora").get("rank"):
        choices.append(Choice("train.old_share", "auto", "as much of the old weights as it takes to lose little on the old dev text"))
    return choices


def _old_part(asked: Mapping[str, Any], found: Sequence[Choice]) -> float:
    """How much of the training text will be old. A setting that cannot be is refused later, with all others."""
    from vitrail.data.data_config import DataConfig

    data = _below(asked, "data")
    old = data.get("old", next((choice.value for choice in found if choice.name == "data.old"), ()))
    part = data.get("old_part", DataConfig.model_fields["old_part"].default)
    return part if old and isinstance(part, float) and 0 < part < 1 else 0.0


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


def _length(asked: Mapping[str, Any], usual: Mapping[str, Choice], a_pass: Pass, *, old_part: float) -> list[Choice]:
    """Rate, warm-up, length, validations and patience. Args: old_part: of the text that is learned."""
    adapters = bool(_below(asked, "lora").get("rank"))
    share = ADAPTER_RATE_SHARE if adapters else MIXED_RATE_SHARE if old_part else RATE_SHARE
    rate = float(usual["optimizer.learning_rate"].value) * share
    a_step = tokens_a_step(asked, int(usual["train.batch_tokens"].value))
    passes = min(MOST_PASSES, max(FEWEST_PASSES, math.ceil(STEPS * a_step / max(1.0, a_pass.tokens))))
    steps = passes * max(1, math.ceil(a_pass.tokens / (1 - old_part) / a_step))
    length = f"{steps} steps" if old_part else f"{passes * a_pass.epochs:.4g} epochs"  # an epoch would be one of the old text, too
    every = max(1, round(steps / VALIDATIONS))
    kept = f"{share:g} of the rate from scratch: {'old text keeps' if old_part else 'small steps keep more of'} what the model knows"
    return [
        Choice("optimizer.learning_rate", round(rate, 8), "adapters start from nothing" if adapters else kept),
        Choice("schedule.warmup", f"{WARMUP} steps, at most {WARMUP_SHARE}", "the optimizer's moments begin anew"),
        Choice("train.duration", length, f"{passes} passes over the new text: about {steps:,} steps"),
        Choice("train.validate_every", f"{every} steps, at most {VALIDATION_SHARE}", f"about {VALIDATIONS} validations"),
        Choice("train.patience", PATIENCE, "it stops when the dev score gets no better"),
        Choice("train.validate_start", True, "so that what is gained and lost is seen; a model that gets no better stays what it was"),
    ]
