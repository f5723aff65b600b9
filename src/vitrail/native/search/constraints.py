"""Which next tokens are allowed: the rules of `vitrail.decode.search`, on the logits of one row."""

import numpy as np

from vitrail.native.arrays import Integers
from vitrail.native.compiled import compiled_inside
from vitrail.native.search.shortlists import forbid, place_of
from vitrail.native.search.state import EOS, FORBIDDEN, LENGTH, OWN, PAD, PREFIX, SOS, UNK, Constraints, Search

# pyright: reportArgumentType=false, reportReturnType=false
# (an element of an array has no known type)


@compiled_inside
def same(tokens: Integers, at: int, others: Integers, place: int, count: int) -> bool:
    """Whether so many tokens at two places are the same."""
    for i in range(count):  # noqa: SIM110  (compiled code has no generators)
        if tokens[at + i] != others[place + i]:
            return False
    return True


@compiled_inside
def _block_repeats(search: Search, b: int, begin: int, span: tuple[int, int]) -> None:
    """Forbid each token, but the end, that would write a sequence of `repeat_ngram` tokens more than `max_repeats` times.

    Args: span: where the tokens of the hypothesis, the prompt included, begin and end.
    """
    tokens, ngram, most = search.beams.tokens, search.rules.repeat_ngram, search.rules.max_repeats
    first, last = span
    if last - first < ngram + most - 1:
        return
    recent = last - ngram + 1
    for one in range(first, recent):
        if same(tokens, one, tokens, recent, ngram - 1):
            follower, times = tokens[one + ngram - 1], 0
            for other in range(one, recent):
                if tokens[other + ngram - 1] == follower and same(tokens, other, tokens, recent, ngram - 1):
                    times += 1
            if times >= most and follower != EOS:
                forbid(search, b, begin, follower)


@compiled_inside
def _block_words(search: Search, b: int, begin: int, span: tuple[int, int]) -> None:
    """Forbid each token that would complete a forbidden spelling. Args: span: where what is written begins and ends."""
    constraints, tokens = search.constraints, search.beams.tokens
    for s in range(constraints.of[b * OWN + FORBIDDEN], constraints.of[b * OWN + FORBIDDEN + 1]):
        first, before = constraints.spellings[s], constraints.spellings[s + 1] - constraints.spellings[s] - 1
        if span[1] - span[0] >= before and same(constraints.tokens, first, tokens, span[1] - before, before):
            forbid(search, b, begin, constraints.tokens[first + before])


@compiled_inside
def prefix_length(constraints: Constraints, b: int) -> int:
    """Tokens of a sentence's prefix."""
    s = constraints.of[b * OWN + PREFIX]
    return constraints.spellings[s + 1] - constraints.spellings[s] if s >= 0 else 0


@compiled_inside
def allow(search: Search, row: int, begin: int, width: int) -> None:
    """Set the logits of tokens that may not follow to -inf; they are those from `begin` on. A prefix is stronger than all other rules."""
    rules, rows, constraints, length = search.rules, search.rows, search.constraints, search.progress[LENGTH]
    logits, b = rows.logits, rows.sentences[row]
    if length < prefix_length(constraints, b):
        token = constraints.tokens[constraints.spellings[constraints.of[b * OWN + PREFIX]] + length]
        place = begin + place_of(search, b, token)
        kept = logits[place]
        for i in range(begin, begin + width):
            logits[i] = -np.inf
        logits[place] = kept
        return
    logits[begin + PAD] = logits[begin + SOS] = -np.inf
    if rules.allow_unknown == 0:
        logits[begin + UNK] = -np.inf
    if length < search.limits.floors[b]:
        logits[begin + EOS] = -np.inf
    first = rows.places[row] * search.steps
    written = first + rules.prompt
    if rules.repeat_ngram > 0 and search.limits.guards[b] == 1:
        _block_repeats(search, b, begin, (first, written + length))
    _block_words(search, b, begin, (written, written + length))
