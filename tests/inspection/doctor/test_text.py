"""Shared sentences and the tokens of text."""

import pytest

from vitrail.data.preparing.holdout import sentence_key
from vitrail.data.preparing.prepared import Texts
from vitrail.data.vocabularies.vocabulary import CharacterVocabulary, WordVocabulary
from vitrail.doctor.checks.text_checks import UNKNOWN_WORDS, Shared, count_shared, judge_leak, judge_sides, judge_tokens, token_statistics

LETTERS = CharacterVocabulary(list("abcdefgh "))


def test_sentences_are_compared_without_case_marks_and_spacing() -> None:
    texts = Texts(["Yes!", "No.", "Perhaps.", ""], ["OUI", "Non.", "Si.", ""])
    found = count_shared(texts, {sentence_key("yes"), sentence_key("no"), sentence_key("")}, {sentence_key("Oui."), sentence_key("")})
    assert found == Shared(both=1, one=1, sentences=4, example="Yes!")


@pytest.mark.parametrize(("both", "one", "severity"), [(0, 0, "ok"), (0, 3, "warning"), (1, 0, "warning"), (10, 0, "fault")])
def test_a_leak_is_judged_by_its_share(both: int, one: int, severity: str) -> None:
    assert judge_leak("dev", Shared(both, one, 1000, "a"), seen=10, pairs=10).severity == severity


def test_tokens_are_counted() -> None:
    texts = ["ab", "abzz"]
    found = token_statistics(texts, LETTERS.encode_batch(texts), LETTERS)
    assert found.unknown == pytest.approx(2 / 6) and found.characters == 1.0 and found.counts.sum() == 6


def test_unknown_tokens_are_a_fault_where_train_has_few() -> None:
    plain, strange = ([text], LETTERS.encode_batch([text])) if (text := "abc abc") else ([], []), ["abz xyz"]
    train = token_statistics(*plain, LETTERS)
    dev = token_statistics(strange, LETTERS.encode_batch(strange), LETTERS)
    assert judge_tokens("source", train, train).severity == "ok"
    assert judge_tokens("source", train, dev).severity == "fault"
    assert judge_tokens("source", dev, dev).severity == "ok"  # train is no better: a small vocabulary, not a wrong text


def test_a_tenth_of_new_words_is_no_fault() -> None:
    """A vocabulary of words has all words of its training text, and other text of the same sort has more."""
    lines = [f"word{number} is here and there now" for number in range(40)]
    data = WordVocabulary.train(lines[:20], size=99)
    known, new = (token_statistics(part, data.encode_batch(part), data) for part in (lines[:20], lines[20:]))
    assert 0.1 < new.unknown < UNKNOWN_WORDS
    assert judge_tokens("source", known, new, most=UNKNOWN_WORDS).severity == "ok"
    other = ["dies ist ein Satz in einer anderen Sprache here"]
    wrong = token_statistics(other, data.encode_batch(other), data)
    assert judge_tokens("source", known, wrong, most=UNKNOWN_WORDS).severity == "fault"


def test_sides_are_told_apart_by_their_words() -> None:
    one, other = (token_statistics([text], LETTERS.encode_batch([text]), LETTERS) for text in ("aaabbb", "cccddd"))
    assert judge_sides((one, one), (other, other)).severity == "ok"
    assert judge_sides((one, other), (other, one)).severity == "fault"
    assert judge_sides((one, one), (one, one)).severity == "ok"
