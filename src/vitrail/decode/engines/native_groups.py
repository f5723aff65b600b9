"""What runs the compiled code: a packed model, groups of sentences, a thread for each core, and the results as hypotheses."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.engines.engine import StopSignal
from vitrail.decode.engines.native_models import NativeModel
from vitrail.decode.engines.native_requests import ConstraintTable, Job, Texts, asked_of, hypotheses_of, rules_of, token_told
from vitrail.decode.engines.pool import Pool
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search.relaxation import require_no_forced_words, search_constrained
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError
from vitrail.native.arrays import Allocate, Arena, Integers, padded
from vitrail.native.search.state import (
    DONE,
    JOINS,
    MEMBER,
    NO_POSITION,
    PART,
    READ,
    REST,
    STATUS,
    STOPPED,
    TEXTS,
    WATCH,
    WHOLE,
    Rules,
    Search,
    make_search,
)

GROUP_SENTENCES, GROUP_ROWS, GROUP_TOKENS = 16, 96, 2048
"""Sentences, hypotheses and source tokens of a group: enough for a matrix to be read once for many rows, and few enough for the
cache that keys and values fit."""
_LARGE_BYTES, _LARGE_GROUP = 8_000_000, 64
"""Of a model whose matrices are in no core's cache; its groups have so many sentences."""


_TOGETHER = 8
"""Groups that are made ready together, then searched one after the other, at most: a model's matrices and Python's objects push each
other out of the cache."""
_MOST_SOURCE, _MOST_STEPS, _ROOM = 256, 640, 32
"""Source tokens and steps of a sentence whose arrays the next one uses again, at most; they have room for multiples of the last."""
_NOBODY = StopSignal()
"""Stops one sentence that nobody else stops; never set."""
_unused: list[Arena] = []
"""Memory that no thread uses now."""


@contextmanager
def borrowed_arena() -> Generator[Arena]:
    """Memory that nobody else uses meanwhile."""
    try:
        arena = _unused.pop()
    except IndexError:
        arena = Arena()
    try:
        yield arena
    finally:
        _unused.append(arena)


class _Ready(NamedTuple):
    """A group whose arrays are made."""

    works: list[Any]
    search: Search
    calls: list[Callable[[], int]]
    """Of each model; they read the arrays of `works` and `search`."""
    texts: Texts


class _Reusable(NamedTuple):
    """The arrays of one sentence in an arena, for the next sentence that is asked for with equal settings.

    Half of the time of a short sentence was Python's making these arrays and writing where they are.
    """

    models: list[ref[Any]]
    """The words of each, see `NativeModel.words`. They are not held: a model ends with its last user."""
    rules: Rules
    stop: Integers
    """See `Search.stop`."""
    source: int
    """Tokens that there is room for."""
    steps: int
    """The same of a translation with its prompt."""
    ready: _Ready
    """Without texts: they would hold the vocabulary that spells them."""
    filled: npt.NDArray[np.uint8]
    """What the arrays hold before a search."""

    def serves(self, models: Sequence[Any], rules: Rules, stop: Integers, *, source: int, steps: int) -> bool:
        """Whether a sentence of these lengths can be searched with them."""
        if len(models) != len(self.models) or not all(one() is words for one, words in zip(self.models, models, strict=True)):
            return False
        return self.source >= source and self.steps >= steps and self.stop is stop and self.rules == rules


@dataclass(frozen=True)
class GroupSearch:
    """Searches groups of sentences with one model, or an ensemble of several."""

    models: Sequence[NativeModel]
    config: SearchConfig
    table: ConstraintTable
    """With the constraints of all sentences."""
    make: Allocate | None = None
    """Makes the arrays; else they are in memory that is used again and again."""
    stop: StopSignal = field(default_factory=StopSignal)

    def run(self, groups: Sequence[Sequence[Job]]) -> list[list[list[Hypothesis]]]:
        """The n-best lists of each group's sentences. Preconditions: all ids are in the vocabularies, all positions in the tables; prompts
        of a group have one length."""
        self.stop.check()
        with borrowed_arena() as arena:
            if self._uses_again(groups):
                ready = [self._prepare_one(groups[0][0], arena)]
            else:
                make = self.make or arena.begin()
                ready = [self._prepare(group, arena, make) for group in groups]
            for one in ready:
                for _ in self._go(one):
                    pass
                self._require_done(one.search)
            return [hypotheses_of(one.search) for one in ready]

    def steps(self, group: Sequence[Job]) -> Generator[Search, None, list[list[Hypothesis]]]:
        """The same for one group, and its search after each choice of columns. Others may search between its steps."""
        with borrowed_arena() as arena:
            one = self._prepare(group, arena, self.make or arena.begin(), watched=True)
            yield from self._go(one)
            self._require_done(one.search)
            return hypotheses_of(one.search)

    def _uses_again(self, groups: Sequence[Sequence[Job]]) -> bool:
        """Whether there is one sentence, whose arrays depend on nothing but its length."""
        if len(groups) > 1 or len(groups[0]) > 1 or self.make is not None or self.config.sampling is not None:
            return False
        query = groups[0][0].query
        short = len(groups[0][0].source) <= _MOST_SOURCE and query.cap + len(query.prompt) <= _MOST_STEPS
        return short and query.shortlist is None and not query.constraints.is_active

    def _prepare_one(self, job: Job, arena: Arena) -> _Ready:
        """The arrays of the sentence before where they serve; else new ones, with room for longer sentences."""
        query, source, steps = job.query, len(job.source), job.query.cap + len(job.query.prompt)
        models, rules, stop = [model.words() for model in self.models], rules_of([query], self.config, watched=False), self.stop.flag
        known: _Reusable | None = arena.reusable
        if known is not None and known.serves(models, rules, stop, source=source, steps=steps):
            arena.restore(known.filled)
            return self._begin(known.ready, job)
        source, steps = padded(source, _ROOM), padded(steps, _ROOM)
        longest = replace(query, longest=steps - len(query.prompt))
        ready = self._prepare([Job(0, (EOS,) * source, longest)], arena, arena.begin())
        filled = arena.copy()
        if filled is not None:
            arena.reusable = _Reusable(
                [ref(words) for words in models], rules, stop, source, steps, ready._replace(texts=Texts(())), filled
            )
        return self._begin(ready, job)

    def _begin(self, ready: _Ready, job: Job) -> _Ready:
        """Write a sentence into arrays that have room for it."""
        query, limits = job.query, ready.search.limits
        for model, work in zip(self.models, ready.works, strict=True):
            model.put_source(work, job.source)
        limits.caps[0], limits.floors[0], limits.guards[0] = query.cap, query.floor, query.constraints.guard_repeats
        ready.search.beams.tokens[: len(query.prompt)] = query.prompt
        return ready._replace(texts=Texts([query]))

    def _prepare(self, jobs: Sequence[Job], arena: Arena, make: Allocate, *, watched: bool = False) -> _Ready:
        queries, passing = [job.query for job in jobs], self.make or arena.begin_batch()
        asked = asked_of(queries, self.config, self.table, watched=watched, make=make, stop=self.stop.flag)
        steps = int(asked.limits.caps.max()) + asked.rules.prompt - 1
        sources, sizes = [job.source for job in jobs], {"beams": asked.rules.beams, "steps": steps}
        works = [
            model.workspace(sources, **sizes, listed=model.listed(asked.shortlists, passing), make=make, passing=passing)
            for model in self.models
        ]
        known = min(model.known_positions(steps) for model in self.models)
        search = make_search(self.models[0].vocabulary, asked, positions=known, members=len(self.models), make=make, passing=passing)
        calls = [
            model.compiled_search().bound(model.asked(work, search), arena.address_of)
            for model, work in zip(self.models, works, strict=True)
        ]
        return _Ready(works, search, calls, Texts(queries))

    def _require_done(self, search: Search) -> None:
        """Raise what ended a search before its time."""
        if search.progress[STATUS] == STOPPED:
            self.stop.check()
        if search.progress[STATUS] == NO_POSITION:
            for model in self.models:
                model.require(search.positions + 1)
        if search.progress[STATUS]:
            raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")

    def _go(self, ready: _Ready) -> Iterator[Search]:
        """Run the compiled code, and answer what it asks, until it is done; the search where it is watched."""
        search, calls, texts = ready.search, ready.calls, ready.texts
        alone = len(calls) == 1

        def run(part: int, call: Callable[[], int]) -> int:
            search.progress[PART] = part
            return call()

        for call in () if alone else calls:
            run(READ, call)
        while (need := run(WHOLE if alone else REST, calls[0])) != DONE:
            if need == JOINS:
                self.table.answer(search.constraints.questions)
            elif need == TEXTS:
                texts.tell(search)
            elif need == WATCH:
                texts.stop(search)
                yield search
            else:
                for call in calls:
                    run(MEMBER, call)


def _group_sentences(model: NativeModel) -> int:
    """Most sentences of a group."""
    return GROUP_SENTENCES if model.matrix_bytes < _LARGE_BYTES else _LARGE_GROUP


def make_groups(jobs: Sequence[Job], *, beams: int, threads: int, sentences: int = GROUP_SENTENCES) -> list[list[Job]]:
    """Sentences of similar length and with prompts of one length together, longest first, in enough groups for all threads."""
    most = max(1, min(sentences, GROUP_ROWS // beams, -(-len(jobs) // threads)))
    groups: list[list[Job]] = []
    tokens = 0
    for job in sorted(jobs, key=lambda job: (len(job.query.prompt), -len(job.source), -job.query.cap)):
        unlike = bool(groups) and len(groups[-1][0].query.prompt) != len(job.query.prompt)
        if not groups or unlike or len(groups[-1]) >= most or tokens + len(job.source) > GROUP_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(job)
        tokens += len(job.source)
    return groups


Found = dict[int, list[Hypothesis]]
"""The n-best list of each job, by its number."""


def search_all(
    models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, pool: Pool, stop: StopSignal | None = None
) -> Found:
    """The n-best list of each job.

    Raises UsageError for ids outside the vocabularies, beyond learned positions, and for forced words when sampling; Interrupted where it
    is to stop.
    """
    stop = stop or (_NOBODY if len(jobs) == 1 else StopSignal())
    _check(models, jobs, config)
    if _is_constrained(jobs, config):
        return _search_constrained(models, jobs, config, pool=pool, stop=stop)
    run, shares = _shared(models, jobs, config, pool=pool, stop=stop)
    return _by_number(shares, pool.map(run, shares, failed=stop.set))  # the pool waits for its threads


def begin_search(
    models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, pool: Pool, stop: StopSignal
) -> Callable[[], Found]:
    """The same without waiting; what is returned waits, and raises. Several searches with constraints are made when they are waited for."""
    _check(models, jobs, config)
    if _is_constrained(jobs, config):
        return lambda: _search_constrained(models, jobs, config, pool=pool, stop=stop)
    run, shares = _shared(models, jobs, config, pool=pool, stop=stop)
    finish = pool.begin(run, shares, failed=stop.set)
    return lambda: _by_number(shares, finish())


def _is_constrained(jobs: Sequence[Job], config: SearchConfig) -> bool:
    """Whether they may need several searches."""
    return config.sampling is None and any(job.query.constraints.is_active for job in jobs)


def _search_constrained(models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, pool: Pool, stop: StopSignal) -> Found:
    def search(asked: Sequence[Query], wanted: Collection[int], beams: int) -> list[list[Hypothesis]]:
        again = [jobs[number]._replace(number=number, query=asked[number]) for number in wanted]
        run, shares = _shared(models, again, config.model_copy(update={"beams": beams}), pool=pool, stop=stop)
        found = _by_number(shares, pool.map(run, shares, failed=stop.set))
        return [found.get(number, []) for number in range(len(jobs))]

    found = search_constrained([job.query for job in jobs], search, config=config)
    return {job.number: items for job, items in zip(jobs, found, strict=True)}


@lru_cache(maxsize=16)
def _no_constraints(vocabulary: int) -> ConstraintTable:
    return ConstraintTable([], vocabulary)


def search_steps(models: Sequence[NativeModel], job: Job, config: SearchConfig) -> Generator[int | None, None, list[Hypothesis]]:
    """The search of one job, step by step: the token that its first beam, or sample, goes on with; None where it does not.

    Precondition: no constraints. Raises as `search_all`.
    """
    _check(models, [job], config)
    table = ConstraintTable([job.query.constraints], models[0].vocabulary)
    steps = GroupSearch(models, config, table).steps([job])
    while True:
        try:
            search = next(steps)
        except StopIteration as end:
            return end.value[0]
        yield token_told(search)


def _check(models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig) -> None:
    """Check all that compiled code does not check, and make tables of positions long enough."""
    longest = max((max(len(job.source), len(job.query.prompt) + job.query.cap) for job in jobs), default=0)
    for model in models:
        model.check(jobs)
        model.extend_positions(longest)
    if config.sampling is not None:
        require_no_forced_words([job.query for job in jobs])


Share = Sequence[Sequence[Job]]
"""Groups that one thread searches."""


def _shared(
    models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, pool: Pool, stop: StopSignal
) -> tuple[Callable[[Share], list[list[list[Hypothesis]]]], Sequence[Share]]:
    """One search of each job, and the shares of the threads; constraints hold for every hypothesis."""
    active, vocabulary = [job.query.constraints for job in jobs if job.query.constraints.is_active], models[0].vocabulary
    table = ConstraintTable(active, vocabulary) if active else _no_constraints(vocabulary)
    groups = make_groups(jobs, beams=config.width, threads=pool.threads, sentences=max(map(_group_sentences, models)))
    # Every thread gets long and short ones.
    count = min(len(groups), padded(-(-len(groups) // _TOGETHER), pool.threads))
    return GroupSearch(models, config, table, stop=stop).run, [groups[first::count] for first in range(count)]


def _by_number(shares: Sequence[Share], found: Sequence[list[list[list[Hypothesis]]]]) -> Found:
    pairs = ((group, lists) for share, many in zip(shares, found, strict=True) for group, lists in zip(share, many, strict=True))
    return {job.number: items for group, lists in pairs for job, items in zip(group, lists, strict=True)}
