"""Constraints on what is written: forced prefix, forbidden and forced words, repetition guard, repetition penalty."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK
from vitrail.errors import UsageError

TokenIds = tuple[int, ...]
_NOTHING = -1
"""Stands before a prompt that is shorter than others."""


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
    windows = list(zip(*(tokens[shift:] for shift in range(ngram)), strict=False))
    if len(windows) - len(set(windows)) < times:
        return False
    return any(count > times for count in Counter(windows).values())


class TokenRules:
    """The rules for the next tokens of a batch of sentences."""

    def __init__(
        self,
        constraints: Sequence[Constraints],
        *,
        prompts: Sequence[TokenIds],
        min_lengths: Sequence[int],
        allow_unknown: bool,
        repeat_ngram: int,
        max_repeats: int,
        device: torch.device,
    ) -> None:
        self._constraints, self._min_lengths = constraints, min_lengths
        self._never = torch.tensor([PAD, SOS] if allow_unknown else [PAD, SOS, UNK], device=device)
        self._repeat_ngram, self._max_repeats = repeat_ngram, max_repeats
        longest = max(map(len, prompts), default=0)
        padded = [[*[_NOTHING] * (longest - len(prompt)), *prompt] for prompt in prompts]
        self._prompts = torch.tensor(padded, device=device)
        self._special = {row for row, wish in enumerate(constraints) if wish.prefix or wish.forbidden}

    def block(self, log_probs: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K T"], sentences: Sequence[int]) -> None:
        """Set forbidden next tokens to -inf, in place; the others keep the model's log-probability (no renormalisation).

        `sentences[b]` is the sentence of row b.
        """
        length = tokens.shape[2]
        special = [(row, self._constraints[sentence]) for row, sentence in enumerate(sentences) if sentence in self._special]
        prefixed = [(row, wish.prefix[length]) for row, wish in special if length < len(wish.prefix)]
        prefix_log_probs = [log_probs[row, :, token].clone() for row, token in prefixed]
        log_probs.index_fill_(2, self._never, -torch.inf)
        too_short = [row for row, sentence in enumerate(sentences) if length < self._min_lengths[sentence]]
        if too_short:
            log_probs[too_short, :, EOS] = -torch.inf
        if self._repeat_ngram and self._prompts.shape[1] + length >= self._repeat_ngram + self._max_repeats - 1:
            self._block_repeats(log_probs, self._with_prompts(tokens, sentences), sentences)
        for row, wish in special:
            for spelling in wish.forbidden:
                _block_sequence(log_probs[row], tokens[row], spelling)
        for (row, token), kept in zip(prefixed, prefix_log_probs, strict=True):
            log_probs[row] = -torch.inf
            log_probs[row, :, token] = kept

    def _with_prompts(self, tokens: Int[Tensor, "B K T"], sentences: Sequence[int]) -> Int[Tensor, "B K P"]:
        """All tokens that a row has read and written."""
        read = self._prompts[list(sentences)]
        return torch.cat([read[:, None].expand(-1, tokens.shape[1], -1), tokens], dim=2)

    def penalise(
        self, logits: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K T"], sentences: Sequence[int], *, penalty: float
    ) -> Float[Tensor, "B K V"]:
        """Make tokens that a row has read or written less likely: a logit above 0 is divided by `penalty`, one below is multiplied.

        Source: Keskar et al. 2019 (CTRL), section 4.1. Differs from it: the logit of a special token never changes, so that a text whose
        prompt has several lines ends as easily as any other; and logits below 0, which a division would raise, are multiplied, as is usual.
        """
        seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        seen.scatter_(2, self._with_prompts(tokens, sentences).clamp(min=0), True)
        seen[:, :, : EOS + 1] = False
        return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _block_repeats(self, log_probs: Float[Tensor, "B K V"], tokens: Int[Tensor, "B K T"], sentences: Sequence[int]) -> None:
        """Forbid a token that would repeat a sequence once too often; the end is never forbidden."""
        windows = tokens.unfold(2, self._repeat_ngram, 1)
        recent = tokens[:, :, tokens.shape[2] - self._repeat_ngram + 1 :]
        same_start = (windows[..., :-1] == recent[:, :, None]).all(-1)
        # A row rarely gets here, so counting in Python usually costs nothing.
        for row, beam in (same_start.sum(-1) >= self._max_repeats).nonzero().tolist():
            if self._constraints[sentences[row]].guard_repeats:
                followers = Counter(windows[row, beam, same_start[row, beam], -1].tolist())
                log_probs[row, beam, [one for one, count in followers.items() if count >= self._max_repeats and one != EOS]] = -torch.inf


def _block_sequence(log_probs: Float[Tensor, "K V"], tokens: Int[Tensor, "K T"], spelling: TokenIds) -> None:
    before = len(spelling) - 1
    if tokens.shape[1] >= before:
        beginning = torch.tensor(spelling[:-1], dtype=tokens.dtype, device=tokens.device)
        log_probs[(tokens[:, tokens.shape[1] - before :] == beginning).all(-1), spelling[-1]] = -torch.inf


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
