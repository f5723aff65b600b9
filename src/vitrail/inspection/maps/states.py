"""States of a model's layers for many sentences and their translations, by position, computed in batches."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitrail.data.batches import Batch, pad_rows
from vitrail.decode.forced import batches, forced_decode, make_batch
from vitrail.models.base import AutoregressiveModel, Model
from vitrail.models.kinds.encoders import RecurrentEncoder, TransformerEncoder
from vitrail.models.places import Place, Side
from vitrail.nn.probe import refuse_compiled, trace

ROWS = 32
"""Maximal number of sentences in a batch."""
_CELLS = 1 << 17
"""Maximal number of position pairs in a batch, unless one sentence has more: every head of every layer stores a few numbers for each."""

TokenPair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a sentence and of its translation, without SOS and EOS; the sentence is empty where there is no source."""


@dataclass(frozen=True, eq=False)
class States:
    """The states of one pair at each place."""

    number: int
    """Index of the pair in the given order."""
    source: dict[str, npt.NDArray[np.float32]]
    """Place -> (S D) in the order of the source, from the embeddings to the memory."""
    target: dict[str, npt.NDArray[np.float32]]
    """Place -> (T D), from the embeddings to `decoder_output`."""


def read_states(model: AutoregressiveModel, pairs: Sequence[TokenPair]) -> Generator[States]:
    """Compute the states of pairs by forced decoding, and yield the layer outputs pair by pair, longest pairs first.

    Places are named as in `contents`: the embeddings, each layer's output (the norm's output where norms come after the sum), and
    `memory` and `decoder_output`. Precondition: the model is in evaluation mode. Raises ModelError for a compiled model.
    """
    refuse_compiled(model)
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    places = _layers(model)
    for chosen in batches(sources, targets, rows=ROWS, cells=_CELLS):
        batch = make_batch(model, [sources[number] for number in chosen], [targets[number] for number in chosen])
        source, target = _read(model, batch, places)
        for row, number in enumerate(chosen):
            sizes = len(pairs[number][0]) + 1, len(pairs[number][1]) + 1
            yield States(
                number,
                {name: _ordered(places[name], values[row, : sizes[0]].numpy()) for name, values in source.items()},
                {name: values[row, : sizes[1]].numpy() for name, values in target.items()},
            )


def read_lines(model: TransformerEncoder | RecurrentEncoder, rows: Sequence[Sequence[int]]) -> Generator[States]:
    """The same for lines and a model that only reads them: `target` is empty, and the first position is the mark of a line's beginning
    where the model has one."""
    refuse_compiled(model)
    places, extra = _layers(model), 1 + model.marks_start
    device = next(model.parameters()).device
    for chosen in batches(rows, rows, rows=ROWS, cells=_CELLS):
        source = pad_rows([rows[number] for number in chosen], start=model.marks_start).to(device)
        with torch.inference_mode(), trace(model, only=places.__contains__) as seen:
            model.encode(source)
        values = {name: _merge(calls)[: len(chosen)] for name, calls in seen.items()}
        for row, number in enumerate(chosen):
            size = len(rows[number]) + extra
            yield States(number, {name: _ordered(places[name], found[row, :size].numpy()) for name, found in values.items()}, {})


def _layers(model: Model) -> dict[str, Place]:
    """The places of embeddings, layers and memory."""
    return {place.name: place for place in model.places() if place.layer_output or place.role in ("embedded", "memory")}


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


def pool(model: AutoregressiveModel, pairs: Sequence[TokenPair]) -> Pooled:
    """Read pairs and keep only the means."""
    found = Pooled(len(pairs))
    for one in read_states(model, pairs):
        found.add(one)
    return found


def _read(model: AutoregressiveModel, batch: Batch, places: Mapping[str, Place]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The recorded values of each side's places, (B T D)."""
    with torch.inference_mode(), trace(model, only=places.__contains__) as seen:
        output = forced_decode(model, batch)

    def pick(side: Side) -> dict[str, Tensor]:
        return {name: _merge(calls)[: len(batch.source)] for name, calls in seen.items() if places[name].side == side}

    return pick("source"), pick("target") | {"decoder_output": output.float().cpu()}


def _merge(calls: Sequence[Tensor]) -> Tensor:
    """(B T D) from one call, or from one call a time step."""
    parts = [call[:, None] if call.ndim == 2 else call for call in calls]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).float().cpu()


def _ordered(place: Place, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values[place.reading_order(len(values))]
