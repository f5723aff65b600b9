"""The size of an optimizer's steps against the size of the weights, layer by layer: whether the learning rate is too high or too low."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitrail.inspection.doctor.course import Course, read_course, word_entropy
from vitrail.inspection.doctor.findings import Finding
from vitrail.inspection.doctor.patient import Patient
from vitrail.models.build import build_model
from vitrail.models.folder import fill, unique_tensors
from vitrail.runtime import seed_all
from vitrail.train.config import RunConfig
from vitrail.train.optim import Optimizer
from vitrail.train.state import Checkpoint

_LAYER = re.compile(r"(?:encoder|decoder)\.\d+")


class Steps(NamedTuple):
    """What is known of the steps of one layer's matrices."""

    ratio: float
    """Root mean square of one update at the top of the schedule over that of the weights."""
    moved: float
    """Distance from the initial weights over their size: ||w - w0|| / ||w0||."""


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to: encoder.0, decoder.1, or its first name."""
    match = _LAYER.match(parameter)
    return match[0] if match else parameter.split(".")[0]


def measure_steps(patient: Patient, config: RunConfig, checkpoint: Checkpoint) -> dict[str, Steps]:
    """For each layer, how large its updates are and how far it came, matrices alone.

    The update is what the optimizer's saved moments say: lr·m̂ / (√v̂ + ε) for AdamW, lr·momentum for SGD, and 0.2·lr on the root mean
    square for Muon, whose steps all have that size. `lr` is that of the top of the schedule, so that it does not matter at which step the
    checkpoint was saved. The initial weights are made again from the run's seed.
    """
    with torch.random.fork_rng(devices=[]):
        seed_all(config.seed, 0)
        model = build_model(config.model, patient.data.vocabularies)
    initial = {name: tensor.clone() for name, tensor in unique_tensors(model).items()}
    fill(model, checkpoint.tensors["model"])
    updates = _updates(model, config, checkpoint)
    squares: dict[str, list[float]] = {}
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or name not in updates:
            continue
        sums = squares.setdefault(layer_of(name), [0.0] * 4)
        parts = (updates[name], weight.detach(), weight.detach() - initial[name], initial[name])
        for place, part in enumerate(parts):
            sums[place] += float(part.double().square().sum())
    return {
        layer: Steps(_root(update, weight), _root(moved, start)) for layer, (update, weight, moved, start) in squares.items()
    }


def _root(upper: float, lower: float) -> float:
    return math.sqrt(upper / lower) if lower > 0 else math.inf


def _updates(model: nn.Module, config: RunConfig, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The next update of each parameter at the top of the schedule, from the moments of the checkpoint."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for number, optimizer in enumerate(Optimizer(model, config.optimizer).optimizers):
        order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for place, parameter in enumerate(order):
            moments = {
                key: checkpoint.tensors["optimizer"].get(f"{number}/{place}.{key}")
                for key in ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")
            }
            update = _update(parameter, moments, config, muon=isinstance(optimizer, torch.optim.Muon))
            if update is not None:
                found[names[id(parameter)]] = update
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
