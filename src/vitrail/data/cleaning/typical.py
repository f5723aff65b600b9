"""Statistics of the usual pairs of a corpus: the filters compare each pair with its own corpus.

The same meaning takes 0.3 characters of Cantonese, 1.3 of Burmese and 1.5 of Yoruba for each of English; a fixed limit that suits one
pair of languages drops good translations of another, or keeps bad ones.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from math import exp, log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.cleaning.filters import (
    MAX_REPEATS,
    MAX_WORD_CHARACTERS,
    MIN_ALPHABET_RATIO,
    PRIVATE_USE,
    RATIO_SLACK,
    AlphabetRatioFilter,
    LongWordFilter,
    RepetitionFilter,
    drop_empty_side,
    drop_html_tag,
    drop_invalid_utf8,
    lettered_words,
    longest_word,
)
from vitrail.data.cleaning.normalise import Normalisation, learn_normalisation, normalise
from vitrail.data.reading.parallel_text import ParallelText, SentencePair, is_cut

SAMPLE = 10_000
"""Pairs that are looked at, drawn evenly from the corpus."""
LIMITS = (2.5, 4.0)
"""How much longer than usual a side may be: the least limit, for corpora of similar pairs, and the greatest, for others."""
_SPREADS = 6.0
"""... and between these two limits, this many standard deviations. Of 600 professional translations in 127 languages the fourth farthest
from the middle is at most 4.4 away, between any two of them 5.2."""
_SOUND_SHARE = 0.005
"""Where fewer pairs are beyond that, the corpus is good, and only pairs beyond the greater limit are dropped."""
_BETTER_HALF = 0.25
"""The quantile that is the middle of a corpus's good half where its other half, garbage, lies above."""
_FEWEST = 20
"""With fewer pairs the spread is unknown."""
_PLAUSIBLE = 3.0
"""Largest factor between the usual ratio and the one predicted by the entropies of both sides' characters: 1.6 in 127 languages."""
_CHANCE = 1e-3
"""A line may be the same in both languages where chance makes as many equal, given the share of equal words."""
_UNLETTERED_SHARE = 0.75
"""A side is without letters where a larger share of its lines has few letters."""
_PRIVATE_SHARE = 0.2
"""A text has letters in the private-use area where a larger share of its lines uses it."""


class Typical(NamedTuple):
    """Statistics of a corpus."""

    length_ratio: float = 1.0
    """Characters of the target for each of the source."""
    ratio_limit: float = LIMITS[1]
    """How much longer than by `length_ratio` either side may be."""
    word_ratio: float = 1.0
    """Words between spaces of the target for each of the source, between a half and two."""
    longest_words: tuple[int, int] = (0, 0)
    """Characters that a word of the source and of the target may have."""
    equal_words: float = 0.0
    """How many words may be the same on both sides: many between British and American English, few between English and French."""
    private_use: bool = False
    """Whether its letters are private-use characters."""
    unlettered: tuple[bool, bool] = (False, False)
    """Whether source and target usually have few letters or none: numbers, dates, emoji, Morse."""

    @classmethod
    def from_values(cls, values: list[Any]) -> "Typical":
        """The inverse of `list(typical)`, after JSON."""
        found = cls(**dict(zip(cls._fields, values, strict=True)))
        return found._replace(longest_words=tuple(values[3]), unlettered=tuple(values[6]))

    def to_text(self) -> str:
        """How the lengths compare, for the report."""
        least, most = self.length_ratio / self.ratio_limit, self.length_ratio * self.ratio_limit
        return f"the target usually has {self.length_ratio:.2f} characters for each of the source; {least:.2f} to {most:.2f} are kept"


UNMEASURED = Typical()
"""For an unknown corpus."""


class Survey(NamedTuple):
    """Statistics of the training text before it is cleaned."""

    typical: tuple[Typical, ...]
    """Of each corpus."""
    normalisation: Normalisation


def survey(corpora: Sequence[tuple[ParallelText, int]]) -> Survey:
    """Look at pairs drawn evenly from each corpus, given with its number of pairs. Depends on the text alone.

    Cost: 3 µs a pair to read all, 90 µs a pair of the samples.
    """
    samples = [list(islice(corpus.pairs(), 0, None, max(1, -(-count // SAMPLE)))) for corpus, count in corpora]
    return Survey(tuple(map(measure_typical, samples)), learn_normalisation(pair[:2] for sample in samples for pair in sample))


def measure_typical(pairs: Iterable[SentencePair]) -> Typical:
    """Describe a sample of a corpus.

    Middle and spread are those of the shortest interval that holds half of the values (Rousseeuw 1984, least median of squares): they
    describe the better half of a corpus, even where the other half is garbage, for example too short.
    """
    sample = list(dict.fromkeys((normalise(pair.source), normalise(pair.target)) for pair in pairs if not _is_cut(pair)))
    unlettered = _unlettered(sample)
    unsound = (*_UNSOUND, AlphabetRatioFilter(MIN_ALPHABET_RATIO, unlettered))
    sound = [both for both in sample if not any(drop(SentencePair(*both, 0)) for drop in unsound)]
    if not sound:
        return UNMEASURED
    longest = (_longest([source for source, _ in sound]), _longest([target for _, target in sound]))
    overlong = LongWordFilter(MAX_WORD_CHARACTERS, longest)
    sound = [both for both in sound if overlong(SentencePair(*both, 0)) is None] or sound
    translated = [both for both in sound if both[0] != both[1]] or sound
    ratio, limit = _lengths(translated, foretold=None if any(unlettered) else _foretold(translated))
    counts = np.array([(len(source.split()), len(target.split())) for source, target in translated], dtype=np.float64)
    private = [any(map(PRIVATE_USE.search, both)) for both in sample]
    return Typical(
        length_ratio=round(ratio, 4),
        ratio_limit=round(limit, 4),
        word_ratio=round(float(np.clip(np.exp(_middle(np.log(counts[:, 1] / counts[:, 0]))[0]), 0.5, 2.0)), 4),
        longest_words=longest,
        equal_words=_equal_words(translated),
        private_use=sum(private) > _PRIVATE_SHARE * len(private),
        unlettered=unlettered,
    )


_UNSOUND = (drop_invalid_utf8, drop_empty_side, drop_html_tag, RepetitionFilter(MAX_REPEATS))


def _unlettered(sample: list[tuple[str, str]]) -> tuple[bool, bool]:
    read = [both for both in sample if drop_invalid_utf8(SentencePair(*both, 0)) is None and all(both)]
    few = AlphabetRatioFilter(MIN_ALPHABET_RATIO).has_few
    source, target = (sum(few(both[side]) for both in read) > _UNLETTERED_SHARE * len(read) for side in (0, 1))
    return source, target


def _is_cut(pair: SentencePair) -> bool:
    return is_cut(pair.source) or is_cut(pair.target)


def _longest(texts: list[str]) -> int:
    """The most characters of a word: four times the longest of a usual line, or sixteen times where the text has few spaces."""
    longest = np.array([longest_word(text) for text in texts])
    undivided = np.quantile(longest / np.array([len(text) for text in texts]), _BETTER_HALF) > 0.5
    return int(np.quantile(longest, _BETTER_HALF)) * (16 if undivided else 4)


def _lengths(pairs: list[tuple[str, str]], *, foretold: float | None) -> tuple[float, float]:
    """The usual ratio of lengths, and how much longer than by it a side may be.

    Args: foretold: the logarithm of the ratio that the characters predict; None where they predict none: text of digits.
    """
    lengths = np.array([(len(source), len(target)) for source, target in pairs], dtype=np.float64)
    ratios = np.log(lengths[:, 1] / lengths[:, 0])
    plausible = np.full(len(ratios), fill_value=True) if foretold is None else np.abs(ratios - foretold) <= log(_PLAUSIBLE)
    ratio = exp(_middle(ratios[plausible])[0] if foretold is None or plausible.any() else foretold)
    source, target = (lengths * (max(ratio, 1.0), 1 / min(ratio, 1.0)) + RATIO_SLACK).T
    excess = np.log(target / source)
    if plausible.sum() < _FEWEST:
        return ratio, LIMITS[1]
    limit = max(LIMITS[0], min(exp(_SPREADS * _middle(excess[plausible])[1]), LIMITS[1]))
    return ratio, limit if np.mean(np.abs(excess) > log(limit)) > _SOUND_SHARE else LIMITS[1]


def _foretold(pairs: list[tuple[str, str]]) -> float:
    """The logarithm of the ratio of lengths at which both sides hold the same information: H(source) / H(target), in bits a character."""
    entropies: list[float] = []
    for side in zip(*pairs, strict=True):
        counts = np.array(list(Counter(chain.from_iterable(side)).values()), dtype=np.float64)
        shares = counts / counts.sum()
        entropies.append(max(float(-(shares * np.log2(shares)).sum()), 0.1))
    return log(entropies[0] / entropies[1])


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The median of the shortest interval that holds half of the values, and the standard deviation that a normal one so wide has."""
    ordered = np.sort(values)
    half = len(ordered) // 2 + 1
    widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
    first = int(np.argmin(widths))
    return float(np.median(ordered[first : first + half])), float(widths[first]) / 2 / 0.6745


def _equal_words(pairs: list[tuple[str, str]]) -> float:
    """How many words in a row may be the same by chance: p^n >= 1/1000, p being the probability that a word is the same.

    p is measured on pairs that differ, as copies of the source say nothing about the languages. It is the lower quartile, since many
    untranslated pairs differ by one mark.
    """
    shares: list[float] = []
    for source, target in pairs:
        left, right = (lettered_words(side.casefold()) for side in (source, target))
        if min(len(left), len(right)) >= 3:
            common = set(right)
            shares.append(sum(word in common for word in left) / len(left))
    share = float(np.quantile(shares, _BETTER_HALF)) if len(shares) >= 3 else 0.0
    return 0.0 if share == 0 else round(log(_CHANCE) / log(min(share, 1 - _CHANCE)), 1)
