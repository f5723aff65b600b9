"""Finds heads that attend from a pronoun to its antecedent, and ablates them to see whether the translation depends on them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.config import Config
from vitrail.decode.forced import forced_decode, make_batch
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import DataError, UsageError
from vitrail.inspection.causes.ablation import GREEDY, AblationBaseline, AblationEffect, to_line
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.parts import Head, heads_of
from vitrail.inspection.causes.tracing import Tracing, trace_pronouns
from vitrail.inspection.studies.ablation_metrics import Pronouns, challenge_set, pronoun_place
from vitrail.inspection.studies.phrasebook_words import source_words
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.places import AttentionType, attentions
from vitrail.nn.probe import trace
from vitrail.phrasebook.corpus import Challenge

Numbers = NDArray[np.float64]

_ROWS = 32
"""Sentences in one forward pass."""
_CONTROLS = 3
"""Number of random controls for each tested set of heads."""
_GREEDY_SENTENCES = 100
_GREEDY_HEADS = 4
_PAIRED = 12
"""The search for the most important heads: sentences scored for each candidate, maximal number of heads, and heads whose pairs are all
tried."""
OPENING = "A dog ate the food because it was hungry."


class AntecedentHead(Config):
    """Where one head attends from the pronoun: shares of sentences whose largest weight is on that word."""

    kind: AttentionType
    """encoder: from "it"; cross: from the step that predicts il or elle."""
    layer: int
    head: int
    part: str
    """The head as it is switched off."""
    antecedent: float
    """The largest weight is on the antecedent of "it"; "it" itself is left out."""
    distractor: float
    """The largest weight is on the other noun; "it" itself is left out."""
    antecedent_or_itself: float
    """The largest weight is on the antecedent of "it", with "it" itself included."""
    first: float
    """`antecedent` where the antecedent is the first of the two nouns."""
    second: float
    """`antecedent` where it is the second. A head that always attends to the first noun has 1 and 0."""
    antecedent_weight: float
    distractor_weight: float
    """Means."""


class Arm(Config):
    """The ablation of some heads, measured on the half that they were not chosen on."""

    name: str
    lost: AblationEffect


class Antecedents(Config):
    """Attention from pronouns to their antecedents: which heads, and the effect of ablating them."""

    sentences: int
    """In each half of the challenge set: heads are chosen on one and measured on the other."""
    accuracy: float
    """Pronouns right with the whole model, percent."""
    margin: float
    """log p(right pronoun) - log p(wrong one), nats."""
    readers: tuple[AntecedentHead, ...]
    """On the half that heads were chosen on, best first, for each kind."""
    confirmed: tuple[AntecedentHead, ...]
    """The same heads, in the same order, on the other half."""
    opening: tuple[str, ...]
    """The encoder heads whose largest weight from "it" of the dog sentence is on "dog", "it" itself left out."""
    arms: tuple[Arm, ...]
    tracing: Tracing | None
    """Activation patching of the encoder's states; None where too few sentences could be traced."""

    def best(self, kind: AttentionType) -> list[AntecedentHead]:
        """The heads of a kind, sorted by how often they attend to the antecedent."""
        return [one for one in self.readers if one.kind == kind]

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """To read in a terminal."""
        lines = [
            f"pronoun accuracy {self.accuracy:.1f} %, margin {self.margin:.2f} nats, on {self.sentences} sentences of the challenge set"
        ]
        asked: dict[AttentionType, str] = {
            "encoder": 'encoder heads, from "it"',
            "cross": "cross-attention heads, from the step that predicts il or elle",
        }
        for kind, title in asked.items():
            lines += ["", *_table(title, [one for one in self.confirmed if one.kind == kind][:5])]
        lines += ["", f"{OPENING} The largest weight of it is dog in: {', '.join(self.opening) or 'no encoder head'}", ""]
        lines.append("switched off: accuracy lost in points, margin lost in nats, with 95 % intervals of paired resamples")
        for arm in self.arms:
            lines += [f"{arm.name}:", to_line(arm.lost)]
        return "\n".join([*lines, *(["", self.tracing.to_text()] if self.tracing else [])])


def _table(title: str, readers: Sequence[AntecedentHead]) -> list[str]:
    lines = [f"{title}: share whose largest weight is on ...", "antecedent  (first, second)  other noun  with itself  head"]
    for one in readers:
        shares = f"{one.antecedent:10.2f}  ({one.first:5.2f}, {one.second:6.2f})  {one.distractor:10.2f}  {one.antecedent_or_itself:11.2f}"
        lines.append(f"{shares}  {one.part}")
    return lines


def find_antecedents(
    translator: InspectableTranslator,
    *,
    sentences: int = 600,
    traced: int = 40,
    search: SearchConfig = GREEDY,
    seed: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Antecedents:
    """Find the heads that attend from a pronoun to its antecedent in the phrasebook's challenge set, and ablate them.

    Heads are chosen on every other sentence and measured on the rest. Arms: the best encoder head and the best two, all of the encoder's;
    the same of cross-attention; for each, as many random others of the same kind; and, over all heads, the pair and the small set with the
    largest losses.

    Raises: UsageError for a model without attention; DataError for fewer than four sentences.
    Cost:   about a minute and a half for the demonstration's model on one core, most of it the search for the most important heads.
    """
    challenges = challenge_set()[:sentences]
    if len(challenges) < 4:
        raise DataError(f"{len(challenges)} sentences", expected="at least four: heads are chosen on half of them")
    if not heads_of(translator.model):
        raise UsageError("this model has no attention heads")
    chosen_on, measured_on = challenges[::2], challenges[1::2]
    readers = read_heads(translator, chosen_on)
    readers.sort(key=lambda one: (one.kind != "encoder", -one.antecedent))
    again = {one.part: one for one in read_heads(translator, measured_on)}
    say(f"{len(readers)} heads measured in {len(challenges)} sentences")
    trial = AblationBaseline.begin(translator, Pronouns(measured_on), search=search)
    pair, greedy = most_damaging(translator, chosen_on[:_GREEDY_SENTENCES], say=say)
    arms: list[Arm] = []
    for name, heads in _choices(translator, readers, (pair, greedy), seed=seed):
        arms.append(Arm(name=name, lost=trial.without(heads)))
        say(f"{name}: {arms[-1].lost.lost:.2f} points, {arms[-1].lost.nats_lost:.3f} nats lost")
    return Antecedents(
        sentences=len(measured_on),
        accuracy=trial.value,
        margin=float(trial.nats.mean()),
        readers=tuple(readers),
        confirmed=tuple(again[one.part] for one in readers),
        opening=_opening(translator),
        arms=tuple(arms),
        tracing=trace_pronouns(translator, measured_on, sentences=traced, search=search, say=say),
    )


def _opening(translator: InspectableTranslator) -> tuple[str, ...]:
    found = [one for one in challenge_set() if one.source == OPENING]
    return tuple(one.part for one in read_heads(translator, found) if one.kind == "encoder" and one.antecedent == 1)


def _choices(
    translator: InspectableTranslator, readers: Sequence[AntecedentHead], damaging: tuple[list[Head], list[Head]], *, seed: int
) -> list[tuple[str, list[Head]]]:
    """The sets of heads to ablate, each with its controls: as many heads drawn from the others, without overlap."""
    draw = random.Random(seed)
    found: list[tuple[str, list[Head]]] = []

    def add(name: str, chosen: list[Head], others: list[Head]) -> None:
        found.append((name, chosen))
        count = len(chosen)
        shuffled = draw.sample(others, len(others))
        draws = [shuffled[at : at + count] for at in range(0, len(shuffled) - count + 1, count)][:_CONTROLS]
        found.extend((f"  control {number}: as many others at random", heads) for number, heads in enumerate(draws, start=1))

    kinds: dict[AttentionType, str] = {"encoder": "encoder", "cross": "cross-attention"}
    for kind, title in kinds.items():
        heads = {str(one): one for one in heads_of(translator.model, kind)}
        ranked = [heads[one.part] for one in readers if one.kind == kind]
        for count, name in ((1, f"best {title} head"), (2, f"best two {title} heads")):
            if len(ranked) >= count:
                add(name, ranked[:count], ranked[count:])
        if ranked:
            add(f"all {title} heads", ranked, [])
    pair, greedy = damaging
    costly = {*pair, *greedy}
    others = [head for head in heads_of(translator.model) if head not in costly]
    if pair:
        add("the pair that costs most", pair, others)
    for count in range(1, len(greedy) + 1):
        add(f"the {count} that cost most, by greedy search", greedy[:count], others if count > 2 else [])
    return found


def most_damaging(
    translator: InspectableTranslator,
    challenges: Sequence[Challenge],
    *,
    kinds: Sequence[AttentionType] = (),
    count: int = _GREEDY_HEADS,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[Head], list[Head]]:
    """The heads whose ablation makes most pronouns wrong after the reference's words; ties: the largest loss of margin.

    Returns: the best pair among the `_PAIRED` most important single heads, and up to `count` heads by greedy search, each with those before
    it off.
    """
    metric = Pronouns(challenges)

    def left(heads: Sequence[Head]) -> tuple[float, float]:
        with intervene(translator.model, off=heads):
            margins = metric.nats(translator)
        return float((margins > 0).mean()), float(margins.mean())

    candidates = heads_of(translator.model, *kinds)
    alone = {head: left([head]) for head in candidates}
    costly = sorted(candidates, key=lambda head: alone[head])
    together = {pair: left(pair) for pair in combinations(costly[:_PAIRED], 2)}
    pair = list(min(together, key=lambda pair: together[pair])) if together else []
    say(f"the pair that costs most: {', '.join(map(str, pair))}")
    found = costly[:1]
    while len(found) < min(count, len(candidates)):
        further = {head: left([*found, head]) for head in candidates if head not in found}
        found.append(min(further, key=lambda head: further[head]))
        share, margin = further[found[-1]]
        say(f"without {', '.join(map(str, found))}: {share:.1%} right, margin {margin:.2f} nats")
    return pair, found


# Where heads attend


@dataclass(frozen=True)
class _Item:
    """A challenge as the model reads it."""

    source: list[int]
    shown: tuple[int, ...]
    """The target up to the pronoun."""
    owners: list[int]
    """For each source token, <eos> included, the word (by `tokenise`) that it writes."""
    challenge: Challenge


def read_heads(translator: InspectableTranslator, challenges: Sequence[Challenge]) -> list[AntecedentHead]:
    """Where every encoder self-attention head attends from "it", and every cross-attention head from the step that predicts the pronoun.

    The weight of a word is the sum over its tokens; the largest is taken over words, punctuation marks and <eos>.
    """
    items: list[_Item] = []
    for one in challenges:
        ids, owners = source_words(translator, one.source)
        target, at = pronoun_place(translator, one)[:2]
        items.append(_Item(ids, target[:at], owners, one))
    heads = heads_of(translator.model, "encoder", "cross")
    looks: dict[Head, list[Numbers]] = {head: [] for head in heads}
    for start in range(0, len(items), _ROWS):
        for head, rows in _weights(translator, items[start : start + _ROWS], heads).items():
            looks[head] += rows
    return [_reader(head, [_by_word(row, item) for row, item in zip(rows, items, strict=True)], items) for head, rows in looks.items()]


@torch.inference_mode()
def _weights(translator: InspectableTranslator, items: Sequence[_Item], heads: Sequence[Head]) -> dict[Head, list[Numbers]]:
    """The weights from the pronoun over all source tokens, sentence by sentence."""
    model = translator.model
    with trace(model) as seen:
        forced_decode(model, make_batch(model, [one.source for one in items], [one.shown for one in items]))
    found: dict[Head, list[Numbers]] = {}
    asked = {head.place for head in heads}
    weights = {one.path: one.weights for one in attentions(model.places()) if one.path in asked}
    whole = {path: torch.cat(seen[probe], dim=2).double().cpu().numpy() for path, probe in weights.items()}
    for head in heads:
        rows = whole[head.place][:, head.number]
        found[head] = [rows[number, _asker(head, item), : len(item.owners)] for number, item in enumerate(items)]
    return found


def _asker(head: Head, item: _Item) -> int:
    """The row of the pronoun: its last token in the source, or the step after the target prefix."""
    if head.kind == "cross":
        return len(item.shown)
    return max(place for place, word in enumerate(item.owners) if word == item.challenge.pronoun_position)


def _by_word(weights: Numbers, item: _Item) -> Numbers:
    return np.bincount(item.owners, weights=weights, minlength=item.owners[-1] + 1).astype(np.float64)


def _reader(head: Head, weights: Sequence[Numbers], items: Sequence[_Item]) -> AntecedentHead:
    challenges = [item.challenge for item in items]
    others = [row.copy() for row in weights]
    for row, one in zip(others, challenges, strict=True):
        row[one.pronoun_position] = -1
    largest = np.array([row.argmax() for row in others])
    antecedents = np.array([one.antecedent_position for one in challenges])
    distractors = np.array([one.distractor_position for one in challenges])
    hits = largest == antecedents
    first = antecedents < distractors
    return AntecedentHead(
        kind=head.kind,
        layer=head.layer,
        head=head.number,
        part=str(head),
        antecedent=float(hits.mean()),
        distractor=float((largest == distractors).mean()),
        antecedent_or_itself=float(np.mean([row.argmax() == at for row, at in zip(weights, antecedents, strict=True)])),
        first=float(hits[first].mean()) if first.any() else 0.0,
        second=float(hits[~first].mean()) if (~first).any() else 0.0,
        antecedent_weight=float(np.mean([row[at] for row, at in zip(weights, antecedents, strict=True)])),
        distractor_weight=float(np.mean([row[at] for row, at in zip(weights, distractors, strict=True)])),
    )
