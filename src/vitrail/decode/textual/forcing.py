"""Assign each forced word to a part of a text that is translated in parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vitrail.decode.search.constraints import Constraints, TokenIds
from vitrail.decode.search.query import Hypothesis

ForcedWord = tuple[TokenIds, ...]
"""A forced word with all its spellings."""
SearchAgain = Callable[[Sequence[int], Sequence[tuple[ForcedWord, ...]]], list[list[Hypothesis]]]
"""Search some parts again, each with its own words forced."""

_TRIED = 16
"""Parts in which a missing word is tried: those with the lowest log-probability per token."""


def assign_forced_words(
    wanted: Constraints, found: Sequence[Sequence[Hypothesis]], *, search: SearchAgain
) -> tuple[list[list[Hypothesis]], list[tuple[ForcedWord, ...]]]:
    """The n-best lists of all parts, with every forced word in one of them, and the words forced in each part.

    A word that occurs without being forced stays there. A missing word goes to the part where it costs least log-probability, one word
    after the other; then every part with assigned words is searched with all of them, unless its list has them already.

    Args: found: the n-best lists of the parts without forced words.
    Cost: for each missing word, a search of at most 16 parts.
    """
    lists = [list(items) for items in found]
    words: list[tuple[ForcedWord, ...]] = [() for _ in found]

    def holds(place: int, word: ForcedWord) -> bool:
        return replace(wanted, prefix=(), forbidden=(), forced=(word,)).satisfied_by(lists[place][0].tokens)

    for word in wanted.forced:
        place = next((place for place in range(len(lists)) if holds(place, word)), None)
        if place is None:
            tried = sorted(range(len(lists)), key=lambda place: _per_token(lists[place][0]))[:_TRIED]
            forced = search(tried, [(*words[place], word) for place in tried])
            # A part without the word at its limit of length is the last choice.
            costs = [
                (items[0].truncated, lists[place][0].log_probability - items[0].log_probability, place)
                for place, items in zip(tried, forced, strict=True)
            ]
            place = min(costs)[2]
            lists[place] = forced[tried.index(place)]
        words[place] = (*words[place], word)
    asked = [replace(wanted, prefix=(), forbidden=(), forced=forced) for forced in words]
    unmet = [place for place, items in enumerate(lists) if not all(asked[place].satisfied_by(item.tokens) for item in items)]
    for place, items in zip(unmet, search(unmet, [words[place] for place in unmet]) if unmet else (), strict=True):
        lists[place] = items
    return lists, words


def _per_token(item: Hypothesis) -> float:
    return item.log_probability / max(1, len(item.token_log_probabilities))
