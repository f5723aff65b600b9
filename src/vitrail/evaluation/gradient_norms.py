"""The norm of dL/dh_t at each time step of a model, recorded by hooks at Probes in the backward pass.

In a recurrent network dL/dh_t reaches an early step through one Jacobian for each step between, so it shrinks or grows exponentially with
their number (Bengio et al. 1994); gates, attention and the Transformer each shorten the path.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch, collate
from vitrail.data.examples.labelled import LabelledBatch
from vitrail.data.examples.masking import MaskedBatch
from vitrail.data.vocabularies.subwords import PAD, Vocabularies
from vitrail.errors import DataError, ModelError
from vitrail.evaluation.curves import GradientCurve
from vitrail.models.base import Model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.places import Role, Side, gradient_places
from vitrail.nn.probe import Hook, listen, listen_backward, probes_of

LONGEST = 100
"""Maximal length in tokens of the sentences of `source_gradients`, to bound memory."""
AnyBatch = Batch | MaskedBatch | LabelledBatch
"""What a model is trained on: each has a source."""
_ROWS = 16
"""Sentences whose autograd graph is in memory at once."""


class GradientRecord:
    """The norms of the gradients that flowed back through Probes, by the Probe's name."""

    def __init__(self) -> None:
        self._calls: dict[str, list[Tensor]] = {}

    def expect(self, name: str, values: Float[Tensor, "... D"]) -> None:
        """Record the gradient of these values; without a gradient the norms are 0."""
        calls = self._calls.setdefault(name, [])
        place = len(calls)
        calls.append(torch.zeros(values.shape[:-1], dtype=torch.float64))

        def record(gradient: Tensor) -> None:
            # In float64, where the square of a number of 1e-30 is not yet 0.
            calls[place] = gradient.detach().double().norm(dim=-1).cpu()

        listen_backward(values, record)

    def norms(self) -> dict[str, Float[Tensor, "B T"]]:
        """For each Probe, the norm over the width of dL/dh: a row a sentence, a column a time step, in the order of the calls.

        A Probe with one (B, D) tensor per step gives the same result as one with a single (B, T, D) tensor.
        Raises ModelError where no Probe ran: the model is compiled, or has none of these places.
        """
        if not self._calls:
            raise ModelError("no gradient was recorded: no probe of the model ran", remedy="the model as it was before torch.compile")
        return {
            name: torch.cat([call.flatten(1) if call.ndim > 1 else call[:, None] for call in calls], 1)
            for name, calls in self._calls.items()
        }


@contextmanager
def record_gradients(model: nn.Module, *, places: Callable[[str], object] = lambda name: True) -> Generator[GradientRecord]:
    """Record the gradients at the Probes whose names `places` accepts.

    Inside the `with` block, compute a loss and its gradient (`backward`, `torch.autograd.grad`), then read `norms()`. The gradient with
    respect to h is the total one: the sum over everything that was computed from h after the Probe. Inside the block, models take the
    explicit path.
    """
    record = GradientRecord()

    def listener(name: str) -> Hook:
        return lambda output, inputs: record.expect(name, output)

    with listen(model, ((name, listener(name)) for name in probes_of(model) if places(name))):
        yield record


@dataclass(frozen=True)
class PlaceNorms:
    """The norm of dL/dh_t at one place of a model, by the number of steps before the last one; a mean over sentences."""

    name: str
    """Where in the model, by the name of its Probe."""
    norms: tuple[float, ...]
    """norms[k]: k steps before the last real one, in the order of reading."""
    sentences: int
    side: Side
    """Whether it is in the encoder or in the decoder."""
    role: Role
    """`hidden`, the state of a recurrent cell, or `residual`, the residual stream after a Transformer's block."""

    def curve(self) -> GradientCurve:
        """The same relative to the last step; all 0 where the gradient of the last step is 0."""
        last = self.norms[0]
        return GradientCurve(self.name, tuple(norm / last if last else 0.0 for norm in self.norms), self.sentences)


def measure_gradients(model: Model, batches: Sequence[AnyBatch]) -> tuple[PlaceNorms, ...]:
    """Measure ||dL/dh_t||_2 at each layer, L being the summed loss of a sentence, or of a text, by itself, without smoothing.

    The loss of a batch is the sum over its sentences, and sentences do not mix: so the gradient of a sentence's h_t is that of its own
    loss. Steps are counted back from each sentence's last real one (<eos> in the source, the last word in the target's input), as far as
    the shortest sentence reaches; padding is not counted. Only the forward direction of bidirectional encoders is recorded.

    The model is in evaluation mode meanwhile, so dropout and other sentences (batch norm) have no effect; its weights, their
    `grad` and its mode stay as they were. Precondition: at least one batch. Raises ModelError where the model has no such places.
    """
    training = model.training
    try:
        parts = [_measure_batch(model.eval(), batch) for batch in batches]
    finally:
        model.train(training)
    places = {place.name: place for place in gradient_places(model.places())}
    found: list[PlaceNorms] = []
    for name in parts[0]:
        reach = min(part[name].shape[1] for part in parts)
        rows = torch.cat([part[name][:, :reach] for part in parts])
        found.append(PlaceNorms(name, tuple(rows.mean(dim=0).tolist()), len(rows), places[name].side, places[name].role))
    return tuple(found)


def real_positions(model: Model, batch: AnyBatch) -> dict[Side, Bool[Tensor, "B T"]]:
    """Which positions of a batch hold tokens, for each side that there is, as the model reads them."""
    found: dict[Side, Tensor] = {"source": batch.source.ne(PAD)}
    if isinstance(batch, Batch):
        found["target"] = batch.target_in.ne(PAD)
    if isinstance(model, AutoencoderModel) and model.adds_start:
        found["source"] = F.pad(found["source"], (1, 0), value=True)
    return found


def _measure_batch(model: Model, batch: AnyBatch) -> dict[str, Float[Tensor, "B T"]]:
    """The norms by place, a column for each step back from the last."""
    sides = {place.name: place.side for place in gradient_places(model.places())}
    with torch.enable_grad(), record_gradients(model, places=sides.__contains__) as record:
        loss = model.loss(batch)
        # Not backward(): that would add to the gradients of a training.
        torch.autograd.grad(loss.nats, [weight for weight in model.parameters() if weight.requires_grad], allow_unused=True)
    lengths = {side: real.sum(dim=1).cpu() for side, real in real_positions(model, batch).items()}
    return {name: from_last(norms, lengths[sides[name]]) for name, norms in record.norms().items()}


def from_last(norms: Float[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """Reverse each row, its last real step first, and cut all rows to the length of the shortest."""
    back = lengths[:, None] - 1 - torch.arange(int(lengths.min()))
    return norms.gather(1, back)


def source_gradients(
    model: Model, vocabularies: Vocabularies, sources: Sequence[str], targets: Sequence[str], *, sentences: int = 64
) -> tuple[GradientCurve, ...]:
    """The norm of dL/dh_t at each source position, relative to the last one: a curve for each encoder layer.

    Measured on the longest sentences of up to `LONGEST` tokens: `sentences` of them, or half of all if that is fewer. See
    `measure_gradients`; a curve is a ratio of means, so that a sentence with a small gradient at its end does not dominate.

    Raises DataError where there are no such sentences.
    Cost:   one forward and one backward pass on the explicit path.
    """
    batches = longest_batches(vocabularies, sources, targets, sentences=sentences, device=next(model.parameters()).device)
    return tuple(place.curve() for place in measure_gradients(model, batches) if place.side == "source")


def longest_batches(
    vocabularies: Vocabularies, sources: Sequence[str], targets: Sequence[str], *, sentences: int, device: torch.device | None = None
) -> list[Batch]:
    """The longest pairs by source tokens, of up to `LONGEST` a side: at most `sentences`, at most half; the first of equals first."""
    assert sentences > 0
    pairs = zip(vocabularies.source.encode_batch(sources), vocabularies.target.encode_batch(targets), strict=True)
    short = [(source, target) for source, target in pairs if 0 < len(source) <= LONGEST and 0 < len(target) <= LONGEST]
    if not short:
        raise DataError(
            f"{len(sources)} sentence pairs, none of 1 to {LONGEST} subwords a side", expected="a development set with such pairs"
        )
    kept = sorted(short, key=lambda pair: -len(pair[0]))[: min(sentences, (len(short) + 1) // 2)]
    parts = [kept[start : start + _ROWS] for start in range(0, len(kept), _ROWS)]
    batches = [collate([source for source, _ in part], [target for _, target in part]) for part in parts]
    return [Batch(*(side.to(device) for side in batch)) for batch in batches]
