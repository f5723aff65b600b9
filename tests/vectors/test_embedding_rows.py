"""Rows for embeddings from word vectors: words, pieces, characters, several scripts."""

from collections.abc import Sequence

import numpy as np
import pytest

from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Subwords, WordVocabulary, train_sentencepiece
from vitrail.vectors import Ngrams, WordVectors
from vitrail.vectors.embedding_rows import EmbeddingRows, rows_for, share_of_text
from vitrail.vectors.ngrams import Matrix

TEXTS = {
    "latin": ["the singer sings a song", "a song is sung", "the ring rings in spring", "sing in the spring, singer"] * 20,
    "greek": ["ο τραγουδιστής τραγουδά ένα τραγούδι", "το τραγούδι της άνοιξης", "η άνοιξη τραγουδά"] * 20,
    "japanese": ["春の歌を歌う", "歌手が春に歌う", "春が来た。歌おう。"] * 20,
}


def drawn(words: Sequence[str], *, counts: Sequence[int] | None = None, dimension: int = 4) -> WordVectors:
    matrix = np.random.default_rng(1).normal(size=(len(words), dimension)).astype(np.float32)
    return WordVectors(list(words), matrix, None if counts is None else np.array(counts))


def ids_of(vocabulary: Subwords) -> dict[str, int]:
    return {piece: id for id, piece in enumerate(vocabulary.pieces(range(EOS + 1, vocabulary.size)), start=EOS + 1)}


def row(rows: EmbeddingRows, vocabulary: Subwords, piece: str) -> Matrix:
    id = ids_of(vocabulary)[piece]
    assert rows.known[id], f"{piece} has no vector"
    return rows.values[id]


def test_words_are_found_as_written_composed_and_whatever_their_case() -> None:
    vocabulary = WordVocabulary([" the", " The", "The", ",", " ,", " caf\u00e9", " Paris", " nowhere"])
    vectors = drawn(["the", ",", "cafe\u0301", "PARIS", "paris", "unused"])
    rows = rows_for(vocabulary, vectors)
    for piece, word in {
        "▁the": "the",
        "▁The": "the",
        "The": "the",
        ",": ",",
        "▁,": ",",
        "▁caf\u00e9": "cafe\u0301",
        "▁Paris": "paris",
    }.items():
        assert np.array_equal(row(rows, vocabulary, piece), vectors.vector(word)), piece
    assert (rows.exact, rows.composed, rows.fresh) == (7, 0, 1 + 4)
    cased = rows_for(WordVocabulary([" the", " The", " paris"]), drawn(["The", "the", "PARIS"]))
    assert np.array_equal(cased.values[4:], drawn(["The", "the", "PARIS"]).matrix[[1, 0, 2]])


def test_characters_are_found_one_by_one_and_composed_of_words() -> None:
    vocabulary = CharacterVocabulary([*"ab é"])
    letters = drawn(["a", "b", "e\u0301"[0], "\u00e9"])
    rows = rows_for(vocabulary, letters)
    assert (rows.exact, rows.composed, rows.fresh) == (3, 0, 1 + 4)
    words = drawn(["abba", "b", "baa"], counts=[5, 3, 2])
    rows = rows_for(vocabulary, words)
    np.testing.assert_allclose(row(rows, vocabulary, "a"), (5 * words.matrix[0] + 2 * words.matrix[2]) / 7, rtol=1e-5)
    assert rows.composed == 2 and not rows.known[ids_of(vocabulary)["▁"]]


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("counted", [True, False])
def test_pieces_are_means_of_the_words_that_have_them(texts: list[str], kind: str, counted: bool) -> None:
    vocabulary = train_sentencepiece(texts, size=330, kind=kind)  # pyright: ignore[reportArgumentType]
    words = sorted({token.strip() for text in texts for token in WordVocabulary.split(text)})
    counts = [1 + 3 * number for number in range(len(words))][::-1]
    vectors = drawn(words, counts=counts if counted else None)
    rows = rows_for(vocabulary, vectors)
    weights = counts if counted else [1 / (number + 1) for number in range(len(words))]
    for piece, id in ids_of(vocabulary).items():
        if piece.removeprefix("▁") in words and (piece.startswith("▁") or piece in (",", "春", "歌", "。")):
            expected = vectors.vector(piece.removeprefix("▁"))
        else:
            having = [number for number, word in enumerate(words) if id in vocabulary.encode(word)]
            if not having or piece.startswith("<0x"):
                assert not rows.known[id], "bytes are of many characters"
                continue
            expected = sum(weights[n] * vectors.matrix[n] for n in having) / sum(weights[n] for n in having)
        np.testing.assert_allclose(rows.values[id], expected, rtol=1e-4, atol=1e-6, err_msg=piece)
    assert rows.exact >= 3 and rows.exact + rows.composed + rows.fresh == vocabulary.size
    assert not rows.known[: EOS + 1].any() and not rows.values[~rows.known].any()


def test_a_part_of_a_word_is_not_the_word_that_is_spelled_alike() -> None:
    vocabulary = train_sentencepiece(TEXTS["latin"], size=330)
    assert "s" in ids_of(vocabulary)
    vectors = drawn(["rungs", "s", "hungs"], counts=[6, 100, 1])
    found = row(rows_for(vocabulary, vectors), vocabulary, "s")
    having = [n for n, word in enumerate(vectors.words) if ids_of(vocabulary)["s"] in vocabulary.encode(word)]
    assert vectors.counts is not None and having
    expected = sum(vectors.counts[n] * vectors.matrix[n] for n in having) / sum(vectors.counts[n] for n in having)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_vectors_of_the_same_pieces_fit_row_by_row() -> None:
    vocabulary = train_sentencepiece(TEXTS["latin"], size=330)
    pieces = [piece for piece in ids_of(vocabulary) if not piece.startswith("<0x")]
    vectors = drawn(pieces)
    rows = rows_for(vocabulary, vectors)
    assert rows.exact == len(pieces) and rows.composed == 0
    for piece in pieces:
        assert np.array_equal(row(rows, vocabulary, piece), vectors.vector(piece))


def test_capital_pieces_of_vectors_in_lower_case() -> None:
    texts = ["Schiff Schule Schuh Schale", "Schild Schaf Schal"] * 20
    vocabulary = train_sentencepiece(texts, size=290)
    assert "▁Sch" in ids_of(vocabulary)
    vectors = drawn(["schlaf", "schleife", "der"], counts=[3, 1, 9])
    found = row(rows_for(vocabulary, vectors), vocabulary, "▁Sch")
    np.testing.assert_allclose(found, (3 * vectors.matrix[0] + vectors.matrix[1]) / 4, rtol=1e-5)


def test_what_is_left_takes_its_ngrams_and_a_vector_of_zeros_is_none() -> None:
    table = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    matrix = np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32)
    vectors = WordVectors(["river", "zero"], matrix, None, Ngrams(table, 3, 5))
    vocabulary = WordVocabulary([" river", " Rivers", " zero"])
    rows = rows_for(vocabulary, vectors)
    assert (rows.exact, rows.composed, rows.fresh) == (1, 2, 4)
    assert np.array_equal(row(rows, vocabulary, "▁Rivers"), vectors.vector("rivers"))
    assert rows_for(vocabulary, WordVectors(["river", "zero"], matrix)).known.sum() == 1
    pieces = train_sentencepiece(TEXTS["latin"], size=330)
    assert not rows_for(pieces, vectors).known[EOS + 1 : EOS + 257].any(), "bytes have no n-grams"


def test_words_that_are_not_text_are_passed_over() -> None:
    vocabulary = train_sentencepiece(TEXTS["latin"], size=330)
    assert rows_for(vocabulary, drawn(["sings", "\udcff"])).known.any()


def test_the_share_of_a_text() -> None:
    rows = EmbeddingRows(np.zeros((7, 2), np.float32), np.array([False] * 4 + [True, True, False]), exact=2)
    assert share_of_text(rows, np.array([2, 4, 4, 5, 6, 1, 3, 0])) == pytest.approx(3 / 5)
    assert share_of_text(rows, np.array([], np.int64)) == 0
