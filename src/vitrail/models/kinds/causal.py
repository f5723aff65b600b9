"""The decoder half of the Transformer as a causal language model (GPT): p(y_t | y_<t) from masked self-attention alone."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import PAD
from vitrail.data.windows import TextWindow
from vitrail.errors import UsageError
from vitrail.models.base import LanguageModel, Rows, State, Step, target_loss
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.kinds.blocks import KeyValues, SelfBlock, initialise_matrices, make_embedding_norm, make_positions
from vitrail.models.places import Place
from vitrail.nn.attention import Mask, causal_mask, make_mask
from vitrail.nn.layers import Dropout, make_norm
from vitrail.nn.losses import LossSum
from vitrail.nn.probe import Probe


@dataclass(frozen=True)
class CausalState(State):
    """Keys and values of every block for the tokens so far. Rows of different lengths end together: the shorter ones begin later."""

    layers: list[KeyValues]
    tokens: Int[Tensor, "N P"]
    """Everything read so far; PAD before a row's first token."""
    first: Int[Tensor, " N"]
    """Where each row's first token is."""
    beams: int = 1
    """Rows of each text."""

    @property
    def position(self) -> int:
        """Columns read so far."""
        return self.tokens.shape[1]

    @property
    def size(self) -> Rows:
        """See `State.size`."""
        return Rows(len(self.tokens) // self.beams, len(self.tokens))

    @property
    def device(self) -> torch.device:
        """See `State.device`."""
        return self.tokens.device

    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "CausalState":
        """See `State.select`."""
        beams = len(rows) // (self.size.sentences if sentences is None else len(sentences))
        layers = [KeyValues(one.key.index_select(0, rows), one.value.index_select(0, rows)) for one in self.layers]
        return replace(self, layers=layers, tokens=self.tokens.index_select(0, rows), first=self.first.index_select(0, rows), beams=beams)

    def with_room(self, columns: int) -> "CausalState":
        """The same state with room for so many more columns; it grows by doubling."""
        capacity = self.layers[0].key.shape[2]
        missing = self.position + columns - capacity
        if missing <= 0:
            return self
        room = (0, 0, 0, max(missing, capacity))
        return replace(self, layers=[KeyValues(F.pad(one.key, room), F.pad(one.value, room)) for one in self.layers])


class CausalLanguageModel(LanguageModel):
    """Decoder-only Transformer: tokens in, a summed loss or one next-token score at a time out.

    Source: Radford et al. 2018 and 2019. Differs from them: the blocks are those of our translators, with their initialisation.
    It is trained on windows of `context` tokens and never reads more. A longer text is read in part again: when the window is full, its
    second half becomes the first half of a new one.
    """

    config: CausalConfig

    def __init__(self, config: CausalConfig, *, vocabulary: int) -> None:
        super().__init__()
        if config.positions == "learned" and config.max_positions < config.context:
            raise UsageError(
                f"model.context = {config.context} with {config.max_positions} learned positions",
                remedy=f"--set model.max_positions={config.context}, or rotary positions",
            )
        self.config = config
        self.target_embedding = nn.Embedding(vocabulary, config.width)
        self.output_weight = self.target_embedding.weight if config.tie else nn.Parameter(torch.empty(vocabulary, config.width))
        self.target_positions = make_positions(config)
        self.target_norm = make_embedding_norm(config)
        self.dropout = Dropout(config.dropout)
        self.decoder = nn.ModuleList(SelfBlock(config) for _ in range(config.layers))
        self.decoder_norm = make_norm(config.norm, config.width) if config.norm_position == "pre" else None
        self.target_embedded, self.target_input, self.logits = Probe(), Probe(), Probe()
        initialise_matrices(self)
        for weight in dict.fromkeys((self.target_embedding.weight, self.output_weight)):
            nn.init.normal_(weight, std=config.width**-0.5)

    @property
    def context(self) -> int:
        """See `LanguageModel.context`."""
        return self.config.context

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        return self.config.places()

    def _blocks(self) -> Iterable[SelfBlock]:
        return cast(Iterable[SelfBlock], self.decoder)

    def _embed(self, tokens: Int[Tensor, "B T"], positions: int | Int[Tensor, "B T"] = 0) -> Float[Tensor, "B T D"]:
        """Y + P, Y being scaled by sqrt(D) as in a translator."""
        embedded = self.target_embedded(self.target_embedding(tokens) * self.config.width**0.5)
        values = self.target_input(self.target_positions(embedded, positions))
        return self.dropout(values if self.target_norm is None else self.target_norm(values, tokens != PAD))

    def hidden(self, tokens: Int[Tensor, "B T"], documents: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B T D"]:
        """The last vectors for given tokens, every position at once; position t has seen tokens 0 to t, of its own document alone.

        Args: documents: which document each token belongs to; positions begin anew in each. None: each row is one.
        """
        keep = tokens != PAD
        if documents is None or bool((documents == documents[:, :1]).all()):
            values = self._embed(tokens)
            mask = causal_mask(keep, values.dtype)
        else:
            same = documents[:, :, None] == documents[:, None, :]
            values = self._embed(tokens, same.tril().sum(2) - 1)
            earlier = torch.ones_like(same[0]).tril_()
            mask = make_mask((keep[:, None, :] & same & earlier)[:, None], values.dtype)
        for block in self._blocks():
            values = block(values, keep, mask)
        return self._finish(values, keep)

    def _finish(self, values: Float[Tensor, "B T D"], keep: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        return values if self.decoder_norm is None else self.decoder_norm(values, keep)

    def finish(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """See `AutoregressiveModel.finish`."""
        return self._finish(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def read_given(self, batch: Batch) -> Float[Tensor, "B T D"]:
        """See `AutoregressiveModel.read_given`; each row is a text of its own."""
        return self.hidden(batch.target_in)

    def read_out(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits: the product of each vector with each token's output vector."""
        return self.logits(hidden @ self.output_weight.t())

    def loss(self, batch: Batch | TextWindow, *, label_smoothing: float = 0.0) -> LossSum:
        """Sum of -log p over windows of text, or over target sentences, each by itself; their sources are not read."""
        if isinstance(batch, TextWindow):
            hidden, following = self.hidden(batch.tokens, batch.documents), batch.following
        else:
            hidden, following = self.hidden(batch.target_in), batch.target_out
        return target_loss(hidden, following, weight=self.output_weight, label_smoothing=label_smoothing)

    def start(self, rows: int) -> CausalState:
        """The state before the first token of each row; room for 32 tokens to begin with."""
        like, size = self.output_weight, (rows, self.config.heads, 32, self.config.width_of_head)
        layers = [KeyValues(like.new_zeros(size), like.new_zeros(size)) for _ in range(self.config.layers)]
        none = torch.zeros(rows, 0, dtype=torch.long, device=like.device)
        return CausalState(layers, none, none.new_zeros(rows))

    def read(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B T D"], CausalState]:
        """See `Reads.read`. Only the last `context` tokens are read of a longer text; what was left out has zeros."""
        assert isinstance(state, CausalState)
        if state.position == 0:
            return self._read_prompts(tokens, state)
        if tokens.shape[1] == 1 and bool((tokens != PAD).all()):
            return self._extend(tokens, state)
        lengths = (tokens != PAD).sum(1).tolist()
        before = [row[first:].tolist() for row, first in zip(state.tokens, state.first.tolist(), strict=True)]
        whole = [[*old, *row[:length].tolist()] for old, row, length in zip(before, tokens, lengths, strict=True)]
        columns = max(map(len, whole))
        padded = torch.tensor([[*row, *[PAD] * (columns - len(row))] for row in whole], device=tokens.device)
        hidden, after = self._read_prompts(padded, replace(self.start(len(tokens)), beams=state.beams))
        found = hidden.new_zeros(*tokens.shape, hidden.shape[2])
        for row, (old, length) in enumerate(zip(before, lengths, strict=True)):
            found[row, :length] = hidden[row, len(old) : len(old) + length]
        return found, after

    def _read_prompts(self, tokens: Int[Tensor, "B T"], state: CausalState) -> tuple[Float[Tensor, "B T D"], CausalState]:
        """Read rows of any lengths from the beginning, PAD coming last in each."""
        lengths = (tokens != PAD).sum(1)
        columns = min(int(lengths.max()), self.context)
        # The rows are moved so that they end together: what follows then goes to the same column in each.
        place = torch.arange(columns, device=tokens.device) + (lengths - columns)[:, None]
        shifted = tokens.gather(1, place.clamp(min=0)).masked_fill(place < 0, PAD)
        state = replace(state, tokens=shifted[:, :0], first=(columns - lengths).clamp(min=0))
        values, state = self._extend(shifted, state)
        found = values.new_zeros(*tokens.shape, values.shape[2])
        rows, cells = (place >= 0).nonzero(as_tuple=True)
        found[rows, place[rows, cells]] = values[rows, cells]
        return found, state

    def _extend(self, tokens: Int[Tensor, "N T"], state: CausalState) -> tuple[Float[Tensor, "N T D"], CausalState]:
        """Read the next columns after those of the state, which are forgotten in part where the window would be too long."""
        if state.position + tokens.shape[1] > self.context:
            half = self.context // 2
            kept = state.tokens[:, -half:]
            first = (state.first - (state.position - half)).clamp(min=0)
            state = replace(self.start(len(tokens)), tokens=kept[:, :0], first=first, beams=state.beams)
            _, state = self._extend(kept, state)
        start, end = state.position, state.position + tokens.shape[1]
        state = state.with_room(tokens.shape[1])
        columns = torch.arange(end, device=tokens.device)
        ragged = bool((state.first > 0).any())
        values = self._embed(tokens, (columns[None, start:] - state.first[:, None]).clamp(min=0) if ragged else start)
        keep = columns[None, start:] >= state.first[:, None]
        mask = self._window_mask(columns, state.first, start=start, dtype=values.dtype) if ragged or tokens.shape[1] > 1 else None
        for block, own in zip(self._blocks(), state.layers, strict=True):
            values = block.extend(values, keep, own, mask, position=start)
        return self._finish(values, keep), replace(state, tokens=torch.cat([state.tokens, tokens], 1))

    def _window_mask(self, columns: Int[Tensor, " C"], first: Int[Tensor, " N"], *, start: int, dtype: torch.dtype) -> Mask:
        """Columns that each new position may read: not later ones, and none before the row begins. Padding reads itself."""
        earlier = columns[None, :] <= columns[start:, None]
        real = columns[None, None, :] >= first[:, None, None]
        itself = columns[None, :] == columns[start:, None]
        return make_mask(((earlier & real) | itself)[:, None], dtype)

    def loss_from(
        self, tokens: Int[Tensor, "B T"], following: Int[Tensor, "B T"], state: State, *, label_smoothing: float = 0.0
    ) -> tuple[LossSum, State]:
        """See `LanguageModel.loss_from`."""
        hidden, after = self.read(tokens, state)
        return target_loss(hidden, following, weight=self.output_weight, label_smoothing=label_smoothing), after

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token."""
        assert isinstance(state, CausalState)
        hidden, after = self._extend(last[:, None], state)
        return Step(self.read_out(hidden[:, 0]), after)
