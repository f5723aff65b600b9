"""Averages of old and new weights at the end of a training that started from another model."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from vitrail.models.base import Model, unique_tensors

AUTO_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
"""The shares of the old weights that are tried, the least first."""
_CHRF = "dev_chrf/"
"""Before the name of a further dev text: its chrF."""


class Mixed(NamedTuple):
    """A share of the old weights, and the dev figures of the model with it."""

    share: float
    values: dict[str, float]
    lost: float | None = None
    """On the further dev text that lost most, in points of chrF; None where it was not asked."""


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


def least_share(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], validate: Callable[[dict[str, Tensor]], dict[str, float]], *, lost: float
) -> list[Mixed]:
    """Try one share after the other until no further dev text loses more than `lost` points of chrF against the old weights alone.

    Wortsman et al. take the share that is best on a dev set; this one keeps as much of the new weights as the limit allows.
    Args:    validate: the dev figures of a model with these weights.
    Returns: the shares that were tried; the last one is taken, which is the greatest where none keeps to the limit.
    """
    start, found = validate(dict(old)), list[Mixed]()
    for share in AUTO_SHARES:
        values = validate(mix(old, new, share))
        found.append(Mixed(share, values, most_lost(start, values)))
        if most_lost(start, values) <= lost:
            break
    return found


def most_lost(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The greatest loss among the further dev texts, in points of chrF."""
    return max((value - after[name] for name, value in before.items() if name.startswith(_CHRF)), default=0.0)
