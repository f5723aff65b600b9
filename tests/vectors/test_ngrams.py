"""n-grams and their rows against gensim's own, in several scripts."""

import numpy as np
import pytest
from gensim.models.fasttext import compute_ngrams_bytes, ft_hash_bytes, ft_ngram_hashes
from hypothesis import given
from hypothesis import strategies as st

from vitrail.vectors.ngrams import Ngrams, bucket_of, ngrams_of, word_buckets

WORDS = ["where", "été", "Straße", "слово", "語", "日本語", "שלום", "नमस्ते", "👩‍🚀", "a", "", "\u00a0", "ﬁx", "Ελλάδα", "<b>", "a b"]
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
sizes = st.tuples(st.integers(1, 6), st.integers(0, 4)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def test_the_ngrams_of_the_paper() -> None:
    """Bojanowski et al. 2017, section 3.2."""
    assert ngrams_of("where", 3, 3) == [b"<wh", b"whe", b"her", b"ere", b"re>"]
    assert ngrams_of("a", 1, 2) == [b"<a", b"a", b"a>"]
    assert ngrams_of("é", 2, 3) == ["<é".encode(), "<é>".encode(), "é>".encode()]


def test_the_hash_is_fnv_for_ascii_and_differs_beyond() -> None:
    """Values of 32-bit FNV-1a as its authors publish them."""
    modulus = 1 << 40
    assert bucket_of(b"", modulus) == 0x811C9DC5
    assert bucket_of(b"a", modulus) == 0xE40C292C
    assert bucket_of(b"foobar", modulus) == 0xBF9CF968
    plain = (0x811C9DC5 ^ 0xC3) * 0x01000193 % (1 << 32)
    assert bucket_of(b"\xc3", modulus) != plain and bucket_of(b"\xc3", modulus) == ft_hash_bytes(b"\xc3")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("minn", "maxn"), [(3, 6), (1, 4), (2, 2)])
def test_words_have_the_ngrams_and_rows_that_gensim_gives_them(word: str, minn: int, maxn: int) -> None:
    assert ngrams_of(word, minn, maxn) == compute_ngrams_bytes(word, minn, maxn)
    for buckets in (7, 2_000_000):
        expected = ft_ngram_hashes(word, minn, maxn, buckets)
        assert [bucket_of(ngram, buckets) for ngram in ngrams_of(word, minn, maxn)] == expected


@given(st.lists(words, max_size=8), sizes)
def test_many_words_at_once_have_the_rows_of_each(some: list[str], between: tuple[int, int]) -> None:
    minn, maxn = between
    found = word_buckets(some, minn=minn, maxn=maxn, buckets=1000)
    each = [[] if word == "</s>" else ft_ngram_hashes(word, minn, maxn, 1000) for word in some]
    assert found.sizes.tolist() == list(map(len, each))
    assert found.rows.tolist() == [row for rows in each for row in rows]


def test_the_end_of_a_line_has_no_ngrams() -> None:
    assert word_buckets(["a", "</s>", "b"], minn=1, maxn=3, buckets=10).sizes.tolist() == [4, 0, 4]
    assert word_buckets([], minn=1, maxn=3, buckets=10).rows.tolist() == []


def test_vectors_are_means_of_own_rows_and_ngrams() -> None:
    draw = np.random.default_rng(0)
    ngrams = Ngrams(draw.normal(size=(50, 4)).astype(np.float32), 3, 6)
    some = [*WORDS, "</s>"]
    own = draw.normal(size=(len(some), 4)).astype(np.float32)
    made = own.copy()
    ngrams.compose(some, made)
    for word, row, vector in zip(some, own, made, strict=True):
        rows = [] if word == "</s>" else ft_ngram_hashes(word, 3, 6, 50)
        np.testing.assert_allclose(vector, np.vstack([row, *ngrams.vectors[rows]]).mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ngrams.own_rows(some, made), own, rtol=1e-4, atol=1e-5)
    unseen = ngrams.vector("überall")
    assert unseen is not None
    np.testing.assert_allclose(unseen, ngrams.vectors[ft_ngram_hashes("überall", 3, 6, 50)].mean(axis=0), rtol=1e-6)
    assert Ngrams(ngrams.vectors, 5, 6).vector("a") is None
