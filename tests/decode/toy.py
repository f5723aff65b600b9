"""A small model with real recurrent state, and searches over it in plain Python, one token at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig
from vitrail.models.base import Rows, State, Step


@dataclass(frozen=True)
class ToyState(State):
    """Recurrent state, sentence-major; it checks that callers keep the promises of `State`."""

    hidden: Tensor
    sentences: int

    @property
    def size(self) -> Rows:
        return Rows(self.sentences, len(self.hidden))

    @property
    def device(self) -> torch.device:
        return self.hidden.device

    def select(self, rows: Tensor, sentences: Tensor | None = None) -> "ToyState":
        beams = len(self.hidden) // self.sentences
        after = torch.arange(self.sentences) if sentences is None else sentences
        assert torch.equal(rows // beams, after.repeat_interleave(len(rows) // len(after))), "a row crossed into another sentence"
        return ToyState(self.hidden[rows], len(after))


class ToyModel:
    """A random recurrent network in float64: its logits depend on the sentence and on every token before."""

    def __init__(self, vocabulary: int, *, seed: int = 0, sharpness: float = 2.0, end_bias: float = 0.0, width: int = 8) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.vocabulary = vocabulary
        self.embedding = torch.randn(vocabulary, width, generator=draw, dtype=torch.float64)
        self.turn = torch.randn(width, width, generator=draw, dtype=torch.float64)
        self.readout = torch.randn(width, vocabulary, generator=draw, dtype=torch.float64) * sharpness
        self.readout_bias = torch.zeros(vocabulary, dtype=torch.float64)
        self.readout_bias[EOS] = end_bias
        self.rows_seen: list[int] = []

    def encode(self, source: Tensor) -> Tensor:
        weights = (source != PAD).double() * (1 + torch.arange(source.shape[1]) / 7)
        return (self.embedding[source % self.vocabulary] * weights[:, :, None]).sum(1).sin()

    def start(self, encoded: Tensor) -> ToyState:
        return ToyState(encoded, len(encoded))

    def step(self, last: Tensor, state: ToyState) -> Step:
        self.rows_seen.append(len(last))
        # One row at a time, so that no number can depend on how many rows there are.
        hidden = torch.stack([torch.tanh(row @ self.turn + self.embedding[token]) for row, token in zip(state.hidden, last, strict=True)])
        logits = torch.stack([row @ self.readout + self.readout_bias for row in hidden])
        return Step(logits.float(), replace(state, hidden=hidden))

    def sentences(self, count: int) -> ToyState:
        draw = torch.Generator().manual_seed(count)
        states = [torch.randn(len(self.turn), generator=draw, dtype=torch.float64) for _ in range(count)]
        return ToyState(torch.stack(states), count)

    def log_probs(self, start: Tensor, prefix: Sequence[int]) -> list[float]:
        """log p(token | sentence, prefix) for every token."""
        state = ToyState(start[None], 1)
        for token in (SOS, *prefix):
            logits, state = self.step(torch.tensor([token]), state)
        return logits[0].double().log_softmax(-1).tolist()


def query(config: SearchConfig, source: int = 5, **asked: Any) -> Query:
    """A query with the limits of length for a source of so many tokens."""
    return Query(**config.lengths(source)._asdict(), **asked)


class Scored(NamedTuple):
    tokens: tuple[int, ...]
    score: float
    truncated: bool


NEVER = (PAD, SOS, UNK)


def penalised(log_probability: float, length: int, alpha: float) -> float:
    return log_probability / math.pow((5 + length) / 6, alpha)


def every_translation(model: ToyModel, start: Tensor, *, cap: int, alpha: float) -> list[Scored]:
    """All complete translations of at most `cap` tokens with their scores, best first."""
    found: list[Scored] = []

    def grow(prefix: tuple[int, ...], total: float) -> None:
        for token, value in enumerate(model.log_probs(start, prefix)):
            if token == EOS:
                found.append(Scored(prefix, penalised(total + value, len(prefix) + 1, alpha), False))
            elif token not in NEVER and len(prefix) + 1 < cap:
                grow((*prefix, token), total + value)

    grow((), 0.0)
    return sorted(found, key=lambda item: -item.score)


def plain_beam_search(model: ToyModel, start: Tensor, *, beams: int, cap: int, alpha: float) -> list[Scored]:
    """Beam search as one would explain it at a blackboard: lists, loops, no early stop but the K finished ones."""
    alive: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    finished: list[Scored] = []
    for length in range(1, cap + 1):
        options = [
            (total + value, prefix, token)
            for prefix, total in alive
            for token, value in enumerate(model.log_probs(start, prefix))
            if token not in NEVER
        ]
        options.sort(key=lambda option: -option[0])
        alive = []
        for rank, (total, prefix, token) in enumerate(options):
            if token == EOS and rank < beams and len(finished) < beams:
                finished.append(Scored(prefix, penalised(total, length, alpha), False))
            elif token != EOS and len(alive) < beams:
                alive.append(((*prefix, token), total))
        if len(finished) == beams or not alive:
            break
    else:
        finished += [Scored(prefix, penalised(total, cap, alpha), True) for prefix, total in alive]
    return sorted(finished, key=lambda item: (item.truncated, -item.score))
