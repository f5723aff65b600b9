"""How gradients flow back: whether they vanish or explode over time steps, from layer to layer, or on the way to the encoder."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vitrail.doctor.findings import Finding, Severity
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.errors import DataError
from vitrail.evaluation.gradient_norms import PlaceNorms, measure_gradients

SENTENCES = 32
"""The longest of the dev sentences, whose gradients are measured."""
FEWEST_STEPS = 5
"""Time steps that a source must have at least."""

VANISHING, FADING = 0.35, 0.6
"""Mean share of the gradient that each time step back keeps in a recurrent encoder: a fault, a warning. Measured over 20
steps on the phrasebook: an LSTM without attention 0.75, a healthy Elman network 0.5 (so it hardly learns long dependencies), one with a
tenth of the recurrent weights 0.06; with attention, which shortens the path of the gradient, 0.97."""
EXPLODING, GROWING = 100.0, 30.0
"""How many times the gradient of an earlier step may exceed that of the last ones: a fault, a warning. Healthy models: under 3; an Elman
network whose recurrent weights are five times too large: 2,000."""
LAYERS = 1e3
"""Largest allowed ratio between the gradients of a side's lowest and highest layer. Healthy models: under 2."""
ENCODER = 1e-3
"""Largest gradient in the encoder as a share of that in the decoder, below which the model can hardly learn to use the source. Healthy
models: 0.08 to 3; with cross-attention cut: 0."""
_TINY = 1e-40
_ROWS = 16
"""Sentences in a batch."""


class GradientFlow(NamedTuple):
    """How the gradient changes on its way back through the time steps of one place."""

    name: str
    steps: int
    factor: float
    """Geometric mean of the change from one step to the one before."""
    growth: float
    """Largest gradient of any step over the larger one of the last two."""
    largest: float


def gradients(run: RunUnderTest) -> list[Finding]:
    """Measure ||dL/dh|| at each layer and time step of the longest dev sentences; see `evaluation.gradient_norms`."""
    order = run.dev_pairs.longest_first()[: min(SENTENCES, (len(run.dev_pairs) + 1) // 2)]
    if not order:
        raise DataError(f"no dev sentence has 1 to {run.longest_line} tokens a side")
    return [judge_flow(measure_gradients(run.model, [run.batch(order[first : first + _ROWS]) for first in range(0, len(order), _ROWS)]))]


def describe_flow(place: PlaceNorms) -> GradientFlow:
    """Fit the mean factor by a line through the logarithms of the norms, and find the growth."""
    norms = np.array(place.norms)
    if not np.isfinite(norms).all():
        return GradientFlow(place.name, len(norms), math.nan, math.inf, math.inf)
    largest = float(norms.max())
    last = float(norms[:2].max())
    if len(norms) < FEWEST_STEPS or largest == 0:
        return GradientFlow(place.name, len(norms), 1.0, 1.0, largest)
    back = np.arange(len(norms))
    logs = np.log(np.maximum(norms, _TINY))
    away = back - back.mean()
    slope = float(away @ (logs - logs.mean()) / (away @ away))
    return GradientFlow(place.name, len(norms), math.exp(slope), largest / max(last, _TINY), largest)


def judge_flow(places: Sequence[PlaceNorms]) -> Finding:
    """Judge by the worst place and by the ratio between layers; the most severe problem is reported."""
    flows = [describe_flow(place) for place in places]
    encoder, decoder = ([flow for flow, place in zip(flows, places, strict=True) if place.side == side] for side in ("source", "target"))
    states = [flow for flow, place in zip(flows, places, strict=True) if place.role == "hidden"]
    recurrent = [flow for flow in states if flow in encoder]
    reach = max(flow.largest for flow in encoder) / max(_TINY, *(flow.largest for flow in decoder)) if encoder and decoder else None
    ratio = max(_between_layers(encoder), _between_layers(decoder))
    numbers = {f"factor {flow.name}": flow.factor for flow in flows} | {f"growth {flow.name}": flow.growth for flow in flows}
    numbers |= ({} if reach is None else {"encoder_share": reach}) | {"between_layers": ratio}
    slowest = min((flow.factor for flow in recurrent), default=1.0)
    growth = max(states, key=lambda flow: flow.growth, default=None)
    told = f"layers differ by {ratio:.2g} times"
    if reach is not None:
        told = f"largest gradient in the encoder {reach:.2g} of that in the decoder; {told}"
    if recurrent:
        told += f"; each time step back keeps {slowest:.0%} of it in the encoder"
    for severity, kind, text, remedy in _matters(flows, reach, ratio, slowest, growth):
        return Finding(check="gradients", severity=severity, found=f"{kind}: {text} ({told})", remedy=remedy, numbers=_finite(numbers))
    return Finding(check="gradients", severity="ok", found=told, numbers=_finite(numbers))


def _matters(
    flows: Sequence[GradientFlow], reach: float | None, ratio: float, slowest: float, growth: GradientFlow | None
) -> Iterable[tuple[Severity, str, str, str]]:
    """The problems, most severe first: severity, kind, text, remedy."""
    clip = "lower optimizer.learning_rate, keep optimizer.clip_norm at 1, and train again: training does not recover from such weights"
    gates = "model.cell = lstm or gru, or model.attention, which shortens the path of the gradient"
    broken = [flow.name for flow in flows if not math.isfinite(flow.largest)]
    if broken:
        yield "fault", "exploding", f"the gradient is not finite at {broken[0]}", clip
    exploding: tuple[tuple[Severity, float], ...] = (("fault", EXPLODING), ("warning", GROWING))
    vanishing: tuple[tuple[Severity, float], ...] = (("fault", VANISHING), ("warning", FADING))
    for severity, limit in exploding:
        if growth is not None and growth.growth > limit:
            yield severity, "exploding", f"{growth.growth:.2g} times as large {growth.steps} steps back at {growth.name}", clip
    if reach is not None and reach < ENCODER:
        cut = "check whether the decoder uses the source at all; " + gates
        yield "fault", "vanishing", f"hardly any gradient reaches the encoder, {reach:.1e} of the decoder's", cut
    for severity, limit in vanishing:
        if slowest < limit:
            steps = max(flow.steps for flow in flows if flow.factor == slowest)
            yield (
                severity,
                "vanishing",
                f"of the gradient, {slowest ** (steps - 1):.1e} is left {steps - 1} steps back in the encoder",
                gates,
            )
    if ratio > LAYERS:
        deep = "fewer layers; model.norm_position = pre, or model.residual = true in a recurrent model"
        yield "fault", "vanishing or exploding", f"the gradients of two layers differ by {ratio:.1e} times", deep


def _between_layers(flows: Sequence[GradientFlow]) -> float:
    """Largest gradient of any layer over the smallest one's."""
    largest = [flow.largest for flow in flows]
    return max(largest) / max(min(largest), _TINY) if largest and max(largest) > 0 else 1.0


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    """Only the finite numbers: JSON has no others."""
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
