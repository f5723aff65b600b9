"""Tokens and the words that people count: where each token stands in its text, and which word it belongs to."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

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
    return [match.span() for match in _WORD.finditer(_lettered(text))]


def _lettered(text: str) -> str:
    """With a letter for each sign that stands upon one, such as the vowels of Hindi: no letters for `re`, which would cut there."""
    found = ""
    for sign in text:
        joins = found[-1:].isalnum() and (unicodedata.category(sign).startswith("M") or sign in "\u200c\u200d")
        found += "x" if joins else sign
    return found


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
    text, spans = spell(ids, vocabulary)
    return text, spans, group_spans(spans, text=text)


def group_spans(spans: Sequence[Span], *, text: str) -> list[list[int]]:
    """The same for tokens that stand in a text already."""
    words = words_and_marks(text)
    found: list[list[int]] = []
    owned = _owned(spans, text=text, words=words)
    for (begin, end), tokens in zip(words, owned, strict=True):
        parts: list[list[int]] = [[]]
        for place in tokens:
            spells = bool(text[slice(*spans[place])].strip())
            if spells and _SPACELESS.search(text, begin, end) and any(text[slice(*spans[earlier])].strip() for earlier in parts[-1]):
                parts.append([])
            parts[-1].append(place)
        found += [part for part in parts if part]
    return found


class Seat(NamedTuple):
    """Where a word or mark of the views stands among the words between spaces."""

    number: int
    mark: bool
    """It has neither letter nor digit."""
    speaks: bool
    """Its links are those of the word between spaces: it is no mark, or nothing but marks stands there."""


def seats(
    words: Sequence[Sequence[int]], spans: Sequence[Span], *, text: str, between: Sequence[Span], before: int = 0
) -> list[Seat | None]:
    """Where each word stands, given by its tokens; None outside of all.

    Args: between: the words between spaces of this text, the first of them being number `before`.
    """
    owners = words_of(spans, text=text, words=between)
    marks = [not any(map(str.isalnum, text[spans[tokens[0]][0] : spans[tokens[-1]][1]])) for tokens in words]
    lettered = {owners[tokens[0]] for tokens, mark in zip(words, marks, strict=True) if not mark}
    found: list[Seat | None] = []
    for tokens, mark in zip(words, marks, strict=True):
        number = owners[tokens[0]]
        found.append(None if number is None else Seat(before + number, mark, speaks=not mark or number not in lettered))
    return found


def tokens_by_word(ids: Sequence[int], vocabulary: Subwords, *, words: Words, text: str | None = None) -> list[list[int]]:
    """The tokens of each word that `words` finds; a word may have none.

    Args: text: what was encoded, from which words are cut where some of its tokens are unknown to the vocabulary.
    """
    shown, spans = spell(ids, vocabulary, text=text)
    return _owned(spans, text=shown, words=words(shown))


def spell(ids: Sequence[int], vocabulary: Subwords, *, text: str | None = None) -> tuple[str, list[Span]]:
    """What tokens spell, and where each stands; where some are unknown to the vocabulary, in the text that was encoded, if it is given."""
    if text is not None and UNK in ids:
        shown = collapse(text)
        return shown, _spans_in(shown, ids, vocabulary)
    return vocabulary.decode(ids), token_spans(ids, vocabulary)


def _owned(spans: Sequence[Span], *, text: str, words: Sequence[Span]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in words]
    for place, number in enumerate(words_of(spans, text=text, words=words)):
        if number is not None:
            found[number].append(place)
    return found


def _spans_in(text: str, ids: Sequence[int], vocabulary: Subwords) -> list[Span]:
    """Where tokens stand in a text that they do not spell: character by character, or each as the whole of what stands between spaces.

    Only vocabularies of characters and of words have unknown tokens, and no word of the latter reaches over a space.
    """
    if len(ids) == len(text):
        return [(place, place + 1) for place in range(len(text))]
    return [span for span in between_spaces(text) for _ in vocabulary.encode(text[slice(*span)])]
