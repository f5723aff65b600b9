"""Recurrent causal language models, trained on sentences or on one long stream by truncated back-propagation through time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.base import CarriedState, CarryingModel, Rows, State, Step, target_loss
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.kinds.blocks import configured_cell
from vitrail.models.places import Place, Side
from vitrail.nn.cells import Carry, Cell
from vitrail.nn.layers import Dropout
from vitrail.nn.losses import LossSum
from vitrail.nn.probe import Probe


@dataclass(frozen=True)
class LanguageState(CarriedState):
    """The carry of every layer."""

    carries: tuple[Carry, ...]
    beams: int = 1
    """Rows of each text."""
    masks: tuple[Tensor | None, ...] = ()
    """Variational dropout's masks, the same for a whole training sentence."""

    @property
    def size(self) -> Rows:
        """See `State.size`."""
        rows = len(self.carries[0][0])
        return Rows(rows // self.beams, rows)

    @property
    def device(self) -> torch.device:
        """See `State.device`."""
        return self.carries[0][0].device

    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "LanguageState":
        """See `State.select`."""
        carries = tuple(tuple(part.index_select(0, rows) for part in carry) for carry in self.carries)
        return replace(self, carries=carries, beams=len(rows) // (self.size.sentences if sentences is None else len(sentences)))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save, by layer and part."""
        return {f"{layer}.{part}": value for layer, carry in enumerate(self.carries) for part, value in enumerate(carry)}

    def filled(self, tensors: Mapping[str, Tensor]) -> "LanguageState":
        """A state of the same shape with saved values."""
        device = self.carries[0][0].device
        saved = (tuple(tensors[f"{layer}.{part}"].to(device) for part in range(len(carry))) for layer, carry in enumerate(self.carries))
        return replace(self, carries=tuple(saved))

    def detached(self) -> "LanguageState":
        """The same values without gradient to earlier steps."""
        return replace(self, carries=tuple(tuple(part.detach() for part in carry) for carry in self.carries))


class RecurrentLanguageModel(CarryingModel):
    """p(y_t | y_<t) = softmax(E·tanh(W·h_t + b) + c), h_t from stacked recurrent cells (Mikolov et al. 2010)."""

    def __init__(self, config: LanguageConfig, *, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embedding = nn.Embedding(vocabulary, config.embedding_width)
        self.output_weight = self.embedding.weight if config.tie else nn.Parameter(torch.empty(vocabulary, config.embedding_width))
        self.output_bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout, self.word_dropout = Dropout(config.dropout), Dropout(config.word_dropout)
        self.cells = nn.ModuleList(
            configured_cell(config, width if layer else config.embedding_width, width) for layer in range(config.layers)
        )
        self.readout = nn.Linear(width, config.embedding_width)
        self.embedded, self.logits = Probe(), Probe()
        nn.init.xavier_uniform_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)
        for weight in dict.fromkeys((self.embedding.weight, self.output_weight)):
            nn.init.normal_(weight, std=config.embedding_width**-0.5)

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        return self.config.places()

    def start(self, rows: int) -> LanguageState:
        """The state before the first token of each row."""
        like = self.output_bias
        return LanguageState(tuple(cell.start(rows, like) for cell in cast(Iterable[Cell], self.cells)))

    def read(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B T E"], LanguageState]:
        """The vectors from which the next token is predicted, after each token, and the last state; padding must come last in a row."""
        assert isinstance(state, LanguageState)
        keep = tokens != PAD
        values = self.embedded(self.embedding(tokens) * self.config.embedding_width**0.5)
        words = self.word_dropout.draw((*tokens.shape, 1), values)
        masks = state.masks or self._masks(values)
        values = self._drop(values if words is None else values * words, masks[0])
        carries: list[Carry] = []
        for layer, cell in enumerate(cast(Iterable[Cell], self.cells)):
            outputs, carry = cell(values, keep, state.carries[layer])
            values = self._drop(outputs + values if self.config.residual and layer else outputs, masks[layer + 1])
            carries.append(carry)
        return self.readout(values).tanh(), replace(state, carries=tuple(carries))

    def _masks(self, like: Float[Tensor, "B ..."]) -> tuple[Tensor | None, ...]:
        """Dropout masks of the embeddings and every layer, the same at all time steps, where dropout is variational."""
        widths = [self.config.embedding_width, *([self.config.width] * self.config.layers)]
        return tuple(self.dropout.draw((len(like), 1, width), like) if self.config.variational else None for width in widths)

    def _drop(self, values: Float[Tensor, "B T D"], mask: Tensor | None) -> Float[Tensor, "B T D"]:
        return self.dropout(values) if mask is None else values * mask

    def loss_from(
        self, tokens: Int[Tensor, "B T"], following: Int[Tensor, "B T"], state: State, *, label_smoothing: float = 0.0
    ) -> tuple[LossSum, LanguageState]:
        """See `LanguageModel.loss_from`."""
        hidden, after = self.read(tokens, state)
        loss = target_loss(hidden, following, weight=self.output_weight, bias=self.output_bias, label_smoothing=label_smoothing)
        return loss, after

    def loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        """Sum of -log p of the target sentences, each by itself, in chunks of `truncate` tokens; their sources are not read."""
        state, chunk = self.start(len(batch.target_in)), self.config.truncate or batch.target_in.shape[1]
        state = replace(state, masks=self._masks(state.carries[0][0]))
        parts: list[LossSum] = []
        for tokens, following in zip(batch.target_in.split(chunk, dim=1), batch.target_out.split(chunk, dim=1), strict=True):
            part, state = self.loss_from(tokens, following, state.detached(), label_smoothing=label_smoothing)
            parts.append(part)
        return LossSum(*(torch.stack(values).sum() for values in zip(*parts, strict=True)))

    def read_given(self, batch: Batch) -> Float[Tensor, "B T E"]:
        """See `AutoregressiveModel.read_given`."""
        return self.read(batch.target_in, self.start(len(batch.target_in)))[0]

    def read_out(self, hidden: Float[Tensor, "*B E"]) -> Float[Tensor, "*B V"]:
        """Logits: the product of each vector with each token's output vector, and its bias."""
        return self.logits(hidden @ self.output_weight.t() + self.output_bias)

    def embedding_of(self, side: Side) -> Float[Tensor, "V E"]:
        """See `AutoregressiveModel.embedding_of`."""
        return self.embedding.weight

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token."""
        hidden, state = self.read(last[:, None], state)
        return Step(self.read_out(hidden[:, 0]), state)
