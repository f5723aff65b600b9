"""Searches computed by compiled code (`vitrail.native.transformer`), with a Transformer on the processor; torch does what it cannot do."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vitrail.data.vocabularies.subwords import EOS, SOS, Vocabularies
from vitrail.decode.engines.engine import Engine, Observe
from vitrail.decode.engines.native_groups import Job, NativeModel, kernels, search_all
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import LoadedModel
from vitrail.native.compiled import compiling, has_numba
from vitrail.native.transformer.architecture import Architecture, obstacle


class NativeEngine(Engine):
    """Searches with one Transformer in compiled code.

    A sentence's tokens and scores do not depend on the others of a call, on their order or on the number of threads.

    Args:
        behind: the same model on torch, for requests that this engine does not serve.
        alone: such requests are errors instead.
    """

    name = "native"
    works_beside = True

    def __init__(self, behind: TorchEngine, *, config: BatchConfig, alone: bool) -> None:
        model: Any = behind.model  # a Transformer: no other is accepted
        self._behind, self._alone, self._precision = behind, alone, config.precision
        tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in unique_tensors(model).items()}
        self._model = NativeModel.of(Architecture.of(model.config.model_dump()), tensors, precision=config.precision)

    @classmethod
    def obstacle(cls, loaded: Sequence[LoadedModel], *, device: torch.device) -> str:
        """See `Engine.obstacle`."""
        if not has_numba():
            return "numba is not installed: pip install 'vitrail[fast]'"
        if device.type != "cpu":
            return "it computes on the processor alone"
        if len(loaded) > 1:
            return "it has no ensembles"
        return obstacle(loaded[0].config.model_dump())

    @classmethod
    def of(cls, loaded: Sequence[LoadedModel], *, device: torch.device, config: BatchConfig, alone: bool = False) -> "NativeEngine":
        """See `Engine.of`. Precondition: no obstacle."""
        return cls(TorchEngine.of(loaded, device=device, config=config), config=config, alone=alone)

    def pack(self, vocabularies: Vocabularies) -> tuple[Any, ...]:
        """See `Engine.pack`."""
        return self._behind.pack(vocabularies), self._alone

    @classmethod
    def unpack(cls, packed: tuple[Any, ...], vocabularies: Vocabularies, *, config: BatchConfig) -> "NativeEngine":
        """See `Engine.unpack`."""
        behind, alone = packed
        return cls(TorchEngine.unpack(behind, vocabularies, config=config), config=config, alone=alone)

    def describe(self, config: SearchConfig, *, constrained: bool = False) -> str:
        """See `Engine.describe`."""
        reason = _unserved(config, constrained=constrained)
        return f"torch (native has no {reason})" if reason and not self._alone else f"native ({self._precision})"

    def announce(self, config: SearchConfig, *, constrained: bool = False, say: Callable[[str], None]) -> None:
        """See `Engine.announce`. Compiles, or reads what was compiled before."""
        if not _unserved(config, constrained=constrained):
            with compiling("the engine (about 20 seconds)", say, program="transformer", after=4):
                kernels()
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
        found = search_all(self._model, jobs, config, threads=torch.get_num_threads())
        return [found[number] for number in range(len(jobs))]


def _unserved(config: SearchConfig, *, constrained: bool) -> str:
    """What of a request the engine does not have; empty where it serves it."""
    if config.sampling is not None:
        return "sampling"
    return "prefixes, forbidden or forced words" if constrained else ""
