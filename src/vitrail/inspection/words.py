"""Tokens and the words that people count: where each token stands in its text, and which word it belongs to."""

import re
from collections.abc import Callable, Sequence
from itertools import accumulate

from vitrail.data.subwords import UNK, Subwords
from vitrail.data.vocabulary import collapse

Span = tuple[int, int]
"""First character, and the one after the last."""
Words = Callable[[str], list[Span]]
"""A way to cut a text into words."""

_WORD = re.compile(r"\w+(?:[-'’]\w+)*['’]?|[^\w\s]+")
_BETWEEN_SPACES = re.compile("[^ ]+")
# Thai to Tibetan, Myanmar, Khmer, kana, Han and its neighbours: written without spaces between words.
_SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def words_and_marks(text: str) -> list[Span]:
    """Words and runs of punctuation, as the views show them."""
    return [match.span() for match in _WORD.finditer(text)]


def between_spaces(text: str) -> list[Span]:
    """What stands between spaces (U+0020), as fast_align and Marian count words. A no-break space does not separate."""
    return [match.span() for match in _BETWEEN_SPACES.finditer(text)]


def token_spans(ids: Sequence[int], vocabulary: Subwords) -> list[Span]:
    """Where each token stands in what all of them spell; leading spaces belong to the token.

    Of the tokens that spell one character byte by byte, the first has it and the others are empty. Cost: a decoding for every token.
    """
    ends = [len(vocabulary.decode(ids[: count + 1])) for count in range(len(ids))]
    # Bytes that are no character yet are decoded as several marks: a text that grows shorter again had not come so far.
    settled = list(accumulate(reversed(ends), min))[::-1]
    return list(zip([0, *settled], settled, strict=False))


def words_of(spans: Sequence[Span], *, text: str, words: Sequence[Span]) -> list[int | None]:
    """The number of the word that each token belongs to, None where there is none.

    A token belongs to the word that its first character stands in, leading white space left out; one that spells nothing, to the word
    that it touches.
    """
    found: list[int | None] = []
    number = 0
    for first, last in spans:
        at = first + len(text[first:last]) - len(text[first:last].lstrip())
        while number < len(words) and words[number][1] < at:
            number += 1
        near = [place for place in (number, number + 1) if place < len(words)]
        inside = [place for place in near if words[place][0] <= at < words[place][1]]
        touching = [place for place in near if words[place][0] <= at <= words[place][1]] if first == last else []
        found.append(next(iter(touching or inside), None))
    return found


def group(ids: Sequence[int], vocabulary: Subwords) -> tuple[str, list[Span], list[list[int]]]:
    """What tokens spell, where each stands, and the tokens of each word; in a script without spaces each token is a word."""
    text, spans = vocabulary.decode(ids), token_spans(ids, vocabulary)
    words = words_and_marks(text)
    owned: list[list[int]] = [[] for _ in words]
    for place, number in enumerate(words_of(spans, text=text, words=words)):
        if number is not None:
            owned[number].append(place)
    found: list[list[int]] = []
    for (begin, end), tokens in zip(words, owned, strict=True):
        parts: list[list[int]] = [[]]
        for place in tokens:
            spells = bool(text[slice(*spans[place])].strip())
            if spells and _SPACELESS.search(text, begin, end) and any(text[slice(*spans[earlier])].strip() for earlier in parts[-1]):
                parts.append([])
            parts[-1].append(place)
        found += [part for part in parts if part]
    return text, spans, found


def tokens_by_word(ids: Sequence[int], vocabulary: Subwords, *, words: Words, text: str | None = None) -> list[list[int]]:
    """The tokens of each word that `words` finds; a word may have none.

    Args: text: what was encoded, from which words are cut where some of its tokens are unknown to the vocabulary.
    """
    shown, spans = vocabulary.decode(ids), None
    if text is not None and UNK in ids:
        shown = collapse(text)
        spans = _spans_in(shown, ids, vocabulary)
    found = words(shown)
    owned: list[list[int]] = [[] for _ in found]
    for place, number in enumerate(words_of(spans or token_spans(ids, vocabulary), text=shown, words=found)):
        if number is not None:
            owned[number].append(place)
    return owned


def _spans_in(text: str, ids: Sequence[int], vocabulary: Subwords) -> list[Span]:
    """Where tokens stand in a text that they do not spell: character by character, or each as the whole of what stands between spaces.

    Only vocabularies of characters and of words have unknown tokens, and no word of the latter reaches over a space.
    """
    if len(ids) == len(text):
        return [(place, place + 1) for place in range(len(text))]
    return [span for span in between_spaces(text) for _ in vocabulary.encode(text[slice(*span)])]
