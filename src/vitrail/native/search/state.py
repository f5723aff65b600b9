"""The state of a search over one batch: what was asked, the live beams, the columns of a step, and what is finished."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.native.arrays import Allocate, Doubles, Floats, Integers, allocate, padded

PAD, UNK, SOS, EOS = 0, 1, 2, 3
GROUP = 16
"""Rows whose logits are computed together: they stay in the cache until the best tokens are found."""
BLOCK = 128
"""Logits that are looked at together: most blocks have none of the best tokens."""
QUESTIONS = 256
"""Pairs of tokens that are asked about together at most."""

PART, PHASE, LENGTH, ROWS, MEMBERS, STATUS = 0, 1, 2, 3, 4, 5
"""Places of `Search.progress`: what a call does, what comes next, tokens written in every hypothesis, rows of the step, models that scored
them, and whether all is well."""
WHOLE, READ, MEMBER, REST, GIVEN = 0, 1, 2, 3, 4
"""Parts."""
START, CHOOSE, FORCE, LOOK, SETTLE = 0, 1, 2, 3, 4
"""Phases."""
FINE, NOT_A_NUMBER, NO_POSITION, STOPPED = 0, 1, 2, 3
"""Statuses: all but the first say why a search ended before its time."""
DONE, ONWARD, JOINS, TEXTS, WATCH = 0, 1, 2, 3, 4
"""What a search needs to go on: nothing, it is done; a step of the model; whether pairs of tokens are joined; which columns have equal
texts; that the columns are looked at, and which of them stop."""
CUT, ENDED, AT_STOP = 0, 1, 2
"""How a hypothesis was finished: by the limit of length, by its end, or by `Query.stop`."""
PREFIX, FORBIDDEN, FORCED, OWN = 0, 1, 3, 5
"""Places of `Constraints.of`, and their number."""


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
    """K; when sampling, the samples of each sentence."""
    n_best: int
    early_stop: int
    length_penalty: float
    allow_unknown: int
    repeat_ngram: int
    """0: no repetition guard."""
    max_repeats: int
    spelled: int
    """1: equal texts count once."""
    prompt: int
    """Tokens of each prompt, the first one included."""
    watched: int
    """1: Python looks at the columns of every step."""


class Drawing(NamedTuple):
    """How tokens are drawn; see `vitrail.decode.search_config.SamplingConfig`."""

    samples: int
    """1: tokens are drawn; 0: the best are searched."""
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    penalty: float
    """For repetitions."""


class Limits(NamedTuple):
    """What each sentence has of its own."""

    caps: Integers
    """[B] tokens at most, the end included."""
    floors: Integers
    """[B] tokens that come before the end."""
    guards: Integers
    """[B] 1 where repetitions are guarded against."""


class Constraints(NamedTuple):
    """Prefixes, forbidden and forced words of all sentences. A spelling is a sequence of tokens; a forced word has one or several."""

    tokens: Integers
    """Of all spellings, one after the other."""
    spellings: Integers
    """[S + 1] where each begins in `tokens`; those of forced words come first."""
    words: Integers
    """[W + 1] where the spellings of each forced word begin in `spellings`."""
    of: Integers
    """[B, 5] of each sentence: the spelling that is its prefix, or -1; first spelling that is forbidden, and the one after the last; first
    forced word, and the one after the last."""
    joins: npt.NDArray[np.int8]
    """[2 F, V] of each spelling of a forced word, whether a token and its first belong to one written word, and whether its last and
    a token do; -1: not known yet."""
    questions: Integers
    """[1 + QUESTIONS] how many places of `joins` are asked for, and which."""
    vocabulary: int
    """V"""
    extra: int
    """X: tokens that may begin or continue forced words, of a sentence at most, and the end; 0 where none is forced."""


class Beams(NamedTuple):
    """The live hypotheses. Beam j of sentence b is in the memory `places[b K + j]`, where its tokens are, too."""

    totals: Floats
    """[B K] log-probability; -inf for none."""
    places: Integers
    """[B K]"""
    tokens: Integers
    """[B K, steps] by place: the prompt, then what is written."""
    log_probs: Floats
    """[B K, steps] the same, one for each token."""


class Columns(NamedTuple):
    """The best continuations of each sentence, best first: column c extends beam parents[c] by tokens[c].

    When sampling, column c is sample c; with forced words, those that end come after the first K. A column whose total is -inf is none.
    """

    counts: Integers
    """[B]"""
    parents: Integers
    """[B 2K]"""
    tokens: Integers
    log_probs: Floats
    totals: Floats
    """-inf for none."""
    texts: Integers
    """[B 2K] equal numbers for equal texts, where these count once; else -1. Of a sentence without a column, they are of its beams."""
    stops: Integers
    """[B 2K] 1: what a column makes is finished, without an end."""


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
    grades: Integers
    """0: it ended; 1: it was truncated; 2: truncated, and does not satisfy the constraints."""
    stopped: Integers
    """1: without an end, but not truncated."""
    lengths: Integers
    """Tokens, the end not counted."""
    columns: Integers
    texts: Integers
    tokens: Integers
    """[B (K + 1), steps] without the prompt."""
    token_log_probs: Floats
    """[B (K + 1), steps]"""


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
    extra_values: Floats
    """[B K, X] the same of tokens that forced words want; -inf for none."""
    extra_tokens: Integers
    """[B K, X]"""
    logits: Floats
    """[rows, logits_width(V)] of GROUP rows; of all rows, where several models score them together."""
    member_logits: Floats
    """[GROUP, logits_width(V)] of one of several models."""
    best: Best


class Candidates(NamedTuple):
    """Continuations of one sentence with forced words, best first; C = 2K + K (2 + X) at most."""

    parents: Integers
    tokens: Integers
    log_probs: Floats
    totals: Floats
    banks: Integers
    """Tokens of forced words so far; of an end, those before it."""
    chosen: Integers
    """1: goes on; 2: ends; 0: neither."""
    sizes: Integers
    """[1 + most tokens of forced words] candidates of each bank so far."""


class Samples(NamedTuple):
    """Room and random numbers for drawing."""

    noise: Doubles
    """[B, longest, K] numbers from 0 to 1 of each sentence, step and sample."""
    weights: Floats
    """[logits_width(V)] of 1 for the most probable token."""
    sums: Doubles
    """[blocks] of the weights."""
    order: Integers
    """[V] tokens, most probable first."""
    kept: Floats
    """[steps] logits of the tokens of a hypothesis before their penalty."""


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
    drawing: Drawing
    limits: Limits
    constraints: Constraints
    beams: Beams
    columns: Columns
    finished: Finished
    rows: Rows
    candidates: Candidates
    samples: Samples
    copies: Copies
    children: Integers
    """[4 K] room for one sentence: live columns, places that stay taken, places of the next beams, and the numbers of the live columns
    among those that did not end."""
    steps: int
    """Positions of `tokens` for each hypothesis."""
    longest: int
    """The largest of the caps."""
    progress: Integers
    """[6] see PART."""
    positions: int
    """How many the model knows; the search ends with NO_POSITION where it would need more."""
    stop: Integers
    """[1] where another thread sets it to 1, the search ends with STOPPED before its next step."""


class Asked(NamedTuple):
    """What is asked of a search."""

    rules: Rules
    drawing: Drawing
    limits: Limits
    constraints: Constraints
    prompts: Integers
    """[B, prompt]"""
    noise: Doubles
    """See `Samples`; empty where nothing is drawn."""
    stop: Integers
    """[1] see `Search`."""


_NONE: Mapping[Any, npt.NDArray[Any]] = {kind: np.zeros(0, kind) for kind in (np.int64, np.float32, np.float64)}


class _Maker(NamedTuple):
    """Makes filled arrays."""

    make: Allocate

    def whole(self, size: int, value: int = 0) -> Integers:
        return self._filled(size, np.int64, value)

    def floats(self, size: int, value: float = 0.0) -> Floats:
        return self._filled(size, np.float32, value)

    def doubles(self, size: int) -> Doubles:
        return self._filled(size, np.float64, 0)

    def _filled(self, size: int, kind: Any, value: float) -> Any:
        if size == 0:
            return _NONE[kind]
        made = self.make(size, kind)
        made.fill(value)
        return made


def make_search(
    vocabulary: int,
    asked: Asked,
    *,
    positions: int,
    members: int = 1,
    make: Allocate = allocate,
    passing: Allocate | None = None,
) -> Search:
    """A search that has not begun.

    Args: vocabulary: V, not padded; a model makes logits in rows of `logits_width(V)`. members: models that score each token together.
        passing: makes the logits, which are written before they are read.
    """
    passing = passing or make
    rules, constraints, to = asked.rules, asked.constraints, _Maker(make)
    sentences, beams, steps = len(asked.limits.caps), rules.beams, int(asked.limits.caps.max()) + rules.prompt
    rows, count, slots, extra = sentences * beams, min(2 * beams, vocabulary), sentences * (beams + 1), constraints.extra
    width = logits_width(vocabulary)
    live = Beams(to.floats(rows, -np.inf), to.whole(rows), to.whole(rows * steps, SOS), to.floats(rows * steps))
    live.totals[::beams] = 0
    live.places[:] = np.arange(rows)
    live.tokens.reshape(sentences, beams, steps)[:, 0, : rules.prompt] = asked.prompts.reshape(sentences, -1)
    finished = Finished(
        counts=to.whole(sentences),
        ends=to.whole(sentences),
        done=to.whole(sentences),
        order=to.whole(slots),
        scores=to.doubles(slots),
        log_probs=to.doubles(slots),
        grades=to.whole(slots),
        stopped=to.whole(slots),
        lengths=to.whole(slots),
        columns=to.whole(slots),
        texts=to.whole(slots, -1),
        tokens=to.whole(slots * steps),
        token_log_probs=to.floats(slots * steps),
    )
    finished.order.reshape(sentences, beams + 1)[:] = np.arange(beams + 1)
    step = Rows(
        sentences=to.whole(rows),
        beams=to.whole(rows),
        places=to.whole(rows),
        last=to.whole(rows),
        values=to.floats(rows * count),
        tokens=to.whole(rows * count),
        extra_values=to.floats(rows * extra, -np.inf),
        extra_tokens=to.whole(rows * extra),
        logits=passing((min(GROUP, rows) if members == 1 else rows) * width, np.float32),
        member_logits=passing(0 if members == 1 else min(GROUP, rows) * width, np.float32),
        best=Best(to.floats(count), to.whole(count), to.floats(-(-width // BLOCK))),
    )
    return Search(
        rules,
        asked.drawing,
        asked.limits,
        constraints,
        live,
        Columns(
            counts=to.whole(sentences, beams if asked.drawing.samples else 0),
            parents=to.whole(2 * rows),
            tokens=to.whole(2 * rows, EOS),
            log_probs=to.floats(2 * rows, -np.inf),
            totals=to.floats(2 * rows, -np.inf),
            texts=to.whole(2 * rows, -1),
            stops=to.whole(2 * rows),
        ),
        finished,
        step,
        _candidates(to, constraints, beams),
        _samples(to, asked, vocabulary, steps),
        Copies(to.whole(1), to.whole(rows), to.whole(rows)),
        children=to.whole(4 * beams),
        steps=steps,
        longest=steps - rules.prompt,
        progress=to.whole(6),
        positions=positions,
        stop=asked.stop,
    )


def _candidates(to: _Maker, constraints: Constraints, beams: int) -> Candidates:
    size = 2 * beams + beams * (2 + constraints.extra) if constraints.extra else 0
    most = len(constraints.tokens) if constraints.extra else 0
    return Candidates(to.whole(size), to.whole(size), to.floats(size), to.floats(size), to.whole(size), to.whole(size), to.whole(1 + most))


def _samples(to: _Maker, asked: Asked, vocabulary: int, steps: int) -> Samples:
    drawing, width = asked.drawing, logits_width(vocabulary) if asked.drawing.samples else 0
    noise = to.doubles(asked.noise.size)
    noise[:] = asked.noise.reshape(-1)
    sorts, penalises = drawing.top_k > 0 or drawing.top_p < 1, drawing.penalty != 1
    return Samples(
        noise,
        to.floats(width),
        to.doubles(-(-width // BLOCK)),
        to.whole(vocabulary if sorts else 0),
        to.floats(steps if penalises else 0),
    )


def logits_width(vocabulary: int) -> int:
    """Numbers of one row of logits; those after the first V are -inf."""
    return padded(vocabulary, 32)


def limits_of(caps: Sequence[int], floors: Sequence[int], guards: Sequence[bool]) -> Limits:
    """The limits of a batch as arrays."""
    return Limits(*(np.asarray(part, np.int64) for part in (caps, floors, guards)))
