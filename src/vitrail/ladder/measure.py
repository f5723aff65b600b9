"""Measure a finished run as a rung: all fields of `rungs.Rung`, from its folder and a test set."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter

from vitrail.config import read_toml
from vitrail.data.preparing.prepare import Prepared
from vitrail.data.preparing.prepared import PreparedText, Texts, open_data
from vitrail.decode.perplexity import TextPerplexity
from vitrail.decode.translate import TranslateConfig, Translator
from vitrail.errors import ModelError
from vitrail.evaluation.curves import LearningCheck, Point, TrainingEstimate
from vitrail.evaluation.gradient_norms import source_gradients
from vitrail.evaluation.learned import check_learning, estimate_training, own_and_other, source_gain, word_entropy
from vitrail.evaluation.scores import SEED, Recipe, Statistics, collect_statistics, compare_statistics, score
from vitrail.evaluation.slices import Share, by_length_of, challenge, proportion
from vitrail.files import read_json_lines
from vitrail.ladder.flops import step_cost
from vitrail.ladder.rung_worker import read_process
from vitrail.ladder.rungs import Rung, RungComparison
from vitrail.models.build import count_parameters
from vitrail.models.model_folder import LoadedModel, load_model
from vitrail.phrasebook.corpus import Phrasebook, agreement_accuracy, pronoun_accuracy
from vitrail.runtime.device import choose_device, set_threads
from vitrail.scoring import bleu_settings_for
from vitrail.train.log.metrics import perplexity
from vitrail.train.request import to_run_config
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.validate import DevSet, dev_loss

_METRICS = ("bleu", "chrf")
_RESAMPLES = 1000
_NEEDS = {
    "train": ("step", "epoch", "tokens_per_second"),
    "validation": ("step", "seconds", "dev_loss_nats_per_token"),
    "finished": ("step", "tokens"),
}
"""The keys that are read from each kind of log line; a line without them is damaged."""
_RUNG: TypeAdapter[Rung] = TypeAdapter(Rung)


class RungLabel(NamedTuple):
    """The name of a rung, and the settings in which it differs from the others."""

    name: str
    title: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A run's folder, opened."""

    folder: Path
    config: RunConfig
    data: Prepared | PreparedText

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open a run's folder. Raises ModelError where it is not a run of a translator or a language model, or its data are missing."""
        if not (folder / "config.toml").exists():
            raise ModelError(f"{folder}: not a run directory", expected="the folder of a run, as vitrail train makes it")
        config, data = to_run_config(read_toml(folder / "config.toml"), origin=str(folder)), open_data(folder / "data")
        if config.task not in ("translation", "language") or not isinstance(data, Prepared | PreparedText):
            raise ModelError(f"{folder}: a model for {config.task}", expected="the run of a translator or a language model")
        return cls(folder, config, data)

    @property
    def prepared(self) -> Prepared:
        """The pairs of a translator's run. Raises ModelError for text of another kind."""
        if not isinstance(self.data, Prepared):
            raise ModelError(f"{self.folder}: holds a language model", expected="the run of a translator")
        return self.data

    def translator(self) -> Translator:
        """A translator with the run's model and configured search."""
        config = TranslateConfig(search=self.config.search)
        return Translator.load(self.folder, engine="torch", device=self.config.train.device, config=config)

    def device(self) -> torch.device:
        """The device to measure on: that of the training, if available here."""
        return choose_device(self.config.train.device, instead="--set train.device=cpu")


class TrainingSummary(NamedTuple):
    """A summary of the log of a training."""

    steps: int
    epochs: float
    minutes: float
    tokens_per_second: float
    finished: bool
    curve: tuple[Point, ...]


class MeasuredRung(NamedTuple):
    """A rung, and what paired comparisons need of it."""

    rung: Rung
    translations: list[str]
    pieces: list[TextPerplexity] = []  # noqa: RUF012  # never changed
    """Of a language model, in place of translations: the test text in pieces of neighbouring lines."""


def measure_rung(runs: Sequence[Run], named: RungLabel, *, test: Texts, book: Phrasebook | None = None) -> MeasuredRung:
    """Measure a rung: all fields from the run of the first seed, only BLEU from the other seeds.

    Args:
        test: sentences to translate; empty where there are none.
        book: the phrasebook, where the text is the phrasebook's: gives pronoun and agreement accuracy.
    Raises: ModelError where a run has no model, no log, or no dev text.
    """
    first = runs[0]
    if not first.prepared.dev.source:
        raise ModelError(f"{first.folder}: has no dev text", expected="a run with dev text, held out or given")
    set_threads(first.config.train.threads)
    loaded = load_model(first.folder, device=first.device())
    trained, cost = read_training(first), step_cost(first.config, first.prepared)
    dev, tested = _loss(first, loaded, first.prepared.dev), _loss(first, loaded, test) if test.source else None
    started = time.perf_counter()
    translations = [[one.text for one in first.translator().translate(test.source)]]
    seconds = time.perf_counter() - started
    translations += [[one.text for one in run.translator().translate(test.source)] for run in runs[1:]]
    statistics = [translation_statistics(first.prepared, texts, test) for texts in translations] if test.source else []
    learned = check_learning(
        dev_loss=dev,
        entropy=word_entropy(first.prepared),
        gain=source_gain(loaded.model, first.prepared),
        chrf=own_and_other(translations[0], test.target),
    )
    rung = Rung(
        **named._asdict(),
        seeds=tuple(run.config.seed for run in runs),
        parameters=count_parameters(loaded.model)["total"],
        steps=trained.steps,
        epochs=trained.epochs,
        minutes=trained.minutes,
        training_flops=cost.flops * trained.steps,
        tokens_per_second=trained.tokens_per_second,
        peak_memory_bytes=read_process(first.folder).get("peak_memory_bytes"),
        dev_loss=dev,
        dev_perplexity=perplexity(dev),
        test_loss=tested,
        test_perplexity=None if tested is None else perplexity(tested),
        scores=tuple(score(statistics[0])) if statistics else (),
        seed_scores=tuple(score(one)[0].value for one in statistics),
        bands=tuple(by_length_of(test.source, statistics[0])) if statistics else (),
        shares=_shares(first, book, translations[0]) if book and test.source else (),
        sentences_per_second=len(test.source) / seconds if test.source else None,
        gradients=source_gradients(loaded.model, loaded.vocabularies, first.prepared.dev.source, first.prepared.dev.target),
        curve=trained.curve,
        learned=learned,
        enough=_enough(trained, learned) if learned.doubts else None,
    )
    return MeasuredRung(rung, translations[0])


def _enough(trained: TrainingSummary, learned: LearningCheck) -> TrainingEstimate:
    return estimate_training(trained.curve, entropy=learned.word_entropy, steps=trained.steps, minutes=trained.minutes)


def _loss(run: Run, loaded: LoadedModel, texts: Texts) -> float:
    """Nats a token, without smoothing."""
    with torch.inference_mode():
        nats, tokens = dev_loss(loaded.model, loaded.vocabularies, DevSet(*texts), device=run.device())
    return nats / tokens


def read_training(run: Run) -> TrainingSummary:
    """Read `metrics.jsonl`. Speed counts updates only, without validations and interruptions.

    Raises ModelError where nothing was trained.
    """
    log = read_json_lines(run.folder / "metrics.jsonl", needs=_NEEDS)
    windows = [line for line in log if line["kind"] == "train" and line["tokens_per_second"]]
    if not windows:
        raise ModelError(f"{run.folder}: metrics.jsonl has no training records", remedy=f"vitrail train -o {run.folder}")
    last = windows[-1]
    # A run that was finished and then trained further has several; only the last one counts.
    ends = [line for line in log if line["kind"] == "finished" and line["step"] >= last["step"]]
    end = ends[-1] if ends else None
    cost = step_cost(run.config, run.data)
    tokens = end["tokens"] if end else cost.target_tokens * last["step"]
    # A window has its speed, not its tokens: steps have about equally many, by the budget of a batch.
    a_step = tokens / last["step"]
    steps = np.diff([0, *(line["step"] for line in windows)])
    seconds = float(sum(count * a_step / line["tokens_per_second"] for count, line in zip(steps.tolist(), windows, strict=True)))
    return TrainingSummary(last["step"], last["epoch"], seconds / 60, tokens / seconds, end is not None, tuple(_curve(log)))


def _curve(log: Sequence[dict[str, Any]]) -> list[Point]:
    """The validations with a finite loss, without those of averaged checkpoints, which belong to no step."""
    return [
        Point(line["step"], line["seconds"] / 60, line["dev_loss_nats_per_token"], line.get("dev_bleu", math.nan))
        for line in log
        if line["kind"] == "validation" and line["dev_loss_nats_per_token"] is not None and "averaged_checkpoints" not in line
    ]


def translation_statistics(prepared: Prepared, translations: Sequence[str], test: Texts) -> Statistics:
    """The counts for BLEU and chrF, with the settings for the target language and the test set."""
    counting = bleu_settings_for(prepared.facts["target_language"], test.target)
    recipe = Recipe(_METRICS, tokenize=counting.tokenize, effective_order=counting.effective_order)
    return collect_statistics(translations, [test.target], recipe=recipe)


def compare_rungs(prepared: Prepared, test: Texts, *, baseline: MeasuredRung, system: MeasuredRung) -> RungComparison:
    """Compare two rungs on the same test set."""
    both = [translation_statistics(prepared, one.translations, test) for one in (baseline, system)]
    return RungComparison(baseline.rung.name, system.rung.name, tuple(compare_statistics(*both)))


def _shares(run: Run, book: Phrasebook, tested: Sequence[str]) -> tuple[Share, ...]:
    """Pronouns on the challenge set, agreement on the test set."""
    items = {item.source: item for item in book.pronouns}
    found = [one.text for one in run.translator().translate(list(items))]
    pronouns = challenge("pronouns", list(items), found, passes=lambda source, text: pronoun_accuracy([items[source]], [text]).correct > 0)
    return pronouns, _agreement(book, tested)


def _agreement(book: Phrasebook, tested: Sequence[str]) -> Share:
    """The interval resamples sentences, because errors within a sentence are correlated."""
    counts = np.array([agreement_accuracy([pair], [text]) for pair, text in zip(book.test, tested, strict=True)])
    right, total = counts.sum(axis=0).tolist()
    if right in (0, total):  # all resamples would be equal
        return proportion("agreement", right, total)
    generator = np.random.default_rng(SEED)
    drawn = np.stack([counts[generator.integers(len(counts), size=len(counts))].sum(axis=0) for _ in range(_RESAMPLES)])
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975)).tolist()
    return Share("agreement", right, total, right / total, low, high)


def rung_to_json(measured: MeasuredRung, *, asked: dict[str, Any]) -> str:
    """A rung as JSON, with its settings."""
    record = {"asked": asked, "rung": asdict(measured.rung), "translations": measured.translations}
    record |= {"pieces": [asdict(piece) for piece in measured.pieces]} if measured.pieces else {}
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def rung_from_json(text: bytes) -> tuple[dict[str, Any], MeasuredRung]:
    """The inverse of `rung_to_json`. Raises ValueError for anything else."""
    record = json.loads(text)
    pieces = [TextPerplexity(**piece) for piece in record.get("pieces", [])]
    return record["asked"], MeasuredRung(_RUNG.validate_python(record["rung"]), record["translations"], pieces)
