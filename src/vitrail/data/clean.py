"""Clean parallel text: one normalisation step, then pure filters, each a function pair -> reason or None; every drop is counted.

Names follow OpusFilter (Aulamo et al. 2020); where a filter measures something else than OpusFilter's, its docstring says so.
Time is linear in the length of a line: no filter backtracks, and LengthFilter, the first, spares the others the longest lines.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.text import SentencePair, is_cut
from vitrail.errors import UsageError


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

_ALWAYS = frozenset({Reason.LENGTH, Reason.INVALID_UTF8, Reason.EMPTY_SIDE})


class CleanConfig(Config):
    """Which pairs are kept. The defaults drop what cannot be a translation and keep anything that merely looks unusual."""

    max_words: int = Field(default=250, ge=1)
    """LengthFilter: words, divided by white space, on either side."""
    max_characters: int = Field(default=2_000, ge=1)
    """LengthFilter: characters on either side; the limit that counts for text without spaces."""
    max_length_ratio: float = Field(default=4.0, ge=1.0)
    """LengthRatioFilter: longer side over shorter side, in UTF-8 bytes, each plus `length_ratio_slack`."""
    length_ratio_slack: int = Field(default=20, ge=0)
    """LengthRatioFilter: bytes added to both sides, so that "Oui ." may translate "Yes, of course I do."."""
    max_word_characters: int = Field(default=80, ge=1)
    """LongWordFilter: characters of one word; scripts written without spaces do not count."""
    min_alphabet_ratio: float = Field(default=0.2, ge=0.0, le=1.0)
    """AlphabetRatioFilter: letters of any script over all characters that are not white space, on either side."""
    max_repeats: int = Field(default=5, ge=1)
    """RepetitionFilter: how often in a row the same words or letters may stand."""
    skip: tuple[Reason, ...] = ()
    """Filters to leave out, such as ["HtmlTagFilter"]."""

    @model_validator(mode="after")
    def _keep_what_later_steps_need(self) -> "CleanConfig":
        needed = sorted(_ALWAYS.intersection(self.skip))
        if needed:
            raise UsageError(f"skip: {', '.join(needed)} cannot be left out", remedy="raise max_words and max_characters instead")
        return self


# --- normalisation -------------------------------------------------------------------------------------------------------------

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SPACES = re.compile(" {2,}")


def normalise(text: str) -> str:
    """Make each run of controls (C0 with NUL, tab and carriage return; C1 with U+0085; U+2028/9) and spaces one space, and strip.

    U+FEFF is removed. Other spaces inside the line stay: French sets U+00A0 and U+202F before punctuation, and a translation must
    be able to give them back. Idempotent; a clean text is returned as it is.
    """
    if not text.isprintable():
        text = _CONTROLS.sub(" ", text.replace("\ufeff", ""))
    if "  " in text:
        text = _SPACES.sub(" ", text)
    return text.strip()


def normalise_pair(pair: SentencePair) -> SentencePair:
    """Normalise both sides."""
    return SentencePair(normalise(pair.source), normalise(pair.target), pair.line)


# --- the filters ---------------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class LongWordFilter:
    """Drop a pair with an overlong word. A character of a script written without spaces ends a word (unlike OpusFilter's)."""

    threshold: int

    def __call__(self, pair: SentencePair) -> Reason | None:
        return Reason.LONG_WORD if self._has_long(pair.source) or self._has_long(pair.target) else None

    def _has_long(self, text: str) -> bool:
        if len(text) <= self.threshold or max(map(len, text.split()), default=0) <= self.threshold:
            return False
        return max(map(len, _UNSPACED.sub(" ", text).split()), default=0) > self.threshold


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
    """Whether some run of 1 to 8 units stands more than `times` times in a row (and fills at least so many units)."""
    if len(units) - len(set(units)) < times:
        return False
    for period in range(1, min(_MAX_PERIOD, len(units) - 1) + 1):
        wanted, run = max(period * times, at_least - period), 0
        for unit, later in zip(units, units[period:], strict=False):
            run = run + 1 if unit == later else 0
            if run >= wanted:
                return True
    return False


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


def drop_identical(pair: SentencePair) -> Reason | None:
    """Drop a pair whose sides are the same but for case: text that was not translated."""
    same = len(pair.source) == len(pair.target) and pair.source.casefold() == pair.target.casefold()
    return Reason.IDENTICAL if same else None


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


def make_filters(config: CleanConfig) -> tuple[Filter, ...]:
    """The pure filters of a configuration in the order of Reason: without DuplicateFilter, so that any process may apply them."""
    filters: dict[Reason, Filter] = {
        Reason.LENGTH: LengthFilter(config.max_words, config.max_characters),
        Reason.INVALID_UTF8: drop_invalid_utf8,
        Reason.UNUSABLE_CHARACTER: drop_unusable_character,
        Reason.EMPTY_SIDE: drop_empty_side,
        Reason.HTML_TAG: drop_html_tag,
        Reason.LENGTH_RATIO: LengthRatioFilter(config.max_length_ratio, config.length_ratio_slack),
        Reason.LONG_WORD: LongWordFilter(config.max_word_characters),
        Reason.ALPHABET_RATIO: AlphabetRatioFilter(config.min_alphabet_ratio),
        Reason.REPETITION: RepetitionFilter(config.max_repeats),
        Reason.IDENTICAL: drop_identical,
    }
    return tuple(keep for reason, keep in filters.items() if reason not in config.skip)


# --- the report ----------------------------------------------------------------------------------------------------------------


def show(text: str, *, characters: int = 120) -> str:
    """Text fit for a terminal and for JSON: invisible characters and stray bytes spelled out, long text cut."""
    cut = text[:characters]
    spelled = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return spelled + ("…" if len(text) > characters else "")


@dataclass(frozen=True)
class Example:
    """One pair as it was read (`before`) and, where normalisation changed it, as it became."""

    line: int
    before: tuple[str, str]
    after: tuple[str, str] | None = None


EXAMPLES = 5


@dataclass
class Report:
    """What cleaning did: total == kept + sum of dropped, always; the first few examples of each reason."""

    total: int = 0
    kept: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter[Reason])
    normalised: int = 0
    """Pairs that the normalisation step changed, kept or not."""
    examples: dict[str, list[Example]] = field(default_factory=dict[str, list[Example]])

    def drop(self, reason: Reason, pair: SentencePair) -> None:
        """Count a dropped pair."""
        self.dropped[reason] += 1
        if self.dropped[reason] <= EXAMPLES:
            self._exemplify(reason, Example(pair.line, (show(pair.source), show(pair.target))))

    def normalise(self, before: SentencePair, after: SentencePair) -> None:
        """Count a pair changed by normalisation."""
        self.normalised += 1
        if self.normalised <= EXAMPLES:
            was, now = (show(before.source), show(before.target)), (show(after.source), show(after.target))
            self._exemplify("normalised", Example(before.line, was, now))

    def _exemplify(self, key: str, example: Example) -> None:
        self.examples.setdefault(str(key), []).append(example)

    def add(self, other: "Report") -> None:
        """Add the report on later lines (of another file or another process)."""
        self.total += other.total
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.normalised += other.normalised
        for key, examples in other.examples.items():
            self.examples[key] = (self.examples.get(key, []) + examples)[:EXAMPLES]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: counts, reasons in the filters' order, examples."""
        return {
            "total": self.total,
            "kept": self.kept,
            "normalised": self.normalised,
            "dropped": {reason.value: self.dropped[reason] for reason in Reason if self.dropped[reason]},
            "examples": {
                key: [{"line": e.line, "before": list(e.before)} | ({"after": list(e.after)} if e.after else {}) for e in examples]
                for key, examples in self.examples.items()
            },
        }

    def to_json(self) -> str:
        """The report as readable JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_text(self, *, explain: bool = False) -> str:
        """The report to read: one line a reason with its share; with `explain`, examples before and after."""
        total = max(self.total, 1)
        lines = [f"{self.kept:,} of {self.total:,} pairs kept ({self.kept / total:.2%}); {self.normalised:,} normalised"]
        for key in ("normalised", *Reason):
            if isinstance(key, Reason) and self.dropped[key]:
                lines.append(f"  {key.value:<20} {self.dropped[key]:>10,}  {self.dropped[key] / total:7.3%}")
            if explain:
                for example in self.examples.get(str(key), []):
                    lines.append(f"    line {example.line:,}: {example.before[0]}  |  {example.before[1]}")
                    lines += [f"      becomes: {example.after[0]}  |  {example.after[1]}"] if example.after else []
        return "\n".join(lines)


def clean(pairs: Iterable[SentencePair], *, config: CleanConfig, report: Report) -> Iterator[SentencePair]:
    """Yield the normalised pairs that every filter keeps, and count all others in the report by the first reason against them.

    Cost: 9 to 13 µs of one core a pair, reading included (6 to 12 words a side); 12 to 24 bytes a distinct pair for DuplicateFilter.
    """
    filters = make_filters(config)
    if Reason.DUPLICATE not in config.skip:
        filters = (*filters, DuplicateFilter())
    for pair in pairs:
        report.total += 1
        source, target = normalise(pair.source), normalise(pair.target)
        if source != pair.source or target != pair.target:
            raw, pair = pair, SentencePair(source, target, pair.line)
            report.normalise(raw, pair)
        for keep in filters:
            reason = keep(pair)
            if reason is not None:
                report.drop(reason, pair)
                break
        else:
            report.kept += 1
            yield pair
