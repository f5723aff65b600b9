"""Check of the learning rate: the update-to-weight ratio of each layer, and the distance from the initial weights."""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.doctor.checks.learning_curves import TrainingHistory, planned_steps, read_history
from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import LITTLE, little, word_entropy
from vitrail.models.base import Model, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import fill
from vitrail.models.places import group_of
from vitrail.runtime.device import seed_all
from vitrail.train.optim import LAYER_SHARE, Optimizer, Warmup
from vitrail.train.resume.checkpoints import Checkpoint
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.warm_start import as_trained

BIG_STEP = 0.02
"""Update-to-weight ratio at the top of the schedule above which updates are too large. Healthy runs of this project (Transformer and LSTMs
on Multi30k and the phrasebook) have 0.005 to 0.014; with ten times their rate 0.024 to 0.038, and twice the loss. (Karpathy's rule of
thumb, 0.001, is for learning rates well below their peak.)"""
FAR = 3.0
"""Distance from the initial weights, relative to their norm, that is too large. Healthy runs: 0.5 to 2.2; ten times their rate: 3.1 to 4.0,
a hundred times: 12 to 16, a thousand times: 93 to 500."""
SMALL_STEP = 0.001
"""Ratio below which updates are too small, if the weights are also near their initial values and little was learned. A thirtieth of the
right rate: 0.0006 to 0.001; a thousandth: 0.00004."""
NEAR = 0.25
"""Distance from the initial weights below which they have hardly changed. A thirtieth of the right rate: 0.09 to 0.23; a thousandth:
0.01."""
FEW_STEPS = 100
"""Steps after the warm-up before which nothing is judged."""


class Steps(NamedTuple):
    """The updates of one layer's matrices."""

    ratio: float
    """Root mean square of one update at the top of the schedule over that of the weights."""
    moved: float
    """Distance from the initial weights over their norm: ||w - w0|| / ||w0||."""


def measure_steps(run: RunUnderTest, config: RunConfig, checkpoint: Checkpoint) -> dict[str, Steps]:
    """For each layer, the size of its updates and the distance from its initial weights; matrices only.

    The update is computed from the optimizer's saved moments: lr·m̂ / (√v̂ + ε) for AdamW, lr·momentum for SGD, and 0.2·lr on the root mean
    square for Muon, whose steps all have that size. `lr` is the peak of the schedule, so the step of the checkpoint does not matter. The
    initial weights are made again from the run's seed.
    """
    with torch.random.fork_rng(devices=[]):
        seed_all(config.seed, 0)
        model = build_model(config.model, run.data.vocabularies)
        as_trained(model, config, checkpoint.facts.get("init", {}))
    initial = {name: tensor.clone() for name, tensor in unique_tensors(model).items()}
    fill(model, checkpoint.tensors["model"])
    updates = _updates(model, config, checkpoint)
    squares: dict[str, list[float]] = {}
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or name not in updates:
            continue
        sums = squares.setdefault(group_of(name), [0.0] * 4)
        parts = (updates[name], weight.detach(), weight.detach() - initial[name], initial[name])
        for place, part in enumerate(parts):
            sums[place] += float(part.double().square().sum())
    return {layer: Steps(_root(update, weight), _root(moved, start)) for layer, (update, weight, moved, start) in squares.items()}


def _root(upper: float, lower: float) -> float:
    return math.sqrt(upper / lower) if lower > 0 else math.inf


def _updates(model: Model, config: RunConfig, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The next update of each parameter at the top of the schedule, from the moments of the checkpoint."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for number, optimizer in enumerate(Optimizer(model, config.optimizer).optimizers):
        order = [(parameter, group.get(LAYER_SHARE, 1.0)) for group in optimizer.param_groups for parameter in group["params"]]
        for place, (parameter, share) in enumerate(order):
            moments = {
                key: checkpoint.tensors["optimizer"].get(f"{number}/{place}.{key}")
                for key in ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")
            }
            update = _update(parameter, moments, config, muon=isinstance(optimizer, torch.optim.Muon))
            if update is not None:
                found[names[id(parameter)]] = update * share
    return found


def _update(parameter: Tensor, moments: Mapping[str, Tensor | None], config: RunConfig, *, muon: bool) -> Tensor | None:
    table, mean, square, step, momentum = config.optimizer, *moments.values()
    if muon:
        return torch.full_like(parameter, 0.2 * table.learning_rate)
    if mean is not None and square is not None and step is not None:
        count = float(step)
        corrected = mean / (1 - table.beta_1**count), square / (1 - table.beta_2**count)
        return table.learning_rate * corrected[0] / (corrected[1].sqrt() + table.epsilon)
    return None if momentum is None else table.learning_rate * momentum


def learning_rate(run: RunUnderTest) -> list[Finding]:
    """Judge the learning rate by the newest checkpoint."""
    assert run.config is not None and run.checkpoint is not None
    if run.config.optimizer.kind == "adagrad":
        found = "it does not apply: adagrad divides each step by all gradients that the weight has had"
        return [Finding(check="learning rate", severity="unchecked", found=found)]
    steps, course = run.checkpoint.step, read_history(run.metrics)
    if steps < Warmup.parse(run.config.schedule.warmup).within(planned_steps(course) or math.inf) + FEW_STEPS:
        return [Finding(check="learning rate", severity="unchecked", found=f"step {steps:,} is too early to judge it")]
    if run.checkpoint_is_foreign:
        return [Finding(check="learning rate", severity="unchecked", found="the checkpoint does not match this configuration")]
    layers = measure_steps(run, run.config, run.checkpoint)
    if not layers:
        return [Finding(check="learning rate", severity="unchecked", found="the checkpoint has no optimizer state")]
    share = learned_share(course, word_entropy(run.data))
    return [judge_rate(layers, share, rate=run.config.optimizer.learning_rate, most=little(run.data))]


def learned_share(course: TrainingHistory, entropy: float) -> float:
    """The best loss as a share of the unigram entropy; 0 (all is learned) where there is no log."""
    losses = course.dev_nats or course.train_nats[-1:]
    return min(losses) / entropy if losses and entropy > 0 else 0.0


def judge_rate(layers: Mapping[str, Steps], share: float, *, rate: float, most: float = LITTLE) -> Finding:
    """Judge by the median layer: the size of updates, the distance from the initial weights, and whether anything was learned.

    Args: share: the best loss as a share of the unigram entropy. most: see `learned.little`.
    """
    ratio, moved = (statistics.median(values) for values in zip(*layers.values(), strict=True))
    told = f"a step at the top of the schedule (learning rate {rate:g}) moves weights by {ratio:.1e} of their size, the median of "
    told += f"{len(layers)} layers; their distance from the initial weights is {moved:.2g} times the initial norm"
    numbers = {"ratio": ratio, "moved": moved, "learning_rate": rate, **{f"ratio {name}": part.ratio for name, part in layers.items()}}
    poor = not share < most
    by_layer = "; by layer: " + ", ".join(f"{name} {part.ratio:.1e}" for name, part in layers.items())
    if moved > FAR and (poor or ratio > BIG_STEP):
        high = 10 ** max(1, round(math.log10(moved / FAR) + 0.5)) if math.isfinite(moved) else 1000
        return Finding(
            check="learning rate",
            severity="fault" if poor else "warning",
            found=f"too high: {told}{by_layer}",
            expected=f"steps of {SMALL_STEP:g} to {BIG_STEP:g}, and a distance of at most {FAR:g} times the initial norm",
            remedy=f"lower optimizer.learning_rate, first to {rate / high:.1g}; a longer schedule.warmup helps as well",
            numbers=numbers,
        )
    if moved < NEAR and ratio < SMALL_STEP and poor:
        return Finding(
            check="learning rate",
            severity="fault",
            found=f"too low: {told}{by_layer}",
            expected=f"steps of {SMALL_STEP:g} to {BIG_STEP:g}",
            remedy=f"raise optimizer.learning_rate, first to {rate * 0.007 / ratio:.1g}" if ratio > 0 else "raise optimizer.learning_rate",
            numbers=numbers,
        )
    return Finding(check="learning rate", severity="ok", found=told, numbers=numbers)
