"""The Transformer encoder-decoder of Vaswani et al. 2017."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import PAD, SOS
from vitrail.models.base import Encoded, Rows, State, Step, Steps, TranslationModel, target_loss
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.blocks import (
    KeyValues,
    SelfBlock,
    extend_attention,
    initialise_matrices,
    join_rows,
    make_attention,
    make_embedding_norm,
    make_feed_forward,
    make_positions,
    make_residual,
    split_rows,
)
from vitrail.models.kinds.encoders import TransformerEncoder
from vitrail.models.places import Place
from vitrail.nn.attention import Mask, causal_mask, padding_mask
from vitrail.nn.cells import SSRU
from vitrail.nn.layers import Dropout, OutputMatrix, make_norm
from vitrail.nn.losses import LossSum
from vitrail.nn.probe import Probe


class CellState(NamedTuple):
    """What an SSRU remembers of the tokens so far."""

    cell: Float[Tensor, "N D"]


class LayerState(NamedTuple):
    """The cache of one decoder block: what it keeps of its own tokens so far, one row for each beam, and the source's keys and values, one
    a sentence."""

    own: KeyValues | CellState
    source: KeyValues


class DecoderBlock(nn.Module):
    """Masked self-attention or an SSRU, cross-attention to the source, then feed-forward, each in a residual connection with a norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        recurs = config.decoder == "ssru"
        self.self_attention = None if recurs else make_attention(config, rotary=config.positions == "rotary")
        self.recurrence = SSRU(config.width) if recurs else None
        self.cross_attention = make_attention(config, rotary=False)
        self.feed_forward = make_feed_forward(config)
        self.residual_1, self.residual_2, self.residual_3 = make_residual(config), make_residual(config), make_residual(config)

    def forward(
        self, values: Float[Tensor, "B T D"], keep: Bool[Tensor, "B T"], mask: Mask, memory: Float[Tensor, "B S D"], memory_mask: Mask
    ) -> Float[Tensor, "B T D"]:
        """Every target position reads those before it and the whole source."""

        def read_own(x: Tensor) -> Tensor:
            if self.recurrence is not None:
                return self.recurrence(x)[0]
            assert self.self_attention is not None
            return self.self_attention(x, x, mask)

        def read_source(x: Tensor) -> Tensor:
            return self.cross_attention(x, memory, memory_mask)

        values = self.residual_1(values, keep, read_own)
        values = self.residual_2(values, keep, read_source)
        return self.residual_3(values, keep, self.feed_forward)

    def step(
        self, values: Float[Tensor, "N 1 D"], keep: Bool[Tensor, "N 1"], layers: Sequence[LayerState], states: "Sequence[TransformerState]"
    ) -> Float[Tensor, "N 1 D"]:
        """The same for one new position of the rows of some states; writes what is kept of it into their caches, `layers`."""

        def read_own(x: Tensor) -> Tensor:
            if self.recurrence is not None:
                return _recur(self.recurrence, x, [layer.own for layer in layers if isinstance(layer.own, CellState)])
            assert self.self_attention is not None
            own = [layer.own for layer in layers if isinstance(layer.own, KeyValues)]
            return extend_attention(self.self_attention, x, own, None, positions=[state.position for state in states])

        def read_source(x: Tensor) -> Tensor:
            queries = split_rows(self.cross_attention.query(x), [len(layer.own[0]) for layer in layers])
            mixed = [
                # The K beams of a sentence attend to its source in parallel, so that its keys and values are neither copied nor reordered.
                self.cross_attention.mix(query.view(source.key.shape[0], -1, query.shape[2]), *source, state.memory_mask).view(query.shape)
                for query, (_, source), state in zip(queries, layers, states, strict=True)
            ]
            return self.cross_attention.output(join_rows(mixed))

        values = self.residual_1(values, keep, read_own)
        values = self.residual_2(values, keep, read_source)
        return self.residual_3(values, keep, self.feed_forward)


@dataclass(frozen=True)
class TransformerState(State):
    """What every decoder block keeps, up to `position`; the memory of keys and values grows by doubling.

    Keys and values of the source are kept once per sentence.
    """

    layers: list[LayerState]
    memory_mask: Mask
    position: int
    output: OutputMatrix

    @property
    def size(self) -> Rows:
        """See `State.size`."""
        layer = self.layers[0]
        return Rows(len(layer.source.key), len(layer.own[0]))

    @property
    def device(self) -> torch.device:
        """See `State.device`."""
        return self.layers[0].source.key.device

    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "TransformerState":
        """See `State.select`."""
        moved = self._with_own([layer.own._make(part.index_select(0, rows) for part in layer.own) for layer in self.layers])
        if sentences is None:
            return moved
        layers = [layer._replace(source=KeyValues(*(part.index_select(0, sentences) for part in layer.source))) for layer in moved.layers]
        return replace(moved, layers=layers, memory_mask=Mask(self.memory_mask.keep[sentences], self.memory_mask.bias[sentences]))

    def with_room(self) -> "TransformerState":
        """The same state with room for one more position."""
        first = self.layers[0].own
        if not isinstance(first, KeyValues) or self.position < first.key.shape[2]:
            return self
        room = (0, 0, 0, first.key.shape[2])
        return self._with_own([layer.own._make(F.pad(part, room) for part in layer.own) for layer in self.layers])

    def _with_own(self, own: Sequence[KeyValues | CellState]) -> "TransformerState":
        return replace(self, layers=[layer._replace(own=one) for layer, one in zip(self.layers, own, strict=True)])


class Transformer(TransformerEncoder, TranslationModel):
    """Encoder-decoder Transformer: tokens in, a summed loss or one next-token score at a time out."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig, *, source_vocabulary: int, target_vocabulary: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.target_embedding = nn.Embedding(target_vocabulary, width)
        self.source_embedding = self.target_embedding if config.tie == "all" else nn.Embedding(source_vocabulary, width)
        self.output_weight = self.target_embedding.weight if config.tie != "none" else nn.Parameter(torch.empty(target_vocabulary, width))
        self.output_bias = nn.Parameter(torch.zeros(target_vocabulary)) if config.output_bias else None
        self.source_positions = make_positions(config)
        self.target_positions = make_positions(config)
        self.source_norm, self.target_norm = make_embedding_norm(config), make_embedding_norm(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(SelfBlock(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.decoder_layers))
        # With pre-norm the residual stream itself is never normalised, so each half ends with a norm.
        pre = config.norm_position == "pre"
        self.encoder_norm = make_norm(config.norm, width) if pre else None
        self.decoder_norm = make_norm(config.norm, width) if pre else None
        self.source_embedded, self.target_embedded = Probe(), Probe()
        self.source_input, self.target_input = Probe(), Probe()
        self.memory, self.logits = Probe(), Probe()
        self._initialise()

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        return self.config.places()

    def _initialise(self) -> None:
        """Xavier-uniform matrices, zero biases; embeddings of variance 1/D, so that sqrt(D) times them has variance 1."""
        initialise_matrices(self)
        # Tied weights are drawn once, and always in this order: a set of tensors would be in the order of their addresses.
        for weight in dict.fromkeys((self.source_embedding.weight, self.target_embedding.weight, self.output_weight)):
            nn.init.normal_(weight, std=self.config.width**-0.5)

    def _embed_target(self, target: Int[Tensor, "B T"], start: int | Int[Tensor, "B T"] = 0) -> Float[Tensor, "B T D"]:
        """Y + P of target tokens; the first of each row has position `start`, or each its own."""
        embedded = self.target_embedding(target) * self.config.width**0.5
        if self.config.decoder_start == "zeros":
            embedded = embedded.masked_fill((target == SOS)[:, :, None], 0)
        embedded = self.target_embedded(embedded)
        values = self.target_input(self.target_positions(embedded, start))
        return self.dropout(values if self.target_norm is None else self.target_norm(values, target != PAD))

    def decode(self, target: Int[Tensor, "B T"], encoded: Encoded) -> Float[Tensor, "B T D"]:
        """The decoder's last vectors for a given target, every position at once; position t depends on targets 0 to t."""
        keep = target != PAD
        values = self._embed_target(target)
        mask, memory_mask = causal_mask(keep, values.dtype), padding_mask(encoded.keep, values.dtype)
        for block in self.decoder:
            values = block(values, keep, mask, encoded.memory, memory_mask)
        return values if self.decoder_norm is None else self.decoder_norm(values, keep)

    def finish(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """See `AutoregressiveModel.finish`."""
        if self.decoder_norm is None:
            return values
        return self.decoder_norm(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def read_out(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits: the product of each vector with each token's output vector, and its bias where there is one."""
        scores = hidden @ self.output_weight.t()
        return self.logits(scores if self.output_bias is None else scores + self.output_bias)

    def loss_given(self, encoded: Encoded, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        """See `TranslationModel.loss_given`."""
        hidden = self.decode(batch.target_in, encoded)
        weight, bias = self.output_weight, self.output_bias
        return target_loss(hidden, batch.target_out, weight=weight, bias=bias, label_smoothing=label_smoothing)

    def _decoder_blocks(self) -> Iterable[DecoderBlock]:
        return cast(Iterable[DecoderBlock], self.decoder)

    def start(self, encoded: Encoded) -> TransformerState:
        """Compute the source's keys and values once for every block; the first room for others is for 32 positions."""
        layers: list[LayerState] = []
        sentences = encoded.memory.shape[0]
        for block in self._decoder_blocks():
            key, value = block.cross_attention.read(encoded.memory)
            if block.recurrence is None:
                room = encoded.memory.new_zeros(sentences, self.config.heads, 32, self.config.width_of_head)
                own = KeyValues(room, room.clone())
            else:
                own = CellState(block.recurrence.start(sentences, encoded.memory))
            layers.append(LayerState(own, KeyValues(key.contiguous(), value.contiguous())))
        output = OutputMatrix.of(self.output_weight, self.output_bias)
        return TransformerState(layers, padding_mask(encoded.keep, encoded.memory.dtype), 0, output)

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token."""
        logits, (after,) = self.step_together(last, [state])
        return Step(logits, after)

    def step_together(self, last: Int[Tensor, " N"], states: Sequence[State]) -> Steps:
        """See `StepsTogether.step_together`: products, norms and the vocabulary take all rows at once, attention each state by itself."""
        own = [state.with_room() for state in states if isinstance(state, TransformerState)]
        assert len(own) == len(states)
        keep = torch.ones(len(last), 1, dtype=torch.bool, device=last.device)
        values = self._embed_target(last[:, None], _next_positions(own))
        for block, *layers in zip(self._decoder_blocks(), *(state.layers for state in own), strict=True):
            values = block.step(values, keep, layers, own)
        logits = self.logits(own[0].output.logits(self.finish(values)[:, 0]))
        return Steps(logits, [replace(state, position=state.position + 1) for state in own])


def _recur(recurrence: SSRU, values: Float[Tensor, "N 1 D"], states: Sequence[CellState]) -> Float[Tensor, "N 1 D"]:
    """One step of an SSRU for the rows of some states; writes into them what is remembered from now on."""
    hidden, after = recurrence(values, torch.cat([state.cell for state in states]))
    for state, new in zip(states, after.split([len(state.cell) for state in states]), strict=True):
        state.cell.copy_(new)
    return hidden


def _next_positions(states: Sequence[TransformerState]) -> int | Int[Tensor, "N 1"]:
    """The position of each row's next token."""
    if len(states) == 1:
        return states[0].position
    positions = [position for state in states for position in (state.position,) * state.size.rows]
    return torch.tensor(positions, device=states[0].device)[:, None]
