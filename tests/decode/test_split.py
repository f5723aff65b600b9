"""Parts put together give the text back, sentence ends are found with care, and every part fits."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data import boundaries
from vitrail.decode.textual.split import TextPart, split_sentences, split_to_fit

TEXTS = st.one_of(st.text(), st.text(alphabet='ab A.!?…。 \n\t,"»)1'))


def texts(text: str) -> list[str]:
    return [part.text for part in split_sentences(text)]


@given(TEXTS)
@settings(deadline=None)
def test_nothing_is_lost_between_sentences(text: str) -> None:
    assert "".join(part.text + part.separator for part in split_sentences(text)) == text
    assert all(part.separator == "" or part.separator.isspace() for part in split_sentences(text))
    assert not any(part.cut for part in split_sentences(text))


@given(TEXTS, st.integers(1, 9))
@settings(deadline=None)
def test_nothing_is_lost_and_everything_fits(text: str, limit: int) -> None:
    parts = split_to_fit(text, length=len, comfortable=limit, limit=limit)
    assert "".join(part.text + part.separator for part in parts) == text
    assert all(len(part.text) <= limit for part in parts)


@pytest.mark.parametrize(
    "sentences",
    [
        ["The kettle sings.", "Who will lift it?", "Nobody!"],
        ["« Il pleut. »", "Elle rit…", "Puis « Viens ! »", "Fin."],
        ['She said "Go."', "He went."],
        ["今日は雨です。", "傘を持って行こう！", "本当？"],
        ["Es ist 5 Uhr.", "Wir gehen."],
        ["Wait...", "What?!", "(No.)", "Yes."],
    ],
)
def test_sentence_ends(sentences: list[str]) -> None:
    joint = "" if sentences[0].endswith("。") else "  "
    assert texts(joint.join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "Mr. Smith met Dr. A. Jones at 5 p.m. Tuesday.",
        "It weighs 3.5 kg, i.e. Too much.",
        "M. Dupont et Mme. Roy sont là.",
        "Visit www.example.org/page.Here now",
        "She left... and came back.",
        "Am 3. Mai fuhr er los.",
        "The U.S. Army left.",
        "no end at all",
        "",
    ],
)
def test_no_sentence_end(sentence: str) -> None:
    assert texts(sentence) == [sentence]


def test_short_text_stays_whole() -> None:
    assert split_to_fit("One. Two.", length=len, comfortable=9, limit=9) == [TextPart("One. Two.", "")]
    assert split_to_fit("One. Two.", length=len, comfortable=8, limit=8) == [TextPart("One.", " "), TextPart("Two.", "")]


def test_sentences_may_be_longer_than_comfortable() -> None:
    assert split_to_fit("One of two. Two.", length=len, comfortable=5, limit=11) == [TextPart("One of two.", " "), TextPart("Two.", "")]


def test_a_long_sentence_is_cut_between_words_and_marked() -> None:
    text = "the old mill by the river, which nobody had seen turn, began to move"
    parts = split_to_fit(text, length=lambda part: len(part.split()), comfortable=8, limit=8)
    assert parts == [
        TextPart("the old mill by the river,", " ", cut=True),
        TextPart("which nobody had seen turn, began to move", "", cut=True),
    ]


def test_a_huge_word_is_cut_in_linear_time() -> None:
    measured = 0

    def length(text: str) -> int:
        nonlocal measured
        measured += len(text)
        return len(text)

    parts = split_to_fit("x" * 100_000, length=length, comfortable=200, limit=200)
    assert "".join(part.text for part in parts) == "x" * 100_000
    assert all(part.cut and len(part.text) <= 200 for part in parts)
    assert measured < 100_000 * 12


def test_a_long_tail_of_marks_does_not_take_for_ever() -> None:
    assert texts("." * 100_000) == ["." * 100_000]
    assert len(texts("A. " * 30_000)) == 1


def test_text_without_spaces_is_cut_between_signs_and_not_within_one() -> None:
    for text in ("क्षेत्रीयसङ्गठनप्रमुखकार्यालयः", "ကျွန်ုပ်တို့သည်မြန်မာစာကိုလေ့လာသည်", "e\u0301" * 20, "மொழிபெயர்ப்பாளர்களுக்கு"):
        parts = [part.text for part in split_to_fit(text, length=len, comfortable=4, limit=9)]
        assert "".join(parts) == text and len(parts) > 1
        assert not any(unicodedata.category(part[0]).startswith("M") for part in parts), parts
    stacked = "a" + "\u0301" * 30
    parts = [part.text for part in split_to_fit(stacked, length=len, comfortable=4, limit=9)]
    assert "".join(parts) == stacked and max(map(len, parts)) <= 9


@given(st.lists(st.sampled_from([*"aA1 .!?;:,。．།፡។»”", "Mr.", "Ok. ", "α; Α", "ա: Ա"]), max_size=12).map("".join))
def test_looking_from_the_first_mark_on_finds_every_end(text: str) -> None:
    first = boundaries._MARK.search(text)  # pyright: ignore[reportPrivateUsage]
    ends = [end.span() for end in boundaries._END.finditer(text)]  # pyright: ignore[reportPrivateUsage]
    assert ends == ([] if first is None else [end.span() for end in boundaries._END.finditer(text, first.start())])  # pyright: ignore[reportPrivateUsage]
