"""The cleaning filters: each a pure function pair -> reason or None, but for DuplicateFilter, which has a memory.

Names follow OpusFilter (Aulamo et al. 2020); where a filter measures something else than OpusFilter's, its docstring says so.
Time is linear in the length of a line: no filter backtracks, and LengthFilter, the first, spares the others the longest lines.
"""

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from vitrail.data.text import SentencePair, is_cut


class Reason(StrEnum):
    """Why a pair was dropped, in the order in which the filters look; the first that objects is counted."""

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


@dataclass(frozen=True)
class LengthFilter:
    """Drop a pair with an overlong side, or one that the reader had to cut. (OpusFilter's also has a minimum: see EmptySide.)"""

    max_words: int
    max_characters: int

    def __call__(self, pair: SentencePair) -> Reason | None:
        return Reason.LENGTH if self._too_long(pair.source) or self._too_long(pair.target) else None

    def _too_long(self, text: str) -> bool:
        if len(text) > self.max_characters or is_cut(text):
            return True
        return len(text) >= 2 * self.max_words and len(text.split()) > self.max_words  # n words take at least 2n-1 characters


_ESCAPED_BYTES = re.compile("[\ud800-\udfff]")


def drop_invalid_utf8(pair: SentencePair) -> Reason | None:
    """Drop a pair with bytes that were not UTF-8 (overlong forms and encoded surrogates are not)."""
    for text in (pair.source, pair.target):
        if not text.isprintable() and _ESCAPED_BYTES.search(text):
            return Reason.INVALID_UTF8
    return None


# Unassigned characters are kept: which they are changes with the Python version, and with it the result would.
_UNUSABLE = re.compile(
    "[\ufffd\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\U000f0000-\U0010ffff"
    + "".join(chr(plane * 0x10000 + 0xFFFE + n) for plane in range(1, 15) for n in (0, 1))
    + "]"
)


def drop_unusable_character(pair: SentencePair) -> Reason | None:
    """Drop a pair with U+FFFD (a character already lost), private-use characters or Unicode's noncharacters."""
    for text in (pair.source, pair.target):
        if (not text.isprintable() or "\ufffd" in text) and _UNUSABLE.search(text):
            return Reason.UNUSABLE_CHARACTER
    return None


def drop_empty_side(pair: SentencePair) -> Reason | None:
    """Drop a pair of which a side shows nothing: no character, or only white space, controls and zero-width ones."""
    for text in (pair.source, pair.target):
        if not text or text.isspace() or not (text.isprintable() or any(map(str.isprintable, text.replace(" ", "")))):
            return Reason.EMPTY_SIDE
    return None


@dataclass(frozen=True)
class LengthRatioFilter:
    """Drop a pair of very unequal sides.

    In UTF-8 bytes, where OpusFilter counts words or characters: the same meaning takes about as many bytes in English, French,
    Japanese or Chinese, but three times fewer characters in the latter two, and they have no words between spaces.
    """

    threshold: float
    slack: int

    def __call__(self, pair: SentencePair) -> Reason | None:
        sizes = [len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in (pair.source, pair.target)]
        return Reason.LENGTH_RATIO if max(sizes) + self.slack > self.threshold * (min(sizes) + self.slack) else None


# Thai to Myanmar, Khmer; then kana, ideographs (all planes), full-width forms and what stands between them: written without spaces.
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff00-\uffef\U0001b000-\U0001b2ff\U00020000-\U0003ffff]+")


_ADDRESS = re.compile(r"(?:https?://|ftp://|www\.)\S+", re.IGNORECASE)


@dataclass(frozen=True)
class LongWordFilter:
    """Drop a pair with an overlong word. Unlike in OpusFilter's, a character of a script written without spaces ends a word, and the
    address of a web page is none."""

    threshold: int

    def __call__(self, pair: SentencePair) -> Reason | None:
        return Reason.LONG_WORD if self._has_long(pair.source) or self._has_long(pair.target) else None

    def _has_long(self, text: str) -> bool:
        if len(text) <= self.threshold or max(map(len, text.split()), default=0) <= self.threshold:
            return False
        words = _UNSPACED.sub(" ", _ADDRESS.sub(" ", text)).split()
        return max(map(len, words), default=0) > self.threshold


_ASCII_NO_LETTER = bytes(code for code in range(256) if not chr(code).isascii() or not chr(code).isalpha())


@dataclass(frozen=True)
class AlphabetRatioFilter:
    """Drop a pair of which a side has too few letters. White space does not count (OpusFilter: exclude_whitespace=True)."""

    threshold: float

    def __call__(self, pair: SentencePair) -> Reason | None:
        return Reason.ALPHABET_RATIO if self._too_few(pair.source) or self._too_few(pair.target) else None

    def _too_few(self, text: str) -> bool:
        # ASCII letters over all characters is a lower bound of the ratio, and quick: it settles nearly every line of Latin script.
        if len(text.encode("utf-8", "surrogatepass").translate(None, _ASCII_NO_LETTER)) >= self.threshold * len(text):
            return False
        visible = "".join(text.split())
        return sum(map(str.isalpha, visible)) < self.threshold * len(visible)


_MAX_PERIOD = 8
_MIN_REPEATED_CHARACTERS = 16


def _repeats(units: Sequence[str], *, times: int, at_least: int = 0) -> bool:
    """Whether some run of 1 to 8 units stands more than `times` times in a row (and fills at least so many units).

    A run of marks alone is none: dots that lead to a page number, a rule of dashes.
    """
    if len(units) - len(set(units)) < times:
        return False
    for period in range(1, min(_MAX_PERIOD, len(units) - 1) + 1):
        wanted, run = max(period * times, at_least - period), 0
        for place, (unit, later) in enumerate(zip(units, units[period:], strict=False), 1):
            run = run + 1 if unit == later else 0
            if run >= wanted:
                if any(map(_says_something, units[place - period : place])):
                    return True
                run = 0
    return False


def _says_something(unit: str) -> bool:
    return any(map(str.isalnum, unit))


@dataclass(frozen=True)
class RepetitionFilter:
    """Drop a pair of which a side repeats itself: one to eight words, or inside a long word one to eight characters, over and over.

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
    """Drop a pair whose sides are the same but for case, text that was not translated; but keep short ones ("Ignore Tom.", "Paris")."""

    most_words: int

    def __call__(self, pair: SentencePair) -> Reason | None:
        same = len(pair.source) == len(pair.target) and pair.source.casefold() == pair.target.casefold()
        return Reason.IDENTICAL if same and _count_words(pair.source) > self.most_words else None


def _count_words(text: str) -> int:
    """Words between spaces; each character of a script written without spaces counts as one."""
    return len(_UNSPACED.sub(" ", text).split()) + sum(map(len, _UNSPACED.findall(text)))


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
    """A set of 64-bit numbers in 12 to 24 bytes each, where Python's own takes 70 to 100: open addressing, linear probing."""

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
    """Drop a pair that came before. The one filter with a memory: the 64-bit BLAKE2 hash of every pair it has passed.

    Two different pairs share a hash with probability n²/2⁶⁵, 3 in a million for ten million pairs; the later would be dropped.
    """

    def __init__(self) -> None:
        self._seen = HashSet()

    def __call__(self, pair: SentencePair) -> Reason | None:
        return None if self._seen.add(hash_text(f"{pair.source}\n{pair.target}")) else Reason.DUPLICATE


def hash_text(text: str) -> int:
    """64 bits of BLAKE2b of the text, the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
