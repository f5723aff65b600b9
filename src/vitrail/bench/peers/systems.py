"""The systems of `vitrail bench train`: ours, and models of the same kind from other toolkits."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import PAD
from vitrail.runtime.device import Precision

Maker = Literal["vitrail", "torch", "marian", "joeynmt"]
PeerVariant = Literal["as it comes", "fused attention", "explicit attention", "packed sequences", "padded sequences"]
"""Choices of a toolkit that change its speed: torch's attention kernels, or the input of its recurrent kernels."""


LABEL_SMOOTHING = 0.1
"""For every measured system."""


class PeerModel(nn.Module, ABC):
    """A model from another toolkit, as used by a plain training loop."""

    @abstractmethod
    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Scores of every next target token."""

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Nats a real target token, smoothed."""
        return F.cross_entropy(self(batch).flatten(0, 1), batch.target_out.flatten(), ignore_index=PAD, label_smoothing=LABEL_SMOOTHING)


@dataclass(frozen=True)
class System:
    """A system to measure: a model and its settings."""

    maker: Maker
    precision: Precision
    keep_memory: bool
    way: PeerVariant = "as it comes"

    def to_text(self) -> str:
        """The settings of the measurement."""
        memory = "freed memory kept" if self.keep_memory else "memory as by default"
        return memory if self.way == "as it comes" else f"{memory}, {self.way}"


class Peer(NamedTuple):
    """A model of the same kind as ours from another toolkit."""

    maker: Maker
    title: str
    ways: tuple[PeerVariant, ...]
    make: Callable[[int, PeerVariant], PeerModel]
    """Builds the model. Args: size of the vocabulary, and one of its variants."""
    packages: tuple[str, ...] = ()
    """Packages that it needs."""
    remedy: str = ""
    lacks: str = ""
    """Why it has no such model; empty if it has one."""

    def obstacle(self) -> str:
        """Why it cannot be measured here; empty where it can."""
        if self.lacks:
            return self.lacks
        return "" if all(map(is_installed, self.packages)) else f"not installed: {self.remedy}"


def is_installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    return importlib.util.find_spec(package) is not None
