"""Whether a model has learned to translate at all: checked before scores are compared, and by the doctor."""

import math
from collections.abc import Sequence

import numpy as np

from vitrail.data.batches import IdRow
from vitrail.data.preparing.prepared import AnyPrepared, Prepared, PreparedLabels, PreparedText
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.forced import losses
from vitrail.evaluation.curves import LearningCheck, Point, TrainingEstimate
from vitrail.models.base import AutoregressiveModel, TranslationModel
from vitrail.train.choosing.choose import LEAST_STEPS

LITTLE = 0.6
"""Dev loss, as a share of the unigram entropy, above which a model is hardly better than a unigram model. At the first
of their validations, the models of the Multi30k ladder have 0.31 to 0.43; after 150 steps 0.67 to 0.74."""
LITTLE_TEXT = 0.85
"""The same for a language model, which has no source to learn from: on the Penn Treebank an LSTM with a perplexity of 82 (Zaremba et al.
2014) has 0.67."""
LITTLE_LABELS = 0.95
"""The same for a classifier, as a share of the entropy of its labels: giving each text the labels' frequencies costs 1."""
SOURCE_WEAK = 0.4
"""Nats per token by which a wrong source must make the right target less likely, below which the source is hardly used: parallel text
shares 1 nat per token and more (the difference in loss between a language model and a translator). Healthy: 2.4 to 5.4."""
OWN = 0.1
"""Minimal lead of the chrF against a translation's own references over that against others, as a share of the distance to 100."""
SENTENCES = 256
"""Dev pairs whose loss with another source is measured."""
LONGEST = 100
"""Their maximal length in tokens a side, to bound memory."""
FEWEST = 8
"""Minimal number of sentences for a check."""
_ENTROPY_PAIRS = 5_000
_FURTHEST = 8.0
"""Maximal factor by which a training may be estimated to be too short: a learning curve cannot be extrapolated further."""


def spread(total: int, most: int) -> list[int]:
    """At most `most` places out of `total`, evenly spread."""
    count = min(total, most)
    return [place * total // count for place in range(count)] if count else []


def little(data: AnyPrepared) -> float:
    """The share of `word_entropy` above which a model trained on this is hardly better than one that knows frequencies alone."""
    return LITTLE_TEXT if isinstance(data, PreparedText) else LITTLE_LABELS if isinstance(data, PreparedLabels) else LITTLE


def word_entropy(data: AnyPrepared) -> float:
    """Unigram entropy of the training targets' (or text's) tokens, <eos> included, in nats: the loss of a unigram model.

    Of labels: the entropy of their frequencies; where labels may hold together, the sum of each one's.
    """
    store = max(data.stores, key=len)
    places = spread(len(store), _ENTROPY_PAIRS)
    if isinstance(data, PreparedLabels):
        return _label_entropy([store.row("label", place) for place in places], several=data.labels.several)
    role = "text" if isinstance(data, PreparedText) else "target"
    counts = np.bincount(np.concatenate([store.row(role, place) for place in places]), minlength=SOS + 2).astype(np.float64)
    counts[EOS] += len(places)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _label_entropy(rows: Sequence[IdRow], *, several: bool) -> float:
    shares = np.bincount(np.concatenate(rows), minlength=EOS + 2)[EOS + 1 :] / len(rows)
    parts = np.concatenate([shares, 1 - shares]) if several else shares
    parts = parts[parts > 0]
    return float(-(parts * np.log(parts)).sum())


def losses_by_source(model: AutoregressiveModel, source: Sequence[IdRow], target: Sequence[IdRow]) -> tuple[float, float]:
    """Nats per token of the targets with their own sources, and with those of others, of the same length or nearly."""
    order = sorted(range(len(source)), key=lambda place: len(source[place]))
    other = {place: source[order[(rank + 1) % len(order)]] for rank, place in enumerate(order)}
    nats, tokens = losses(model, source, target)
    other_nats, _ = losses(model, [other[place] for place in range(len(source))], target)
    return float(nats.sum() / tokens.sum()), float(other_nats.sum() / tokens.sum())


def source_gain(model: TranslationModel, data: Prepared) -> float | None:
    """How many nats per token a wrong source adds to the dev loss; None where too few dev sentences are short enough."""
    vocabularies = data.vocabularies
    places = spread(len(data.dev.source), SENTENCES)
    source, target = (
        side.encode_batch([texts[place] for place in places])
        for side, texts in zip((vocabularies.source, vocabularies.target), data.dev, strict=True)
    )
    short = [pair for pair in zip(source, target, strict=True) if all(0 < len(side) <= LONGEST for side in pair)]
    if len(short) < FEWEST:
        return None
    own, other = losses_by_source(model, [source for source, _ in short], [target for _, target in short])
    return other - own


def own_and_other(translations: Sequence[str], references: Sequence[str]) -> tuple[float, float] | None:
    """chrF of translations against their own references, and against those of other sentences; None where they are too few.

    If the output does not depend on the source, the two scores are equal.
    """
    from sacrebleu.metrics import CHRF

    if len(set(references)) < FEWEST:
        return None
    half = len(references) // 2
    turned = [*references[half:], *references[:half]]
    return tuple(CHRF().corpus_score(list(translations), [list(told)]).score for told in (references, turned))  # pyright: ignore[reportReturnType]


def check_learning(*, dev_loss: float, entropy: float, gain: float | None, chrf: tuple[float, float] | None) -> LearningCheck:
    """The evidence that a model has not learned to translate; empty where it has."""
    doubts: list[str] = []
    if not dev_loss < LITTLE * entropy:
        doubts.append(f"its dev loss of {dev_loss:.2f} nats per token is {dev_loss / entropy:.0%} of the unigram entropy ({entropy:.2f})")
    if gain is not None and not gain >= SOURCE_WEAK:
        doubts.append(f"a wrong source raises its dev loss by only {gain:.2f} nats per token")
    if chrf is not None and (chrf[0] - chrf[1]) < OWN * (100 - chrf[1]):
        told = f"chrF {chrf[1]:.1f} and {chrf[0]:.1f}"
        doubts.append(f"its translations fit the references of other sentences nearly as well as their own ({told})")
    return LearningCheck(entropy, gain, *(chrf or (None, None)), doubts=tuple(doubts))


def estimate_training(curve: Sequence[Point], *, entropy: float, steps: int, minutes: float) -> TrainingEstimate:
    """Estimate the length of a training that was too short: at least the planned minimum and twice the current length; longer if the loss,
    extrapolated linearly in the logarithm of the steps, reaches `LITTLE` of the entropy later.
    """
    known = [(math.log(point.step), point.dev_loss) for point in curve if point.step > 0 and math.isfinite(point.dev_loss)][-3:]
    wanted = float(max(LEAST_STEPS, 2 * steps))
    if len(known) >= 2 and known[-1][1] < known[0][1]:
        fall = (known[0][1] - known[-1][1]) / (known[-1][0] - known[0][0])
        later = known[-1][0] + max(0.0, known[-1][1] - LITTLE * entropy) / fall
        wanted = max(wanted, math.exp(min(later, math.log(_FURTHEST * steps))))
    rounded = _round_up(wanted)
    return TrainingEstimate(rounded, minutes * rounded / steps)


def _round_up(value: float) -> int:
    """To two digits."""
    unit = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return unit * math.ceil(round(value / unit, 6))  # exp(log(x)) is not exact
