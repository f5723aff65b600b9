"""Activation patching of pronouns: replace an encoder's states, word by word and layer by layer, by those of another sentence."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitrail.config import Config
from vitrail.decode.forced import forced_decode, make_batch
from vitrail.decode.search.beams import SearchConfig
from vitrail.inspection.causes.ablation import GREEDY
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.patching import Patch
from vitrail.inspection.collect import collect
from vitrail.inspection.studies.ablation_metrics import pronoun_place
from vitrail.inspection.studies.phrasebook_words import source_words, word_spans
from vitrail.models.places import layer_outputs
from vitrail.phrasebook.corpus import Challenge

if TYPE_CHECKING:
    from vitrail.inspection.translator import InspectableTranslator

REGIONS = ("antecedent", "other noun", "it", "after it", "elsewhere")
_DONORS = 4
"""Maximal number of nouns that are tried for each sentence."""


class PatchingEffect(Config):
    """The mean effect of patching the states of one place."""

    value: str
    """What was replaced: a value's name, as in a record."""
    region: str
    """The place: one of REGIONS."""
    effect: float
    """(margin - margin of the sentence) / (margin of the other sentence - margin of the sentence): 0 nothing, 1 all of it."""
    flipped: float
    """Share of sentences in which the other pronoun becomes more probable."""


class MaskingEffect(Config):
    """The effect of masking the tokens of one region in encoder and decoder."""

    region: str
    lost: float
    """Mean of the margin lost, in nats."""
    flipped: float
    """Share of sentences in which the wrong pronoun becomes more probable."""


class Tracing(Config):
    """Sentences compared with the same ones with an antecedent of the other gender, so that il becomes elle or the reverse."""

    sentences: int
    tried: int
    """Number of sentences tried until enough had a partner for which the model predicts the other pronoun."""
    traced: tuple[PatchingEffect, ...]
    unread: tuple[MaskingEffect, ...]
    source_alone: float
    """Share of pronouns that flip when only the source is the other one, not the target prefix."""
    prefix_alone: float
    """Share of pronouns that flip when only the target prefix is the other one, not the source."""

    def table(self) -> dict[str, dict[str, PatchingEffect]]:
        """By value, then by region."""
        found: dict[str, dict[str, PatchingEffect]] = {}
        for one in self.traced:
            found.setdefault(one.value, {})[one.region] = one
        return found

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """To read in a terminal."""
        wide = max(len(one.value) for one in self.traced)
        lines = [
            f"activation patching: states from the sentence with a noun of the other gender ({self.sentences} sentences):",
            "share of the way to the other pronoun (0 nothing, 1 all); in brackets the share of pronouns that flip",
            "  ".join([" " * wide, *(f"{region:>12}" for region in REGIONS)]),
        ]
        for value, row in self.table().items():
            cells = [f"{f'{row[region].effect:.2f} ({row[region].flipped:.2f})':>12}" for region in REGIONS]
            lines.append("  ".join([f"{value:<{wide}}", *cells]))
        cells = [f"{f'{one.lost:.2f} ({one.flipped:.2f})':>12}" for one in self.unread]
        lines += ["margin lost when these words are masked, in nats; in brackets the share of wrong pronouns"]
        lines.append("  ".join([f"{'hidden':<{wide}}", *cells]))
        flips = f"source only {self.source_alone:.2f}, words before the pronoun only {self.prefix_alone:.2f}"
        return "\n".join([*lines, f"pronouns that flip with the whole of the other sentence: {flips}"])


@dataclass(frozen=True)
class CounterfactualPair:
    """A challenge and its partner, which differ only in the antecedent."""

    source: list[int]
    other: list[int]
    prefix: tuple[int, ...]
    """The reference's tokens before the pronoun."""
    right: int
    """The token of the pronoun that is right for the source, not for its partner."""
    wrong: int
    regions: dict[str, list[int]]
    margin: float
    """log p(right) - log p(wrong) after the prefix, for the source."""
    other_margin: float
    """The same for the partner."""


def trace_pronouns(
    translator: "InspectableTranslator",
    challenges: Sequence[Challenge],
    *,
    sentences: int = 40,
    search: SearchConfig = GREEDY,
    say: Callable[[str], None] = lambda line: None,
) -> Tracing | None:
    """Activation patching (Vig et al. 2020; Meng et al. 2022 call it causal tracing) of the encoder's layer outputs, layer by layer.

    In "A dog ate the food because it was hungry" the dog becomes a magpie, so that "it" is elle. Then the states of single words are
    replaced by those of that sentence, and the margin log p(il) - log p(elle) is measured after the words of the first translation.

    Returns: None where no sentence has a partner of equal length whose pronoun the model gets right.
    Cost:    a pass for each sentence, layer and region.
    """
    pairs: list[CounterfactualPair] = []
    prefix_margins: list[float] = []
    tried = 0
    for challenge in challenges:
        if len(pairs) == sentences:
            break
        tried += 1
        found = _find_pair(translator, challenge, challenges, search=search)
        if found is not None:
            pairs.append(found[0])
            prefix_margins.append(found[1])
    if not pairs:
        return None
    say(f"{len(pairs)} of {tried} sentences have a partner with the other pronoun")
    effects: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for pair in pairs:
        for key, found in trace_pair(translator, pair).items():
            effects.setdefault(key, []).append(found)
    traced = [
        PatchingEffect(
            value=value,
            region=region,
            effect=float(np.mean([effect for effect, _ in found])),
            flipped=float(np.mean([flipped for _, flipped in found])),
        )
        for (value, region), found in effects.items()
    ]
    return Tracing(
        sentences=len(pairs),
        tried=tried,
        traced=tuple(traced),
        unread=tuple(_hide(translator, pairs, region) for region in REGIONS),
        source_alone=float(np.mean([pair.other_margin < 0 for pair in pairs])),
        prefix_alone=float(np.mean([margin < 0 for margin in prefix_margins])),
    )


def trace_pair(translator: "InspectableTranslator", pair: CounterfactualPair) -> dict[tuple[str, str], tuple[float, bool]]:
    """By value and region: the share of the way to the partner's margin, and whether the wrong pronoun is more probable."""
    arrays = collect(translator.model, pair.other, pair.prefix)
    found: dict[tuple[str, str], tuple[float, bool]] = {}
    for value in traced_values(translator):
        for region, positions in pair.regions.items():
            patch = Patch(value, arrays[value], at=tuple((one, one) for one in positions))
            margin = _margin(translator, pair.source, pair.prefix, (pair.right, pair.wrong), [patch] if positions else [])
            found[value, region] = ((margin - pair.margin) / (pair.other_margin - pair.margin), margin < 0)
    return found


def _hide(translator: "InspectableTranslator", pairs: Sequence[CounterfactualPair], region: str) -> MaskingEffect:
    """Mask a region in every sentence; where it is empty, the loss is 0."""
    margins: list[float] = []
    for pair in pairs:
        with intervene(translator.model, hidden=pair.regions[region]):
            margins.append(_margin(translator, pair.source, pair.prefix, (pair.right, pair.wrong)))
    lost = [pair.margin - margin for pair, margin in zip(pairs, margins, strict=True)]
    return MaskingEffect(region=region, lost=float(np.mean(lost)), flipped=float(np.mean([margin < 0 for margin in margins])))


def traced_values(translator: "InspectableTranslator") -> list[str]:
    """The names of the encoder's layer outputs, from the embeddings to the memory."""
    places = translator.model.places()
    ends = [place for place in places if place.side == "source" and place.role in ("embedded", "memory")]
    return [place.name for place in (*ends[:1], *layer_outputs(places, "source"), *ends[1:])]


def _find_pair(
    translator: "InspectableTranslator", challenge: Challenge, donors: Sequence[Challenge], *, search: SearchConfig
) -> tuple[CounterfactualPair, float] | None:
    """The same sentence with a noun of the other gender, of equal length, for which the model predicts the other pronoun, if there is one.

    Returns: also the margin of the source after the words of its partner's own translation.
    """
    nouns = [one.antecedent for one in donors if one.pronoun != challenge.pronoun and _same_role(one, challenge)]
    for noun in list(dict.fromkeys(nouns))[:_DONORS]:
        pair = make_counterfactual(translator, challenge, noun)
        if pair is None or pair.margin <= 0 or pair.other_margin >= 0:
            continue
        said = translator.search_one(pair.other, search=search)[0].tokens
        if pair.wrong in said:
            before = said[: len(said) - 1 - said[::-1].index(pair.wrong)]
            return pair, _margin(translator, pair.source, before, (pair.right, pair.wrong))
    return None


def make_counterfactual(translator: "InspectableTranslator", challenge: Challenge, noun: str) -> CounterfactualPair | None:
    """A challenge and the same sentence about another noun; None where it has another number of tokens."""
    ids, owners = source_words(translator, challenge.source)
    other_ids, other_owners = source_words(translator, with_antecedent(challenge, noun))
    if owners != other_owners:
        return None
    target, place, right, wrong = pronoun_place(translator, challenge)
    margins = [_margin(translator, source, target[:place], (right, wrong)) for source in (ids, other_ids)]
    return CounterfactualPair(ids, other_ids, target[:place], right, wrong, _regions(challenge, owners), *margins)


def _same_role(one: Challenge, other: Challenge) -> bool:
    return (one.antecedent_position < one.distractor_position) == (other.antecedent_position < other.distractor_position)


def with_antecedent(challenge: Challenge, noun: str) -> str:
    """The source with another noun for the antecedent; a becomes an before a vowel."""
    first, last = word_spans(challenge.source)[challenge.antecedent_position]
    head, tail = challenge.source[:first], challenge.source[last:]
    article = re.search(r"\b([Aa])n? $", head)
    if article is not None:
        head = head[: article.start()] + article[1] + ("n " if noun[0] in "aeiou" else " ")
    return head + noun + tail


def _regions(challenge: Challenge, owners: Sequence[int]) -> dict[str, list[int]]:
    """The source tokens of each region, <eos> among those after "it"."""
    regions: dict[str, list[int]] = {region: [] for region in REGIONS}
    named = {challenge.antecedent_position: "antecedent", challenge.distractor_position: "other noun", challenge.pronoun_position: "it"}
    for token, word in enumerate(owners):
        regions[named.get(word, "after it" if word > challenge.pronoun_position else "elsewhere")].append(token)
    return regions


@torch.inference_mode()
def _margin(
    translator: "InspectableTranslator",
    source: Sequence[int],
    prefix: Sequence[int],
    pronouns: tuple[int, int],
    patches: Sequence[Patch] = (),
) -> float:
    """log p(right) - log p(wrong) as the next token."""
    model = translator.model
    with intervene(model, patches=patches) if patches else nullcontext():
        hidden = forced_decode(model, make_batch(model, [source], [prefix]))
        logits = model.read_out(hidden[:, -1])[0].double()
    return float(logits[pronouns[0]] - logits[pronouns[1]])
