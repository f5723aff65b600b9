"""Join the translations of a text's parts: one text, its scores, and the best combinations of alternatives."""

import re
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import chain
from typing import NamedTuple, TypeVar

from vitrail.data.boundaries import UNSPACED, TextPart
from vitrail.data.cleaning.normalise import ends_in_word
from vitrail.decode.search.query import Hypothesis
from vitrail.decode.search_config import SearchConfig

T = TypeVar("T")

_TRIES = 4
"""Combinations examined per wanted one: some have the same text."""
_UNSPACED = re.compile(f"[{UNSPACED}]")
_UNSPACED_END = re.compile(rf"(?:[{UNSPACED}]|[^\s][。！？｡、，：；」』】）》〉]+|[^\s\w][。！？｡])\Z")


class Segment(NamedTuple):
    """One part of a text and its translation: start and end in characters, and tokens without EOS."""

    source_start: int
    source_tokens: tuple[int, ...]
    target_start: int
    target_tokens: tuple[int, ...]
    source_text: str
    """The part as the model reads it."""
    source_end: int
    target_end: int
    cut: bool
    """Whether it begins or ends inside a sentence, which was too long."""
    log_probabilities: tuple[float, ...] = ()
    """Log-probabilities of the target's tokens and, unless truncated, of the end."""


class Alternative(NamedTuple):
    """One entry of the n-best list."""

    text: str
    score: float
    tokens: tuple[int, ...]
    log_probability: float
    token_log_probabilities: tuple[float, ...]
    """See `Hypothesis`; part after part, each with its end."""
    segments: tuple[Segment, ...]
    truncated: bool


class Translated(NamedTuple):
    """One part of a text and its translation."""

    part: TextPart
    place: tuple[int, int]
    """Its start and end in the source."""
    copy: str
    """Its text in the translation if it was not translated."""
    text: str = ""
    """The translated text."""
    tokens: tuple[int, ...] = ()
    """The same as token ids."""
    found: Sequence[Hypothesis] = ()
    """Best first."""


def join(parts: Sequence[Translated], *, search: SearchConfig, spell: Callable[[Hypothesis], str]) -> list[Alternative]:
    """The best combinations, best first, at most `search.n_best`, no text twice; none where nothing was translated.

    The first consists of the best of each part.

    Args: spell: the text of a hypothesis, without white space at its ends.
    """
    depths = [len(one.found) for one in parts if one.found]
    if not depths:
        return []
    best = first = _join(parts, {}, search=search, spell=spell)
    depth = max(depths)
    if depth == 1:
        return [first]
    combined = {first.text: first}
    if search.sampling is not None or len(depths) == 1:
        # Samples keep their order, and a single part's list is already sorted.
        ranked = ({place: min(rank, len(one.found) - 1) for place, one in enumerate(parts) if one.found} for rank in range(depth))
        return [_join(parts, ranks, search=search, spell=spell) for ranks in ranked]
    for ranks in _combinations([[item.score for item in one.found] for one in parts], count=search.n_best * _TRIES):
        one = _join(parts, ranks, search=search, spell=spell)
        if one.text not in combined and (one.truncated, -one.score) >= (best.truncated, -best.score):
            combined[one.text] = one
        if len(combined) >= search.n_best:
            break
    return sorted(combined.values(), key=lambda one: (one is not first, one.truncated, -one.score))


def _combinations(scores: Sequence[Sequence[float]], *, count: int) -> "Sequence[dict[int, int]]":
    """The alternatives of parts, smallest loss of score first; unnamed parts keep their best.

    Only the parts with the smallest first losses can differ in `count` combinations, so that long texts cost no more than short ones.
    """
    losses = {place: [row[0] - score for score in row] for place, row in enumerate(scores) if len(row) > 1}
    places = sorted(losses, key=lambda place: losses[place][1])[:count]
    heap: list[tuple[float, tuple[int, ...]]] = [(losses[place][1], (0,) * at + (1,)) for at, place in enumerate(places[:1])]
    found: list[dict[int, int]] = []
    while heap and len(found) < count:
        loss, ranks = heappop(heap)
        found.append({places[at]: rank for at, rank in enumerate(ranks) if rank})
        at = len(ranks) - 1
        here = losses[places[at]]
        # Each combination is reached in one way: the last part takes its next alternative, or the next part is added, with or without this
        # one.
        if ranks[-1] + 1 < len(here):
            heappush(heap, (loss - here[ranks[-1]] + here[ranks[-1] + 1], (*ranks[:-1], ranks[-1] + 1)))
        if at + 1 < len(places):
            further = losses[places[at + 1]][1]
            heappush(heap, (loss + further, (*ranks, 1)))
            if ranks[-1] == 1:
                heappush(heap, (loss - here[1] + further, (*ranks[:-1], 0, 1)))
    return found


def _join(parts: Sequence[Translated], ranks: dict[int, int], *, search: SearchConfig, spell: Callable[[Hypothesis], str]) -> Alternative:
    chosen = [one.found[ranks.get(place, 0)] if one.found else None for place, one in enumerate(parts)]
    written = [one.copy if item is None else spell(item) for one, item in zip(parts, chosen, strict=True)]
    text, starts = join_parts([one.part for one in parts], written)
    kept = [item for item in chosen if item is not None]
    log_probability = kept[0].log_probability if len(kept) == 1 else sum(item.log_probability for item in kept)
    log_probabilities = _chained([item.token_log_probabilities for item in kept])
    return Alternative(
        text,
        search.score(log_probability, len(log_probabilities)),
        _chained([item.tokens for item in kept]),
        log_probability,
        log_probabilities,
        tuple(
            Segment(
                *(one.place[0], one.tokens, start, item.tokens),
                source_text=one.text,
                source_end=one.place[1],
                target_end=start + len(said),
                cut=one.part.cut,
                log_probabilities=item.token_log_probabilities,
            )
            for one, start, said, item in zip(parts, starts, written, chosen, strict=True)
            if item is not None
        ),
        truncated=any(item.truncated for item in kept),
    )


def _chained(parts: Sequence[tuple[T, ...]]) -> tuple[T, ...]:
    """One after the other; most texts have one part."""
    return parts[0] if len(parts) == 1 else tuple(chain.from_iterable(parts))


def join_parts(parts: Sequence[TextPart], texts: Sequence[str]) -> tuple[str, list[int]]:
    """The translations of parts as one line, and the start of each.

    Two translations are separated as their sources: by the same spaces, one for each tab or line break, and one for invisible marks. If
    sources of a script without spaces had none, they are separated by one space, unless the translation is in such a script, too.
    """
    if len(texts) == 1:
        return texts[0], [0]
    written: list[str] = []
    starts: list[int] = []
    length, last, before, between = 0, "", "", ""
    for part, text in zip(parts, texts, strict=True):
        if text and last:
            space = "" if _UNSPACED_END.search(last) else " " * _spaces(between) or (" " if _parted(before) else "")
            written.append(space)
            length += len(space)
        starts.append(length)
        if text:
            written.append(text)
            length, last, between = length + len(text), text, part.separator
        between, before = between or part.separator, part.text
    return "".join(written), starts


def _spaces(separator: str) -> int:
    return sum(map(str.isspace, separator)) or int(bool(separator))


def _parted(before: str) -> bool:
    """Whether two parts without space between them are not two halves of one long word."""
    return not ends_in_word(before) or _UNSPACED.match(before[-1:]) is not None
