"""What several kinds of model are made of: layers and cells as configured, and the block of self-attention and feed-forward."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.models.configs.blocks import BlockConfig, CellsConfig
from vitrail.nn.attention import Mask, MultiHeadAttention
from vitrail.nn.cells import Cell, make_cell
from vitrail.nn.layers import AnyNorm, FeedForward, Residual, make_norm
from vitrail.nn.positions import LearnedPositions, NoPositions, SinusoidalPositions


def make_attention(config: BlockConfig, *, rotary: bool) -> MultiHeadAttention:
    """An attention of this shape."""
    return MultiHeadAttention(config.width, config.heads, config.width_of_head, dropout=config.attention_dropout, rotary=rotary)


def make_residual(config: BlockConfig) -> Residual:
    """A residual connection with its norm."""
    return Residual(config.width, norm=config.norm, position=config.norm_position, dropout=config.dropout)


def make_feed_forward(config: BlockConfig) -> FeedForward:
    """A feed-forward layer."""
    return FeedForward(config.width, config.feed_forward, config.activation, config.activation_dropout)


def make_positions(config: BlockConfig) -> SinusoidalPositions | LearnedPositions | NoPositions:
    """What adds positions to embeddings."""
    match config.positions:
        case "sinusoidal" | "tensor2tensor":
            return SinusoidalPositions(config.width, steps=config.sinusoid_steps)
        case "learned":
            return LearnedPositions(config.width, config.max_positions)
        case "rotary" | "none":
            return NoPositions()


def make_embedding_norm(config: BlockConfig) -> AnyNorm | None:
    """The norm of embeddings plus positions, where there is one."""
    return make_norm(config.norm, config.width) if config.embedding_norm else None


def configured_cell(config: CellsConfig, input_width: int, width: int) -> Cell:
    """A recurrent cell of the kind that is configured."""
    return make_cell(config.cell, input_width, width, norm=config.norm, forget_bias=config.forget_bias)


def initialise_matrices(model: nn.Module) -> None:
    """Xavier-uniform matrices, zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(module.bias)


class KeyValues(NamedTuple):
    """Keys and values of one attention over the C positions that there is room for."""

    key: Float[Tensor, "N H C E"]
    value: Float[Tensor, "N H C E"]


def split_rows(values: Float[Tensor, "N ..."], sizes: Sequence[int]) -> Sequence[Float[Tensor, "_ ..."]]:
    """The rows of several states, state by state."""
    return (values,) if len(sizes) == 1 else values.split(list(sizes))


def join_rows(parts: Sequence[Float[Tensor, "_ ..."]]) -> Float[Tensor, "N ..."]:
    """The reverse of `split_rows`."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def extend_attention(
    attention: MultiHeadAttention, values: Float[Tensor, "N T D"], own: Sequence[KeyValues], mask: Mask | None, *, positions: Sequence[int]
) -> Float[Tensor, "N T D"]:
    """Self-attention of T new positions to all positions so far. Writes their keys and values into `own`. No mask reads all.

    Rows that are at different positions have memories of their own; products are those of all rows at once.

    Args: own: the memory of the first rows, of the next ones, ... positions: the first new one in each.
    """
    sizes = [one.key.shape[0] for one in own]
    queries = split_rows(attention.query(values), sizes)
    keys, values_ = split_rows(attention.key(values), sizes), split_rows(attention.value(values), sizes)
    mixed: list[Tensor] = []
    for number, (memory, position) in enumerate(zip(own, positions, strict=True)):
        key, value = attention.split(keys[number], values_[number], position)
        width, end = values.shape[1], position + values.shape[1]
        memory.key.narrow(2, position, width).copy_(key)
        memory.value.narrow(2, position, width).copy_(value)
        mixed.append(attention.mix(queries[number], memory.key.narrow(2, 0, end), memory.value.narrow(2, 0, end), mask, position))
    return attention.output(join_rows(mixed))


class SelfBlock(nn.Module):
    """Self-attention, then feed-forward, each in a residual connection with a norm."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.self_attention = make_attention(config, rotary=config.positions == "rotary")
        self.feed_forward = make_feed_forward(config)
        self.residual_1, self.residual_2 = make_residual(config), make_residual(config)

    def forward(self, values: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"], mask: Mask) -> Float[Tensor, "B S D"]:
        """Let every source position read every other."""

        def read_all(x: Tensor) -> Tensor:
            return self.self_attention(x, x, mask)

        values = self.residual_1(values, keep, read_all)
        return self.residual_2(values, keep, self.feed_forward)

    def extend(
        self, values: Float[Tensor, "N T D"], keep: Bool[Tensor, "N T"], own: KeyValues, mask: Mask | None, *, position: int
    ) -> Float[Tensor, "N T D"]:
        """Read new positions, the first of which is `position`, after those whose keys and values are there; theirs are written beside."""

        def read_own(x: Tensor) -> Tensor:
            return extend_attention(self.self_attention, x, [own], mask, positions=[position])

        values = self.residual_1(values, keep, read_own)
        return self.residual_2(values, keep, self.feed_forward)
