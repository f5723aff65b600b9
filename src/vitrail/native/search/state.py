"""The state of a beam search over one batch: what was asked, the live beams, the columns of a step, and what is finished."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vitrail.native.arrays import Allocate, Doubles, Floats, Integers, allocate, padded

PAD, UNK, SOS, EOS = 0, 1, 2, 3
GROUP = 32
"""Rows whose logits are computed together: they stay in the cache until the best tokens are found."""
FINE, NOT_A_NUMBER, NO_POSITION = 0, 1, 2
WHOLE, READ, ADVANCE, SETTLE = 0, 1, 2, 3
"""Parts of a search: what a call of the compiled code does."""
BLOCK = 128
"""Logits that are looked at together: most blocks have none of the best tokens."""


class Best(NamedTuple):
    """Room for the best tokens of one row."""

    values: Floats
    """[count] logits."""
    tokens: Integers
    """[count]"""
    maxima: Floats
    """[blocks] the largest logit of each block."""


class Rules(NamedTuple):
    """What all sentences of a batch share."""

    beams: int
    """K"""
    n_best: int
    early_stop: int
    length_penalty: float
    allow_unknown: int
    repeat_ngram: int
    """0: no repetition guard."""
    max_repeats: int


class Limits(NamedTuple):
    """What each sentence has of its own."""

    caps: Integers
    """[B] tokens at most, the end included."""
    floors: Integers
    """[B] tokens that come before the end."""
    guards: Integers
    """[B] 1 where repetitions are guarded against."""


class Beams(NamedTuple):
    """The live hypotheses. Beam j of sentence b is in the memory `places[b K + j]`, where its tokens are, too."""

    totals: Floats
    """[B K] log-probability; -inf for none."""
    places: Integers
    """[B K]"""
    tokens: Integers
    """[B K, 1 + steps] by place; the first is the start."""
    log_probs: Floats
    """[B K, 1 + steps] the same, one for each token."""


class Columns(NamedTuple):
    """The best continuations of each sentence, best first: column c extends beam parents[c] by tokens[c]."""

    counts: Integers
    """[B]"""
    parents: Integers
    """[B 2K]"""
    tokens: Integers
    log_probs: Floats
    totals: Floats
    texts: Integers
    """[B 2K] equal numbers for equal texts, where these count once; else -1."""


class Finished(NamedTuple):
    """The finished hypotheses of each sentence in K + 1 slots, best first by `order`."""

    counts: Integers
    """[B]"""
    ends: Integers
    """[B] hypotheses that ended, kept or not."""
    done: Integers
    """[B] 1 once a sentence is done."""
    order: Integers
    """[B (K + 1)] slots; those after the first counts[b] are free."""
    scores: Doubles
    """[B (K + 1)] by slot, as all below."""
    log_probs: Doubles
    truncated: Integers
    lengths: Integers
    """Tokens, the end not counted."""
    columns: Integers
    texts: Integers
    tokens: Integers
    """[B (K + 1), 1 + steps]"""
    token_log_probs: Floats
    """[B (K + 1), 1 + steps]"""


class Rows(NamedTuple):
    """The rows of a step: the live beams of all sentences that are not done."""

    sentences: Integers
    """[B K]"""
    beams: Integers
    """[B K]"""
    places: Integers
    """[B K]"""
    last: Integers
    """[B K]"""
    values: Floats
    """[B K, count] log-probabilities of the best next tokens of each row."""
    tokens: Integers
    """[B K, count]"""
    logits: Floats
    """[GROUP, logits_width(V)]"""
    best: Best


class Copies(NamedTuple):
    """Hypotheses that go on in two places: what a model remembers of them is to be copied after a step."""

    number: Integers
    """[1] how many there are."""
    sources: Integers
    """[B K] places; none of them is written to by another copy."""
    targets: Integers
    """[B K]"""


class Search(NamedTuple):
    """A search of one batch."""

    rules: Rules
    limits: Limits
    beams: Beams
    columns: Columns
    finished: Finished
    rows: Rows
    copies: Copies
    children: Integers
    """[4 K] room for one sentence: live columns, places that stay taken, places of the next beams."""
    steps: int
    """Positions of `tokens` for each hypothesis."""
    status: Integers
    """[1] FINE, or why the search ended before its time."""
    positions: int
    """How many the model knows; the search ends with NO_POSITION where it would need more."""


def make_search(vocabulary: int, rules: Rules, limits: Limits, positions: int, *, make: Allocate = allocate) -> Search:
    """A search that has not begun. Args: vocabulary: V, not padded; the model makes logits in rows of `logits_width(V)`."""
    sentences, beams, steps = len(limits.caps), rules.beams, int(limits.caps.max()) + 1
    rows, count, slots = sentences * beams, min(2 * beams, vocabulary), sentences * (beams + 1)
    width = logits_width(vocabulary)

    def whole(size: int, value: int = 0) -> Integers:
        made = make(size, np.int64)
        made[:] = value
        return made

    def floats(size: int, value: float = 0.0) -> Floats:
        made = make(size, np.float32)
        made[:] = value
        return made

    def doubles(size: int) -> Doubles:
        made = make(size, np.float64)
        made[:] = 0
        return made

    live = Beams(floats(rows, -np.inf), whole(rows), whole(rows * steps, SOS), floats(rows * steps))
    live.totals[::beams] = 0
    live.places[:] = np.arange(rows)
    columns = Columns(whole(sentences), whole(2 * rows), whole(2 * rows), floats(2 * rows), floats(2 * rows), whole(2 * rows, -1))
    finished = Finished(
        counts=whole(sentences),
        ends=whole(sentences),
        done=whole(sentences),
        order=whole(slots),
        scores=doubles(slots),
        log_probs=doubles(slots),
        truncated=whole(slots),
        lengths=whole(slots),
        columns=whole(slots),
        texts=whole(slots, -1),
        tokens=whole(slots * steps),
        token_log_probs=floats(slots * steps),
    )
    finished.order[:] = np.tile(np.arange(beams + 1), sentences)
    best = Best(floats(count), whole(count), floats(-(-width // BLOCK)))
    logits = floats(min(GROUP, rows) * width)
    step = Rows(whole(rows), whole(rows), whole(rows), whole(rows), floats(rows * count), whole(rows * count), logits, best)
    copies = Copies(whole(1), whole(rows), whole(rows))
    return Search(rules, limits, live, columns, finished, step, copies, whole(4 * beams), steps, whole(1), positions)


def logits_width(vocabulary: int) -> int:
    """Numbers of one row of logits; those after the first V are -inf."""
    return padded(vocabulary, 32)


def limits_of(caps: Sequence[int], floors: Sequence[int], guards: Sequence[bool]) -> Limits:
    """The limits of a batch as arrays."""
    return Limits(*(np.asarray(part, np.int64) for part in (caps, floors, guards)))
