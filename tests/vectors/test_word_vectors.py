"""Similarity, neighbours and analogies against gensim and against plain sums over the whole matrix."""

import numpy as np
import pytest
from gensim.models import KeyedVectors

from vitrail.errors import UsageError
from vitrail.vectors import nearest, word_vectors
from vitrail.vectors.ngrams import Matrix, Ngrams
from vitrail.vectors.word_vectors import AnalogyMethod, WordVectors


def some_vectors(words: int = 400, dimension: int = 8, seed: int = 0) -> WordVectors:
    draw = np.random.default_rng(seed)
    matrix = draw.normal(size=(words, dimension)).astype(np.float32)
    matrix[7] = matrix[3]  # equal scores
    return WordVectors([f"w{row}" for row in range(words)], matrix)


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    return some_vectors()


@pytest.fixture(scope="module")
def of_gensim(vectors: WordVectors) -> KeyedVectors:
    made = KeyedVectors(vectors.dimension)
    made.add_vectors(list(vectors.words), np.array(vectors.matrix))
    return made


def test_similarity_and_neighbours_are_those_of_gensim(vectors: WordVectors, of_gensim: KeyedVectors) -> None:
    assert vectors.similarity("w1", "w2") == pytest.approx(of_gensim.similarity("w1", "w2"), abs=1e-6)
    for word in ("w0", "w3", "w399"):
        found, expected = vectors.neighbours(word, 12), of_gensim.most_similar(word, topn=12)
        assert [one.word for one in found] == [word for word, _ in expected]
        np.testing.assert_allclose([one.score for one in found], [score for _, score in expected], atol=1e-6)
    assert vectors.neighbours(vectors.vector("w5"), 1)[0].word == "w5", "a vector excludes no word"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gensim")
@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_analogies_are_those_of_gensim(
    vectors: WordVectors, of_gensim: KeyedVectors, method: AnalogyMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_vectors, "_MUL_EPSILON", 1e-6)  # gensim's; the paper has 0.001
    asked = of_gensim.most_similar if method == "3cosadd" else of_gensim.most_similar_cosmul
    for a, b, c in (("w1", "w2", "w3"), ("w10", "w200", "w30"), ("w1", "w1", "w9")):
        found, expected = vectors.analogy(a, b, c, method=method), asked(positive=[b, c], negative=[a], topn=10)
        assert [one.word for one in found] == [word for word, _ in expected]
        if method == "3cosmul":
            np.testing.assert_allclose([one.score for one in found], [score for _, score in expected], rtol=1e-4)
        assert not {a, b, c} & {one.word for one in found}


@pytest.mark.parametrize("count", [1, 2, 9, 400, 1000])
def test_blocks_change_nothing(vectors: WordVectors, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Not even which of equally near words come first: of vectors with four 1 or -1, whose cosines are exact."""
    signs = np.random.default_rng(1).choice([-1, 1], size=(405, 8)) * (np.argsort(np.random.default_rng(2).random((405, 8))) < 4)
    queries, coarse = nearest.unit(signs[400:].astype(np.float32)), WordVectors(vectors.words, signs[:400].astype(np.float32))
    whole = coarse.nearest(queries, count=count, excluded=[[0], [], [1, 399], [], []])
    monkeypatch.setattr(nearest, "_BLOCK_CELLS", 1)
    monkeypatch.setattr(nearest, "_LEAST_BLOCK", 7)
    parts = coarse.nearest(queries, count=count, excluded=[[0], [], [1, 399], [], []])
    assert whole.rows.tolist() == parts.rows.tolist()
    scores = (queries @ coarse.matrix.T) * coarse.inverse_lengths
    scores[0, 0] = scores[2, 1] = scores[2, 399] = -np.inf
    assert whole.rows.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :count].tolist()


def test_words_of_any_script_and_membership() -> None:
    words = ["the", "слово", "日本", "\u00a0", "Straße", "नमस्ते"]
    some = WordVectors(words, np.eye(6, dtype=np.float32))
    assert len(some) == 6 and "日本" in some and "\u00a0" in some and "x" not in some
    assert some.vector("слово").tolist() == [0, 1, 0, 0, 0, 0]
    assert some.neighbours("日本", 100)[0].score == 0 and len(some.neighbours("日本", 100)) == 5
    with pytest.raises(ValueError, match="read-only"):
        some.matrix[0, 0] = 1
    with pytest.raises(UsageError, match=r"STRASSE.*(?s:.)*spelled alike: Straße"):
        some.vector("STRASSE")


def test_words_are_found_in_other_forms() -> None:
    """Of accents that are characters of their own, and of case where the vectors have none."""
    lower = WordVectors(["été", "weiß", "한국"], np.eye(3, dtype=np.float32))
    assert [lower.form_of(word) for word in ("e\u0301te\u0301", "WEISS", "Été", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "x")] == [
        *("été", "weiß", "été", "한국", "x")
    ]
    assert lower.row("Été") is None and lower.row("ÉTÉ", fold_case=True) == lower.row("e\u0301te\u0301") == 0
    assert WordVectors(["été", "Weiß"], np.eye(2, dtype=np.float32)).form_of("Été") == "Été"


def test_an_unknown_word_is_told_with_words_spelled_alike() -> None:
    some = WordVectors(["colour", "color", "house"], np.eye(3, dtype=np.float32))
    with pytest.raises(UsageError, match=r"'colur': is not among the 3 words\n.*vocabulary\n.*colour, color"):
        some.neighbours("colur")
    with pytest.raises(UsageError, match="case and the form"):
        some.similarity("house", "zzz")
    with pytest.raises(UsageError, match="3 numbers"):
        some.neighbours(np.zeros(4, dtype=np.float32))


def test_zeros_are_like_nothing() -> None:
    some = WordVectors(["a", "b", "c"], np.array([[0, 0], [1, 0], [-1, 0]], dtype=np.float32))
    assert some.similarity("a", "b") == 0
    assert [tuple(one) for one in some.neighbours("b")] == [("a", 0), ("c", -1)]


def test_unseen_words_have_the_vectors_of_their_ngrams() -> None:
    table: Matrix = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    some = WordVectors(["house"], np.ones((1, 4), dtype=np.float32), ngrams=Ngrams(table, 3, 4))
    assert "houses" not in some
    expected = some.ngrams and some.ngrams.vector("houses")
    np.testing.assert_array_equal(some.vector("houses"), expected)
    assert some.neighbours("houses")[0].word == "house"
    with pytest.raises(UsageError, match="or one with an n-gram"):
        some.vector("")
