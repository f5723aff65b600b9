"""Searches computed by compiled code (`vitrail.native.transformer`), with a Transformer on the processor; torch does what it cannot do."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from vitrail.data.vocabularies.subwords import EOS, SOS, Vocabularies
from vitrail.decode.engines.engine import Engine, Observe
from vitrail.decode.engines.native_groups import Job, NativeModel, compiled_search, search_all
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.architectures import require_fitting
from vitrail.models.stored import StoredModel, TensorKind
from vitrail.native.compiled import compiling, has_numba
from vitrail.native.transformer.architecture import Architecture, obstacle, tensor_shapes
from vitrail.runtime.cores import usual_threads
from vitrail.runtime.machine import Device, has_gpu


class NativeEngine(Engine):
    """Searches with one Transformer in compiled code.

    A sentence's tokens and scores do not depend on the others of a call, on their order or on the number of threads.
    torch is imported at the first request that this engine does not serve.

    Args:
        threads: processor threads; None or 0: see `usual_threads`. A process that is forked from this one has one thread.
        alone: requests that it does not serve are errors.
    """

    name = "native"

    def __init__(self, stored: StoredModel, *, threads: int | None, config: BatchConfig, alone: bool) -> None:
        self._stored, self._config, self._alone = stored, config, alone
        self._threads, self._process = threads, os.getpid()
        self._model = NativeModel.of(Architecture.of(stored.config.model_dump()), stored.tensors, precision=config.precision)

    @classmethod
    def obstacle(cls, stored: Sequence[StoredModel], *, device: Device) -> str:
        """See `Engine.obstacle`."""
        if reason := unavailable(device):
            return reason
        if len(stored) > 1:
            return "it has no ensembles"
        return obstacle(stored[0].config.model_dump())

    @classmethod
    def of(
        cls, stored: Sequence[StoredModel], *, device: Device, threads: int | None, config: BatchConfig, alone: bool = False
    ) -> "NativeEngine":
        """See `Engine.of`. Precondition: no obstacle."""
        (one,) = stored
        require_fitting(one.config, one.vocabularies)
        sizes = {"source": one.vocabularies.source.size, "target": one.vocabularies.target.size}
        one.require({name: TensorKind(shape) for name, shape in tensor_shapes(one.config.model_dump(), **sizes).items()})
        return cls(one, threads=threads, config=config, alone=alone)

    @cached_property
    def _behind(self) -> Engine:
        """The same model on torch, for requests that this engine does not serve."""
        from vitrail.decode.engines.torch import TorchEngine

        return TorchEngine.of([self._stored], device="cpu", threads=self._threads, config=self._config)

    def pack(self, vocabularies: Vocabularies) -> tuple[Any, ...]:
        """See `Engine.pack`."""
        return self._stored.pack(), self._alone

    @classmethod
    def unpack(cls, packed: tuple[Any, ...], vocabularies: Vocabularies, *, config: BatchConfig) -> "NativeEngine":
        """See `Engine.unpack`."""
        model, alone = packed
        return cls(StoredModel.unpack(model, vocabularies), threads=None, config=config, alone=alone)

    def describe(self, config: SearchConfig, *, constrained: bool = False) -> str:
        """See `Engine.describe`."""
        reason = _unserved(config, constrained=constrained)
        return f"torch (native has no {reason})" if reason and not self._alone else f"native ({self._config.precision})"

    def announce(self, config: SearchConfig, *, constrained: bool = False, say: Callable[[str], None]) -> None:
        """See `Engine.announce`. Compiles, or reads what was compiled before."""
        if not _unserved(config, constrained=constrained):
            with compiling("the engine (about 20 seconds)", say, program="transformer", after=4):
                compiled_search()
        super().announce(config, constrained=constrained, say=say)

    def search(
        self, sources: Sequence[TokenIds], queries: Sequence[Query], *, config: SearchConfig, observe: Observe | None = None
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`. Raises UsageError for what it does not serve, where it is alone, and beyond learned positions."""
        reason = _unserved(config, constrained=any(query.constraints.is_active for query in queries))
        if observe is not None:
            reason = "observation of its steps"
        elif any(query.prompt != (SOS,) or query.stop is not None for query in queries):
            reason = "prompts"
        if reason and self._alone:
            raise UsageError(f"engine native has no {reason}", remedy="engine auto or torch")
        if reason:
            return self._behind.search(sources, queries, config=config, observe=observe)
        self._model.check(sources)
        jobs = [Job(number, (*source, EOS), query) for number, (source, query) in enumerate(zip(sources, queries, strict=True))]
        found = search_all(self._model, jobs, config, threads=self._threads_now())
        return [found[number] for number in range(len(jobs))]

    def _threads_now(self) -> int:
        return 1 if os.getpid() != self._process else self._threads or usual_threads()


def unavailable(device: Device) -> str:
    """Why compiled code cannot compute here; empty where it can."""
    if not has_numba():
        return "numba is not installed: pip install 'vitrail[fast]'"
    return "it computes on the processor alone" if device == "cuda" or (device == "auto" and has_gpu()) else ""


def _unserved(config: SearchConfig, *, constrained: bool) -> str:
    """What of a request the engine does not have; empty where it serves it."""
    if config.sampling is not None:
        return "sampling"
    return "prefixes, forbidden or forced words" if constrained else ""
