"""Ways to fine-tune a translator on a little text, side by side: `vitrail experiment finetune`.

Every training is a run of its own in the folder of the study: what is stopped goes on, what is finished is not trained again. All models
translate the same two test sets: that of the new text, and that of the text which the old model was made for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitrail.config import Override, build
from vitrail.data.data_config import OLD_PART
from vitrail.data.preparing.prepared import open_prepared
from vitrail.data.preparing.store import INDEX
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.decode.translate import TranslateConfig, Translator
from vitrail.errors import UsageError
from vitrail.evaluation.scores import Comparison, Recipe, Statistics, collect_statistics, compare_statistics, score
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import fill, load_model, save_model
from vitrail.scoring import bleu_settings_for
from vitrail.train.log.display import TrainingDisplay
from vitrail.train.request import Request, keep_choices, plan_run, to_run_config
from vitrail.train.run import OLD_SHARE, train
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.mixing import begins_at, least_share, mix
from vitrail.train.starting.warm_start import start_from
from vitrail.train.tasks import make_task

SCRATCH, PLAIN, MIXED = "from scratch", "fine-tuned", "fine-tuned, old text mixed in"
AVERAGED = ", averaged with the old weights"
WAYS = (SCRATCH, PLAIN, PLAIN + AVERAGED, MIXED, MIXED + AVERAGED, "L2 to the old weights", "LoRA")
SHORT_NAMES: dict[str, str] = dict(zip(("scratch", "plain", "plain-averaged", "mixed", "mixed-averaged", "l2", "lora"), WAYS, strict=True))
"""Of the command line."""
_TRIALS = 1_000


@dataclass(frozen=True)
class TuningPlan:
    """What is trained, and on what it is scored."""

    start: Path
    """The old model: the folder of a run, with its dev set."""
    new: Mapping[str, Any]
    """The new text, as a table of `data.corpora`."""
    dev: Mapping[str, Any]
    test: Mapping[str, Any]
    old: Mapping[str, Any]
    """Text that the old model was made of, to mix in."""
    old_test: Mapping[str, Any]
    ways: tuple[str, ...] = WAYS
    seeds: int = 2
    old_part: float = OLD_PART
    """How much of the mixture is old text, in target tokens."""
    l2: float = 0.01
    rank: int = 8
    beams: int = 1
    """Of all translations of the test sets."""
    settings: tuple[Override, ...] = ()
    """Of every training; the length, of fine-tunings alone."""

    def __post_init__(self) -> None:
        if unknown := [way for way in self.ways if way not in WAYS]:
            raise UsageError(f"way {unknown[0]!r}", expected="; ".join(WAYS))
        if self.seeds < 1 or not self.ways or not 0 < self.old_part < 1:
            raise UsageError("nothing to train", expected="at least one seed and one way, and a part of old text between 0 and 1")


@dataclass(frozen=True)
class Tuned:
    """One fine-tuned model: BLEU on both test sets, and the differences, each with its 95 % interval."""

    way: str
    seed: int
    steps: int
    old_share: float | None
    """Of averaged weights, how much of them is old; chosen on the dev sets."""
    new: Comparison
    """On the new test set, against the old model."""
    new_to_scratch: Comparison | None
    """The same against the model from scratch of this seed."""
    old: Comparison
    """On the old test set, against the old model."""


@dataclass(frozen=True)
class TuningReport:
    """All of them."""

    pairs: int
    """Of the new text."""
    facts: tuple[str, ...]
    points: tuple[Tuned, ...]

    def to_text(self) -> str:
        """A table for people: a row a model."""
        rows = [["", "seed", "steps", "new test", "against the old model", "against scratch", "old test", "against the old model"]]
        for one in self.points:
            name = one.way + ("" if one.old_share is None else f" ({one.old_share:.0%})")
            scratch = "" if one.new_to_scratch is None else _difference(one.new_to_scratch)
            sides = [f"{one.new.system:.2f}", _difference(one.new), scratch, f"{one.old.system:.2f}", _difference(one.old)]
            rows.append([name, f"{one.seed}", f"{one.steps:,}", *sides])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*self.facts, "", *table]) + "\n"

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def _difference(one: Comparison) -> str:
    return f"{one.difference:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


class _Test(NamedTuple):
    """A test set and its recipe."""

    source: list[str]
    target: list[str]
    recipe: Recipe

    def of(self, translator: Translator) -> Statistics:
        texts = [one.text for one in translator.translate(self.source)]
        return collect_statistics(texts, [self.target], recipe=self.recipe)


class _Tests(NamedTuple):
    new: _Test
    old: _Test

    def of(self, translator: Translator) -> tuple[Statistics, Statistics]:
        return self.new.of(translator), self.old.of(translator)


def run_tuning_experiment(plan: TuningPlan, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> TuningReport:
    """Train what is not trained yet, in `folder`/runs, and score all models on both test sets.

    Raises: UsageError for settings that cannot be, or where a folder holds something else; Stopped, Interrupted: after saving.
    """
    loaded = load_model(plan.start)
    tests = _Tests(*(_read_test(text, str(loaded.facts.get("target_language", ""))) for text in (plan.test, plan.old_test)))
    before = tests.of(_load(plan.start, plan))
    points: list[Tuned] = []
    for seed in range(1, plan.seeds + 1):
        scratch: Statistics | None = None
        for way in plan.ways:
            translator, steps, share = _model_of(plan, folder, way, seed=seed)
            new, old = tests.of(translator)
            against = [compare_statistics(one, found)[0] for one, found in ((before[0], new), (before[1], old))]
            to_scratch = None if scratch is None else compare_statistics(scratch, new)[0]
            scratch = new if way == SCRATCH else scratch
            points.append(Tuned(way, seed, steps, share, against[0], to_scratch, against[1]))
            say(f"{way}, seed {seed}: BLEU {against[0].system:.2f} on the new test set, {against[1].system:.2f} on the old one")
    corpus = build(ParallelText, dict(plan.new), origin="the new text")
    scores = [score(one)[0] for one in before]
    facts = (
        f"{corpus.count():,} pairs of {corpus.label}; the old model has BLEU {scores[0].value:.2f} on the new test set"
        f" ({scores[0].sentences:,} sentences) and {scores[1].value:.2f} on the old one ({scores[1].sentences:,})",
        f"old text mixed in: {plan.old_part:.0%}; L2 to the old weights: {plan.l2:g}; LoRA: rank {plan.rank}; beams: {plan.beams}",
        f"differences in BLEU with 95 % intervals by paired bootstrap; {scores[0].signature}",
    )
    order = {way: place for place, way in enumerate(WAYS)}
    return TuningReport(corpus.count(), facts, tuple(sorted(points, key=lambda one: (order[one.way], one.seed))))


def _read_test(text: Mapping[str, Any], language: str) -> _Test:
    pairs = list(build(ParallelText, dict(text), origin="test").pairs())
    targets = [pair.target for pair in pairs]
    counting = bleu_settings_for(language, targets)
    recipe = Recipe(("bleu",), tokenize=counting.tokenize, effective_order=counting.effective_order, trials=_TRIALS)
    return _Test([pair.source for pair in pairs], targets, recipe)


def _model_of(plan: TuningPlan, folder: Path, way: str, *, seed: int) -> tuple[Translator, int, float | None]:
    """The translator of one way, its steps, and the share of old weights in it."""
    trained = way.removesuffix(AVERAGED)
    run = folder / "runs" / f"{WAYS.index(trained)}-{seed}"
    config, steps = _train(plan, run, trained, seed=seed)
    if trained == way:
        return _load(run, plan), steps, None
    new, model = load_model(run), folder / "averaged" / run.name
    share, weights = _averaged(config, run, unique_tensors(new.model))
    save_model(model, tensors=weights, config=new.config, vocabularies=new.vocabularies, facts=new.facts | {OLD_SHARE: share})
    return _load(model, plan), steps, share


def _load(model: Path, plan: TuningPlan) -> Translator:
    """A model that translates as all others do."""
    return Translator.load(model, config=TranslateConfig(precision="fp32"), search={"beams": plan.beams})


def _averaged(config: RunConfig, run: Path, new: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """The weights that `train.old_share = auto` would have made: with those that the training began with, new tokens among them."""
    prepared = open_prepared(run / "data")
    task = make_task(config, prepared, torch.device("cpu"))
    began = task.build()
    start_from(began, config, prepared.vocabularies)
    old = begins_at(began)

    def validate(weights: dict[str, Tensor]) -> dict[str, float]:
        model = task.build()
        fill(model, weights)
        return task.validate(model).values

    share = least_share(old, new, validate, lost=config.train.old_lost)[-1].share
    return share, mix(old, new, share)


def _train(plan: TuningPlan, run: Path, way: str, *, seed: int) -> tuple[RunConfig, int]:
    """Train one, or go on with it; returns its settings and its steps."""
    settings = [one for one in plan.settings if way != SCRATCH or one.path != ("train", "duration")]
    request = Request(overrides=(*settings_of(plan, way), Override(("seed",), seed), *settings))
    planned = plan_run(request, run, gpu=torch.cuda.is_available())
    config = to_run_config(planned.table)
    with TrainingDisplay(run) as display:

        def begin() -> None:
            display.keep()
            keep_choices(run, planned.choices)

        return config, train(config, run, observers=[display.observe], say=display.say, begin=begin).progress.step


def settings_of(plan: TuningPlan, way: str) -> Sequence[Override]:
    """What is set for a way, beside what is set for all."""
    data: dict[str, Any] = {"corpora": [dict(plan.new)], "dev": dict(plan.dev), "holdout": {"test_pairs": 0}}
    mixed = {"old": [dict(plan.old)], "old_part": plan.old_part} if way == MIXED else {"old": False}
    told = [Override(("data",), data if way == SCRATCH else data | mixed)]
    if way != SCRATCH:
        told += [Override(("from",), str(plan.start)), Override(("train", "old_share"), 0.0)]
    told += [Override(("optimizer", "l2_start"), plan.l2)] if way.startswith("L2") else []
    return told + ([Override(("lora", "rank"), plan.rank)] if way == "LoRA" else [])


def own_text_of(start: Path) -> dict[str, Any]:
    """The pairs that the old model's run was trained on. Raises UsageError where they are not there."""
    index = start / "data" / INDEX
    if not index.is_file():
        raise UsageError(f"{start}: has no text of its own", remedy="--old FILE,FILE")
    return {"source": str(index)}


def own_test_of(start: Path) -> dict[str, Any]:
    """The test set that the old model's run holds. Raises UsageError where it has none."""
    sides = {side: start / "data" / f"test.{side}" for side in ("source", "target")}
    if not all(path.is_file() for path in sides.values()):
        raise UsageError(f"{start}: has no test set of its own", remedy="--old-test FILE,FILE")
    return {side: str(path) for side, path in sides.items()} | {"format": "plain"}
