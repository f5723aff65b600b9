"""What is searched at one time: the rows of one or several cohorts of sentences, each with a state of its own."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.decode.search.hypotheses import Beams, start_beams
from vitrail.decode.search.query import Query, Row
from vitrail.decode.search.selection import Selection
from vitrail.decode.search_config import SearchConfig
from vitrail.models.base import State, Steps

StepsFunction = Callable[[Tensor, Sequence[State]], Steps]


class Cohort(NamedTuple):
    """Sentences that enter a search together, and what reads them when they do."""

    sentences: Sequence[int]
    """Their numbers among the queries."""
    start: Callable[[Sequence[int]], State]
    """The state of some of them before the last token of their prompts, one row a sentence; see `read_prompts`."""


class RowLimits(NamedTuple):
    """How many rows a step has, of K for each sentence."""

    fewest: int = 1
    """At least, if necessary copies of others: matrix products of few rows round differently, so that a result would depend on the
    sentence's neighbours."""
    most: int = 0
    """Another cohort enters as soon as no more rows than this come of it. 0: only when all sentences before are done."""


_LEAVING = 1 / 8
"""The part of a cohort that leaves at once."""


@dataclass
class _Group:
    """A cohort in the search."""

    state: State
    sentences: list[int]
    """Of each row; -1: one that is done, or a copy of another row."""
    prompt: int
    """Tokens of the longest prompt."""
    length: int = 0
    """Tokens of each hypothesis."""

    def staying(self, is_done: Callable[[int], bool]) -> list[int]:
        """The rows that stay: all, until there are enough that are done."""
        self.sentences = [-1 if is_done(sentence) else sentence for sentence in self.sentences]
        live = [place for place, sentence in enumerate(self.sentences) if sentence >= 0]
        leaving = len(self.sentences) - len(live)
        return live if not live or leaving >= _LEAVING * len(self.sentences) else list(range(len(self.sentences)))

    def select(self, places: Sequence[int], parents: Int[Tensor, "B K"]) -> None:
        """Keep these rows, and of each the beams that go on, in their new order."""
        self.sentences, before = [self.sentences[place] for place in places], self.sentences
        if not places:
            return
        rows = torch.tensor(places, device=parents.device)
        beams = (parents.index_select(0, rows) + rows[:, None] * parents.shape[1]).flatten()
        self.state = self.state.select(beams, None if len(places) == len(before) else rows)


class Pool:
    """All rows that are searched now: those of one cohort after the other, and the cohorts that wait."""

    beams: Beams

    def __init__(
        self, cohorts: Sequence[Cohort], queries: Sequence[Query], *, config: SearchConfig, limits: RowLimits, device: torch.device
    ) -> None:
        self._waiting, self._groups = deque(cohorts), list[_Group]()
        self._queries, self._config, self._limits, self._device = queries, config, limits, device
        self._columns = torch.arange(config.width, device=device)

    @property
    def rows(self) -> list[Row]:
        """What is in each row."""
        return [Row(sentence, group.length) for group in self._groups for sentence in group.sentences]

    def fill(self) -> bool:
        """Let cohorts in while there is room, and have rows enough; false when all is done."""
        while self._waiting and self._has_room(self._waiting[0]):
            self._enter(self._waiting.popleft())
        count = sum(len(group.sentences) for group in self._groups)
        missing = -(-self._limits.fewest // self._config.width) - count
        if self._groups and missing > 0:
            group = self._groups[-1]
            own = len(group.sentences)
            self.beams = self.beams.select(torch.tensor([*range(count), *[count - own] * missing], device=self._device))
            places = torch.tensor([*range(own), *[0] * missing], device=self._device)
            group.state = group.state.keep(places)
            group.sentences += [-1] * missing
        return bool(self._groups)

    def _has_room(self, cohort: Cohort) -> bool:
        fewest, most = self._limits
        rows = self._config.width * sum(len(group.sentences) for group in self._groups)
        further = self._config.width * len(cohort.sentences)
        return not self._groups or (most > 0 and (rows < fewest or rows + further <= most))

    def _enter(self, cohort: Cohort) -> None:
        prompts = [self._queries[sentence].prompt for sentence in cohort.sentences]
        state, beams = cohort.start(cohort.sentences), start_beams(prompts, self._config, self._device)
        state = state.repeat(self._config.width) if self._config.width > 1 else state
        self.beams = self.beams.join(beams) if self._groups else beams
        self._groups.append(_Group(state, list(cohort.sentences), max(map(len, prompts))))

    def step(self, steps: StepsFunction) -> Float[Tensor, "N V"]:
        """Score the next tokens of all beams."""
        logits, states = steps(self.beams.tokens.select(2, -1).flatten(), [group.state for group in self._groups])
        for group, state in zip(self._groups, states, strict=True):
            group.state = state
        return logits

    def follow(self, selection: Selection) -> None:
        """Make the chosen columns the next beams; their states follow in `settle`."""
        self._parents, self.beams = self.beams.follow(selection)
        for group in self._groups:
            group.length += 1

    def settle(self, is_done: Callable[[int], bool] | None) -> None:
        """Let the states follow the beams, and sentences leave that are done; None: none of them is.

        Leaving copies the state of those that stay, so that it waits until a part of the cohort is done.
        """
        moved = None
        if self._config.width > 1:
            moved = (self._parents != self._columns).any(1).tolist()
        elif is_done is None:
            return
        first, kept = 0, list[int]()
        for group in self._groups:
            count = len(group.sentences)
            places = list(range(count)) if is_done is None else group.staying(is_done)
            kept += [first + place for place in places]
            if len(places) < count or (moved and any(moved[first : first + count])):
                group.select(places, self._parents[first : first + count])
            first += count
        self._groups = [group for group in self._groups if group.sentences]
        if self._groups and len(kept) < first:
            columns = max(group.prompt + group.length for group in self._groups)
            self.beams = self.beams.select(torch.tensor(kept, device=self._device), columns)
