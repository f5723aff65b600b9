"""Filters drop what they name and keep good text; nothing is dropped uncounted; time stays linear."""

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.cleaning.clean import CleanConfig, Report, clean, make_filters, normalise, normalise_pair, printable
from vitrail.data.cleaning.filters import DuplicateFilter, HashSet, Reason, RepetitionFilter
from vitrail.data.reading.parallel_text import CUT_MARK, ParallelText, SentencePair
from vitrail.errors import UsageError

odd_text = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40).map(lambda b: b.decode("utf-8", "surrogateescape")),
    st.lists(
        st.sampled_from(["a", " ", "\u00a0", "\u202f", "\x00", "\u2028", "\ufeff", "<br>", "\udcff", "é", "日", "\u0301", "no ", CUT_MARK])
    ).map("".join),
)
pairs_of_text = st.lists(st.tuples(odd_text, odd_text))


def cleaned(*sides: tuple[str, str], config: CleanConfig | None = None) -> tuple[list[tuple[str, str]], Report]:
    report = Report()
    numbered = [SentencePair(source, target, line) for line, (source, target) in enumerate(sides, 1)]
    kept = list(clean(numbered, config=config or CleanConfig(), report=report))
    return [(pair.source, pair.target) for pair in kept], report


def reason_for(source: str, target: str = "Une phrase tout à fait ordinaire.") -> Reason | None:
    kept, report = cleaned((source, target))
    assert bool(kept) != bool(report.dropped)
    return next(iter(report.dropped), None)


# --- laws ----------------------------------------------------------------------------------------------------------------------


@given(sides=pairs_of_text)
@settings(deadline=None, max_examples=50)
def test_every_pair_is_kept_or_counted_once(sides: list[tuple[str, str]]) -> None:
    kept, report = cleaned(*sides)
    assert report.total == len(sides)
    assert report.kept == len(kept)
    assert report.total == report.kept + sum(report.dropped.values())
    json.loads(report.to_json())
    (report.to_json() + report.to_text(explain=True)).encode("utf-8")  # no lone surrogate gets out
    for source, target in kept:
        (source + target).encode("utf-8")
        assert source.strip() == source != ""
        assert target.strip() == target != ""
        assert not set("\n\r\t\x00\u2028\u0085\ufeff") & set(source + target)


@given(sides=pairs_of_text)
@settings(deadline=None, max_examples=50)
def test_cleaning_twice_changes_nothing(sides: list[tuple[str, str]]) -> None:
    kept, _ = cleaned(*sides)
    again, report = cleaned(*kept)
    assert again == kept
    assert report.normalised == 0
    assert not report.dropped


@given(source=odd_text, target=odd_text)
@settings(deadline=None, max_examples=50)
def test_filters_are_pure_and_treat_sides_alike(source: str, target: str) -> None:
    for keep in make_filters(CleanConfig()):
        there, back = keep(SentencePair(source, target, 1)), keep(SentencePair(target, source, 1))
        assert there == back == keep(SentencePair(source, target, 1))


@given(text=odd_text)
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(head=pairs_of_text, tail=pairs_of_text)
@settings(deadline=None, max_examples=50)
def test_reports_add_up(head: list[tuple[str, str]], tail: list[tuple[str, str]]) -> None:
    config = CleanConfig(skip=(Reason.DUPLICATE,))
    _, first = cleaned(*head, config=config)
    _, second = cleaned(*tail, config=config)
    _, whole = cleaned(*head, *tail, config=config)
    first.add(second)
    assert (first.total, first.kept, first.normalised, first.dropped) == (whole.total, whole.kept, whole.normalised, whole.dropped)
    assert {key: len(seen) for key, seen in first.examples.items()} == {key: len(seen) for key, seen in whole.examples.items()}


ADDRESS = "-".join(f"part{number}" for number in range(14))

# --- what is kept --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Yes .", "Oui ."),
        ("Yes, of course I will come with you.", "Oui ."),
        ("No, no, no, no, no!", "Non, non, non, non, non\u202f!"),
        ("I was born in 1984.", "Je suis né en 1984."),
        ("The train to Kyoto was late again this morning.", "京都行きの電車は今朝も遅れました。"),
        ("Rain is expected in the afternoon, so take an umbrella with you when you leave.", "下午有雨，出门请带伞。"),
        ("Could you tell me where the museum is?", "พิพิธภัณฑ์อยู่ที่ไหนครับ"),
        ("My brother plays the guitar.", "मेरा भाई गिटार बजाता है।"),
        ("The token <unk> and <s> or ▁ and @@ are text.", "Le jeton <unk> et <s> ou ▁ et @@ sont du texte."),
        ("Look up <module name here> if 3 < 4 and 5 > 2.", "Cherche <nom de module> si 3 < 4 et 5 > 2."),
        ("Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz is a word.", "C'est un mot allemand."),
        ("Chapter two, on dogs .................... page seven", "Chapitre deux, des chiens . . . . . . . . . . page sept"),
        ("Read it at https://example.org/" + ADDRESS + " today.", "À lire dès aujourd'hui sur WWW.example.org/" + ADDRESS + "."),
        ("Ignore Tom.", "Ignore Tom."),
        ("東京", "東京"),
        ("Family: \U0001f468\u200d\U0001f469\u200d\U0001f467 on a walk", "Une famille en promenade"),
    ],
)
def test_good_pairs_are_kept_as_they_are(source: str, target: str) -> None:
    assert cleaned((source, target))[0] == [(source, target)]


def test_french_spaces_stay_and_controls_become_spaces() -> None:
    assert normalise(" Tu\u00a0viens\u202f?  Oui ! ") == "Tu\u00a0viens\u202f? Oui !"
    assert normalise("a\x00b\tc\u2028d\u0085e\r\x1b\x7ff\ufeffg") == "a b c d e fg"
    assert normalise("\u3000 \u00a0") == ""
    assert normalise_pair(SentencePair(" a", "b ", 7)) == ("a", "b", 7)


# --- what is dropped -----------------------------------------------------------------------------------------------------------

STACKED = "a" + "\u0301" * 2_500
DROPPED = {
    "cut by the reader": ("A sentence" + CUT_MARK, Reason.LENGTH),
    "too many words": ("word and " * 126, Reason.LENGTH),
    "too many characters": (STACKED, Reason.LENGTH),
    "Latin-1 bytes": (b"caf\xe9 cr\xe8me".decode("utf-8", "surrogateescape"), Reason.INVALID_UTF8),
    "overlong form": (b"a slash \xc0\xaf here".decode("utf-8", "surrogateescape"), Reason.INVALID_UTF8),
    "encoded surrogate": (b"half \xed\xa0\x80 pair".decode("utf-8", "surrogateescape"), Reason.INVALID_UTF8),
    "lost character": ("The caf\ufffd is open on Sunday.", Reason.UNUSABLE_CHARACTER),
    "private use": ("An icon \uf0e0 in the text.", Reason.UNUSABLE_CHARACTER),
    "noncharacter": ("A mark \U0001fffe in the text.", Reason.UNUSABLE_CHARACTER),
    "empty": ("", Reason.EMPTY_SIDE),
    "white space": (" \t\u00a0\u3000", Reason.EMPTY_SIDE),
    "zero width": ("\u200b\u200d \u2060", Reason.EMPTY_SIDE),
    "only NUL": ("\x00\x00", Reason.EMPTY_SIDE),
    "tag": ("A line<br/>and another one here.", Reason.HTML_TAG),
    "tag with attribute": ('See <A HREF="page">this page</A> please.', Reason.HTML_TAG),
    "unequal": ("An ordinary sentence that goes on and on, far beyond what its translation says, " * 3, Reason.LENGTH_RATIO),
    "long word": ("x" * 30 + "y" * 30 + "z" * 30, Reason.LONG_WORD),
    "few letters": ("12:45 - 13:50 - 14:55 - 15:60", Reason.ALPHABET_RATIO),
    "a word repeated": ("it is very very very very very very good", Reason.REPETITION),
    "words repeated": ("one two three " * 6, Reason.REPETITION),
    "letters repeated": ("That is sooooooooooooooooo good", Reason.REPETITION),
    "syllables repeated": ("Funny, hahahahahahahahaha indeed", Reason.REPETITION),
    "Japanese repeated": ("笑って" * 8, Reason.REPETITION),
    "letters among marks repeated": ("- " * 9 + "ha! " * 9, Reason.REPETITION),
    "identical": ("une phrase tout à fait ORDINAIRE.", Reason.IDENTICAL),
}


@pytest.mark.parametrize(("text", "reason"), DROPPED.values(), ids=DROPPED.keys())
def test_bad_sides_are_dropped_by_name(text: str, reason: Reason) -> None:
    assert reason_for(text) == reason
    ordinary = "Une phrase tout à fait ordinaire."
    _, report = cleaned((ordinary, text))
    assert report.dropped == {reason: 1}


def test_text_without_spaces_that_was_not_translated_is_dropped() -> None:
    assert reason_for("今朝は雨が降りました", "今朝は雨が降りました") == Reason.IDENTICAL


@given(sides=pairs_of_text)
@settings(deadline=None, max_examples=50)
def test_a_report_survives_json(sides: list[tuple[str, str]]) -> None:
    _, report = cleaned(*sides)
    assert Report.from_dict(json.loads(report.to_json())) == report


def test_every_reason_can_occur() -> None:
    assert {reason for _, reason in DROPPED.values()} == set(Reason) - {Reason.DUPLICATE}


def test_duplicates_are_dropped_after_the_first() -> None:
    kept, report = cleaned(
        ("Hello there.", "Bonjour."), (" Hello  there.", "Bonjour. "), ("Hello there.", "Salut."), ("Hello there.\nB", "onjour.")
    )
    assert kept == [("Hello there.", "Bonjour."), ("Hello there.", "Salut."), ("Hello there. B", "onjour.")]
    assert report.dropped == {Reason.DUPLICATE: 1}
    assert report.examples["DuplicateFilter"][0].line == 2


def test_99_percent_duplicates_are_counted() -> None:
    _, report = cleaned(*[(f"Sentence {n % 10}.", f"Phrase {n % 10} !") for n in range(1_000)])
    assert report.kept == 10
    assert report.dropped == {Reason.DUPLICATE: 990}


def test_filters_can_be_left_out_but_not_the_needed_ones() -> None:
    assert cleaned(("a <b>c</b>", "d"), config=CleanConfig(skip=(Reason.HTML_TAG,)))[0] == [("a <b>c</b>", "d")]
    assert cleaned(("a b", "c d"), ("a b", "c d"), config=CleanConfig(skip=(Reason.DUPLICATE,)))[1].kept == 2
    with pytest.raises(UsageError, match="EmptySide"):
        CleanConfig(skip=(Reason.EMPTY_SIDE,))


def test_repetition_counts_to_the_threshold() -> None:
    keep = RepetitionFilter(3)
    for times, reason in ((3, None), (4, Reason.REPETITION)):
        assert keep(SentencePair("x y " * times + "end", "t", 1)) == reason
    assert keep(SentencePair("ab" * 7, "t", 1)) is None  # shorter than 16 characters
    assert keep(SentencePair("ab" * 8, "t", 1)) == Reason.REPETITION


# --- time, memory, report ------------------------------------------------------------------------------------------------------

HOSTILE = {
    "combining marks": "a" + "\u0301\u0323" * 100_000,
    "one long word": "abcdefghij" * 40_000,
    "one letter": "a" * 300_000,
    "spaces": " " * 300_000 + "a",
    "controls": "\x00 " * 100_000,
    "open tags": "<a " * 70_000,
    "attributes": "<a " + "= " * 100_000,
    "words almost repeating": "a b c d e f g h i " * 10_000,
    "zero width": "\u200b" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_lines_take_linear_time_in_every_filter(text: str) -> None:
    config = CleanConfig(max_words=10**9, max_characters=10**9)  # so that LengthFilter protects no other
    started = time.process_time()
    text = normalise(text)
    for keep in (*make_filters(config), DuplicateFilter()):
        keep(SentencePair(text, "x", 1))
    assert time.process_time() - started < 10.0  # linear: well under one; quadratic: minutes to hours


@given(numbers=st.lists(st.one_of(st.integers(1, 2**64 - 1), st.integers(1, 40).map(lambda n: n << 12))))
def test_hash_set_is_a_set(numbers: list[int]) -> None:
    ours, reference = HashSet(), set[int]()
    for number in numbers:
        assert ours.add(number) == (number not in reference)
        reference.add(number)
    assert len(ours) == len(reference)


def test_hash_set_grows() -> None:
    draw = random.Random(1)
    numbers = [draw.getrandbits(64) | 1 for _ in range(5_000)]
    ours = HashSet()
    assert all(ours.add(number) for number in numbers)
    assert not any(ours.add(number) for number in numbers)
    assert len(ours) == 5_000


def test_report_shows_counts_and_examples_fit_for_a_terminal() -> None:
    _, report = cleaned(("one\x1b[31m  two", "un deux"), ("<br>\u202e" + "x" * 300, "y"), *[("", f"z{n}") for n in range(8)])
    assert json.loads(report.to_json())["dropped"] == {"EmptySide": 8, "HtmlTagFilter": 1}
    assert len(report.examples["EmptySide"]) == 5
    text = report.to_text(explain=True)
    assert "1 of 10 pairs kept (10.00%)" in text
    assert "line 1: one\\x1b[31m  two  |  un deux\n      becomes: one [31m two  |  un deux" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "EmptySide" in report.to_text()
    assert "line 3" not in report.to_text()
    assert printable("é\udcff\n") == "é\\udcff\\n"


MULTI30K = Path(__file__).parents[3] / "shared" / "data" / "multi30k"


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="Multi30k is not here")
def test_a_good_corpus_is_kept() -> None:
    report = Report()
    text = ParallelText(source=MULTI30K / "val.en", target=MULTI30K / "val.fr")
    assert sum(1 for _ in clean(text.pairs(), config=CleanConfig(), report=report)) >= 0.999 * report.total
