"""The interface of tasks. A run handles folder, resume and averaging for every task."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from vitrail.data.preparing.prepared import PreparedData
from vitrail.models.base import Model
from vitrail.train.resume.carry import Carried
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.validate import DevSet, Validation

LONGEST_PROBE = 256
"""Tokens of a sentence of `train.probes` at most, whatever the model reads: the film grows with it."""


class BatchSource(Protocol):
    """Batches by number, in any order: a pure function of text, settings, seed and number."""

    sizes: list[int]

    def epoch_length(self, epoch: int) -> int:
        """The number of batches of an epoch."""
        ...

    def locate(self, number: int) -> tuple[int, int]:
        """The epoch and the position in it of a batch."""
        ...

    def at(self, epoch: int, position: int) -> tuple[Tensor, ...]:
        """The batch at a position of an epoch: a named tuple of tensors."""
        ...

    def longest(self) -> tuple[Tensor, ...]:
        """The largest batch."""
        ...

    def sequence(self, first: int, *, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, ...]]:
        """Batches from number `first` on, without end: those whose number is `rank` modulo `world`."""
        ...


class Task(ABC):
    """A kind of training: its data, its model, its batches, its scores.

    Args: prepared: its data. device: for scoring its models.
    """

    scores: ClassVar[Mapping[str, str]]
    """The dev scores for choosing the best model (`train.select`), each with its usual name."""
    preferred: ClassVar[str]
    """The default of them."""
    preferred_reason: ClassVar[str] = ""
    """Why it is, where there are several."""
    noise: ClassVar[Mapping[str, float]]
    """Dev scores up to this one are noise; see `Progress.is_better`."""
    unit: ClassVar[str] = "tokens"
    """What a loss is the mean over, and what is counted as tokens."""
    probe_reference: ClassVar[str] = ""
    """What stands beside a sentence of `train.probes`, after a tab; empty: nothing."""
    needs_reference: ClassVar[bool] = True
    """Whether it must."""
    prepared: PreparedData
    batches: BatchSource

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device

    @property
    @abstractmethod
    def dev(self) -> DevSet:
        """The dev set: what is read, and what is right for it, which for a text is the text itself."""

    @property
    def has_dev(self) -> bool:
        """Whether there is a dev set."""
        return bool(self.dev.source)

    @property
    def longest_probe(self) -> int:
        """Tokens of a sentence of `train.probes` at most."""
        return LONGEST_PROBE

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the model's folder says of its training text."""
        return self.prepared.facts

    @abstractmethod
    def build(self) -> Model:
        """A freshly initialised model, on the device."""

    def carried(self, model: Model) -> Carried | None:
        """The states carried from batch to batch; None where batches are independent."""
        return None

    @abstractmethod
    def validate(self, model: Model) -> Validation:
        """Score a model on the dev set. It is in evaluation mode afterwards."""

    @abstractmethod
    def introduce(self) -> tuple[str, Sequence[str]]:
        """The amount of training data, such as "29,000 pairs"; and notes on the dev set."""

    @abstractmethod
    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """A batch as ids and as text, to find the cause of a skipped step."""

    def score_of(self, values: Mapping[str, float], select: str) -> float:
        """The dev score for choosing the best model, higher is better."""
        return -values["dev_loss_nats_per_token"] if select == "loss" else values[f"dev_{select}"]
