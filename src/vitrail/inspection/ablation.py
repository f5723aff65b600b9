"""What each attention head is worth: switch it off, translate a test set, and see what is lost."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.config import Config
from vitrail.data.batches import collate
from vitrail.data.phrasebook import Challenge, phrasebook, pronoun_accuracy
from vitrail.data.subwords import PAD
from vitrail.decode.search import SearchConfig
from vitrail.decode.translate import encodable, plain
from vitrail.errors import UsageError
from vitrail.evaluation.scores import SEED, Recipe, Statistics, collect, compare_statistics, score
from vitrail.inspection.edit import Head, Part, applied, heads_of
from vitrail.inspection.record import Kind
from vitrail.inspection.translator import InspectableTranslator

Numbers = NDArray[np.float64]
Found = TypeVar("Found")

GREEDY = SearchConfig(beams=1)
"""Ablations compare, so that the quickest search serves: a beam of 5 takes three times as long."""
RESAMPLES = 300
"""Of the paired bootstrap behind every interval."""
_ROWS = 32
"""Given translations that are weighed at once: their logits, for every word of the vocabulary, must fit into memory."""

_SPELLED = 6
"""Parts that a line names one by one."""

TITLES: dict[Kind, str] = {
    "encoder": "encoder self-attention",
    "decoder": "decoder self-attention",
    "cross": "cross-attention",
}


class Interval(NamedTuple):
    """The middle 95 % of paired resamples."""

    low: float
    high: float


class Yardstick(Protocol[Found]):
    """A test set and how translations of it are judged: by a score, and by how probable the model finds what is right."""

    name: str
    """What the score is, such as BLEU."""
    nats_name: str
    """What `nats` are."""

    @property
    def sources(self) -> Sequence[str]:
        """What is translated."""
        ...

    def judge(self, texts: Sequence[str]) -> Found:
        """What the translations get."""
        ...

    def value(self, found: Found) -> float:
        """The score, 0 to 100."""
        ...

    def lost(self, before: Found, after: Found) -> Interval:
        """How much of the score is lost, at 95 %."""
        ...

    def nats(self, translator: InspectableTranslator) -> Numbers:
        """One number for each sentence, higher being better; no search is needed for it."""
        ...

    @property
    def signature(self) -> str:
        """How the score was computed."""
        ...


class Lost(Config):
    """What is lost with one head, or several, switched off. Positive numbers are losses."""

    parts: tuple[str, ...]
    """What was switched off."""
    value: float
    """The score that is left, 0 to 100."""
    lost: float
    """Points of the score."""
    low: float
    high: float
    """The middle 95 % of paired resamples of `lost`."""
    nats: float
    """The mean of the probability measure that is left."""
    nats_lost: float
    nats_low: float
    nats_high: float
    """The same of the probability measure, in nats."""

    @property
    def measurable(self) -> bool:
        """Whether points are lost beyond what resampling explains."""
        return self.low > 0


class HeadLost(Lost):
    """What is lost with one head switched off."""

    kind: Kind
    layer: int
    head: int


class Ablation(Config):
    """What each head of a model is worth for a test set."""

    score: str
    """BLEU, or pronoun accuracy; 0 to 100."""
    nats_name: str
    """What is measured in nats."""
    signature: str
    value: float
    """The score of the whole model."""
    nats: float
    """The probability measure of the whole model."""
    sentences: int
    heads: tuple[HeadLost, ...]
    seconds: float
    sentences_per_second: float
    """Translated, by greedy search."""

    def table(self, kind: Kind, *, what: Literal["lost", "nats_lost"] = "lost") -> list[list[float]]:
        """Lost by layer and head."""
        layers: dict[int, list[float]] = {}
        for one in self.heads:
            if one.kind == kind:
                layers.setdefault(one.layer, []).append(one.lost if what == "lost" else one.nats_lost)
        return list(layers.values())

    def worst(self, count: int = 5) -> list[HeadLost]:
        """The heads without which most is lost."""
        return sorted(self.heads, key=lambda one: (-one.lost, -one.nats_lost))[:count]

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """To read in a terminal: a table of layers and heads for each kind of attention and each measure."""
        lines = [f"{self.score} {self.value:.2f} on {self.sentences:,} sentences; points lost with a head switched off:", ""]
        lines += self._tables("lost", "{:.2f}")
        lines += [f"{self.nats_name}: {self.nats:.3f} nats; lost with a head switched off:", ""]
        lines += self._tables("nats_lost", "{:.3f}")
        lines.append("most is lost without (95 % intervals of paired resamples):")
        lines += [to_line(one) for one in self.worst()]
        rate = f"{self.sentences_per_second:.0f} sentences/s"
        lines += ["", f"{len(self.heads) + 1} x {self.sentences:,} sentences by greedy search in {self.seconds:.1f} s ({rate})"]
        return "\n".join([*lines, self.signature])

    def _tables(self, what: Literal["lost", "nats_lost"], form: str) -> list[str]:
        lines: list[str] = []
        for kind in TITLES:
            rows = self.table(kind, what=what)
            if not rows:
                continue
            wide = len(TITLES[kind])
            lines.append("  ".join([TITLES[kind], *(f"{f'head {head}':>8}" for head in range(max(map(len, rows))))]))
            lines += ["  ".join([f"{f'layer {layer}':<{wide}}", *(f"{form.format(x):>8}" for x in row)]) for layer, row in enumerate(rows)]
            lines.append("")
        return lines


def to_line(one: Lost) -> str:
    """What was switched off and what was lost, in a line."""
    points = f"{one.lost:6.2f} points ({one.low:.2f} to {one.high:.2f})"
    parts = ", ".join(one.parts) if len(one.parts) <= _SPELLED else f"{len(one.parts)} parts, from {one.parts[0]} on"
    return f"  {points}, {one.nats_lost:6.3f} nats ({one.nats_low:.3f} to {one.nats_high:.3f})  {parts}"


def ablate_heads(
    translator: InspectableTranslator,
    sources: Sequence[str],
    references: Sequence[str],
    *,
    kinds: Sequence[Kind] = (),
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """What BLEU a test set loses with each head switched off by itself, and how much less probable its references become.

    Source: Michel et al. 2019, "Are sixteen heads really better than one?", section 3.2; intervals: Koehn 2004, paired.
    Args:   kinds: of attention; none: all.
    Raises: UsageError for a model without attention heads of these kinds; DataError where counts differ.
    Cost:   one translation of the test set for each head and one more, so keep it to a few hundred sentences.
    """
    return sweep(translator, Bleu(sources, references), kinds=kinds, search=search, say=say)


def ablate_pronouns(
    translator: InspectableTranslator,
    *,
    sentences: int = 200,
    kinds: Sequence[Kind] = (),
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """The same for how often "it" becomes the right one of il and elle in the phrasebook's challenge set."""
    return sweep(translator, Pronouns(challenge_set()[:sentences]), kinds=kinds, search=search, say=say)


def sweep(
    translator: InspectableTranslator,
    yardstick: Yardstick[Any],
    *,
    kinds: Sequence[Kind] = (),
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """Switch off one head after the other."""
    heads = heads_of(translator.model, *kinds)
    if not heads:
        raise UsageError(f"no {' or '.join(kinds) or 'attention'} heads in this model: nothing to switch off")
    began = time.perf_counter()
    trial = Trial.begin(translator, yardstick, search=search)
    found: list[HeadLost] = []
    for number, head in enumerate(heads, start=1):
        lost = trial.without([head])
        found.append(HeadLost(**lost.model_dump(), kind=head.kind, layer=head.layer, head=head.number))
        say(f"{number}/{len(heads)}  {head}  {lost.lost:.2f} {yardstick.name}, {lost.nats_lost:.3f} nats lost")
    seconds = time.perf_counter() - began
    return Ablation(
        score=yardstick.name,
        nats_name=yardstick.nats_name,
        signature=yardstick.signature,
        value=trial.value,
        nats=float(trial.nats.mean()),
        sentences=len(yardstick.sources),
        heads=tuple(found),
        seconds=seconds,
        sentences_per_second=(len(heads) + 1) * len(yardstick.sources) / seconds,
    )


@dataclass(frozen=True)
class Trial:
    """A test set translated by the whole model, to compare ablations with."""

    translator: InspectableTranslator
    yardstick: Yardstick[Any]
    search: SearchConfig
    before: Any
    nats: Numbers

    @classmethod
    def begin(cls, translator: InspectableTranslator, yardstick: Yardstick[Any], *, search: SearchConfig = GREEDY) -> "Trial":
        """Translate with the whole model."""
        before = yardstick.judge([found.text for found in translator.translate(yardstick.sources, search=search)])
        return cls(translator, yardstick, search, before, yardstick.nats(translator))

    @property
    def value(self) -> float:
        """The score of the whole model."""
        return self.yardstick.value(self.before)

    def without(self, parts: Iterable[str | Part | Head]) -> Lost:
        """Translate with some parts switched off."""
        parts = list(parts)
        with applied(self.translator.model, off=parts):
            texts = [found.text for found in self.translator.translate(self.yardstick.sources, search=self.search)]
            nats = self.yardstick.nats(self.translator)
        after = self.yardstick.judge(texts)
        value = self.yardstick.value(after)
        low, high = self.yardstick.lost(self.before, after)
        gaps = self.nats - nats
        nats_low, nats_high = interval_of_mean(gaps)
        return Lost(
            parts=tuple(map(str, parts)),
            value=value,
            lost=self.value - value,
            low=low,
            high=high,
            nats=float(nats.mean()),
            nats_lost=float(gaps.mean()),
            nats_low=nats_low,
            nats_high=nats_high,
        )


def nats_without(translator: InspectableTranslator, yardstick: Yardstick[Any], parts: Iterable[str | Part | Head]) -> float:
    """The mean of the probability measure with some parts switched off: no search, a tenth of the time."""
    with applied(translator.model, off=parts):
        return float(yardstick.nats(translator).mean())


def interval_of_mean(values: Numbers) -> Interval:
    """The middle 95 % of the means of resamples with replacement."""
    generator = np.random.default_rng(SEED)
    drawn = values[generator.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Interval(low, high)


class Bleu:
    """sacreBLEU's BLEU against one reference set, and log p of the references by token."""

    name, nats_name = "BLEU", "mean log p of a token of the reference"

    def __init__(self, sources: Sequence[str], references: Sequence[str], *, tokenize: str = "13a") -> None:
        self.sources, self.references = sources, references
        # compare_statistics also shuffles, which nothing here reads.
        self._recipe = Recipe(("bleu",), bootstrap=RESAMPLES, trials=1, tokenize=tokenize)
        self.judge(references)  # unequal counts are found before anything is translated
        if len(sources) != len(references):
            collect(list(sources), [list(references)], recipe=self._recipe)

    def judge(self, texts: Sequence[str]) -> Statistics:
        """Counts of each sentence."""
        return collect(texts, [self.references], recipe=self._recipe)

    def value(self, found: Statistics) -> float:
        """BLEU."""
        return score(Statistics(Recipe(("bleu",), bootstrap=0, tokenize=self._recipe.tokenize), *_parts(found)))[0].value

    def lost(self, before: Statistics, after: Statistics) -> Interval:
        """Paired bootstrap."""
        (found,) = compare_statistics(before, after)
        return Interval(-found.high, -found.low)

    def nats(self, translator: InspectableTranslator) -> Numbers:
        """Of each reference, its end included."""
        pairs = [(_encode(translator, x), translator.encode_target(y)) for x, y in zip(self.sources, self.references, strict=True)]
        return given_log_probabilities(translator, pairs)

    @property
    def signature(self) -> str:
        """sacreBLEU's."""
        return score(self.judge(self.references))[0].signature


def _parts(found: Statistics) -> tuple[Any, ...]:
    return found.metrics, found.spans, found.table


class Pronouns:
    """How often "it" becomes the right pronoun, and by how much the right one is more probable than the wrong one."""

    name, nats_name = "pronoun accuracy", "log p(right pronoun) - log p(wrong pronoun), after the reference's words"

    def __init__(self, challenges: Sequence[Challenge]) -> None:
        self.challenges = challenges
        self.sources = [one.source for one in challenges]

    def judge(self, texts: Sequence[str]) -> Numbers:
        """1 for each right pronoun, 0 for a wrong one or none."""
        pairs = zip(self.challenges, texts, strict=True)
        return np.array([pronoun_accuracy([one], [text]).correct for one, text in pairs], dtype=np.float64)

    def value(self, found: Numbers) -> float:
        """Percent."""
        return 100 * float(found.mean())

    def lost(self, before: Numbers, after: Numbers) -> Interval:
        """Paired bootstrap, in points."""
        return interval_of_mean(100 * (before - after))

    def nats(self, translator: InspectableTranslator) -> Numbers:
        """The margin in each sentence, where the target and its contrast first differ."""
        found: list[float] = []
        for start in range(0, len(self.challenges), _ROWS):
            found += _margins(translator, self.challenges[start : start + _ROWS])
        return np.array(found)

    @property
    def signature(self) -> str:
        """The set."""
        return f"phrasebook, {len(self.challenges)} sentences of the challenge set, pronoun after parce que"


@cache
def challenge_set() -> tuple[Challenge, ...]:
    """The phrasebook's; it is drawn before any training sentence, of which none is needed here."""
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
    """Find the pronoun in the target's tokens. Raises UsageError where a vocabulary writes both pronouns alike (as unknown tokens)."""
    target, contrast = translator.encode_target(challenge.target), translator.encode_target(challenge.contrast)
    for place, (right, wrong) in enumerate(zip(target, contrast, strict=False)):
        if right != wrong:
            return PronounPlace(target, place, right, wrong)
    raise UsageError("this model's vocabulary does not tell il from elle", expected="a model that translates into French")


@torch.inference_mode()
def _margins(translator: InspectableTranslator, challenges: Sequence[Challenge]) -> list[float]:
    """log p(right) - log p(wrong) of the first token at which a target and its contrast differ, given the target's words before it."""
    found = [pronoun_place(translator, one) for one in challenges]
    places = [one.place for one in found]
    model = translator.model
    device = next(model.parameters()).device
    sources = [_encode(translator, one.source) for one in challenges]
    batch = collate(sources, [one.target[: one.place] for one in found])
    hidden = model.decode(batch.target_in.to(device), model.encode(batch.source.to(device)))
    rows = torch.arange(len(challenges), device=device)
    logits = model.read_out(hidden[rows, torch.tensor(places, device=device)]).double().cpu()
    chosen = logits.gather(1, torch.tensor([(one.right, one.wrong) for one in found]))
    return (chosen[:, 0] - chosen[:, 1]).tolist()


@torch.inference_mode()
def given_log_probabilities(translator: InspectableTranslator, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Numbers:
    """The mean of log p over the tokens of each given translation, its end included, in nats."""
    model = translator.model
    device = next(model.parameters()).device
    found: list[float] = []
    for start in range(0, len(pairs), _ROWS):
        sources, targets = zip(*pairs[start : start + _ROWS], strict=True)
        batch = collate(sources, targets)
        target = batch.target_out.to(device)
        hidden = model.decode(batch.target_in.to(device), model.encode(batch.source.to(device)))
        logs = model.read_out(hidden).log_softmax(-1).gather(2, target[:, :, None])[:, :, 0].double()
        real = target != PAD
        found += ((logs * real).sum(1) / real.sum(1)).tolist()
    return np.array(found)


def _encode(translator: InspectableTranslator, text: str) -> list[int]:
    """Token ids of any text, as translating it would make them."""
    return translator.vocabularies.source.encode(plain(encodable(text)).strip())
