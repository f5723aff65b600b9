"""What runs the compiled code: a packed model, groups of sentences, a thread for each core, and the results as hypotheses."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.native.arrays import Allocate, allocate
from vitrail.native.compiled import load_entry
from vitrail.native.machine_code import Entry
from vitrail.native.matrices.packing import Precision
from vitrail.native.search.state import ADVANCE, NO_POSITION, READ, SETTLE, WHOLE, Rules, Search, limits_of, make_search
from vitrail.native.transformer.architecture import Architecture
from vitrail.native.transformer.asked import Asked
from vitrail.native.transformer.memory import make_workspace
from vitrail.native.transformer.packing import Model, Tensors, pack, position_table

GROUP_SENTENCES, GROUP_ROWS, GROUP_TOKENS = 16, 96, 2048
"""Sentences, hypotheses and source tokens of a group: enough for a matrix to be read once for many rows, and few enough for the
cache that keys and values fit."""
_FEW_POSITIONS = 512


class Job(NamedTuple):
    """One sentence of a request."""

    number: int
    source: tuple[int, ...]
    """With its end."""
    query: Query


@dataclass
class NativeModel:
    """A model, packed for the compiled code. Its table of positions grows; everything else stays."""

    architecture: Architecture
    packed: Model
    positions: int

    @classmethod
    def of(cls, architecture: Architecture, tensors: Tensors, *, precision: Precision) -> "NativeModel":
        """Pack a model."""
        learned = architecture.positions == "learned"
        positions = architecture.max_positions if learned else _FEW_POSITIONS
        return cls(architecture, pack(architecture, tensors, precision=precision, positions=positions), positions)

    def check(self, sources: Sequence[Sequence[int]]) -> None:
        """Raise UsageError for ids outside the vocabulary, and for sources beyond learned positions: the compiled code checks nothing."""
        shape = self.packed.shape
        rows = (shape.target_embedding or self.packed.weights.embeddings.size) // shape.width
        for source in sources:
            if source and not 0 <= min(source) <= max(source) < rows:
                raise UsageError(f"the token ids {min(source)} to {max(source)}", expected=f"0 to {rows - 1}")
            self.require(len(source) + 1)

    def require(self, position: int) -> None:
        """Raise UsageError beyond learned positions."""
        if self.architecture.positions == "learned" and position > self.positions:
            raise UsageError(
                f"position {position} with {self.positions} learned positions",
                remedy="raise model.max_positions, or use sinusoidal or rotary positions",
            )

    def extend_positions(self, wanted: int) -> None:
        """Have a table for so many positions. Learned ones are as many as they are."""
        if wanted > self.positions and self.architecture.positions in ("sinusoidal", "rotary"):
            table = position_table(self.architecture, None, 2 * wanted).reshape(-1)
            self.packed = self.packed._replace(weights=self.packed.weights._replace(positions=table))
            self.positions = 2 * wanted


def compiled_search() -> Entry:
    """The compiled search, `transformer.run.run`; needs Numba."""
    return load_entry("vitrail.native.transformer.run", "run")


def search_group(model: NativeModel, jobs: Sequence[Job], *, config: SearchConfig, make: Allocate = allocate) -> list[list[Hypothesis]]:
    """The n-best lists of some sentences. Preconditions: all ids are in the vocabularies, all positions in the table."""
    run = compiled_search()
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
    packed, steps = model.packed, int(limits.caps.max())
    work = make_workspace(packed.shape, [job.source for job in jobs], beams=config.beams, steps=steps, make=make)
    known = model.positions if model.architecture.positions in ("sinusoidal", "learned", "rotary") else steps
    search = make_search(packed.shape.vocabulary, rules, limits, known, make=make)
    if any(query.spell is not None for query in queries):
        _run_by_steps(run, Asked(packed, work, search, READ, 0), queries)
    else:
        run(Asked(packed, work, search, WHOLE, 0))
    if search.status[0] == NO_POSITION:
        model.require(model.positions + 1)
    if search.status[0]:
        raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")
    return [_results(search, number, config) for number in range(len(jobs))]


def _run_by_steps(run: Entry, asked: Asked, queries: Sequence[Query]) -> None:
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


def make_groups(jobs: Sequence[Job], *, beams: int, threads: int) -> list[list[Job]]:
    """Sentences of similar length together, longest first, in enough groups for all threads."""
    most = max(1, min(GROUP_SENTENCES, GROUP_ROWS // beams, -(-len(jobs) // threads)))
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
    groups = make_groups(jobs, beams=config.beams, threads=threads)
    if threads == 1 or len(groups) == 1:
        found = [search_group(model, group, config=config) for group in groups]
    else:
        with ThreadPoolExecutor(min(threads, len(groups))) as pool:
            found = list(pool.map(partial(search_group, model, config=config), groups))
    return {job.number: items for group, lists in zip(groups, found, strict=True) for job, items in zip(group, lists, strict=True)}
