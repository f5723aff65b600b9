"""The permutation experiment: without positions, an encoder gives the same set of vectors for the words in any order."""

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vitrail.config import Config
from vitrail.data.batches import collate
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import UsageError
from vitrail.inspection.contents import Side, make_side
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.base import TranslationModel
from vitrail.models.places import attentions, find
from vitrail.nn.positions import Rotary
from vitrail.nn.probe import Hook, listen, refuse_compiled

TOLERANCE = 1e-5
"""Numbers that differ by less than this share of the largest count as equal: sums in another order round differently."""

_WAYS = {
    "sinusoidal": "sinusoidal positions, added to the embeddings",
    "tensor2tensor": "sinusoidal positions with the frequencies of Tensor2Tensor, added to the embeddings",
    "learned": "learned positions, added to the embeddings",
    "rotary": "rotary positions, which rotate queries and keys",
    "none": "no positions",
    "recurrent": "a recurrent encoder, which reads one word after the other, so its states depend on the order",
}


class OrderComparison(Config):
    """The encoder's vectors for a sentence and for its words in another order, compared word by word."""

    distance: float
    """The largest absolute difference between a token's vectors in the two orders."""
    size: float
    """The largest absolute value in the vectors, for comparison."""
    translations: tuple[str, str]
    """The translations of the sentence and of its words in the other order."""

    @property
    def same(self) -> bool:
        """Whether both orders give the same set of vectors."""
        return self.distance <= TOLERANCE * max(1.0, self.size)


class Permutation(Config):
    """Does the order of the words matter to an encoder?"""

    text: str
    part: int = 1
    """The number of the part of the text."""
    parts: int = 1
    shuffled: str
    """The same tokens in another order; <eos> stays last."""
    positions: str
    """How the model encodes order: sinusoidal, learned, rotary, none, or recurrent."""
    as_it_is: OrderComparison
    without: OrderComparison | None
    """The same weights without positions; None where the model has none."""

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        record = self.model_dump(mode="json")
        for which, found in (("as_it_is", self.as_it_is), ("without", self.without)):
            if found is not None:
                record[which]["same"] = found.same
        return record

    def to_text(self) -> str:
        """The experiment in words."""
        lines = [
            *([f"part {self.part} of {self.parts}"] if self.parts > 1 else []),
            f"sentence:    {self.text}",
            f"other order: {self.shuffled}",
            "",
            f"this model has {_WAYS.get(self.positions, self.positions)}",
        ]
        lines += _tell("as it is", self.as_it_is)
        if self.without is not None:
            lines += ["", "the same weights without positions", *_tell("without positions", self.without)]
        return "\n".join(lines)


def _tell(how: str, found: OrderComparison) -> list[str]:
    verdict = "the same set of vectors for any order" if found.same else "different vectors for another order"
    first, second = found.translations
    return [
        f"{how}, the encoder gives {verdict}:",
        f"  the same word's vectors differ by at most {found.distance:.2g} (largest value {found.size:.2g})",
        f"  translations: {first}",
        f"                {second if second != first else 'the same for both orders'}",
    ]


def permute(
    translator: InspectableTranslator, text: str, *, part: int | None = None, seed: int = 1, search: SearchConfig | None = None
) -> Permutation:
    """Encode a sentence and its words in another order, with and without positions, and compare.

    Self-attention is a sum over all words, and all else in a block acts on single words, so
    Encoder(P·X) = P·Encoder(X) for every permutation P. Source: Vaswani et al. 2017, section 3.5; Lee et al. 2019, property 1.
    Added positions are left out (P = 0), rotary ones do not rotate.
    The subwords of a word stay together where there are several words. For a text that is translated in parts, one of them is used.

    Raises: UsageError for a sentence without two different words or tokens.
    """
    model = translator.model
    refuse_compiled(model)
    chosen = translator.choose_part(text, part)
    ids = list(chosen.ids)
    side = make_side(ids, translator.vocabularies.source, text=chosen.text)
    order = shuffle(side, seed=seed)
    kind = model.config.word_order
    found = _compare(translator, ids, order, search=search)
    without: OrderComparison | None = None
    if kind not in ("none", "recurrent"):
        with without_positions(model):
            without = _compare(translator, ids, order, search=search)
    # Where tokens include the space before them, a space is added before the first of them.
    lead = " " if any(side.text[first] == " " for first, last in side.spans if last > first + 1) else ""
    shuffled = "".join((lead if side.spans[place][0] == 0 else "") + side.text[slice(*side.spans[place])] for place in order).strip()
    return Permutation(
        text=side.text, part=chosen.number, parts=chosen.parts, shuffled=shuffled, positions=kind, as_it_is=found, without=without
    )


def shuffle(side: Side, *, seed: int) -> list[int]:
    """Another order of a sentence's tokens: order[i] is the old position of token i of the new order.

    Words stay whole, unless they cannot be reordered: then their tokens are shuffled.
    Raises UsageError where tokens cannot be reordered either.
    """
    owned = {token: word for word in side.words for token in word}
    tokens = [(token,) for token in range(len(side.ids))]
    words = list(dict.fromkeys(owned.get(token, (token,)) for (token,) in tokens))
    draw = random.Random(seed)
    for groups in (words, tokens):
        if len({tuple(side.ids[token] for token in group) for group in groups}) > 1:
            while True:
                order = [token for group in draw.sample(groups, len(groups)) for token in group]
                if [side.ids[token] for token in order] != list(side.ids):
                    return order
    raise UsageError(f"{side.text!r}: its words cannot be reordered", expected="a sentence of at least two different words")


@contextmanager
def without_positions(model: TranslationModel) -> Generator[None]:
    """A context manager that removes the encoder's positions: added ones are left out, rotary ones do not rotate."""
    embedded: list[Tensor] = []

    def keep(output: Tensor, inputs: tuple[Tensor, ...]) -> None:
        embedded[:] = [output]

    def leave_out(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        return embedded[0]

    def stand_still(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        return inputs[0]

    embeddings, placed = (find(model.places(), role, "source") for role in ("embedded", "position"))
    readers = {one.path for one in attentions(model.places(), "encoder")}
    rotary = [name for name, module in model.named_modules() if isinstance(module, Rotary) and name.rpartition(".")[0] in readers]
    found: list[tuple[str, Hook]] = [(name, stand_still) for name in rotary]
    if embeddings is not None and placed is not None:
        found += [(embeddings.name, keep), (placed.name, leave_out)]
    with listen(model, found):
        yield


def _compare(
    translator: InspectableTranslator, ids: Sequence[int], order: Sequence[int], *, search: SearchConfig | None
) -> OrderComparison:
    moved = [ids[place] for place in order]
    one, other = (encode(translator.model, tokens) for tokens in (ids, moved))
    matched = one[[*order, len(ids)]]
    spelled = [translator.vocabularies.target.decode(translator.search_one(tokens, search=search)[0].tokens) for tokens in (ids, moved)]
    return OrderComparison(
        distance=float((matched - other).abs().max()), size=float(one.abs().max()), translations=(spelled[0], spelled[1])
    )


@torch.inference_mode()
def encode(model: TranslationModel, source: Sequence[int]) -> Tensor:
    """The encoder's output for one sentence, <eos> last: (S, D)."""
    device = next(model.parameters()).device
    return model.encode(collate([list(source)], [[]]).source.to(device)).memory[0].float().cpu()
