"""Greedy search, beam search and sampling over a pure function step(last, state) -> Step, independent of models.

Translations and continuations of text use the same search. With a language model:

    queries = [Query((SOS, *ids), longest=40) for ids in prompts]
    state = read_prompts(model, model.start(len(queries)), queries)
    found = beam_search(model.step, state, queries, config=SearchConfig(beams=4))
"""

from bisect import insort
from collections.abc import Callable, Collection, Generator, Sequence
from copy import deepcopy
from functools import partial
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS, PAD
from vitrail.decode.search.listed import listed_state
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search.relaxation import rank_by, require_no_forced_words, search_constrained
from vitrail.decode.search.selection import Selection, force_words, sample, select_best
from vitrail.decode.search.token_rules import TokenRules
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.base import Continues, Reads, State, Step

StepFunction = Callable[[Tensor, State], Step]


class Observation(NamedTuple):
    """The decisions of one step, for drawing the tree of hypotheses; columns that neither ended nor are live were pruned."""

    length: int
    """Tokens in every hypothesis before this step."""
    sentences: tuple[int, ...]
    """The sentence of each row b; -1 for a finished one that only fills the batch."""
    selection: Selection


class _Beams(NamedTuple):
    """The live hypotheses; a beam with a total of -inf is empty."""

    tokens: Int[Tensor, "B K T"]
    log_probs: Float[Tensor, "B K T"]
    totals: Float[Tensor, "B K"]

    def follow(self, selection: Selection) -> "_Beams":
        """Make the chosen columns the next beams."""
        parents, tokens, log_probs, totals = (part.gather(1, selection.live) for part in selection[:4])
        where = parents[:, :, None].expand(-1, -1, self.tokens.shape[2])
        return _Beams(
            torch.cat([self.tokens.gather(1, where), tokens[:, :, None]], dim=2),
            torch.cat([self.log_probs.gather(1, where), log_probs[:, :, None]], dim=2),
            totals.masked_fill(tokens == EOS, -torch.inf),
        )


class _Results:
    """The finished hypotheses of every sentence, and which sentences are done.

    A sentence is done once K hypotheses have ended. With forced words, many hypotheses end early and badly, so that K ends are no
    criterion: then a sentence continues until no live hypothesis can still enter its n-best list.
    """

    def __init__(self, queries: Sequence[Query], config: SearchConfig, *, wanted: Collection[int]) -> None:
        self._config, self._queries = config, queries
        self._finished: list[list[Hypothesis]] = [[] for _ in queries]
        self._ends = [0 for _ in queries]
        self.caps: Final = [query.cap for query in queries]
        self.done: Final = [sentence not in wanted for sentence in range(len(queries))]

    def add(
        self, sentence: int, beams: _Beams, place: tuple[int, int], *, column: int, end_log_prob: float | None, stopped: bool = False
    ) -> None:
        """Keep the hypothesis at `place`; `end_log_prob` None: it was truncated, or stopped."""
        ending = () if end_log_prob is None else (end_log_prob,)
        log_probs = (*beams.log_probs[place].tolist(), *ending)
        log_probability = beams.totals[place].item() + sum(ending)
        score = self._config.score(log_probability, len(log_probs))
        tokens, truncated = tuple(beams.tokens[place].tolist()), end_log_prob is None and not stopped
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

    def add_ended(self, sentences: Sequence[int], before: _Beams, selection: Selection) -> None:
        """Keep the hypotheses that ended at this step, the best K of a sentence."""
        for row, column in selection.ended.nonzero().tolist():
            sentence = sentences[row]
            if not self.done[sentence] and not self._enough(sentence):
                parent = min(int(selection.parents[row, column]), before.totals.shape[1] - 1)
                self.add(sentence, before, (row, parent), column=column, end_log_prob=selection.log_probs[row, column].item())
                self._ends[sentence] += 1

    def add_stopped(self, sentences: Sequence[int], after: _Beams) -> None:
        """Keep the hypotheses that `Query.stop` ends at this step, and empty their beams, in place."""
        for row, sentence in enumerate(sentences):
            stop = self._queries[sentence].stop
            if stop is None or self.done[sentence]:
                continue
            for beam in (after.totals[row] > -torch.inf).nonzero().flatten().tolist():
                if stop(after.tokens[row, beam].tolist()):
                    if not self._enough(sentence):
                        self.add(sentence, after, (row, beam), column=beam, end_log_prob=None, stopped=True)
                        self._ends[sentence] += 1
                    after.totals[row, beam] = -torch.inf

    def close(self, sentences: Sequence[int], before: _Beams, after: _Beams) -> None:
        """Decide for each sentence whether it is done.

        It is done when no hypothesis is live; at its limit of length; when no live one can enter the n-best list; or, without forced words,
        when K hypotheses have ended and n of them differ. Log-probabilities only decrease and penalties only grow, so a live hypothesis
        scores at most its current log-probability divided by the penalty at the limit of length.
        """
        length = after.tokens.shape[2]
        best_alive: list[float] = after.totals.amax(dim=1).tolist()
        for row, (sentence, alive) in enumerate(zip(sentences, best_alive, strict=True)):
            finished, cap = self._finished[sentence], self.caps[sentence]
            if self.done[sentence]:
                continue
            if self._enough(sentence) or (finished and self._hopeless(finished, alive, cap)):
                self.done[sentence] = True
            elif alive == -torch.inf or length >= cap:
                self.done[sentence] = True
                # No token is allowed: the constraints contradict each other. Keep the hypotheses from before this step.
                rest = before if alive == -torch.inf and not finished else after
                for beam in (rest.totals[row] > -torch.inf).nonzero().flatten().tolist():
                    self.add(sentence, rest, (row, beam), column=beam, end_log_prob=None)

    def _hopeless(self, finished: Sequence[Hypothesis], alive: float, cap: int) -> bool:
        if alive == -torch.inf:
            return True
        if self._config.sampling is not None or not self._config.early_stop or len(finished) < self._config.n_best:
            return False
        return self._config.score(alive, cap) <= finished[self._config.n_best - 1].score

    def staying(self, sentences: Sequence[int], *, min_rows: int) -> list[int]:
        """The rows to continue: those not done, and enough done ones to have `min_rows` rows."""
        staying = [row for row, sentence in enumerate(sentences) if not self.done[sentence]]
        missing = -(-min_rows // self._config.width) - len(staying)
        fillers = [row for row, sentence in enumerate(sentences) if self.done[sentence]]
        return sorted(staying + fillers[: max(0, missing)])

    def best_first(self) -> list[list[Hypothesis]]:
        """The n best of every sentence."""
        return [items[: self._config.n_best] for items in self._finished]


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

    A sentence ends when K hypotheses have ended, or earlier when the rest cannot matter (`SearchConfig.early_stop`), and at its limit of
    length in any case. Finished sentences leave the batch. Among equals the earlier beam wins, then the lower token id.

    A constraint that is satisfied anyway changes nothing: a sentence is searched without constraints first, and with them only if not all
    of the n best satisfy them; all hypotheses that satisfy them are ranked together. A search with forced words continues until no live
    hypothesis can win, and has at least one beam more than there are forced tokens.

    Args:
        step: scores every next token; called with the last token of each prompt first.
        state: the state before that token, one row per sentence; see `read_prompts`.
        queries: one per sentence, in the order of the state's rows. With shortlists, the step is that of `listed_model`.
        observe: called after each step with its candidates; of several searches, with the last one of each sentence.
        min_rows: keep at least this many rows in the batch, if necessary of finished sentences, and have K rows per sentence from the first
        step on. Matrix products of few rows round differently, so that the result would depend on a sentence's neighbours.
        Precondition: there are enough queries at the start.
        device: where the model computes; the CPU when None.

    Returns: for each sentence at most n_best hypotheses, best first, complete before truncated; never none.
    Raises:  UsageError for forced words when sampling; ModelError when the model's output is not a number.
    Cost:    at each step one log-softmax and one top-2K over N·V scores.
    """
    config = SearchConfig() if config is None else config
    device = torch.device("cpu") if device is None else device
    if not queries:
        return []
    if config.sampling is not None:
        require_no_forced_words(queries)
    run = partial(_run, step, min_rows=min_rows, device=device)
    if config.sampling is not None or not any(query.constraints.is_active for query in queries):
        return run(state, queries, config=config, observe=observe)
    last: dict[int, list[Observation]] = {}

    def search(asked: Sequence[Query], wanted: Collection[int], beams: int) -> list[list[Hypothesis]]:
        seen: list[Observation] = []
        last.update(dict.fromkeys(wanted, seen))
        how = config.model_copy(update={"beams": beams})
        return run(deepcopy(state), asked, config=how, observe=None if observe is None else seen.append, wanted=wanted)

    found = search_constrained(queries, search, config=config)
    if observe is not None:
        for sentence, seen in last.items():
            for one in seen:
                if sentence in one.sentences:
                    row = one.sentences.index(sentence)
                    observe(Observation(one.length, (sentence,), Selection(*(part[row : row + 1] for part in one.selection))))
    return found


def _run(
    step: StepFunction,
    state: State,
    queries: Sequence[Query],
    *,
    config: SearchConfig,
    observe: Callable[[Observation], None] | None,
    min_rows: int,
    device: torch.device,
    wanted: Collection[int] | None = None,
) -> list[list[Hypothesis]]:
    """One search to its end."""
    steps = search_steps(step, state, queries, config=config, min_rows=min_rows, device=device, wanted=wanted)
    while True:
        try:
            seen = next(steps)
        except StopIteration as end:
            return end.value
        if observe is not None:
            observe(seen)


def search_steps(
    step: StepFunction,
    state: State,
    queries: Sequence[Query],
    *,
    config: SearchConfig,
    min_rows: int,
    device: torch.device,
    wanted: Collection[int] | None = None,
) -> Generator[Observation, None, list[list[Hypothesis]]]:
    """One search for the given sentences (None: all), step by step; constraints hold for every hypothesis. See `beam_search`.

    Precondition: whoever asks for a step is in inference mode.
    """
    state = listed_state(state, queries)
    rules = TokenRules(
        [query.constraints for query in queries],
        prompts=[query.prompt for query in queries],
        min_lengths=[query.floor for query in queries],
        allow_unknown=config.allow_unknown,
        repeat_ngram=config.repeat_ngram,
        max_repeats=config.max_repeats,
        device=device,
    )
    results = _Results(queries, config, wanted=range(len(queries)) if wanted is None else frozenset(wanted))
    noise = _noise(queries, results.caps, config).to(device) if config.sampling is not None else None
    sentences = results.staying(range(len(queries)), min_rows=min_rows)
    if len(sentences) < len(queries):
        state = state.keep(torch.tensor(sentences, device=device))
    # All beams start equal, so one row per sentence is enough for the first step.
    beams = _begin(len(sentences), config.width if min_rows > 1 else 1, config, device)
    state = state.repeat(config.width) if beams.totals.shape[1] > 1 else state
    last = _last_of_prompts(queries, sentences, device).repeat_interleave(beams.totals.shape[1])
    while True:
        logits, state = step(last, state)
        log_probs = logits.float().log_softmax(dim=-1).view(*beams.totals.shape, -1)
        rules.block(log_probs, beams.tokens, sentences)
        length = beams.tokens.shape[2]
        if config.sampling is not None and noise is not None:
            uniform = noise[sentences, min(length, noise.shape[1] - 1)]
            penalised, penalty = None, config.sampling.repetition_penalty
            if penalty != 1:
                penalised = rules.penalise(logits.float().view_as(log_probs), beams.tokens, sentences, penalty=penalty)
                penalised = penalised.masked_fill(log_probs == -torch.inf, -torch.inf)
            selection = sample(log_probs, beams.totals, uniform, config.sampling, penalised=penalised)
        else:
            selection = select_best(log_probs, beams.totals, config.beams)
        for row, sentence in enumerate(sentences):
            wish = queries[sentence].constraints
            if wish.forced and not results.done[sentence]:
                force_words(selection, row, log_probs[row], beams.totals[row], beams.tokens[row], wish)
        if selection.totals.isnan().any():
            raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")
        yield Observation(length, tuple(-1 if results.done[one] else one for one in sentences), selection)
        results.add_ended(sentences, beams, selection)
        following = beams.follow(selection)
        results.add_stopped(sentences, following)
        results.close(sentences, beams, following)
        if all(results.done):
            return results.best_first()
        staying = results.staying(sentences, min_rows=min_rows)
        parents = selection.parents.gather(1, selection.live)
        if len(staying) < len(sentences):
            rows = torch.tensor(staying, device=device)
            state, following, parents = state.keep(rows), _Beams(*(part[rows] for part in following)), parents[rows]
            sentences = [sentences[row] for row in staying]
        state = _advance(state, parents, width_before=beams.totals.shape[1])
        beams, last = following, following.tokens[:, :, -1].flatten()


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


def _last_of_prompts(queries: Sequence[Query], sentences: Sequence[int], device: torch.device) -> Int[Tensor, " B"]:
    return torch.tensor([queries[sentence].prompt[-1] for sentence in sentences], device=device)


def _begin(sentences: int, width: int, config: SearchConfig, device: torch.device) -> _Beams:
    """No tokens yet. Samples are independent from the start; of equal beams only the first is live."""
    empty = torch.empty(sentences, width, 0, device=device)
    totals = torch.zeros(sentences, width, device=device)
    if config.sampling is None:
        totals[:, 1:] = -torch.inf
    return _Beams(empty.long(), empty, totals)


def _advance(state: State, parents: Int[Tensor, "B K"], *, width_before: int) -> State:
    """Reorder the state's rows as the beams."""
    width = parents.shape[1]
    if width_before < width:
        return state.repeat(width)
    if bool((parents == torch.arange(width, device=parents.device)).all()):
        return state
    first = torch.arange(0, parents.numel(), width, device=parents.device)
    return state.reorder((parents + first[:, None]).flatten())


def _noise(queries: Sequence[Query], caps: Sequence[int], config: SearchConfig) -> Float[Tensor, "B T W"]:
    """All random numbers of a sentence, drawn from its own seed, so that they are independent of the batch."""
    noise = torch.zeros(len(queries), max(caps), config.width, dtype=torch.float64)
    for row, (query, cap) in enumerate(zip(queries, caps, strict=True)):
        generator = torch.Generator().manual_seed(query.seed)
        noise[row, :cap] = torch.rand(cap, config.width, dtype=torch.float64, generator=generator)
    return noise
