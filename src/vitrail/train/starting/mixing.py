"""Averages of old and new weights at the end of a training that started from another model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from vitrail.models.base import Model, unique_tensors

AUTO_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""The shares of the old weights that are tried."""


class Mixed(NamedTuple):
    """A share of the old weights, and the dev figures of the model with it."""

    share: float
    values: dict[str, float]


def shares_of(asked: float | Literal["auto"]) -> tuple[float, ...]:
    """The shares to try."""
    return AUTO_SHARES if asked == "auto" else (asked,)


def mix(old: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """share · old + (1 - share) · new, weight by weight; whole numbers stay those of the new model.

    Source: Wortsman et al. 2022 (WiSE-FT); their alpha is 1 - share.
    """
    return {
        name: tensor.lerp(old[name].to(tensor), share) if share and tensor.is_floating_point() else tensor for name, tensor in new.items()
    }


def begins_at(model: Model) -> dict[str, Tensor]:
    """A copy of all weights, tied ones once."""
    return {name: tensor.detach().clone() for name, tensor in unique_tensors(model).items()}


def try_shares(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], shares: Sequence[float], validate: Callable[[dict[str, Tensor]], dict[str, float]]
) -> list[Mixed]:
    """The dev figures of the new weights with each share of the old ones. Args: validate: scores weights."""
    return [Mixed(share, validate(mix(old, new, share))) for share in shares]


def best_mixed(found: list[Mixed], *, select: str) -> Mixed:
    """The one with the best mean score over all dev sets; of equals, the one with less of the old weights."""
    return max(found, key=lambda one: (mean_score(one.values, select), -one.share))


def mean_score(values: Mapping[str, float], select: str) -> float:
    """The mean over the dev sets of the score by which the best model is chosen; higher is better."""
    figure = "dev_loss_nats_per_token" if select == "loss" else f"dev_{select}"
    scores = [value for name, value in values.items() if name == figure or name.startswith(f"{figure}/")]
    return (-1 if select == "loss" else 1) * sum(scores) / len(scores)
