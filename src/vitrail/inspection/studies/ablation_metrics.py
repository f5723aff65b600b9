"""Metrics of ablations on a test set: a score of the translations, and the log-probability of the right answer."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.subwords import PAD
from vitrail.decode.forced import batches, forced_decode, losses, make_batch
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import UsageError
from vitrail.evaluation.scores import SEED, Recipe, Statistics, collect_statistics, compare_statistics, score
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.translator import InspectableTranslator
from vitrail.phrasebook.corpus import Challenge, phrasebook, pronoun_accuracy
from vitrail.scoring import bleu_settings_for

Numbers = NDArray[np.float64]
Found = TypeVar("Found")
Inspected = TypeVar("Inspected", contravariant=True)
"""The kind of model that a metric is for."""

RESAMPLES = 300
"""Resamples of the paired bootstrap of every interval."""
_ROWS = 32
"""Sentences scored at once: their logits over the whole vocabulary must fit into memory."""


class ConfidenceInterval(NamedTuple):
    """The middle 95 % of paired resamples."""

    low: float
    high: float


class AblationMetric(Protocol[Inspected, Found]):
    """A test set with its metrics: a score of what the model says, and the log-probability of the right answer."""

    name: str
    """Name of the score, such as BLEU."""
    nats_name: str
    """Name of `nats`."""
    how: str
    """How the model is asked."""

    @property
    def sources(self) -> Sequence[str]:
        """The sentences."""
        ...

    def answers(self, inspector: Inspected, search: SearchConfig) -> Found:
        """Ask the model, and score what it says, sentence by sentence."""
        ...

    def value(self, found: Found) -> float:
        """The score, 0 to 100."""
        ...

    def lost(self, before: Found, after: Found) -> ConfidenceInterval:
        """The loss of the score, with its 95 % interval."""
        ...

    def nats(self, inspector: Inspected) -> Numbers:
        """One number for each sentence, higher being better; no search is needed for it."""
        ...

    @property
    def signature(self) -> str:
        """How the score was computed."""
        ...


def interval_of_mean(values: Numbers) -> ConfidenceInterval:
    """The middle 95 % of the means of resamples with replacement."""
    generator = np.random.default_rng(SEED)
    drawn = values[generator.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return ConfidenceInterval(low, high)


def interval_of_share(gaps: Numbers, counts: Numbers) -> ConfidenceInterval:
    """The middle 95 % of 100 · Σ gaps / Σ counts over resamples of lines with replacement."""
    drawn = np.random.default_rng(SEED).integers(len(gaps), size=(RESAMPLES, len(gaps)))
    low, high = np.quantile(100 * gaps[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975)).tolist()
    return ConfidenceInterval(low, high)


class Bleu:
    """sacreBLEU's BLEU against one reference set, and log p of the references by token."""

    name, nats_name, how = "BLEU", "mean log p of a token of the reference", "by greedy search"

    def __init__(self, sources: Sequence[str], references: Sequence[str], *, language: str = "") -> None:
        self.sources, self.references = sources, references
        counting = bleu_settings_for(language, references)
        # compare_statistics also shuffles; that result is not used here.
        self._recipe = Recipe(
            ("bleu",), bootstrap=RESAMPLES, trials=1, tokenize=counting.tokenize, effective_order=counting.effective_order
        )
        self.judge(references)  # check the counts before translating
        if len(sources) != len(references):
            collect_statistics(list(sources), [list(references)], recipe=self._recipe)

    def answers(self, inspector: InspectableTranslator, search: SearchConfig) -> Statistics:
        """Counts of each sentence's translation."""
        return self.judge([found.text for found in inspector.translate(self.sources, search=search)])

    def judge(self, texts: Sequence[str]) -> Statistics:
        """Counts of each sentence."""
        return collect_statistics(texts, [self.references], recipe=self._recipe)

    def value(self, found: Statistics) -> float:
        """BLEU."""
        return score(Statistics(replace(self._recipe, bootstrap=0), *_parts(found)))[0].value

    def lost(self, before: Statistics, after: Statistics) -> ConfidenceInterval:
        """Paired bootstrap."""
        (found,) = compare_statistics(before, after)
        return ConfidenceInterval(-found.high, -found.low)

    def nats(self, inspector: InspectableTranslator) -> Numbers:
        """Of each reference, its end included."""
        sources = [_encode(inspector, text) for text in self.sources]
        return -losses(inspector.model, sources, [inspector.encode_target(text) for text in self.references]).per_token

    @property
    def signature(self) -> str:
        """sacreBLEU's."""
        return score(self.judge(self.references))[0].signature


def _parts(found: Statistics) -> tuple[Any, ...]:
    return found.metrics, found.spans, found.table


class Pronouns:
    """Accuracy of the pronoun for "it", and the log-probability margin of the right pronoun over the wrong one."""

    name, nats_name = "pronoun accuracy", "log p(right pronoun) - log p(wrong pronoun), after the reference's words"
    how = "by greedy search"

    def __init__(self, challenges: Sequence[Challenge]) -> None:
        self.challenges = challenges
        self.sources = [one.source for one in challenges]

    def answers(self, inspector: InspectableTranslator, search: SearchConfig) -> Numbers:
        """Whether each translation has the right pronoun."""
        return self.judge([found.text for found in inspector.translate(self.sources, search=search)])

    def judge(self, texts: Sequence[str]) -> Numbers:
        """1 for each right pronoun, 0 for a wrong one or none."""
        pairs = zip(self.challenges, texts, strict=True)
        return np.array([pronoun_accuracy([one], [text]).correct for one, text in pairs], dtype=np.float64)

    def value(self, found: Numbers) -> float:
        """Percent."""
        return 100 * float(found.mean())

    def lost(self, before: Numbers, after: Numbers) -> ConfidenceInterval:
        """Paired bootstrap, in points."""
        return interval_of_mean(100 * (before - after))

    def nats(self, inspector: InspectableTranslator) -> Numbers:
        """The margin in each sentence, where the target and its contrast first differ."""
        found: list[float] = []
        for start in range(0, len(self.challenges), _ROWS):
            found += _margins(inspector, self.challenges[start : start + _ROWS])
        return np.array(found)

    @property
    def signature(self) -> str:
        """The set."""
        return f"phrasebook, {len(self.challenges)} sentences of the challenge set, pronoun after parce que"


class NextToken:
    """Of a language model: how often the token of a text is the one that it expects most, and log p of the text by token."""

    name, nats_name, how = "next-token accuracy", "mean log p of a token of the text", "read once"

    def __init__(self, generator: InspectableGenerator, lines: Sequence[str]) -> None:
        texts = [text for text in map(normalise, lines) if text]
        rows = [(text, ids) for text, ids in zip(texts, generator.vocabulary.encode_batch(texts), strict=True) if ids]
        if not rows:
            raise UsageError("no line with a token", expected="lines of text")
        self.sources = [text for text, _ in rows]
        self.ids = [ids[: generator.longest] for _, ids in rows]
        self._cut = sum(len(ids) > generator.longest for _, ids in rows)

    def answers(self, inspector: InspectableGenerator, search: SearchConfig) -> Numbers:
        """(N 2): how many tokens of each line were expected most, its end included, and how many there are."""
        found = np.zeros((len(self.ids), 2))
        with torch.inference_mode():
            for numbers in batches([()] * len(self.ids), self.ids, rows=_ROWS):
                batch = make_batch(inspector.model, [()] * len(numbers), [self.ids[number] for number in numbers])
                best = inspector.model.read_out(forced_decode(inspector.model, batch)).argmax(-1)
                real = batch.target_out != PAD
                right = (best == batch.target_out) & real
                found[numbers] = torch.stack([right.sum(1), real.sum(1)], 1).cpu().numpy()
        return found

    def value(self, found: Numbers) -> float:
        """Percent of all tokens."""
        return 100 * float(found[:, 0].sum() / found[:, 1].sum())

    def lost(self, before: Numbers, after: Numbers) -> ConfidenceInterval:
        """Paired bootstrap over lines, in points."""
        return interval_of_share(before[:, 0] - after[:, 0], before[:, 1])

    def nats(self, inspector: InspectableGenerator) -> Numbers:
        """Of each line, its end included."""
        return -losses(inspector.model, [()] * len(self.ids), self.ids).per_token

    @property
    def signature(self) -> str:
        """The text, and how it is read."""
        cut = f"; {self._cut} cut at {max(map(len, self.ids))} tokens" if self._cut else ""
        return f"{len(self.ids)} lines, each by itself, with its end{cut}"


@cache
def challenge_set() -> tuple[Challenge, ...]:
    """The phrasebook's challenge set; it is generated before the training sentences, which are not needed here."""
    return tuple(phrasebook(train_pairs=0).pronouns)


class PronounPlace(NamedTuple):
    """Where a challenge's target and its contrast first differ: at the pronoun."""

    target: tuple[int, ...]
    """Token ids of the right translation."""
    place: int
    right: int
    """The token of the right pronoun there."""
    wrong: int


def pronoun_place(translator: InspectableTranslator, challenge: Challenge) -> PronounPlace:
    """Find the pronoun in the target's tokens. Raises UsageError where both pronouns have the same token (unknown)."""
    target, contrast = translator.encode_target(challenge.target), translator.encode_target(challenge.contrast)
    for place, (right, wrong) in enumerate(zip(target, contrast, strict=False)):
        if right != wrong:
            return PronounPlace(target, place, right, wrong)
    raise UsageError("this model's vocabulary has the same token for il and elle", expected="a model that translates into French")


@torch.inference_mode()
def _margins(translator: InspectableTranslator, challenges: Sequence[Challenge]) -> list[float]:
    """log p(right) - log p(wrong) of the first token at which a target and its contrast differ, given the target's words before it."""
    found = [pronoun_place(translator, one) for one in challenges]
    places = [one.place for one in found]
    model = translator.model
    device = next(model.parameters()).device
    sources = [_encode(translator, one.source) for one in challenges]
    hidden = forced_decode(model, make_batch(model, sources, [one.target[: one.place] for one in found]))
    rows = torch.arange(len(challenges), device=device)
    logits = model.read_out(hidden[rows, torch.tensor(places, device=device)]).double().cpu()
    chosen = logits.gather(1, torch.tensor([(one.right, one.wrong) for one in found]))
    return (chosen[:, 0] - chosen[:, 1]).tolist()


def _encode(translator: InspectableTranslator, text: str) -> list[int]:
    """Token ids of any text, as translating it would make them."""
    return translator.vocabularies.source.encode(translator.read(text))
