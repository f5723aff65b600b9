"""The interface of an engine: token ids in, n-best lists out.

A `Translator` handles text and its engine computes the searches. A `Generator` does the same without sources: its texts are in
`Query.prompt`. `table.py` lists the engines.
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
    """Report the first sentences under these numbers, the others as -1."""
    return lambda seen: observe(seen._replace(sentences=tuple(numbers[at] if 0 <= at < len(numbers) else -1 for at in seen.sentences)))


class Engine(ABC):
    """Searches with one model, or an ensemble, on a device; it makes its own batches."""

    name: ClassVar[str]
    """Its name for users."""

    @abstractmethod
    def search(
        self, sources: Sequence[TokenIds], queries: Sequence[Query], *, config: SearchConfig, observe: Observe | None = None
    ) -> list[list[Hypothesis]]:
        """The n-best list of each query, in order, best first; never empty.

        Args:
            sources: the token ids of each query without EOS, for the encoder; () for a model without a source.
            observe: called with every step; sentences are numbered as queries, -1 for a row that only fills a batch.
        """

    @classmethod
    @abstractmethod
    def of(cls, loaded: Sequence[LoadedModel], *, device: torch.device, config: BatchConfig) -> "Engine":
        """An engine for these models. Raises ModelError where they cannot form an ensemble."""

    @abstractmethod
    def pack(self, vocabularies: Vocabularies) -> Any:
        """This engine as plain values, for another process. Raises ModelError for a model that cannot be sent."""

    @classmethod
    @abstractmethod
    def unpack(cls, packed: Any, vocabularies: Vocabularies, *, config: BatchConfig) -> "Engine":
        """The inverse of `pack`."""
