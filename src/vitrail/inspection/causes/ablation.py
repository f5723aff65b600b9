"""Head ablation: switch off each attention head, translate a test set or read a text, and measure the loss."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from vitrail.config import Config
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import UsageError
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.parts import Head, Part, heads_of
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller
from vitrail.inspection.record import AttentionType
from vitrail.inspection.studies.ablation_metrics import AblationMetric, Bleu, NextToken, Numbers, Pronouns, challenge_set, interval_of_mean
from vitrail.inspection.studies.reading_metrics import GivenBack, HiddenTokens, RightLabels
from vitrail.inspection.translator import InspectableTranslator

GREEDY = SearchConfig(beams=1)
"""Ablations only compare, so the fastest search is enough: a beam of 5 takes three times as long."""
_SPELLED = 6
"""Maximal number of parts that a line lists by name."""

TITLES: dict[AttentionType, str] = {
    "encoder": "encoder self-attention",
    "decoder": "decoder self-attention",
    "cross": "cross-attention",
}


class AblationEffect(Config):
    """The effect of switching off one or several heads. Positive numbers are losses."""

    parts: tuple[str, ...]
    """What was switched off."""
    value: float
    """The score after ablation, 0 to 100."""
    lost: float
    """Loss in points of the score."""
    low: float
    high: float
    """The middle 95 % of paired resamples of `lost`."""
    nats: float
    """The mean of the probability measure after ablation."""
    nats_lost: float
    nats_low: float
    nats_high: float
    """Loss of the probability measure, in nats."""


class HeadEffect(AblationEffect):
    """The effect of switching off one head."""

    kind: AttentionType
    layer: int
    head: int


class Ablation(Config):
    """The ablation of each head of a model on a test set."""

    score: str
    """BLEU, pronoun accuracy, the accuracy of next tokens, hidden tokens or labels, or chrF; 0 to 100."""
    nats_name: str
    """Name of the measure in nats."""
    signature: str
    value: float
    """The score of the whole model."""
    nats: float
    """The probability measure of the whole model."""
    sentences: int
    heads: tuple[HeadEffect, ...]
    seconds: float
    sentences_per_second: float
    """Translated or read."""
    how: str = "by greedy search"
    """How the model was asked."""

    def table(self, kind: AttentionType, *, what: Literal["lost", "nats_lost"] = "lost") -> list[list[float]]:
        """Lost by layer and head."""
        layers: dict[int, list[float]] = {}
        for one in self.heads:
            if one.kind == kind:
                layers.setdefault(one.layer, []).append(one.lost if what == "lost" else one.nats_lost)
        return list(layers.values())

    def worst(self, count: int = 5) -> list[HeadEffect]:
        """The heads with the largest losses."""
        return sorted(self.heads, key=lambda one: (-one.lost, -one.nats_lost))[:count]

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """To read in a terminal: a table of layers and heads for each kind of attention and each measure."""
        lines = [f"{self.score} {self.value:.2f} on {self.sentences:,} sentences; points lost with a head switched off:", ""]
        lines += self._tables("lost", digits=2)
        lines += [f"{self.nats_name}: {self.nats:.3f} nats; lost with a head switched off:", ""]
        lines += self._tables("nats_lost", digits=3)
        lines.append("largest losses (95 % intervals of paired resamples):")
        lines += [to_line(one) for one in self.worst()]
        rate = f"{self.sentences_per_second:.0f} sentences/s"
        lines += ["", f"{len(self.heads) + 1} x {self.sentences:,} sentences {self.how} in {self.seconds:.1f} s ({rate})"]
        return "\n".join([*lines, self.signature])

    def _tables(self, what: Literal["lost", "nats_lost"], *, digits: int) -> list[str]:
        lines: list[str] = []
        for kind in TITLES:
            rows = self.table(kind, what=what)
            if not rows:
                continue
            wide = len(TITLES[kind])
            lines.append("  ".join([TITLES[kind], *(f"{f'head {head}':>8}" for head in range(max(map(len, rows))))]))
            lines += [
                "  ".join([f"{f'layer {layer}':<{wide}}", *(f"{_unsigned(x, digits):8.{digits}f}" for x in row)])
                for layer, row in enumerate(rows)
            ]
            lines.append("")
        return lines


def to_line(one: AblationEffect) -> str:
    """The ablated parts and their loss, in a line."""
    points, low, high = (f"{_unsigned(x, 2):.2f}" for x in (one.lost, one.low, one.high))
    nats, nats_low, nats_high = (f"{_unsigned(x, 3):.3f}" for x in (one.nats_lost, one.nats_low, one.nats_high))
    parts = ", ".join(one.parts) if len(one.parts) <= _SPELLED else f"{len(one.parts)} parts, from {one.parts[0]} on"
    return f"  {points:>6} points ({low} to {high}), {nats:>6} nats ({nats_low} to {nats_high})  {parts}"


def _unsigned(value: float, digits: int) -> float:
    """Rounded, and 0 rather than -0."""
    return round(value, digits) + 0.0


def ablate_heads(
    translator: InspectableTranslator,
    sources: Sequence[str],
    references: Sequence[str],
    *,
    kinds: Sequence[AttentionType] = (),
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """Ablate each head by itself: the loss of BLEU on a test set, and of the log-probability of its references.

    Source: Michel et al. 2019, "Are sixteen heads really better than one?", section 3.2; intervals: Koehn 2004, paired.
    Args:   kinds: of attention; none: all.
    Raises: UsageError for a model without attention heads of these kinds; DataError where counts differ.
    Cost:   one translation of the test set for each head and one more, so keep it to a few hundred sentences.
    """
    return sweep(translator, Bleu(sources, references, language=translator.languages[1]), kinds=kinds, search=search, say=say)


def ablate_pronouns(
    translator: InspectableTranslator,
    *,
    sentences: int = 200,
    kinds: Sequence[AttentionType] = (),
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """Ablate each head: the loss of pronoun accuracy (il or elle for "it") on the phrasebook's challenge set."""
    return sweep(translator, Pronouns(challenge_set()[:sentences]), kinds=kinds, search=search, say=say)


def ablate_next_token(generator: InspectableGenerator, lines: Sequence[str], *, say: Callable[[str], None] = lambda line: None) -> Ablation:
    """Ablate each head of a language model: the loss of next-token accuracy on a text, and of its log-probability.

    Raises: UsageError for a model without attention heads, and for lines without tokens.
    Cost:   two passes over the text for each head and one more.
    """
    return sweep(generator, NextToken(generator, lines), say=say)


def ablate_guesses(filler: InspectableFiller, lines: Sequence[str], *, say: Callable[[str], None] = lambda line: None) -> Ablation:
    """Ablate each head of a masked language model: the loss of accuracy on hidden tokens of a text, and of their log-probability.

    Raises: UsageError for lines without tokens.
    Cost:   eight passes over the text for each head and one more: two measures of four rounds.
    """
    return sweep(filler, HiddenTokens(filler, lines), say=say)


def ablate_labels(
    classifier: InspectableClassifier, texts: Sequence[str], labels: Sequence[str], *, say: Callable[[str], None] = lambda line: None
) -> Ablation:
    """Ablate each head of a classifier: the loss of accuracy, and of the log-probability of the right labels.

    Raises: UsageError for a model without attention heads; DataError for a label that the model does not know.
    Cost:   two passes over the texts for each head and one more.
    """
    return sweep(classifier, RightLabels(classifier, texts, labels), say=say)


def ablate_reconstruction(
    autoencoder: InspectableTranslator, lines: Sequence[str], *, say: Callable[[str], None] = lambda line: None
) -> Ablation:
    """Ablate each head of an autoencoder: the loss of chrF of what is given back, and of the sentences' log-probability.

    Raises: UsageError for a model without attention heads, and for lines that are too long.
    Cost:   two readings of the lines and one writing for each head and one more.
    """
    return sweep(autoencoder, GivenBack(autoencoder, lines), say=say)


Inspected = TypeVar("Inspected", InspectableTranslator, InspectableGenerator, InspectableFiller, InspectableClassifier)


def sweep(
    inspector: Inspected,
    metric: AblationMetric[Inspected, Any],
    *,
    kinds: Sequence[AttentionType] = (),
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """Ablate one head after the other."""
    heads = heads_of(inspector.model, *kinds)
    if not heads:
        raise UsageError(
            f"no {' or '.join(kinds) or 'attention'} heads in this model: nothing to switch off",
            expected="a model with attention",
            remedy='other parts, one by one: vitrail inspect MODEL "A text." --edit off=PART',
        )
    began = time.perf_counter()
    trial = AblationBaseline.begin(inspector, metric, search=search)
    found: list[HeadEffect] = []
    for number, head in enumerate(heads, start=1):
        lost = trial.without([head])
        found.append(HeadEffect(**lost.model_dump(), kind=head.kind, layer=head.layer, head=head.number))
        say(f"{number}/{len(heads)}  {head}  {lost.lost:.2f} {metric.name}, {lost.nats_lost:.3f} nats lost")
    seconds = time.perf_counter() - began
    return Ablation(
        score=metric.name,
        nats_name=metric.nats_name,
        signature=metric.signature,
        value=trial.value,
        nats=float(trial.nats.mean()),
        sentences=len(metric.sources),
        heads=tuple(found),
        seconds=seconds,
        sentences_per_second=(len(heads) + 1) * len(metric.sources) / seconds,
        how=metric.how,
    )


@dataclass(frozen=True)
class AblationBaseline:
    """What the whole model says of a test set: the baseline of ablations."""

    inspector: InspectableTranslator | InspectableGenerator | InspectableFiller | InspectableClassifier
    metric: AblationMetric[Any, Any]
    search: SearchConfig
    before: Any
    nats: Numbers

    @classmethod
    def begin(cls, inspector: Inspected, metric: AblationMetric[Inspected, Any], *, search: SearchConfig = GREEDY) -> "AblationBaseline":
        """Create the baseline: ask the whole model."""
        return cls(inspector, metric, search, metric.answers(inspector, search), metric.nats(inspector))

    @property
    def value(self) -> float:
        """The score of the whole model."""
        return self.metric.value(self.before)

    def without(self, parts: Iterable[str | Part | Head]) -> AblationEffect:
        """Ask with some parts switched off."""
        parts = list(parts)
        with intervene(self.inspector.model, off=parts):
            after = self.metric.answers(self.inspector, self.search)
            nats = self.metric.nats(self.inspector)
        value = self.metric.value(after)
        low, high = self.metric.lost(self.before, after)
        gaps = self.nats - nats
        nats_low, nats_high = interval_of_mean(gaps)
        return AblationEffect(
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
