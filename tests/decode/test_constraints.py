"""What is asked for must be in the translation, what is forbidden must not, for any model."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toy import ToyModel, every_translation, query

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.beams import Observation, beam_search
from vitrail.decode.search.constraints import Constraints, contains, forced_progress, repeats
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError

SEEDS = st.integers(0, 10_000)


def search(model: ToyModel, constraints: list[Constraints], **changes: object) -> list[list[Hypothesis]]:
    how = SearchConfig.model_validate({"beams": 4, "repeat_ngram": 0, "max_ratio": 0.0, "max_extra": 8} | changes)
    return beam_search(model.step, model.sentences(len(constraints)), [query(how, constraints=wish) for wish in constraints], config=how)


@given(seed=SEEDS, prefix=st.lists(st.integers(4, 11), max_size=4), beams=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_prefix_is_kept_and_scored(seed: int, prefix: list[int], beams: int) -> None:
    model = ToyModel(12, seed=seed)
    free, found = search(model, [Constraints(), Constraints(prefix=tuple(prefix))], beams=beams, n_best=beams)
    assert free == search(model, [Constraints(), Constraints()], beams=beams, n_best=beams)[0]
    for item in found:
        assert item.tokens[: len(prefix)] == tuple(prefix)
        start = model.sentences(2).hidden[1]
        expected = [model.log_probs(start, prefix[:at])[token] for at, token in enumerate(prefix)]
        assert item.token_log_probabilities[: len(prefix)] == pytest.approx(expected, abs=1e-5)


def test_prefix_is_stronger_than_what_is_forbidden() -> None:
    wish = Constraints(prefix=(1, 6, 6), forbidden=((6,), (7, 8)))
    found = search(ToyModel(12), [wish])[0][0]
    assert found.tokens[:3] == (1, 6, 6)
    assert 6 not in found.tokens[3:]


@given(seed=SEEDS, forbidden=st.lists(st.lists(st.integers(4, 9), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_forbidden_sequences_never_occur(seed: int, forbidden: list[tuple[int, ...]]) -> None:
    found = search(ToyModel(10, seed=seed), [Constraints(), Constraints(forbidden=tuple(forbidden))], n_best=4)
    assert not any(contains(item.tokens, banned) for item in found[1] for banned in forbidden)


def test_forbidding_what_does_not_occur_changes_nothing() -> None:
    model = ToyModel(12, seed=1)
    best = search(model, [Constraints()], beams=12**2, max_extra=3)[0][0]
    other = next(token for token in range(4, 12) if token not in best.tokens)
    assert search(model, [Constraints(forbidden=((other, other),))], beams=12**2, max_extra=3)[0][0] == best


def test_everything_forbidden_ends_all_the_same() -> None:
    wish = Constraints(forbidden=tuple((token,) for token in range(3, 12)))
    found = search(ToyModel(12), [wish, Constraints()])
    assert found[0] == [Hypothesis((), 0.0, 0.0, (), truncated=True)]
    assert not found[1][0].truncated or found[1][0].tokens


@given(
    seed=SEEDS,
    words=st.lists(
        st.lists(st.lists(st.integers(4, 11), min_size=1, max_size=3).map(tuple), min_size=1, max_size=2).map(tuple), min_size=1, max_size=3
    ),
    beams=st.integers(1, 6),
)
@settings(max_examples=15, deadline=None)
def test_forced_words_occur(seed: int, words: list[tuple[tuple[int, ...], ...]], beams: int) -> None:
    model = ToyModel(12, seed=seed, end_bias=1.0)
    found = search(model, [Constraints(forced=tuple(words)), Constraints()], beams=beams, n_best=beams, max_extra=30)
    assert found[1] == search(model, [Constraints(), Constraints()], beams=beams, n_best=beams, max_extra=30)[1]
    assert found[0]
    for item in found[0]:
        assert item.truncated or all(any(contains(item.tokens, spelling) for spelling in word) for word in words)
    assert len({item.tokens for item in found[0]}) == len(found[0])


@pytest.mark.parametrize("seed", range(6))
def test_forced_words_stand_in_the_best_place(seed: int) -> None:
    model, cap = ToyModel(8, seed=seed), 4
    word = ((5, 6), (7,))
    found = search(model, [Constraints(forced=(word,))], beams=8**cap, max_extra=cap, length_penalty=0.5)[0][0]
    start = model.sentences(1).hidden[0]
    best = next(item for item in every_translation(model, start, cap=cap, alpha=0.5) if any(contains(item.tokens, part) for part in word))
    assert found.tokens == best.tokens
    assert found.score == pytest.approx(best.score, abs=1e-5)


@st.composite
def searches(draw: st.DrawFn) -> tuple[ToyModel, dict[str, object]]:
    """A random model, and a way to search in it."""
    model = ToyModel(12, seed=draw(SEEDS), end_bias=draw(st.sampled_from([-1.0, 0.0, 1.0, 2.0])))
    beams = draw(st.integers(1, 5))
    alpha = draw(st.sampled_from([0.0, 0.6, 1.0, 2.0]))
    return model, {"beams": beams, "n_best": draw(st.integers(1, beams)), "length_penalty": alpha, "max_extra": 16}


@given(searches(), st.data())
@settings(max_examples=25, deadline=None)
def test_a_wish_that_is_granted_anyway_costs_nothing(asked: tuple[ToyModel, dict[str, object]], data: st.DataObject) -> None:
    """To force what the best holds never makes it worse, whatever else is asked for; nor does a prefix or a ban that it keeps."""
    model, how = asked
    tokens = st.integers(4, 11)
    base = Constraints(
        prefix=tuple(data.draw(st.lists(tokens, max_size=2))),
        forbidden=tuple(data.draw(st.lists(st.lists(tokens, min_size=1, max_size=2).map(tuple), max_size=2))),
    )
    best = search(model, [base], **how)[0][0]
    assume(not best.truncated and len(best.tokens) > len(base.prefix))
    at = data.draw(st.integers(len(base.prefix), len(best.tokens) - 1))
    absent = next((a, b) for a in range(4, 12) for b in range(4, 12) if not contains(best.tokens, (a, b)))
    constraints = [replace(base, forced=((best.tokens[at : at + 2],),))]
    if not base.is_active:
        constraints += [Constraints(prefix=best.tokens[: at + 1]), Constraints(forbidden=(absent,))]
    for wish in constraints:
        found = search(model, [wish], **how)[0]
        assert not found[0].truncated
        assert found[0].score >= best.score
        assert all(wish.satisfied_by(item.tokens) for item in found if not item.truncated)
        assert len({item.tokens for item in found}) == len(found)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_all_wishes_together_find_the_best_of_all_that_grant_them(seed: int, alpha: float) -> None:
    model, cap = ToyModel(8, seed=seed), 5
    wish = Constraints(prefix=(4,), forbidden=((5, 5), (7,)), forced=(((5, 6), (6, 5)), ((4, 4),)), joins=lambda left, right: right == 7)
    found = search(model, [wish], beams=4**4, n_best=3, max_extra=cap - 1, length_penalty=alpha)[0]
    start = model.sentences(1).hidden[0]
    expected = [item for item in every_translation(model, start, cap=cap, alpha=alpha) if wish.satisfied_by(item.tokens)][:3]
    assert [item.tokens for item in found if not item.truncated] == [item.tokens for item in expected]
    assert [item.score for item in found if not item.truncated] == pytest.approx([item.score for item in expected], abs=1e-5)


@given(seed=SEEDS, beams=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_no_sentence_feels_what_its_neighbours_wish(seed: int, beams: int) -> None:
    """Sentences that need more beams than others do not lend them any."""
    model = ToyModel(12, seed=seed, end_bias=1.0)
    constraints = [Constraints(), Constraints(forced=(((4, 5, 6),), ((7,),))), Constraints(forbidden=((8,),)), Constraints(prefix=(9,))]
    together = search(model, constraints, beams=beams, n_best=beams, max_extra=12)
    for row, wish in enumerate(constraints):
        alone = [wish if place == row else Constraints() for place in range(4)]
        assert search(model, alone, beams=beams, n_best=beams, max_extra=12)[row] == together[row]


def test_an_observer_sees_the_last_search_of_each_sentence() -> None:
    """Of a sentence whose wish is granted anyway, the search without it; each from its first step to its end, whoever is beside it."""
    model = ToyModel(12, seed=2, end_bias=1.0)
    free = search(model, [Constraints()] * 3)
    absent = next(token for token in range(4, 12) if all(token not in items[0].tokens for items in free))
    constraints = [Constraints(forbidden=((absent,),)), Constraints(forced=(((absent, absent),),)), Constraints()]
    seen: list[Observation] = []
    how = SearchConfig(beams=2, repeat_ngram=0)
    queries = [Query(longest=8, constraints=wish) for wish in constraints]
    found = beam_search(model.step, model.sentences(3), queries, config=how, observe=seen.append)
    for sentence, beams in enumerate((2, 3, 2)):
        own = [one for one in seen if sentence in one.sentences]
        assert [one.length for one in own] == list(range(len(own))) and own
        assert {one.selection.live.shape[1] for one in own} == {beams}
        ended = [one.length for one in own if one.selection.ended.any()]
        assert len(found[sentence][0].tokens) in ended or found[sentence][0].truncated


def test_a_search_for_what_cannot_win_ends() -> None:
    """The number of steps is bounded by the limit of length in each of the three searches."""
    model = ToyModel(12, end_bias=-2.0)
    search(model, [Constraints(forced=(((4,),),), forbidden=((5,),))], max_extra=30)
    assert len(model.rows_seen) <= 3 * 30


def test_a_word_inside_a_longer_one_does_not_count() -> None:
    wish = Constraints(forced=(((4, 5),),), joins=lambda previous, following: following == 9)
    assert forced_progress([4, 5], wish).complete
    assert forced_progress([6, 4, 5, 6], wish).complete
    assert forced_progress([4, 5, 9], wish).met == 0
    assert forced_progress([4, 5, 9, 4], wish) == (1, False, (4, 5))
    model = ToyModel(12)
    model.readout_bias[9] = 3.0
    for item in search(model, [wish], n_best=4, max_extra=20)[0]:
        assert item.truncated or any(item.tokens[at : at + 2] == (4, 5) and item.tokens[at + 2 : at + 3] != (9,) for at in range(20))


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match="forced and forbidden"):
        Constraints(forced=(((4, 5, 6),),), forbidden=((5,),))
    with pytest.raises(UsageError, match="without tokens"):
        Constraints(forbidden=((),))
    Constraints(forced=(((4, 5, 6), (7,)),), forbidden=((5,),))


@given(seed=SEEDS, ngram=st.integers(1, 3), times=st.integers(1, 3), beams=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_nothing_is_repeated_too_often(seed: int, ngram: int, times: int, beams: int) -> None:
    model = ToyModel(7, seed=seed, end_bias=-3.0)
    constraints = [Constraints(), Constraints(guard_repeats=False)]
    found = search(model, constraints, beams=beams, n_best=beams, repeat_ngram=ngram, max_repeats=times, max_extra=20)
    for item in found[0]:
        counts = Counter(tuple(item.tokens[at : at + ngram]) for at in range(len(item.tokens) - ngram + 1))
        assert max(counts.values(), default=0) <= times
        assert not repeats(item.tokens, ngram=ngram, times=times)
    assert found[1] == search(model, constraints, beams=beams, n_best=beams, max_extra=20)[1]


def test_the_guard_stops_a_loop_by_default() -> None:
    model = ToyModel(12)
    model.readout.zero_()
    model.readout_bias[:] = torch.tensor([0.0, 0, 0, -30, *[0] * 4, 20, 0, 0, 0])
    model.readout_bias[EOS] = -5.0
    guarded, loose = (search(model, [Constraints()], max_extra=40, beams=1, repeat_ngram=size)[0][0] for size in (3, 0))
    assert loose.tokens == (8,) * 40
    assert not contains(guarded.tokens, (8,) * 11)
    assert repeats(loose.tokens, ngram=3, times=8)


@given(tokens=st.lists(st.integers(0, 2), max_size=30), ngram=st.integers(1, 3), times=st.integers(1, 6))
def test_repeats_are_counted(tokens: list[int], ngram: int, times: int) -> None:
    counts = Counter(tuple(tokens[at : at + ngram]) for at in range(len(tokens) - ngram + 1))
    assert repeats(tokens, ngram=ngram, times=times) == (max(counts.values(), default=0) > times)
