"""The course of a training as `metrics.jsonl` tells it: whether it learned, overfitted, was steady, and went to its end."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import LITTLE, word_entropy
from vitrail.train.choosing.choose import LEAST_STEPS
from vitrail.train.choosing.schedule_length import LOW, WARMUP, highest_share, warn_of_warmup
from vitrail.train.loop import steadier_settings
from vitrail.train.optim import Warmup
from vitrail.train.run_config import RunConfig

NOTHING = 0.9
"""Dev loss, as a share of the entropy of single words, above which a model knows little more than how frequent each word is."""
EARLY = 0.2
"""Share of the planned training below which a poor loss is no surprise."""
RISEN = 0.2
"""Rise of the dev loss above its best that is a fault, if the training loss is also under half of it. From epoch to epoch, the dev loss of
healthy runs rises by 1 % at most."""
RISING = 0.05
"""The same, a warning."""
RISEN_NATS = 0.05
"""A rise of fewer nats per token is none."""

SPIKE_NATS = 0.5
"""Nats per token by which the loss of a line of metrics (50 steps or so) must exceed that of the best line before it: healthy runs stay
below 0.2."""
MANY_SKIPS = 0.01
"""Share of steps with a gradient that is not finite that is a fault; a training gives up at 10 of 100."""
CLIPPED = 10.0
"""Times by which the gradient is cut, in the median line of metrics after the warm-up; healthy runs: 1.0."""

STILL = 0.02
"""Improvement of the dev loss over the last validation, relative, from which on a longer training is worth trying."""


class TrainingHistory(NamedTuple):
    """What the log of a training says, in the order of its steps."""

    train_steps: list[int]
    train_nats: list[float]
    """Per token, without smoothing, with dropout."""
    dev_steps: list[int]
    dev_nats: list[float]
    best: list[bool]
    """Whether a validation's score was the best so far."""
    norms: list[tuple[float, float]]
    """Of the gradient, before and after clipping, for each line."""
    skipped: int
    done_share: float
    """Of the planned training."""
    finished: bool


def read_history(metrics: Sequence[Mapping[str, Any]]) -> TrainingHistory:
    """Take from the log what can be judged; a value that was not finite (null in the log) counts as infinite."""
    train = [line for line in metrics if line.get("kind") == "train"]
    dev = [line for line in metrics if line.get("kind") == "validation" and "averaged_checkpoints" not in line]
    return TrainingHistory(
        train_steps=[int(line["step"]) for line in train],
        train_nats=[_log(_number(line.get("perplexity"))) for line in train],
        dev_steps=[int(line["step"]) for line in dev],
        dev_nats=[_number(line.get("dev_loss_nats_per_token")) for line in dev],
        best=[bool(line.get("best")) for line in dev],
        norms=[(_number(line.get("gradient_norm")), _number(line.get("gradient_norm_clipped"))) for line in train],
        skipped=sum(line.get("kind") == "skipped" for line in metrics),
        done_share=max((_number(line.get("done_share", 0.0)) for line in train), default=0.0),
        finished=any(line.get("kind") == "finished" for line in metrics),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.inf


def _log(value: float) -> float:
    return math.log(value) if value > 0 else 0.0


def planned_steps(course: TrainingHistory) -> float:
    """How many steps the whole training has, at the speed so far; 0 where the log has no line on training yet."""
    return course.train_steps[-1] / course.done_share if course.train_steps and course.done_share else 0.0


def warm_up(run: RunUnderTest) -> list[Finding]:
    """Whether the learning rate gets up in the time that the training has."""
    assert run.config is not None
    return [judge_warm_up(run.config, planned_steps(read_history(run.metrics)))]


def judge_warm_up(config: RunConfig, steps: float) -> Finding:
    """Judge by the largest learning rate of the schedule in a training of so many steps."""
    if steps < 1:
        return Finding(check="warm-up", severity="unchecked", found="metrics.jsonl has no line on training yet")
    length, highest = Warmup.parse(config.schedule.warmup).within(steps), highest_share(config, steps=steps)
    told = f"{length:,.0f} of {steps:,.0f} steps; the learning rate gets up to {highest:.0%} of {config.optimizer.learning_rate:g}"
    numbers = {"warmup_steps": length, "steps": steps, "highest_share": highest}
    if warn_of_warmup(config, steps=steps) is None:
        return Finding(check="warm-up", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="warm-up",
        severity="fault" if highest <= LOW else "warning",
        found=told,
        expected="a warm-up of about a tenth of the training",
        remedy=f"train anew with --set schedule.warmup={WARMUP}, or longer (train.duration)",
        numbers=numbers,
    )


def learning(run: RunUnderTest) -> list[Finding]:
    """Whether the dev loss says that something was learned."""
    return [judge_learning(read_history(run.metrics), word_entropy(run.data))]


def judge_learning(course: TrainingHistory, entropy: float) -> Finding:
    """Compare the best dev loss, or without a dev set the last training loss, with the entropy of single words."""
    losses, name = (course.dev_nats, "dev") if course.dev_nats else (course.train_nats[-1:], "training")
    if not losses:
        return Finding(check="learning", severity="unchecked", found="metrics.jsonl has no line with a loss yet")
    best = min(losses)
    share = best / entropy
    told = f"best {name} loss {best:.3f} nats per token, {share:.0%} of the {entropy:.2f} that word frequencies alone give"
    numbers = {"best_nats": best, "word_entropy_nats": entropy, "done_share": course.done_share}
    if share < LITTLE:
        return Finding(check="learning", severity="ok", found=told, numbers=numbers)
    early = course.done_share < EARLY and not course.finished
    nothing = not share < NOTHING
    steps = course.train_steps[-1] if course.train_steps else 0
    few = f"{steps:,} steps are few: Vitrail plans {LEAST_STEPS:,} and more (train.duration)" if steps < LEAST_STEPS else ""
    causes = "see to warm-up, learning rate and misaligned lines first; if they are well, train longer"
    return Finding(
        check="learning",
        severity="note" if early else "fault" if nothing else "warning",
        found=f"{told}, after {course.done_share:.0%} of the training",
        expected=f"under {LITTLE:.0%}",
        remedy="wait" if early else f"{causes}; {few}" if few else f"{causes}, on more text",
        numbers=numbers,
    )


def overfitting(run: RunUnderTest) -> list[Finding]:
    """Whether the dev loss rises while the training loss falls."""
    return [judge_overfitting(read_history(run.metrics))]


def judge_overfitting(course: TrainingHistory) -> Finding:
    """Judge by how far the last dev loss is above the best one, and above the training loss."""
    check = "overfitting"
    if len(course.dev_nats) < 2 or not course.train_nats:
        return Finding(check=check, severity="unchecked", found=f"{len(course.dev_nats)} validations are too few to see a trend")
    best, last, train = min(course.dev_nats), course.dev_nats[-1], course.train_nats[-1]
    rise, step = last / best - 1 if best > 0 else 0.0, course.dev_steps[course.dev_nats.index(best)]
    told = f"dev loss {last:.3f} nats per token at the end, best {best:.3f} at step {step:,} ({rise:+.0%}); training loss {train:.3f}"
    numbers = {"last_dev_nats": last, "best_dev_nats": best, "best_step": step, "train_nats": train, "rise": rise}
    risen = rise >= RISING and last - best >= RISEN_NATS and train < last
    if not risen:
        return Finding(check=check, severity="ok", found=told, numbers=numbers)
    return Finding(
        check=check,
        severity="fault" if rise >= RISEN and train < last / 2 else "warning",
        found=told,
        expected=f"a dev loss that falls, or stays within {RISING:.0%} of its best",
        remedy="raise model.dropout, add training text, or take a smaller model; train.patience ends a training that no longer gets "
        "better. (The model that was kept is the one of the best validation.)",
        numbers=numbers,
    )


def steadiness(run: RunUnderTest) -> list[Finding]:
    """Whether the loss jumps, steps had to be skipped, or gradients are cut all the time."""
    course = read_history(run.metrics)
    if run.config is None:
        return [judge_steadiness(course, warmup=0.0)]
    warmup = Warmup.parse(run.config.schedule.warmup).within(planned_steps(course))
    return [judge_steadiness(course, warmup=warmup, remedy=steadier_settings(run.config))]


def judge_steadiness(course: TrainingHistory, *, warmup: float, remedy: str = "lower optimizer.learning_rate") -> Finding:
    """Judge by spikes of the loss, skipped steps and what clipping cuts away; the first `warmup` steps are not held against it."""
    lowest, spikes = math.inf, list[int]()
    for step, nats in zip(course.train_steps, course.train_nats, strict=True):
        if nats > lowest + SPIKE_NATS:
            spikes.append(step)
        lowest = min(lowest, nats)
    steps = course.train_steps[-1] if course.train_steps else 0
    late = [before / after for step, (before, after) in zip(course.train_steps, course.norms, strict=True) if step > warmup and after > 0]
    cut = float(np.median(late)) if late else 1.0
    diverged = bool(spikes) and spikes[-1] == steps
    told = f"{len(spikes)} of {len(course.train_steps)} lines of metrics show a jump of the loss by {SPIKE_NATS} nats or more"
    told += f"{f', the first at step {spikes[0]:,}' if spikes else ''}; {course.skipped:,} steps skipped; clipping divides the gradient by "
    told += f"{cut:.1f} (median after the warm-up)"
    numbers = {"jumps": len(spikes), "lines": len(course.train_steps), "skipped": course.skipped, "clipped_times": cut}
    if not course.train_steps:
        return Finding(check="steadiness", severity="unchecked", found="metrics.jsonl has no line on training yet")
    if not spikes and not course.skipped and cut < CLIPPED:
        return Finding(check="steadiness", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="steadiness",
        severity="fault" if diverged or course.skipped >= max(2.0, MANY_SKIPS * steps) else "warning",
        found=f"{told}{'; the loss has not come down again' if diverged else ''}",
        expected="a loss that falls, and gradients that are seldom cut",
        remedy=f"{remedy}{'; text of skipped steps is in bad_batches/' if course.skipped else ''}",
        numbers=numbers,
    )


def completion(run: RunUnderTest) -> list[Finding]:
    """Whether the training went to its end, and whether a longer one is worth trying."""
    return [judge_completion(read_history(run.metrics))]


def judge_completion(course: TrainingHistory) -> Finding:
    """Notes on trainings that are not at their end, or still got better there."""
    steps = max([*course.train_steps, *course.dev_steps], default=0)
    numbers: dict[str, float] = {"steps": steps, "done_share": course.done_share}
    if not course.finished:
        return Finding(
            check="completion",
            severity="note",
            found=f"not at its end: step {steps:,}, {course.done_share:.0%} of the planned training",
            remedy="if nobody is training here, the same vitrail train command goes on from the last checkpoint",
            numbers=numbers,
        )
    told = f"finished at step {steps:,}"
    if len(course.dev_nats) < 2 or not 0 < course.dev_nats[-1] < math.inf or not course.dev_nats[-2] < math.inf:
        return Finding(check="completion", severity="ok", found=told, numbers=numbers)
    gain = 1 - course.dev_nats[-1] / course.dev_nats[-2]
    told += f"; the last validation changed the dev loss by {-gain:+.1%}"
    if gain < STILL or not course.best[-1]:
        return Finding(check="completion", severity="ok", found=told, numbers=numbers | {"last_gain": gain})
    return Finding(
        check="completion",
        severity="note",
        found=f"{told}: it was still getting better",
        remedy="a longer train.duration",
        numbers=numbers | {"last_gain": gain},
    )
