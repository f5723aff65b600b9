"""An ensemble of models: their probabilities are averaged at every step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.decode.members import require_one_vocabulary
from vitrail.models.base import Continues, Rows, State, Step


@runtime_checkable
class Translating(Continues, Protocol):
    """A model that reads a source; only the model itself uses the contents of its `encode`."""

    def encode(self, source: Int[Tensor, "B S"]) -> Any:
        """Read the source once. Rows end in EOS, then PAD."""
        ...

    def start(self, encoded: Any) -> State:
        """The state before the first target token, one row a sentence."""
        ...


@dataclass(frozen=True)
class EnsembleState(State):
    """One state for each model."""

    members: tuple[State, ...]

    @property
    def size(self) -> Rows:
        """See `State.size`."""
        return self.members[0].size

    @property
    def device(self) -> torch.device:
        """See `State.device`."""
        return self.members[0].device

    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "EnsembleState":
        """See `State.select`."""
        return EnsembleState(tuple(state.select(rows, sentences) for state in self.members))


class Ensemble:
    """Models with one vocabulary, of any architecture: p(token) = (1/M) Σ p_m(token).

    Args:
        digests: the vocabulary's digest for each model. Raises ModelError when they are not all the same.
    """

    def __init__(self, models: Sequence[Translating], *, digests: Sequence[str]) -> None:
        require_one_vocabulary(digests)
        self._models = tuple(models)

    @property
    def members(self) -> tuple[Translating, ...]:
        """The models, in order."""
        return self._models

    def encode(self, source: Int[Tensor, "B S"]) -> tuple[Any, ...]:
        """Read the source with every model."""
        return tuple(model.encode(source) for model in self._models)

    def start(self, encoded: tuple[Any, ...]) -> EnsembleState:
        """The state before the first target token, of every model."""
        return EnsembleState(tuple(model.start(part) for model, part in zip(self._models, encoded, strict=True)))

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """The logarithm of the averaged probabilities, in float32."""
        return self.step_with(last, state, lambda logits: logits)

    def step_with(self, last: Int[Tensor, " N"], state: State, change: Callable[[Tensor], Tensor]) -> Step:
        """The same after a change of each model's logits."""
        assert isinstance(state, EnsembleState)
        steps = [model.step(last, part) for model, part in zip(self._models, state.members, strict=True)]
        log_probs = torch.stack([change(step.logits).float().log_softmax(-1) for step in steps])
        return Step(log_probs.logsumexp(0) - math.log(len(steps)), EnsembleState(tuple(step.state for step in steps)))
