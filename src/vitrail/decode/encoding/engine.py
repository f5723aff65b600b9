"""The interface of what computes vectors and scores of texts: token ids in, arrays out. `table` chooses one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.models.stored import StoredModel
from vitrail.runtime.machine import Device

Rows = Sequence[Sequence[int]]
Array = npt.NDArray[np.float32]
"""Of two dimensions: a row for each text or token."""
Purpose = Literal["vectors", "labels", "guesses"]
"""What texts are read for."""
Precision = Literal["int8", "bf16", "fp32"]


class How(NamedTuple):
    """How texts are to be read."""

    purpose: Purpose
    device: Device
    threads: int | None
    """Processor threads; 0: one for each core; None: as many as there are."""
    precision: Precision = "fp32"
    """Of the native engine's matrices."""


class EncoderEngine(ABC):
    """Reads texts with one model. What it finds of a text never depends on the others of a call."""

    name: ClassVar[str]
    """Its name for users."""
    why: str = ""
    """Why it was chosen before others, for users."""
    marks_start: bool
    """Whether its texts begin with <s>."""
    longest: int | None
    """Positions of a text at most, marks at its ends included; None: any number."""
    config: Any
    """The model's."""

    @property
    @abstractmethod
    def model(self) -> Any:
        """The same model on torch."""

    @abstractmethod
    def vectors(self, rows: Rows) -> Array:
        """One vector for each text. Args: rows: ids without SOS and EOS, as in the other methods."""

    @abstractmethod
    def scores(self, rows: Rows) -> Array:
        """The scores of each text by a classifier, before sigmoid or softmax; two labels may have one score alone."""

    @abstractmethod
    def probabilities(self, scores: Array) -> Array:
        """The probability of each label, from `scores`."""

    @abstractmethod
    def guesses(self, row: Sequence[int], places: Sequence[int]) -> Array:
        """The probability of each token but the mask, at some places of a text, by a masked language model."""

    def describe(self) -> str:
        """What computes, and why, in a few words."""
        return f"{self.name} ({self.why})" if self.why else self.name

    def announce(self, say: Callable[[str], None]) -> None:
        """Say what computes, and do before what takes time at the first request."""
        say(f"engine: {self.describe()}")

    @classmethod
    def obstacle(cls, stored: StoredModel, how: How) -> str:
        """Why it cannot compute with this model; empty where it can."""
        return ""

    @classmethod
    @abstractmethod
    def of(cls, stored: StoredModel, how: How) -> "EncoderEngine":
        """An engine for a model. Raises ModelError where its tensors do not fit its configuration; UsageError for an absent device."""
