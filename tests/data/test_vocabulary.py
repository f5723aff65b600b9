"""Vocabularies of whole words and of single characters."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.vocabularies.vocabulary import UNK, CharacterVocabulary, Subwords, WordVocabulary, collapse
from vitrail.errors import DataError, ModelError, UsageError

CORPUS = ["the eau-de-vie isn't here, the end.", "l’eau, the end <s> </s> <pad> ▁ @@ un\u202f: deux"]
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=40)
kinds = pytest.mark.parametrize("kind", [WordVocabulary, CharacterVocabulary])


@kinds
@settings(deadline=None)
@given(texts=st.lists(any_text, min_size=1, max_size=5))
def test_any_text_that_was_learned_comes_back(kind: type[Subwords], texts: list[str]) -> None:
    learned = kind.train([*texts, "a"], size=10_000)  # pyright: ignore
    for text in texts:
        ids = learned.encode(text)
        assert learned.decode([2, *ids, 3, 0]) == collapse(text)
        assert all(id > 3 for id in ids)


@kinds
def test_a_vocabulary_survives_its_file(kind: type[Subwords]) -> None:
    learned = kind.train(CORPUS, size=1000)  # pyright: ignore
    again = kind.from_bytes(learned.to_bytes(), origin="x")
    assert (again.digest, again.encode_batch(CORPUS)) == (learned.digest, learned.encode_batch(CORPUS))


def test_words_keep_apostrophes_and_hyphens_and_stand_apart_from_marks() -> None:
    learned = WordVocabulary.train(CORPUS, size=1000)
    assert learned.pieces(learned.encode(CORPUS[0])) == ["▁the", "▁eau-de-vie", "▁isn't", "▁here", ",", "▁the", "▁end", "."]
    assert learned.pieces(learned.encode("<s> l’eau")) == ["▁<", "s", ">", "▁l’eau"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("मेरा भाई गिटार बजाता है।", ["मेरा", "भाई", "गिटार", "बजाता", "है", "।"]),
        ("நான் தமிழ் படிக்கிறேன்.", ["நான்", "தமிழ்", "படிக்கிறேன்", "."]),
        ("كَتَبَ الطالِبُ رِسالَةً،", ["كَتَبَ", "الطالِبُ", "رِسالَةً", "،"]),
        ("Mo fẹ́ràn ọ̀rẹ́ mi.", ["Mo", "fẹ́ràn", "ọ̀rẹ́", "mi", "."]),
        (unicodedata.normalize("NFD", "Où est l’élève ?"), [*unicodedata.normalize("NFD", "Où est l’élève").split(), "?"]),
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),
        ("저는 한국어를 합니다", ["저는", "한국어를", "합니다"]),
        (unicodedata.normalize("NFD", "한국어를"), [unicodedata.normalize("NFD", "한국어를")]),
        ("東京タワーへ", ["東", "京", "タワー", "へ"]),
        ("มานี มา", ["ม", "า", "นี", "ม", "า"]),
        ("ශ්\u200dරී ලංකාව", ["ශ්\u200dරී", "ලංකාව"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        ("3.14 isn't 1,000 €", ["3.14", "isn't", "1,000", "€"]),
        (
            "\U0001f468\u200d\U0001f469\u200d\U0001f467 and \u2764\ufe0f!",
            ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "and", "\u2764\ufe0f", "!"],
        ),
    ],
)
def test_words_are_whole_in_every_script(text: str, words: list[str]) -> None:
    learned = WordVocabulary.train([text], size=1000)
    assert [piece.removeprefix("▁") for piece in learned.pieces(learned.encode(text))] == words
    assert learned.decode(learned.encode(text)) == text


def test_a_vocabulary_of_before_reads_as_it_was_learned() -> None:
    content = {"format": "vitrail vocabulary 1", "kind": "word", "tokens": [" म", "े", "र", "ा", " e", "\u0301"]}
    data = (json.dumps(content, ensure_ascii=False, indent=0) + "\n").encode()
    old = WordVocabulary.from_bytes(data, origin="x")
    assert old.encode("मेरा e\u0301") == [4, 5, 6, 7, 8, 9]
    assert old.to_bytes() == data
    new = WordVocabulary.train(["मेरा e\u0301"], size=99)
    assert len(new.encode("मेरा e\u0301")) == 2
    assert WordVocabulary.from_bytes(new.to_bytes(), origin="x").encode("मेरा") == new.encode("मेरा")


def test_the_most_frequent_are_kept_and_the_others_unknown() -> None:
    learned = WordVocabulary.train(["the the the end end here"], size=6)
    assert learned.size == 6
    assert learned.encode("the end unheard") == [4, 5, UNK]
    assert learned.pieces([UNK, 4]) == ["<unk>", "▁the"]
    assert WordVocabulary.train(["the the here"], size=1000, least_count=2).encode("the here") == [4, UNK]
    assert WordVocabulary.train(["b a", "a b"], size=9).encode("a b") == [4, 5], "ties go in order of code points"


def test_sampling_is_refused_but_for_none() -> None:
    learned = CharacterVocabulary.train(CORPUS, size=100)
    assert learned.sample(["the"], seed=1, dropout=0.0) == learned.encode_batch(["the"])
    with pytest.raises(UsageError):
        learned.sample(["the"], seed=1, dropout=0.1)


def test_no_text_is_refused() -> None:
    with pytest.raises(DataError):
        WordVocabulary.train(["", "  "], size=10)


GOOD = {"format": "vitrail vocabulary 1", "kind": "word", "tokens": ["a", "b"]}


@pytest.mark.parametrize(
    "content",
    [
        GOOD | {"kind": "character"},
        GOOD | {"more": 1},
        GOOD | {"tokens": ["a", "a"]},
        GOOD | {"tokens": ["a", ""]},
        GOOD | {"tokens": ["a", 1]},
        GOOD | {"tokens": "ab"},
        GOOD | {"format": "vitrail vocabulary 3"},
        GOOD | {"format": "vitrail vocabulary 2", "kind": "character"},
        [],
    ],
)
def test_a_damaged_file_is_refused(content: object) -> None:
    assert WordVocabulary.from_bytes(json.dumps(GOOD).encode(), origin="x").size == 6
    with pytest.raises(ModelError, match=r"x\.vocab\.json"):
        WordVocabulary.from_bytes(json.dumps(content).encode(), origin="x.vocab.json")


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\xff\xfe", WordVocabulary(["a"]).to_bytes()[:-4]])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        WordVocabulary.from_bytes(data, origin="x")
