"""Slices add up to the whole, and shares are the counts that one gets by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import DataError, UsageError
from vitrail.evaluation.scores import Recipe, evaluate
from vitrail.evaluation.slices import by_length, challenge, count_words, rare_words, words

QUICK = Recipe(("bleu",), bootstrap=20)


def test_bands_are_scored_as_their_sentences_alone():
    sources = ["a b", "a b c", "a b c d e f", "", "a b c d"]
    hypotheses = ["un chat dort ici .", "deux chats", "trois petits chiens noirs", "x", "la route est longue ce soir"]
    references = [["un chat dort là .", "deux chats", "trois petits chats noirs", "y", "la route est longue ce matin"]]
    bands = by_length(sources, hypotheses, references, edges=(2, 4, 5), recipe=QUICK)
    assert [(band.first, band.last, band.sentences) for band in bands] == [(0, 2, 2), (3, 4, 2), (5, 5, 0), (6, None, 1)]
    assert bands[2].scores == ()
    assert list(bands[1].scores) == evaluate(
        [hypotheses[1], hypotheses[4]], [[references[0][1], references[0][4]]], metrics=["bleu"], bootstrap=20
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=20),
    st.lists(st.integers(0, 30), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_every_sentence_is_in_one_band(lengths, edges):
    sources = ["w " * length for length in lengths]
    bands = by_length(sources, sources, [sources], edges=edges, recipe=Recipe(("bleu",), bootstrap=0))
    for band in bands:
        assert band.sentences == sum(band.first <= length <= (math.inf if band.last is None else band.last) for length in lengths)
    assert sum(band.sentences for band in bands) == len(lengths)


def test_length_can_be_measured_in_characters():
    bands = by_length(["早上好", "早上好吗我的朋友"], ["a", "b"], [["a", "b"]], edges=(5,), recipe=QUICK, length=len)
    assert [band.sentences for band in bands] == [1, 1]


@pytest.mark.parametrize("edges", [(), (3, 3), (5, 2), (-1, 4)])
def test_edges_must_rise(edges):
    with pytest.raises(UsageError):
        by_length(["a"], ["a"], [["a"]], edges=edges, recipe=QUICK)
    with pytest.raises(UsageError):
        rare_words(["a"], ["a"], train_counts={}, edges=edges)


def test_sources_must_be_as_many():
    with pytest.raises(DataError):
        by_length(["a", "b"], ["a"], [["a"]], recipe=QUICK)


def test_words():
    assert words("L'Homme-grenouille nage, à 3 h !") == ["l", "homme", "grenouille", "nage", "à", "3", "h"]
    assert count_words(["Le chat", "le chien"]) == {"le": 2, "chat": 1, "chien": 1}


def test_rare_words_by_hand():
    train = {"the": 900, "cat": 4, "sat": 5, "ocelot": 0}
    unseen, rare, common = rare_words(
        ["The ocelot ocelot sat.", "a cat"], ["the ocelot sat", "cat, cat, heron"], train_counts=train, edges=(0, 4, 9), bootstrap=100
    )
    assert (unseen.name, unseen.found, unseen.total, unseen.share) == ("seen 0 times", 1, 2, 0.5)
    assert (rare.name, rare.found, rare.total) == ("seen 1 to 4 times", 1, 2)
    assert (common.found, common.total, common.share, common.low, common.high) == (1, 1, 1, 1, 1)
    assert (unseen.low, unseen.high) == (0, 1)


def test_no_rare_words_is_no_share():
    (one,) = rare_words(["le chat"], ["le chat"], train_counts={"le": 10, "chat": 10}, edges=(3,))
    assert (one.total, one.share, one.low) == (0, None, None)
    with pytest.raises(DataError):
        rare_words(["a"], [], train_counts={})


@given(st.lists(st.text(alphabet="abc ", max_size=12), min_size=1, max_size=8))
def test_a_text_recalls_itself(texts):
    for one in rare_words(texts, texts, train_counts=count_words(texts), edges=(1, 100), bootstrap=10):
        assert one.found == one.total
        assert one.share in (None, 1)


def test_challenge_has_wilsons_interval():
    sources = [str(number) for number in range(10)]
    one = challenge("negation", sources, sources, passes=lambda source, hypothesis: int(hypothesis) < 8)
    assert (one.name, one.found, one.total, one.share) == ("negation", 8, 10, 0.8)
    # The worked 8 of 10: 0.4902 to 0.9433 in tables of the score interval.
    assert (one.low, one.high) == (pytest.approx(0.4902, abs=5e-5), pytest.approx(0.9433, abs=5e-5))
    perfect = challenge("all", sources, sources, passes=lambda source, hypothesis: source == hypothesis)
    assert perfect.high == pytest.approx(1) and perfect.low == pytest.approx(0.7225, abs=5e-5)


def test_challenge_edges():
    assert challenge("none", [], [], passes=lambda source, hypothesis: True).share is None
    with pytest.raises(DataError):
        challenge("uneven", ["a"], [], passes=lambda source, hypothesis: True)
