"""Alignment error rate against nltk's, files of gold links, and the phrasebook's own."""

from pathlib import Path

import numpy as np
import pytest
from nltk.translate import Alignment
from nltk.translate.metrics import alignment_error_rate as nltk_error_rate
from recorded import RECURRENT, translator

from vitrail.errors import DataError, UsageError
from vitrail.inspection.alignment import alignment_error
from vitrail.inspection.alignment.alignment_error import (
    AlignmentCounts,
    Gold,
    alignment_error_rate,
    count_links,
    grammar_words,
    phrasebook_aer,
    read_alignments,
)
from vitrail.inspection.alignment.word_alignment import Aligner, ChosenHeads, make_alignment_pair
from vitrail.phrasebook.corpus import Phrasebook, PhrasebookPair, fixed_pairs
from vitrail.phrasebook.grammar import tokenise


def drawn(draw: np.random.Generator, most: int) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in draw.integers(0, 6, size=(draw.integers(1, most), 2))}


def test_error_rate_is_that_of_nltk() -> None:
    draw = np.random.default_rng(0)
    counts = AlignmentCounts(0, 0, 0, 0)
    found, sure, possible = [], [], []
    for _ in range(100):
        one, must, may = drawn(draw, 12), drawn(draw, 12), drawn(draw, 20)
        assert alignment_error_rate([one], [must], [may]) == pytest.approx(
            nltk_error_rate(Alignment(must), Alignment(one), Alignment(must | may))
        )
        assert alignment_error_rate([one], [must]) == pytest.approx(nltk_error_rate(Alignment(must), Alignment(one)))
        counts = AlignmentCounts(*map(sum, zip(counts, count_links([one], sure=[must], possible=[may]), strict=True)))
        found, sure, possible = [*found, one], [*sure, must], [*possible, may]
    assert count_links(found, sure=sure, possible=possible) == counts
    assert 0 < counts.error_rate < 1


def test_error_rate_at_its_ends() -> None:
    assert alignment_error_rate([{(0, 0)}], [{(0, 0)}]) == 0
    assert alignment_error_rate([{(0, 1)}], [{(0, 0)}]) == 1
    assert alignment_error_rate([set()], [set()]) == 0
    counts = count_links([{(0, 0), (1, 1), (2, 2)}], sure=[{(0, 0)}], possible=[{(1, 1)}])
    assert (counts.precision, counts.recall) == (pytest.approx(2 / 3), 1)
    with pytest.raises(DataError, match="2 alignments, 1 gold alignments"):
        alignment_error_rate([set(), set()], [set()])


def test_files_of_gold_links(tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_text("0-0 1?2 2p1 3-3:0.5\n\n1-0\n")
    assert read_alignments(path) == [
        Gold(frozenset({(0, 0), (3, 3)}), frozenset({(0, 0), (1, 2), (2, 1), (3, 3)})),
        Gold(frozenset(), frozenset()),
        Gold(frozenset({(1, 0)}), frozenset({(1, 0)})),
    ]
    path.write_text("1-1 2?3\n")
    assert read_alignments(path, first=1) == [Gold(frozenset({(0, 0)}), frozenset({(0, 0), (1, 2)}))]
    for text, first, what in (("0-0\n1_1\n", 0, r"gold:2: '1_1'"), ("0-1\n", 1, "gold:1: a word number 0"), ("-1-2\n", 0, "gold:1")):
        path.write_text(text)
        with pytest.raises(DataError, match=what):
            read_alignments(path, first=first)


def test_gold_links_must_be_of_these_sentences(tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_text("1-1 2-3\n\n1?1\n")
    assert read_alignments(path, first=1, lengths=[(2, 3), (0, 4), (1, 1)])[0].sure == {(0, 0), (1, 2)}
    for lengths, first, what in (
        ([(2, 3), (4, 4), (1, 1)], 0, r"gold:1: 2-3 links beyond the sentence, which has 2 words, its translation 3\n(.|\n)*--first 1"),
        ([(2, 3), (4, 4), (1, 0)], 1, r"gold:3: 1\?1 links beyond the sentence, which has 1 words, its translation 0\n"),
        ([(2, 3), (4, 4)], 1, "gold: 3 lines for 2 sentences"),
        ([(2, 3), (4, 4), (1, 1), (1, 1)], 1, "gold: 3 lines for 4 sentences"),
    ):
        with pytest.raises(DataError, match=what):
            read_alignments(path, first=first, lengths=lengths)


def test_files_of_numbered_gold_links(tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_text("1 1 1 S\n1 2 3 P\n\n0002 4 5\n1 2 2 S 0.9\n")
    assert read_alignments(path, lengths=[(2, 3), (4, 5)]) == [
        Gold(frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (1, 2)})),
        Gold(frozenset({(3, 4)}), frozenset({(3, 4)})),
    ]
    for text, what in (
        ("3 1 1 S\n", "gold:1"),
        ("1 1\n", "gold:1"),
        ("1 1 1 S\n1 0 1 S\n", "gold:2: a word number 0"),
        ("2 5 1 S\n", "gold:1: 5 1 links beyond"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=what):
            read_alignments(path, lengths=[(2, 3), (4, 5)])


@pytest.fixture
def small_book(monkeypatch: pytest.MonkeyPatch) -> list[PhrasebookPair]:
    """A phrasebook of a few fixed phrases, whose letters the models of tests/contract do not all know."""
    pairs = fixed_pairs()[:40]
    monkeypatch.setattr(alignment_error, "phrasebook", lambda: Phrasebook([], pairs[:20], pairs[20:], []))
    return pairs[20:]


def test_words_of_the_grammar_are_those_of_its_gold(small_book: list[PhrasebookPair]) -> None:
    for pair in small_book:
        assert [pair.target[slice(*span)] for span in grammar_words(pair.target)] == tokenise(pair.target)
        made = make_alignment_pair(translator("gru-bahdanau"), pair.source, pair.target, words=grammar_words)
        assert all(made.source_words) and all(made.target_words)
        assert all(i < len(made.source_words) and j < len(made.target_words) for i, j in pair.alignment)


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "gru-bahdanau"])
def test_the_phrasebook_is_scored_as_by_hand(name: str, small_book: list[PhrasebookPair]) -> None:
    looker = translator(name)
    found = phrasebook_aer(looker)
    assert found.sentences == len(small_book)
    assert found.heads.judged_by == "agreement"
    links = Aligner(looker, found.heads).align(
        [make_alignment_pair(looker, one.source, one.target, words=grammar_words) for one in small_book]
    )
    counted = sum(len(set(one.alignment) & own) for one, own in zip(small_book, links, strict=True))
    expected = 1 - 2 * counted / (sum(map(len, links)) + found.links)
    assert found.error_rate == pytest.approx(expected)
    assert f"{found.error_rate:.3f}" in found.to_text().splitlines()[0]
    assert found.to_record()["error_rate"] == found.error_rate
    shown = {row.name: row.error_rate for row in found.rows}
    assert shown["chosen heads, grow-diag"] == found.error_rate
    assert 0 < shown["no model: the diagonal"] < 0.6  # the fixed phrases are short
    given = phrasebook_aer(looker, heads=ChosenHeads(heads=((0, 0),)), method="union", sentences=7)
    assert given.heads.heads == ((0, 0),) and given.sentences == 7
    assert given.error_rate == {row.name: row.error_rate for row in given.rows}["chosen heads, union"]
    fresh = phrasebook_aer(looker, heads=given.heads, sentences=5, fresh=7)
    assert (fresh.fresh, fresh.sentences) == (7, 5) and "5 fresh sentences" in fresh.to_text()


def test_the_phrasebook_needs_attention(small_book: list[PhrasebookPair]) -> None:
    mute = next(name for name in RECURRENT if RECURRENT[name].attention == "none")
    with pytest.raises(UsageError, match="without attention"):
        phrasebook_aer(translator(mute))
