"""A run: its folder, from two text files to a model that translates, and on from wherever it was stopped.

runs/en-fr/  config.toml  data/  log.txt  metrics.jsonl  samples.jsonl  state/  model/  bad_batches/
"""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import vitrail
from vitrail.config import to_toml
from vitrail.data.batches import Batch, Batches, SubwordDropout, prefetch
from vitrail.data.prepare import Prepared, prepare
from vitrail.errors import UsageError
from vitrail.files import FolderLock, JsonLines, write_file
from vitrail.models.base import TranslationModel
from vitrail.models.build import build_model, count_parameters
from vitrail.models.folder import fill, save_model, unique_tensors
from vitrail.runtime import choose_device, choose_dtype, join_ranks, keep_freed_memory, leave_ranks, seed_all, set_threads
from vitrail.train import state
from vitrail.train.config import RunConfig
from vitrail.train.loop import Hooks, Learner, Progress, loop, try_longest
from vitrail.train.metrics import Event, Observe
from vitrail.train.optim import Optimizer
from vitrail.train.validate import DevSet, Validation, validate

Say = Callable[[str], None]
_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What a training ended with."""

    folder: Path
    progress: Progress
    already_done: bool
    """True when it had ended before, so that nothing was done now."""


def train(
    config: RunConfig,
    folder: Path,
    *,
    allow: Collection[str] = (),
    observers: Sequence[Observe] = (),
    say: Say = _log.info,
) -> Outcome:
    """Train a translator in a folder, or go on with the training that is in it.

    Args:
        allow: settings that may differ from those the run was saved with, by name ("train.threads").
        observers: called with every Event.
        say: called with each line meant for the user.
    Raises:
        UsageError: the folder holds a run with another setup (every difference is named), or the configuration cannot be.
        DataError: the text cannot be used. TrainingError: it diverged, memory ran out, or another process trains here.
        Stopped, Interrupted: after saving; the same call goes on.
    """
    keep_freed_memory()
    threads = set_threads(config.train.threads)
    ranks = join_ranks()
    if config.train.accumulate % ranks.world:
        raise UsageError(
            f"train.accumulate = {config.train.accumulate} with {ranks.world} processes",
            expected=f"a multiple of {ranks.world}, so that all do equally much",
        )
    try:
        if ranks.rank > 0:
            ranks.wait()  # the first rank prepares the data for all
            return _Run(config, folder, allow=allow, observers=(), say=_log.debug, threads=threads).train()
        with FolderLock(folder):
            prepare(config.data, folder / "data", say=say)
            ranks.wait()
            return _Run(config, folder, allow=allow, observers=observers, say=say, threads=threads).train()
    finally:
        leave_ranks()


class _Run:
    """One training in its folder: builds what learns, restores what was saved, and writes what the loop calls for."""

    def __init__(
        self, config: RunConfig, folder: Path, *, allow: Collection[str], observers: Sequence[Observe], say: Say, threads: int
    ) -> None:
        self.config, self.folder, self.say, self.observers = config, folder, say, observers
        self.prepared = prepare(config.data, folder / "data", say=_log.debug)
        self.ranks = join_ranks()
        device = choose_device(config.train.device)
        dtype = choose_dtype(config.train.precision, device)
        seed_all(config.seed, 0)
        self.model: TranslationModel = build_model(config.model, self.prepared.vocabularies).to(device)
        self.optimizer = Optimizer(self.model, config.optimizer)
        self.batches = _batches(config, self.prepared)
        self.average = [tensor.clone() for tensor in unique_tensors(self.model).values()] if config.train.average_decay else []
        self.learner = Learner(self.model, self.optimizer, self.average, self._stream, self.ranks, device, dtype, config)
        self.steps_per_epoch = max(1, self.batches.epoch_length(0) // config.train.accumulate)
        self.setup = {
            "config": config.model_dump(mode="json"),
            "data": self.prepared.digest,
            "vocabularies": self.prepared.vocabularies.digest,
            "threads": threads,
            "processes": self.ranks.world,
            "device": device.type,
            "dtype": str(dtype),
            "torch": torch.__version__,
            "vitrail": vitrail.__version__,
        }
        self.dev = DevSet(*self.prepared.dev)
        self.progress, self.finished = self._restore(allow)
        self.best: Validation | None = None

    def _stream(self, first: int) -> Iterable[tuple[int, Batch]]:
        numbered = enumerate(self.batches.sequence(first, rank=self.ranks.rank, world=self.ranks.world))
        return prefetch((first + self.ranks.rank + place * self.ranks.world, batch) for place, batch in numbered)

    def _restore(self, allow: Collection[str]) -> tuple[Progress, bool]:
        """Load the newest good checkpoint, if there is one of the same setup; whether the run had ended."""
        expected = {"model": state.specs(unique_tensors(self.model)), "optimizer": None, "average": None}
        checkpoint = state.load_latest(self.folder, expected=expected)
        if checkpoint is None:
            return Progress(), False
        for change in state.require_same(checkpoint.facts["setup"], self.setup, allow=allow):
            self.say(f"allowed: {change}")
        fill(self.model, checkpoint.tensors["model"])
        names = list(unique_tensors(self.model))
        for name, mean in zip(names, self.average, strict=False):
            mean.copy_(checkpoint.tensors["average"][name])
        for number, optimizer in enumerate(self.optimizer.optimizers):
            prefix = f"{number}/"
            mine = {key.removeprefix(prefix): value for key, value in checkpoint.tensors["optimizer"].items() if key.startswith(prefix)}
            state.restore_optimizer(optimizer, tensors=mine, facts=checkpoint.facts["optimizers"][number])
        return Progress(**checkpoint.facts["progress"]), bool(checkpoint.facts["finished"])

    def train(self) -> Outcome:
        """Go from where the run stands to its end."""
        total = self._total()
        if self.finished:
            self.say(f"already at {total}: nothing to do")
            return Outcome(self.folder, self.progress, already_done=True)
        if self.ranks.rank > 0:
            loop(self.learner, self.progress, self._silent_hooks(), steps_per_epoch=self.steps_per_epoch)
            return Outcome(self.folder, self.progress, already_done=False)
        self.say(f"going on from step {self.progress.step}" if self.progress.step else self._introduction())
        write_file(self.folder / "config.toml", to_toml(self.config.model_dump(mode="json")).encode())
        with JsonLines(self.folder / "metrics.jsonl") as self.metrics, JsonLines(self.folder / "samples.jsonl") as self.samples:
            for log in (self.metrics, self.samples):
                log.truncate_after(self.progress.step)
            try_longest(self.learner, self.batches.longest())
            hooks = Hooks(self._validate, self._save, self._keep_bad_batch, self._observe)
            loop(self.learner, self.progress, hooks, steps_per_epoch=self.steps_per_epoch)
            self._finish()
        return Outcome(self.folder, self.progress, already_done=False)

    def _total(self) -> str:
        duration = self.config.train.duration
        steps = {"steps": duration.amount, "epochs": duration.amount * self.steps_per_epoch}.get(duration.unit, self.progress.step)
        return f"step {self.progress.step} of {round(steps)} ({duration})"

    def _introduction(self) -> str:
        counts = count_parameters(self.model)
        pairs = sum(self.batches.sizes)
        where = f"{self.learner.device.type} in {str(self.learner.dtype).removeprefix('torch.')}"
        size = f"{pairs:,} pairs, {counts['total']:,} parameters, {self.steps_per_epoch:,} steps an epoch"
        return f"{size}; {self.config.train.duration} of training on {where}"

    def _silent_hooks(self) -> Hooks:
        """Other ranks compute; the first one looks and writes while they wait at the next sum."""

        def nothing(_: object) -> None: ...

        return Hooks(nothing, nothing, nothing, nothing)

    def _observe(self, event: Event) -> None:
        self.metrics.append(event.record())
        for observe in self.observers:
            observe(event)

    def _weights(self) -> dict[str, Tensor]:
        """What is validated and kept: the moving average where there is one."""
        own = unique_tensors(self.model)
        return dict(zip(own, self.average, strict=True)) if self.average else own

    def _validate(self, progress: Progress) -> None:
        score = self._consider(self._weights(), progress)
        if score is None:
            return
        if progress.best is None or score > progress.best:
            progress.best, progress.best_step, progress.waited = score, progress.step, 0
            return
        progress.waited += 1
        if self.config.schedule.kind == "plateau" and progress.waited % self.config.schedule.patience == 0:
            progress.halvings += 1

    def _consider(self, weights: dict[str, Tensor], progress: Progress) -> float | None:
        """Validate weights, and make them the run's model where they are its best so far. None without a dev set."""
        if not self.dev.source:
            self._save_model(weights, {})
            return None
        judged = build_model(self.config.model, self.prepared.vocabularies).to(self.learner.device)
        fill(judged, weights)
        found = validate(
            judged, self.prepared.vocabularies, self.dev, device=self.learner.device, sentences=self.config.train.validation_sentences
        )
        for sample in found.samples:
            self.samples.append({"step": progress.step, **sample})
        select = self.config.train.select
        score = -found.values["dev_loss_nats_per_token"] if select == "loss" else found.values[f"dev_{select}"]
        better = progress.best is None or score > progress.best
        self._observe(Event("validation", progress.step, {**found.values, "seconds": progress.seconds, "best": better}))
        if better:
            self._save_model(weights, found.values)
        return score

    def _save_model(self, weights: dict[str, Tensor], values: dict[str, float]) -> None:
        facts = {**self.prepared.facts, "step": self.progress.step, **{name: round(value, 4) for name, value in values.items()}}
        facts["search"] = self.config.search.model_dump(mode="json")
        save_model(self.folder / "model", tensors=weights, config=self.config.model, vocabularies=self.prepared.vocabularies, facts=facts)

    def _save(self, progress: Progress, *, finished: bool = False) -> None:
        self.metrics.sync()
        self.samples.sync()
        flat = [state.flatten_optimizer(optimizer) for optimizer in self.optimizer.optimizers]
        own = unique_tensors(self.model)
        state.save_checkpoint(
            self.folder,
            step=progress.step,
            tensors={
                "model": own,
                "average": dict(zip(own, self.average, strict=True)) if self.average else {},
                "optimizer": {f"{number}/{name}": tensor for number, part in enumerate(flat) for name, tensor in part.tensors.items()},
            },
            facts={
                "setup": self.setup,
                "progress": progress.facts(),
                "optimizers": [part.facts for part in flat],
                "finished": finished,
                "score": None if progress.best is None or progress.best_step != progress.step else -progress.best,
            },
        )
        config = self.config.train
        keep_last = max(config.keep_last, config.average_checkpoints if config.average_which == "last" else 0)
        keep_best = max(config.keep_best, config.average_checkpoints if config.average_which == "best" else 0)
        state.prune(self.folder, keep_last=keep_last, keep_best=keep_best, metric=lambda facts: facts["score"])

    def _keep_bad_batch(self, step: int) -> None:
        """Write the batches of a step aside, as ids and as text, so that somebody can look at what broke it."""
        first = (step - 1) * self.config.train.accumulate
        vocabularies = self.prepared.vocabularies
        for number in range(first, first + self.config.train.accumulate):
            batch = self.batches.at(*self.batches.locate(number))
            sources, targets = batch.source.tolist(), batch.target_out.tolist()
            record = {
                "step": step,
                "sources": [{"ids": row, "text": vocabularies.source.decode(row)} for row in sources],
                "targets": [{"ids": row, "text": vocabularies.target.decode(row)} for row in targets],
            }
            path = self.folder / "bad_batches" / f"step-{step:06d}-batch-{number}.json"
            path.parent.mkdir(exist_ok=True)
            write_file(path, (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode())
        self.say(f"step {step} skipped: its gradient is not finite; its batch is in bad_batches/")

    def _finish(self) -> None:
        """Validate once more, try the mean of checkpoints, and save the end."""
        if self.progress.step and self.progress.best_step != self.progress.step:
            self._validate(self.progress)
        paths = state.checkpoints(self.folder)
        wanted = self.config.train.average_checkpoints
        if wanted > 1 and len(paths) > 1 and self.dev.source:
            mean = state.average(paths[-wanted:])
            score = self._consider({name: tensor.to(self.learner.device) for name, tensor in mean.items()}, self.progress)
            if score is not None and (self.progress.best is None or score > self.progress.best):
                self.progress.best, self.progress.best_step = score, self.progress.step
        self._observe(Event("finished", self.progress.step, {"seconds": self.progress.seconds, "tokens": self.progress.tokens}))
        self._save(self.progress, finished=True)


def _batches(config: RunConfig, prepared: Prepared) -> Batches:
    dropout = config.train.subword_dropout
    return Batches(
        prepared.stores,
        budget=config.train.batch_tokens,
        seed=config.seed,
        max_length=config.data.max_length,
        weights=prepared.weights,
        temperature=config.data.temperature,
        resample=SubwordDropout(prepared.vocabularies, dropout) if dropout else None,
    )
