"""What is particular to what a run trains. The run itself keeps folder, resume and averaging, and names no task."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from vitrail.data.preparing.prepared import PreparedData
from vitrail.models.base import Model
from vitrail.train.resume.carry import Carried
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.validate import Validation, Watch


class BatchSource(Protocol):
    """Batches by number: any of them at any time, a pure function of text, settings, seed and number."""

    sizes: list[int]

    def epoch_length(self, epoch: int) -> int:
        """How many batches an epoch has."""
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

    Args: prepared: its data. device: where its models are scored.
    """

    scores: ClassVar[Mapping[str, str]]
    """The dev scores by which the best model can be chosen (`train.select`), each with what people call it."""
    preferred: ClassVar[str]
    """Which of them is chosen by unless somebody said."""
    noise: ClassVar[Mapping[str, float]]
    """Up to this dev score, what a model writes says nothing of it; see `Progress.is_better`."""
    films: ClassVar[bool] = False
    """Whether there is a film of the training; see `watched`."""
    prepared: PreparedData
    batches: BatchSource

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device

    @property
    @abstractmethod
    def has_dev(self) -> bool:
        """Whether there is a dev set."""

    @abstractmethod
    def build(self) -> Model:
        """A freshly initialised model, where it is to be."""

    def carried(self, model: Model) -> Carried | None:
        """What holds the states that are carried from batch to batch; None where batches stand for themselves."""
        return None

    @abstractmethod
    def validate(self, model: Model) -> Validation:
        """Score a model on the dev set. It is in evaluation mode afterwards."""

    @abstractmethod
    def introduce(self) -> tuple[str, Sequence[str]]:
        """How much there is to train on, such as "29,000 pairs"; and notes on the dev set."""

    @abstractmethod
    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """A batch as ids and as text, for people who look for what broke a step."""

    def watched(self, watch: Watch, step: int, model: Model) -> Mapping[str, Any] | None:
        """What is kept of a validated model, for the film of the training; None for kinds that have none."""
        return None

    def score_of(self, values: Mapping[str, float], select: str) -> float:
        """The dev score by which the best model is chosen, higher being better."""
        return -values["dev_loss_nats_per_token"] if select == "loss" else values[f"dev_{select}"]
