"""Requests as the arrays of the compiled search, its questions answered, and its results as hypotheses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vitrail.data.vocabularies.subwords import EOS
from vitrail.data.vocabularies.vocabulary import SPECIAL
from vitrail.decode.search.constraints import Constraints, TokenIds, never_joins
from vitrail.decode.search.query import Hypothesis, Query, allowed_tokens
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.native.arrays import Allocate, Doubles, Integers
from vitrail.native.search import state
from vitrail.native.search.state import Asked, Drawing, Rules, Search, Shortlists, limits_of, shortlists_of

Word = tuple[TokenIds, ...]
"""A forced word with all its spellings."""
Joins = Callable[[int, int], bool]


class Job(NamedTuple):
    """One sentence of a request."""

    number: int
    source: tuple[int, ...]
    """With its end."""
    query: Query


class _Span(NamedTuple):
    first: int
    end: int


_NO_CONSTRAINT = (-1, 0, 0, 0, 0)
"""See `state.Constraints.of`."""


@dataclass
class _Spellings:
    """Sequences of tokens, one after the other."""

    tokens: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=lambda: [0])

    def add(self, spellings: Sequence[TokenIds]) -> _Span:
        """Add some; returns their numbers."""
        first = len(self.begins) - 1
        for one in spellings:
            self.tokens += one
            self.begins.append(len(self.tokens))
        return _Span(first, len(self.begins) - 1)


class ConstraintTable:
    """The constraints of a request as arrays, each word and list once; and which tokens join forced words.

    Several threads may read and fill it at the same time: an answer is the same whoever asks.
    """

    def __init__(self, constraints: Sequence[Constraints], vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._joins: list[Joins] = []
        """Of each spelling of a forced word."""
        self._forced: dict[tuple[tuple[Word, ...], Joins], _Span] = {}
        self._forbidden: dict[tuple[TokenIds, ...], _Span] = {}
        self._prefixes: dict[TokenIds, int] = {}
        spellings, words = _Spellings(), [0]
        for wish in constraints:
            if wish.forced and (wish.forced, wish.joins) not in self._forced:
                first = len(words) - 1
                for word in wish.forced:
                    words.append(spellings.add(word).end)
                    self._joins += [wish.joins] * len(word)
                self._forced[wish.forced, wish.joins] = _Span(first, len(words) - 1)
        for wish in constraints:
            if wish.forbidden and wish.forbidden not in self._forbidden:
                self._forbidden[wish.forbidden] = spellings.add(wish.forbidden)
            if wish.prefix and wish.prefix not in self._prefixes:
                self._prefixes[wish.prefix] = spellings.add([wish.prefix]).first
        self._tokens, self._spellings, self._words = (np.asarray(part, np.int64) for part in (spellings.tokens, spellings.begins, words))
        self._table = np.full(2 * len(self._joins) * vocabulary, -1, np.int8)
        for number, joins in enumerate(self._joins):
            if joins is never_joins:
                self._table[2 * number * vocabulary : 2 * (number + 1) * vocabulary] = 0

    def of(self, constraints: Sequence[Constraints], make: Allocate) -> state.Constraints:
        """Those of some sentences."""
        rows = make(len(constraints) * state.OWN, np.int64)
        rows[:] = [number for wish in constraints for number in (self._row(wish) if wish.is_active else _NO_CONSTRAINT)]
        questions = make(1 + state.QUESTIONS, np.int64)
        questions[0] = 0
        most = max((sum(len(spelling) for word in wish.forced for spelling in word) for wish in constraints if wish.forced), default=0)
        extra = 1 + most if most else 0
        return state.Constraints(self._tokens, self._spellings, self._words, rows, self._table, questions, self._vocabulary, extra)

    def _row(self, wish: Constraints) -> tuple[int, ...]:
        prefix = self._prefixes[wish.prefix] if wish.prefix else -1
        forbidden = self._forbidden[wish.forbidden] if wish.forbidden else _Span(0, 0)
        forced = self._forced[wish.forced, wish.joins] if wish.forced else _Span(0, 0)
        return prefix, *forbidden, *forced

    def answer(self, questions: Integers) -> None:
        """Fill in which tokens are joined. Args: questions: see `native.search.state.Constraints`."""
        for place in questions[1 : 1 + int(questions[0])].tolist():
            row, token = divmod(place, self._vocabulary)
            number, after = divmod(row, 2)
            first, end = self._spellings[number : number + 2].tolist()
            pair = (int(self._tokens[end - 1]), token) if after else (token, int(self._tokens[first]))
            self._table[place] = self._joins[number](*pair)


def asked_of(
    queries: Sequence[Query], config: SearchConfig, table: ConstraintTable, *, watched: bool = False, make: Allocate, stop: Integers
) -> Asked:
    """What is asked of the search of some sentences. Precondition: their prompts have one length.

    Args: watched: see `rules_of`. stop: see `state.Asked`.
    """
    sampling = config.sampling
    limits = limits_of(
        [query.cap for query in queries], [query.floor for query in queries], [query.constraints.guard_repeats for query in queries]
    )
    return Asked(
        rules_of(queries, config, watched=watched),
        drawing_of(sampling),
        limits,
        table.of([query.constraints for query in queries], make),
        _shortlists(queries, ordered=sampling is not None, make=make),
        prompts=np.asarray([query.prompt for query in queries], np.int64),
        noise=np.zeros(0) if sampling is None else noise_of(queries, config.width),
        stop=stop,
    )


def rules_of(queries: Sequence[Query], config: SearchConfig, *, watched: bool) -> Rules:
    """What some sentences share. Args: watched: whether Python looks at every step, even where no query has a `Query.stop`."""
    return Rules(
        beams=config.width,
        n_best=config.n_best,
        early_stop=int(config.early_stop and config.sampling is None),
        length_penalty=float(config.length_penalty),
        allow_unknown=int(config.allow_unknown),
        repeat_ngram=config.repeat_ngram,
        max_repeats=config.max_repeats,
        spelled=int(any(query.spell is not None for query in queries)),
        prompt=len(queries[0].prompt),
        watched=int(watched or any(query.stop is not None for query in queries)),
    )


def _shortlists(queries: Sequence[Query], *, ordered: bool, make: Allocate) -> Shortlists:
    """The tokens that each sentence may have.

    Args: ordered: whether logits are to be in the order of ids, as random draws count: but for the special tokens, nothing is shared then.
    """
    lists = allowed_tokens(queries)
    if not ordered:
        return shortlists_of(lists[0].shared if lists else np.zeros(0, np.int64), [one.own for one in lists], make=make)
    special = np.arange(len(SPECIAL))
    return shortlists_of(special, [np.union1d(*one)[len(SPECIAL) :] for one in lists], make=make)


def drawing_of(sampling: SamplingConfig | None) -> Drawing:
    """How tokens are drawn."""
    how = SamplingConfig() if sampling is None else sampling
    return Drawing(int(sampling is not None), how.temperature, how.top_k, how.top_p, how.min_p, how.repetition_penalty)


def noise_of(queries: Sequence[Query], width: int) -> Doubles:
    """The random numbers of each sentence [B, longest, K], those that torch's generator draws from its seed.

    That is the Mersenne Twister of 32 bits, begun with the lowest 32 bits of the seed; a number from 0 to 1 is made of the lowest 53 of 64
    bits, the first 32 of which are the upper ones.
    """
    noise = np.zeros((len(queries), max(query.cap for query in queries), width))
    for row, query in enumerate(queries):
        halves = np.frombuffer(np.random.RandomState(query.seed & 0xFFFFFFFF).bytes(8 * query.cap * width), "<u4").astype(np.uint64)
        whole = (halves[::2] << np.uint64(32) | halves[1::2]) & np.uint64((1 << 53) - 1)
        noise[row, : query.cap] = (whole * 2.0**-53).reshape(query.cap, width)
    return noise


class Texts:
    """Numbers the texts of hypotheses, where equal texts count once, and asks which of them stop."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self._queries = queries
        self._numbers: list[dict[str, int]] = [{} for _ in queries]

    def tell(self, search: Search) -> None:
        """Number the texts of all columns that may be kept: those that end or stop, and all at the limit of length."""
        for number, query in enumerate(self._queries):
            if query.spell is not None and not search.finished.done[number]:
                self._tell(search, number, query.spell, at_limit=int(search.progress[state.LENGTH]) + 1 >= query.cap)

    def _tell(self, search: Search, number: int, spell: Callable[[Sequence[int]], str], *, at_limit: bool) -> None:
        columns, beams, width, prompt = search.columns, search.beams, search.rules.beams, search.rules.prompt
        numbers, length, first = self._numbers[number], int(search.progress[state.LENGTH]), number * width

        def text_of(beam: int, more: Sequence[int]) -> int:
            begin = int(beams.places[first + beam]) * search.steps + prompt
            return numbers.setdefault(spell([*beams.tokens[begin : begin + length].tolist(), *more]), len(numbers))

        span = range(2 * first, 2 * first + int(columns.counts[number]))
        live = [column for column in span if columns.totals[column] > -np.inf]
        columns.texts[2 * first : 2 * (first + width)] = -1
        for column in live:
            token = int(columns.tokens[column])
            if token == EOS or at_limit or columns.stops[column]:
                columns.texts[column] = text_of(int(columns.parents[column]), () if token == EOS else (token,))
        for beam in range(0 if live else width):
            if beams.totals[first + beam] > -np.inf:
                columns.texts[2 * first + beam] = text_of(beam, ())

    def stop(self, search: Search) -> None:
        """Ask `Query.stop` of each column that may go on."""
        columns, beams, width, prompt = search.columns, search.beams, search.rules.beams, search.rules.prompt
        columns.stops[:] = 0
        length = int(search.progress[state.LENGTH])
        for number, query in enumerate(self._queries):
            if query.stop is None or search.finished.done[number]:
                continue
            first, going = 2 * number * width, 0
            for column in range(first, first + int(columns.counts[number])):
                token = int(columns.tokens[column])
                if token != EOS and columns.totals[column] > -np.inf and going < width:
                    begin = int(beams.places[number * width + int(columns.parents[column])]) * search.steps + prompt
                    columns.stops[column] = query.stop([*beams.tokens[begin : begin + length].tolist(), token])
                    going += 1


def token_told(search: Search) -> int | None:
    """The token that the first beam, or the first sample, of the first sentence goes on with; None where it does not."""
    token = int(search.columns.tokens[0])
    return token if token != EOS and search.columns.totals[0] > -np.inf else None


def hypotheses_of(search: Search) -> list[list[Hypothesis]]:
    """The n-best list of each sentence."""
    finished, slots, steps, most = search.finished, search.rules.beams + 1, search.steps, search.rules.n_best
    # As lists: a number of an array takes several times as long.
    order, lengths, grades, columns = (part.tolist() for part in (finished.order, finished.lengths, finished.grades, finished.columns))
    log_probs, scores, stops = finished.log_probs.tolist(), finished.scores.tolist(), finished.stopped.tolist()

    def hypothesis(at: int) -> Hypothesis:
        begin, length, truncated, stopped = at * steps, lengths[at], bool(grades[at]), bool(stops[at])
        tokens = tuple(finished.tokens[begin : begin + length].tolist())
        of_tokens = tuple(finished.token_log_probs[begin : begin + length + (not truncated and not stopped)].tolist())
        return Hypothesis(tokens, log_probs[at], scores[at], of_tokens, truncated, stopped, columns[at])

    return [
        [hypothesis(first + slot) for slot in order[first : first + min(most, count)]]
        for first, count in zip(range(0, len(order), slots), finished.counts.tolist(), strict=True)
    ]


def tokens_of(wish: Constraints) -> TokenIds:
    """All tokens that constraints name."""
    sequences = (wish.prefix, *wish.forbidden, *(spelling for word in wish.forced for spelling in word))
    return tuple(token for one in sequences for token in one)
