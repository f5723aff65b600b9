"""Searches computed by compiled code (`vitrail.native`) on the processor; torch does what it cannot do."""

from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vitrail.data.vocabularies.subwords import EOS, Vocabularies
from vitrail.decode.engines.engine import (
    Engine,
    Head,
    Observe,
    StopSignal,
    Weights,
    require_alignable,
    several_models,
    without_attention,
)
from vitrail.decode.engines.native_given import read_given
from vitrail.decode.engines.native_groups import begin_search, search_all, search_steps
from vitrail.decode.engines.native_models import NATIVE_MODELS, native_obstacle
from vitrail.decode.engines.native_requests import Job
from vitrail.decode.engines.pool import Pool
from vitrail.decode.members import require_one_vocabulary
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.architectures import require_fitting
from vitrail.models.stored import StoredModel, TensorKind
from vitrail.native.compiled import compiling, has_numba
from vitrail.runtime.machine import Device, has_gpu

if TYPE_CHECKING:
    from vitrail.decode.engines.torch import TorchEngine


class NativeEngine(Engine):
    """Searches with a model, or an ensemble of several, in compiled code: translators or language models.

    A sentence's tokens and scores do not depend on the others of a call, on their order or on the number of threads.
    torch is imported at the first request that this engine does not serve.

    Args:
        threads: processor threads; None or 0: see `usual_threads`. A process that is forked from this one has one thread.
        alone: requests that it does not serve are errors.
    """

    name = "native"
    works_beside = True

    def __init__(self, stored: Sequence[StoredModel], *, threads: int | None, config: BatchConfig, alone: bool) -> None:
        self._stored, self._config, self._alone = stored, config, alone
        self._asked, self._pool = threads, Pool(threads)
        self._models = [
            NATIVE_MODELS[one.config.kind].of(one.config.model_dump(), one.tensors, precision=config.precision) for one in stored
        ]

    @classmethod
    def obstacle(cls, stored: Sequence[StoredModel], *, device: Device) -> str:
        """See `Engine.obstacle`."""
        if reason := unavailable(device):
            return reason
        if reason := next(filter(None, (native_obstacle(one.config.model_dump()) for one in stored)), ""):
            return reason
        return next(filter(None, (NATIVE_MODELS[one.config.kind].search_obstacle() for one in stored)), "")

    @classmethod
    def of(
        cls, stored: Sequence[StoredModel], *, device: Device, threads: int | None, config: BatchConfig, alone: bool = False
    ) -> "NativeEngine":
        """See `Engine.of`. Precondition: no obstacle."""
        for one in stored:
            require_fitting(one.config, one.vocabularies)
            sizes = {"source": one.vocabularies.source.size, "target": one.vocabularies.target.size}
            wanted = NATIVE_MODELS[one.config.kind].tensor_shapes(one.config.model_dump(), **sizes)
            one.require({name: TensorKind(shape) for name, shape in wanted.items()})
        require_one_vocabulary([one.vocabularies.digest for one in stored])
        return cls(stored, threads=threads, config=config, alone=alone)

    def on_torch(self, *, lacking: str = "") -> "TorchEngine":
        """See `Engine.on_torch`."""
        if lacking and self._alone:
            raise UsageError(f"engine native has no {lacking}", remedy="engine auto or torch")
        return self._behind

    @cached_property
    def _behind(self) -> "TorchEngine":
        """The same models on torch, for requests that this engine does not serve."""
        from vitrail.decode.engines.torch import TorchEngine

        return TorchEngine.of(self._stored, device="cpu", threads=self._asked, config=self._config)

    def pack(self, vocabularies: Vocabularies) -> tuple[Any, ...]:
        """See `Engine.pack`."""
        return tuple(one.pack() for one in self._stored), self._alone

    @classmethod
    def unpack(cls, packed: tuple[Any, ...], vocabularies: Vocabularies, *, config: BatchConfig) -> "NativeEngine":
        """See `Engine.unpack`."""
        models, alone = packed
        return cls([StoredModel.unpack(one, vocabularies) for one in models], threads=None, config=config, alone=alone)

    def describe(self, config: SearchConfig, *, constrained: bool = False) -> str:
        """See `Engine.describe`."""
        return f"native ({self._config.precision})"

    def announce(self, config: SearchConfig, *, constrained: bool = False, say: Callable[[str], None]) -> None:
        """See `Engine.announce`. Compiles, or reads what was compiled before."""
        for model in {type(one): one for one in self._models}.values():
            with compiling("the engine (about 20 seconds)", say, program=model.program, after=4):
                model.compiled_search()
        super().announce(config, constrained=constrained, say=say)

    def search(
        self,
        sources: Sequence[TokenIds],
        queries: Sequence[Query],
        *,
        config: SearchConfig,
        observe: Observe | None = None,
        stop: StopSignal | None = None,
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`. Raises UsageError for what it does not serve, where it is alone, and beyond learned positions."""
        if observe is not None:
            return self.on_torch(lacking="observation of its steps").search(sources, queries, config=config, observe=observe)
        jobs = self._jobs(sources, queries)
        found = search_all(self._models, jobs, config, pool=self._pool, stop=stop)
        return [found[job.number] for job in jobs]

    def begin(
        self, sources: Sequence[TokenIds], queries: Sequence[Query], *, config: SearchConfig, stop: StopSignal
    ) -> Callable[[], list[list[Hypothesis]]]:
        """See `Engine.begin`."""
        jobs = self._jobs(sources, queries)
        finish = begin_search(self._models, jobs, config, pool=self._pool, stop=stop)

        def results() -> list[list[Hypothesis]]:
            found = finish()
            return [found[job.number] for job in jobs]

        return results

    def _jobs(self, sources: Sequence[TokenIds], queries: Sequence[Query]) -> list[Job]:
        return [Job(number, (*source, *self._end), query) for number, (source, query) in enumerate(zip(sources, queries, strict=True))]

    def steps(self, query: Query, *, config: SearchConfig) -> Generator[int | None, None, list[Hypothesis]]:
        """See `Engine.steps`."""
        return search_steps(self._models, Job(0, self._end, query), config)

    @property
    def _end(self) -> tuple[int, ...]:
        """What ends a source."""
        return (EOS,) if self._models[0].reads_source else ()

    def attention_heads(self) -> list[Head]:
        """See `Engine.attention_heads`."""
        if len(self._models) > 1:
            raise several_models()
        if not self._models[0].heads:
            raise without_attention()
        return self._models[0].heads

    def cross_attention(self, sources: Sequence[TokenIds], targets: Sequence[TokenIds], *, heads: Sequence[Head]) -> list[Weights]:
        """See `Engine.cross_attention`."""
        self.attention_heads()
        require_alignable(sources, targets)
        return read_given(self._models[0], sources, targets, heads=heads, pool=self._pool)


def unavailable(device: Device) -> str:
    """Why compiled code cannot compute here; empty where it can."""
    if not has_numba():
        return "numba is not installed: pip install 'vitrail[fast]'"
    return "it computes on the processor alone" if device == "cuda" or (device == "auto" and has_gpu()) else ""
