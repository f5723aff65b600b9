"""The training step and the loop."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitrail.config import Duration
from vitrail.data.batches import Batch
from vitrail.errors import TrainingError
from vitrail.models.base import Model
from vitrail.models.folder import unique_tensors
from vitrail.runtime import Ranks, seed_all
from vitrail.train.config import RunConfig
from vitrail.train.metrics import Event, Observe, Window
from vitrail.train.optim import ClippedNorm, Optimizer, follow, rate
from vitrail.train.stopping import StopWish

_SKIPS_ALLOWED, _SKIPS_WINDOW = 10, 100


@dataclass
class Progress:
    """Where a training stands, in plain numbers that are saved with each checkpoint."""

    step: int = 0
    """Updates done, skipped ones included."""
    seconds: float = 0.0
    """Time spent in the loop, validation and saving included."""
    tokens: int = 0
    """Real target tokens trained on."""
    best: float | None = None
    """Best dev score so far, higher being better."""
    best_step: int = 0
    waited: int = 0
    """Validations since the best."""
    halvings: int = 0
    """How often the plateau schedule has halved the rate."""
    skipped: list[int] = field(default_factory=list[int])
    """Steps that were skipped since their gradient was not finite."""

    def facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class Learner(NamedTuple):
    """What learns, and on what."""

    model: Model
    optimizer: Optimizer
    average: list[Tensor]
    """The moving average of the weights; empty when it is off."""
    batches: Callable[[int], Iterable[tuple[int, Batch]]]
    """From the index of a first batch: that batch and all later ones of this rank, each with its index in the global order."""
    ranks: Ranks
    device: torch.device
    dtype: torch.dtype
    config: RunConfig


class Update(NamedTuple):
    """One optimizer step, in sums over all its batches and ranks."""

    nats: float
    plain_nats: float
    tokens: int
    norms: ClippedNorm

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers, so that the step was taken."""
        return torch.isfinite(torch.tensor([self.nats, self.norms.before])).all().item() is True


def gradients(learner: Learner, batches: Iterable[tuple[int, Batch]]) -> tuple[float, float, int]:
    """Add up the gradient of the summed loss over batches and ranks, and divide it once by their real target tokens.

    Returns: the sums (smoothed nats, plain nats, tokens). Each batch draws its dropout from (seed, its global index) alone.
    """
    totals = torch.zeros(3, dtype=torch.float64)
    learner.optimizer.clear()
    for index, batch in batches:
        seed_all(learner.config.seed, index)
        batch = Batch(*(part.to(learner.device, non_blocking=True) for part in batch))
        with torch.autocast(learner.device.type, learner.dtype, enabled=learner.dtype != torch.float32):
            loss = learner.model.loss(batch, label_smoothing=learner.config.train.label_smoothing)
        loss.nats.backward()  # pyright: ignore[reportUnknownMemberType]
        totals += torch.stack([loss.nats.detach().cpu().double(), loss.plain_nats.detach().cpu().double(), loss.tokens.cpu().double()])
    for parameter in learner.optimizer.parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    found = [parameter.grad for parameter in learner.optimizer.parameters if parameter.grad is not None]
    learner.ranks.sum(totals, *found)
    nats, plain_nats, tokens = totals.tolist()
    torch._foreach_div_(found, tokens)  # pyright: ignore[reportPrivateUsage]
    return nats, plain_nats, int(tokens)


def update(learner: Learner, batches: Iterable[tuple[int, Batch]], *, share: float, step: int) -> Update:
    """One optimizer step at a share of the learning rate; not taken where loss or gradient is not finite."""
    nats, plain_nats, tokens = gradients(learner, batches)
    result = Update(nats, plain_nats, tokens, learner.optimizer.clip())
    if result.finite:
        learner.optimizer.step(share)
        if learner.average:
            follow(learner.average, unique_tensors(learner.model).values(), decay=learner.config.train.average_decay, step=step)
    return result


def done_share(duration: Duration, progress: Progress, *, steps_per_epoch: int) -> float:
    """How much of a duration is over, 0 to 1."""
    match duration.unit:
        case "steps":
            done = progress.step / duration.amount
        case "epochs":
            done = progress.step / max(1, round(duration.amount * steps_per_epoch))
        case "minutes":
            done = progress.seconds / 60 / duration.amount
    return min(1.0, done)


def due(duration: Duration, before: Progress, now: Progress, *, steps_per_epoch: int) -> bool:
    """Whether a multiple of a duration lies between two states of progress."""
    match duration.unit:
        case "steps":
            every, old, new = duration.amount, before.step, now.step
        case "epochs":
            every, old, new = max(1, round(duration.amount * steps_per_epoch)), before.step, now.step
        case "minutes":
            every, old, new = duration.amount * 60, before.seconds, now.seconds
    return new // every > old // every


def try_longest(learner: Learner, batch: Batch) -> None:
    """Run the largest batch once without learning from it, so that memory that does not suffice shows at once.

    Raises TrainingError that names the setting to lower.
    """
    before = {name: tensor.clone() for name, tensor in learner.model.named_buffers()}
    try:
        gradients(learner._replace(ranks=Ranks(0, 1)), [(0, batch)])
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        rows, length = batch.target_out.shape
        config = learner.config.train
        raise TrainingError(
            f"out of memory at the largest batch ({rows} sentences of up to {length} tokens)",
            remedy=f"lower train.batch_tokens (now {config.batch_tokens}), for example "
            f"--set train.batch_tokens={config.batch_tokens // 2} --set train.accumulate={config.accumulate * 2}",
        ) from None
    for name, tensor in learner.model.named_buffers():
        tensor.copy_(before[name])
    learner.optimizer.clear()


class Hooks(NamedTuple):
    """What the loop calls out for; each keeps `progress` true."""

    validate: Callable[[Progress], None]
    save: Callable[[Progress], None]
    keep_bad_batch: Callable[[int], None]
    """Called with the number of a skipped step, to write its batches aside."""
    observe: Observe


def loop(learner: Learner, progress: Progress, hooks: Hooks, *, steps_per_epoch: int) -> None:
    """Train until the duration is over, patience ends, or somebody wishes to stop (Stopped, Interrupted: after saving).

    Raises TrainingError when ten of the last hundred steps had to be skipped.
    """
    config = learner.config.train
    portion = config.accumulate // learner.ranks.world
    stream = iter(learner.batches(progress.step * config.accumulate))
    window = Window()
    learner.model.train()
    with StopWish() as wish:
        while (done := done_share(config.duration, progress, steps_per_epoch=steps_per_epoch)) < 1.0:
            before, started = Progress(step=progress.step, seconds=progress.seconds), time.perf_counter()
            share = rate(learner.config.schedule, step=progress.step, progress=done, plateau_halvings=progress.halvings)
            result = update(learner, (next(stream) for _ in range(portion)), share=share, step=progress.step)
            progress.step += 1
            spent = time.perf_counter() - started
            progress.seconds += spent
            if result.finite:
                progress.tokens += result.tokens
                window.add(nats=result.nats, plain_nats=result.plain_nats, tokens=result.tokens, norms=result.norms, seconds=spent)
            else:
                _skip(progress, hooks)
            if progress.step % config.log_every == 0 and window.steps:
                values = window.values() | {"learning_rate": learner.config.optimizer.learning_rate * share, "seconds": progress.seconds}
                values |= {"epoch": progress.step / steps_per_epoch, "done_share": done}
                hooks.observe(Event("train", progress.step, values))
                window = Window()
            pause = time.perf_counter()
            if due(config.validate_every, before, progress, steps_per_epoch=steps_per_epoch):
                hooks.validate(progress)
                hooks.save(progress)
                learner.model.train()
            elif due(config.save_every, before, progress, steps_per_epoch=steps_per_epoch):
                hooks.save(progress)
            progress.seconds += time.perf_counter() - pause
            if learner.ranks.any(wish.signal is not None):
                hooks.save(progress)
                raise wish.error(progress.step)
            if config.patience and progress.waited >= config.patience:
                return


def _skip(progress: Progress, hooks: Hooks) -> None:
    """Count a step whose loss or gradient is not finite, and give up when they are many."""
    progress.skipped.append(progress.step)
    hooks.keep_bad_batch(progress.step)
    hooks.observe(Event("skipped", progress.step, {"skipped_steps": len(progress.skipped)}))
    recent = [step for step in progress.skipped if step > progress.step - _SKIPS_WINDOW]
    if len(recent) >= _SKIPS_ALLOWED:
        raise TrainingError(
            f"diverged at step {progress.step}: loss or gradient not finite in {len(recent)} of the last {_SKIPS_WINDOW} steps",
            remedy="lower optimizer.learning_rate or raise schedule.warmup; the last good checkpoint and bad_batches/ are kept",
        )
