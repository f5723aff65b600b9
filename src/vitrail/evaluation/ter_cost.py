"""An estimate of the time for TER before it is computed, and the maximal length of its lines.

TER searches for phrases that occur elsewhere in the reference, and computes an edit distance for each possible new place: up to 1,000 for a
line (sacreBLEU, after Tercom), each in time that grows with the line.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from vitrail.errors import DataError

MOST_WORDS = 1_000
"""A longer line is an error for TER: one of 600 words takes 16 s, one of 2,000 several minutes (measured on one core)."""
USUAL_WORDS = 150
"""The longest line for TER among the default metrics."""
USUAL_CELLS = 200_000_000
"""The maximal cost of all lines together there, in cells of edit distance: about 20 s, at most a minute (measured on one core)."""

# As sacreBLEU has them: how far a phrase may go, half the width of a row, and how many places are tried.
_REACH, _BAND, _TRIES = 50, 51, 1_000


class Excess(NamedTuple):
    """Why TER takes too long: the longest line and its words."""

    line: int
    words: int
    too_long: bool
    """The line alone is too long; otherwise all lines together are too many."""

    def __str__(self) -> str:
        if self.too_long:
            return f"line {self.line} has {self.words:,} words, and it is computed for lines of up to {USUAL_WORDS}"
        return f"it would take minutes (the longest line has {self.words:,} words)"


def require_countable(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raises DataError where a line is too long for TER."""
    line, words = _longest(hypotheses, references)
    if words > MOST_WORDS:
        raise DataError(
            f"line {line} has {words:,} words",
            expected=f"at most {MOST_WORDS:,} words a line to count TER",
            remedy="leave ter out of the metrics, or cut the text into sentences",
        )


def excess(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Excess | None:
    """Whether TER takes too long as a default metric; the same answer on every machine."""
    line, words = _longest(hypotheses, references)
    if words > USUAL_WORDS:
        return Excess(line, words, too_long=True)
    cost = 0
    for lines in references:
        for hypothesis, reference in zip(hypotheses, lines, strict=True):
            cost += ter_cost(hypothesis, reference)
            if cost > USUAL_CELLS:
                return Excess(line, words, too_long=False)
    return None


def ter_cost(hypothesis: str, reference: str) -> int:
    """About how many cells of edit distance TER fills for a line; 0.04 to 0.25 microseconds each.

    Estimated from the words that are wrong on both sides of an alignment and occur elsewhere on the other side.
    """
    words, wanted = hypothesis.lower().split(), reference.lower().split()
    wrong, missing = [True] * len(words), [True] * len(wanted)
    for block in SequenceMatcher(None, words, wanted, autojunk=False).get_matching_blocks():
        wrong[block.a : block.a + block.size] = [False] * block.size
        missing[block.b : block.b + block.size] = [False] * block.size
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(wanted):
        if missing[place]:
            places[word].append(place)
    pairs = movable = 0
    for place, word in enumerate(words):
        if wrong[place] and word in places:
            near = bisect_right(places[word], place + _REACH) - bisect_left(places[word], place - _REACH)
            pairs, movable = pairs + near, movable + (near > 0)
    # Each phrase may go to two places or so, and all are tried again after each that is moved.
    return len(words) * _BAND * (1 + min(_TRIES, 2 * pairs * (1 + movable)))


def _longest(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[int, int]:
    """The number of the longest line on any side, from 1, and its words."""
    sizes = [max(len(line.split()) for line in lines) for lines in zip(hypotheses, *references, strict=True)]
    most = max(sizes)
    return sizes.index(most) + 1, most
