"""Shortlists on torch: a model's logits outside a sentence's list become -inf. It saves no time; compiled code is compared with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.ensemble import Ensemble, EnsembleState
from vitrail.decode.search.query import Query, allowed_tokens
from vitrail.models.base import Continues, Rows, State, Step


@dataclass(frozen=True)
class ListedState(State):
    """A model's state, and the tokens that each row may have: [N, L], those of shorter lists filled up with the end."""

    inner: State
    allowed: Int[Tensor, "N L"]

    @property
    def size(self) -> Rows:
        """See `State.size`."""
        return self.inner.size

    @property
    def device(self) -> torch.device:
        """See `State.device`."""
        return self.inner.device

    def select(self, rows: Int[Tensor, " N"], sentences: Int[Tensor, " B"] | None = None) -> "ListedState":
        """See `State.select`."""
        return ListedState(self.inner.select(rows, sentences), self.allowed[rows])


@dataclass(frozen=True)
class Listed:
    """A model that reads on from a `ListedState`."""

    model: Continues

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """See `Continues.step`. What is not in a row's list has the logit -inf."""
        assert isinstance(state, ListedState)
        logits, inner = self.model.step(last, state.inner)
        kept = torch.full_like(logits, -torch.inf).scatter_(1, state.allowed, logits.gather(1, state.allowed))
        return Step(kept, ListedState(inner, state.allowed))


def listed_model(model: Continues, queries: Sequence[Query]) -> Continues:
    """The model for these queries; of an ensemble, each model's probabilities are shares among the listed tokens."""
    if all(query.shortlist is None for query in queries):
        return model
    if isinstance(model, Ensemble):
        return Ensemble([Listed(one) for one in model.members], digests=[""] * len(model.members))  # pyright: ignore[reportArgumentType]  only steps
    return Listed(model)


def listed_state(state: State, queries: Sequence[Query]) -> State:
    """The state with the lists of these queries, one of each row; as it is where there are none."""
    lists = [torch.from_numpy(np.concatenate(one)) for one in allowed_tokens(queries)]
    if not lists:
        return state
    tokens = torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=EOS).to(state.device)
    if isinstance(state, EnsembleState):
        return EnsembleState(tuple(ListedState(one, tokens) for one in state.members))
    return ListedState(state, tokens)
