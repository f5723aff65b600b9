"""Checks of the learning curves in `metrics.jsonl`: warm-up, learning, overfitting, stability, completion."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.preparing.prepared import PreparedLabels
from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import LITTLE, little, word_entropy
from vitrail.models.configs.classifier import BagClassifierConfig
from vitrail.train.choosing.choose import LEAST_STEPS
from vitrail.train.choosing.schedule_length import LOW, WARMUP, highest_share, warn_of_warmup
from vitrail.train.loop import steadier_settings
from vitrail.train.optim import Warmup
from vitrail.train.run_config import RunConfig

NOTHING = 0.9
"""Dev loss, as a share of the unigram entropy, above which a model is hardly better than a unigram model."""
EARLY = 0.2
"""Share of the planned training below which a high loss is normal."""
RISEN = 0.2
"""Rise of the dev loss above its best that is a fault, if the training loss is also under half of it. From epoch to epoch, the dev loss of
healthy runs rises by 1 % at most."""
RISING = 0.05
"""The same, a warning."""
RISEN_NATS = 0.05
"""A smaller rise, in nats per token, is ignored."""

SPIKE_NATS = 0.5
"""Nats per token by which the loss of a line of metrics (50 steps or so) must exceed that of the best line before it: healthy runs stay
below 0.2."""
MANY_SKIPS = 0.01
"""Share of steps with a gradient that is not finite that is a fault; a training stops with an error at 10 of 100."""
CLIPPED = 10.0
"""Factor by which clipping divides the gradient, in the median line of metrics after the warm-up; healthy runs: 1.0."""

CAUSES = "check warm-up, learning rate and misaligned lines first; if they are fine, train longer"
CAUSES_OF_TEXT = "check warm-up and learning rate first; if they are fine, train longer"

STILL = 0.02
"""Relative improvement of the dev loss at the last validation from which a longer training is worth trying."""


class TrainingHistory(NamedTuple):
    """The log of a training, in the order of its steps."""

    train_steps: list[int]
    train_nats: list[float]
    """Per token, without smoothing, with dropout."""
    dev_steps: list[int]
    dev_nats: list[float]
    best: list[bool]
    """Whether a validation's score was the best so far."""
    norms: list[tuple[float, float]]
    """Norm of the gradient, before and after clipping, for each line."""
    skipped: int
    done_share: float
    """Of the planned training."""
    finished: bool


def read_history(metrics: Sequence[Mapping[str, Any]]) -> TrainingHistory:
    """Read the log; a value that was not finite (null in the log) counts as infinite."""
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
    """Number of steps of the whole training, at the speed so far; 0 where the log has no training record yet."""
    return course.train_steps[-1] / course.done_share if course.train_steps and course.done_share else 0.0


def warm_up(run: RunUnderTest) -> list[Finding]:
    """Whether the warm-up fits into the planned training."""
    assert run.config is not None
    return [judge_warm_up(run.config, planned_steps(read_history(run.metrics)))]


def judge_warm_up(config: RunConfig, steps: float) -> Finding:
    """Judge by the largest learning rate that the schedule reaches in `steps` steps."""
    if steps < 1:
        return Finding(check="warm-up", severity="unchecked", found="metrics.jsonl has no training record yet")
    length, highest = Warmup.parse(config.schedule.warmup).within(steps), highest_share(config, steps=steps)
    told = f"{length:,.0f} of {steps:,.0f} steps; the learning rate reaches {highest:.0%} of {config.optimizer.learning_rate:g}"
    numbers = {"warmup_steps": length, "steps": steps, "highest_share": highest}
    if warn_of_warmup(config, steps=steps) is None:
        return Finding(check="warm-up", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="warm-up",
        severity="fault" if highest <= LOW else "warning",
        found=told,
        expected="a warm-up of about a tenth of the training",
        remedy=f"train again with --set schedule.warmup={WARMUP}, or longer (train.duration)",
        numbers=numbers,
    )


def learning(run: RunUnderTest) -> list[Finding]:
    """Whether the dev loss is below the unigram entropy."""
    causes = CAUSES if "pairs" not in run.missing else CAUSES_OF_TEXT
    labels = isinstance(run.data, PreparedLabels)
    return [judge_learning(read_history(run.metrics), word_entropy(run.data), most=little(run.data), causes=causes, labels=labels)]


def judge_learning(course: TrainingHistory, entropy: float, *, most: float = LITTLE, causes: str = CAUSES, labels: bool = False) -> Finding:
    """Compare the best dev loss, or without a dev set the last training loss, with the entropy of tokens, or of labels.

    Args: most: see `learned.little`. causes: what to check first. labels: it is a classifier's.
    """
    losses, name = (course.dev_nats, "dev") if course.dev_nats else (course.train_nats[-1:], "training")
    if not losses:
        return Finding(check="learning", severity="unchecked", found="metrics.jsonl has no loss yet")
    best = min(losses)
    if entropy <= 0:
        return Finding(check="learning", severity="unchecked", found="all training examples have the same labels, or the same token")
    share = best / entropy
    per, of = ("text", "entropy of the labels") if labels else ("token", "unigram entropy")
    told = f"best {name} loss {best:.3f} nats per {per}, {share:.0%} of the {of} ({entropy:.2f})"
    numbers = {"best_nats": best, "word_entropy_nats": entropy, "done_share": course.done_share}
    if share < most:
        return Finding(check="learning", severity="ok", found=told, numbers=numbers)
    early = course.done_share < EARLY and not course.finished
    nothing = not share < max(NOTHING, (1 + most) / 2)
    steps = course.train_steps[-1] if course.train_steps else 0
    few = f"{steps:,} steps are few: Vitrail plans {LEAST_STEPS:,} and more (train.duration)" if steps < LEAST_STEPS else ""
    return Finding(
        check="learning",
        severity="note" if early else "fault" if nothing else "warning",
        found=f"{told}, after {course.done_share:.0%} of the training",
        expected=f"under {most:.0%}",
        remedy="wait" if early else f"{causes}; {few}" if few else f"{causes}, on more {'examples' if labels else 'text'}",
        numbers=numbers,
    )


def overfitting(run: RunUnderTest) -> list[Finding]:
    """Whether the dev loss rises while the training loss falls."""
    bag = run.config is not None and isinstance(run.config.model, BagClassifierConfig)
    per = "text" if run.task == "classification" else "token"
    return [judge_overfitting(read_history(run.metrics), per=per, dropout="model.head_dropout" if bag else "model.dropout")]


def judge_overfitting(course: TrainingHistory, *, per: str = "token", dropout: str = "model.dropout") -> Finding:
    """Judge by how far the last dev loss is above the best one, and above the training loss. Args: dropout: the setting that helps."""
    check = "overfitting"
    if len(course.dev_nats) < 2 or not course.train_nats:
        return Finding(check=check, severity="unchecked", found=f"{len(course.dev_nats)} validations are too few to see a trend")
    best, last, train = min(course.dev_nats), course.dev_nats[-1], course.train_nats[-1]
    rise, step = last / best - 1 if best > 0 else 0.0, course.dev_steps[course.dev_nats.index(best)]
    told = f"dev loss {last:.3f} nats per {per} at the end, best {best:.3f} at step {step:,} ({rise:+.0%}); training loss {train:.3f}"
    numbers = {"last_dev_nats": last, "best_dev_nats": best, "best_step": step, "train_nats": train, "rise": rise}
    risen = rise >= RISING and last - best >= RISEN_NATS and train < last
    if not risen:
        return Finding(check=check, severity="ok", found=told, numbers=numbers)
    return Finding(
        check=check,
        severity="fault" if rise >= RISEN and train < last / 2 else "warning",
        found=told,
        expected=f"a dev loss that falls, or stays within {RISING:.0%} of its best",
        remedy=f"raise {dropout}, add training text, or use a smaller model; train.patience stops a training that no longer "
        "improves. (The saved model is that of the best validation.)",
        numbers=numbers,
    )


def steadiness(run: RunUnderTest) -> list[Finding]:
    """Whether the loss jumps, steps were skipped, or gradients are always clipped."""
    course = read_history(run.metrics)
    if run.config is None:
        return [judge_steadiness(course, warmup=0.0)]
    warmup = Warmup.parse(run.config.schedule.warmup).within(planned_steps(course))
    return [judge_steadiness(course, warmup=warmup, remedy=steadier_settings(run.config))]


def judge_steadiness(course: TrainingHistory, *, warmup: float, remedy: str = "lower optimizer.learning_rate") -> Finding:
    """Judge by spikes of the loss, skipped steps and the clipping factor; clipping in the first `warmup` steps is ignored."""
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
        return Finding(check="steadiness", severity="unchecked", found="metrics.jsonl has no training record yet")
    if not spikes and not course.skipped and cut < CLIPPED:
        return Finding(check="steadiness", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="steadiness",
        severity="fault" if diverged or course.skipped >= max(2.0, MANY_SKIPS * steps) else "warning",
        found=f"{told}{'; the loss has not recovered' if diverged else ''}",
        expected="a falling loss, and gradients that are rarely clipped",
        remedy=f"{remedy}{'; text of skipped steps is in bad_batches/' if course.skipped else ''}",
        numbers=numbers,
    )


def completion(run: RunUnderTest) -> list[Finding]:
    """Whether the training is finished, and whether a longer one is worth trying."""
    return [judge_completion(read_history(run.metrics))]


def judge_completion(course: TrainingHistory) -> Finding:
    """A note on a training that is not finished, or was still improving at its end."""
    steps = max([*course.train_steps, *course.dev_steps], default=0)
    numbers: dict[str, float] = {"steps": steps, "done_share": course.done_share}
    if not course.finished:
        return Finding(
            check="completion",
            severity="note",
            found=f"not finished: step {steps:,}, {course.done_share:.0%} of the planned training",
            remedy="if no training is running, the same vitrail train command resumes it",
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
        found=f"{told}: it was still improving",
        remedy="a longer train.duration",
        numbers=numbers | {"last_gain": gain},
    )
