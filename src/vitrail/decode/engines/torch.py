"""Searches computed by torch: batches of similar length, a model's `encode` and `start`, then `beam_search` over its `step`."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD, Vocabularies
from vitrail.decode.engines.engine import Engine, Observe, StopSignal, renumbered
from vitrail.decode.engines.sending import pack_models, unpack_models
from vitrail.decode.search.beams import Observation, beam_search, read_prompts, search_steps
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.ensemble import Ensemble, Translating
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.models.base import Continues, Reads, State
from vitrail.models.model_folder import build_stored
from vitrail.models.stored import StoredModel
from vitrail.runtime.device import choose_device, fewest_rows, set_threads, survive_forks
from vitrail.runtime.machine import Device

_BATCH_ROWS = 1024
"""Most hypotheses decoded in parallel, unless one sentence has more."""


class Generating(Continues, Protocol):
    """A model without a source: a language model."""

    def start(self, rows: int) -> State:
        """The state before the first token of each row."""
        ...


class TorchEngine(Engine):
    """Searches with a model of torch.

    Args:
        model: any translation model or `Ensemble`, or a language model, in evaluation mode and on `device`.
    """

    name = "torch"

    def __init__(self, model: Translating | Generating, *, device: torch.device | None = None, config: BatchConfig | None = None) -> None:
        self.model = model
        self.device = torch.device("cpu") if device is None else device
        self._config = BatchConfig() if config is None else config
        survive_forks()

    @classmethod
    def of(
        cls, stored: Sequence[StoredModel], *, device: Device, threads: int | None, config: BatchConfig, alone: bool = False
    ) -> "TorchEngine":
        """See `Engine.of`; the threads are those of the whole process."""
        if threads is not None:
            set_threads(threads)
        place, digests = choose_device(device), [one.vocabularies.digest for one in stored]
        models: list[Any] = [build_stored(one, device=place) for one in stored]
        return cls(models[0] if len(models) == 1 else Ensemble(models, digests=digests), device=place, config=config)

    def on_torch(self, *, lacking: str = "") -> "TorchEngine":
        """See `Engine.on_torch`."""
        return self

    def pack(self, vocabularies: Vocabularies) -> tuple[Any, ...]:
        """See `Engine.pack`."""
        return tuple(pack_models(self.model, vocabularies)), self.device.type

    @classmethod
    def unpack(cls, packed: tuple[Any, ...], vocabularies: Vocabularies, *, config: BatchConfig) -> "TorchEngine":
        """See `Engine.unpack`; on the same kind of device as before."""
        models, kind = packed
        device = torch.device(kind)
        return cls(unpack_models(models, vocabularies, device), device=device, config=config)

    def search(
        self,
        sources: Sequence[TokenIds],
        queries: Sequence[Query],
        *,
        config: SearchConfig,
        observe: Observe | None = None,
        stop: StopSignal | None = None,
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`."""
        found: list[list[Hypothesis]] = [[] for _ in queries]
        prompts = [len(query.prompt) for query in queries]
        lengths = [max(len(source), prompt - 1) for source, prompt in zip(sources, prompts, strict=True)]
        # A model that reads token by token reads prompts of one length only; and padding may change the last bit of a number.
        apart = prompts if self._config.exact or not isinstance(self.model, Reads) else None
        for batch in make_batches(lengths, config=self._config, width=config.width, apart=apart):
            watch = None if observe is None else renumbered(observe, batch)
            chosen = [sources[number] for number in batch], [queries[number] for number in batch]
            for number, items in zip(batch, self._search_batch(*chosen, config, watch), strict=True):
                found[number] = items
        return found

    @torch.inference_mode()
    def _search_batch(
        self, sources: list[TokenIds], queries: list[Query], config: SearchConfig, observe: Observe | None
    ) -> list[list[Hypothesis]]:
        state, asked, min_rows = self._begin(sources, queries, config)
        found = beam_search(self.model.step, state, asked, config=config, observe=observe, min_rows=min_rows, device=self.device)
        return found[: len(sources)]

    def steps(self, query: Query, *, config: SearchConfig) -> Generator[Observation, None, list[Hypothesis]]:
        """The search of one continuation, step by step; it finds what `search` finds.

        Precondition: no constraints, and a model without a source.
        """
        with torch.inference_mode():
            state, asked, min_rows = self._begin([()], [query], config)
        steps = search_steps(self.model.step, state, asked, config=config, min_rows=min_rows, device=self.device)
        while True:
            with torch.inference_mode():  # not while others compute
                try:
                    seen = next(steps)
                except StopIteration as end:
                    return end.value[0]
            yield seen

    def _begin(self, sources: list[TokenIds], queries: list[Query], config: SearchConfig) -> tuple[State, list[Query], int]:
        """The state after the prompts, the queries with some to fill the batch, and the fewest rows of a batch."""
        min_rows = fewest_rows(torch.get_num_threads()) if self._config.exact else 1
        # The decoder has a row for each beam (one while it reads prompts), the encoder one for each token and the end.
        width = config.width if len(queries[0].prompt) == 1 else 1
        missing = -(-min_rows // min(width, len(sources[0]) + 1)) - len(sources)
        padded, asked = sources + sources[:1] * missing, queries + queries[:1] * missing
        return read_prompts(self.model, self._start(padded), asked, device=self.device), asked, min_rows

    def _start(self, sources: Sequence[TokenIds]) -> State:
        if isinstance(self.model, Translating):
            return self.model.start(self.model.encode(_stack(sources).to(self.device)))
        return self.model.start(len(sources))


def _stack(rows: Sequence[Sequence[int]]) -> Int[Tensor, "B S"]:
    source = torch.full((len(rows), max(map(len, rows)) + 1), PAD)
    for place, row in enumerate(rows):
        source[place, : len(row) + 1] = torch.tensor([*row, EOS])
    return source


def make_batches(lengths: Sequence[int], *, config: BatchConfig, width: int = 1, apart: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Group rows into batches, longest first; in exact mode only those of equal length share one.

    Args: width: hypotheses of each row. apart: rows with different values share no batch.
    """
    batch: list[int] = []
    most = min(config.batch_sentences, max(1, _BATCH_ROWS // width))
    kinds = [0] * len(lengths) if apart is None else apart
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], kinds[number])):
        if batch:
            longest = lengths[batch[0]] + 1
            full = len(batch) >= most or (len(batch) + 1) * longest > config.batch_tokens
            unlike = kinds[number] != kinds[batch[0]] or (config.exact and lengths[number] != lengths[batch[0]])
            if full or unlike:
                yield batch
                batch = []
        batch.append(number)
    if batch:
        yield batch
