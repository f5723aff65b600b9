"""The two interfaces of a model: `Model.loss(batch)`, and for translators `encode / start / step`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import PAD
from vitrail.models.places import Place, Side
from vitrail.nn.losses import LossSum, token_cross_entropy
from vitrail.nn.positions import LearnedPositions


class Rows(NamedTuple):
    """What a state has: one row for each beam, the same number of beams for each sentence."""

    sentences: int
    rows: int


class State(ABC):
    """Where a decoding stands: keys and values of attention, or the hidden state of a recurrent model.

    A model's state says how many rows it has and how some are chosen; what search does with rows follows from these.
    Every method returns the new state and may reuse the memory of the old one, which must not be used again.
    Rows are sentence-major: row = sentence * K + beam.
    """

    @property
    @abstractmethod
    def size(self) -> Rows:
        """How many sentences and rows there are."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its tensors are."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "State":
        """Let new row i continue old row `rows[i]`, and new sentence j be old sentence `sentences[j]`; None: the sentences stay."""

    def repeat(self, beams: int) -> "State":
        """Go from one row a sentence to `beams` equal rows a sentence."""
        return self.select(torch.arange(self.size.rows, device=self.device).repeat_interleave(beams))

    def reorder(self, rows: Int[Tensor, " N"]) -> "State":
        """Let new row i continue old row `rows[i]`. Precondition: both belong to the same sentence."""
        return self.select(rows)

    def keep(self, sentences: Int[Tensor, " B"]) -> "State":
        """Keep only these sentences, with all their beams, in this order."""
        count, rows = self.size
        beams = rows // count
        return self.select((sentences[:, None] * beams + torch.arange(beams, device=sentences.device)).flatten(), sentences)


class Step(NamedTuple):
    """What one step of decoding gives: a score for every token of the vocabulary, and the state to go on from."""

    logits: Float[Tensor, "N V"]
    state: State


@runtime_checkable
class Continues(Protocol):
    """All that search needs of a model."""

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token. Owns `state`: callers keep only the returned one."""
        ...


@runtime_checkable
class Reads(Protocol):
    """A model that reads several tokens in one pass."""

    def read(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B T E"], State]:
        """What the next token is read from after each token, and the state after the last one of each row.

        Padding comes last in a row and leaves the row's state as it was; a row may be all padding.
        """
        ...


class Encoded(NamedTuple):
    """What the encoder hands to the decoder: one vector per source position, and which positions are real."""

    memory: Float[Tensor, "B S D"]
    keep: Bool[Tensor, "B S"]
    summary: Float[Tensor, "B R"] | None = None
    """The last states of a recurrent encoder, side by side: all that a decoder without attention hears of the source."""


class Shape(NamedTuple):
    """What a batch makes a translator compute."""

    rows: int
    source: int
    """Positions in each row, <eos> and padding counted."""
    target: int
    real: int
    """Target positions of all rows that are not padding."""


class Model(nn.Module, ABC):
    """Anything that is trained: it turns a batch into a summed loss."""

    @abstractmethod
    def loss(self, batch: Any, *, label_smoothing: float = 0.0) -> LossSum:
        """Sum the loss over the real tokens of a batch, of the kind that its task makes; the caller divides by their global count."""

    def places(self) -> tuple[Place, ...]:
        """What each Probe of this model records, every Probe once; none for a model without Probes."""
        return ()

    def inner_matrices(self) -> list[nn.Parameter]:
        """The matrices that map one space to another: not those whose rows are tokens or positions. Muon is for these alone."""
        tables = {id(part.weight) for part in self.modules() if isinstance(part, nn.Embedding | LearnedPositions)}
        named = self.named_parameters()
        return [weight for name, weight in named if weight.ndim == 2 and id(weight) not in tables and name != "output_weight"]


class CarriedState(State):
    """A state that is also handed on from one block of a text to the next, and saved between them."""

    @abstractmethod
    def detached(self) -> "CarriedState":
        """The same numbers, through which no gradient goes back to earlier blocks."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What there is to save, by name."""

    @abstractmethod
    def filled(self, tensors: Mapping[str, Tensor]) -> "CarriedState":
        """A state of the same shape with saved values."""


class LanguageModel(Model):
    """A model that continues a text: it has no source."""

    config: Any
    """Its shape: a Config, each model's own."""

    @property
    def context(self) -> int | None:
        """Tokens that it looks back over at most; None: its state is carried on without end."""
        return None

    @abstractmethod
    def start(self, rows: int) -> State:
        """The state before the first token of each row."""

    @abstractmethod
    def read(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B T E"], State]:
        """See `Reads.read`."""

    @abstractmethod
    def loss_from(
        self, tokens: Int[Tensor, "B T"], following: Int[Tensor, "B T"], state: State, *, label_smoothing: float = 0.0
    ) -> tuple[LossSum, State]:
        """Sum of -log p over the next part of a text, and the state after it.

        Gradients reach what the given state was computed from.
        """

    @abstractmethod
    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """See `Continues.step`."""


class CarryingModel(LanguageModel):
    """A language model whose state is carried from one block of a text to the next: `state.detached()` cuts the gradient there."""

    @abstractmethod
    def start(self, rows: int) -> CarriedState:
        """The state before the first token of each row."""

    @abstractmethod
    def loss_from(
        self, tokens: Int[Tensor, "B T"], following: Int[Tensor, "B T"], state: State, *, label_smoothing: float = 0.0
    ) -> tuple[LossSum, CarriedState]:
        """See `LanguageModel.loss_from`."""


class TranslationModel(Model):
    """A model that can be decoded one token at a time; search sees nothing of it but `encode`, `start` and `step`."""

    config: Any
    """Its shape: a Config, each model's own."""

    @abstractmethod
    def encode(self, source: Int[Tensor, "B S"]) -> Encoded:
        """Read the source once. Rows end in EOS, then PAD."""

    @abstractmethod
    def decode(self, target: Int[Tensor, "B T"], encoded: Encoded) -> Float[Tensor, "B T D"]:
        """The vectors that a given target, SOS first, leads to at each position; position t has seen targets 0 to t."""

    @abstractmethod
    def read_out(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits of the next token from what `decode` gives."""

    def finish(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """What `read_out` takes, from what a layer of the decoder hands on at real positions: the last norm, where there is one."""
        return values

    def embedding_of(self, side: Side) -> Float[Tensor, "V D"]:
        """The embeddings of a side, a row a token; the same tensor for both where they are shared."""
        return self.get_parameter(f"{side}_embedding.weight")

    @abstractmethod
    def start(self, encoded: Encoded) -> State:
        """The state before the first target token, one row a sentence."""

    @abstractmethod
    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token; `last` holds SOS at the first step. Owns `state`: callers keep only the returned one."""


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and lasting buffers by name, tied ones once, under their first name."""
    transient = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name in module._non_persistent_buffers_set  # pyright: ignore[reportPrivateUsage]
    }
    buffers = {name: tensor for name, tensor in model.named_buffers() if name not in transient}
    return {name: parameter.detach() for name, parameter in model.named_parameters()} | buffers


def target_loss(
    hidden: Float[Tensor, "B T D"],
    target: Int[Tensor, "B T"],
    *,
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None = None,
    label_smoothing: float = 0.0,
) -> LossSum:
    """Sum of -log p(y_t | y_<t, x) over the real target tokens, <eos> included, from a decoder's last vectors."""
    real = (target != PAD).flatten().nonzero().squeeze(1)
    rows = hidden.flatten(0, 1).index_select(0, real)
    return token_cross_entropy(rows, target.flatten().index_select(0, real), weight=weight, bias=bias, label_smoothing=label_smoothing)
