"""Shortlists on torch: a model's logits outside a sentence's list become -inf. It saves no time; compiled code is compared with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.ensemble import Ensemble
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
    """A model, or an ensemble, that goes on from a `ListedState`."""

    model: Continues

    def step(self, last: Int[Tensor, " N"], state: State) -> Step:
        """See `Continues.step`. What is not in a row's list has the logit -inf; of an ensemble, in each model."""
        assert isinstance(state, ListedState)
        allowed = state.allowed

        def among(logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
            return torch.full_like(logits, -torch.inf).scatter_(1, allowed, logits.gather(1, allowed))

        if isinstance(self.model, Ensemble):
            logits, inner = self.model.step_with(last, state.inner, among)
        else:
            logits, inner = self.model.step(last, state.inner)
        return Step(among(logits), ListedState(inner, allowed))


def listed_state(state: State, queries: Sequence[Query]) -> State:
    """The state with the lists of these queries, one of each row; as it is where there are none."""
    lists = [torch.from_numpy(np.concatenate(one)) for one in allowed_tokens(queries)]
    if not lists:
        return state
    return ListedState(state, torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=EOS).to(state.device))
