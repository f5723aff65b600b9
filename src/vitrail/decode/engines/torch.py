"""Searches computed by torch: batches of similar length, a model's `encode` and `start`, then `beam_search` over its `step`."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from vitrail.data.vocabularies.subwords import EOS, PAD, Vocabularies
from vitrail.decode.cross_attention import cross_attention, cross_layers
from vitrail.decode.engines.engine import Engine, Head, Observe, StopSignal, Weights, several_models, without_attention
from vitrail.decode.engines.sending import pack_models, unpack_models
from vitrail.decode.ensemble import Ensemble, Translating
from vitrail.decode.search.beams import Observation, one_state_at_a_time, read_prompts, search_cohorts, search_steps
from vitrail.decode.search.constraints import TokenIds
from vitrail.decode.search.listed import Listed
from vitrail.decode.search.pool import Cohort, RowLimits, StepsFunction
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SearchConfig
from vitrail.models.base import Continues, Reads, State, StepsTogether, TranslationModel
from vitrail.models.model_folder import build_stored
from vitrail.models.places import attentions
from vitrail.models.stored import StoredModel
from vitrail.nn.layers import OutputMatrix
from vitrail.nn.probe import without_bookkeeping
from vitrail.runtime.device import choose_device, fewest_rows, set_threads, survive_forks
from vitrail.runtime.machine import Device

_BATCH_ROWS = 1024
"""Most hypotheses of one batch, unless one sentence has more."""
_ROWS = 256
"""As many hypotheses are searched side by side, of several batches where one has fewer; see docs/experiments.md."""


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
        self._kept: object = None
        """The output matrix of the last search: while it lives, the next one need not make it ready again (2 % of a sentence's time)."""
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
        prompts = [len(query.prompt) for query in queries]
        lengths = [max(len(source), prompt - 1) for source, prompt in zip(sources, prompts, strict=True)]
        # A model that reads token by token reads prompts of one length only; and padding may change the last bit of a number.
        apart = prompts if self._config.exact or not isinstance(self.model, Reads) else None
        batches = make_batches(lengths, config=self._config, width=config.width, apart=apart)
        model = self._ready()
        cohorts, limits, steps = self._cohorts(model, batches, sources, queries), self._limits, _steps_of(model)
        if any(query.shortlist is not None for query in queries):
            limits, steps = limits._replace(most=0), one_state_at_a_time(Listed(model).step)
        return search_cohorts(steps, cohorts, queries, config=config, observe=observe, limits=limits, device=self.device)

    def steps(self, query: Query, *, config: SearchConfig) -> Generator[int | None, None, list[Hypothesis]]:
        """See `Engine.steps`."""
        model = self._ready()
        cohorts = self._cohorts(model, [[0]], [()], [query])
        steps = search_steps(_steps_of(model), cohorts, [query], config=config, limits=self._limits, device=self.device)
        while True:
            with torch.inference_mode():  # not while others compute
                try:
                    seen = next(steps)
                except StopIteration as end:
                    return end.value[0]
            yield _token_told(seen.observation())

    def attention_heads(self) -> list[Head]:
        """See `Engine.attention_heads`."""
        model = self._translating()
        cross_layers(model)
        return [(one.layer, head) for one in attentions(model.places(), "cross") for head in range(one.heads)]

    def cross_attention(self, sources: Sequence[TokenIds], targets: Sequence[TokenIds], *, heads: Sequence[Head]) -> list[Weights]:
        """See `Engine.cross_attention`. Raises ModelError for a compiled model, too."""
        model = self._translating()
        layers = list(cross_layers(model))
        found = cross_attention(model, sources, targets)
        return [np.stack([one[layers.index(layer), head] for layer, head in heads]) for one in found]

    def _translating(self) -> TranslationModel:
        """The one model that reads a source."""
        if isinstance(self.model, Ensemble):
            raise several_models()
        if not isinstance(self.model, TranslationModel):
            raise without_attention()
        return self.model

    @property
    def _fewest(self) -> int:
        return fewest_rows(torch.get_num_threads()) if self._config.exact else 1

    @property
    def _limits(self) -> RowLimits:
        return RowLimits(self._fewest, most=_ROWS if isinstance(self.model, StepsTogether) else 0)

    def _ready(self) -> "Translating | Generating":
        """The model as it is now, for one search."""
        return without_bookkeeping(self.model) if isinstance(self.model, nn.Module) else self.model

    def _cohorts(
        self, model: "Translating | Generating", batches: Iterable[list[int]], sources: Sequence[TokenIds], queries: Sequence[Query]
    ) -> list[Cohort]:
        def start(numbers: Sequence[int]) -> State:
            state = self._read(model, [sources[number] for number in numbers], [queries[number] for number in numbers])
            output = getattr(state, "output", None)
            # Of a tensor of inference mode nobody knows whether it was changed since.
            self._kept = output if isinstance(output, OutputMatrix) and not output.weight.is_inference() else None
            return state

        return [Cohort(batch, start) for batch in batches]

    def _read(self, model: "Translating | Generating", sources: list[TokenIds], queries: list[Query]) -> State:
        """The state after the prompts, read with copies of the first source and prompt where these have too few rows."""
        # A source has a row for each token and for its end; prompts are read token by token.
        each = len(sources[0]) + 1 if len(queries[0].prompt) == 1 else 1
        count, missing = len(sources), max(0, -(-self._fewest // each) - len(sources))
        padded, asked = sources + sources[:1] * missing, queries + queries[:1] * missing
        if isinstance(model, Translating):
            state = model.start(model.encode(_stack(padded).to(self.device)))
        else:
            state = model.start(len(padded))
        state = read_prompts(model, state, asked, device=self.device)
        return state.keep(torch.arange(count, device=self.device)) if missing else state


def _steps_of(model: "Translating | Generating") -> StepsFunction:
    return model.step_together if isinstance(model, StepsTogether) else one_state_at_a_time(model.step)


def _token_told(seen: Observation) -> int | None:
    """See `Engine.steps`; of the first sentence."""
    chosen = seen.selection
    column = int(chosen.live[0, 0])
    goes_on = seen.sentences[0] == 0 and not chosen.ended[0, 0] and chosen.totals[0, column] > -torch.inf
    return int(chosen.tokens[0, column]) if goes_on else None


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
