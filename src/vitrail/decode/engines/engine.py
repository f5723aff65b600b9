"""The interface of an engine: token ids in, n-best lists out.

A `Translator` handles text and its engine computes the searches. A `Generator` does the same without sources: its texts are in
`Query.prompt`. `table.py` lists the engines.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.errors import Interrupted, ModelError, UsageError
from vitrail.models.stored import StoredModel
from vitrail.runtime.machine import Device

if TYPE_CHECKING:
    from vitrail.decode.search.beams import Observation

Observe = Callable[["Observation"], None]
Head = tuple[int, int]
"""Layer and head, both from 0."""
Weights = npt.NDArray[np.float32]

MOST_ALIGNED = 1024
"""Most tokens of a side whose attention is asked for, <eos> not counted: with 6 layers of 8 heads their weights alone take 200 MB."""


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

    def check(self) -> None:
        """Raise Interrupted where it is set."""
        if self.flag[0]:
            raise Interrupted("stopped before the search was done")


def require_alignable(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> None:
    """Raise UsageError for a text of more than `MOST_ALIGNED` tokens."""
    longest = max(map(len, (*sources, *targets)), default=0)
    if longest > MOST_ALIGNED:
        raise UsageError(f"a text of {longest} tokens", expected=f"at most {MOST_ALIGNED}", remedy="align one sentence at a time")


def without_attention() -> UsageError:
    """What a model without attention to its source raises."""
    return UsageError("a model without attention to its source", expected="one with it", remedy="model.attention, when it is trained")


def several_models() -> ModelError:
    """What an ensemble raises where a model's attention is asked for."""
    return ModelError("an ensemble has no attention of its own", remedy="load one of its models by itself")


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

    def begin(
        self, sources: Sequence[TokenIds], queries: Sequence[Query], *, config: SearchConfig, stop: StopSignal
    ) -> Callable[[], list[list[Hypothesis]]]:
        """Begin what `search` does; what is returned waits for it, and raises what it raises.

        An engine that works beside computes meanwhile, one search after the other in the order in which they were begun; any other one when
        it is waited for.
        """
        return lambda: self.search(sources, queries, config=config, stop=stop)

    @abstractmethod
    def steps(self, query: Query, *, config: SearchConfig) -> Generator[int | None, None, list[Hypothesis]]:
        """The search of one continuation, step by step; it returns what `search` finds.

        At each step it tells the token that the first beam, or the first sample, goes on with; None where it does not. Other searches may
        be made between its steps. Precondition: no constraints, and a model without a source.
        """

    @abstractmethod
    def attention_heads(self) -> list[Head]:
        """All heads that attend to the source. Raises UsageError where there are none, ModelError for an ensemble."""

    @abstractmethod
    def cross_attention(self, sources: Sequence[TokenIds], targets: Sequence[TokenIds], *, heads: Sequence[Head]) -> list[Weights]:
        """What these heads attend to while given translations are read: for each pair (heads T S), <eos> being the last row and column.

        Row t is from where token t is predicted: the decoder has read <sos> and the tokens before t.

        Args:   sources, targets: token ids without SOS and EOS. heads: those of `attention_heads` that are wanted.
        Raises: as `attention_heads`; UsageError for a side of more than `MOST_ALIGNED` tokens.
        """

    why: str = ""
    """Why it was chosen before others, for users."""

    def describe(self, config: SearchConfig, *, constrained: bool = False) -> str:
        """What computes a request, and why, in a few words. Args: constrained: with a prefix, forbidden or forced words."""
        return f"{self.name} ({self.why})" if self.why else self.name

    def announce(self, config: SearchConfig, *, constrained: bool = False, say: Callable[[str], None]) -> None:
        """Say what will compute a request, and do before what takes time at the first one. Args: as of `describe`."""
        say(f"engine: {self.describe(config, constrained=constrained)}")

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
