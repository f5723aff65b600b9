"""The size of optimizer steps, against an update that torch's own optimizer takes; and the verdicts on them."""

from pathlib import Path

import pytest
import torch

from vitrail.doctor.checks.update_sizes import Steps, judge_rate, measure_steps
from vitrail.doctor.run_under_test import read_run_folder
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import fill
from vitrail.models.places import group_of
from vitrail.runtime.device import seed_all
from vitrail.train.optim import Optimizer
from vitrail.train.resume import checkpoints
from vitrail.train.run_config import RunConfig


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_the_size_of_a_step_is_what_the_optimizer_moves(healthy: Path, tmp_path: Path, kind: str) -> None:
    """Take three steps, save, take one more with the same gradient: the step that is told from the moments is the one that was taken."""
    patient = read_run_folder(healthy)
    assert patient.config is not None
    table = patient.config.model_dump()
    table["optimizer"] |= {"kind": kind, "beta_2": 0.9, "clip_norm": 0.0}
    config = RunConfig.model_validate(table)
    seed_all(config.seed, 0)
    model = build_model(config.model, patient.data.vocabularies)
    optimizer = Optimizer(model, config.optimizer)
    draw = torch.Generator().manual_seed(3)
    gradients = [torch.randn(weight.shape, generator=draw) for weight in optimizer.parameters]

    def step() -> None:
        for weight, gradient in zip(optimizer.parameters, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step(1.0)

    for _ in range(3):
        step()
    flat = [checkpoints.flatten_optimizer(part) for part in optimizer.optimizers]
    moments = {f"{number}/{name}": tensor for number, part in enumerate(flat) for name, tensor in part.tensors.items()}
    before = {name: tensor.clone() for name, tensor in unique_tensors(model).items()}
    found = measure_steps(patient, config, checkpoints.Checkpoint(tmp_path, 3, {"model": before, "optimizer": moments}, {}))
    step()
    moved = {name: tensor - before[name] for name, tensor in model.named_parameters() if tensor.ndim > 1}
    for layer, steps in found.items():
        names = [name for name in moved if group_of(name) == layer]
        real = sum(float(moved[name].detach().square().sum()) for name in names) ** 0.5
        size = sum(float(before[name].square().sum()) for name in names) ** 0.5
        # A constant gradient: the momentum of SGD is still growing (by a tenth of what is left), Muon's steps are 0.2·lr by design.
        assert steps.ratio == pytest.approx(real / size, rel={"adamw": 1e-3, "sgd": 0.3, "muon": 0.3}[kind])
        assert 0 < steps.moved < 2


def test_the_distance_from_the_beginning_is_nothing_before_the_first_step(healthy: Path, tmp_path: Path) -> None:
    patient = read_run_folder(healthy)
    assert patient.config is not None and patient.checkpoint is not None
    seed_all(patient.config.seed, 0)
    model = build_model(patient.config.model, patient.data.vocabularies)
    initial = {name: tensor.clone() for name, tensor in unique_tensors(model).items()}
    tensors = {"model": initial, "optimizer": patient.checkpoint.tensors["optimizer"]}
    found = measure_steps(patient, patient.config, checkpoints.Checkpoint(tmp_path, 0, tensors, {}))
    assert found and all(steps.moved == 0 for steps in found.values())
    fill(model, patient.checkpoint.tensors["model"])
    assert all(steps.moved > 0.2 for steps in measure_steps(patient, patient.config, patient.checkpoint).values())


@pytest.mark.parametrize(
    ("ratio", "moved", "share", "severity"),
    [
        (8e-3, 0.6, 0.1, "ok"),
        (8e-3, 0.6, 0.95, "ok"),  # whatever is wrong, it is not the rate
        (1e-2, 100.0, 2.0, "fault"),
        (3e-2, 4.0, 0.4, "warning"),  # it learns all the same
        (5e-3, 5.0, 0.2, "ok"),  # a long training
        (4e-5, 0.01, 0.98, "fault"),
        (4e-5, 0.01, 0.1, "ok"),  # where it began was good already
    ],
)
def test_verdicts(ratio: float, moved: float, share: float, severity: str) -> None:
    layers = {"encoder.0": Steps(ratio, moved), "decoder.0": Steps(ratio, moved), "output_weight": Steps(ratio * 1.5, moved)}
    assert judge_rate(layers, share, rate=3e-3).severity == severity


def test_a_layer_is_named_by_its_side_and_number() -> None:
    assert group_of("encoder.3.self_attention.query.weight") == "encoder.3" and group_of("readout.weight") == "readout"
