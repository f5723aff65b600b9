"""A run: train a model from text, and resume it after a stop. `run_folder` describes its files.

First everything is checked: owner of the folder, settings, text, data, changes since the checkpoint, memory. Only then files are changed.
"""

import logging
import math
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor

from vitrail.config import to_toml
from vitrail.data.batches import prefetch
from vitrail.data.preparing.fingerprints import stamps
from vitrail.data.preparing.paths import with_full_names
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import AnyPrepared, open_data
from vitrail.errors import Interrupted, ModelError, Stopped, UsageError
from vitrail.files import FolderLock, NotWritten, write_file
from vitrail.models.adapters import Adapter
from vitrail.models.base import Model, unique_tensors
from vitrail.models.build import count_parameters
from vitrail.models.model_folder import fill, load_folder, save_model
from vitrail.nn.lora import adapters_in, merged
from vitrail.runtime.device import choose_device, choose_dtype, keep_freed_memory, seed_all, set_threads
from vitrail.runtime.ranks import Ranks, join_ranks, leave_ranks
from vitrail.runtime.stopping import StopRequest
from vitrail.runtime.streams import ignore_write_errors
from vitrail.train.choosing.schedule_length import describe_length, steps_of, warn_of_warmup
from vitrail.train.log.metrics import Event, Observe
from vitrail.train.log.run_records import Marks, RunLogs
from vitrail.train.loop import AnyBatch, Callbacks, Learner, Progress, is_over, loop, stopping_place, try_longest
from vitrail.train.optim import Optimizer
from vitrail.train.resume import checkpoints
from vitrail.train.resume.changes import (
    allowing_longer,
    best_weights,
    invalidate_scores,
    newest_checkpoint,
    require_allowed_changes,
    require_resumable,
    schedule_ended,
    setup_of,
    with_kept_donors,
)
from vitrail.train.run_config import RunConfig
from vitrail.train.run_folder import CONFIG, kept_fingerprint, require_own_run
from vitrail.train.starting.init_config import with_full_folders
from vitrail.train.starting.mixing import Mixed, begins_at, least_share, mix
from vitrail.train.starting.warm_start import (
    Taken,
    as_trained,
    frozen_tensors,
    other_languages,
    read_digests,
    require_donors,
    start_from,
    to_lines,
)
from vitrail.train.tasks import make_task
from vitrail.train.tasks.probes import read_probes
from vitrail.train.tasks.validate import Validated, Validation, Watch

OLD_SHARE = "old_share"
"""Of a model: how much of it are the weights that its training started from."""
_NOT_BEGUN = "stopped before the first step; no file was changed"
_REFUSALS_ALLOWED = 3
_HYPERPARAMETERS = ("betas", "eps", "weight_decay", "momentum")
"""Settings of an optimizer's group from the configuration; its learning rate is set at each step."""
_WORST = -1e30
"""Replaces a dev score that is not finite, which JSON cannot have."""

Say = Callable[[str], None]
_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """The result of a training."""

    folder: Path
    progress: Progress
    already_done: bool
    """True when it had ended before, so that nothing was done."""


def train(
    config: RunConfig,
    folder: Path,
    *,
    allow: Collection[str] = (),
    observers: Sequence[Observe] = (),
    watch: Watch | None = None,
    say: Say = _log.info,
    begin: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train a model in a folder, or resume the training that is in it.

    Args:
        allow: settings that may differ from those the run was saved with, by name ("train.threads"), where that is possible; "state": a
        model without checkpoints may be trained again from the start.
        observers: called with every Event.
        watch: called after each validation; its result is written to `film.jsonl`. It changes no bit of the training.
        say: called with each line meant for the user.
        begin: called once the folder is locked and all is checked, to write other files.
    Raises:
        UsageError: the folder has a run with different settings (every difference is named), a model without its run, or foreign files; or
        the configuration is invalid. Nothing was changed then.
        DataError: the text cannot be used. TrainingError: it diverged, memory ran out, or another process trains here.
        Stopped, Interrupted: after saving; the same call resumes.
    """
    keep_freed_memory()
    set_threads(config.train.threads)
    say = ignore_write_errors(say)
    with StopRequest() as stop, _joined_ranks(config) as ranks:
        if ranks.rank > 0:
            with stop.at_once(_NOT_BEGUN):
                ranks.wait()  # the first rank prepares the data for all
                prepared = open_data(folder / "data")
            checkpoint = newest_checkpoint(folder)
            run = _Run(config, folder, checkpoint, prepared=prepared, stop=stop, observers=(), watch=None, say=_log.debug)
            return run.train(allowing_longer(allow, config, checkpoint), begin=begin)
        kept = kept_fingerprint(folder, config.data)
        require_own_run(folder, inputs=stamps(config.data, gone=kept is not None))
        with FolderLock(folder):
            with stop.at_once(_NOT_BEGUN):
                checkpoint = newest_checkpoint(folder)
                allow = allowing_longer(allow, config, checkpoint)
                require_resumable(config, folder, checkpoint, world=ranks.world, allow=allow, kept=kept)
                if checkpoint is None:
                    require_donors(config)
                run = partial(_Run, config, folder, checkpoint, stop=stop, observers=observers, watch=watch, say=say)
                prepared = prepare(
                    config.data,
                    folder / "data",
                    say=say,
                    accept=lambda made: None if checkpoint is None else run(prepared=made).check(allow),
                    kept=kept,
                )
                ranks.wait()
            return run(prepared=prepared).train(allow, begin=begin)


@contextmanager
def _joined_ranks(config: RunConfig) -> Generator[Ranks, None, None]:
    ranks = join_ranks()
    try:
        if config.train.accumulate % ranks.world:
            raise UsageError(
                f"train.accumulate = {config.train.accumulate} with {ranks.world} processes",
                expected=f"a multiple of {ranks.world}, so that all do equally much",
            )
        yield ranks
    except BaseException as error:
        leave_ranks(str(error).partition("\n")[0] or type(error).__name__)
        raise
    leave_ranks()


class _Run:
    """One training in its folder: builds the learner, restores a checkpoint, and writes files for the loop."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        checkpoint: checkpoints.Checkpoint | None,
        *,
        prepared: AnyPrepared,
        stop: StopRequest,
        observers: Sequence[Observe],
        watch: Watch | None,
        say: Say,
    ) -> None:
        self.config, self.folder, self.checkpoint, self.prepared, self.stop, self.say = config, folder, checkpoint, prepared, stop, say
        self.observers, self.watch = observers, watch
        self.ranks = join_ranks()
        device = choose_device(config.train.device, instead="--set train.device=cpu")
        dtype = choose_dtype(config.train.precision, device)
        seed_all(config.seed, 0)
        self.task = make_task(config, prepared, device)
        self.probes = read_probes(self.task, config.train.probes)
        self.model = self.task.build()
        self.taken = self._start()
        resting = as_trained(self.model, config, self.taken)
        self.optimizer = Optimizer(self.model, config.optimizer)
        self.start = self._keep_start(checkpoint)
        self.batches = self.task.batches
        frozen = frozen_tensors(self.model, resting)
        own = unique_tensors(self.model).items() if config.train.average_decay else ()
        self.average = [tensor if name in frozen else tensor.clone() for name, tensor in own]
        carried = self.task.carried(self.model)
        self.learner = Learner(self.model, self.optimizer, self.average, self._stream, self.ranks, device, dtype, config, carried, resting)
        self.steps_per_epoch = max(1, self.batches.epoch_length(0) // config.train.accumulate)
        self.setup: dict[str, Any] = setup_of(config, prepared.fingerprint, world=self.ranks.world)
        if config.init and checkpoint is None:
            for number, digest in enumerate(read_digests(config, self.taken, self.ranks)):
                self.setup["init"][str(number)]["digest"] = digest
        self.setup |= {"data.digest": prepared.digest, "vocabularies": prepared.vocabularies.digest}
        self.select = self._known_score(config.train.select)
        self.setup["train"]["select"] = self.select
        self.marks: Marks = {"metrics": 0, "samples": 0}
        self.refused, self.warned = 0, False
        self.progress, self.finished = Progress(), False

    def _start(self) -> Taken:
        """Take weights from other models, or what is known of that from the checkpoint."""
        if self.checkpoint is not None:
            return self.checkpoint.facts.get("init", {})
        if not self.config.init:
            return {}
        return start_from(self.model, self.config, self.prepared.vocabularies, self.prepared.stores)

    def _keep_start(self, checkpoint: checkpoints.Checkpoint | None) -> dict[str, Tensor]:
        """The weights that the training started from, where they are needed later; from the checkpoint, as the other model may be gone."""
        if not self.config.keeps_start:
            return {}
        start = begins_at(self.model) if checkpoint is None else checkpoint.tensors.get("start", {})
        if not start:
            raise UsageError(
                "train.old_share or optimizer.l2_start in a run that was begun without",
                expected="the settings of its start: it did not keep the weights that it started from",
                remedy="train in a new folder",
            )
        start = {name: tensor.to(self.task.device) for name, tensor in start.items()}
        if self.config.optimizer.l2_start:
            own = unique_tensors(self.model)
            self.optimizer.stay_near({tensor.data_ptr(): start[name] for name, tensor in own.items()})
        return start

    def _known_score(self, asked: str) -> str:
        """The dev score that chooses the best model. Raises UsageError for one that this task does not have."""
        name = self.task.preferred if asked == "auto" else asked
        if name not in self.task.scores:
            raise UsageError(f"train.select = {asked}", expected=" or ".join(("auto", *self.task.scores)))
        return name

    def _stream(self, first: int) -> Iterable[tuple[int, AnyBatch]]:
        numbered = enumerate(self.batches.sequence(first, rank=self.ranks.rank, world=self.ranks.world))
        return prefetch((first + self.ranks.rank + place * self.ranks.world, cast(AnyBatch, batch)) for place, batch in numbered)

    def check(self, allow: Collection[str]) -> bool:
        """Go back to a checkpoint and try the longest batch; nothing is written. Returns whether the best model must be scored again.

        Raises UsageError for changes that are not allowed, TrainingError where memory does not suffice.
        """
        with self.stop.at_once(_NOT_BEGUN):
            remeasure = self.checkpoint is not None and self._restore(self.checkpoint, allow)
            if not self._is_over():
                try_longest(self.learner, cast(AnyBatch, self.batches.longest()))
        return remeasure

    def train(self, allow: Collection[str], *, begin: Callable[[], None]) -> Outcome:
        """Train from the current step to the end. Raises the errors of `check`."""
        remeasure = self.check(allow)
        if self.ranks.rank > 0:
            if not self.finished:
                self._loop(self._silent_callbacks())
            return Outcome(self.folder, self.progress, already_done=self.finished)
        begin()
        if self.checkpoint is None:
            self.progress.validation_due = self.config.train.validate_start and self.task.has_dev
        self._repair_model(remeasure=remeasure)
        if self.finished:
            self.say(f"training is already complete at {self._total()}: nothing to do")
            return Outcome(self.folder, self.progress, already_done=True)
        for line in [f"resuming from step {self.progress.step}"] if self.progress.step else self._introduction():
            self.say(line)
        self.say(describe_length(self.config, steps_per_epoch=self.steps_per_epoch))
        self._warn_of_warmup(steps_of(self.config.train.duration, steps_per_epoch=self.steps_per_epoch))
        full = {"data": with_full_names(self.config.data), "init": with_full_folders(self.config.init)}
        table = self.config.model_copy(update=full).model_dump(mode="json")
        table["train"]["select"] = self.select  # the choice is kept
        write_file(self.folder / CONFIG, to_toml(table).encode())
        with RunLogs(self.folder, step=self.progress.step, marks=self.marks, film=self.watch is not None) as self.records:
            self._loop(Callbacks(self._validate, self._save, self._keep_bad_batch, self._observe))
            self._finish()
        return Outcome(self.folder, self.progress, already_done=False)

    def _restore(self, checkpoint: checkpoints.Checkpoint, allow: Collection[str]) -> bool:
        """Restore a checkpoint with the same or allowed settings; returns whether earlier scores cannot be compared with later ones."""
        facts = checkpoint.facts
        if self.config.train.select == "auto":  # as at the start of the run
            self.select = self.setup["train"]["select"] = facts["setup"]["train"]["select"]
        changes = require_allowed_changes(facts["setup"], self.setup, allow=allow)
        self.setup = with_kept_donors(facts["setup"], self.setup)
        for change in changes:
            self.say(f"allowed: {change}")
        # After the settings: a different width is reported as such, not as tensors of other shapes.
        if checkpoints.specs(checkpoint.tensors["model"]) != checkpoints.specs(unique_tensors(self.model)):
            raise ModelError(f"{checkpoint.path}: its weights belong to another model", remedy="train in a new folder")
        fill(self.model, checkpoint.tensors["model"])
        for (name, own), mean in zip(unique_tensors(self.model).items(), self.average, strict=False):
            mean.copy_(checkpoint.tensors["average"].get(name, own))
        if self.learner.carried is not None:
            self.learner.carried.restore(checkpoint.tensors.get("carried", {}))
        for number, optimizer in enumerate(self.optimizer.optimizers):
            prefix = f"{number}/"
            mine = {key.removeprefix(prefix): value for key, value in checkpoint.tensors["optimizer"].items() if key.startswith(prefix)}
            asked = [{key: group[key] for key in _HYPERPARAMETERS if key in group} for group in optimizer.param_groups]
            checkpoints.restore_optimizer(optimizer, tensors=mine, facts=facts["optimizers"][number])
            for group, values in zip(optimizer.param_groups, asked, strict=True):
                group.update(values)  # a change that was allowed
        self.progress, self.marks = Progress.from_facts(facts["progress"]), facts["marks"]
        remeasure = invalidate_scores(changes)
        if remeasure:
            self.progress.forget_scores()
        # A finished run continues if its length was increased.
        ended = schedule_ended(checkpoint, changes, steps_per_epoch=self.steps_per_epoch)
        if ended is not None:
            self.progress.waited = 0
            self.progress.extended = (self.progress.step, self.progress.seconds) if ended else None
        self.finished = facts["finished"] and self._is_over()
        return remeasure

    def _is_over(self) -> bool:
        return is_over(self.config.train, self.progress, steps_per_epoch=self.steps_per_epoch)

    def _repair_model(self, *, remeasure: bool) -> None:
        """Rebuild the run's model if it is lost or damaged; score it again if earlier scores cannot be compared with later ones."""
        if self.progress.validated < 0:
            return  # there is none yet
        try:
            loaded = load_folder(self.folder / "model", device=self.learner.device)
        except ModelError as error:
            self._make_model_again(error)
            # The end is done once more: what was saved there was no plain checkpoint.
            self.finished = self.finished and not self.config.train.old_share
            return
        if remeasure and self.task.has_dev and loaded.vocabularies.digest == self.prepared.vocabularies.digest:
            step = int(loaded.facts.get("step", 0))
            self._measure_best(loaded.model, step=step)
            self.say(f"the best model so far (step {step}) was evaluated again: {self.task.scores[self.select]} {self.progress.best:.2f}")

    def _make_model_again(self, reason: ModelError) -> None:
        step, weights = best_weights(self.folder, self.progress) or (self.progress.step, self._weights())
        values = dict[str, float]()
        if self.task.has_dev:
            model = self.task.build()
            fill(model, self._plain(weights))
            values = self._measure_best(model, step=step)
        try:
            self._save_model(weights, values, step=step)
        except NotWritten as error:
            _log.warning("%s; it cannot be rebuilt yet: %s", reason.found, error.found)
            return
        _log.warning("%s; the model was rebuilt from step %d", reason.found, step)

    def _measure_best(self, model: Model, *, step: int) -> dict[str, float]:
        """Score this model and record it as the best so far."""
        with self.stop.at_once(stopping_place(self.progress, saved=True)):
            found = self.task.validate(model)
        self.progress.best, self.progress.best_loss = self._figures(found)
        self.progress.best_step = step
        return found.values

    def _loop(self, callbacks: Callbacks) -> None:
        loop(self.learner, self.progress, callbacks, steps_per_epoch=self.steps_per_epoch, stop=self.stop)

    def _total(self) -> str:
        duration = self.config.train.duration
        steps = {"steps": duration.amount, "epochs": duration.amount * self.steps_per_epoch}.get(duration.unit, self.progress.step)
        return f"step {self.progress.step} of {round(steps)} ({duration})"

    def _introduction(self) -> list[str]:
        counts = count_parameters(self.model)
        amount, notes = self.task.introduce()
        where = f"{self.learner.device.type} in {str(self.learner.dtype).removeprefix('torch.')}"
        learned = sum(parameter.numel() for parameter in self.optimizer.parameters)
        parameters = f"{counts['total']:,} parameters" + (f" of which {learned:,} are trained" if learned < counts["total"] else "")
        size = f"{amount}, {parameters}, {self.steps_per_epoch:,} steps an epoch"
        start = [*to_lines(self.taken), *other_languages(self.taken, self.task.facts)] if self.taken else []
        lines = [*start, f"{size}; {self.config.train.duration} of training on {where}"]
        if self.task.has_dev:
            chosen = self.config.train.select == "auto" and len(self.task.scores) > 1
            other = next((name for name in self.task.scores if name != self.select), "")
            reason = f": {self.task.preferred_reason}  [--set train.select={other}]" if chosen else ""
            lines.append(f"the best model is chosen by {self.task.scores[self.select]} on the dev set{reason}")
            lines += [f"dev set: {note}" for note in notes]
        return lines

    def _silent_callbacks(self) -> Callbacks:
        """Callbacks of the other ranks: they compute; the first one validates and writes while they wait at the next sum."""

        def done(_: object) -> bool:
            return True

        def nothing(_: object) -> None: ...

        return Callbacks(done, done, nothing, nothing)

    def _warn_of_warmup(self, steps: float | None) -> None:
        """Warn once per process, as soon as the number of steps is known."""
        if not self.warned and (warning := warn_of_warmup(self.config, steps=steps)) is not None:
            self.warned = True
            _log.warning("%s", warning)

    def _observe(self, event: Event) -> None:
        self.records.metric(event.record())
        if self.config.train.duration.unit == "minutes" and event.kind == "train" and event.values["done_share"]:
            self._warn_of_warmup(event.step / event.values["done_share"])
        for observe in self.observers:
            observe(event._replace(unit=self.task.unit))

    def _weights(self) -> dict[str, Tensor]:
        """The weights to validate and keep: the moving average if there is one."""
        own = unique_tensors(self.model)
        return dict(zip(own, self.average, strict=True)) if self.average else own

    def _validate(self, progress: Progress) -> bool:
        try:
            judged = self._validate_and_keep(self._weights(), progress)
        except (Stopped, Interrupted):
            return False
        if not judged.kept:
            return True  # the disk refused the best model so far: keep the next one that is better than the last
        progress.validated = progress.step
        if judged.score is None:
            return True
        progress.scores.append((progress.step, judged.score))
        progress.losses.append(judged.loss)
        if judged.better:
            progress.best, progress.best_loss, progress.best_step, progress.waited = judged.score, judged.loss, progress.step, 0
            return True
        progress.waited += 1
        if self.config.schedule.kind == "plateau" and progress.waited % self.config.schedule.patience == 0:
            progress.halvings += 1
        return True

    def _validate_and_keep(self, weights: dict[str, Tensor], progress: Progress, *, averaged: int = 0) -> "_Judged":
        """Validate weights, and make them the run's model where they are its best so far, or where there is no dev set."""
        if not checkpoints.checkpoints(self.folder):
            # A run's folder never has a model without a checkpoint: if killed now, a resumed run validates first.
            self._save(replace(progress, validation_due=True))
        if not self.task.has_dev:
            return _Judged(None, -_WORST, better=True, kept=self._keep_model(weights, {}))
        with self.stop.at_once(stopping_place(progress, saved=True)):
            judged = self.task.build()
            fill(judged, self._plain(weights))
            found = self.task.validate(judged)
            seen = Validated(progress.step, judged, self.prepared.vocabularies, self.task.dev, self.probes, self.config.search)
            frame = None if self.watch is None or averaged else self.watch(seen)
        if frame is not None:
            self.records.frame({"step": progress.step, **frame})
        for sample in found.samples:
            self.records.sample({"step": progress.step, **sample})
        score, loss = self._figures(found)
        better = progress.is_better(score, loss, noise=self.task.noise[self.select])
        mean_of = {"averaged_checkpoints": averaged} if averaged else {}
        self._observe(Event("validation", progress.step, {**found.values, "seconds": progress.seconds, "best": better, **mean_of}))
        return _Judged(score, loss, better=better, kept=not better or self._keep_model(weights, found.values))

    def _figures(self, found: Validation) -> tuple[float, float]:
        """The dev score for choosing the best model, higher is better, and the loss, which decides between equals."""
        loss = found.values["dev_loss_nats_per_token"]
        score = self.task.score_of(found.values, self.select)
        return score if math.isfinite(score) else _WORST, loss if math.isfinite(loss) else -_WORST

    def _keep_model(self, weights: dict[str, Tensor], values: dict[str, float]) -> bool:
        try:
            self._save_model(weights, values)
        except NotWritten as error:
            _log.warning("%s; training continues, and a later validation writes the model", error.found)
            return False
        return True

    def _save_model(
        self, weights: dict[str, Tensor], values: dict[str, float], *, step: int | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        finite = {name: round(value, 4) for name, value in values.items() if math.isfinite(value)}
        facts = {**self.task.facts, "step": self.progress.step if step is None else step, **finite, **(more or {})}
        facts["search"] = self.config.search.model_dump(mode="json")
        facts |= {"init": {name: self.taken[name] for name in ("parts", "fresh")}} if self.taken else {}
        save_model(
            self.folder / "model",
            tensors=self._plain(weights),
            config=self.config.model,
            vocabularies=self.prepared.vocabularies,
            facts=facts,
            more=self._adapter(weights),
        )

    def _plain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights for a model without adapters."""
        return merged(weights, scale=self.config.lora.scale) if self.config.lora.rank else weights

    def _adapter(self, weights: dict[str, Tensor]) -> dict[str, bytes]:
        """The files of the adapter by itself, where there is a model that it belongs to."""
        base = self.taken.get("adapter_base")
        return Adapter(base, self.config.lora.scale, adapters_in(weights)).files() if base else {}

    def _save(self, progress: Progress) -> bool:
        """Write a checkpoint; a disk error is only reported, but the third in a row ends the training."""
        try:
            self._write_checkpoint(progress, finished=False)
        except NotWritten as error:
            self.refused += 1
            if self.refused >= _REFUSALS_ALLOWED:
                raise
            _log.warning("%s; training continues, and the next save tries again", error.found)
            return False
        self.refused = 0
        return True

    def _write_checkpoint(self, progress: Progress, *, finished: bool) -> None:
        flat = [checkpoints.flatten_optimizer(optimizer) for optimizer in self.optimizer.optimizers]
        own = unique_tensors(self.model)
        checkpoints.save_checkpoint(
            self.folder,
            step=progress.step,
            tensors={
                "model": own,
                "average": dict(zip(own, self.average, strict=True)) if self.average else {},
                "optimizer": {f"{number}/{name}": tensor for number, part in enumerate(flat) for name, tensor in part.tensors.items()},
                **({} if self.learner.carried is None else {"carried": self.learner.carried.tensors()}),
                **({"start": self.start} if self.start else {}),
            },
            facts={
                "setup": self.setup,
                "progress": progress.facts(),
                "marks": self.records.marks(),
                "optimizers": [part.facts for part in flat],
                "finished": finished,
                **({"init": self.taken} if self.taken else {}),
            },
        )
        kept = {*progress.best_steps(self.config.train.keep_best, noise=self.task.noise[self.select]), *self._steps_to_average()}
        checkpoints.prune(
            self.folder,
            keep_last=self.config.train.keep_last,
            keep_best=len(kept),
            metric=lambda facts: 0.0 if facts["progress"]["step"] in kept else None,
        )

    def _steps_to_average(self) -> list[int]:
        """The checkpoints of validations: those of stops must not matter."""
        count = self.config.train.average_checkpoints
        if self.config.train.average_which == "best":
            return self.progress.best_steps(count, noise=self.task.noise[self.select])
        return self.progress.last_steps(count)

    def _keep_bad_batch(self, step: int) -> None:
        first = (step - 1) * self.config.train.accumulate
        for number in range(first, first + self.config.train.accumulate):
            self.records.bad_batch(step, number, self.task.written(self.batches.at(*self.batches.locate(number))))
        self.say(f"step {step} skipped: its loss or gradient is not finite; its text is in bad_batches/")

    def _finish(self) -> None:
        """Validate once more, try the mean of checkpoints, and save the end."""
        progress = self.progress
        progress.validation_due = progress.validated != progress.step and not self._validate(progress)
        saved = self._save(progress)
        if self.stop.signal is not None:
            raise self.stop.error(stopping_place(progress, saved=saved))
        self._try_mean(progress)
        if progress.validated < 0:  # no model could be written so far
            self._save_model(self._weights(), {})
        self._mix_old()
        self._observe(Event("finished", progress.step, {"seconds": progress.seconds, "tokens": progress.tokens}))
        self._write_checkpoint(progress, finished=True)

    def _try_mean(self, progress: Progress) -> None:
        """Keep the mean of some checkpoints as the model where it is better than the best of them."""
        wanted = self._steps_to_average()
        paths = [path for path in checkpoints.checkpoints(self.folder) if int(path.name.rpartition("-")[2]) in wanted]
        if len(paths) < 2:
            return
        try:
            mean = checkpoints.average(paths)
        except ModelError as error:
            _log.warning("%s; checkpoints are not averaged", error.found)
            return
        weights = {name: tensor.to(self.learner.device) for name, tensor in mean.items()}
        judged = self._validate_and_keep(weights, progress, averaged=len(paths))
        if judged.better and judged.kept:
            progress.best, progress.best_loss, progress.best_step = judged.score, judged.loss, progress.step

    def _dev_figures(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """What a model with these weights has on the dev sets."""
        if not self.task.has_dev:
            return {}
        model = self.task.build()
        fill(model, weights)
        return self.task.validate(model).values

    def _mix_old(self) -> None:
        """Put a share of the old weights into the run's model (`train.old_share`), unless it has one already."""
        asked = self.config.train.old_share
        loaded = load_folder(self.folder / "model", device=self.learner.device) if asked else None
        if loaded is None or OLD_SHARE in loaded.facts:
            return
        new = unique_tensors(loaded.model)
        with self.stop.at_once(stopping_place(self.progress, saved=True)):
            if asked == "auto":
                found = least_share(self.start, new, self._dev_figures, lost=self.config.train.old_lost)
            else:
                found = [Mixed(asked, self._dev_figures(mix(self.start, new, asked)))]
        for one in found:
            self._observe(Event("mixed", self.progress.step, {OLD_SHARE: one.share, **one.values}))
        best, limit = found[-1], self.config.train.old_lost
        told = ""
        if best.lost is not None:
            what = "lost" if best.lost >= 0 else "gained"
            told = f": {abs(best.lost):.2f} chrF {what} on the old dev text; a loss of {limit:g} is allowed (train.old_lost)"
        option = f"[--set train.old_share={best.share:g}]"
        self.say(f"the model is {best.share:.0%} old weights and {1 - best.share:.0%} new ones{told}  {option}")
        self._save_model(mix(self.start, new, best.share), best.values, step=int(loaded.facts["step"]), more={OLD_SHARE: best.share})


class _Judged(NamedTuple):
    """The result of a validation of some weights."""

    score: float | None
    """None without a dev set."""
    loss: float
    better: bool
    """Better than all before."""
    kept: bool
    """False where the disk refused the model."""
