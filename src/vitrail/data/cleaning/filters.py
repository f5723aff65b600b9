"""The cleaning filters: each is a pure function pair -> reason or None, except DuplicateFilter, which has a memory.

Names follow OpusFilter (Aulamo et al. 2020); where a filter differs from OpusFilter's, its docstring says so.
Time is linear in the length of a line: no filter backtracks, and LengthFilter comes first, so that the others never see the longest lines.
"""

import re
import unicodedata
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import regex

from vitrail.data.cleaning.normalise import has_letters_or_digits
from vitrail.data.reading.parallel_text import SentencePair, is_cut
from vitrail.languages import UNSPACED_CLASS


class Reason(StrEnum):
    """Why a pair was dropped, in the order of the filters; the first reason is counted."""

    LENGTH = "LengthFilter"
    INVALID_UTF8 = "InvalidUtf8"
    UNUSABLE_CHARACTER = "UnusableCharacter"
    EMPTY_SIDE = "EmptySide"
    HTML_TAG = "HtmlTagFilter"
    LENGTH_RATIO = "LengthRatioFilter"
    LONG_WORD = "LongWordFilter"
    ALPHABET_RATIO = "AlphabetRatioFilter"
    REPETITION = "RepetitionFilter"
    IDENTICAL = "IdenticalFilter"
    DUPLICATE = "DuplicateFilter"


Filter = Callable[[SentencePair], Reason | None]

# The defaults of the filters.
RATIO_SLACK = 20
MAX_WORD_CHARACTERS = 80
MIN_ALPHABET_RATIO = 0.2
MAX_REPEATS = 5


@dataclass(frozen=True)
class LengthFilter:
    """Drop a pair with an overlong side, or one that the reader had to cut. (OpusFilter's also has a minimum: see EmptySide.)

    Args:    ratio, word_ratio: characters and words of the target for each of the source, usually. The longer side may have more.
    """

    max_words: int
    max_characters: int
    ratio: float = 1.0
    word_ratio: float = 1.0

    def __call__(self, pair: SentencePair) -> Reason | None:
        source = self._too_long(pair.source, characters=1 / self.ratio, words=1 / self.word_ratio)
        return Reason.LENGTH if source or self._too_long(pair.target, characters=self.ratio, words=self.word_ratio) else None

    def _too_long(self, text: str, *, characters: float, words: float) -> bool:
        if len(text) > self.max_characters * max(1.0, characters) or is_cut(text):
            return True
        most = self.max_words * max(1.0, words)
        return len(text) >= 2 * most and len(text.split()) > most  # n words take at least 2n-1 characters


_ESCAPED_BYTES = re.compile("[\ud800-\udfff]")


def drop_invalid_utf8(pair: SentencePair) -> Reason | None:
    """Drop a pair with bytes that were not UTF-8 (overlong forms and encoded surrogates are not)."""
    for text in (pair.source, pair.target):
        if not text.isprintable() and _ESCAPED_BYTES.search(text):
            return Reason.INVALID_UTF8
    return None


PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")
# Unassigned characters are kept: which they are changes with the Python version, and with it the result would.
_NO_TEXT = re.compile("[\ufffd\ufdd0-\ufdef" + "".join(chr(plane * 0x10000 + 0xFFFE + n) for plane in range(17) for n in (0, 1)) + "]")


@dataclass(frozen=True)
class UnusableCharacterFilter:
    """Drop a pair with U+FFFD (a character already lost), Unicode's noncharacters, or private-use ones, unless these are its letters."""

    private_use: bool = False

    def __call__(self, pair: SentencePair) -> Reason | None:
        for text in (pair.source, pair.target):
            suspicious = not text.isprintable() or "\ufffd" in text
            if suspicious and (_NO_TEXT.search(text) or not (self.private_use or PRIVATE_USE.search(text) is None)):
                return Reason.UNUSABLE_CHARACTER
        return None


# Visible: no space, control, stray byte or mark that Unicode says to ignore. Characters newer than Python's tables count as visible.
_VISIBLE = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}]")


def drop_empty_side(pair: SentencePair) -> Reason | None:
    """Drop a pair with a side without visible text: no character, or only white space, controls and invisible ones."""
    for text in (pair.source, pair.target):
        if not text or text.isspace() or not (text.isascii() or _VISIBLE.search(text)):
            return Reason.EMPTY_SIDE
    return None


@dataclass(frozen=True)
class LengthRatioFilter:
    """Drop a pair whose ratio of lengths in characters is too unusual for its corpus. (OpusFilter's knows no usual ratio.)

    Args:    ratio: characters of the target for each of the source, usually.
             limit: how many times longer than by `ratio` either side may be.
    """

    limit: float
    slack: int
    ratio: float = 1.0

    def __call__(self, pair: SentencePair) -> Reason | None:
        # As long as the side that usually takes more characters would be.
        sizes = (len(pair.source) * max(self.ratio, 1.0) + self.slack, len(pair.target) / min(self.ratio, 1.0) + self.slack)
        return Reason.LENGTH_RATIO if max(sizes) > self.limit * min(sizes) else None


# Scripts without spaces between words, the wordspace of Ethiopic, and the punctuation and full-width forms among Han and kana.
_UNSPACED = regex.compile(f"[{UNSPACED_CLASS}\u1361\u2e80-\u303f\u30fb\u31c0-\u33ff\ufe30-\ufe4f\uff00-\uffef]+")
_ADDRESS = re.compile(r"(?:https?://|ftp://|www\.)\S+", re.IGNORECASE)


def longest_word(text: str) -> int:
    """Characters of the longest word. A character of a script written without spaces ends a word, and the address of a web page is none."""
    text = _ADDRESS.sub(" ", text)
    return max(map(len, (text if text.isascii() else _UNSPACED.sub(" ", text)).split()), default=0)


@dataclass(frozen=True)
class LongWordFilter:
    """Drop a pair with an overlong word, see `longest_word`. (OpusFilter's counts everything between spaces.)

    Args:    usual: what a word of the source and of the target may have in this corpus, where that is more.
    """

    threshold: int
    usual: tuple[int, int] = (0, 0)

    def __call__(self, pair: SentencePair) -> Reason | None:
        sides = zip(pair[:2], self.usual, strict=True)
        return Reason.LONG_WORD if any(self._has_long(text, max(self.threshold, usual)) for text, usual in sides) else None

    def _has_long(self, text: str, most: int) -> bool:
        if len(text) <= most or max(map(len, text.split()), default=0) <= most:
            return False
        return longest_word(text) > most


_ASCII_NO_LETTER = bytes(code for code in range(256) if not chr(code).isascii() or not chr(code).isalpha())


_LETTERS = regex.compile(r"[\p{L}\p{M}\p{Co}]")  # private-use characters have passed UnusableCharacterFilter


@dataclass(frozen=True)
class AlphabetRatioFilter:
    """Drop a pair with a side of too few letters; combining marks belong to their letters, white space does not count.

    Unlike OpusFilter's, it keeps a pair of two such sides that have the same digits: a score, a row of a table.

    Args:    unlettered: whether source and target usually have few: a language of numbers, dates or emoji. Such a side is not judged.
    """

    threshold: float
    unlettered: tuple[bool, bool] = (False, False)

    def __call__(self, pair: SentencePair) -> Reason | None:
        few = [not usual and self.has_few(text) for text, usual in zip(pair[:2], self.unlettered, strict=True)]
        return Reason.ALPHABET_RATIO if any(few) and not (all(few) and _same_digits(pair)) else None

    def has_few(self, text: str) -> bool:
        """Whether a text has too few letters."""
        # Each of the first two is a lower bound of the ratio, and quick: they decide nearly every line.
        if len(text.encode("utf-8", "surrogatepass").translate(None, _ASCII_NO_LETTER)) >= self.threshold * len(text):
            return False
        visible = "".join(text.split())
        if sum(map(str.isalpha, visible)) >= self.threshold * len(visible):
            return False
        return len(_LETTERS.findall(visible)) < self.threshold * len(visible)


def _same_digits(pair: SentencePair) -> bool:
    """Whether both sides hold the same digits, at least one, in any order and any script."""
    source, target = (sorted(value for sign in text if (value := unicodedata.decimal(sign, -1)) >= 0) for text in pair[:2])
    return source == target != []


_MAX_PERIOD = 8
_MIN_REPEATED_CHARACTERS = 16


def _repeats(units: Sequence[str], *, times: int, at_least: int = 0) -> bool:
    """Whether some run of 1 to 8 units occurs more than `times` times in a row (and fills at least so many units).

    A run of marks alone does not count: dots before a page number, a line of dashes.
    """
    if len(units) - len(set(units)) < times:
        return False
    for period in range(1, min(_MAX_PERIOD, len(units) - 1) + 1):
        wanted, run = max(period * times, at_least - period), 0
        for place, (unit, later) in enumerate(zip(units, units[period:], strict=False), 1):
            run = run + 1 if unit == later else 0
            if run >= wanted:
                if any(map(has_letters_or_digits, units[place - period : place])):
                    return True
                run = 0
    return False


@dataclass(frozen=True)
class RepetitionFilter:
    """Drop a pair with a side that repeats itself: one to eight words, or inside a long word one to eight characters, again and again.

    OpusFilter's searches with a backtracking pattern; this counts agreement with the text shifted by each period, in linear time.
    """

    threshold: int

    def __call__(self, pair: SentencePair) -> Reason | None:
        return Reason.REPETITION if self._repetitive(pair.source) or self._repetitive(pair.target) else None

    def _repetitive(self, text: str) -> bool:
        words = text.split()
        if len(words) - len(set(words)) >= self.threshold and _repeats(words, times=self.threshold):
            return True
        if len(max(words, key=len, default="")) < _MIN_REPEATED_CHARACTERS:
            return False
        long_words = (word for word in words if len(word) >= _MIN_REPEATED_CHARACTERS)
        return any(_repeats(word, times=self.threshold, at_least=_MIN_REPEATED_CHARACTERS) for word in long_words)


@dataclass(frozen=True)
class IdenticalFilter:
    """Drop a pair whose sides are the same except for case: untranslated text. Short ones are kept ("Ignore Tom.", "Paris").

    Args:    most_words: how many words with letters may be the same on both sides.
    """

    most_words: float

    def __call__(self, pair: SentencePair) -> Reason | None:
        same = len(pair.source) == len(pair.target) and pair.source.casefold() == pair.target.casefold()
        return Reason.IDENTICAL if same and len(lettered_words(pair.source)) > self.most_words else None


_WORDS = regex.compile(r"\w+")


def lettered_words(text: str) -> list[str]:
    """Words that hold a letter, without the marks around them; each character of a script written without spaces is one."""
    spaced = text if text.isascii() else _UNSPACED.sub(" ", text)
    words = [word for word in _WORDS.findall(spaced) if any(map(str.isalpha, word)) or _LETTERS.search(word)]
    return words if text.isascii() else words + _LETTERS.findall("".join(_UNSPACED.findall(text)))


# `s` is not here: <s>, <pad>, <unk> and <module> are ordinary text.
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|font|h[1-6]|head|hr|html|i|img|input|li|link|meta|nobr|ol|p|pre"
    r"|script|small|span|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul)(?:\s[^<>=]*=[^<>]*|\s*/?)>",
    re.IGNORECASE | re.ASCII,
)


def drop_html_tag(pair: SentencePair) -> Reason | None:
    """Drop a pair with a tag of HTML's text elements. (OpusFilter's takes any name for a tag, that of `<unk>` too.)"""
    for text in (pair.source, pair.target):
        if "<" in text and _TAG.search(text):
            return Reason.HTML_TAG
    return None


class HashSet:
    """A set of 64-bit numbers in 12 to 24 bytes each (Python's own takes 70 to 100): open addressing, linear probing."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 10))
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, number: int) -> bool:
        """Add a number (0 counts as 1, since 0 marks a free slot). Returns whether it was new."""
        if not self._place(self._slots, number or 1):
            return False
        self._used += 1
        if 3 * self._used > 2 * len(self._slots):
            wider = array("Q", bytes(16 * len(self._slots)))
            for held in self._slots:
                if held:
                    self._place(wider, held)
            self._slots = wider
        return True

    @staticmethod
    def _place(slots: "array[int]", number: int) -> bool:
        mask = len(slots) - 1
        at = number & mask
        while held := slots[at]:
            if held == number:
                return False
            at = (at + 1) & mask
        slots[at] = number
        return True


class DuplicateFilter:
    """Drop a duplicate pair. The only filter with a memory: the 64-bit BLAKE2 hash of every pair that it kept.

    Two different pairs share a hash with probability n²/2⁶⁵, 3 in a million for ten million pairs; the later would be dropped.
    """

    def __init__(self) -> None:
        self._seen = HashSet()

    def __call__(self, pair: SentencePair) -> Reason | None:
        return None if self._seen.add(hash_text(f"{pair.source}\n{pair.target}")) else Reason.DUPLICATE


def hash_text(text: str) -> int:
    """64 bits of BLAKE2b of the text, the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
