"""Batch norm against layer norm where lengths differ between training and use, or from batch to batch: `vitrail experiment norms`.

Batch norm takes its mean and variance from the batch in training, and from running averages afterwards; layer norm always takes both from
the token itself. Small translators are trained on the built-in phrasebook with either.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch

from vitrail.bench.training_speed import EncodedPairs
from vitrail.bench.training_worker import fresh_model, make_learner
from vitrail.data.batches import Batch, Batches, collate
from vitrail.data.vocabularies.subwords import Subwords, SubwordsConfig, train_vocabularies
from vitrail.errors import UsageError
from vitrail.models.architectures import ModelConfig
from vitrail.models.base import TranslationModel
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.phrasebook.corpus import phrasebook
from vitrail.runtime.device import seed_all, set_threads
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.train.loop import update
from vitrail.train.optim import ScheduleConfig, rate

Lengths = Literal["alike", "mixed", "short"]
LENGTHS: dict[Lengths, str] = {
    "alike": "all, alike within a batch",
    "mixed": "all, mixed within a batch",
    "short": "only the short half",
}
"""The training sentences and how they are batched; `alike` is how `vitrail train` makes batches."""
_WARMUP_SHARE = 0.2
_LONGEST = 256


class Contender(NamedTuple):
    """A model under one norm."""

    title: str
    norm: str
    config: ModelConfig


def contenders() -> tuple[Contender, ...]:
    """A Transformer and a recurrent model with attention, each with both norms, and the latter without any."""
    transformer = TransformerConfig(encoder_layers=2, decoder_layers=2, width=64, heads=4, feed_forward=128)
    recurrent = RecurrentConfig(cell="lstm", attention="luong-general", embedding_width=64, width=96, dropout=0.1)
    return (
        *(Contender("Transformer", norm, transformer.model_copy(update={"norm": norm})) for norm in ("layer", "batch")),
        *(Contender("LSTM + Luong", norm, recurrent.model_copy(update={"norm": norm})) for norm in ("none", "layer", "batch")),
    )


@dataclass(frozen=True)
class NormRow:
    """The results of one model, norm and way of batching; losses are nats per target token, one per seed."""

    title: str
    norm: str
    trained_on: Lengths
    short_loss: tuple[float, ...]
    """Losses on dev sentences as long as those of the short half."""
    long_loss: tuple[float, ...]
    """Losses on all longer ones."""


@dataclass(frozen=True)
class NormReport:
    """All losses, and their conditions."""

    machine: Machine
    conditions: str
    border: int
    """Source subwords up to which a sentence is short."""
    rows: tuple[NormRow, ...]

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        """A table for people, with the differences between batch norm and layer norm."""
        short, long = f"up to {self.border}", f"over {self.border}"
        lines = [self.machine.to_text(), self.conditions, ""]
        lines.append(f"{'dev loss, nats per token':<24}  {'norm':<6} {'trained on':<26} {short:>12} {long:>12}  source subwords")
        for row in self.rows:
            lines.append(
                f"{row.title:<24}  {row.norm:<6} {LENGTHS[row.trained_on]:<26} {_figure(row.short_loss):>12} {_figure(row.long_loss):>12}"
            )
        return "\n".join([*lines, "", *self._verdicts()]) + "\n"

    def _verdicts(self) -> Iterator[str]:
        layers = {(row.title, row.trained_on): row for row in self.rows if row.norm == "layer"}
        for row in self.rows:
            layer = layers.get((row.title, row.trained_on))
            if row.norm == "batch" and layer is not None:
                short = statistics.fmean(row.short_loss) - statistics.fmean(layer.short_loss)
                long = statistics.fmean(row.long_loss) - statistics.fmean(layer.long_loss)
                yield f"{row.title}, trained on {LENGTHS[row.trained_on]}: batch norm minus layer norm {short:+.3f} short, {long:+.3f} long"


def _figure(losses: Sequence[float]) -> str:
    mean = f"{statistics.fmean(losses):.3f}"
    return mean if len(losses) == 1 else f"{mean} ±{(max(losses) - min(losses)) / 2:.3f}"


class Sentences(NamedTuple):
    """Both sides of a corpus as ids."""

    source: list[list[int]]
    target: list[list[int]]

    def choose(self, keep: Callable[[int], bool]) -> "Sentences":
        """The pairs whose source length passes `keep`."""
        chosen = [place for place, row in enumerate(self.source) if keep(len(row))]
        return Sentences([self.source[place] for place in chosen], [self.target[place] for place in chosen])


class Material(NamedTuple):
    """The training and validation data."""

    train: Sentences
    short: Sentences
    long: Sentences
    border: int
    vocabulary: int


def run_norm_experiment(
    *,
    steps: int = 300,
    seeds: Sequence[int] = (1,),
    batch_tokens: int = 1024,
    train_pairs: int = 10_000,
    threads: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> NormReport:
    """Train small models with layer and with batch norm on different mixtures of lengths, and validate on short and long sentences.

    Args:
        steps: of each training; a few hundred are enough.
        say: called with a line after each training.
    Raises: UsageError: a number is too small.
    Cost:   15 trainings a seed, in this process: some minutes on 2 cores.
    """
    if min(steps, batch_tokens, train_pairs, threads, len(seeds)) < 1:
        raise UsageError(
            f"steps {steps}, batch_tokens {batch_tokens}, train_pairs {train_pairs}, seeds {len(seeds)}", expected="at least 1 of each"
        )
    machine, rows = describe_machine(), list[NormRow]()
    set_threads(threads)
    material = make_material(train_pairs)
    for contender in contenders():
        for trained_on in LENGTHS:
            losses = [_train_and_validate(contender, material, trained_on, steps, batch_tokens, seed) for seed in seeds]
            row = NormRow(contender.title, contender.norm, trained_on, *zip(*losses, strict=True))
            rows.append(row)
            say(f"{row.title}, norm {row.norm}, {LENGTHS[trained_on]}: {_figure(row.short_loss)} short, {_figure(row.long_loss)} long")
    conditions = (
        f"{len(material.train.source):,} sentences of the phrasebook, {material.vocabulary:,} subwords,"
        f" batches of {batch_tokens:,} target positions, {steps} steps, {len(seeds)} seeds;"
        f" dev: {len(material.short.source)} short, {len(material.long.source)} long; {threads} threads"
    )
    return NormReport(machine, conditions, material.border, tuple(rows))


def make_material(train_pairs: int) -> Material:
    """The phrasebook, split at its median length."""
    book = phrasebook(train_pairs=train_pairs)
    texts = [[(pair.source, pair.target) for pair in part] for part in (book.train, book.dev)]
    sources, targets = ([pair[side] for pair in texts[0]] for side in (0, 1))
    subwords = train_vocabularies(sources, targets, config=SubwordsConfig(size=1000)).target
    train, dev = (_encode(subwords, part) for part in texts)
    border = int(np.median([len(row) for row in train.source]))
    return Material(train, dev.choose(lambda n: n <= border), dev.choose(lambda n: n > border), border, subwords.size)


def _encode(subwords: Subwords, pairs: Sequence[tuple[str, str]]) -> Sentences:
    return Sentences(subwords.encode_batch([pair[0] for pair in pairs]), subwords.encode_batch([pair[1] for pair in pairs]))


def endless_batches(material: Material, trained_on: Lengths, *, batch_tokens: int, seed: int) -> Iterator[Batch]:
    """Endless batches of about equal numbers of target positions."""
    sentences = material.train
    if trained_on == "mixed":
        return _mixed(sentences, batch_tokens=batch_tokens, seed=seed)
    if trained_on == "short":
        sentences = sentences.choose(lambda length: length <= material.border)
    corpus = EncodedPairs(sentences.source, sentences.target)
    return iter(Batches([corpus], budget=batch_tokens, seed=seed, max_length=_LONGEST).sequence(0))


def _mixed(sentences: Sentences, *, batch_tokens: int, seed: int) -> Iterator[Batch]:
    """Batches of sentences in random order, of mixed lengths."""
    generator = np.random.default_rng(seed)
    size = max(2, round(batch_tokens / (1 + np.mean([len(row) for row in sentences.target]))))
    while True:
        chosen = generator.integers(len(sentences.source), size=size)
        yield collate([sentences.source[place] for place in chosen], [sentences.target[place] for place in chosen])


def _train_and_validate(
    contender: Contender, material: Material, trained_on: Lengths, steps: int, batch_tokens: int, seed: int
) -> tuple[float, float]:
    """Losses on short and on long dev sentences."""
    seed_all(seed)
    model = fresh_model(contender.config, material.vocabulary).train()
    learner = make_learner(model, contender.config, torch.float32)
    schedule = ScheduleConfig(warmup=max(1, round(_WARMUP_SHARE * steps)))
    for step, batch in enumerate(islice(endless_batches(material, trained_on, batch_tokens=batch_tokens, seed=seed), steps)):
        update(learner, [(step, batch)], share=rate(schedule, step=step, progress=step / steps), step=step)
    return validation_loss(model, material.short), validation_loss(model, material.long)


@torch.inference_mode()
def validation_loss(model: TranslationModel, sentences: Sentences) -> float:
    """Nats per target token, without smoothing or dropout, with batch norm's running averages."""
    model.eval()
    nats, tokens = 0.0, 0
    for start in range(0, len(sentences.source), 100):
        found = model.loss(collate(sentences.source[start : start + 100], sentences.target[start : start + 100]))
        nats += float(found.plain_nats)
        tokens += int(found.tokens)
    return nats / tokens
