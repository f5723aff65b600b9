"""The encoders: every model that reads a source sentence inherits one of these, translators too."""

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.base import Encoded, Model
from vitrail.models.configs.encoders import RecurrentEncoderConfig, TransformerEncoderConfig
from vitrail.models.kinds.blocks import SelfBlock, configured_cell, make_embedding_norm, make_positions
from vitrail.nn.attention import padding_mask
from vitrail.nn.cells import Carry
from vitrail.nn.layers import AnyNorm, Dropout, make_norm, pool
from vitrail.nn.positions import LearnedPositions, NoPositions, SinusoidalPositions
from vitrail.nn.probe import Probe
from vitrail.runtime.device import fewest_rows


class TransformerEncoder(Model):
    """Reads a sentence with blocks of self-attention: one vector per token.

    A subclass makes the parts: a translator among others of its own, every other model by `make_encoder`.
    """

    marks_start: ClassVar[bool] = False
    """Whether its sentences begin with <s>."""
    config: Any
    source_embedding: nn.Embedding
    source_positions: SinusoidalPositions | LearnedPositions | NoPositions
    source_norm: AnyNorm | None
    dropout: Dropout
    encoder: nn.ModuleList
    encoder_norm: AnyNorm | None
    source_embedded: Probe
    source_input: Probe
    memory: Probe

    @property
    def longest(self) -> int | None:
        """See `Embeds.longest`."""
        return self.config.max_positions if self.config.positions == "learned" else None

    def make_encoder(self, config: TransformerEncoderConfig, rows: int) -> None:
        """Make the parts. Args: rows: of the embeddings."""
        self.source_embedding = nn.Embedding(rows, config.width)
        self.source_positions = make_positions(config)
        self.source_norm = make_embedding_norm(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(SelfBlock(config) for _ in range(config.encoder_layers))
        # With pre-norm the residual stream itself is never normalised, so it ends with a norm.
        self.encoder_norm = make_norm(config.norm, config.width) if config.norm_position == "pre" else None
        self.source_embedded, self.source_input, self.memory = Probe(), Probe(), Probe()

    def _embed_source(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """X + P of the source, with X scaled by sqrt(D) (Vaswani et al. 2017, section 3.4)."""
        embedded = self.source_embedded(self.source_embedding(source) * self.config.width**0.5)
        values = self.source_input(self.source_positions(embedded))
        return self.dropout(values if self.source_norm is None else self.source_norm(values, source != PAD))

    def encode(self, source: Int[Tensor, "B S"]) -> Encoded:
        """Read the source once; padding is found by its id."""
        keep = source != PAD
        values = self._embed_source(source)
        mask = padding_mask(keep, values.dtype)
        for block in self.encoder:
            values = block(values, keep, mask)
        if self.encoder_norm is not None:
            values = self.encoder_norm(values, keep)
        return Encoded(self.memory(values), keep)

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`: the mean over the tokens."""
        encoded = self.encode(source)
        return pool(encoded.memory, encoded.keep, "mean")


def enough_rows(values: Tensor, *, training: bool) -> Tensor:
    """Repeat the last row of a small batch, so that results do not depend on the other sentences; see `fewest_rows`. Not in training."""
    missing = 0 if training else fewest_rows(torch.get_num_threads()) - len(values)
    return values if missing <= 0 else torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])


def _flip(values: Float[Tensor, "B S D"], order: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
    """Reorder the positions of each row."""
    return values.gather(1, order[:, :, None].expand_as(values))


def _backwards(keep: Bool[Tensor, "B S"], *, ends: int = 0) -> Int[Tensor, "B S"]:
    """Each row's real positions from last to first; padding and the last `ends` real positions keep their places."""
    last = keep.sum(1, keepdim=True) - 1 - ends
    position = torch.arange(keep.shape[1], device=keep.device)[None]
    return torch.where(position <= last, last - position, position)


class EncoderLayer(nn.Module):
    """One recurrent layer over the source, in one direction or in both."""

    def __init__(self, config: RecurrentEncoderConfig, input_width: int, *, residual: bool) -> None:
        super().__init__()
        width = config.width // 2 if config.bidirectional else config.width
        self.residual = residual
        self.forward_cell = configured_cell(config, input_width, width)
        self.backward_cell = configured_cell(config, input_width, width) if config.bidirectional else None
        self.output = Probe()

    def forward(
        self, values: Float[Tensor, "B S I"], keep: Bool[Tensor, "B S"], backwards: Int[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S D"], Carry]:
        """The hidden states at every position, and the last carry of both directions, concatenated."""
        outputs, last = self.forward_cell(values, keep)
        if self.backward_cell is not None:
            behind, first = self.backward_cell(_flip(values, backwards), keep)
            outputs = torch.cat([outputs, _flip(behind, backwards)], dim=2)
            last = tuple(torch.cat(both, dim=1) for both in zip(last, first, strict=True))
        return self.output(outputs + values if self.residual else outputs), last


def make_recurrent_layers(config: RecurrentEncoderConfig) -> nn.ModuleList:
    """The layers of a recurrent encoder."""
    widths = [config.embedding_width, *([config.width] * (config.encoder_layers - 1))]
    return nn.ModuleList(EncoderLayer(config, width, residual=config.residual and layer > 0) for layer, width in enumerate(widths))


class RecurrentEncoder(Model):
    """Reads a sentence with recurrent layers: a vector per token, and the last states of all layers.

    A subclass makes the parts: a translator among others of its own, every other model by `make_encoder`.
    """

    marks_start: ClassVar[bool] = False
    """Whether its sentences begin with <s>."""
    config: Any
    source_embedding: nn.Embedding
    dropout: Dropout
    word_dropout: Dropout
    encoder: nn.ModuleList
    source_embedded: Probe
    memory: Probe

    @property
    def longest(self) -> int | None:
        """See `Embeds.longest`: it reads on and on."""
        return None

    def make_encoder(self, config: RecurrentEncoderConfig, rows: int) -> None:
        """Make the parts. Args: rows: of the embeddings."""
        self.source_embedding = nn.Embedding(rows, config.embedding_width)
        self.dropout, self.word_dropout = Dropout(config.dropout), Dropout(config.word_dropout)
        self.encoder = make_recurrent_layers(config)
        self.source_embedded, self.memory = Probe(), Probe()

    def _embed(self, embedding: nn.Embedding, tokens: Int[Tensor, "B T"], probe: Probe) -> Float[Tensor, "B T E"]:
        values = probe(embedding(tokens) * self.config.embedding_width**0.5)
        words = self.word_dropout.draw((*tokens.shape, 1), values)
        return values if words is None else values * words

    def _mask(self, like: Float[Tensor, "B T D"], width: int) -> Tensor | None:
        """A mask for all time steps of each sentence, where dropout is variational."""
        return self.dropout.draw((len(like), 1, width), like) if self.config.variational else None

    def _drop(self, values: Float[Tensor, "B T D"], mask: Tensor | None) -> Float[Tensor, "B T D"]:
        return self.dropout(values) if mask is None else values * mask

    def encode(self, source: Int[Tensor, "B S"]) -> Encoded:
        """Read the source once; padding is found by its id. The memory is always in the order of the source."""
        rows, source = len(source), self._enough_rows(source)
        keep = source != PAD
        values = self._embed(self.source_embedding, source, self.source_embedded)
        order = _backwards(keep, ends=1) if self.config.reverse_source else None
        if order is not None:
            values = _flip(values, order)
        backwards, last = _backwards(keep), list[Tensor]()
        for layer in self.encoder:
            values = self._drop(values, self._mask(values, values.shape[2]))
            values, carry = layer(values, keep, backwards)
            last += carry
        values = values if order is None else _flip(values, order)
        return Encoded(self.memory(values)[:rows], keep[:rows], torch.cat(last, dim=1)[:rows])

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `Embeds.embed`: the mean over the tokens."""
        encoded = self.encode(source)
        return pool(encoded.memory, encoded.keep, "mean")

    def _enough_rows(self, values: Tensor) -> Tensor:
        return enough_rows(values, training=self.training)
