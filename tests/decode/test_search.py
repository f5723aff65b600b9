"""Search is compared with enumeration and with a plain Python search, over a model it cannot know."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import NEVER, ToyModel, ToyState, every_translation, plain_beam_search, query

from vitrail.data.vocabularies.subwords import EOS, SOS, UNK
from vitrail.decode.search.beams import Observation, beam_search
from vitrail.decode.search.constraints import Constraints
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search.selection import top_tokens
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.base import Step


def config(**changes: object) -> SearchConfig:
    """No limits but those of the test."""
    return SearchConfig.model_validate({"beams": 4, "repeat_ngram": 0, "max_ratio": 0.0, "max_extra": 8} | changes)


def search(model: ToyModel, sentences: int = 3, *, wish: Constraints | None = None, **changes: object) -> list[list[Hypothesis]]:
    how = config(**changes)
    queries = [query(how, constraints=wish or Constraints(), seed=row) for row in range(sentences)]
    return beam_search(model.step, model.sentences(sentences), queries, config=how)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beam_finds_the_best_of_all(seed: int, alpha: float) -> None:
    model = ToyModel(7, seed=seed)
    cap = 4
    found = search(model, 2, beams=4**cap, n_best=5, max_extra=cap, length_penalty=alpha)
    for row, start in enumerate(model.sentences(2).hidden):
        best = every_translation(model, start, cap=cap, alpha=alpha)[:5]
        assert [item.tokens for item in found[row]] == [item.tokens for item in best]
        assert [item.score for item in found[row]] == pytest.approx([item.score for item in best], abs=1e-5)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_plain_python(seed: int, beams: int) -> None:
    model = ToyModel(12, seed=seed, end_bias=1.0)
    alpha = (0.0, 0.6, 1.0)[seed % 3]
    found = search(model, 4, beams=beams, n_best=beams, max_extra=7, length_penalty=alpha)
    for row, start in enumerate(model.sentences(4).hidden):
        expected = plain_beam_search(model, start, beams=beams, cap=7, alpha=alpha)
        complete = [item for item in expected if not item.truncated]
        kept = expected[:beams] if len(complete) < beams else complete
        # With K kept of K beams nothing may be skipped, so even the worst must agree.
        assert [(item.tokens, item.truncated) for item in found[row]] == [(item.tokens, item.truncated) for item in kept]
        assert [item.score for item in found[row]] == pytest.approx([item.score for item in kept], abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(seed: int) -> None:
    model = ToyModel(10, seed=seed)
    for row, start in enumerate(model.sentences(3).hidden):
        tokens: list[int] = []
        log_probs: list[float] = []
        while len(log_probs) < 8:
            values = model.log_probs(start, tokens)
            best = max((value, token) for token, value in enumerate(values) if token not in NEVER)
            log_probs.append(best[0])
            if best[1] == EOS:
                break
            tokens.append(best[1])
        found = search(model, 3, beams=1)[row][0]
        assert found.tokens == tuple(tokens)
        assert found.token_log_probabilities == pytest.approx(log_probs, abs=1e-5)
        assert found.truncated == (len(found.tokens) == len(found.token_log_probabilities))


@given(seed=st.integers(0, 10_000), beams=st.integers(1, 5), alpha=st.sampled_from([0.0, 0.7, 1.5]), end_bias=st.floats(-2, 4))
@settings(max_examples=25, deadline=None)
def test_early_stop_changes_nothing(seed: int, beams: int, alpha: float, end_bias: float) -> None:
    model = ToyModel(9, seed=seed, end_bias=end_bias)
    n_best = 1 + seed % beams
    lazy, thorough = (search(model, 2, beams=beams, n_best=n_best, length_penalty=alpha, early_stop=stop) for stop in (True, False))
    assert lazy == thorough


def test_early_stop_saves_steps() -> None:
    model = ToyModel(30, sharpness=1.0, end_bias=9.0)
    search(model, 3, beams=4, max_extra=40)
    lazy = len(model.rows_seen)
    search(model, 3, beams=4, max_extra=40, early_stop=False)
    assert lazy < len(model.rows_seen) - lazy


@given(seed=st.integers(0, 10_000), beams=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_n_best_is_sorted_distinct_and_adds_up(seed: int, beams: int) -> None:
    settings_ = config(beams=beams, n_best=beams)
    model = ToyModel(9, seed=seed)
    for found in search(model, 2, beams=beams, n_best=beams):
        assert 1 <= len(found) <= beams
        assert len({item.tokens for item in found if not item.truncated}) == sum(not item.truncated for item in found)
        assert sorted(found, key=lambda item: (item.truncated, -item.score)) == found
        for item in found:
            assert math.fsum(item.token_log_probabilities) == pytest.approx(item.log_probability, abs=1e-4)
            assert item.score == settings_.score(item.log_probability, len(item.token_log_probabilities))
            assert len(item.token_log_probabilities) == len(item.tokens) + (not item.truncated)
            assert not set(item.tokens) & {*NEVER, EOS}


@given(seed=st.integers(0, 10_000), beams=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_no_text_stands_twice_in_an_n_best_list(seed: int, beams: int) -> None:
    """Token 2n and 2n + 1 write the same letter; the list is as long as one that does not look, and its best the same."""
    model = ToyModel(10, seed=seed)

    def spell(tokens: Sequence[int]) -> str:
        return "".join("abcde"[token // 2] for token in tokens)

    queries = [query(config()), query(config(), spell=spell)]
    loose, found = (
        beam_search(model.step, model.sentences(2), [queries[0]] * 2, config=config(beams=beams, n_best=beams))[1],
        (beam_search(model.step, model.sentences(2), queries, config=config(beams=beams, n_best=beams))[1]),
    )
    assert found[0] == loose[0]
    assert len({spell(item.tokens) for item in found}) == len(found) >= len({spell(item.tokens) for item in loose})
    assert sorted(found, key=lambda item: (item.truncated, -item.score)) == found
    best = {spell(item.tokens): item for item in reversed(loose)}
    assert all(item.score >= best[text].score for item in found if (text := spell(item.tokens)) in best)


@pytest.mark.parametrize("beams", [1, 4])
def test_never_ending_decode_ends_and_is_marked(beams: int) -> None:
    model = ToyModel(9, end_bias=-1e9)
    how = SearchConfig(beams=beams, repeat_ngram=0)
    found = beam_search(model.step, model.sentences(2), [query(how, 3), query(how, 7)], config=how)
    assert [len(items[0].tokens) for items in found] == [2 * 3 + 50, 2 * 7 + 50]
    assert all(items[0].truncated for items in found)


def test_complete_comes_before_truncated() -> None:
    found = [items for seed in range(20) for items in search(ToyModel(9, seed=seed, end_bias=-2.0), 3, n_best=4, max_extra=4)]
    mixed = [items for items in found if len({item.truncated for item in items}) == 2]
    assert mixed
    assert all([item.truncated for item in items] == sorted(item.truncated for item in items) for items in found)


def test_limits_of_length() -> None:
    model = ToyModel(9, end_bias=4.0)

    def limited(model: ToyModel, **limits: object) -> list[list[Hypothesis]]:
        how = SearchConfig.model_validate(limits)
        return beam_search(model.step, model.sentences(2), [query(how, 2), query(how, 8)], config=how)

    short = limited(model, repeat_ngram=0)
    assert all(len(items[0].tokens) < 4 for items in short)
    long = limited(model, repeat_ngram=0, min_ratio=1.5, min_length=6)
    assert len(long[0][0].tokens) >= 6
    assert len(long[1][0].tokens) >= 12
    capped = limited(ToyModel(9, end_bias=-99), max_ratio=1, max_extra=1, max_length=5)
    assert [len(items[0].tokens) for items in capped] == [3, 5]


def test_a_sentence_does_not_feel_its_neighbours() -> None:
    model = ToyModel(15, end_bias=1.0)
    together = search(model, 5, n_best=4)
    for row, start in enumerate(model.sentences(5).hidden):
        alone = beam_search(model.step, ToyState(start[None], 1), [query(config())], config=config(n_best=4))
        assert alone[0] == together[row]


def test_finished_sentences_leave_the_batch() -> None:
    model = ToyModel(15, end_bias=1.0)
    search(model, 8, beams=3, min_length=1)
    assert model.rows_seen[:2] == [24, 24]
    assert model.rows_seen[1:] == sorted(model.rows_seen[1:], reverse=True)
    assert model.rows_seen[-1] < 24


@pytest.mark.parametrize("beams", [1, 3])
def test_min_rows_keeps_rows_and_changes_nothing(beams: int) -> None:
    model = ToyModel(15, end_bias=1.0)
    queries = [query(config())] * 6
    plain = beam_search(model.step, model.sentences(6), queries, config=config(beams=beams))
    model.rows_seen.clear()
    padded = beam_search(model.step, model.sentences(6), queries, config=config(beams=beams), min_rows=4)
    assert padded == plain
    assert min(model.rows_seen) >= 4
    assert model.rows_seen[0] == 6 * beams


def test_min_rows_does_not_change_samples() -> None:
    model = ToyModel(15, end_bias=1.0)
    queries = [query(config(), seed=seed) for seed in range(6)]
    how = config(n_best=3, sampling={})
    plain, padded = (beam_search(model.step, model.sentences(6), queries, config=how, min_rows=rows) for rows in (1, 4))
    assert padded == plain


def test_unknown_only_when_allowed() -> None:
    model = ToyModel(9)
    model.readout_bias[UNK] = 50.0
    assert all(UNK not in items[0].tokens for items in search(model))
    assert all(UNK in items[0].tokens for items in search(model, allow_unknown=True))


def test_nothing_to_translate() -> None:
    model = ToyModel(9)
    assert beam_search(model.step, model.sentences(1), [], config=config()) == []


def test_numbers_that_are_none() -> None:
    model = ToyModel(9)
    model.readout_bias[5] = math.nan
    with pytest.raises(ModelError, match="not a number"):
        search(model)


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match="n_best"):
        SearchConfig(beams=2, n_best=3)
    with pytest.raises(UsageError, match="sampling"):
        search(ToyModel(9), wish=Constraints(forced=(((4,),),)), sampling={})


# Ties.


@given(
    st.lists(st.lists(st.sampled_from([-1.0, -0.5, 0.0, -0.0, -math.inf]), min_size=7, max_size=7), min_size=1, max_size=4),
    st.integers(1, 7),
)
@settings(deadline=None)
def test_top_tokens_takes_the_lower_index_among_equals(rows: list[list[float]], count: int) -> None:
    values, indices = top_tokens(torch.tensor(rows), count)
    for row, row_values, row_indices in zip(rows, values.tolist(), indices.tolist(), strict=True):
        expected = sorted(range(7), key=lambda index: -row[index])[:count]
        possible = [index for index in expected if row[index] > -math.inf]
        assert row_indices[: len(possible)] == possible
        assert row_values == [row[index] for index in expected]


def test_ties_between_hypotheses_are_decided() -> None:
    def step(last: torch.Tensor, state: ToyState) -> Step:
        logits = torch.zeros(len(last), 40)
        logits[:, EOS] = -5.0
        return Step(logits, state)

    found = beam_search(step, ToyState(torch.zeros(1, 1), 1), [Query(longest=3)], config=config(beams=3, n_best=3))
    assert [item.tokens for item in found[0]] == [(4, 4, 4), (4, 4, 5), (4, 4, 6)]


# Observation.


def test_observer_can_rebuild_the_tree() -> None:
    model = ToyModel(12, seed=3, end_bias=1.0)
    seen: list[Observation] = []
    queries = [query(config())] * 2
    found = beam_search(model.step, model.sentences(2), queries, config=config(n_best=4), observe=seen.append)
    assert found == search(model, 2, n_best=4)
    assert [item.length for item in seen] == list(range(len(seen)))
    alive: dict[int, list[tuple[int, ...]]] = {0: [()], 1: [()]}
    ended: dict[int, set[tuple[int, ...]]] = {0: set(), 1: set()}
    for observation in seen:
        chosen = observation.selection
        assert chosen.parents.shape == (len(observation.sentences), 8)
        for row, sentence in enumerate(observation.sentences):
            grown = [
                (*alive[sentence][parent], token)
                for parent, token in zip(chosen.parents[row].tolist(), chosen.tokens[row].tolist(), strict=True)
            ]
            ended[sentence] |= {grown[column][:-1] for column in chosen.ended[row].nonzero().flatten().tolist()}
            alive[sentence] = [grown[column] for column in chosen.live[row].tolist()]
    for row, items in enumerate(found):
        assert {item.tokens for item in items if not item.truncated} <= ended[row]


# Sampling.


def test_sampling_is_reproducible_and_independent_of_the_batch() -> None:
    model = ToyModel(20, sharpness=1.0)
    how = {"n_best": 3, "sampling": {"temperature": 0.9, "top_k": 8, "top_p": 0.9}}
    together = search(model, 4, **how)
    assert together == search(model, 4, **how)
    for row, start in enumerate(model.sentences(4).hidden):
        alone = beam_search(model.step, ToyState(start[None], 1), [query(config(), seed=row)], config=config(**how))
        assert alone[0] == together[row]
    other = beam_search(model.step, model.sentences(4), [query(config(), seed=row + 100) for row in range(4)], config=config(**how))
    assert other != together


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p", "temperature", "penalty"),
    [
        *((0, 1.0, 0, 1.0, 1.0), (0, 1.0, 0, 0.5, 1.0), (3, 1.0, 0, 2.0, 1.0), (0, 0.7, 0, 1.0, 1.0), (4, 0.8, 0, 1.0, 1.0)),
        *((0, 1.0, 0.3, 1.0, 1.0), (5, 0.9, 0.4, 2.0, 1.0), (0, 1.0, 0, 1.0, 1.5), (4, 0.9, 0.1, 0.8, 3.0), (0, 1.0, 0, 1.0, 0.5)),
    ],
)
def test_sampled_frequencies_follow_the_probabilities(top_k: int, top_p: float, min_p: float, temperature: float, penalty: float) -> None:
    """Of tokens 5, 7 and 9, which the prompt has, the logits are divided by the penalty; one below 0 is multiplied."""
    logits = torch.tensor([0.0, 0.0, 0.0, 0.5, 1.5, 1.0, 0.2, -0.3, -1.0, 2.0])

    def step(last: torch.Tensor, state: ToyState) -> Step:
        return Step(logits.expand(len(last), -1).clone(), state)

    draws = 10_000
    drawn = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    how = SearchConfig(n_best=20, sampling=drawn)
    queries = [Query((SOS, 5, 9, 7), longest=1, seed=seed) for seed in range(draws // 20)]
    found = beam_search(step, ToyState(torch.zeros(draws // 20, 1), draws // 20), queries, config=how)
    counts = Counter(item.tokens[0] if item.tokens else EOS for items in found for item in items)

    allowed = [token for token in range(10) if token not in NEVER]
    changed = {**dict(enumerate(logits.tolist())), 5: 1.0 / penalty, 7: -0.3 * penalty, 9: 2.0 / penalty}
    weights = {token: math.exp(changed[token] / temperature) for token in allowed}
    ranked = sorted(allowed, key=lambda token: -weights[token])[: top_k or None]
    total = math.fsum(weights[token] for token in ranked)
    kept, reached = [], 0.0
    for token in ranked:
        if reached >= top_p:
            break
        kept.append(token)
        reached += weights[token] / total
    kept = [token for token in kept if weights[token] >= min_p * weights[ranked[0]]]
    total = math.fsum(weights[token] for token in kept)
    assert set(counts) <= set(kept)
    chi_square = math.fsum((counts[token] - draws * weights[token] / total) ** 2 / (draws * weights[token] / total) for token in kept)
    degrees = len(kept) - 1
    # The 99.9 % point of chi-square, Wilson and Hilferty's approximation; the seeds are fixed, so this never flickers.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3
    assert chi_square < limit


def test_cold_sampling_is_greedy() -> None:
    model = ToyModel(20)
    cold = search(model, 3, sampling={"temperature": 1e-6})
    greedy = search(model, 3, beams=1)
    assert [items[0].tokens for items in cold] == [items[0].tokens for items in greedy]
    assert cold[0][0].log_probability == pytest.approx(greedy[0][0].log_probability)
