"""Each pair is held against its own corpus: good pairs of any script are kept, bad ones are caught, also where half of all are bad."""

import random
from pathlib import Path

import pytest
from invented import (
    LANGUAGES,
    LATIN,
    Language,
    Noise,
    encoded,
    figures,
    lost,
    misaligned,
    parallel,
    repeating,
    spoil,
    tagged,
    truncated,
    untranslated,
)

from vitrail.data.cleaning.clean import CleanConfig, Report, clean
from vitrail.data.cleaning.filters import Reason
from vitrail.data.cleaning.typical import UNMEASURED, measure_typical, survey
from vitrail.data.reading.parallel_text import ParallelText, SentencePair

directions = pytest.mark.parametrize(
    ("source", "target"),
    [sides for language in LANGUAGES for sides in ((LATIN, language), (language, LATIN))],
    ids=lambda language: language.name,
)


MEASURED = [language for language in LANGUAGES if language.name in ("Hindi", "Burmese", "Chinese", "Greenlandic")]


def dropped(pairs: list[SentencePair]) -> dict[int, Reason]:
    report = Report()
    kept = {pair.line for pair in clean(pairs, config=CleanConfig(), report=report, typical=measure_typical(pairs))}
    assert report.total == report.kept + sum(report.dropped.values())
    return {pair.line: next(iter(report.dropped)) for pair in pairs if pair.line not in kept}


def in_bytes(pair: SentencePair) -> bool:
    """The rule of before: four times as many bytes are too many, whatever the language."""
    sizes = [len(side.encode()) + 20 for side in pair[:2]]
    return max(sizes) > 4 * min(sizes)


@directions
def test_good_pairs_of_every_script_are_kept(source: Language, target: Language) -> None:
    assert dropped(parallel(source, target, count=400)) == {}


def test_the_rule_in_bytes_dropped_good_pairs_and_this_one_does_not() -> None:
    tamil = next(language for language in LANGUAGES if language.name == "Tamil")
    pairs = parallel(LATIN, tamil, count=400)
    assert sum(map(in_bytes, pairs)) > 0.3 * len(pairs)
    assert dropped(pairs) == {}


@pytest.mark.parametrize("count", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_small_corpora_are_kept_whole(language: Language, count: int) -> None:
    assert dropped(parallel(LATIN, language, count=count)) == {}
    assert dropped(parallel(language, LATIN, count=count)) == {}


CAUGHT: dict[Noise, float] = {
    truncated: 0.65,  # short ones may say as much in a few letters
    untranslated: 0.9,  # those of two words and fewer may be names
    tagged: 1.0,
    figures: 1.0,
    repeating: 1.0,
    encoded: 1.0,
    lost: 1.0,
}


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("noise", CAUGHT, ids=lambda noise: noise.__name__)
def test_bad_pairs_are_caught_and_good_ones_among_them_kept(noise: Noise, share: float) -> None:
    for language in MEASURED:
        for sides in ((LATIN, language), (language, LATIN)):
            pairs, bad = spoil(parallel(*sides, count=200), noise, share=share)
            gone = set(dropped(pairs))
            assert len(gone & bad) >= CAUGHT[noise] * len(bad), (language.name, measure_typical(pairs))
            assert len(gone - bad) <= 0.01 * len(pairs), (language.name, measure_typical(pairs))


def test_more_truncated_and_misaligned_pairs_are_caught_than_by_bytes() -> None:
    for noise, least in ((truncated, 1.3), (misaligned, 0.8)):
        now = before = 0
        for language in MEASURED:
            for sides in ((LATIN, language), (language, LATIN)):
                good = parallel(*sides, count=200)
                pairs, bad = spoil(good, noise, share=0.1)
                now += len(set(dropped(pairs)) & bad)
                before += 0 if any(map(in_bytes, good)) else sum(in_bytes(pair) for pair in pairs if pair.line in bad)
        assert now >= least * before > 0, (noise, now, before)


def test_the_usual_ratio_is_that_of_the_good_half() -> None:
    for language in MEASURED:
        good = parallel(LATIN, language, count=200)
        usual = measure_typical(good).length_ratio
        for noise in (misaligned, truncated, figures, untranslated):
            assert measure_typical(spoil(good, noise, share=0.5)[0]).length_ratio == pytest.approx(usual, rel=0.25), (language.name, noise)


def test_lines_may_stay_the_same_between_two_forms_of_one_language_only() -> None:
    british = parallel(LATIN, LATIN._replace(name="other"), count=400)
    american = [
        pair._replace(target=pair.source if pair.line % 3 else pair.source.replace("ou", "o").replace("re", "er").replace("is", "iz"))
        for pair in british
    ]
    assert dropped(american) == {}
    copied, bad = spoil(british, untranslated, share=0.9)
    assert len(set(dropped(copied)) & bad) >= 0.95 * len(bad)


def test_words_may_be_long_where_they_are() -> None:
    unknown = Language("written without spaces, in letters that are usually not", "ავგდეზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ", between="")
    pairs = parallel(LATIN, unknown, count=200)
    assert max(len(pair.target) for pair in pairs) > 80
    assert dropped(pairs) == {}
    joined = [pairs[0]._replace(source=pairs[0].source.replace(" ", "") * 20, line=0)]
    assert len(joined[0].source) > 80
    assert set(dropped([*joined, *pairs])) >= {0}


def test_letters_of_the_private_use_area_are_kept_where_a_text_is_written_in_them() -> None:
    tengwar = Language("private", "".join(map(chr, range(0xE000, 0xE030))))
    assert dropped(parallel(LATIN, tengwar, count=100)) == {}
    pairs = parallel(LATIN, LATIN._replace(letters="aeioumnrst"), count=100)
    icons = [pair._replace(target="\uf0e0 " + pair.target) if pair.line % 20 == 0 else pair for pair in pairs]
    assert set(dropped(icons)) == {20, 40, 60, 80, 100}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("the {0} of May {1}", "{1}-05-{0:02d}"),
        ("{0} plus {1}", "{0}+{1}"),
        ("nine hundred and ninety-nine thousand nine hundred and ninety-nine {0} thousand and {1} millionths", "{0},{1}"),
        ("vingt {0} {1}", "\u2800\u2813\u2815 \u2803{0}{1}"),
        ("кот {0} и пёс {1}", "🐱{0}🐶{1}"),
        ("ein Hund {0} {1}", ".- -... {0} -.-. {1} -.. . ..-. --. .... .. .--- -.-"),
    ],
)
def test_a_side_that_is_written_without_letters_is_kept(line: str, written: str, swapped: bool) -> None:
    pairs = [(line.format(day, year), written.format(day, year)) for day in range(10, 30) for year in range(1960, 2000)]
    pairs = [(target, source) for source, target in pairs] if swapped else pairs
    assert not dropped([SentencePair(*both, number) for number, both in enumerate(pairs)])


def test_lines_without_letters_among_others_are_dropped() -> None:
    text = [(f"a plain sentence about {number}", f"eine Aussage über {number}") for number in range(100, 400)]
    pairs = [*text, *[(source, "- - -") for source, _ in text[:250]]]
    found = dropped([SentencePair(*both, number) for number, both in enumerate(pairs)])
    assert set(found) == set(range(300, 550))


def test_lines_of_digits_are_kept_where_both_sides_hold_the_same() -> None:
    def reason(source: str, target: str) -> Reason | None:
        report = Report()
        list(clean([SentencePair(source, target, 1)], config=CleanConfig(), report=report))
        return next(iter(report.dropped), None)

    assert reason("6-4, 3-6, 7-6 (7-2)", "6:4, 3:6, 7:6 (7:2)") is None
    assert reason("6-4, 3-6, 7-6 (7-2)", "6-4, 3-6, 7-6 (7-2)") is None
    assert reason("10 / 12 / 2018", "١٠ / ١٢ / ٢٠١٨") is None
    assert reason("6-4, 3-6, 7-6 (7-2)", "6:4, 3:6, 7:6 (7:3)") == Reason.ALPHABET_RATIO
    assert reason("- - -", "* * *") == Reason.ALPHABET_RATIO


def test_nothing_is_known_of_nothing() -> None:
    assert measure_typical([]) == UNMEASURED
    assert measure_typical([SentencePair("", "x", 1), SentencePair("\udcff", "y", 2)]) == UNMEASURED


def test_a_survey_draws_evenly_and_gives_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.data.cleaning.typical.SAMPLE", 100)
    # In order of length, as sorted corpora are: the first pairs alone would mislead.
    pairs = sorted(parallel(LATIN, LANGUAGES[4], count=1000), key=lambda pair: len(pair.target) / len(pair.source))
    for side in ("source", "target"):
        (tmp_path / side).write_text("".join(f"{getattr(pair, side)}\n" for pair in pairs))
    corpus = ParallelText(source=tmp_path / "source", target=tmp_path / "target")
    found = survey([(corpus, 1000)])
    assert found == survey([(corpus, 1000)])
    assert found.typical[0].length_ratio == pytest.approx(measure_typical(pairs).length_ratio, rel=0.1)
    random.Random(0).shuffle(pairs)
    assert measure_typical(pairs).length_ratio == pytest.approx(measure_typical(pairs[::-1]).length_ratio, rel=1e-6)
