"""The notes' experiment: without positions an encoder makes the same set of vectors of any order of the words; with them it does not."""

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.data.subwords import EOS
from vitrail.errors import UsageError
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.base import TranslationModel

SAME = 1e-4
"""Vectors that differ by no more than this share of their length are called the same: rounding makes 1e-6 of it."""


class Order(Config):
    """What becomes of the encoder's output when the words change places."""

    positions: bool
    """Whether the encoder was told where each word stands."""
    largest: float
    """The largest distance between a token's vector and that of the same token in the other order, over the vector's length."""
    mean: float
    """The mean of these distances."""

    @property
    def same(self) -> bool:
        """Whether the two orders gave the same set of vectors."""
        return self.largest <= SAME


class Permutation(Config):
    """A sentence in two orders, as an encoder sees them with and without positions."""

    text: str
    permuted: str
    positions: str
    """How this model tells positions."""
    with_positions: Order
    without_positions: Order | None
    """The same weights with their positions taken away; None for a recurrent model, which has none to take."""

    def to_record(self) -> dict[str, Any]:
        """As plain values."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """What was asked, and what came of it, in words."""
        lines = [f"in order:  {self.text}", f"permuted:  {self.permuted}", ""]
        lines.append(f"as the model is (positions: {self.positions}): {_told(self.with_positions)}")
        if self.without_positions is None:
            lines.append("a recurrent model reads one word after the other: it has no positions that could be taken away")
        else:
            lines.append(f"without positions: {_told(self.without_positions)}")
        return "\n".join(lines)


def _told(order: Order) -> str:
    verdict = "the same set of vectors, in another order" if order.same else "other vectors"
    return f"{verdict} (a token's vector moves by {order.largest:.1e} of its length at most, {order.mean:.1e} on average)"


def permute(translator: InspectableTranslator, text: str, *, seed: int = 1) -> Permutation:
    """Encode a sentence and the same tokens in another order, <eos> staying last, and hold each token's two vectors together.

    Raises: UsageError for a text of fewer than two different tokens, or too long a one; ModelError for an ensemble.
    """
    model = translator.model
    ids = translator.encode_source(text)
    if len(set(ids)) < 2:
        raise UsageError(f"{text!r}: no other order of its tokens", expected="a sentence of at least two different tokens")
    order = list(range(len(ids)))
    draw = random.Random(seed)
    while [ids[place] for place in order] == ids:
        draw.shuffle(order)
    there = [*order, len(ids)]
    told: dict[str, Any] = model.config.model_dump(mode="json")
    removable = _places_of_positions(model)
    without = None
    if removable:
        with _without_positions(model):
            without = _compare(model, ids, there, positions=False)
    return Permutation(
        text=translator.vocabularies.source.decode(ids),
        permuted=translator.vocabularies.source.decode([ids[place] for place in order]),
        positions=str(told.get("positions", "recurrence")),
        with_positions=_compare(model, ids, there, positions=told.get("positions") != "none"),
        without_positions=without,
    )


@torch.inference_mode()
def _compare(model: TranslationModel, ids: list[int], order: list[int], *, positions: bool) -> Order:
    device = next(model.parameters()).device
    rows = [*ids, EOS]
    one, other = (_memory(model, torch.tensor([row], device=device)) for row in (rows, [rows[place] for place in order]))
    distances = (other - one[order]).norm(dim=1) / one[order].norm(dim=1)
    return Order(positions=positions, largest=float(distances.max()), mean=float(distances.mean()))


def _memory(model: TranslationModel, source: Tensor) -> Float[Tensor, "S D"]:
    return model.encode(source).memory[0].double()


def _places_of_positions(model: nn.Module) -> list[nn.Module]:
    """Where positions enter: the encoder's sum X + P, and the rotation of queries and keys."""
    named = dict(model.named_modules())
    return [module for name, module in named.items() if name == "source_positions" or name.endswith(".rotary")]


@contextmanager
def _without_positions(model: nn.Module) -> Generator[None]:
    """Let each of them hand on what it was given."""

    def hand_on(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return inputs[0]

    handles = [module.register_forward_hook(hand_on) for module in _places_of_positions(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
