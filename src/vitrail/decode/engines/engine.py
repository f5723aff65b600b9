"""What an engine is: token ids in, n-best lists out.

A `Translator` does text and asks its engine for everything else; so does whatever continues texts with a language model, which has no
sources and puts its texts into `Query.prompt`. `table.py` lists the engines.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.search.beams import Observation
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.models.model_folder import LoadedModel

Observe = Callable[[Observation], None]


def renumbered(observe: Observe, numbers: Sequence[int]) -> Observe:
    """Tell of the first sentences by these numbers, of the others by -1."""
    return lambda seen: observe(seen._replace(sentences=tuple(numbers[at] if 0 <= at < len(numbers) else -1 for at in seen.sentences)))


class Engine(ABC):
    """Holds one model, or several that vote, on a device, and searches with them in batches of its own making."""

    name: ClassVar[str]
    """As users ask for it."""

    @abstractmethod
    def search(
        self, sources: Sequence[TokenIds], queries: Sequence[Query], *, config: SearchConfig, observe: Observe | None = None
    ) -> list[list[Hypothesis]]:
        """The n-best list of each query, in their order, best first; never an empty one.

        Args:
            sources: of each query, the token ids without EOS that the encoder reads; () for a model without a source.
            observe: sees every step; the sentences are numbers of queries, -1 for a row that only fills a batch.
        """

    @classmethod
    @abstractmethod
    def of(cls, loaded: Sequence[LoadedModel], *, device: torch.device, config: BatchConfig) -> "Engine":
        """An engine of these models. Raises ModelError where they cannot vote together."""

    @abstractmethod
    def pack(self, vocabularies: Vocabularies) -> Any:
        """Itself as plain values, for another process. Raises ModelError for what cannot be sent."""

    @classmethod
    @abstractmethod
    def unpack(cls, packed: Any, vocabularies: Vocabularies, *, config: BatchConfig) -> "Engine":
        """The engine that `pack` was asked of."""
