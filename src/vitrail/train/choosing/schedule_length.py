"""The schedule of a training in steps, shown at the start, and a warning where the learning rate stays low."""

from vitrail.config import Duration
from vitrail.train.optim import Warmup, rate
from vitrail.train.run_config import RunConfig

LOW = 0.5
"""The least peak of a good schedule, as a share of the learning rate: warm-up and decay of half the training each give this."""
WARMUP = "10%"
"""A warm-up that leaves time to learn in a training of any length."""
_LOOKS = 200


def steps_of(length: Duration, *, steps_per_epoch: int) -> float | None:
    """A length in steps; None for minutes, where it is unknown."""
    match length.unit:
        case "steps":
            return length.amount
        case "epochs":
            return max(1.0, float(round(length.amount * steps_per_epoch))) if length.amount else 0.0
        case "minutes":
            return None


def describe_length(config: RunConfig, *, steps_per_epoch: int) -> str:
    """Length, warm-up and validations in one line, in steps where known."""
    warmup, every = Warmup.parse(config.schedule.warmup), config.train.validate_every
    total = steps_of(config.train.duration, steps_per_epoch=steps_per_epoch)
    if total is None:
        return f"a warm-up of {_in_words(warmup)}; a validation every {every}"
    told = f"{total:,.0f} steps, the first {min(total, max(1, round(warmup.within(total)))):,.0f} of them warm-up"
    interval = steps_of(every, steps_per_epoch=steps_per_epoch)
    if interval is None:
        return f"{told}; a validation every {every}"
    shortest = interval if every.share is None else min(interval, every.share * total)
    return f"{told}; a validation {f'every {max(1, round(shortest)):,} steps' if 0 < shortest < total else 'at the end'}"


def _in_words(warmup: Warmup) -> str:
    share = None if warmup.share is None else f"{100 * warmup.share:g}% of the time"
    return f"{share}" if warmup.steps is None else f"{warmup.steps:,} steps" + (f", at most {share}" if share else "")


def highest_share(config: RunConfig, *, steps: float) -> float:
    """The largest share of the learning rate that a training of so many steps reaches; without the halvings of plateau."""
    count = max(1, round(steps))
    looked = {*range(0, count, max(1, count // _LOOKS)), count - 1}
    return max(rate(config.schedule, step=step, progress=step / count, after=(step + 1) / count) for step in looked)


def warn_of_warmup(config: RunConfig, *, steps: float | None) -> str | None:
    """A warning for a schedule that ends before the rate is high; None for a good one, or an unknown number of steps."""
    if steps is None:
        return None
    highest, warmup = highest_share(config, steps=steps), Warmup.parse(config.schedule.warmup)
    if highest > LOW and warmup.within(steps) <= max(1, steps):
        return None
    return (
        f"the warm-up ({_in_words(warmup)}) is too long for a training of {steps:,.0f} steps: the learning rate reaches only "
        f"{highest:.0%} of {config.optimizer.learning_rate:g}. Try --set schedule.warmup={WARMUP}, or train longer"
    )
