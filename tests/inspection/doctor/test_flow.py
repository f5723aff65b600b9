"""Verdicts on gradients that were measured at places of a model."""

import math

import pytest

from vitrail.doctor.checks.gradient_flow import describe_flow, judge_flow
from vitrail.evaluation.gradient_norms import PlaceNorms


def place(name: str, norms: list[float]) -> PlaceNorms:
    side = "source" if name.startswith("encoder") else "target"
    return PlaceNorms(name, tuple(norms), 8, side, "hidden" if name.endswith("hidden") else "residual")


def falling(factor: float, *, steps: int = 20, start: float = 1.0) -> list[float]:
    return [start * factor**step for step in range(steps)]


DECODER = place("decoder.0.hidden", [0.2, 1.0, 1.2, 1.1, 1.0, 1.2, 1.1])
ENCODER = "encoder.0.forward_cell.hidden"


def test_a_flow_is_described_by_its_mean_factor_and_its_growth() -> None:
    found = describe_flow(place(ENCODER, falling(0.5)))
    assert found.factor == pytest.approx(0.5) and found.growth == 1.0 and found.largest == 1.0
    assert describe_flow(place(ENCODER, falling(2.0))).growth == pytest.approx(2.0**18)
    assert describe_flow(place(ENCODER, [1.0, 1e-9])).factor == 1.0  # too short to say


@pytest.mark.parametrize(
    ("factor", "severity", "kind"), [(0.97, "ok", ""), (0.75, "ok", ""), (0.5, "warning", "vanishing"), (0.1, "fault", "vanishing")]
)
def test_what_is_left_one_step_back(factor: float, severity: str, kind: str) -> None:
    found = judge_flow([place(ENCODER, falling(factor)), DECODER])
    assert found.severity == severity and found.found.startswith(kind)


@pytest.mark.parametrize(("factor", "severity"), [(1.1, "ok"), (1.25, "warning"), (2.0, "fault")])
def test_what_grows_going_back(factor: float, severity: str) -> None:
    assert judge_flow([place(ENCODER, falling(factor)), DECODER]).severity == severity


def test_a_gradient_that_is_not_finite_explodes() -> None:
    found = judge_flow([place(ENCODER, [1.0, math.nan, math.inf]), DECODER])
    assert found.severity == "fault" and found.found.startswith("exploding")
    assert all(math.isfinite(number) for number in found.numbers.values())


def test_an_encoder_that_no_gradient_reaches() -> None:
    found = judge_flow([place("encoder.0.residual_2.sum", [0.0] * 9), place("decoder.0.residual_3.sum", [1.0] * 9)])
    assert found.severity == "fault" and "reaches the encoder" in found.found


def test_layers_that_differ_too_much() -> None:
    layers = [place(f"encoder.{layer}.residual_2.sum", [10.0 ** (2 * layer)] * 9) for layer in range(3)]
    assert judge_flow([*layers, place("decoder.0.residual_3.sum", [10.0] * 9)]).severity == "fault"
    assert judge_flow([layers[0], place("decoder.0.residual_3.sum", [1.0] * 9)]).severity == "ok"


def test_a_transformers_positions_are_no_time_steps() -> None:
    """Where the last position matters most, as <eos> may, nothing has vanished."""
    found = judge_flow([place("encoder.0.residual_2.sum", falling(0.3)), place("decoder.0.residual_3.sum", falling(3.0, start=1e-9))])
    assert "time step back" not in found.found and found.severity == "ok"
