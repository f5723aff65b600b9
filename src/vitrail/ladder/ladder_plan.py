"""The plan of a comparison: its rungs, its budget, and a full configuration for each rung."""

import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast

import torch
from pydantic import ValidationError

from vitrail.config import Duration, Override, build, merge, parse_override, read_toml, with_overrides
from vitrail.data.preparing.prepare import DataConfig, Prepared
from vitrail.data.preparing.prepared import PreparedText
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.text_config import TextConfig
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import UsageError
from vitrail.ladder.flops import StepCost, shape_of, step_cost
from vitrail.models.architectures import LanguageModelConfig, ModelConfig, TaskName, preset, read_config
from vitrail.models.build import build_model, count_parameters
from vitrail.runtime.cores import usable_cores
from vitrail.train.choosing.choose import PRESET, Choice, CorpusFacts, choose, gather_facts, still_automatic, to_table
from vitrail.train.choosing.choose_text import TextFacts, choose_for_text, gather_text_facts
from vitrail.train.request import Request, read_recipe, to_run_config
from vitrail.train.run_config import RunConfig

CLOSE = 0.1
"""Parameters that differ by no more than this share count as matched."""
Facts = CorpusFacts | TextFacts
Shape = ModelConfig | LanguageModelConfig
_WIDTHS = range(8, 8193, 8)
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_RESERVED = ("data", "data.preparing", "phrasebook")
_TUNED = (("optimizer", "learning_rate"), ("schedule", "warmup"))
"""Settings that a recipe makes for its own preset; other presets get those of `choose`."""


@dataclass(frozen=True)
class RungSpec:
    """The specification of a rung."""

    name: str
    title: str
    preset: str
    settings: tuple[Override, ...] = ()
    """Settings of this rung; they override those of the whole ladder."""


def _standard(name: str, title: str, preset: str, *settings: str) -> RungSpec:
    return RungSpec(name, title, preset, tuple(map(parse_override, settings)))


STANDARD = {
    rung.name: rung
    for rung in (
        _standard("rnn", "RNN", "rnn"),
        _standard("lstm", "LSTM", "lstm"),
        _standard("gru", "GRU", "gru"),
        _standard("lstm-bahdanau", "LSTM + Bahdanau attention", "lstm-attention", "model.attention=bahdanau"),
        _standard("lstm-luong", "LSTM + Luong attention", "lstm-attention", "model.attention=luong-general"),
        _standard("transformer", "Transformer", "tiny"),
    )
}
"""The rungs of a ladder for which none are named, in the order of history."""
# Embeddings are as wide as those of gpt-mini, so that models of the same size differ in what they do between them.
STANDARD_TEXT = {
    rung.name: rung
    for rung in (
        _standard("rnn-lm", "RNN language model", "rnn-lm", "model.embedding_width=128"),
        _standard("gru-lm", "GRU language model", "gru-lm", "model.embedding_width=128"),
        _standard("lstm-lm", "LSTM language model", "lstm-lm", "model.embedding_width=128"),
        _standard("gpt-mini", "causal Transformer", "gpt-mini"),
    )
}
"""The same for plain text."""


def standard_rungs(task: TaskName) -> dict[str, RungSpec]:
    """The rungs of a ladder of models for this task."""
    return STANDARD_TEXT if task == "language" else STANDARD


def parse_rung(text: str, *, task: TaskName = "translation") -> RungSpec:
    """Read `NAME` or `NAME=key=value,key=value`: a standard rung or a preset by its name, or any name with `preset=` among its settings.

    Raises UsageError that lists the names.
    """
    name, _, rest = text.partition("=")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(f"--rung {text}", expected="NAME or NAME=key=value,key=value", remedy="--rung small=preset=tiny,model.width=64")
    # A value may contain commas: a comma separates settings only before another key.
    settings = [parse_override(part) for part in re.split(r",(?=[a-z_.]+=)", rest)] if rest else []
    named = {setting.path[0]: str(setting.value) for setting in settings if setting.path == (PRESET,)}
    standard = standard_rungs(task)
    base = standard.get(name) or RungSpec(name, name, name)
    own = tuple(setting for setting in settings if setting.path != (PRESET,))
    for setting in own:
        if setting.path[0] in ("data", "seed") or setting.path == ("train", "duration"):
            raise UsageError(
                f"--rung {text}: {'.'.join(setting.path)} of one rung",
                expected="the same text, seeds and budget for all rungs",
                remedy="set it for all rungs, with --set or --budget",
            )
    rung = replace(base, preset=named.get(PRESET, base.preset), settings=(*base.settings, *own))
    if not named and name not in standard:
        _known_preset(rung, task)
    return rung


def _known_preset(rung: RungSpec, task: TaskName) -> Shape:
    try:
        return preset(rung.preset, task=task)
    except UsageError as error:
        of = " of plain text (--text)" if task == "language" else ""
        raise UsageError(
            f"rung {rung.name!r}: preset {rung.preset!r}{of}",
            expected=f"one of {' '.join(standard_rungs(task))}, or a preset: {error.expected}",
        ) from None


class Budget(NamedTuple):
    """The training budget of each rung."""

    amount: float
    unit: Literal["steps", "epochs", "minutes", "FLOPs"]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read "10 minutes", "3 epochs", "2000 steps" or "5e14 FLOPs". Raises UsageError for anything else."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\+?\d+)?)\s*(flop|step|epoch|minute)s?\s*", text, re.IGNORECASE)
        if match is None:
            raise UsageError(f"--budget {text!r}", expected='such as "10 minutes", "3 epochs", "2000 steps" or "5e14 FLOPs"')
        units: dict[str, Literal["steps", "epochs", "minutes", "FLOPs"]] = {
            "flop": "FLOPs",
            "step": "steps",
            "epoch": "epochs",
            "minute": "minutes",
        }
        budget = cls(float(match[1]), units[match[2].lower()])
        if budget.unit == "steps" and budget.amount % 1:
            raise UsageError(f"--budget {text!r}: part of a step", expected="whole steps")
        if budget.amount <= 0 or not math.isfinite(budget.amount):
            raise UsageError(
                f"--budget {text!r}: no rung can take a step within it",
                expected="a finite budget of at least one step",
                remedy="10 minutes",
            )
        return budget

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


@dataclass(frozen=True)
class LadderSpec:
    """The specification of a whole ladder."""

    request: Request
    """Text, recipe, and what is set for all rungs."""
    rungs: tuple[RungSpec, ...] = tuple(STANDARD.values())
    budget: Budget | None = None
    """None: the duration of the recipe, or one chosen from the data."""
    seeds: int = 1
    match: bool = True
    """Choose the widths of the other rungs to match the number of parameters of the reference."""

    def __post_init__(self) -> None:
        names = [rung.name for rung in self.rungs]
        double = sorted({name for name in names if names.count(name) > 1})
        if double or not names:
            raise UsageError(f"--rung {double[0]}: given twice" if double else "no rung", expected="rungs of different names")
        if self.seeds < 1:
            raise UsageError(f"--seeds {self.seeds}", expected="at least 1")

    @property
    def task(self) -> TaskName:
        """What the rungs learn: it follows from the text."""
        return "language" if "text" in self.request.table().get("data", {}) else "translation"

    def shared(self, *, preset: str) -> dict[str, Any]:
        """The settings of all rungs of a preset, as one table."""
        recipe = read_recipe(self.request.recipe) if self.request.recipe else {}
        if recipe.get(PRESET, preset) != preset:
            for part, key in _TUNED:
                recipe = {**recipe, part: {name: value for name, value in recipe.get(part, {}).items() if name != key}}
        own = with_overrides(read_toml(self.request.file) if self.request.file else {}, self.request.overrides)
        return merge(recipe, own)


@dataclass(frozen=True)
class PlannedRung:
    """A rung that can be trained."""

    name: str
    title: str
    config: RunConfig
    """Of the first seed."""
    settings: tuple[str, ...]
    """The settings in which it differs from the other rungs, as `--set` takes them."""
    parameters: int
    cost: StepCost


class Plan(NamedTuple):
    """All rungs, and notes on all of them."""

    rungs: tuple[PlannedRung, ...]
    budget: str
    notes: tuple[str, ...]


def corpora_of(spec: LadderSpec) -> tuple[ParallelText, ...]:
    """The text to train on. Raises UsageError where none is named."""
    asked = spec.request.table().get("data", {})
    if not asked.get("corpora"):
        raise UsageError("no text to train on", expected="--source FILE --target FILE, or --corpus FILE")
    return build(DataConfig, asked, origin="settings").corpora


def facts_of(spec: LadderSpec) -> Facts:
    """The facts of the text that settings are chosen by. Raises UsageError where no text is named, or text of both kinds; DataError."""
    if spec.task == "language":
        asked = spec.request.table()["data"]
        if "corpora" in asked:
            raise UsageError("--text together with pairs", expected="plain text for language models, or two sides for translators")
        return gather_text_facts(build(TextConfig, asked, origin="settings").text)
    return gather_facts(corpora_of(spec), cores=usable_cores(), gpu=torch.cuda.is_available())


def _choose(facts: Facts, *, preset: str | None = None, asked: Mapping[str, Any]) -> list[Choice]:
    if isinstance(facts, TextFacts):
        return choose_for_text(facts, preset=preset, asked=asked)
    return choose(facts, preset=preset, asked=asked)


def data_config(spec: LadderSpec, facts: Facts) -> DataConfig | TextConfig:
    """The text that all rungs share, and how it is prepared."""
    asked = spec.request.table()
    table = merge(to_table(still_automatic(_choose(facts, asked=asked), asked)), asked)
    return build(TextConfig if isinstance(facts, TextFacts) else DataConfig, table["data"], origin="settings")


def require_possible(spec: LadderSpec, *, facts: Facts, data: DataConfig | TextConfig) -> None:
    """Raise UsageError for invalid settings, before any text is prepared."""
    _unshared(spec, [_draft(spec, rung, facts=facts, data=data) for rung in spec.rungs])


def plan_ladder(spec: LadderSpec, prepared: Prepared | PreparedText, *, facts: Facts, data: DataConfig | TextConfig) -> Plan:
    """A configuration for each rung: presets and their automatic choices, widths that match parameters, and the budget in steps.

    Raises UsageError for invalid settings, and for a budget too small for one step of some rung.
    """
    drafts = [_draft(spec, rung, facts=facts, data=data) for rung in spec.rungs]
    notes = _unshared(spec, drafts)
    shapes = [shape_of(draft.config) for draft in drafts]
    counts = [count_model_parameters(shape, prepared.vocabularies) for shape in shapes]
    reference = next((place for place, shape in enumerate(shapes) if shape.is_reference), len(drafts) - 1)
    planned: list[PlannedRung] = []
    for place, draft in enumerate(drafts):
        if spec.match and place != reference and not draft.own_width:
            model = match_width(shapes[place], counts[reference], prepared.vocabularies)
            draft = draft.with_model(model)
        planned.append(_afford(spec, draft, prepared))
    wanted = planned[reference].parameters
    notes += [
        f"{rung.name} has {rung.parameters:,} parameters, {rung.parameters / wanted - 1:+.0%} against the {wanted:,} of "
        f"{planned[reference].name}: not matched"
        for rung in planned
        if abs(rung.parameters / wanted - 1) > CLOSE
    ]
    return Plan(tuple(planned), f"{spec.budget or planned[reference].config.train.duration} each", tuple(notes))


@dataclass(frozen=True)
class _Draft:
    """A rung before parameters are matched and the budget is divided into steps."""

    wanted: RungSpec
    config: RunConfig
    own_width: bool
    ignored: frozenset[str]
    """Settings of `model` made for all rungs that this one's architecture does not have."""

    def with_model(self, model: Shape) -> "_Draft":
        """The same with another model."""
        return replace(self, config=self.config.model_copy(update={"model": model}))


def _draft(spec: LadderSpec, rung: RungSpec, *, facts: Facts, data: DataConfig | TextConfig) -> _Draft:
    shared = spec.shared(preset=rung.preset)
    known = type(_known_preset(rung, spec.task)).model_fields.keys()
    model: dict[str, Any] = shared.get("model", {})
    shared = {**shared, "model": {key: value for key, value in model.items() if key in known}}
    asked = with_overrides({**shared, PRESET: rung.preset}, rung.settings)
    standing = still_automatic(_choose(facts, preset=rung.preset, asked=asked), asked)
    table = {**merge(to_table(standing), asked), "data": data.model_dump(mode="json")}
    own_width = any(setting.path == ("model", "width") for setting in rung.settings)
    config = to_run_config(table, origin=f"rung {rung.name}")
    return _Draft(rung, config, own_width, frozenset(model.keys() - known))


def _unshared(spec: LadderSpec, drafts: Sequence[_Draft]) -> list[str]:
    """A note on each setting that only some architectures have. Raises UsageError for one that none has."""
    names = sorted({name for draft in drafts for name in draft.ignored})
    notes: list[str] = []
    for name in names:
        taken = [draft.wanted.name for draft in drafts if name not in draft.ignored]
        if not taken:
            raise UsageError(f"model.{name}: no rung has such a setting", remedy="vitrail config lists every key with its meaning")
        notes.append(f"model.{name} is a setting of {', '.join(taken)} only")
    return notes


def count_model_parameters(model: Shape, vocabularies: Vocabularies) -> int:
    """Parameters of a model, without allocating them."""
    with torch.device("meta"):
        return count_parameters(build_model(model, vocabularies))["total"]


def match_width(model: Shape, parameters: int, vocabularies: Vocabularies) -> Shape:
    """The model with the width, a multiple of 8, whose number of parameters is closest to `parameters`."""
    table = cast(Mapping[str, Any], model.model_dump(mode="json"))
    fitting = [changed for width in _WIDTHS if (changed := _with_width(table, width)) is not None]
    place = bisect_left(fitting, parameters, key=lambda one: count_model_parameters(one, vocabularies))
    near = fitting[max(0, place - 1) : place + 1]
    return min(near, key=lambda one: abs(count_model_parameters(one, vocabularies) - parameters))


def _with_width(table: Mapping[str, Any], width: int) -> Shape | None:
    try:
        return cast(Shape, read_config({**table, "width": width}))
    except ValidationError:
        return None


def _afford(spec: LadderSpec, draft: _Draft, prepared: Prepared | PreparedText) -> PlannedRung:
    """Convert the budget into the settings of a rung."""
    config, cost = draft.config, step_cost(draft.config, prepared)
    duration = config.train.duration
    if spec.budget is not None and spec.budget.unit == "FLOPs":
        duration = Duration(amount=int(spec.budget.amount // cost.flops), unit="steps")
        if duration.amount < 1:
            raise UsageError(
                f"--budget '{spec.budget}': {draft.wanted.name} cannot take a step within it",
                expected=f"at least {cost.flops:.2e} FLOPs, which a step of it costs",
                remedy=f'"{1000 * cost.flops:.0e} FLOPs", a thousand steps',
            )
    elif spec.budget is not None:
        duration = Duration(amount=spec.budget.amount, unit=spec.budget.unit)  # pyright: ignore[reportArgumentType]  # FLOPs are dealt with
    steps = {"steps": duration.amount, "epochs": duration.amount * cost.steps_per_epoch}.get(duration.unit, 1)
    if steps < 1:
        raise UsageError(
            f"--budget '{spec.budget}': {draft.wanted.name} cannot take a step within it",
            expected=f"at least {1 / cost.steps_per_epoch:.2g} epochs, which a step of it is",
        )
    config = config.model_copy(update={"train": config.train.model_copy(update={"duration": duration})})
    return PlannedRung(
        draft.wanted.name,
        draft.wanted.title,
        config,
        _settings(draft.wanted, config, own_duration=spec.budget is not None and spec.budget.unit == "FLOPs"),
        parameters=count_model_parameters(shape_of(config), prepared.vocabularies),
        cost=cost,
    )


def _settings(rung: RungSpec, config: RunConfig, *, own_duration: bool) -> tuple[str, ...]:
    asked = {".".join(setting.path): setting.value for setting in rung.settings}
    found: dict[str, Any] = {
        "model.width": config.model.width,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "schedule.warmup": config.schedule.warmup,
    }
    if own_duration:
        found["train.duration"] = str(config.train.duration)
    return (f"preset={rung.preset}", *(f"{name}={value}" for name, value in (asked | found).items()))
