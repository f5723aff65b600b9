"""The hypotheses of a search: those that are still searched, and the finished ones of each sentence."""

import math
from bisect import insort
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.query import Hypothesis, Query, Row
from vitrail.decode.search.relaxation import rank_by
from vitrail.decode.search.selection import Selection
from vitrail.decode.search.token_rules import NOTHING
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError


class Beams(NamedTuple):
    """The live hypotheses, row by row; a beam with a total of -inf is empty. All end together: before a short one there is `NOTHING`."""

    tokens: Int[Tensor, "B K P"]
    """Prompts and what follows them."""
    log_probs: Float[Tensor, "B K P"]
    """0 for the tokens of prompts."""
    totals: Float[Tensor, "B K"]

    def follow(self, selection: Selection) -> "tuple[Int[Tensor, 'B K'], Beams]":
        """The chosen columns as the next beams, and the beam that each continues."""
        parents, tokens, log_probs, totals = (part.gather(1, selection.live) for part in selection[:4])
        before: tuple[Tensor, ...] = self[:2]
        if self.totals.shape[1] > 1:
            where = parents[:, :, None].expand(-1, -1, self.tokens.shape[2])
            before = tuple(part.gather(1, where) for part in before)
        return parents, Beams(
            torch.cat([before[0], tokens[:, :, None]], dim=2),
            torch.cat([before[1], log_probs[:, :, None]], dim=2),
            totals.masked_fill(tokens == EOS, -torch.inf),
        )

    def select(self, rows: Int[Tensor, " R"], columns: int | None = None) -> "Beams":
        """Some of the rows, with the last columns; None: all columns."""
        tokens, log_probs, totals = (part.index_select(0, rows) for part in self)
        first = 0 if columns is None else tokens.shape[2] - columns
        return Beams(tokens[:, :, first:], log_probs[:, :, first:], totals)

    def join(self, others: "Beams") -> "Beams":
        """The rows of both."""
        missing = self.tokens.shape[2] - others.tokens.shape[2]
        one, two = self._widened(max(0, -missing)), others._widened(max(0, missing))
        return Beams(*(torch.cat(parts) for parts in zip(one, two, strict=True)))

    def _widened(self, columns: int) -> "Beams":
        def pad(part: Tensor, value: int) -> Tensor:
            return torch.nn.functional.pad(part, (columns, 0), value=value)

        return Beams(pad(self.tokens, NOTHING), pad(self.log_probs, 0), self.totals) if columns else self


def start_beams(prompts: Sequence[Sequence[int]], config: SearchConfig, device: torch.device) -> Beams:
    """Only prompts yet. Samples are independent from the start; of equal beams only the first is live."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[*[NOTHING] * (longest - len(prompt)), *prompt] for prompt in prompts], device=device)
    tokens = padded[:, None].expand(-1, config.width, -1)
    totals = torch.zeros(tokens.shape[:2], device=device)
    if config.sampling is None:
        totals[:, 1:] = -torch.inf
    return Beams(tokens, torch.zeros(tokens.shape, device=device), totals)


class Results:
    """The finished hypotheses of every sentence, and which sentences are done.

    A sentence is done once K hypotheses have ended. With forced words, many hypotheses end early and badly, so that K ends are no
    criterion: then a sentence continues until no live hypothesis can still enter its n-best list.
    """

    def __init__(self, queries: Sequence[Query], config: SearchConfig) -> None:
        self._config, self._queries = config, queries
        self._finished: list[list[Hypothesis]] = [[] for _ in queries]
        self._ends = [0 for _ in queries]
        self.caps: Final = [query.cap for query in queries]
        self._done: Final = [False for _ in queries]

    def is_done(self, sentence: int) -> bool:
        """Whether nothing more is searched for a sentence, or there is none: -1."""
        return sentence < 0 or self._done[sentence]

    def add(
        self, row: Row, beams: Beams, place: tuple[int, int], *, column: int, end_log_prob: float | None, stopped: bool = False
    ) -> None:
        """Keep the hypothesis at `place`; `end_log_prob` None: it was truncated, or stopped."""
        sentence, first = row.sentence, beams.tokens.shape[2] - row.length
        ending = () if end_log_prob is None else (end_log_prob,)
        log_probs = (*beams.log_probs[place][first:].tolist(), *ending)
        log_probability = beams.totals[place].item() + sum(ending)
        score = self._config.score(log_probability, len(log_probs))
        tokens, truncated = tuple(beams.tokens[place][first:].tolist()), end_log_prob is None and not stopped
        found = Hypothesis(tokens, log_probability, score, log_probs, truncated, stopped, column)
        finished = self._finished[sentence]
        if self._full(sentence) and finished and not found.truncated and found.score > finished[0].score:
            return  # It would only fill up the list: the best one is found without filling up.
        rank = rank_by(self._queries[sentence].constraints)
        if self._spelled_better(sentence, found, rank):
            return
        insort(finished, found, key=rank)
        del finished[self._config.width :]

    def _spelled_better(self, sentence: int, found: Hypothesis, rank: Callable[[Hypothesis], tuple[bool, bool, float]]) -> bool:
        """Whether the list has the same text with at least this rank; one with a lower rank is removed."""
        spell = self._queries[sentence].spell
        finished = self._finished[sentence]
        twin = None if spell is None else next((item for item in finished if spell(item.tokens) == spell(found.tokens)), None)
        if twin is None or rank(twin) <= rank(found):
            return twin is not None
        finished.remove(twin)
        return False

    def _full(self, sentence: int) -> bool:
        """Whether as many hypotheses have ended as end a search without forced words."""
        return not self._queries[sentence].constraints.forced and self._ends[sentence] >= self._config.width

    def _enough(self, sentence: int) -> bool:
        """The same, and n of them differ."""
        return self._full(sentence) and len(self._finished[sentence]) >= min(self._config.n_best, self._config.width)

    def add_ended(self, rows: Sequence[Row], before: Beams, selection: Selection) -> None:
        """Keep the hypotheses that ended at this step, the best K of a sentence."""
        for place, column in selection.ended.nonzero().tolist():
            row = rows[place]
            if not self.is_done(row.sentence) and not self._enough(row.sentence):
                parent, end = int(selection.parents[place, column]), selection.log_probs[place, column].item()
                self.add(row, before, (place, parent), column=column, end_log_prob=end)
                self._ends[row.sentence] += 1

    def add_stopped(self, rows: Sequence[Row], after: Beams) -> None:
        """Keep the hypotheses that `Query.stop` ends at this step, and empty their beams, in place."""
        for place, row in enumerate(rows):
            stop = None if self.is_done(row.sentence) else self._queries[row.sentence].stop
            if stop is None:
                continue
            for beam in (after.totals[place] > -torch.inf).nonzero().flatten().tolist():
                if stop(after.tokens[place, beam, after.tokens.shape[2] - row.length :].tolist()):
                    if not self._enough(row.sentence):
                        self.add(row, after, (place, beam), column=beam, end_log_prob=None, stopped=True)
                        self._ends[row.sentence] += 1
                    after.totals[place, beam] = -torch.inf

    def close(self, rows: Sequence[Row], before: Beams, after: Beams) -> bool:
        """Decide for each sentence whether it is done; true if any of these is. Args: rows: those of `after`.

        It is done when no hypothesis is live; at its limit of length; when no live one can enter the n-best list; or, without forced words,
        when K hypotheses have ended and n of them differ. Log-probabilities only decrease and penalties only grow, so a live hypothesis
        scores at most its current log-probability divided by the penalty at the limit of length. Raises ModelError where the model's output
        is not a number.
        """
        best_alive: list[float] = after.totals.amax(dim=1).tolist()
        any_done = False
        for place, (row, alive) in enumerate(zip(rows, best_alive, strict=True)):
            sentence = row.sentence
            if math.isnan(alive):
                raise ModelError(
                    "the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint"
                )
            if self.is_done(sentence):
                continue
            finished, cap = self._finished[sentence], self.caps[sentence]
            if self._enough(sentence) or (finished and self._hopeless(finished, alive, cap)):
                self._done[sentence] = any_done = True
            elif alive == -torch.inf or row.length >= cap:
                self._done[sentence] = any_done = True
                # No token is allowed: the constraints contradict each other. Keep the hypotheses from before this step.
                rest, length = (before, row.length - 1) if alive == -torch.inf and not finished else (after, row.length)
                for beam in (rest.totals[place] > -torch.inf).nonzero().flatten().tolist():
                    self.add(Row(sentence, length), rest, (place, beam), column=beam, end_log_prob=None)
        return any_done

    def _hopeless(self, finished: Sequence[Hypothesis], alive: float, cap: int) -> bool:
        if alive == -torch.inf:
            return True
        if self._config.sampling is not None or not self._config.early_stop or len(finished) < self._config.n_best:
            return False
        return self._config.score(alive, cap) <= finished[self._config.n_best - 1].score

    def best_first(self) -> list[list[Hypothesis]]:
        """The n best of every sentence."""
        return [items[: self._config.n_best] for items in self._finished]
