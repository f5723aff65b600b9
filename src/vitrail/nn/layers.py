"""Parts of a block: dropout, norms, feed-forward, residual connections."""

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.nn.options import Activation, Norm, NormPosition, Pooling
from vitrail.nn.probe import Probe


class Dropout(nn.Module):
    """Zeroes each value with probability `rate` while training, and scales the rest so that the mean stays.

    Source: Srivastava et al. 2014. Differs from it: on a CPU the rate is rounded to a 256th (0.1 -> 26/256, scaled to match exactly),
    because one random byte a value is drawn instead of one float: 2 to 5 times faster than torch's dropout, which took 8-20 % of a step.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Drop values when training; otherwise return them unchanged."""
        if not self.training:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, self.rate, self.training)
        mask = self.draw(values.shape, values)
        return values if mask is None else values * mask

    def draw(self, shape: tuple[int, ...], like: Tensor) -> Float[Tensor, "..."] | None:
        """A mask to multiply by, for repeated use: 0, or the factor that keeps the mean. None where nothing is dropped."""
        if not self.training or self.rate == 0.0:
            return None
        dropped = round(256 * self.rate)
        if like.device.type != "cpu" or dropped == 0:
            return F.dropout(like.new_ones(shape), self.rate)
        count = math.prod(shape)
        # All 64 bits are random only with both ends open: plain random_() leaves the sign bit 0, so that every eighth byte is below 128.
        words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        random_bytes = words.view(torch.uint8)[:count].view(shape)
        return random_bytes.ge(dropped).to(like.dtype).mul_(256 / (256 - dropped))


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the real tokens of a batch: each feature is normalised by its mean and variance in the batch.

    Source: Ioffe and Szegedy 2015, with padding left out of the statistics. Evaluation uses running averages (momentum 0.1) of the mean and
    the unbiased variance, as torch does.
    """

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon
        self.running_mean: Tensor
        self.running_variance: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_variance", torch.ones(width))

    def forward(self, values: Float[Tensor, "B T D"], keep: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Normalise; `keep` is True at real tokens. Precondition while training: at least one real token."""
        if not self.training:
            return F.batch_norm(
                values.flatten(0, 1), self.running_mean, self.running_variance, self.weight, self.bias, eps=self.epsilon
            ).view_as(values)
        real = values[keep].float()
        mean, variance = real.mean(dim=0), real.var(dim=0, unbiased=False)
        with torch.no_grad():
            self.running_mean.lerp_(mean, 0.1)
            self.running_variance.lerp_(variance * (len(real) / max(1, len(real) - 1)), 0.1)
        return ((values - mean) * (variance + self.epsilon).rsqrt() * self.weight + self.bias).to(values.dtype)


class TokenNorm(nn.Module):
    """Layer norm or RMS norm: each token is normalised by itself.

    LayerNorm(x) = (x - mean) / sqrt(var + 1e-5) · g + b (Ba et al. 2016);
    RMSNorm(x) = x / sqrt(mean(x²) + 1e-5) · g (Zhang and Sennrich 2019).
    """

    def __init__(self, width: int, kind: Literal["layer", "rms"]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if kind == "layer" else nn.RMSNorm(width, eps=1e-5)

    def forward(self, values: Float[Tensor, "B T D"], keep: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Normalise each token; `keep` is unused: all norms have the same signature."""
        return self.norm(values)


AnyNorm = TokenNorm | MaskedBatchNorm


def make_norm(kind: Norm, width: int) -> AnyNorm:
    """The norm that a configuration names."""
    return MaskedBatchNorm(width) if kind == "batch" else TokenNorm(width, kind)


class FeedForward(nn.Module):
    """Two layers applied to each position: f(x·W1 + b1)·W2 + b2, or (silu(x·W1) * x·W3)·W2 for SwiGLU.

    Source: Vaswani et al. 2017, eq. 2; SwiGLU: Shazeer 2020.
    """

    def __init__(self, width: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden) if activation == "swiglu" else None
        self.contract = nn.Linear(hidden, width)
        self.function: Callable[[Tensor], Tensor] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "swiglu": F.silu}[activation]
        self.dropout = Dropout(dropout)
        self.activation = Probe()

    def forward(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Transform each position by itself."""
        hidden = self._activate(self.expand(values))
        if self.gate is not None:
            hidden = hidden * self.gate(values)
        return self.contract(self.dropout(self.activation(hidden)))

    def _activate(self, hidden: Float[Tensor, "B T F"]) -> Float[Tensor, "B T F"]:
        """The activation, in evaluation the same to the bit whatever the other rows.

        Torch's SiLU rounds what is left behind the last 32 numbers of a tensor in another way: then rows are filled up.
        """
        missing = -hidden.shape[2] % 32
        if self.training or self.function is not F.silu or not missing:
            return self.function(hidden)
        return self.function(F.pad(hidden, (0, missing)))[:, :, : hidden.shape[2]]


class Residual(nn.Module):
    """A residual connection with its norm: x + f(norm(x)) before (pre), or norm(x + f(x)) after (post, as in the paper)."""

    def __init__(self, width: int, *, norm: Norm, position: NormPosition, dropout: float) -> None:
        super().__init__()
        self.norm = make_norm(norm, width)
        self.position = position
        self.dropout = Dropout(dropout)
        self.normed = Probe()
        self.sum = Probe()

    def forward(
        self, values: Float[Tensor, "B T D"], keep: Bool[Tensor, "B T"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B T D"]:
        """Add the sublayer's output to its input."""
        if self.position == "pre":
            return self.sum(values + self.dropout(sublayer(self.normed(self.norm(values, keep)))))
        return self.normed(self.norm(self.sum(values + self.dropout(sublayer(values))), keep))


@dataclass(frozen=True, eq=False)
class OutputMatrix:
    """What turns hidden vectors into logits, made ready for many steps of a search: h·Wᵀ + b.

    On an x86 processor oneDNN multiplies by a copy of W in its own order: 2 to 4 times as fast as torch's product of 4 to 64 rows, which
    puts W in order in each step (docs/experiments.md). The copy is made anew unless a living one is of the same weights.
    """

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, " V"] | None
    packed: Tensor | None

    @staticmethod
    def of(weight: Float[Tensor, "V D"], bias: Float[Tensor, " V"] | None) -> "OutputMatrix":
        """The same one for the same weights while it is in use."""
        version = 0 if weight.is_inference() else weight._version
        # Another weight may take the place in memory of one that is gone; the living copy keeps its own weight from going.
        key = (id(weight), id(bias), weight.data_ptr(), version)
        found = _in_use.get(key)
        if found is None:
            ready = not torch.is_grad_enabled() and weight.device.type == "cpu" and weight.dtype == torch.float32 and _has_packed_products()
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach()) if ready else None
            found = _in_use[key] = OutputMatrix(weight, bias, packed)
        return found

    def logits(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """A score for each token; with gradients and under autocast by torch's own product."""
        plain = self.packed is None or torch.is_grad_enabled() or hidden.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if plain:
            return F.linear(hidden, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(hidden, self.packed, self.bias, "none", [], "")

    def __deepcopy__(self, memo: object) -> "OutputMatrix":
        """Itself: nothing in it ever changes."""
        return self


_in_use: "WeakValueDictionary[tuple[int, ...], OutputMatrix]" = WeakValueDictionary()


@cache
def _has_packed_products() -> bool:
    """Whether this build of torch has oneDNN's products by packed matrices; elsewhere than on x86 their rounding is not known."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.ones(16, 16))
        return bool(torch.ops.mkldnn._linear_pointwise(torch.ones(1, 16), packed, None, "none", [], "").sum() == 256)
    except (AttributeError, RuntimeError):  # not part of torch's public interface
        return False


def pool(values: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"], how: Pooling) -> Float[Tensor, "B D"]:
    """One vector for each row: v_1, or sum_i v_i / n over the n real positions. Precondition: each row has one."""
    if how == "first":
        return values[:, 0]
    weights = keep.to(values.dtype)[:, :, None]
    return (values * weights).sum(1) / weights.sum(1)
