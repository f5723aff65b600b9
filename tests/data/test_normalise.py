"""The same text is read the same however it was typed; what decides how letters look stays where the training text uses it."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.cleaning.normalise import (
    AS_TEXT,
    CURRENT,
    INVISIBLE,
    LEGACY_NORMALISATION,
    Normalisation,
    ends_in_word,
    has_letters,
    has_letters_or_digits,
    learn_normalisation,
    normalise,
)
from vitrail.data.preparing.holdout import sentence_key
from vitrail.errors import ModelError

PLAIN = {
    "French": "Où est passé l'élève de français ?",
    "Hindi": "मेरा भाई गिटार बजाता है।",
    "Persian": "من به خانه می\u200cروم.",
    "Vietnamese": "Tiếng Việt rất đẹp nhưng khó học.",
    "Korean": "저는 한국어를 조금 합니다.",
    "Arabic": "كَتَبَ الطالِبُ رِسالَةً طَويلَة.",
    "Sinhala": "ශ්\u200dරී ලංකාව ලස්සනයි.",
    "English": "A dog ate the food.",
}
READ = {language: learn_normalisation([(text, "x")] * 5) for language, text in PLAIN.items()}


def disguises(text: str) -> dict[str, str]:
    """How the same sentence may be typed, copied and pasted."""
    middle = len(text.split(" ")[0]) - 1
    return {
        "no-break spaces": text.replace(" ", "\u00a0"),
        "narrow no-break spaces": text.replace(" ", "\u202f"),
        "ideographic spaces": text.replace(" ", "\u3000"),
        "Braille blanks": text.replace(" ", "\u2800"),
        "Hangul fillers": text.replace(" ", "\u3164") + "\uffa0",
        "what stood for a picture": "\ufffc" + text[:middle] + "\ufffc" + text[middle:],
        "tags": text + "\U000e0001\U000e0065\U000e006e\U000e007f",
        "musical and shorthand formats": "\U0001d173" + text + "\U0001bca0",
        "tabs and line separators": "\t" + text.replace(" ", " \u2028 "),
        "soft hyphen": text[:middle] + "\u00ad" + text[middle:],
        "byte order mark": "\ufeff" + text,
        "zero-width space": text.replace(" ", " \u200b") + "\u200b",
        "word joiner": text[:middle] + "\u2060" + text[middle:],
        "marks of direction": "\u202b\u200f" + text + "\u202c\u200e",
        "isolates": "\u2067" + text + "\u2069",
        "decomposed": unicodedata.normalize("NFD", text),
        "decomposed, with a mark between": unicodedata.normalize("NFD", text).replace("\u0301", "\u200b\u0301"),
    }


@pytest.mark.parametrize("language", PLAIN)
def test_a_sentence_is_read_the_same_in_every_disguise(language: str) -> None:
    read, plain = READ[language].source, PLAIN[language]
    assert read(plain) == unicodedata.normalize("NFC", plain), "a plain sentence stays as it is"
    for name, text in disguises(plain).items():
        assert read(text) == read(plain), name
        assert sentence_key(text) == sentence_key(plain), name


def test_joiners_are_letters_where_the_training_text_uses_them() -> None:
    assert READ["Persian"].kept == "\u200c" and READ["Sinhala"].kept == "\u200d"
    assert READ["English"].kept == ""
    assert CURRENT.source("می\u200cروم") == "میروم"
    english = [("a plain line", "x")] * 995
    assert learn_normalisation([*english, *[("a sto\u200cwaway", "x")] * 5]).kept == "", "1 line in 200 is noise"
    assert learn_normalisation([*english, *[("a sto\u200cwaway", "x")] * 6]).kept == "\u200c"
    assert learn_normalisation([("a sto\u200cwaway", "x")]).kept == "", "and so is a single one"
    assert learn_normalisation([("\u202bעברית\u202c", "x")] * 9).kept == "", "marks of direction never are letters"
    assert learn_normalisation([("ខ្ញុំ\u200bទៅ\u200bផ្ទះ", "x")] * 9).kept == "\u200b", "most lines divide words so"
    assert learn_normalisation([("ខ្ញុំ\u200bទៅ", "x")] * 4 + [("ខ្ញុំទៅ", "x")] * 5).kept == ""


def test_emoji_keep_their_joiners() -> None:
    england = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert CURRENT.source(f"a {england} flag, a\U000e0067\U000e007f") == f"a {england} flag, a"
    assert len(CURRENT.origins(f"a {england} flag, a\U000e0067")) == len(f"a {england} flag, a")
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467 and \U0001f44b\U0001f3fd\u200d\u2642\ufe0f"
    assert CURRENT.source(family) == family.replace("\ufe0f", "")
    assert CURRENT.source("a\u200db") == "ab"


def test_targets_keep_their_typography_and_are_composed() -> None:
    assert normalise("Tu viens\u202f? «\u00a0Oui\u00a0» et zu\u00adletzt") == "Tu viens\u202f? «\u00a0Oui\u00a0» et zu\u00adletzt"
    assert normalise(unicodedata.normalize("NFD", "déjà 한국")) == "déjà 한국"


odd = st.text(
    st.sampled_from(
        "aé e\u0301\u0323\u200b\u200c\u200d\u00ad\ufeff\u00a0\u3000\t\u2028한\u1112\u1161क\u093c\U0001f468\ufe0f\udcff\u0344\u212b"
    )
)


@given(text=st.one_of(odd, st.text(max_size=30)), kept=st.sampled_from(["", "\u200c", "\u200c\u200d", "\u200b"]))
@settings(deadline=None, max_examples=300)
def test_reading_twice_is_reading_once(text: str, kept: str) -> None:
    read = Normalisation(kept=kept)
    once = read.source(text)
    assert read.source(once) == once
    assert not set(INVISIBLE.findall(once)) - set(kept) - {"\u200d"}
    assert "  " not in once and once.strip() == once
    assert normalise(normalise(text)) == normalise(text)


@given(text=st.one_of(odd, st.text(max_size=30)))
@settings(deadline=None, max_examples=300)
def test_every_character_that_is_read_has_its_origin(text: str) -> None:
    for read in (CURRENT, LEGACY_NORMALISATION, AS_TEXT, Normalisation(kept="\u200c")):
        origins, found = read.origins(text), read.source(text)
        assert len(origins) == len(found)
        assert origins == sorted(origins)
        for place, sign in zip(origins, found, strict=True):
            if sign.isascii() and not sign.isspace():
                assert sign in unicodedata.normalize("NFD", text[place:])[:1] or read is not LEGACY_NORMALISATION


def test_origins_point_into_the_line_as_it_was() -> None:
    text = "\ufeff Où\u00a0 est\u00adil e\u0301te\u0301 ?"
    origins = CURRENT.origins(text)
    assert CURRENT.source(text) == "Où estil été ?"
    assert [text[place] for place in origins] == [*"Où\u00a0estil", " ", "e", "t", "e", " ", "?"]


def test_what_has_no_letter_passes_through_unless_training_taught_otherwise() -> None:
    words = [("a line of words", "x")] * 100
    for text in ("-", "...", "***", "12:30", "→", "10 000,50 €", "١٢٣", "\U0001f600", "§ 3.1"):
        assert CURRENT.passes(text) and not has_letters(text)
    for text in ("a", "3 km", "三", "क", "Ünder"):
        assert not CURRENT.passes(text)
    assert learn_normalisation([*words, ("12-3", "12:3")]).pass_through, "a single one may be a slip"
    assert learn_normalisation([*words, *[("6-4", "6-4")] * 9]).pass_through
    assert not learn_normalisation([("1 2 3", "3 2 1"), ("4 5", "5 4")]).pass_through
    assert not learn_normalisation([*words, ("17", "seventeen"), ("3", "three")]).pass_through
    assert not LEGACY_NORMALISATION.passes("-")


def test_marks_belong_to_words_and_new_scripts_are_scripts() -> None:
    for text in ("वह गाता", "நான் தமிழ்", "e\u0301", "\U00011f12", "2"):
        assert ends_in_word(text) and has_letters_or_digits(text)
    for text in ("", "।", "\u0301", "a.", "« »"):
        assert not ends_in_word(text) or text == "\u0301"
    assert not has_letters_or_digits("\u0301 ...")


def test_how_sources_are_read_is_a_fact_of_the_model() -> None:
    found = Normalisation(kept="\u200c\u200d", pass_through=False)
    assert found.to_fact() == {"version": 1, "kept": ["U+200C", "U+200D"], "pass_through": False}
    assert Normalisation.from_fact(found.to_fact()) == found
    assert Normalisation.from_fact(None) is LEGACY_NORMALISATION
    assert LEGACY_NORMALISATION.source(" a\u00a0b\u00ad\u0301\tc ") == "a\u00a0b\u00ad\u0301 c"
    for wrong in ({"version": 2, "kept": [], "pass_through": True}, {"version": 1}, [], "1", {**found.to_fact(), "kept": ["U+0061"]}):
        with pytest.raises(ModelError, match="source_normalization"):
            Normalisation.from_fact(wrong)


@pytest.mark.parametrize("text", ["a" + "\u0301\u0323" * 50_000, "\u200b" * 100_000, "\u00a0\t" * 50_000, "e\u0301 " * 50_000])
def test_hostile_lines_take_linear_time(text: str) -> None:
    started = time.process_time()
    CURRENT.source(text)
    normalise(text)
    assert time.process_time() - started < 5
