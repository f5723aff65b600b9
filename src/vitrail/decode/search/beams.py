"""Greedy search, beam search and sampling over a pure function step(last, state) -> Step, independent of models.

Translations and continuations of text use the same search. With a language model:

    queries = [Query((SOS, *ids), longest=40) for ids in prompts]
    state = read_prompts(model, model.start(len(queries)), queries)
    found = beam_search(model.step, state, queries, config=SearchConfig(beams=4))
"""

from collections.abc import Callable, Collection, Generator, Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.vocabularies.subwords import PAD
from vitrail.decode.search.hypotheses import Beams, Results
from vitrail.decode.search.pool import Cohort, Pool, RowLimits, StepsFunction
from vitrail.decode.search.query import Hypothesis, Query, Row
from vitrail.decode.search.relaxation import require_no_forced_words, search_constrained
from vitrail.decode.search.selection import Selection, force_words, sample, select_best
from vitrail.decode.search.token_rules import TokenRules
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError
from vitrail.models.base import Continues, Reads, State, Step, Steps

StepFunction = Callable[[Tensor, State], Step]


class Observation(NamedTuple):
    """The decisions of one step, for drawing the tree of hypotheses; columns that neither ended nor are live were pruned."""

    length: int
    """Tokens in every hypothesis before this step."""
    sentences: tuple[int, ...]
    """The sentence of each row b; -1 for a finished one that only fills the batch."""
    selection: Selection


@torch.inference_mode()
def beam_search(
    step: StepFunction,
    state: State,
    queries: Sequence[Query],
    *,
    config: SearchConfig | None = None,
    observe: Callable[[Observation], None] | None = None,
    min_rows: int = 1,
    device: torch.device | None = None,
) -> list[list[Hypothesis]]:
    """Find the n best results of each sentence: by beam search, greedily (`beams=1`), or by drawing (`config.sampling`).

    See `search_cohorts`; this is the search of one cohort.

    Args:
        step: scores every next token; called with the last token of each prompt first.
        state: the state before that token, one row per sentence; see `read_prompts`.
        queries: one per sentence, in the order of the state's rows.
        min_rows: see `RowLimits.fewest`.
        device: where the model computes; the CPU when None.
    """
    again = (config is None or config.sampling is None) and any(query.constraints.is_active for query in queries)

    def start(sentences: Sequence[int]) -> State:
        own = deepcopy(state) if again else state
        return own if len(sentences) == len(queries) else own.keep(torch.tensor(sentences, device=device))

    cohorts = [Cohort(range(len(queries)), start)] if queries else []
    steps, limits = one_state_at_a_time(step), RowLimits(min_rows)
    return search_cohorts(steps, cohorts, queries, config=config, observe=observe, limits=limits, device=device)


def one_state_at_a_time(step: StepFunction) -> StepsFunction:
    """What steps one state, for a search in which there is never more than one."""

    def steps(last: Tensor, states: Sequence[State]) -> Steps:
        (state,) = states
        logits, after = step(last, state)
        return Steps(logits, [after])

    return steps


@torch.inference_mode()
def search_cohorts(
    steps: StepsFunction,
    cohorts: Sequence[Cohort],
    queries: Sequence[Query],
    *,
    config: SearchConfig | None = None,
    observe: Callable[[Observation], None] | None = None,
    limits: RowLimits | None = None,
    device: torch.device | None = None,
) -> list[list[Hypothesis]]:
    """Search all sentences, of which those of some cohorts are side by side: where sentences are done, the next cohort takes their place.

    A sentence ends when K hypotheses have ended, or earlier when the rest cannot matter (`SearchConfig.early_stop`), and at its limit of
    length in any case. Finished sentences leave the batch. Among equals the earlier beam wins, then the lower token id.

    A constraint that is satisfied anyway changes nothing: a sentence is searched without constraints first, and with them only if not all
    of the n best satisfy them; all hypotheses that satisfy them are ranked together. A search with forced words continues until no live
    hypothesis can win, and has at least one beam more than there are forced tokens.

    Args:
        steps: scores every next token of the rows of some states; called with the last token of each prompt first.
        cohorts: each sentence in one of them. With constraints, they may be read several times.
        observe: called after each step with its candidates; of several searches, with the last one of each sentence. Cohorts are then
        searched one after the other.

    Returns: for each query at most n_best hypotheses, best first, complete before truncated; never none for a sentence of a cohort.
    Raises:  UsageError for forced words when sampling; ModelError when the model's output is not a number.
    Cost:    at each step one log-softmax and one top-2K over N·V scores.
    """
    config = SearchConfig() if config is None else config
    device = torch.device("cpu") if device is None else device
    limits = RowLimits() if limits is None else limits
    if observe is not None:
        limits = limits._replace(most=0)
    if config.sampling is not None:
        require_no_forced_words(queries)
    run = partial(_run, steps, limits=limits, device=device)
    if config.sampling is not None or not any(query.constraints.is_active for query in queries):
        return run(cohorts, queries, config=config, observe=observe)
    last: dict[int, list[Observation]] = {}

    def search(asked: Sequence[Query], wanted: Collection[int], beams: int) -> list[list[Hypothesis]]:
        seen: list[Observation] = []
        last.update(dict.fromkeys(wanted, seen))
        how, chosen = config.model_copy(update={"beams": beams}), frozenset(wanted)
        some = [one._replace(sentences=[sentence for sentence in one.sentences if sentence in chosen]) for one in cohorts]
        return run([one for one in some if one.sentences], asked, config=how, observe=None if observe is None else seen.append)

    found = search_constrained(queries, search, config=config)
    if observe is not None:
        for sentence, seen in last.items():
            for one in seen:
                if sentence in one.sentences:
                    row = one.sentences.index(sentence)
                    observe(Observation(one.length, (sentence,), Selection(*(part[row : row + 1] for part in one.selection))))
    return found


def _run(
    steps: StepsFunction,
    cohorts: Sequence[Cohort],
    queries: Sequence[Query],
    *,
    config: SearchConfig,
    observe: Callable[[Observation], None] | None,
    limits: RowLimits,
    device: torch.device,
) -> list[list[Hypothesis]]:
    """One search to its end."""
    search = search_steps(steps, cohorts, queries, config=config, limits=limits, device=device)
    while True:
        try:
            seen = next(search)
        except StopIteration as end:
            return end.value
        if observe is not None:
            observe(seen.observation())


class SearchStep(NamedTuple):
    """The decisions of one step, row by row."""

    rows: Sequence[Row]
    selection: Selection

    def observation(self) -> Observation:
        """The same for an observer. Precondition: all rows are of one cohort."""
        return Observation(self.rows[0].length, tuple(row.sentence for row in self.rows), self.selection)


def search_steps(
    steps: StepsFunction,
    cohorts: Sequence[Cohort],
    queries: Sequence[Query],
    *,
    config: SearchConfig,
    limits: RowLimits,
    device: torch.device,
) -> Generator[SearchStep, None, list[list[Hypothesis]]]:
    """One search, step by step; constraints hold for every hypothesis. See `search_cohorts`.

    Precondition: whoever asks for a step is in inference mode.
    """
    rules = TokenRules(
        [query.constraints for query in queries],
        min_lengths=[query.floor for query in queries],
        allow_unknown=config.allow_unknown,
        repeat_ngram=config.repeat_ngram,
        max_repeats=config.max_repeats,
        device=device,
    )
    results = Results(queries, config)
    choose = _Choice(queries, config, rules)
    pool = Pool(cohorts, queries, config=config, limits=limits, device=device)
    while pool.fill():
        logits, rows, beams = pool.step(steps), pool.rows, pool.beams
        selection = choose.next(logits, beams, rows, results)
        yield SearchStep(rows, selection)
        results.add_ended(rows, beams, selection)
        pool.follow(selection)
        results.add_stopped(pool.rows, pool.beams)
        any_done = results.close(pool.rows, beams, pool.beams)
        pool.settle(results.is_done if any_done else None)
    return results.best_first()


class _Choice:
    """Which tokens follow: the best ones, or some drawn at random."""

    def __init__(self, queries: Sequence[Query], config: SearchConfig, rules: TokenRules) -> None:
        self._queries, self._config, self._rules = queries, config, rules
        self._forces = any(query.constraints.forced for query in queries)
        self._noise: dict[int, Tensor] = {}

    def next(self, logits: Float[Tensor, "N V"], beams: Beams, rows: Sequence[Row], results: Results) -> Selection:
        """The continuations of every row."""
        log_probs = logits.float().log_softmax(dim=-1).view(*beams.totals.shape, -1)
        self._rules.block(log_probs, beams.tokens, rows)
        if self._config.sampling is not None:
            return self._draw(logits.float().view_as(log_probs), log_probs, beams, rows)
        selection = select_best(log_probs, beams.totals, self._config.beams)
        for place, (sentence, length) in enumerate(rows if self._forces else ()):
            if not results.is_done(sentence) and self._queries[sentence].constraints.forced:
                written = beams.tokens[place, :, beams.tokens.shape[2] - length :]
                wish = self._queries[sentence].constraints
                force_words(selection, place, log_probs[place], beams.totals[place], written, wish)
        return selection

    def _draw(self, logits: Float[Tensor, "B K V"], log_probs: Float[Tensor, "B K V"], beams: Beams, rows: Sequence[Row]) -> Selection:
        sampling = self._config.sampling
        assert sampling is not None
        uniform = torch.stack([self._uniform(row) for row in rows]).to(logits.device)
        penalised = None
        if sampling.repetition_penalty != 1:
            penalised = self._rules.penalise(logits, beams.tokens, penalty=sampling.repetition_penalty)
            penalised = penalised.masked_fill(log_probs == -torch.inf, -torch.inf)
        return sample(log_probs, beams.totals, uniform, sampling, penalised=penalised)

    def _uniform(self, row: Row) -> Float[Tensor, " W"]:
        """The random numbers of one step. All of a sentence are drawn from its own seed, so that they are independent of the batch."""
        width = self._config.width
        if row.sentence < 0:
            return torch.zeros(width, dtype=torch.float64)
        if row.sentence not in self._noise:
            query = self._queries[row.sentence]
            generator = torch.Generator().manual_seed(query.seed)
            self._noise[row.sentence] = torch.rand(query.cap, width, dtype=torch.float64, generator=generator)
        return self._noise[row.sentence][row.length]


@torch.inference_mode()
def read_prompts(model: Continues, state: State, queries: Sequence[Query], *, device: torch.device | None = None) -> State:
    """Read the prompts except the last token of each, which the first step of `beam_search` reads.

    A model that can read several tokens at once reads all prompts, of any lengths, in one pass; another reads token by token.

    Args: state: the state before the first token, one row per sentence.
    Raises UsageError for prompts of unequal lengths where the model reads token by token.
    """
    rows = [query.prompt[:-1] for query in queries]
    longest = max(map(len, rows), default=0)
    if longest == 0:
        return state
    tokens = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows], device=device)
    if isinstance(model, Reads):
        return model.read(tokens, state)[1]
    if min(map(len, rows)) < longest:
        raise UsageError(
            f"prompts of {min(map(len, rows)) + 1} to {longest + 1} tokens side by side",
            expected="prompts of one length, for a model that reads one token at a time",
        )
    for column in tokens.unbind(1):
        state = model.step(column, state).state
    return state
