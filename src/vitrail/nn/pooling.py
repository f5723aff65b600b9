"""From one vector per token to one vector per sentence."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

Pooling = Literal["first", "mean"]
"""first: the vector of the first token, as BERT's [CLS]; mean: the mean over all tokens."""


def pool(values: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"], how: Pooling) -> Float[Tensor, "B D"]:
    """One vector for each row: v_1, or sum_i v_i / n over the n real positions. Precondition: each row has one."""
    if how == "first":
        return values[:, 0]
    weights = keep.to(values.dtype)[:, :, None]
    return (values * weights).sum(1) / weights.sum(1)
