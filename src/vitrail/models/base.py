"""The two interfaces of a model: `Model.loss(batch)`, and for translators `encode / start / step`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS
from vitrail.models.places import Place, Side, common_names
from vitrail.nn.losses import LossSum, token_cross_entropy
from vitrail.nn.positions import LearnedPositions


class Rows(NamedTuple):
    """The rows of a state: one row for each beam, the same number of beams for each sentence."""

    sentences: int
    rows: int


class State(ABC):
    """The state of a decoding: keys and values of attention, or the hidden state of a recurrent model.

    A model's state implements `size`, `device` and `select`; the other methods follow from these.
    Every method returns the new state and may reuse the memory of the old one, which must not be used again.
    Rows are sentence-major: row = sentence * K + beam.
    """

    @property
    @abstractmethod
    def size(self) -> Rows:
        """The number of sentences and rows."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of its tensors."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "State":
        """Select rows: new row i continues old row `rows[i]`, new sentence j is old sentence `sentences[j]`; None: the same sentences."""

    def repeat(self, beams: int) -> "State":
        """Repeat the one row of each sentence `beams` times."""
        return self.select(torch.arange(self.size.rows, device=self.device).repeat_interleave(beams))

    def reorder(self, rows: Int[Tensor, " N"]) -> "State":
        """Reorder rows: new row i continues old row `rows[i]`. Precondition: both belong to the same sentence."""
        return self.select(rows)

    def keep(self, sentences: Int[Tensor, " B"]) -> "State":
        """Keep only these sentences, with all their beams, in this order."""
        count, rows = self.size
        beams = rows // count
        return self.select((sentences[:, None] * beams + torch.arange(beams, device=sentences.device)).flatten(), sentences)


class Step(NamedTuple):
    """The result of one decoding step: a score for every token of the vocabulary, and the next state."""

    logits: Float[Tensor, "N V"]
    state: State


class Steps(NamedTuple):
    """The result of one decoding step of several states: the scores of all their rows, state by state, and the next states."""

    logits: Float[Tensor, "N V"]
    states: list[State]


@runtime_checkable
class Continues(Protocol):
    """The interface that search needs."""

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token. Takes over `state`: callers keep only the returned one."""
        ...


@runtime_checkable
class StepsTogether(Protocol):
    """A model that computes one step of several states at once: their positions, and the lengths of their sources, may differ."""

    def step_together(self, last: Int[Tensor, " N"], states: Sequence[State]) -> Steps:
        """`Continues.step` of each state, bit for bit where there are rows enough (`fewest_rows`). Takes over the states."""
        ...


@runtime_checkable
class Reads(Protocol):
    """A model that reads several tokens in one pass."""

    def read(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B T E"], State]:
        """The vectors from which the next token is predicted, after each token, and the state after the last one of each row.

        Padding comes last in a row and does not change the row's state; a row may be all padding.
        """
        ...


@runtime_checkable
class Embeds(Protocol):
    """A model that turns a sentence into one vector."""

    marks_start: ClassVar[bool]
    """Whether its sentences begin with <s>."""

    @property
    def longest(self) -> int | None:
        """Positions of a sentence at most, marks at its ends included; None: any number."""
        ...

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """One vector for each sentence. Rows end in EOS, then PAD."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A model that gives sentences one of several labels."""

    marks_start: bool
    """See `Embeds.marks_start`."""

    def classify(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B logits"]:
        """A score for each label (logits), or for two labels the one score of a sigmoid; rows as for `Embeds.embed`."""
        ...


class Encoded(NamedTuple):
    """The encoder's output for the decoder: one vector per source position, and which positions are real."""

    memory: Float[Tensor, "B S D"]
    keep: Bool[Tensor, "B S"]
    summary: Float[Tensor, "B R"] | None = None
    """The last states of a recurrent encoder, concatenated: all that a decoder without attention gets of the source."""


class Model(nn.Module, ABC):
    """A trainable model: it computes the summed loss of a batch."""

    @abstractmethod
    def loss(self, batch: Any, *, label_smoothing: float = 0.0) -> LossSum:
        """Sum the loss over the real tokens of a batch, of the kind that its task makes; the caller divides by their global count."""

    def places(self) -> tuple[Place, ...]:
        """The place of each Probe of this model, every Probe once; none for a model without Probes."""
        return ()

    def shared_weights(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by their common names (see `common_names`); tied ones under each of their names."""
        found = all_tensors(self)
        return {common: found[name] for name, common in common_names(list(found)).items()}

    def inner_matrices(self) -> list[nn.Parameter]:
        """The matrices that map one space to another, for Muon: not those whose rows are tokens or positions."""
        tables = {id(part.weight) for part in self.modules() if isinstance(part, nn.Embedding | LearnedPositions)}
        named = self.named_parameters()
        return [weight for name, weight in named if weight.ndim == 2 and id(weight) not in tables and name != "output_weight"]

    def lookup_tables(self) -> list[nn.Embedding]:
        """Tables of which a batch reads few rows and that nothing else reads: their gradients need not be written out in full."""
        return []


class CarriedState(State):
    """A state that is also carried from one block of a text to the next, and saved in checkpoints."""

    @abstractmethod
    def detached(self) -> "CarriedState":
        """The same values without gradient to earlier blocks."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save, by name."""

    @abstractmethod
    def filled(self, tensors: Mapping[str, Tensor]) -> "CarriedState":
        """A state of the same shape with saved values."""


class AutoregressiveModel(Model):
    """A model that predicts a text token by token: the translation of a source, or a text without one."""

    config: Any
    """Its configuration; each model has its own class."""
    first: ClassVar[int] = SOS
    """The token before a text."""

    @abstractmethod
    def read_given(self, batch: Batch) -> Float[Tensor, "B T D"]:
        """The last vectors for given texts, every position at once: position t depends on tokens 0 to t, and on the source."""

    @abstractmethod
    def read_out(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits of the next token from the vectors of `read_given`."""

    def finish(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The input of `read_out` from a decoder layer's output at real positions: applies the last norm, where there is one."""
        return values

    def embedding_of(self, side: Side) -> Float[Tensor, "V D"]:
        """The embeddings of a side, one row per token; the same tensor for both where they are shared."""
        return self.get_parameter(f"{side}_embedding.weight")


class LanguageModel(AutoregressiveModel):
    """A model that continues a text: it has no source. A text begins after the end of the one before."""

    first = EOS

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


class TranslationModel(AutoregressiveModel):
    """A model that is decoded one token at a time; search uses only `encode`, `start` and `step`."""

    reads_tokens: ClassVar[bool] = True
    """Whether the memory has one position for each source token, for attention and for views of it."""

    def loss(self, batch: Any, *, label_smoothing: float = 0.0) -> LossSum:
        """See `Model.loss`; of a `batches.Batch`."""
        return self.loss_given(self.encode(batch.source), batch, label_smoothing=label_smoothing)

    @abstractmethod
    def loss_given(self, encoded: Encoded, batch: Any, *, label_smoothing: float = 0.0) -> LossSum:
        """The loss of the targets of a batch whose sources are read already; see `target_loss`."""

    @abstractmethod
    def encode(self, source: Int[Tensor, "B S"]) -> Encoded:
        """Read the source once. Rows end in EOS, then PAD."""

    @abstractmethod
    def decode(self, target: Int[Tensor, "B T"], encoded: Encoded) -> Float[Tensor, "B T D"]:
        """The decoder's vectors for a given target, SOS first; the vector at position t depends on targets 0 to t."""

    def read_given(self, batch: Batch) -> Float[Tensor, "B T D"]:
        """See `AutoregressiveModel.read_given`."""
        return self.decode(batch.target_in, self.encode(batch.source))

    @abstractmethod
    def start(self, encoded: Encoded) -> State:
        """The state before the first target token, one row a sentence."""

    @abstractmethod
    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """Score every possible next token; `last` holds SOS at the first step. Takes over `state`: callers keep only the returned one."""


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; tied ones once, under their first name."""
    return _tensors(model, once=True)


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The same with tied ones under each of their names."""
    return _tensors(model, once=False)


def _tensors(model: nn.Module, *, once: bool) -> dict[str, Tensor]:
    transient = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name in module._non_persistent_buffers_set  # pyright: ignore[reportPrivateUsage]
    }
    buffers = {name: tensor for name, tensor in model.named_buffers(remove_duplicate=once) if name not in transient}
    return {name: parameter.detach() for name, parameter in model.named_parameters(remove_duplicate=once)} | buffers


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
