"""Given translations read by the compiled code: the attention weights of their tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.engines.engine import Head, StopSignal, Weights
from vitrail.decode.engines.native_groups import GROUP_SENTENCES, GROUP_TOKENS, borrowed_arena
from vitrail.decode.engines.native_models import NativeModel, require_within
from vitrail.decode.engines.native_requests import ConstraintTable, asked_of
from vitrail.decode.engines.pool import Pool
from vitrail.decode.search.constraints import UNCONSTRAINED, TokenIds
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig
from vitrail.native.arrays import Allocate, Arena
from vitrail.native.attention.given import make_given
from vitrail.native.search.state import GIVEN, PART, make_search

_GROUP_WEIGHTS = 4_000_000
"""Weights of a group, padding included, unless a single pair has more."""


class Pair(NamedTuple):
    """A sentence and its translation."""

    number: int
    source: tuple[int, ...]
    """With its end."""
    target: tuple[int, ...]
    """With the token before its first."""


@dataclass(frozen=True)
class GivenReader:
    """Reads groups of pairs with one model."""

    model: NativeModel
    heads: Sequence[Head]
    """Those whose weights are wanted."""
    make: Allocate | None = None
    """Makes the arrays; else they are in memory that is used again and again."""

    def run(self, pairs: Sequence[Pair]) -> list[Weights]:
        """The weights (heads T S) of each pair. Preconditions: all ids are in the vocabularies, all positions in the tables."""
        with borrowed_arena() as arena:
            return self._read(pairs, arena, self.make or arena.begin(), self.make or arena.begin_batch())

    def _read(self, pairs: Sequence[Pair], arena: Arena, make: Allocate, passing: Allocate) -> list[Weights]:
        model, known, queries = self.model, self.model.heads, [Query(longest=1)] * len(pairs)
        table = ConstraintTable([UNCONSTRAINED], model.vocabulary)
        asked = asked_of(queries, SearchConfig(beams=1), table, make=make, stop=StopSignal().flag)
        sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
        longest, steps = max(map(len, sources)), max(map(len, targets))
        given = make_given(
            targets, [known.index(head) for head in dict.fromkeys(self.heads)], all_heads=len(known), longest=longest, make=make
        )
        work = model.workspace(sources, beams=1, steps=steps, make=make, passing=passing)._replace(given=given)
        search = make_search(model.vocabulary, asked, positions=steps, make=make, passing=passing)
        search.progress[PART] = GIVEN
        model.compiled_search()(model.asked(work, search), arena.address_of)
        slots = [given.slots[known.index(head)] for head in self.heads]
        weights = given.weights.reshape(-1, given.kept, given.stride)
        begins = given.begins.tolist()
        return [
            model.in_order(weights[begin:end, slots, : len(pair.source)].transpose(1, 0, 2)).copy()
            for pair, begin, end in zip(pairs, begins[:-1], begins[1:], strict=True)
        ]


def read_given(
    model: NativeModel, sources: Sequence[TokenIds], targets: Sequence[TokenIds], *, heads: Sequence[Head], pool: Pool
) -> list[Weights]:
    """The weights (heads T S) of each pair of ids without SOS and EOS.

    Raises UsageError for ids outside the vocabularies, and beyond learned positions.
    """
    pairs = [Pair(number, (*one, EOS), (SOS, *two)) for number, (one, two) in enumerate(zip(sources, targets, strict=True))]
    if not pairs:
        return []
    for pair in pairs:
        require_within(pair.source, model.source_vocabulary)
        require_within(pair.target, model.vocabulary)
    longest = max(max(len(pair.source), len(pair.target)) for pair in pairs)
    model.require(longest)
    model.extend_positions(longest)
    groups = list(_groups(pairs, len(heads), threads=pool.threads))
    found: dict[int, Weights] = {}
    for group, weights in zip(groups, pool.map(GivenReader(model, heads).run, groups), strict=True):
        found |= {pair.number: one for pair, one in zip(group, weights, strict=True)}
    return [found[number] for number in range(len(pairs))]


def _groups(pairs: Sequence[Pair], heads: int, *, threads: int) -> Iterator[list[Pair]]:
    """Pairs of similar length together, longest first, in enough groups for all threads."""
    most, group = max(1, min(GROUP_SENTENCES, -(-len(pairs) // threads))), list[Pair]()
    for pair in sorted(pairs, key=lambda pair: (-len(pair.source), -len(pair.target))):
        both = [*group, pair]
        tokens = max(sum(len(one.source) for one in both), sum(len(one.target) for one in both))
        weights = sum(len(one.target) for one in both) * len(both[0].source) * heads
        if group and (len(group) >= most or tokens > GROUP_TOKENS or weights > _GROUP_WEIGHTS):
            yield group
            group = []
        group.append(pair)
    if group:
        yield group
