"""The interface of an engine: token ids in, n-best lists out.

A `Translator` handles text and its engine computes the searches. A `Generator` does the same without sources: its texts are in
`Query.prompt`. `table.py` lists the engines.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.models.stored import StoredModel
from vitrail.runtime.machine import Device

if TYPE_CHECKING:
    from vitrail.decode.search.beams import Observation

Observe = Callable[["Observation"], None]


def renumbered(observe: Observe, numbers: Sequence[int]) -> Observe:
    """Report the first sentences under these numbers, the others as -1."""
    return lambda seen: observe(seen._replace(sentences=tuple(numbers[at] if 0 <= at < len(numbers) else -1 for at in seen.sentences)))


class StopSignal:
    """Ends searches that other threads compute: those of an engine that works beside raise Interrupted within a step."""

    def __init__(self) -> None:
        self.flag = np.zeros(1, np.int64)
        """[1] 1 once it is set."""

    def set(self) -> None:
        """Let them end. They do not begin again."""
        self.flag[0] = 1


class Engine(ABC):
    """Searches with one model, or an ensemble, on a device; it makes its own batches."""

    name: ClassVar[str]
    """Its name for users."""
    works_beside: ClassVar[bool] = False
    """Whether it searches in one thread while others work: without Python's lock, and with a model that nobody else looks into."""

    @abstractmethod
    def search(
        self,
        sources: Sequence[TokenIds],
        queries: Sequence[Query],
        *,
        config: SearchConfig,
        observe: Observe | None = None,
        stop: StopSignal | None = None,
    ) -> list[list[Hypothesis]]:
        """The n-best list of each query, in order, best first; never empty.

        Args:
            sources: the token ids of each query without EOS, for the encoder; () for a model without a source.
            observe: called with every step; sentences are numbered as queries, -1 for a row that only fills a batch.
            stop: where it is set, an engine that works beside raises Interrupted.
        """

    why: str = ""
    """Why it was chosen before others, for users."""

    def describe(self, config: SearchConfig, *, constrained: bool = False, lacking: str = "") -> str:
        """What computes a request, and why, in a few words.

        Args: constrained: with a prefix, forbidden or forced words. lacking: what of the request only torch has.
        """
        return f"{self.name} ({self.why})" if self.why else self.name

    def announce(self, config: SearchConfig, *, constrained: bool = False, lacking: str = "", say: Callable[[str], None]) -> None:
        """Say what will compute a request, and do before what takes time at the first one. Args: as of `describe`."""
        say(f"engine: {self.describe(config, constrained=constrained, lacking=lacking)}")

    @abstractmethod
    def on_torch(self, *, lacking: str = "") -> Any:
        """An engine on torch with the same models. Raises UsageError where this one may not leave a request to it.

        Args: lacking: what of the request only torch has; empty for work that is no search.
        """

    @classmethod
    def obstacle(cls, stored: Sequence[StoredModel], *, device: Device) -> str:
        """Why it cannot compute with these models on this device; empty where it can."""
        return ""

    @classmethod
    @abstractmethod
    def of(
        cls, stored: Sequence[StoredModel], *, device: Device, threads: int | None, config: BatchConfig, alone: bool = False
    ) -> "Engine":
        """An engine for these models. Raises ModelError where their tensors do not fit them, or they cannot form an ensemble; UsageError
        for a device that is not there.

        Args:
            threads: processor threads; 0: one for each core; None: as many as there are.
            alone: it was asked for by name, and refuses what another engine would have to do for it.
        """

    @abstractmethod
    def pack(self, vocabularies: Vocabularies) -> Any:
        """This engine as plain values, for another process. Raises ModelError for a model that cannot be sent."""

    @classmethod
    @abstractmethod
    def unpack(cls, packed: Any, vocabularies: Vocabularies, *, config: BatchConfig) -> "Engine":
        """The inverse of `pack`."""
