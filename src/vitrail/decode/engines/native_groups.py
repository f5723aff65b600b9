"""What runs the compiled code: a packed model, groups of sentences, a thread for each core, and the results as hypotheses."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import local
from typing import Any, NamedTuple

from vitrail.decode.engines.native_models import NativeModel
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError
from vitrail.native.arrays import Allocate, Arena
from vitrail.native.machine_code import Entry
from vitrail.native.search.state import ADVANCE, NO_POSITION, READ, SETTLE, WHOLE, Rules, Search, limits_of, make_search

GROUP_SENTENCES, GROUP_ROWS, GROUP_TOKENS = 16, 96, 2048
"""Sentences, hypotheses and source tokens of a group: enough for a matrix to be read once for many rows, and few enough for the
cache that keys and values fit."""
_LARGE_BYTES, _LARGE_GROUP = 8_000_000, 64
"""Of a model whose matrices are in no core's cache; its groups have so many sentences."""


class Job(NamedTuple):
    """One sentence of a request."""

    number: int
    source: tuple[int, ...]
    """With its end."""
    query: Query


class _Threads(local):
    """What each thread keeps."""

    def __init__(self) -> None:
        self.arena = Arena()


_threads = _Threads()


def search_group(model: NativeModel, jobs: Sequence[Job], *, config: SearchConfig, make: Allocate | None = None) -> list[list[Hypothesis]]:
    """The n-best lists of some sentences. Preconditions: all ids are in the vocabularies, all positions in the table.

    Args: make: makes the arrays; else they are in memory that the thread keeps.
    """
    arena = _threads.arena
    make = arena.begin() if make is None else make
    rules = Rules(
        beams=config.beams,
        n_best=config.n_best,
        early_stop=int(config.early_stop),
        length_penalty=float(config.length_penalty),
        allow_unknown=int(config.allow_unknown),
        repeat_ngram=config.repeat_ngram,
        max_repeats=config.max_repeats,
    )
    queries = [job.query for job in jobs]
    limits = limits_of(
        [query.cap for query in queries], [query.floor for query in queries], [query.constraints.guard_repeats for query in queries]
    )
    steps = int(limits.caps.max())
    work = model.workspace([job.source for job in jobs], beams=config.beams, steps=steps, make=make)
    search = make_search(model.vocabulary, rules, limits, model.known_positions(steps), make=make)
    run = model.compiled_search()
    if any(query.spell is not None for query in queries):
        _run_by_steps(run, model.asked(work, search, READ), queries)
    else:
        run(model.asked(work, search, WHOLE), arena.address_of)
    if search.status[0] == NO_POSITION:
        model.require(model.known_positions(steps) + 1)
    if search.status[0]:
        raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")
    return [_results(search, number, config) for number in range(len(jobs))]


def _run_by_steps(run: Entry, asked: Any, queries: Sequence[Query]) -> None:
    """The same as `run`, asking after each step which of the hypotheses that may be kept have equal texts."""
    texts: list[dict[str, int]] = [{} for _ in queries]
    search = asked.search
    run(asked)
    position = 0
    while run(asked._replace(part=ADVANCE, position=position)):
        for number, query in enumerate(queries):
            if query.spell is not None and not search.finished.done[number]:
                _number_texts(search, number, query, texts[number], position)
        run(asked._replace(part=SETTLE, position=position))
        position += 1


def _number_texts(search: Search, number: int, query: Query, texts: dict[str, int], position: int) -> None:
    """Number the texts of the columns that may be kept: those that end, and all at the limit of length."""
    assert query.spell is not None
    columns, beams, width = search.columns, search.beams, search.rules.beams
    at_limit = position + 1 >= query.cap
    for column in range(2 * number * width, 2 * number * width + int(columns.counts[number])):
        token = int(columns.tokens[column])
        ended = token == 3
        columns.texts[column] = -1
        if ended or at_limit:
            place = int(beams.places[number * width + columns.parents[column]]) * search.steps
            tokens = [*beams.tokens[place + 1 : place + 1 + position].tolist(), *([] if ended else [token])]
            columns.texts[column] = texts.setdefault(query.spell(tokens), len(texts))


def _results(search: Search, number: int, config: SearchConfig) -> list[Hypothesis]:
    finished, slots = search.finished, config.beams + 1
    found: list[Hypothesis] = []
    for rank in range(min(config.n_best, int(finished.counts[number]))):
        at = number * slots + int(finished.order[number * slots + rank])
        begin, length, truncated = at * search.steps, int(finished.lengths[at]), bool(finished.truncated[at])
        found.append(
            Hypothesis(
                tokens=tuple(finished.tokens[begin : begin + length].tolist()),
                log_probability=float(finished.log_probs[at]),
                score=float(finished.scores[at]),
                token_log_probabilities=tuple(finished.token_log_probs[begin : begin + length + (not truncated)].tolist()),
                truncated=truncated,
                column=int(finished.columns[at]),
            )
        )
    return found


def _group_sentences(model: NativeModel) -> int:
    """Most sentences of a group."""
    return GROUP_SENTENCES if model.matrix_bytes < _LARGE_BYTES else _LARGE_GROUP


def make_groups(jobs: Sequence[Job], *, beams: int, threads: int, sentences: int = GROUP_SENTENCES) -> list[list[Job]]:
    """Sentences of similar length together, longest first, in enough groups for all threads."""
    most = max(1, min(sentences, GROUP_ROWS // beams, -(-len(jobs) // threads)))
    groups: list[list[Job]] = []
    tokens = 0
    for job in sorted(jobs, key=lambda job: (-len(job.source), -job.query.cap)):
        if not groups or len(groups[-1]) >= most or tokens + len(job.source) > GROUP_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(job)
        tokens += len(job.source)
    return groups


def search_all(model: NativeModel, jobs: Sequence[Job], config: SearchConfig, *, threads: int) -> dict[int, list[Hypothesis]]:
    """The n-best list of each job, by its number. Raises UsageError beyond learned positions."""
    if not jobs:
        return {}
    reached = max(max(len(job.source), job.query.cap) for job in jobs)
    model.extend_positions(reached)
    groups = make_groups(jobs, beams=config.beams, threads=threads, sentences=_group_sentences(model))
    if threads == 1 or len(groups) == 1:
        found = [search_group(model, group, config=config) for group in groups]
    else:
        with ThreadPoolExecutor(min(threads, len(groups))) as pool:
            found = list(pool.map(partial(search_group, model, config=config), groups))
    return {job.number: items for group, lists in zip(groups, found, strict=True) for job, items in zip(group, lists, strict=True)}
