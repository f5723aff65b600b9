"""Tokens and words: the span of each token in its text, and the word that it belongs to."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vitrail.data.cleaning.normalise import INVISIBLE, plain
from vitrail.data.vocabularies.subwords import Subwords
from vitrail.data.vocabularies.vocabulary import collapse, places_in

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
    """Replace combining signs, such as the vowels of Hindi, by letters: for `re` they are not letters, so it would cut there."""
    found = ""
    for sign in text:
        joins = found[-1:].isalnum() and (unicodedata.category(sign).startswith("M") or sign in "\u200c\u200d")
        found += "x" if joins else sign
    return found


def between_spaces(text: str) -> list[Span]:
    """Words separated by spaces (U+0020), as fast_align and Marian count them. A no-break space does not separate."""
    return [match.span() for match in _BETWEEN_SPACES.finditer(text)]


def words_of(spans: Sequence[Span], *, text: str, words: Sequence[Span]) -> list[int | None]:
    """The number of the word that each token belongs to, None where there is none.

    A token belongs to the word of its first character, leading white space and invisible marks left out; an empty token, to the word that
    it touches.
    """
    found: list[int | None] = []
    number = 0
    for first, last in spans:
        seen = (place for place in range(first, last) if not (text[place].isspace() or INVISIBLE.fullmatch(text[place])))
        at = next(seen, last if any(map(str.isspace, text[first:last])) else first)
        while number < len(words) and words[number][1] < at:
            number += 1
        near = [place for place in (number, number + 1) if place < len(words)]
        inside = [place for place in near if words[place][0] <= at < words[place][1]]
        touching = [place for place in near if words[place][0] <= at <= words[place][1]] if first == last else []
        found.append(next(iter(touching or inside), None))
    return found


def group(ids: Sequence[int], vocabulary: Subwords, *, text: str | None = None) -> tuple[str, list[Span], list[list[int]]]:
    """A text, the span of each token, and the tokens of each word; in a script without spaces each token is a word. See `spell`."""
    shown, spans = spell(ids, vocabulary, text=text)
    return shown, spans, group_spans(spans, text=shown)


def group_spans(spans: Sequence[Span], *, text: str) -> list[list[int]]:
    """The tokens of each word, for tokens with known spans."""
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


class WordPosition(NamedTuple):
    """The index of a word or mark of the views among the space-separated words."""

    number: int
    mark: bool
    """Whether it has neither letter nor digit."""
    carries_links: bool
    """Whether its links are those of the space-separated word: it is not a mark, or there are only marks."""


def word_positions(
    words: Sequence[Sequence[int]], spans: Sequence[Span], *, text: str, between: Sequence[Span]
) -> list[WordPosition | None]:
    """The index of each word, given by its tokens, among the space-separated words of a text; None outside of all."""
    owners = words_of(spans, text=text, words=between)
    marks = [not any(map(str.isalnum, text[spans[tokens[0]][0] : spans[tokens[-1]][1]])) for tokens in words]
    lettered = {owners[tokens[0]] for tokens, mark in zip(words, marks, strict=True) if not mark}
    found: list[WordPosition | None] = []
    for tokens, mark in zip(words, marks, strict=True):
        number = owners[tokens[0]]
        found.append(None if number is None else WordPosition(number, mark, carries_links=not mark or number not in lettered))
    return found


def tokens_by_word(spans: Sequence[Span], *, text: str, words: Words) -> list[list[int]]:
    """The tokens of each word that `words` finds; a word may have none."""
    return _owned(spans, text=text, words=words(text))


def map_spans(spans: Sequence[Span], *, text: str, whole: str, where: tuple[int, int] | None = None) -> list[Span]:
    """Map spans of a text to the original text, which may have other spaces, and invisible marks.

    Args: where: the part of `whole` that became `text`; None: all.
    """
    first, last = (0, len(whole)) if where is None else where
    at = places_in(whole[first:last], text)
    return [(first + at[begin], first + at[end]) for begin, end in spans]


def spell(ids: Sequence[int], vocabulary: Subwords, *, text: str | None = None) -> tuple[str, list[Span]]:
    """A text without redundant spaces (see `collapse`), and the span of each token in it.

    Args: text: the encoded text, if there was one: it has the words that the vocabulary does not know.
          Without it, the text of the tokens, written like a translation: with spaces for control characters.
    """
    if text is None:
        return plain(vocabulary.decode(ids)), vocabulary.locate(ids)
    shown = collapse(text)
    return shown, vocabulary.locate_in(shown)


def _owned(spans: Sequence[Span], *, text: str, words: Sequence[Span]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in words]
    for place, number in enumerate(words_of(spans, text=text, words=words)):
        if number is not None:
            found[number].append(place)
    return found
