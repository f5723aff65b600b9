"""Statistics of norms: means and variances of their input and output, and the error of batch norm's running statistics."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.models.places import side_of
from vitrail.nn.layers import MaskedBatchNorm
from vitrail.nn.probe import Hook, listen

UNITS = 16
"""Number of features, the first of each norm, with separate mean and deviation, to measure their shift between frames."""


class Moments(Config):
    """Mean and variance of values at the real tokens of a batch."""

    mean: float | None
    """Over tokens and features."""
    variance: float | None
    units: tuple[tuple[float | None, float | None], ...]
    """Mean and standard deviation over tokens of each of the first `UNITS` features."""


class Running(Config):
    """Batch norm's running statistics against the batch's own; 0 where they agree."""

    mean_drift: float | None
    """|mean - running mean| / running deviation, the mean over features."""
    variance_drift: float | None
    """|log(variance / running variance)|, the mean over features."""


class NormStatistics(Config):
    """One norm on one batch."""

    kind: Literal["layer", "rms", "batch"]
    input: Moments
    output: Moments
    running: Running | None = None


class NormRecord:
    """The inputs and outputs of a model's norms, recorded inside `record_norms`."""

    def __init__(self, model: nn.Module) -> None:
        self.norms = {name: norm for name, norm in model.named_modules() if kind_of(norm) is not None}
        self.passed: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def statistics(self, source: Bool[Tensor, "B S"], target: Bool[Tensor, "B T"]) -> dict[str, NormStatistics]:
        """Place -> statistics of its norm at real tokens. Args: source, target: which tokens are real, for each side.

        A norm inside a recurrent cell gets time steps in the order of reading; the order of its real tokens is the same.
        """
        found: dict[str, NormStatistics] = {}
        for name, calls in self.passed.items():
            real = source if side_of(name) == "source" else target
            before, after = (_merge([call[side] for call in calls], real) for side in (0, 1))
            norm = self.norms[name]
            running = _drift(norm, before) if isinstance(norm, MaskedBatchNorm) else None
            kind = kind_of(norm)
            assert kind is not None
            statistics = NormStatistics(kind=kind, input=_moments(before), output=_moments(after), running=running)
            found[re.sub(r"\.norm\.norm$", ".norm", name)] = statistics
        return found


def kind_of(module: nn.Module) -> Literal["layer", "rms", "batch"] | None:
    """The kind of a norm; None for other modules."""
    match module:
        case nn.LayerNorm():
            return "layer"
        case nn.RMSNorm():
            return "rms"
        case MaskedBatchNorm():
            return "batch"
        case _:
            return None


@contextmanager
def record_norms(model: nn.Module) -> Generator[NormRecord]:
    """Record inputs and outputs of every norm of a model: layer, RMS and batch norm, also inside recurrent cells."""
    record = NormRecord(model)

    def listener(name: str) -> Hook:
        def hear(output: Tensor, inputs: tuple[Tensor, ...]) -> None:
            record.passed.setdefault(name, []).append((inputs[0].detach(), output.detach()))

        return hear

    with listen(model, ((name, listener(name)) for name in record.norms)):
        yield record


def _merge(calls: Sequence[Tensor], real: Bool[Tensor, "B T"]) -> Float[Tensor, "N D"]:
    """The values at real tokens, from one call or from one call per time step; rows beyond the batch were added for speed."""
    whole = torch.cat([call[:, None] if call.ndim == 2 else call for call in calls], dim=1)[: len(real)]
    return whole[real].double()


def _moments(values: Float[Tensor, "N D"]) -> Moments:
    deviation, mean = torch.std_mean(values[:, :UNITS], dim=0, unbiased=False)
    units = tuple((short(one), short(other)) for one, other in zip(mean.tolist(), deviation.tolist(), strict=True))
    return Moments(mean=short(float(values.mean())), variance=short(float(values.var(unbiased=False))), units=units)


def _drift(norm: MaskedBatchNorm, values: Float[Tensor, "N D"]) -> Running:
    # Unbiased, like the running variance.
    variance, mean = torch.var_mean(values, dim=0, unbiased=len(values) > 1)
    running = norm.running_variance.double() + norm.epsilon
    return Running(
        mean_drift=short(float(((mean - norm.running_mean.double()).abs() / running.sqrt()).mean())),
        variance_drift=short(float(((variance + norm.epsilon) / running).log().abs().mean())),
    )


def short(value: float) -> float:
    """To four significant digits."""
    return float(f"{value:.4g}")
