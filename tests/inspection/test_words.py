"""Tokens and words: bytes of one character, spaces, scripts without spaces, unknown tokens."""

import pytest

from vitrail.data.cleaning.normalise import CURRENT
from vitrail.data.vocabularies.subwords import UNK, CharacterVocabulary, SentencePieceSubwords, WordVocabulary, train_sentencepiece
from vitrail.inspection.words import (
    WordPosition,
    between_spaces,
    group,
    map_spans,
    spell,
    tokens_by_word,
    word_positions,
    words_and_marks,
    words_of,
)


@pytest.fixture(scope="module")
def bytewise() -> SentencePieceSubwords:
    """A vocabulary that has a few letters and spells all else in bytes."""
    return train_sentencepiece(["a dog ate", "the dog", "a cat"] * 5, size=275)


@pytest.mark.parametrize("text", ["a 🎉 dog", "🎉🎉 dog", "naïve dog", "a dog ate", "مرحبا بك", "猫 dog", ""])
def test_spans_are_in_order_and_spell_the_text(bytewise: SentencePieceSubwords, text: str) -> None:
    ids = bytewise.encode(text)
    spans = bytewise.locate(ids)
    assert "".join(text[slice(*span)] for span in spans) == text
    assert all(0 <= first <= last <= len(text) for first, last in spans)


def test_the_bytes_of_a_character_stay_in_its_word(bytewise: SentencePieceSubwords) -> None:
    text = "a 🎉 dog"
    ids = bytewise.encode(text)
    _, spans, words = group(ids, bytewise)
    shown = [text[spans[tokens[0]][0] : spans[tokens[-1]][1]].strip() for tokens in words]
    assert shown == ["a", "🎉", "dog"]
    assert sorted(place for tokens in words for place in tokens) == list(range(len(ids)))


def test_a_script_without_spaces_goes_token_by_token(bytewise: SentencePieceSubwords) -> None:
    text = "猫が好き dog"
    ids = bytewise.encode(text)
    _, spans, words = group(ids, bytewise)
    assert [text[spans[tokens[0]][0] : spans[tokens[-1]][1]].strip() for tokens in words] == ["猫", "が", "好", "き", "dog"]


def test_between_spaces_is_what_unix_tools_count() -> None:
    text = "  deux  mots\u00a0liés ."
    assert [text[slice(*span)] for span in between_spaces(text)] == ["deux", "mots\u00a0liés", "."]
    assert [text[slice(*span)] for span in words_and_marks(text)] == ["deux", "mots", "liés", "."]


@pytest.mark.parametrize("text", ["हिन्दी में लिखो ।", "می‌خواهم .", "e\u0301te\u0301 ❤\ufe0f ."])
def test_signs_upon_letters_do_not_cut_words(text: str) -> None:
    assert [text[slice(*span)] for span in words_and_marks(text)] == text.split()


def test_words_and_marks_know_their_place_between_spaces() -> None:
    text = "qu'il (a faim). ?!"
    spans = words_and_marks(text)
    found = word_positions([[place] for place in range(len(spans))], spans, text=text, between=between_spaces(text))
    word = [WordPosition(number, mark=False, carries_links=True) for number in range(6)]
    hushed = [WordPosition(number, mark=True, carries_links=False) for number in range(6)]
    assert found == [word[0], hushed[1], word[1], word[2], hushed[2], WordPosition(3, mark=True, carries_links=True)]


@pytest.mark.parametrize("kind", [WordVocabulary, CharacterVocabulary])
def test_unknown_tokens_keep_their_word(kind: type[WordVocabulary | CharacterVocabulary]) -> None:
    vocabulary = kind.train(["the dog ate."], size=40)
    text = "the  zebra ate, zig-zag dog ."
    ids = vocabulary.encode(text)
    assert UNK in ids
    shown, spans = spell(ids, vocabulary, text=text)
    words = tokens_by_word(spans, text=shown, words=between_spaces)
    assert len(words) == len(text.split())
    assert all(words)
    known = [number for number, tokens in enumerate(words) if all(ids[place] != UNK for place in tokens)]
    assert {0, 4} <= set(known)
    assert [vocabulary.decode([ids[place] for place in words[number]]).strip() for number in (0, 4)] == ["the", "dog"]


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        ("the  dog \u00a0 ate", "the dog ate"),
        ("\ufeffthe\u200b dog\u00ad", "the dog"),
        ("e\u0301te\u0301 dog", "été dog"),
        ("می\u200cخواهم", "میخواهم"),
        ("the dog", "the dog"),
        ("", ""),
        ("dog" + "\u200b" * 200 + " ate", "dog ate"),
    ],
)
def test_what_was_read_is_found_in_what_was_written(whole: str, text: str) -> None:
    words = between_spaces(text)
    found = map_spans(words, text=text, whole=f"ab {whole} cd", where=(3, 3 + len(whole)))
    for (first, last), (begin, end) in zip(words, found, strict=True):
        assert 3 <= begin <= end <= 3 + len(whole)
        shown = f"ab {whole} cd"[begin:end]
        assert CURRENT._replace(kept="").source(shown) == text[first:last]


@pytest.mark.parametrize(
    ("text", "span", "word"),
    [
        ("dort \u200b là", (4, 7), 2),  # a space that stands for a space, a mark that nobody sees, and a space
        ("dort \u200blà", (4, 6), 1),
        ("dort \u2067là", (4, 8), 1),
        ("می\u200cروم و", (2, 3), 0),  # the mark alone belongs to its word
        ("dort là", (4, 5), 1),
        ("dort là", (4, 7), 1),
    ],
)
def test_a_token_belongs_to_the_word_of_its_first_sign_that_is_seen(text: str, span: tuple[int, int], word: int) -> None:
    assert words_of([span], text=text, words=between_spaces(text)) == [word]
