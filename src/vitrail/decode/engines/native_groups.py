"""What runs the compiled code: a packed model, groups of sentences, a thread for each core, and the results as hypotheses."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local
from typing import Any

from vitrail.decode.engines.native_requests import ConstraintTable, Job, Texts, asked_of, hypotheses_of, tokens_of
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search.relaxation import require_no_forced_words, search_constrained
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.native.arrays import Allocate, Arena
from vitrail.native.compiled import load_entry
from vitrail.native.machine_code import Entry
from vitrail.native.matrices.packing import Precision, matrix_bytes
from vitrail.native.search.state import DONE, JOINS, MEMBER, NO_POSITION, PART, READ, REST, STATUS, TEXTS, WHOLE, Search, make_search
from vitrail.native.transformer.architecture import Architecture
from vitrail.native.transformer.asked import Asked
from vitrail.native.transformer.memory import make_workspace
from vitrail.native.transformer.packing import Model, Tensors, pack, position_table

GROUP_SENTENCES, GROUP_ROWS, GROUP_TOKENS = 16, 96, 2048
"""Sentences, hypotheses and source tokens of a group: enough for a matrix to be read once for many rows, and few enough for the
cache that keys and values fit."""
_LARGE_BYTES, _LARGE_GROUP = 8_000_000, 64
"""Of a model whose matrices are in no core's cache; its groups have so many sentences."""
_FEW_POSITIONS = 512


@dataclass
class NativeModel:
    """A model, packed for the compiled code. Its table of positions grows; everything else stays."""

    architecture: Architecture
    packed: Model
    positions: int
    _words: tuple[Model, Any] | None = None

    @classmethod
    def of(cls, architecture: Architecture, tensors: Tensors, *, precision: Precision) -> "NativeModel":
        """Pack a model."""
        learned = architecture.positions == "learned"
        positions = architecture.max_positions if learned else _FEW_POSITIONS
        return cls(architecture, pack(architecture, tensors, precision=precision, positions=positions), positions)

    @property
    def source_tokens(self) -> int:
        """The size of the source's vocabulary."""
        shape = self.packed.shape
        return (shape.target_embedding or self.packed.weights.embeddings.size) // shape.width

    @property
    def group_sentences(self) -> int:
        """Most sentences of a group."""
        return GROUP_SENTENCES if matrix_bytes(self.packed.weights.matrices) < _LARGE_BYTES else _LARGE_GROUP

    def words(self, run: Entry) -> Any:
        """The packed model as words of the compiled search: it has more arrays than all the rest, and does not change."""
        if self._words is None or self._words[0] is not self.packed:
            self._words = self.packed, run.words(0, self.packed)
        return self._words[1]

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UsageError for ids outside the vocabularies, and beyond learned positions: the compiled code checks nothing."""
        shape = self.packed.shape
        prompts, wishes = {job.query.prompt for job in jobs}, {id(job.query.constraints): job.query.constraints for job in jobs}
        for job in jobs:
            require_within(job.source, self.source_tokens)
        for tokens in (*prompts, *map(tokens_of, wishes.values())):
            require_within(tokens, shape.vocabulary)
        self.require(max(map(len, (*prompts, *(job.source for job in jobs))), default=0))

    def require(self, position: int) -> None:
        """Raise UsageError beyond learned positions."""
        if self.architecture.positions == "learned" and position > self.positions and not self.architecture.context:
            raise UsageError(
                f"position {position} with {self.positions} learned positions",
                remedy="raise model.max_positions, or use sinusoidal or rotary positions",
            )

    def known_positions(self, wanted: int) -> int:
        """How many positions there are; as many as wanted where the model has no table of them, or forgets what is too far back."""
        table = self.architecture.positions in ("sinusoidal", "learned", "rotary") and not self.architecture.context
        return self.positions if table else wanted

    def extend_positions(self, wanted: int) -> None:
        """Have a table for so many positions. Learned ones are as many as they are."""
        if self.architecture.context:
            wanted = min(wanted, self.architecture.context)
        if wanted > self.positions and self.architecture.positions in ("sinusoidal", "rotary"):
            table = position_table(self.architecture, None, 2 * wanted).reshape(-1)
            self.packed = self.packed._replace(weights=self.packed.weights._replace(positions=table))
            self.positions = 2 * wanted


def require_within(tokens: Sequence[int], vocabulary: int) -> None:
    """Raise UsageError for ids outside a vocabulary."""
    if tokens and not 0 <= min(tokens) <= max(tokens) < vocabulary:
        raise UsageError(f"the token ids {min(tokens)} to {max(tokens)}", expected=f"0 to {vocabulary - 1}")


def compiled_search() -> Entry:
    """The compiled search, `transformer.run.run`; needs Numba."""
    return load_entry("vitrail.native.transformer.run", "run")


class _Threads(local):
    """What each thread keeps."""

    def __init__(self) -> None:
        self.arena = Arena()


_threads = _Threads()


@dataclass(frozen=True)
class GroupSearch:
    """Searches groups of sentences with one model, or an ensemble of several."""

    models: Sequence[NativeModel]
    config: SearchConfig
    table: ConstraintTable
    """With the constraints of all sentences."""
    make: Allocate | None = None
    """Makes the arrays; else they are in memory that the thread keeps."""

    def run(self, jobs: Sequence[Job]) -> list[list[Hypothesis]]:
        """The n-best lists of some sentences. Preconditions: all ids are in the vocabularies, all positions in the tables; prompts have one
        length."""
        queries, arena, entry = [job.query for job in jobs], _threads.arena, compiled_search()
        make = self.make or arena.begin()
        asked = asked_of(queries, self.config, self.table, make=make)
        steps = int(asked.limits.caps.max()) + asked.rules.prompt - 1
        sources = [job.source for job in jobs]
        works = [make_workspace(model.packed.shape, sources, beams=asked.rules.beams, steps=steps, make=make) for model in self.models]
        known = min(model.known_positions(steps) for model in self.models)
        vocabulary = self.models[0].packed.shape.vocabulary
        search = make_search(vocabulary, asked, positions=known, members=len(self.models), make=make)
        # `works` and `search` have the arrays that the calls read.
        calls = [
            entry.bound(Asked(model.words(entry), work, search), arena.address_of) for model, work in zip(self.models, works, strict=True)
        ]
        self._go(search, calls, Texts(queries))
        if search.progress[STATUS] == NO_POSITION:
            for model in self.models:
                model.require(known + 1)
        if search.progress[STATUS]:
            raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")
        return [hypotheses_of(search, number) for number in range(len(jobs))]

    def _go(self, search: Search, calls: Sequence[Callable[[], int]], texts: Texts) -> None:
        """Run the compiled code, and answer what it asks, until it is done. Args: calls: one for each model."""
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
            else:
                for call in calls:
                    run(MEMBER, call)


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


def search_all(models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, threads: int) -> dict[int, list[Hypothesis]]:
    """The n-best list of each job, by its number.

    Raises UsageError for ids outside the vocabularies, beyond learned positions, and for forced words when sampling.
    """
    if not jobs:
        return {}
    for model in models:
        model.check(jobs)
        model.extend_positions(max(max(len(job.source), len(job.query.prompt) + job.query.cap) for job in jobs))
    queries = [job.query for job in jobs]
    if config.sampling is not None:
        require_no_forced_words(queries)
    if config.sampling is not None or not any(query.constraints.is_active for query in queries):
        return _search_groups(models, jobs, config, threads=threads)

    def search(asked: Sequence[Query], wanted: Collection[int], beams: int) -> list[list[Hypothesis]]:
        again = [jobs[number]._replace(number=number, query=asked[number]) for number in wanted]
        found = _search_groups(models, again, config.model_copy(update={"beams": beams}), threads=threads)
        return [found.get(number, []) for number in range(len(jobs))]

    found = search_constrained(queries, search, config=config)
    return {job.number: items for job, items in zip(jobs, found, strict=True)}


def _search_groups(
    models: Sequence[NativeModel], jobs: Sequence[Job], config: SearchConfig, *, threads: int
) -> dict[int, list[Hypothesis]]:
    """One search of each job; constraints hold for every hypothesis."""
    table = ConstraintTable([job.query.constraints for job in jobs], models[0].packed.shape.vocabulary)
    sentences = max(model.group_sentences for model in models)
    one, groups = GroupSearch(models, config, table), make_groups(jobs, beams=config.width, threads=threads, sentences=sentences)
    if threads == 1 or len(groups) == 1:
        found = [one.run(group) for group in groups]
    else:
        with ThreadPoolExecutor(min(threads, len(groups))) as pool:
            found = list(pool.map(one.run, groups))
    return {job.number: items for group, lists in zip(groups, found, strict=True) for job, items in zip(group, lists, strict=True)}
