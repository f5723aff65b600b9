"""What a masked language model says: guesses at hidden tokens, and how well it guesses those of a given text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.data.batches import IdRow
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.examples.masking import Masking
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.data.vocabularies.vocabulary import collapse
from vitrail.decode.encoding.engine import EncoderEngine, How, Precision
from vitrail.decode.encoding.table import make_encoder, with_torch
from vitrail.errors import UsageError
from vitrail.models.architectures import task_of
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.stored import of_another_task, read_stored
from vitrail.runtime.machine import Device

AnyFiller = TypeVar("AnyFiller", bound="MaskFiller")

MASK = "[MASK]"
"""How a hidden token is written in a text."""
_ROUNDS, _ROWS = 4, 64
_STAND_IN = "\ue000"
"""Stands for the mask while text is segmented: a sign for private use, which merges with no other."""


@dataclass(frozen=True)
class MaskedScore:
    """How well hidden tokens of a text are guessed."""

    nats: float
    """-log p of all of them."""
    tokens: int
    """How many they are."""
    right: int
    """Of how many the right one is the likeliest."""

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        loss = self.nats / max(1, self.tokens)
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"loss_nats_per_token": loss, "perplexity": perplexity, "accuracy": self.right / max(1, self.tokens)}

    def to_text(self) -> str:
        """The figures in one line."""
        found = self.figures()
        return f"perplexity {found['perplexity']:.2f} a hidden token ({self.tokens:,}); {found['accuracy']:.1%} guessed right"


@torch.inference_mode()
def measure_masked(model: MaskedLanguageModel, vocabulary: Subwords, lines: Sequence[str]) -> MaskedScore:
    """Hide tokens of each line, by the rule of training but always the same ones, and score the guesses.

    Four rounds hide four times as many tokens. Precondition: evaluation mode.
    Raises: UsageError for a text of empty lines alone.
    """
    longest = model.config.context - 2
    whole = [row for row in vocabulary.encode_batch([line for line in lines if line]) if row]
    rows: list[IdRow] = [row[start : start + longest] for row in whole for start in range(0, len(row), longest)]
    if not rows:
        raise UsageError("a text of empty lines", expected="at least one line that holds something")
    nats, tokens, right = 0.0, 0, 0
    for found in guess_hidden(model, vocabulary, sorted(rows, key=len)):
        nats -= float(found.log_p.sum())
        tokens += len(found.rows)
        right += int(found.right.sum())
    return MaskedScore(nats, tokens, right)


class Guessed(NamedTuple):
    """Some hidden tokens, and how they were guessed."""

    rows: Int[Tensor, " N"]
    """Which text each is of."""
    log_p: Float[Tensor, "N 1"]
    right: Bool[Tensor, " N"]
    """Whether it is the likeliest token there."""


def guess_hidden(model: MaskedLanguageModel, vocabulary: Subwords, rows: Sequence[IdRow]) -> Iterator[Guessed]:
    """Hide tokens of each row, `_ROUNDS` times, always the same ones, and guess them. Rows of similar length should stand together."""
    hide = Masking.of(vocabulary, share=model.config.mask_share, whole_words=model.config.whole_words)
    device = next(model.parameters()).device
    for number, start in enumerate(range(0, len(rows), _ROWS)):
        for again in range(_ROUNDS):
            batch = hide(rows[start : start + _ROWS], seed=number * _ROUNDS + again)
            source, following = batch.source.to(device), batch.following.to(device)
            chosen = following > EOS
            wanted = following[chosen]
            with torch.inference_mode():
                logits = model.read_out(model.encode(source).memory[chosen])
                shares = logits.float().log_softmax(1).gather(1, wanted[:, None])
            yield Guessed(start + chosen.nonzero()[:, 0], shares, logits.argmax(1) == wanted)


@dataclass(frozen=True)
class Guess:
    """One token in place of a mask."""

    token: str
    """As the vocabulary writes it: ▁ is a space."""
    probability: float
    text: str
    """The whole text with this guess in its place; other masks are filled with their likeliest one."""


class Segmented(NamedTuple):
    """A text with masks, token by token."""

    text: str
    """Without redundant spaces."""
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """The first character of each token in `text`, and the one after its last."""


class MaskFiller:
    """A masked language model that fills masks.

    filler = MaskFiller.load("runs/bert")
    print(filler.fill("The [MASK] sat on the mat.")[0][0].text)
    """

    engines: ClassVar[tuple[str, ...]] = ()
    """The suitable engines; empty: all."""

    def __init__(self, model: MaskedLanguageModel | EncoderEngine, vocabulary: Subwords, *, facts: dict[str, Any] | None = None) -> None:
        self.encoder = model if isinstance(model, EncoderEngine) else with_torch(model.eval())
        """What computes."""
        self.vocabulary, self.facts, self._mask_id = vocabulary, facts or {}, vocabulary.size

    @classmethod
    def load(
        cls: type[AnyFiller],
        path: str | Path,
        *,
        engine: str = "auto",
        precision: Precision = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> AnyFiller:
        """Load a masked language model from a run's folder or a model folder.

        Args:   as those of `Embedder.load`.
        Raises: ModelError where the folder is missing or damaged, or holds another kind of model; UsageError for an unknown engine, or one
            that cannot compute with the model.
        """
        stored = read_stored(Path(path))
        if task_of(stored.config) != "masked":
            raise of_another_task(path, stored.config, expected="masked")
        encoder = make_encoder(engine, stored, How("guesses", device, threads, precision), among=cls.engines)
        return cls(encoder, stored.vocabularies.target, facts=stored.facts)

    @property
    def model(self) -> MaskedLanguageModel:
        """The model on torch."""
        return self.encoder.model

    def fill(self, text: str, *, top: int = 5) -> list[list[Guess]]:
        """The likeliest tokens for each `[MASK]` of a text, each by itself, the likeliest first.

        Raises: UsageError for a text without a mask, or one that is too long for the model.
        """
        ids = self.encode(text)
        places = [place for place, id in enumerate(ids) if id == self._mask_id]
        if not places:
            raise UsageError(f"{text[:80]!r}: no {MASK}", expected=f"a text with {MASK} in place of what is to be guessed")
        self.require_room(ids)
        shares = self.encoder.guesses(ids, places)
        found = np.argsort(-shares, axis=1, kind="stable")[:, : min(top, shares.shape[1] - EOS - 1)]
        best = dict(zip(places, found[:, 0].tolist(), strict=True))
        rows: list[list[Guess]] = []
        for place, tokens, values in zip(places, found.tolist(), np.take_along_axis(shares, found, 1).tolist(), strict=True):
            texts = [self.vocabulary.decode([(best | {place: token}).get(at, id) for at, id in enumerate(ids)]) for token in tokens]
            pieces = self.vocabulary.pieces(tokens)
            rows.append([Guess(*one) for one in zip(pieces, values, texts, strict=True)])
        return rows

    def require_room(self, ids: Sequence[int]) -> None:
        """Raises UsageError for a text that is too long for the model."""
        if len(ids) + 2 > self.encoder.config.context:
            raise UsageError(
                f"a text of {len(ids):,} tokens",
                expected=f"at most {self.encoder.config.context - 2:,}, the model's context",
                remedy="a shorter text, or a part of it",
            )

    def measure(self, lines: Sequence[str]) -> MaskedScore:
        """How well hidden tokens of a text are guessed; see `measure_masked`."""
        return measure_masked(self.model, self.vocabulary, [normalise(line) for line in lines])

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with the mask's in place of each `[MASK]`; text around it is segmented as if a word were there."""
        return list(self.segment(text).ids)

    def segment(self, text: str) -> "Segmented":
        """The tokens of a text with masks, and where they stand in it; see `encode`."""
        marked = collapse(normalise(text).replace(_STAND_IN, "").replace(MASK, _STAND_IN))
        ids, spans = list[int](), list[tuple[int, int]]()
        for id, piece, (first, last) in zip(*self._segmented(marked), self.vocabulary.locate_in(marked), strict=True):
            if _STAND_IN in marked[first:last]:
                before = [id for id in ids[-1:] if id != self._mask_id]
                if piece.startswith("<0x") and self.vocabulary.pieces(before) == ["▁"]:
                    ids.pop()  # the space belongs to the hidden word
                    first = spans.pop()[0]
                ids.append(self._mask_id)
            elif not (first == last and ids[-1:] == [self._mask_id]):  # further bytes of the sign that stands for the mask
                ids.append(id)
            else:
                continue
            spans.append((first, last))
        shift = list(accumulate((len(MASK) if sign == _STAND_IN else 1 for sign in marked), initial=0))
        shown = marked.replace(_STAND_IN, MASK)
        return Segmented(shown, tuple(ids), tuple((shift[first], shift[last]) for first, last in spans))

    def _segmented(self, text: str) -> tuple[list[int], list[str]]:
        ids = self.vocabulary.encode(text)
        return ids, self.vocabulary.pieces(ids)
