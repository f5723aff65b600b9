"""Hold-out: choose dev and test when none are given, and remove their sentences from train.

Two sentences are the same when their keys are equal: 64-bit BLAKE2 hashes after NFKC and case folding, with one kind of apostrophe, single
spaces, and no invisible marks or final punctuation. So "Oui." in test keeps "oui !" out of train. The choice depends on the sentences
alone: not on the order of the file, the machine, or a random generator.
"""

import json
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vitrail.config import Config
from vitrail.data.cleaning.clean import printable
from vitrail.data.cleaning.filters import hash_text
from vitrail.data.cleaning.normalise import INVISIBLE, SPACES
from vitrail.data.reading.parallel_text import SentencePair
from vitrail.errors import DataError

Keys = NDArray[np.uint64]
"""Hashes of sentences."""

AUTO_SHARE = 0.04
AUTO_MOST = 1_000
_MIN_PAIRS = 3
_LONGEST_COMPOSED = 4_096
_FINAL_MARKS = ".!?,;:\u2026\u3002\u060c\u061b\u061f\u0964 "


class HoldoutConfig(Config):
    """How many pairs are kept out of training, where no dev or test text is given."""

    dev_pairs: int | None = Field(default=None, ge=0)
    """Pairs to choose the best step by; unset: 4 % of the corpus, at most 1,000."""
    test_pairs: int | None = Field(default=None, ge=0)
    """Pairs to report the score on; unset: 4 % of the corpus, at most 1,000."""


class SplitRole(IntEnum):
    """What becomes of a pair. REMOVED: dev or test has its source or its target, in another pair."""

    TRAIN = 0
    DEV = 1
    TEST = 2
    REMOVED = 3


@dataclass(frozen=True)
class Split:
    """The role of every pair, by its place in the text that was split."""

    roles: NDArray[np.uint8]

    def count(self, role: SplitRole) -> int:
        """How many pairs have this role."""
        return int(np.count_nonzero(self.roles == role))

    def select(self, pairs: Iterable[SentencePair], *, role: SplitRole) -> Iterator[SentencePair]:
        """Yield the pairs of one role, from the same pairs in the same order as at the split. Raises DataError when their number
        differs."""
        seen = 0
        for pair in pairs:
            if seen < len(self.roles) and self.roles[seen] == role:
                yield pair
            seen += 1
        if seen != len(self.roles):
            raise DataError(f"{seen:,} pairs, but {len(self.roles):,} were split", remedy="run again when no other program writes to it")

    def to_json(self) -> str:
        """The counts as readable JSON."""
        return json.dumps({role.name.lower(): self.count(role) for role in SplitRole}, indent=2) + "\n"

    def to_text(self) -> str:
        """The counts in one line."""
        return (
            f"{self.count(SplitRole.TRAIN):,} pairs to train on, {self.count(SplitRole.DEV):,} dev, {self.count(SplitRole.TEST):,} test; "
            f"{self.count(SplitRole.REMOVED):,} removed because dev or test has the same sentence"
        )


def sentence_key(text: str) -> int:
    """Hash a sentence; case, final marks, spaces, invisible marks and composition do not change the key.

    Text beyond 4,096 characters is not NFKC-composed: that takes quadratic time on a long run of combining marks.
    """
    if not text.isascii():
        text = SPACES.sub(" ", INVISIBLE.sub("", text))
        text = unicodedata.normalize("NFKC", text) if len(text) <= _LONGEST_COMPOSED else text
    folded = " ".join(text.replace("\u2019", "'").casefold().split())
    return hash_text(folded.rstrip(_FINAL_MARKS) or folded)


def _hash_keys(pairs: Iterable[SentencePair]) -> tuple[Keys, Keys]:
    sources, targets = array("Q"), array("Q")
    for pair in pairs:
        sources.append(sentence_key(pair.source))
        targets.append(sentence_key(pair.target))
    return np.frombuffer(sources, dtype=np.uint64), np.frombuffer(targets, dtype=np.uint64)


def _contains(sorted_keys: Keys, keys: Keys) -> NDArray[np.bool_]:
    """Which of `keys` are among a few sorted ones. Cost: one binary search each, 8 bytes each."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.searchsorted(sorted_keys, keys)
    places[places == len(sorted_keys)] = 0
    return sorted_keys[places] == keys


def _wanted(config: HoldoutConfig, pairs: int) -> tuple[int, int]:
    automatic = min(AUTO_MOST, max(1, int(pairs * AUTO_SHARE)))
    dev = automatic if config.dev_pairs is None else config.dev_pairs
    test = automatic if config.test_pairs is None else config.test_pairs
    return dev, test


def _choose(sources: Keys, targets: Keys, *, number: int) -> list[int]:
    """Places of `number` pairs with the smallest source keys, no two of which share a source or a target."""
    chosen: list[int] = []
    used_sources: set[int] = set()
    used_targets: set[int] = set()
    for place in np.lexsort((targets, sources)):
        if len(chosen) == number:
            break
        source, target = int(sources[place]), int(targets[place])
        if source not in used_sources and target not in used_targets:
            chosen.append(int(place))
            used_sources.add(source)
            used_targets.add(target)
    return chosen


def split(pairs: Iterable[SentencePair], *, config: HoldoutConfig) -> Split:
    """Hash all sentences, then `split_keys`. Pairs should be clean: equal empty sides would count as shared sentences."""
    return split_keys(*_hash_keys(pairs), config=config)


def split_keys(sources: Keys, targets: Keys, *, config: HoldoutConfig, allowed: NDArray[np.bool_] | None = None) -> Split:
    """Choose dev and test so that train, dev and test share no sentence of either side.

    Pairs are sorted by their source's key, which is as good as random: the first become test, the next dev, at most one pair for each
    source and each target. Every other pair with one of these sources or targets is REMOVED. The order of the pairs changes dev, test and
    train only where two pairs have both keys equal ("Oui." and "oui!").

    Args:    the `sentence_key` of each source and each target. allowed: the pairs that may be held out; default: all.
    Raises:  DataError when the text is too small or too repetitive to leave something for each part.
    Cost:    two sorts; at its peak about 50 bytes a pair.
    """
    places = np.arange(len(sources)) if allowed is None else np.flatnonzero(allowed)
    dev, test = _wanted(config, len(places))
    roles = np.full(len(sources), SplitRole.TRAIN, dtype=np.uint8)
    if not dev and not test:
        return Split(roles)
    if not len(places) and len(sources):
        raise DataError(
            "no pair may be held out for dev and test: every corpus has holdout=no",
            remedy="give dev and test texts (--dev FILE --test FILE), or hold none out: --set data.holdout.dev_pairs=0 and test_pairs too",
        )
    chosen = _choose(sources[places], targets[places], number=dev + test) if len(places) >= _MIN_PAIRS else []
    held = places[np.array(chosen, dtype=np.int64)]
    roles[_contains(np.sort(sources[held]), sources) | _contains(np.sort(targets[held]), targets)] = SplitRole.REMOVED
    roles[held[:test]], roles[held[test:]] = SplitRole.TEST, SplitRole.DEV
    if len(chosen) < dev + test or not np.any(roles == SplitRole.TRAIN):
        raise DataError(
            f"{len(places):,} pairs are too few, or too alike, to hold out {dev:,} for dev and {test:,} for test and still train",
            expected="sentences that differ",
            remedy="give texts of your own (--dev FILE --test FILE), ask for fewer pairs (--set data.holdout.dev_pairs=5 and "
            "data.holdout.test_pairs=5), or add text",
        )
    return Split(roles)


class HeldOut(NamedTuple):
    """The keys of a dev or test text, source and target side."""

    sources: frozenset[int]
    targets: frozenset[int]


def held_out(pairs: Iterable[SentencePair]) -> HeldOut:
    """Hash given dev and test texts. An empty side matches nothing."""
    both = [(sentence_key(p.source) if p.source else None, sentence_key(p.target) if p.target else None) for p in pairs]
    return HeldOut(frozenset(s for s, _ in both if s is not None), frozenset(t for _, t in both if t is not None))


_EXAMPLES = 5


@dataclass
class Overlap:
    """Pairs removed from train because dev or test has them: total == kept + by_source + by_target + by_both; the first few examples."""

    total: int = 0
    kept: int = 0
    by_source: int = 0
    by_target: int = 0
    by_both: int = 0
    examples: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    """Line, source, target."""

    def keeps(self, pair: Callable[[], SentencePair], *, by_source: bool, by_target: bool) -> bool:
        """Count a training pair by which of its sentences are held out, and return whether it may be trained on.

        Args: pair: called only where the pair may serve as an example.
        """
        self.total += 1
        if not by_source and not by_target:
            self.kept += 1
            return True
        self.by_both += by_source and by_target
        self.by_source += by_source and not by_target
        self.by_target += by_target and not by_source
        if len(self.examples) < _EXAMPLES:
            found = pair()
            self.examples.append((found.line, printable(found.source), printable(found.target)))
        return False

    def to_json(self) -> str:
        """The report as readable JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def to_text(self) -> str:
        """The report in one line."""
        return (
            f"{self.total - self.kept:,} of {self.total:,} training pairs removed because dev or test holds "
            f"their source ({self.by_source:,}), their target ({self.by_target:,}) or both ({self.by_both:,})"
        )
