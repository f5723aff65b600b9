"""The training step and the loop."""

import math
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.config import Duration, Interval
from vitrail.data.batches import Batch
from vitrail.data.blocks import Block
from vitrail.data.data_config import DataConfig
from vitrail.data.windows import TextWindow
from vitrail.errors import TrainingError, out_of_memory
from vitrail.models.base import Model, unique_tensors
from vitrail.nn.losses import LossSum
from vitrail.runtime.device import seed_all
from vitrail.runtime.ranks import Ranks
from vitrail.runtime.stopping import StopRequest
from vitrail.train.log.metrics import Event, Observe, Window
from vitrail.train.optim import ClippedNorm, Optimizer, rate, rewarmed, update_moving_average
from vitrail.train.resume.carry import Carried
from vitrail.train.run_config import RunConfig, TrainConfig

AnyBatch = Batch | Block | TextWindow
"""What models learn from."""

_SKIPS_ALLOWED, _SKIPS_WINDOW = 10, 100


@dataclass
class Progress:
    """The progress of a training, in plain numbers that are saved with each checkpoint."""

    step: int = 0
    """Updates done, skipped ones included."""
    seconds: float = 0.0
    """Time spent in the loop, validation and saving included."""
    tokens: int = 0
    """Real target tokens trained on."""
    best: float | None = None
    """Best dev score so far, higher being better."""
    best_loss: float | None = None
    """Dev loss of the best; None where it is not known."""
    best_step: int = 0
    waited: int = 0
    """Validations since the best."""
    halvings: int = 0
    """How often the plateau schedule has halved the rate."""
    validated: int = -1
    """Step of the last validation."""
    validation_due: bool = False
    """A stop request interrupted a validation; a resumed training does it first."""
    scores: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Step and dev score of each validation."""
    losses: list[float] = field(default_factory=list[float])
    """Dev loss of the last of these validations, or of all."""
    skipped: int = 0
    """Steps skipped because their loss or gradient was not finite."""
    recent_skips: list[int] = field(default_factory=list[int])
    """Those among the last hundred steps."""
    window: Window = field(default_factory=Window)
    """Sums for the next line of metrics."""
    extended: tuple[int, float] | None = None
    """Step and seconds at which a training that had come to the end of its schedule was made longer; None: never."""

    def is_better(self, score: float, loss: float, *, noise: float = -math.inf) -> bool:
        """Whether a score is the best so far: higher, or equal with a lower loss. All scores up to `noise` are equal."""
        if self.best is None:
            return True
        found, best = max(score, noise), max(self.best, noise)
        if found != best:
            return found > best
        return self.best_loss is not None and loss < self.best_loss

    def best_steps(self, count: int, *, noise: float = -math.inf) -> list[int]:
        """The steps of the highest scores; of equal ones that with the lower loss first, then the later one. `noise`: see `is_better`."""
        unknown = [math.inf] * (len(self.scores) - len(self.losses))  # a run of an earlier version has none
        judged = [(-max(score, noise), loss, -step) for (step, score), loss in zip(self.scores, [*unknown, *self.losses], strict=True)]
        return [-step for _, _, step in sorted(judged)[:count]]

    def last_steps(self, count: int) -> list[int]:
        """The last steps that have a score."""
        return [step for step, _ in self.scores[max(0, len(self.scores) - count) :]]

    def forget_scores(self) -> None:
        """Forget all dev scores, if they cannot be compared with the next ones."""
        self.best, self.best_loss, self.best_step, self.waited = None, None, 0, 0
        self.scores, self.losses = [], []

    def facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        table = asdict(self)
        if self.extended is None:
            del table["extended"]
        return table

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> "Progress":
        """The inverse of `facts`, also after JSON made lists of its tuples."""
        scores = [(int(step), float(score)) for step, score in facts["scores"]]
        table: dict[str, Any] = {**facts, "scores": scores, "window": Window(**facts["window"])}
        if (extended := facts.get("extended")) is not None:
            table["extended"] = (int(extended[0]), float(extended[1]))
        return cls(**table)


class Learner(NamedTuple):
    """The model, its batches and its optimizer."""

    model: Model
    optimizer: Optimizer
    average: list[Tensor]
    """The moving average of the weights; empty when it is off. Of a frozen weight it is the weight itself."""
    batches: Callable[[int], Iterable[tuple[int, AnyBatch]]]
    """From the index of a first batch: that batch and all later ones of this rank, each with its index in the global order."""
    ranks: Ranks
    device: torch.device
    dtype: torch.dtype
    config: RunConfig
    carried: Carried | None = None
    """The states carried from batch to batch, for a model that reads one long text."""
    resting: tuple[nn.Module, ...] = ()
    """Frozen parts of the model, which stay in evaluation mode: no dropout, and batch norms keep their statistics."""

    def begin_training(self) -> None:
        """Put the model into training mode, but for its frozen parts."""
        self.model.train()
        for part in self.resting:
            part.eval()

    def loss(self, number: int, batch: AnyBatch) -> LossSum:
        """The loss of a batch."""
        smoothing = self.config.train.label_smoothing
        if self.carried is not None:
            assert isinstance(batch, Block)
            return self.carried.loss(number, batch, label_smoothing=smoothing)
        return self.model.loss(batch, label_smoothing=smoothing)


class Update(NamedTuple):
    """One optimizer step, in sums over all its batches and ranks."""

    nats: float
    plain_nats: float
    tokens: int
    norms: ClippedNorm

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers, so that the step was taken."""
        return math.isfinite(self.nats) and math.isfinite(self.norms.before)


def accumulate_gradients(learner: Learner, batches: Iterable[tuple[int, AnyBatch]]) -> tuple[float, float, int]:
    """Add up the gradient of the summed loss over batches and ranks, and divide it once by their real target tokens.

    Returns: the sums (smoothed nats, plain nats, tokens). Each batch draws its dropout from (seed, its global index) alone.
    """
    totals = torch.zeros(3, dtype=torch.float64)
    learner.optimizer.clear()
    for index, batch in batches:
        seed_all(learner.config.seed, index)
        batch = type(batch)(*(part.to(learner.device, non_blocking=True) for part in batch))
        # Sums over processes are of whole gradients.
        with learner.optimizer.by_rows(wanted=learner.ranks.world == 1):
            with torch.autocast(learner.device.type, learner.dtype, enabled=learner.dtype != torch.float32):
                loss = learner.loss(index, batch)
            loss.nats.backward()  # pyright: ignore[reportUnknownMemberType]
        totals += torch.stack([loss.nats.detach().cpu().double(), loss.plain_nats.detach().cpu().double(), loss.tokens.cpu().double()])
    for parameter in learner.optimizer.parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    found = learner.optimizer.gradients()
    learner.ranks.sum(totals, *found)
    nats, plain_nats, tokens = totals.tolist()
    torch._foreach_div_(found, tokens)  # pyright: ignore[reportPrivateUsage]
    return nats, plain_nats, int(tokens)


def update(learner: Learner, batches: Iterable[tuple[int, AnyBatch]], *, share: float, step: int) -> Update:
    """One optimizer step at a share of the learning rate; if loss or gradient is not finite, nothing changes."""
    buffers = _lasting_buffers(learner)
    before = [buffer.clone() for buffer in buffers]
    nats, plain_nats, tokens = accumulate_gradients(learner, batches)
    result = Update(nats, plain_nats, tokens, learner.optimizer.clip())
    if not result.finite:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        learner.optimizer.clear()
        if learner.carried is not None:
            learner.carried.forget()
        return result
    if learner.carried is not None:
        learner.carried.keep(learner.ranks)
    if learner.ranks.world > 1:  # ranks have seen different batches: all continue with the mean of their running statistics
        learner.ranks.sum(*buffers)
        for buffer in buffers:
            buffer /= learner.ranks.world
    learner.optimizer.step(share)
    if learner.average:
        update_moving_average(learner.average, unique_tensors(learner.model).values(), decay=learner.config.train.average_decay, step=step)
    return result


def _lasting_buffers(learner: Learner) -> list[Tensor]:
    """The running statistics of batch norm, except those of frozen parts."""
    parameters = {name for name, _ in learner.model.named_parameters()}
    frozen = {id(buffer) for part in learner.resting for buffer in part.buffers()}
    return [tensor for name, tensor in unique_tensors(learner.model).items() if name not in parameters and id(tensor) not in frozen]


def done_share(duration: Duration, progress: Progress, *, steps_per_epoch: int) -> float:
    """How much of a duration is over, 0 to 1."""
    now, whole = _measured(duration, progress, steps_per_epoch)
    return min(1.0, now / whole) if whole else 1.0


def due(every: Duration, before: Progress, now: Progress, *, steps_per_epoch: int, whole: Duration) -> bool:
    """Whether a multiple of an interval lies between two states of progress; never one of an interval of 0.

    Args: whole: the training's duration, of which an interval may be at most a share.
    """
    old, length = _measured(every, before, steps_per_epoch)
    new, _ = _measured(every, now, steps_per_epoch)
    if length == 0:
        return False
    if not isinstance(every, Interval) or every.share is None:
        return new // length > old // length
    first, total = _measured(whole, before, steps_per_epoch)
    last, _ = _measured(whole, now, steps_per_epoch)
    share = every.share * total
    if (every.unit == "minutes") == (whole.unit == "minutes"):
        share = length = min(length, share)
    # An epoch cannot be compared with minutes before its end: then either makes it due.
    return new // length > old // length or (share > 0 and last // share > first // share)


def _measured(duration: Duration, progress: Progress, steps_per_epoch: int) -> tuple[float, float]:
    """Progress and the duration in the same unit: steps or seconds."""
    match duration.unit:
        case "steps":
            return progress.step, duration.amount
        case "epochs":
            return progress.step, max(1, round(duration.amount * steps_per_epoch)) if duration.amount else 0
        case "minutes":
            return progress.seconds, duration.amount * 60


def is_over(config: TrainConfig, progress: Progress, *, steps_per_epoch: int) -> bool:
    """Whether the duration is over, or patience."""
    impatient = 0 < config.patience <= progress.waited
    return impatient or done_share(config.duration, progress, steps_per_epoch=steps_per_epoch) >= 1.0


def try_longest(learner: Learner, batch: AnyBatch) -> None:
    """Run the largest batch once without an update, so that a lack of memory shows at once.

    Raises TrainingError that names the setting to lower.
    """
    buffers = _lasting_buffers(learner)
    before = [buffer.clone() for buffer in buffers]
    learner.begin_training()
    rows, length = batch[-1].shape
    with _naming_memory(learner.config, f"out of memory at the largest batch ({rows} sentences of up to {length} tokens)", sentences=rows):
        accumulate_gradients(learner._replace(ranks=Ranks(0, 1)), [(0, batch)])
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)
    learner.optimizer.clear()
    if learner.carried is not None:
        learner.carried.forget()


@contextmanager
def _naming_memory(config: RunConfig, found: str, *, sentences: int = 2) -> Generator[None, None, None]:
    """Raise an out-of-memory error as a TrainingError that names the setting to lower, and a value to try."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        tokens, parts = config.train.batch_tokens, config.train.accumulate
        if sentences > 1:
            lower = f"lower train.batch_tokens (now {tokens}), for example "
            lower += f"--set train.batch_tokens={max(1, tokens // 2)} --set train.accumulate={parts * 2}"
        elif isinstance(config.data, DataConfig):  # one pair is a batch by itself, even with small batches
            lower = f"lower data.max_length (now {config.data.max_length}), for example --set data.max_length={config.data.max_length // 2}"
        else:
            lower = "lower model.truncate"
        raise TrainingError(found, remedy=f"{lower}; or a smaller model, or end other programs") from None


class Callbacks(NamedTuple):
    """Callbacks of the loop; the first rank does the work, the others return True."""

    validate: Callable[[Progress], bool]
    """Scores the weights and updates progress; False where a stop request interrupted it."""
    save: Callable[[Progress], bool]
    """Writes a checkpoint; False where the disk refused it."""
    keep_bad_batch: Callable[[int], None]
    """Called with the number of a skipped step, to save its batches."""
    observe: Observe


def loop(learner: Learner, progress: Progress, callbacks: Callbacks, *, steps_per_epoch: int, stop: StopRequest) -> None:
    """Train until the duration or patience is over, or on a stop request (Stopped, Interrupted: after saving).

    Raises TrainingError when ten of the last hundred steps had to be skipped.
    """
    config = learner.config.train
    portion = config.accumulate // learner.ranks.world
    stream = iter(learner.batches(progress.step * config.accumulate))
    learner.begin_training()
    looked = replace(progress)
    while True:
        now = replace(progress)
        _validate_and_save(learner, progress, callbacks, since=looked, steps_per_epoch=steps_per_epoch)
        looked = now
        if _agree(learner.ranks, progress, stop=stop.signal is not None):
            raise stop.error(stopping_place(progress, saved=callbacks.save(progress)))
        if is_over(config, progress, steps_per_epoch=steps_per_epoch):
            _report(learner, progress, callbacks, steps_per_epoch=steps_per_epoch)
            return
        _advance(learner, progress, callbacks, batches=(next(stream) for _ in range(portion)), steps_per_epoch=steps_per_epoch)
        if progress.step % config.log_every == 0:
            _report(learner, progress, callbacks, steps_per_epoch=steps_per_epoch)


def stopping_place(progress: Progress, *, saved: bool) -> str:
    """The message on where a training stopped."""
    return f"stopped at step {progress.step}, which {'is' if saved else 'could not be'} saved"


def _advance(
    learner: Learner, progress: Progress, callbacks: Callbacks, *, batches: Iterable[tuple[int, AnyBatch]], steps_per_epoch: int
) -> None:
    """Take one step, or skip it."""
    started = time.perf_counter()
    duration, following = learner.config.train.duration, replace(progress, step=progress.step + 1)
    done, after = (done_share(duration, at, steps_per_epoch=steps_per_epoch) for at in (progress, following))
    share = rate(learner.config.schedule, step=progress.step, progress=done, after=after, plateau_halvings=progress.halvings)
    if progress.extended is not None:
        begun = replace(progress, step=progress.extended[0], seconds=progress.extended[1])
        before = done_share(duration, begun, steps_per_epoch=steps_per_epoch)
        part = (after - before) / (1 - before) if before < 1 else 1.0
        share *= rewarmed(learner.config.schedule, step=progress.step - progress.extended[0], progress=part)
    with _naming_memory(learner.config, f"out of memory in step {progress.step + 1}; what was saved before is intact"):
        result = update(learner, batches, share=share, step=progress.step)
    spent = time.perf_counter() - started
    progress.step += 1
    progress.seconds += spent
    if not result.finite:
        _skip(learner, progress, callbacks)
        return
    progress.tokens += result.tokens
    progress.window.add(
        nats=result.nats,
        plain_nats=result.plain_nats,
        tokens=result.tokens,
        norms=result.norms,
        seconds=spent,
        learning_rate=learner.config.optimizer.learning_rate * share,
    )


def _validate_and_save(learner: Learner, progress: Progress, callbacks: Callbacks, *, since: Progress, steps_per_epoch: int) -> None:
    """Validate and save when due. After an interrupted validation, save too."""
    config, started = learner.config.train, time.perf_counter()

    def is_due(every: Duration) -> bool:
        return due(every, since, progress, steps_per_epoch=steps_per_epoch, whole=config.duration)

    if progress.validation_due or is_due(config.validate_every):
        progress.validation_due = not callbacks.validate(progress)
        learner.begin_training()
        progress.seconds += time.perf_counter() - started
        if not progress.validation_due:
            callbacks.save(progress)
    elif is_due(config.save_every):
        callbacks.save(progress)
        progress.seconds += time.perf_counter() - started


def _agree(ranks: Ranks, progress: Progress, *, stop: bool) -> bool:
    """Send the first rank's values to all ranks: the time and the dev scores. Returns whether any has a stop request."""
    if ranks.world == 1:
        return stop
    best = math.nan if progress.best is None else progress.best
    known = [progress.seconds, best, progress.best_step, progress.waited, progress.halvings, progress.validation_due]
    shared = torch.tensor([*(known if ranks.rank == 0 else [0.0] * len(known)), stop], dtype=torch.float64)
    ranks.sum(shared)
    seconds, best, best_step, waited, halvings, validation_due, wishes = shared.tolist()
    progress.seconds, progress.best = seconds, None if math.isnan(best) else best
    progress.best_step, progress.waited, progress.halvings = int(best_step), int(waited), int(halvings)
    progress.validation_due = bool(validation_due)
    return wishes > 0


def _report(learner: Learner, progress: Progress, callbacks: Callbacks, *, steps_per_epoch: int) -> None:
    """Write a line of metrics on the steps since the last one."""
    if progress.window.steps:
        weights = learner.optimizer.weight_norms()
        place = {
            "seconds": progress.seconds,
            "epoch": progress.step / steps_per_epoch,
            "done_share": done_share(learner.config.train.duration, progress, steps_per_epoch=steps_per_epoch),
            "weight_norm": weights.norm,
            "l1_penalty": weights.l1_penalty,
            "l2_penalty": weights.l2_penalty,
            **({} if weights.l2_start_penalty is None else {"l2_start_penalty": weights.l2_start_penalty}),
        }
        callbacks.observe(Event("train", progress.step, progress.window.values() | place))
        progress.window = Window()


def steadier_settings(config: RunConfig) -> str:
    """Settings to change for an unstable training."""
    clip, rate_now = config.optimizer.clip_norm, config.optimizer.learning_rate
    clipping = f"lower optimizer.clip_norm (now {clip:g})" if clip else "clip the gradient: --set optimizer.clip_norm=1 (it is off)"
    return f"lower optimizer.learning_rate (now {rate_now:g}), raise schedule.warmup (now {config.schedule.warmup}), {clipping}"


def _skip(learner: Learner, progress: Progress, callbacks: Callbacks) -> None:
    """Count a step whose loss or gradient is not finite, and end the training if there are many."""
    progress.skipped += 1
    progress.recent_skips = [step for step in [*progress.recent_skips, progress.step] if step > progress.step - _SKIPS_WINDOW]
    callbacks.keep_bad_batch(progress.step)
    callbacks.observe(Event("skipped", progress.step, {"skipped_steps": progress.skipped}))
    if len(progress.recent_skips) >= _SKIPS_ALLOWED:
        raise TrainingError(
            f"diverged at step {progress.step}: "
            f"loss or gradient not finite in {len(progress.recent_skips)} of the last {_SKIPS_WINDOW} steps",
            remedy=f"{steadier_settings(learner.config)}; the last good checkpoint and bad_batches/ are kept",
        )
