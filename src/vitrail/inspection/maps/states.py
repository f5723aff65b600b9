"""States of a model's layers for many sentences and their translations, by position, computed in batches."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitrail.data.batches import IdRow, pad_rows
from vitrail.decode.forced import batches, forced_decode, make_batch
from vitrail.models.base import AutoregressiveModel, Embeds, Model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.places import Place, Side
from vitrail.nn.probe import refuse_compiled, trace

ROWS = 32
"""Maximal number of sentences in a batch."""
_CELLS = 1 << 17
"""Maximal number of position pairs in a batch, unless one sentence has more: every head of every layer stores a few numbers for each."""

TokenPair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a sentence and of its translation, without SOS and EOS; one of them is empty where there is no source, or no target."""


@dataclass(frozen=True, eq=False)
class States:
    """The states of one pair at each place."""

    number: int
    """Index of the pair in the given order."""
    source: dict[str, npt.NDArray[np.float32]]
    """Place -> (S D) in the order of the source, from the embeddings to the memory."""
    target: dict[str, npt.NDArray[np.float32]]
    """Place -> (T D), from the embeddings to `decoder_output`; empty for a model that only reads."""


def read_states(model: Model, pairs: Sequence[TokenPair]) -> Generator[States]:
    """Compute the states of pairs, and yield the layer outputs pair by pair, longest pairs first.

    A model that writes is given the targets (forced decoding); one that only reads, the sources.

    Places are named as in `contents`: the embeddings, each layer's output (the norm's output where norms come after the sum), and
    `memory` and `decoder_output`. Precondition: the model is in evaluation mode. Raises ModelError for a compiled model.
    """
    refuse_compiled(model)
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    places = {place.name: place for place in model.places() if place.layer_output or place.role in ("embedded", "memory")}
    start = marks_before(model)
    for chosen in batches(sources, targets, rows=ROWS, cells=_CELLS):
        source, target = _read(model, [sources[number] for number in chosen], [targets[number] for number in chosen], places)
        for row, number in enumerate(chosen):
            sizes = start + len(pairs[number][0]) + 1, len(pairs[number][1]) + 1
            yield States(
                number,
                {name: _ordered(places[name], values[row, : sizes[0]].numpy()) for name, values in source.items()},
                {name: values[row, : sizes[1]].numpy() for name, values in target.items()},
            )


class Pooled:
    """Each pair's mean over its positions at each place, collected pair by pair."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.source: dict[str, npt.NDArray[np.float32]] = {}
        """Place -> (count D)."""
        self.target: dict[str, npt.NDArray[np.float32]] = {}

    def add(self, states: States) -> None:
        """Add the means of one pair."""
        for found, places in ((self.source, states.source), (self.target, states.target)):
            for name, values in places.items():
                if name not in found:
                    found[name] = np.zeros((self._count, values.shape[1]), dtype=np.float32)
                found[name][states.number] = values.mean(axis=0)


def pool(model: Model, pairs: Sequence[TokenPair]) -> Pooled:
    """Read pairs and keep only the means."""
    found = Pooled(len(pairs))
    for one in read_states(model, pairs):
        found.add(one)
    return found


def marks_before(model: Model) -> int:
    """How many positions a model reads before the first token of its source: 1 where it marks the start, else 0."""
    if isinstance(model, AutoencoderModel):
        return int(model.adds_start)
    return int(isinstance(model, Embeds) and not isinstance(model, AutoregressiveModel) and model.marks_start)


def _read(
    model: Model, sources: Sequence[IdRow], targets: Sequence[IdRow], places: Mapping[str, Place]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The recorded values of each side's places, (B T D)."""
    with torch.inference_mode(), trace(model, only=places.__contains__) as seen:
        output = forced_decode(model, make_batch(model, sources, targets)) if isinstance(model, AutoregressiveModel) else None
        if output is None:
            assert isinstance(model, Embeds), "what writes nothing makes vectors"
            model.embed(pad_rows(sources, start=model.marks_start).to(next(model.parameters()).device))

    def pick(side: Side) -> dict[str, Tensor]:
        return {name: _merge(calls)[: len(sources)] for name, calls in seen.items() if places[name].side == side}

    return pick("source"), pick("target") | ({} if output is None else {"decoder_output": output.float().cpu()})


def _merge(calls: Sequence[Tensor]) -> Tensor:
    """(B T D) from one call, or from one call a time step."""
    parts = [call[:, None] if call.ndim == 2 else call for call in calls]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).float().cpu()


def _ordered(place: Place, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values[place.reading_order(len(values))]
