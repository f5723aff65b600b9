"""Constraints on what is written: forced prefix, forbidden and forced words; and which hypotheses have them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vitrail.data.vocabularies.subwords import EOS
from vitrail.errors import UsageError

TokenIds = tuple[int, ...]


def never_joins(previous: int, following: int) -> bool:
    """The default: every token is a word by itself."""
    return False


@dataclass(frozen=True)
class Constraints:
    """Constraints on the translation of one sentence, in token ids.

    Args:
        prefix: the translation begins with these tokens; stronger than every other rule.
        forbidden: none of these sequences may occur.
        forced: each of these words must occur, in any order; a word is given by all its spellings, one of which is enough.
        joins: whether two neighbouring tokens belong to one written word. A forced word that is joined to its left or right is another word
        ("cat" in "catalogue") and does not count.
        guard_repeats: False switches the repetition guard off, for a source that repeats itself.
    """

    prefix: TokenIds = ()
    forbidden: tuple[TokenIds, ...] = ()
    forced: tuple[tuple[TokenIds, ...], ...] = ()
    joins: Callable[[int, int], bool] = never_joins
    guard_repeats: bool = True

    def __post_init__(self) -> None:
        spellings = [*self.forbidden, *(spelling for word in self.forced for spelling in word)]
        if any(len(spelling) == 0 for spelling in spellings) or any(len(word) == 0 for word in self.forced):
            raise UsageError("a forbidden or forced word without tokens", expected="at least one token for every word")
        for word in self.forced:
            if all(any(contains(spelling, banned) for banned in self.forbidden) for spelling in word):
                raise UsageError(f"the word {word[0]} is forced and forbidden at once", remedy="leave it out of one of the two lists")

    @property
    def is_active(self) -> bool:
        """Whether there is any constraint."""
        return bool(self.prefix or self.forbidden or self.forced)

    def satisfied_by(self, tokens: Sequence[int]) -> bool:
        """Whether a translation satisfies the constraints."""
        after = len(self.prefix)
        return (
            tuple(tokens[:after]) == self.prefix
            and not any(contains(tokens[max(0, after - len(banned) + 1) :], banned) for banned in self.forbidden)
            and forced_progress(tokens, self).complete
        )


UNCONSTRAINED = Constraints()


def contains(tokens: Sequence[int], part: Sequence[int]) -> bool:
    """Whether `part` occurs in `tokens` without a gap."""
    return any(tuple(tokens[at : at + len(part)]) == tuple(part) for at in range(len(tokens) - len(part) + 1))


def repeats(tokens: Sequence[int], *, ngram: int, times: int) -> bool:
    """Whether some sequence of `ngram` tokens occurs more than `times` times."""
    if len(tokens) - len(set(tokens)) < times:  # the first token of such a sequence recurs as often
        return False
    windows = zip(*(tokens[shift:] for shift in range(ngram)), strict=False)
    return any(count > times for count in Counter(windows).values())


class ForcedProgress(NamedTuple):
    """Progress of a hypothesis with its forced words."""

    met: int
    """Tokens of forced words so far, including an incomplete word; the number of the hypothesis's bank."""
    complete: bool
    wanted: tuple[int, ...]
    """The tokens that begin or continue a missing word."""


def forced_progress(tokens: Sequence[int], constraints: Constraints) -> ForcedProgress:
    """Count the tokens of forced words in a hypothesis. A pure function of its tokens: no state per beam."""
    met, begun, complete = 0, 0, True
    wanted: list[int] = []
    for word in constraints.forced:
        length = min(len(spelling) for spelling in word)
        if any(_occurs_as_word(tokens, spelling, constraints) for spelling in word):
            met += length
            continue
        complete = False
        for spelling in word:
            wanted.append(spelling[0])
            for start in range(1, min(len(spelling), len(tokens) + 1)):
                if tuple(tokens[len(tokens) - start :]) == spelling[:start]:
                    wanted.append(spelling[start])
                    begun = max(begun, min(start, length - 1))
    return ForcedProgress(met + begun, complete, tuple(dict.fromkeys(wanted)))


def _occurs_as_word(tokens: Sequence[int], spelling: TokenIds, constraints: Constraints) -> bool:
    """Whether a spelling occurs as a separate word."""
    for start in range(len(tokens) - len(spelling) + 1):
        end = start + len(spelling)
        if (
            tuple(tokens[start:end]) == spelling
            and not (start > 0 and constraints.joins(tokens[start - 1], tokens[start]))
            and not (end < len(tokens) and constraints.joins(tokens[end - 1], tokens[end]))
        ):
            return True
    return False


class BeamCandidate(NamedTuple):
    """One continuation of one beam."""

    parent: int
    token: int
    total: float


def share_beams(
    candidates: Iterable[BeamCandidate], histories: Sequence[Sequence[int]], constraints: Constraints, *, beams: int
) -> list[BeamCandidate]:
    """Choose the beams of a sentence with forced words, so that hypotheses with many and with few of them survive.

    Dynamic beam allocation, Post & Vilar 2018: candidates are sorted into banks by their number of tokens of forced words, and the beams
    are divided evenly over the banks; what a bank cannot fill goes to the fullest one. Differs from it: the remainder goes to the last
    bank, and only the last bank may end.

    Returns: candidates to continue and candidates that end (their token is EOS), at most `beams` of each, best first.
    """
    banks: dict[int, list[BeamCandidate]] = {}
    ends: list[BeamCandidate] = []
    last_bank = sum(min(len(spelling) for spelling in word) for word in constraints.forced)
    for candidate in sorted(candidates, key=lambda item: (-item.total, item.parent, item.token)):
        history = histories[candidate.parent]
        if candidate.token == EOS:
            # Only among the best of the last bank, as an end must be among the best K in a search without constraints.
            if forced_progress(history, constraints).complete and len(ends) + len(banks.get(last_bank, ())) < beams:
                ends.append(candidate)
        else:
            banks.setdefault(forced_progress([*history, candidate.token], constraints).met, []).append(candidate)
    share, remainder = divmod(beams, last_bank + 1)
    chosen: list[BeamCandidate] = []
    for bank, members in banks.items():
        slots = share + (remainder if bank == last_bank else 0)
        chosen += members[:slots]
        banks[bank] = members[slots:]
    for bank in sorted(banks, reverse=True):
        chosen += banks[bank][: beams - len(chosen)]
    return sorted(chosen, key=lambda item: (-item.total, item.parent, item.token)) + ends
