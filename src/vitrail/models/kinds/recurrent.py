"""Sequence-to-sequence translation with RNN, GRU or LSTM, without attention or with Bahdanau's or Luong's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.base import Encoded, Rows, State, Step, TranslationModel, target_loss
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.kinds.blocks import configured_cell
from vitrail.models.kinds.encoders import RecurrentEncoder, make_recurrent_layers
from vitrail.models.places import Place
from vitrail.nn.attention import AdditiveAttention, DotAttention, GeneralAttention, Mask, StepAttention, padding_mask
from vitrail.nn.cells import Carry, Cell
from vitrail.nn.layers import Dropout
from vitrail.nn.losses import LossSum
from vitrail.nn.probe import Probe


class Bridge(nn.Module):
    """The decoder's first carry from the encoder's last: s_0 = tanh(W·h + b); for a cell state, which is unbounded, without the tanh.

    Source: Bahdanau et al. 2015, section A.2.2. Differs from it: both directions are read, not the backward one alone.
    """

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(width, width) for _ in range(parts))

    def forward(self, carry: Carry) -> Carry:
        """Map each part of the carry."""
        found = tuple(part(values) for part, values in zip(self.parts, carry, strict=True))
        return (found[0].tanh(), *found[1:])


@dataclass(frozen=True)
class RecurrentState(State):
    """The decoder's carry by layer, and the source for attention: the latter is kept once per sentence, not per beam."""

    carries: tuple[tuple[Float[Tensor, "N D"], ...], ...]
    fed: Float[Tensor, "N E"] | None
    """The last attentional vector, with input feeding."""
    memory: Float[Tensor, "B S D"]
    keys: Float[Tensor, "B S A"]
    mask: Mask
    masks: tuple[Tensor | None, ...] = ()
    """Variational dropout's masks, the same for a whole training sentence."""

    @property
    def size(self) -> Rows:
        """See `State.size`."""
        return Rows(len(self.memory), len(self.carries[0][0]))

    @property
    def device(self) -> torch.device:
        """See `State.device`."""
        return self.memory.device

    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "RecurrentState":
        """See `State.select`."""
        carries = tuple(tuple(part.index_select(0, rows) for part in carry) for carry in self.carries)
        moved = replace(self, carries=carries, fed=None if self.fed is None else self.fed.index_select(0, rows))
        if sentences is None:
            return moved
        mask = Mask(self.mask.keep[sentences], self.mask.bias[sentences])
        return replace(moved, memory=self.memory[sentences], keys=self.keys[sentences], mask=mask)

    def detached(self) -> "RecurrentState":
        """The same values without gradient to earlier steps; the source keeps its gradient."""
        carries = tuple(tuple(part.detach() for part in carry) for carry in self.carries)
        return replace(self, carries=carries, fed=None if self.fed is None else self.fed.detach())


class Recurrent(RecurrentEncoder, TranslationModel):
    """Recurrent encoder-decoder.

    Without attention (Sutskever et al. 2014; Cho et al. 2014), the decoder starts from the encoder's last state alone. With it:
    Bahdanau (2015): c_t from s_(t-1);  s_t = cell([y_(t-1); c_t], s_(t-1));  h~_t = tanh(W·[s_t; c_t; y_(t-1)]).
    Luong (2015):    s_t = cell(y_(t-1) or, fed, [y_(t-1); h~_(t-1)], s_(t-1));  c_t from s_t;  h~_t = tanh(W·[s_t; c_t]).
    p(y_t) = softmax(E·h~_t + b). Differs from the papers: no maxout before the output, whose matrix E may be the embeddings;
    embeddings are scaled by the square root of their width, as the Transformer's are.
    """

    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig, *, source_vocabulary: int, target_vocabulary: int) -> None:
        super().__init__()
        self.config = config
        embedding, width = config.embedding_width, config.width
        self.target_embedding = nn.Embedding(target_vocabulary, embedding)
        self.source_embedding = self.target_embedding if config.tie == "all" else nn.Embedding(source_vocabulary, embedding)
        tied = config.tie != "none"
        self.output_weight = self.target_embedding.weight if tied else nn.Parameter(torch.empty(target_vocabulary, embedding))
        self.output_bias = nn.Parameter(torch.zeros(target_vocabulary))
        self.dropout, self.word_dropout = Dropout(config.dropout), Dropout(config.word_dropout)
        self.encoder = make_recurrent_layers(config)
        extra = 0 if not config.feeds else width if config.attention == "bahdanau" else embedding
        self.decoder = nn.ModuleList(
            configured_cell(config, width if layer else embedding + extra, width) for layer in range(config.decoder_layers)
        )
        self.bridge = nn.ModuleList(Bridge(width, parts=self._cells()[0].parts) for _ in range(config.decoder_layers))
        self.attention = _make_attention(config)
        seen = width + (width if self.attention is not None else 0) + (embedding if config.attention == "bahdanau" else 0)
        self.readout = nn.Linear(seen, embedding)
        self.source_embedded, self.target_embedded = Probe(), Probe()
        self.memory, self.attentional, self.logits = Probe(), Probe(), Probe()
        self._initialise()

    def _initialise(self) -> None:
        """Xavier-uniform matrices, zero biases; embeddings of variance 1/E, so that sqrt(E) times them has variance 1."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    nn.init.zeros_(module.bias)
        # Tied weights are drawn once, and always in this order: a set of tensors would be in the order of their addresses.
        for weight in dict.fromkeys((self.source_embedding.weight, self.target_embedding.weight, self.output_weight)):
            nn.init.normal_(weight, std=self.config.embedding_width**-0.5)

    def _cells(self) -> list[Cell]:
        return list(cast(Iterable[Cell], self.decoder))

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        return self.config.places()

    def shared_weights(self) -> dict[str, Tensor]:
        """See `Model.shared_weights`. A readout that also reads the source is another one than a language model's."""
        found = super().shared_weights()
        if self.attention is None:
            return found
        return {f"attention_{name}" if name.startswith("readout.") else name: tensor for name, tensor in found.items()}

    def start(self, encoded: Encoded) -> RecurrentState:
        """Make the decoder's first carry from the encoder's last, layer by layer from the top; the lowest may be used several times."""
        assert encoded.summary is not None
        rows = len(encoded.memory)
        memory, keep, summary = (self._enough_rows(part) for part in (encoded.memory, encoded.keep, encoded.summary))
        parts = self._cells()[0].parts
        last = summary.split(self.config.width, dim=1)
        by_layer = [last[at : at + parts] for at in range(0, len(last), parts)]
        surplus = len(by_layer) - len(self.bridge)
        carries = tuple(bridge(by_layer[max(0, layer + surplus)]) for layer, bridge in enumerate(self.bridge))
        fed = memory.new_zeros(len(memory), self.config.embedding_width) if self.config.input_feeding else None
        keys = memory if self.attention is None else self.attention.read(memory)
        state = RecurrentState(carries, fed, memory, keys, padding_mask(keep, memory.dtype))
        kept = torch.arange(rows, device=memory.device)
        return state if len(memory) == rows else state.select(kept, kept)

    def decode(self, target: Int[Tensor, "B T"], encoded: Encoded) -> Float[Tensor, "B T E"]:
        """The input of `read_out` at every position of a given target; position t depends on targets 0 to t."""
        state = self.start(encoded)
        values = self._embed(self.target_embedding, target, self.target_embedded)
        widths = [self.config.embedding_width, *([self.config.width] * self.config.decoder_layers)]
        state = replace(state, masks=tuple(self._mask(values, width) for width in widths))
        # In evaluation the gradient, if requested, is not truncated.
        chunk = (self.training and self.config.truncate) or target.shape[1]
        found: list[Tensor] = []
        for part, keep in zip(values.split(chunk, dim=1), (target != PAD).split(chunk, dim=1), strict=True):
            hidden, state = self._advance(part, keep, state.detached() if found else state)
            found.append(hidden)
        return torch.cat(found, dim=1)

    def _advance(
        self, values: Float[Tensor, "N T E"], keep: Bool[Tensor, "N T"], state: RecurrentState
    ) -> tuple[Float[Tensor, "N T E"], RecurrentState]:
        """Read T embedded target tokens from a state on: one after the other where each needs the attention's output at the one before."""
        masks = state.masks or (None,) * (self.config.decoder_layers + 1)
        values = self._drop(values, masks[0])
        if not self.config.feeds:
            return self._take(values, keep, state, masks)
        found: list[Tensor] = []
        for column in range(values.shape[1]):
            one, state = self._take(values[:, column : column + 1], keep[:, column : column + 1], state, masks)
            found.append(one)
        return torch.cat(found, dim=1), state

    def _take(
        self, embedded: Float[Tensor, "N T E"], keep: Bool[Tensor, "N T"], state: RecurrentState, masks: Sequence[Tensor | None]
    ) -> tuple[Float[Tensor, "N T E"], RecurrentState]:
        """The equations of the class's description, for positions that do not need each other's attention."""
        values, carries = embedded, list[Carry]()
        context = self._attend(state.carries[-1][0][:, None], state) if self.config.attention == "bahdanau" else None
        if context is not None:
            values = torch.cat([values, context], dim=2)
        if state.fed is not None:
            values = torch.cat([values, state.fed[:, None]], dim=2)
        for layer, cell in enumerate(self._cells()):
            outputs, carry = cell(values, keep, state.carries[layer])
            carries.append(carry)
            values = self._drop(outputs + values if self.config.residual and layer else outputs, masks[layer + 1])
        seen = [values]
        if context is not None:
            seen += [context, embedded]
        elif self.attention is not None:
            seen.append(self._attend(values, state))
        hidden = self.attentional(self.readout(torch.cat(seen, dim=2)).tanh())
        return hidden, replace(state, carries=tuple(carries), fed=None if state.fed is None else hidden[:, -1])

    def _attend(self, query: Float[Tensor, "N T D"], state: RecurrentState) -> Float[Tensor, "N T D"]:
        """The attention's output; the K beams of a sentence share its one memory."""
        assert self.attention is not None
        asked = query.reshape(len(state.memory), -1, query.shape[2])
        return self.attention.attend(asked, state.keys, state.memory, state.mask).reshape(*query.shape[:2], -1)

    def read_out(self, hidden: Float[Tensor, "*B E"]) -> Float[Tensor, "*B V"]:
        """Logits: E·h~ + b."""
        return self.logits(hidden @ self.output_weight.t() + self.output_bias)

    def loss_given(self, encoded: Encoded, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        """See `TranslationModel.loss_given`."""
        hidden = self.decode(batch.target_in, encoded)
        return target_loss(hidden, batch.target_out, weight=self.output_weight, bias=self.output_bias, label_smoothing=label_smoothing)

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token."""
        assert isinstance(state, RecurrentState)
        values = self._embed(self.target_embedding, last[:, None], self.target_embedded)
        hidden, state = self._advance(values, torch.ones_like(last[:, None], dtype=torch.bool), state)
        return Step(self.read_out(hidden[:, 0]), state)


def _make_attention(config: RecurrentConfig) -> StepAttention | None:
    match config.attention:
        case "none":
            return None
        case "bahdanau" | "luong-concat":
            return AdditiveAttention(config.width, config.width, config.width)
        case "luong-dot":
            return DotAttention()
        case "luong-general":
            return GeneralAttention(config.width, config.width)
