"""Whether a model has learned to translate: verdicts on measured figures, and the figures of those who say nothing."""

import itertools
import math

import pytest

from vitrail.evaluation.curves import Point
from vitrail.evaluation.learned import LITTLE, OWN, SOURCE_WEAK, check_learning, estimate_training, own_and_other, spread

WORDS = {
    "French": ("Le {0} {1} la {2}.", "chat roi fou vent", "voit prend", "rue mer"),
    "Japanese": ("{0}は{2}を{1}。", "猫 王様 風 先生", "見る 取る", "通り 海"),
    "Arabic": ("{1} {0} {2}", "القط الملك الريح الولد", "يرى يأخذ", "الشارع البحر"),
    "Hindi": ("{0} {2} {1} है", "बिल्ली राजा हवा लड़का", "देखता लेता", "सड़क समुद्र"),
}
REFERENCES = {
    language: [pattern.format(*words) for words in itertools.product(*map(str.split, columns))]
    for language, (pattern, *columns) in WORDS.items()
}


@pytest.mark.parametrize("language", REFERENCES)
def test_the_same_for_every_sentence_fits_the_others_as_well(language: str) -> None:
    references = REFERENCES[language]
    for nothing in ([references[0]] * len(references), [""] * len(references), ["?"] * len(references)):
        chrf = own_and_other(nothing, references)
        assert chrf is not None and check_learning(dev_loss=1.0, entropy=5.0, gain=2.0, chrf=chrf).doubts
    perfect = own_and_other(references, references)
    assert perfect is not None and perfect[0] == pytest.approx(100) and perfect[1] < 80
    assert not check_learning(dev_loss=1.0, entropy=5.0, gain=2.0, chrf=perfect).doubts
    half = own_and_other([*references[:8], *[references[0]] * 8], references)
    assert half is not None and not check_learning(dev_loss=1.0, entropy=5.0, gain=2.0, chrf=half).doubts


def test_right_sentences_in_a_wrong_order_are_no_translations() -> None:
    references = REFERENCES["French"]
    found = own_and_other([*references[3:], *references[:3]], references)
    assert found is not None and check_learning(dev_loss=1.0, entropy=5.0, gain=None, chrf=found).doubts
    assert own_and_other(["a"] * 7, [f"{n}" for n in range(7)]) is None, "seven are too few"


@pytest.mark.parametrize(
    ("dev_loss", "gain", "chrf", "told"),
    [
        (2.0, 2.4, (50.0, 15.0), None),
        (2.0, None, None, None),
        (2.6, 1.2, (30.0, 16.0), None),  # a poor translator is one
        (LITTLE * 5 + 0.01, 2.4, (50.0, 15.0), "unigram entropy"),
        (math.nan, 2.4, (50.0, 15.0), "unigram entropy"),
        (2.0, SOURCE_WEAK - 0.01, (50.0, 15.0), "wrong source"),
        (2.0, math.nan, (50.0, 15.0), "wrong source"),
        (2.0, 2.4, (15.0 + 85 * OWN - 0.1, 15.0), "references of other sentences"),
        (2.0, 2.4, (15.0 + 85 * OWN + 0.1, 15.0), None),
    ],
)
def test_each_figure_may_speak_against_it(dev_loss: float, gain: float | None, chrf: tuple[float, float] | None, told: str | None) -> None:
    found = check_learning(dev_loss=dev_loss, entropy=5.0, gain=gain, chrf=chrf)
    assert len(found.doubts) == (told is not None)
    assert told is None or told in found.doubts[0]


def curve(*losses: float, every: int = 100) -> list[Point]:
    return [Point(every * place, place * 1.0, loss, 0.0) for place, loss in enumerate(losses, 1)]


def test_what_would_be_enough_follows_the_learning_curve() -> None:
    """The loss falls by 0.5 nats with each doubling of the steps: from 4.0 at 4,000 to 3.0 takes two more."""
    falling = [Point(1_000, 1, 5.0, 0), Point(2_000, 2, 4.5, 0), Point(4_000, 4, 4.0, 0)]
    found = estimate_training(falling, entropy=3.0 / LITTLE, steps=4_000, minutes=4.0)
    assert found.steps == pytest.approx(16_000, rel=0.01) and found.minutes == pytest.approx(16, rel=0.01)
    nearly = estimate_training(falling, entropy=4.0 / LITTLE, steps=4_000, minutes=4.0)
    assert nearly.steps == 8_000, "at least twice as long"
    flat = estimate_training([Point(1_000, 1, 5.0, 0), Point(4_000, 4, 4.9999, 0)], entropy=1.0, steps=4_000, minutes=4.0)
    assert flat.steps == 32_000, "a curve cannot be extrapolated further"
    short = [Point(38, 1, 4.74, 0), Point(75, 2, 4.27, 0), Point(150, 4, 3.97, 0)]
    assert estimate_training(short, entropy=5.9, steps=150, minutes=3.0).steps == 2_000, "the least that is planned"


@pytest.mark.parametrize("losses", [(), (5.0,), (5.0, 5.2), (math.inf, math.nan)])
def test_without_a_curve_it_is_what_is_planned_at_least(losses: tuple[float, ...]) -> None:
    assert estimate_training(curve(*losses), entropy=5.0, steps=100, minutes=2.0).steps == 2_000
    assert estimate_training(curve(*losses), entropy=5.0, steps=3_000, minutes=2.0).steps == 6_000


def test_places_are_evenly_spread() -> None:
    assert spread(10, 4) == [0, 2, 5, 7] and spread(3, 8) == [0, 1, 2] and spread(0, 8) == []
