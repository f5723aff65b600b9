"""Losses: always a sum over real tokens with their count; only printing divides."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


class LossSum(NamedTuple):
    """A loss as a sum, never a mean: sums of parts add up, means do not.

    `nats` is what is trained on (with label smoothing, if any); `plain_nats` is the bare cross-entropy, from which perplexity comes.
    """

    nats: Float[Tensor, ""]
    plain_nats: Float[Tensor, ""]
    tokens: Int[Tensor, ""]


_CHUNK_ELEMENTS = 4_000_000
"""Logits in memory at once, rows times vocabulary: 8 MB in bf16 and 16 in float32, which fit a processor's last cache level."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of `hidden @ weightᵀ + bias` without all logits in memory: loss and gradients are computed chunk by chunk, forward.

    The logits are most of a small model's work, so each is used as rarely as possible: one exponential each. The part of label smoothing
    that is equal for all classes comes from the sum of the weights and the sum of the rows. Takes half the time of torch's own.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, smoothing, dtype):  # pyright: ignore  # torch fixes this signature
        rows, vocabulary = hidden.shape[0], weight.shape[0]
        chunk = max(16, _CHUNK_ELEMENTS // vocabulary)
        hidden_low, weight_low, bias_low = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        # dL/dlogit_v = p_v - (1 - epsilon) [v = y] - epsilon / V; the last term is the same for every class and row: not in the loop.
        even = smoothing / vocabulary
        row_sum, weight_sum = hidden.float().sum(dim=0), weight.float().sum(dim=0)
        hidden_gradient = torch.empty_like(hidden_low)
        weight_gradient = (-even * row_sum).repeat(vocabulary, 1)
        bias_gradient = None if bias is None else torch.full_like(bias, -even * rows, dtype=torch.float32)
        at_targets, plain = hidden.new_zeros((2,), dtype=torch.float32)
        for start in range(0, rows, chunk):
            part, expected = hidden_low[start : start + chunk], targets[start : start + chunk, None]
            scores = F.linear(part, weight_low, bias_low).float()
            probabilities = scores.softmax(dim=1)
            # log Σ exp(score) is score - log p of any class; p of the likeliest is at least 1/V.
            normaliser = scores.amax(dim=1, keepdim=True) - probabilities.amax(dim=1, keepdim=True).log()
            at_expected = scores.gather(1, expected)
            at_targets += at_expected.sum()
            plain += (normaliser - at_expected).sum()
            gradient = probabilities.scatter_add_(1, expected, torch.full_like(at_expected, smoothing - 1))
            gradient_low = gradient.to(dtype)
            torch.addmm((-even * weight_sum).to(dtype), gradient_low, weight_low, out=hidden_gradient[start : start + chunk])
            weight_gradient += gradient_low.t() @ part
            if bias_gradient is not None:
                bias_gradient += gradient.sum(dim=0)
        # -Σ_v q_v log p_v with q = (1 - epsilon) [v = y] + epsilon / V: more than the plain loss by what targets score above the mean.
        mean_scores = even * (row_sum @ weight_sum + (0 if bias is None else rows * bias.float().sum()))
        # (Without smoothing 0 times the score of a class that is switched off, -inf, would be nan.)
        smoothed = plain + smoothing * at_targets - mean_scores if smoothing else plain.clone()
        ctx.save_for_backward(hidden_gradient.to(hidden.dtype), weight_gradient.to(weight.dtype), bias_gradient)
        ctx.mark_non_differentiable(plain)
        return smoothed, plain

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream, _plain):  # pyright: ignore  # torch fixes this signature
        hidden_gradient, weight_gradient, bias_gradient = ctx.saved_tensors
        scaled_bias = None if bias_gradient is None else bias_gradient * upstream
        return hidden_gradient * upstream, weight_gradient * upstream, scaled_bias, None, None, None


def token_cross_entropy(
    hidden: Float[Tensor, "R D"],
    targets: Int[Tensor, " R"],
    *,
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None = None,
    label_smoothing: float = 0.0,
) -> LossSum:
    """Sum -log softmax(h·Wᵀ + b)[y] over rows; Precondition: no rows of padding.

    With smoothing epsilon the target distribution is (1 - epsilon) on y plus epsilon / V on each of the V classes (torch's convention;
    fairseq spreads it over V - 1). Logits are computed in autocast's type when it is on, and reduced in float32.
    Cost: 3·2·R·D·V multiply-adds forward (gradients included) where gradients are wanted.
    """
    tokens = torch.tensor(targets.shape[0], device=targets.device)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    if torch.is_grad_enabled():
        with torch.autocast(device, enabled=False):
            nats, plain = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing, dtype)  # pyright: ignore
        return LossSum(nats, plain, tokens)  # pyright: ignore[reportUnknownArgumentType]
    nats = hidden.new_zeros((), dtype=torch.float32)
    plain = hidden.new_zeros((), dtype=torch.float32)
    for part, expected in zip(hidden.split(1024), targets.split(1024), strict=True):
        logits = F.linear(part, weight, bias).float()
        plain += F.cross_entropy(logits, expected, reduction="sum")
        nats += F.cross_entropy(logits, expected, reduction="sum", label_smoothing=label_smoothing)
    return LossSum(nats, plain, tokens)
