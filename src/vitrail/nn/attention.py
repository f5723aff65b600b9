"""Attention: each position gets a weighted mean of the values of others; the weights say how well their keys match its query."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.nn.layers import Dropout
from vitrail.nn.positions import Rotary
from vitrail.nn.probe import Probe


class Mask(NamedTuple):
    """Which positions may be read, as booleans and as the term added to the scores (0 or the lowest number); made once a batch."""

    keep: Bool[Tensor, "B 1 #T S"]
    bias: Float[Tensor, "B 1 #T S"]


def make_mask(keep: Bool[Tensor, "B 1 #T S"], dtype: torch.dtype) -> Mask:
    """Prepare a keep mask (True = may be read, the opposite of torch's key_padding_mask) for scores of a type."""
    return Mask(keep, torch.zeros(keep.shape, dtype=dtype, device=keep.device).masked_fill_(~keep, torch.finfo(dtype).min))


def padding_mask(keep: Bool[Tensor, "B S"], dtype: torch.dtype) -> Mask:
    """Every position may attend to every real position."""
    return make_mask(keep[:, None, None, :], dtype)


def causal_mask(keep: Bool[Tensor, "B T"], dtype: torch.dtype) -> Mask:
    """Causal mask: position t may attend to the real positions 0 to t."""
    length = keep.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=keep.device).tril_()
    return make_mask(keep[:, None, None, :] & earlier, dtype)


class MultiHeadAttention(nn.Module):
    """H heads, each with its own W_Q, W_K, W_V; their contexts Z are concatenated and projected by W_O.

    head_h = softmax(q_h·k_hᵀ / sqrt(E) + mask)·v_h;  output = [head_1; ...; head_H]·W_O.
    Source: Vaswani et al. 2017, section 3.2 (our E is their d_k). Differs from it: the projections have biases, as in Tensor2Tensor's
    successors, and dropout on the weights is optional.

    Queries come from `values`, keys and values from `memory`: the same tensor in self-attention, the encoder's output in cross-attention.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, dropout: float, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key = nn.Linear(width, heads * head_width)
        self.value = nn.Linear(width, heads * head_width)
        self.output = nn.Linear(heads * head_width, width)
        self.rotary = Rotary(head_width) if rotary else None
        self.dropout = Dropout(dropout)
        self.q, self.k, self.v = Probe(), Probe(), Probe()
        self.scores, self.keep, self.weights, self.context = Probe(), Probe(), Probe(), Probe()

    def _split(self, projected: Float[Tensor, "B T HE"]) -> Float[Tensor, "B H T E"]:
        return projected.view(*projected.shape[:2], self.heads, self.head_width).transpose(1, 2)

    def read(self, memory: Float[Tensor, "B S D"], start: int = 0) -> tuple[Float[Tensor, "B H S E"], Float[Tensor, "B H S E"]]:
        """Keys and values of a memory whose first position is `start`: computed once, used many times."""
        return self.split(self.key(memory), self.value(memory), start)

    def split(
        self, key: Float[Tensor, "B S HE"], value: Float[Tensor, "B S HE"], start: int = 0
    ) -> tuple[Float[Tensor, "B H S E"], Float[Tensor, "B H S E"]]:
        """Projected keys and values by heads, the keys turned where positions are rotary."""
        heads = self._split(key)
        return (heads if self.rotary is None else self.rotary(heads, start)), self._split(value)

    def attend(
        self,
        values: Float[Tensor, "B T D"],
        key: Float[Tensor, "B H S E"],
        value: Float[Tensor, "B H S E"],
        mask: Mask | None,
        start: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Mix the memory's values by how well its keys match each query. `start` is the position of the first query; no mask reads all."""
        return self.output(self.mix(self.query(values), key, value, mask, start))

    def mix(
        self,
        projected: Float[Tensor, "B T HE"],
        key: Float[Tensor, "B H S E"],
        value: Float[Tensor, "B H S E"],
        mask: Mask | None,
        start: int = 0,
    ) -> Float[Tensor, "B T HE"]:
        """`attend` between its products: from projected queries to the heads' contexts, side by side."""
        query = self._split(projected)
        if self.rotary is not None:
            query = self.rotary(query, start)
        query, key, value = self.q(query), self.k(key), self.v(value)
        # Fused attention on a CPU has no fast backward pass in bf16 (9 times slower than this at T = 16) and no dropout of ours.
        if self.training or self.weights.is_hooked or self.scores.is_hooked:
            context = self._explicit(query, key, value, mask)
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=None if mask is None else mask.bias.to(query.dtype))
        return self.context(context).transpose(1, 2).flatten(2)

    def _explicit(
        self, query: Float[Tensor, "B H T E"], key: Float[Tensor, "B H S E"], value: Float[Tensor, "B H S E"], mask: Mask | None
    ) -> Float[Tensor, "B H T E"]:
        """softmax(QKᵀ/sqrt(E) + mask)·V with every intermediate value available. Cost: B·H·T·S·2E multiply-adds; stores B·H·T·S weights."""
        scores = self.scores((query * (1 / math.sqrt(self.head_width))) @ key.transpose(2, 3))
        if mask is not None:
            self.keep(mask.keep)
            scores = scores + mask.bias.to(scores.dtype)
        weights = self.weights(scores.softmax(dim=3))
        return self.dropout(weights) @ value

    def forward(self, values: Float[Tensor, "B T D"], memory: Float[Tensor, "B S D"], mask: Mask | None) -> Float[Tensor, "B T D"]:
        """`read` and `attend` in one call."""
        key, value = self.read(memory)
        return self.attend(values, key, value, mask)


class StepAttention(nn.Module, ABC):
    """Attention of a recurrent decoder: one head; the query is the decoder's state, the values are the memory itself.

    a = softmax_s(score(q, m_s));  context = Σ_s a_s·m_s. The subclasses define the score.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.keep, self.weights, self.context = Probe(), Probe(), Probe(), Probe()

    def read(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """The keys: computed once, used many times."""
        return memory

    @abstractmethod
    def score(self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B T S"]:
        """The score of each position for each query."""

    def attend(
        self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S A"], memory: Float[Tensor, "B S M"], mask: Mask
    ) -> Float[Tensor, "B T M"]:
        """The weighted mean of the memory for each query. Padding gets a weight of exactly 0."""
        scores = self.scores(self.score(query, keys)[:, None])
        self.keep(mask.keep)
        weights = self.weights((scores + mask.bias.to(scores.dtype)).softmax(dim=3))
        return self.context(weights.squeeze(1) @ memory.to(weights.dtype))


class AdditiveAttention(StepAttention):
    """score(q, m) = vᵀ·tanh(W·q + U·m). Source: Bahdanau et al. 2015, section A.1.2; Luong's "concat" is the same with W and U in one."""

    def __init__(self, query_width: int, memory_width: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, width)
        self.key = nn.Linear(memory_width, width, bias=False)
        self.vector = nn.Parameter(torch.empty(width))
        nn.init.uniform_(self.vector, -(width**-0.5), width**-0.5)

    def read(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """U·m."""
        return self.key(memory)

    def score(self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B T S"]:
        """Cost: memory for B·T·S·A values."""
        return (self.query(query)[:, :, None] + keys[:, None]).tanh() @ self.vector


class DotAttention(StepAttention):
    """score(q, m) = qᵀ·m: both must have the same width. Source: Luong et al. 2015, eq. 8, "dot"."""

    def score(self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B T S"]:
        """The product for each pair of positions."""
        return query @ keys.transpose(1, 2)


class GeneralAttention(DotAttention):
    """score(q, m) = qᵀ·W·m. Source: Luong et al. 2015, eq. 8, "general"."""

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__()
        self.key = nn.Linear(memory_width, query_width, bias=False)

    def read(self, memory: Float[Tensor, "B S D"]) -> Float[Tensor, "B S A"]:
        """W·m."""
        return self.key(memory)
