"""A causal Transformer language model of plain torch layers, of the same sizes as ours: what one would write in an afternoon."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.models.configs.causal import CausalConfig


class PlainBlock(nn.Module):
    """Pre-norm self-attention by torch's fused kernel, then a feed-forward layer."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.project = nn.Linear(config.width, config.width)
        self.expand = nn.Linear(config.width, config.feed_forward)
        self.contract = nn.Linear(config.feed_forward, config.width)

    def forward(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Add what attention and feed-forward make of the values."""
        batch, length, width = values.shape
        parts = self.query_key_value(self.norm_1(values)).split(width, dim=2)
        query, key, value = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        found = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        values = values + self.project(found.transpose(1, 2).reshape(batch, length, width))
        return values + self.contract(F.gelu(self.expand(self.norm_2(values))))


class PlainLanguageModel(nn.Module):
    """Learned positions, tied output, no dropout, as in nanoGPT's example for a CPU."""

    def __init__(self, config: CausalConfig, *, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.Sequential(*(PlainBlock(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        for table in (self.embedding, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def loss(self, tokens: Int[Tensor, "B T"], following: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Nats a token."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.norm(self.blocks(self.embedding(tokens) + self.positions(places)))
        return F.cross_entropy((hidden @ self.embedding.weight.t()).flatten(0, 1), following.flatten())
