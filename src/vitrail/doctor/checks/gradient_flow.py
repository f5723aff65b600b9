"""How gradients flow back: whether they vanish or explode over time steps, from layer to layer, or on the way to the encoder."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vitrail.doctor.findings import Finding, Severity
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.errors import DataError
from vitrail.evaluation.gradient_norms import PlaceNorms, longest_batches, measure_gradients

SENTENCES = 32
"""The longest of the dev sentences, whose gradients are measured."""
FEWEST_STEPS = 5
"""Time steps that must be seen back."""

VANISHING, FADING = 0.35, 0.6
"""Share of the gradient that is left one time step further back in a recurrent encoder, in the mean: a fault, a warning. Measured over 20
steps on the phrasebook: an LSTM without attention 0.75, a healthy Elman network 0.5 (which is why it hardly learns what is far away), one
whose recurrent weights are a tenth 0.06; with attention, which is a short way back, 0.97."""
EXPLODING, GROWING = 100.0, 30.0
"""How many times the gradient of an earlier step may exceed that of the last ones: a fault, a warning. Healthy models: under 3; an Elman
network whose recurrent weights are five times too large: 2,000."""
LAYERS = 1e3
"""Times by which the gradients of a side's lowest and highest layer may differ. Healthy models: under 2."""
ENCODER = 1e-3
"""Largest gradient in the encoder as a share of that in the decoder, below which the source can hardly be learned. Healthy models: 0.08 to
3; with cross-attention cut: 0."""
_TINY = 1e-40


class GradientFlow(NamedTuple):
    """How the gradient changes on its way back through the time steps of one place."""

    name: str
    steps: int
    factor: float
    """By which it changes from one step to the one before, in the mean (of logarithms)."""
    growth: float
    """Largest gradient of any step over the larger one of the last two."""
    largest: float


def gradients(run: RunUnderTest) -> list[Finding]:
    """Measure ||dL/dh|| at each layer and time step of the longest dev sentences; see `evaluation.gradients`."""
    source, target = run.dev_sentences
    try:
        batches = longest_batches(run.vocabularies, source, target, sentences=SENTENCES, device=run.device)
    except DataError as error:
        return [Finding(check="gradients", severity="unchecked", found=error.found)]
    return [judge_flow(measure_gradients(run.model, batches))]


def describe_flow(place: PlaceNorms) -> GradientFlow:
    """The mean factor by a line through the logarithms of the norms, and the growth."""
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
    """Judge by the worst place and by how layers compare; the gravest matter is told."""
    flows = [describe_flow(place) for place in places]
    encoder, decoder = ([flow for flow, place in zip(flows, places, strict=True) if place.side == side] for side in ("source", "target"))
    states = [flow for flow, place in zip(flows, places, strict=True) if place.role == "hidden"]
    recurrent = [flow for flow in states if flow in encoder]
    reach = max((flow.largest for flow in encoder), default=0.0) / max([_TINY, *(flow.largest for flow in decoder)])
    ratio = max(_between_layers(encoder), _between_layers(decoder))
    numbers = {f"factor {flow.name}": flow.factor for flow in flows} | {f"growth {flow.name}": flow.growth for flow in flows}
    numbers |= {"encoder_share": reach, "between_layers": ratio}
    slowest = min((flow.factor for flow in recurrent), default=1.0)
    growth = max(states, key=lambda flow: flow.growth, default=None)
    told = f"largest gradient in the encoder {reach:.2g} of that in the decoder; layers differ by {ratio:.2g} times"
    if recurrent:
        told += f"; one time step back leaves {slowest:.2f} of it in the encoder"
    for severity, kind, text, remedy in _matters(flows, reach, ratio, slowest, growth):
        return Finding(check="gradients", severity=severity, found=f"{kind}: {text} ({told})", remedy=remedy, numbers=_finite(numbers))
    return Finding(check="gradients", severity="ok", found=told, numbers=_finite(numbers))


def _matters(
    flows: Sequence[GradientFlow], reach: float, ratio: float, slowest: float, growth: GradientFlow | None
) -> Iterable[tuple[Severity, str, str, str]]:
    """What is wrong, the gravest first: severity, kind, what was found, remedy."""
    clip = "lower optimizer.learning_rate, keep optimizer.clip_norm at 1, and train anew: such weights do not come back"
    gates = "model.cell = lstm or gru, or model.attention, which gives the gradient a short way back"
    broken = [flow.name for flow in flows if not math.isfinite(flow.largest)]
    if broken:
        yield "fault", "exploding", f"the gradient is not finite at {broken[0]}", clip
    exploding: tuple[tuple[Severity, float], ...] = (("fault", EXPLODING), ("warning", GROWING))
    vanishing: tuple[tuple[Severity, float], ...] = (("fault", VANISHING), ("warning", FADING))
    for severity, limit in exploding:
        if growth is not None and growth.growth > limit:
            yield severity, "exploding", f"{growth.growth:.2g} times as large {growth.steps} steps back at {growth.name}", clip
    if reach < ENCODER:
        cut = "see whether the decoder hears the source at all; " + gates
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
    """Without what JSON cannot hold."""
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
