"""What runs the compiled code: a packed model, groups of sentences, a thread for each core, and the results as hypotheses."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from vitrail.decode.engines.engine import StopSignal
from vitrail.decode.engines.native_models import NativeModel
from vitrail.decode.engines.native_requests import ConstraintTable, Job, Texts, asked_of, hypotheses_of, token_told
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search.relaxation import require_no_forced_words, search_constrained
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import Interrupted, ModelError
from vitrail.native.arrays import Allocate, Arena, padded
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
    Search,
    make_search,
)

T = TypeVar("T")
R = TypeVar("R")

GROUP_SENTENCES, GROUP_ROWS, GROUP_TOKENS = 16, 96, 2048
"""Sentences, hypotheses and source tokens of a group: enough for a matrix to be read once for many rows, and few enough for the
cache that keys and values fit."""
_LARGE_BYTES, _LARGE_GROUP = 8_000_000, 64
"""Of a model whose matrices are in no core's cache; its groups have so many sentences."""


_TOGETHER = 8
"""Groups that are made ready together, then searched one after the other, at most: a model's matrices and Python's objects push each
other out of the cache."""
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


def in_threads(run: Callable[[T], R], groups: Sequence[T], *, threads: int, failed: Callable[[], None] = lambda: None) -> list[R]:
    """What `run` makes of each group, in so many threads. Args: failed: called where one raises, before the others are waited for."""
    if threads == 1 or len(groups) == 1:
        return [run(group) for group in groups]
    with ThreadPoolExecutor(min(threads, len(groups))) as pool:
        try:
            return list(pool.map(run, groups))
        except BaseException:
            failed()
            raise


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
        with borrowed_arena() as arena:
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

    def _prepare(self, jobs: Sequence[Job], arena: Arena, make: Allocate, *, watched: bool = False) -> _Ready:
        queries, passing = [job.query for job in jobs], self.make or arena.begin_batch()
        watched = watched or any(query.stop is not None for query in queries)
        asked = asked_of(queries, self.config, self.table, watched=watched, make=make, stop=self.stop.flag)
        steps = int(asked.limits.caps.max()) + asked.rules.prompt - 1
        sources, beams = [job.source for job in jobs], asked.rules.beams
        works = [model.workspace(sources, beams=beams, steps=steps, make=make, passing=passing) for model in self.models]
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
            raise Interrupted("stopped before the search was done")
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


def search_all(
    models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, threads: int, stop: StopSignal | None = None
) -> dict[int, list[Hypothesis]]:
    """The n-best list of each job, by its number.

    Raises UsageError for ids outside the vocabularies, beyond learned positions, and for forced words when sampling; Interrupted where it
    is to stop.
    """
    stop = stop or StopSignal()
    if not jobs:
        return {}
    _check(models, jobs)
    queries = [job.query for job in jobs]
    if config.sampling is not None:
        require_no_forced_words(queries)
    if config.sampling is not None or not any(query.constraints.is_active for query in queries):
        return _search_groups(models, jobs, config, threads=threads, stop=stop)

    def search(asked: Sequence[Query], wanted: Collection[int], beams: int) -> list[list[Hypothesis]]:
        again = [jobs[number]._replace(number=number, query=asked[number]) for number in wanted]
        found = _search_groups(models, again, config.model_copy(update={"beams": beams}), threads=threads, stop=stop)
        return [found.get(number, []) for number in range(len(jobs))]

    found = search_constrained(queries, search, config=config)
    return {job.number: items for job, items in zip(jobs, found, strict=True)}


@lru_cache(maxsize=16)
def _no_constraints(vocabulary: int) -> ConstraintTable:
    return ConstraintTable([], vocabulary)


def search_steps(models: Sequence[NativeModel], job: Job, config: SearchConfig) -> Generator[int | None, None, list[Hypothesis]]:
    """The search of one job, step by step: the token that its first beam, or sample, goes on with; None where it does not.

    Precondition: no constraints. Raises as `search_all`.
    """
    _check(models, [job])
    table = ConstraintTable([job.query.constraints], models[0].vocabulary)
    steps = GroupSearch(models, config, table).steps([job])
    while True:
        try:
            search = next(steps)
        except StopIteration as end:
            return end.value[0]
        yield token_told(search)


def _check(models: Sequence[NativeModel], jobs: Sequence[Job]) -> None:
    """Check all that compiled code does not check, and make tables of positions long enough."""
    for model in models:
        model.check(jobs)
        model.extend_positions(max(max(len(job.source), len(job.query.prompt) + job.query.cap) for job in jobs))


def _search_groups(
    models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, threads: int, stop: StopSignal
) -> dict[int, list[Hypothesis]]:
    """One search of each job; constraints hold for every hypothesis."""
    active, vocabulary = [job.query.constraints for job in jobs if job.query.constraints.is_active], models[0].vocabulary
    table = ConstraintTable(active, vocabulary) if active else _no_constraints(vocabulary)
    sentences = max(map(_group_sentences, models))
    one, groups = GroupSearch(models, config, table, stop=stop), make_groups(jobs, beams=config.width, threads=threads, sentences=sentences)
    # Every thread gets long and short ones.
    count = min(len(groups), padded(-(-len(groups) // _TOGETHER), threads))
    shares = [groups[first::count] for first in range(count)]
    found = in_threads(one.run, shares, threads=threads, failed=stop.set)  # the pool waits for its threads
    pairs = ((group, lists) for share, many in zip(shares, found, strict=True) for group, lists in zip(share, many, strict=True))
    return {job.number: items for group, lists in pairs for job, items in zip(group, lists, strict=True)}
