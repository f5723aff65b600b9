"""Whether another program translates as we do: the same sentences through both, greedily and with beams."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.cleaning.normalise import plain
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.forced import losses
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.errors import ModelError, UsageError
from vitrail.evaluation.scores import evaluate
from vitrail.inspection.alignment.word_alignment import development_pairs
from vitrail.models.base import TranslationModel
from vitrail.models.model_folder import LoadedModel, load_model

SENTENCES = 1000
BEAMS = (1, 5)
MOST_BLEU = 0.3
"""How far the BLEU of a model with smaller numbers may be from ours."""
_LEAST_EQUAL = 0.99
"""Share of sentences that must be equal in float32: sums are taken in another order, so that near ties may fall otherwise."""
_TIE_NATS = 1e-3
_RANDOM_LENGTHS = (4, 16)


class CheckTexts(NamedTuple):
    """Sentences that both programs translate."""

    sources: list[str]
    """As the model reads them."""
    tokens: list[tuple[int, ...]]
    references: list[str]
    """Empty where there are none."""
    origin: str

    @property
    def longest(self) -> int:
        """Tokens of a translation at most, on both sides."""
        return 2 * max(map(len, self.tokens), default=0) + 10


class GivenPairs(NamedTuple):
    """Sentences that a user gives for the check of an export, in place of the run's development set, and their translations."""

    pairs: Sequence[tuple[str, str]]
    """The translations are empty where there are none."""
    origin: str
    """What is told of them, such as the name of their file."""


Theirs = Callable[[CheckTexts, int], list[str]]
"""Sentences and the number of beams in, translations out; without a length penalty."""


class ParityRow(NamedTuple):
    """How one number of beams compares."""

    beams: int
    equal: int
    no_worse: int
    """Of those that differ, how many our model finds as likely as our own, to a thousandth of a nat: ties, and better finds."""
    ours_bleu: float | None
    theirs_bleu: float | None


class Parity(NamedTuple):
    """The result of a check."""

    program: str
    texts: CheckTexts
    rows: tuple[ParityRow, ...]
    signature: str
    """Of BLEU; empty without references."""

    def to_text(self) -> str:
        """A few lines for people."""
        count = len(self.texts.sources)
        found = [f"checked with {self.program}: {count:,} sentences ({self.texts.origin}), no length penalty"]
        for row in self.rows:
            name = "greedy" if row.beams == 1 else f"{row.beams} beams"
            line = f"  {name}: {row.equal:,} equal"
            if row.equal < count:
                line += f", {row.no_worse:,} differ and are as likely, {count - row.equal - row.no_worse:,} are less likely"
            if row.ours_bleu is not None and row.theirs_bleu is not None:
                line += f"; BLEU {row.theirs_bleu:.2f}, ours {row.ours_bleu:.2f}"
            found.append(line)
        return "\n".join([*found, *([f"  {self.signature}"] if self.signature else [])])

    def require(self, *, exact: bool) -> None:
        """Raise ModelError where the programs differ by more than they may.

        Args: exact: equal but for near ties, for numbers of 32 bits; else BLEU within `MOST_BLEU` where there are references.
        """
        for row in self.rows:
            good = row.equal >= _LEAST_EQUAL * len(self.texts.sources)
            if not exact:
                far = abs((row.theirs_bleu or 0) - (row.ours_bleu or 0))
                good = not self.signature or far <= MOST_BLEU
            if not good:
                raise ModelError(
                    f"{self.program} translates otherwise than this model:\n{self.to_text()}",
                    expected="equal translations but for near ties" if exact else f"BLEU within {MOST_BLEU}",
                    remedy="report this as a fault; --no-check writes the folder all the same" if exact else "--compute float32",
                )


def own_translations(loaded: LoadedModel, tokens: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
    """Sources, and themselves as targets after <s>, padded: what logits are compared on.

    Where the sides have vocabularies of their own, the target gets any tokens, as many as the source.
    """
    source = pad_rows(tokens)
    own = (source - EOS - 1) % (loaded.vocabularies.target.size - EOS - 1) + EOS + 1
    return source, torch.cat([torch.full((len(source), 1), SOS), torch.where(source > EOS, own, source)[:, :-1]], dim=1)


def check_texts(folder: Path, *, count: int = SENTENCES, given: GivenPairs | None = None) -> CheckTexts:
    """The first sentences that are given, or of a run's development set; else texts of tokens that are drawn from the vocabulary.

    Raises: UsageError where none is given.
    """
    translator = Translator.load(folder, engine="torch")
    if given is None:
        pairs = development_pairs(run_of(folder), count=4 * count)
        origin = "the run's development set" if pairs else "drawn from the vocabulary"
    else:
        pairs, origin = list(given.pairs), given.origin
    if not pairs and given is None:
        pairs = [(text, "") for text in _drawn(translator, count=4 * count)]
    found = CheckTexts([], [], [], origin)
    for source, reference in pairs:
        parts = translator.cut(source)
        # A text of several sentences is cut by us and by no other program.
        if len(parts) == 1 and len(found.sources) < count:
            found.sources.append(parts[0][0])
            found.tokens.append(parts[0][1])
            found.references.append(reference)
    if not found.sources:
        raise UsageError(f"{origin}: no line of one sentence to check with", expected="one or more")
    return found if any(found.references) else found._replace(references=[])


def run_of(folder: Path) -> Path:
    """The folder of the run that a model's folder is in."""
    return folder.parent if folder.name == "model" else folder


def _drawn(translator: Translator, *, count: int) -> Iterator[str]:
    vocabulary, generator = translator.vocabularies.source, random.Random(0)
    words = [id for id, piece in enumerate(vocabulary.pieces(range(vocabulary.size))) if id > EOS and piece[:1] != "<"]
    for _ in range(count):
        yield translator.read(vocabulary.decode(generator.choices(words, k=generator.randint(*_RANDOM_LENGTHS))))


def compare(folder: Path, theirs: Theirs, *, program: str, texts: CheckTexts, beams: Sequence[int] = BEAMS) -> Parity:
    """Translate the texts with both, with each number of beams, in float32 here."""
    loaded = load_model(folder)
    translator = Translator.load(folder, config=TranslateConfig(precision="fp32"))
    rows: list[ParityRow] = []
    signature = ""
    for width in beams:
        search = parity_search(width, longest=texts.longest, allow_unknown=translator.search.allow_unknown)
        ours = [one.text for one in translator.translate(texts.sources, search=search)]
        found = [plain(one).strip() for one in theirs(texts, width)]  # as ours, a line stays a line
        bleu: tuple[float | None, float | None] = (None, None)
        if texts.references:
            scores = [evaluate(one, [texts.references], metrics=("bleu",), bootstrap=0)[0] for one in (ours, found)]
            bleu, signature = (scores[0].value, scores[1].value), f"BLEU|{scores[0].signature}"
        different = [number for number, pair in enumerate(zip(ours, found, strict=True)) if pair[0] != pair[1]]
        no_worse = _no_worse(loaded, texts, ours, found, different)
        rows.append(ParityRow(width, len(ours) - len(different), no_worse, *bleu))
    return Parity(program, texts, tuple(rows), signature)


def parity_search(beams: int, *, longest: int, allow_unknown: bool = False) -> SearchConfig:
    """The search that other programs have, too: no length penalty, no guard of repetitions, one limit of length."""
    return SearchConfig(beams=beams, length_penalty=0, repeat_ngram=0, max_ratio=0, max_extra=longest, allow_unknown=allow_unknown)


def _no_worse(loaded: LoadedModel, texts: CheckTexts, ours: Sequence[str], found: Sequence[str], numbers: Sequence[int]) -> int:
    """How many of the other translations our model finds as likely as ours."""
    if not numbers:
        return 0
    model: TranslationModel = loaded.model
    sources = [texts.tokens[number] for number in numbers]
    nats = [
        losses(model, sources, loaded.vocabularies.target.encode_batch([side[number] for number in numbers])).nats for side in (ours, found)
    ]
    return int((nats[1] <= nats[0] + _TIE_NATS).sum())
