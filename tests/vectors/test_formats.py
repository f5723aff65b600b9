"""Files of word vectors: golden bytes, gensim both ways, whatever is wrong with a file, and any vectors at all."""

import bz2
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from gensim.models import FastText, KeyedVectors
from gensim.models.fasttext import load_facebook_model, load_facebook_vectors, save_facebook_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from vitrail.errors import DataError, ModelError, UsageError
from vitrail.vectors import FORMATS, FormatName, Ngrams, WordVectors, detect_format, load_vectors, save_vectors

WORDS = ["the", "слово", "日本語", "\u00a0", "Straße", "नमस्ते", "2004", "👩‍🚀", "a\u2028b", "שלום"]
FILES: tuple[FormatName, ...] = tuple(name for name in FORMATS if name != "folder")


def some_vectors(words: list[str] | None = None, dimension: int = 5) -> WordVectors:
    words = words or WORDS
    return WordVectors(words, np.random.default_rng(0).normal(size=(len(words), dimension)).astype(np.float32))


def with_ngrams(words: list[str] | None = None) -> WordVectors:
    plain = some_vectors(words)
    table = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    counts = np.arange(len(plain), 0, -1) * 3
    return WordVectors(plain.words, np.array(plain.matrix), counts, Ngrams(table, 3, 4))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def same(one: WordVectors, other: WordVectors) -> None:
    assert list(one.words) == list(other.words)
    np.testing.assert_array_equal(one.matrix, other.matrix)


# ---- golden bytes ---------------------------------------------------------------------------------------------------------------

TINY = WordVectors(["a", "é"], np.array([[0.5, -1], [0.1, 1e-5]], dtype=np.float32), np.array([7, 2]))
NUMBERS = struct.pack("<4f", 0.5, -1, 0.1, 1e-5)
GOLDEN: dict[FormatName, bytes] = {
    "glove": "a 0.5 -1.0\né 0.1 1e-05\n".encode(),
    "word2vec-text": "2 2\na 0.5 -1.0\né 0.1 1e-05\n".encode(),
    "fasttext-vec": "2 2\na 0.5 -1.0\né 0.1 1e-05\n".encode(),
    "word2vec-binary": b"2 2\na " + NUMBERS[:8] + b"\n" + "é ".encode() + NUMBERS[8:] + b"\n",
    "fasttext-bin": b"\xba\x16\x4f\x2f\x0c\0\0\0"
    + struct.pack("<12id", 2, 5, 5, 5, 5, 1, 2, 2, 0, 0, 0, 100, 1e-4)
    + struct.pack("<3i2q", 2, 2, 0, 9, -1)
    + (b"a\0" + struct.pack("<qb", 7, 0) + "é\0".encode() + struct.pack("<qb", 2, 0))
    + (b"\0" + struct.pack("<2q", 2, 2) + NUMBERS)
    + (b"\0" + struct.pack("<2q", 2, 2) + bytes(16)),
}


@pytest.mark.parametrize("name", FILES)
def test_golden_bytes(name: FormatName, tmp_path: Path) -> None:
    save_vectors(TINY, tmp_path / "v", to=name)
    assert (tmp_path / "v").read_bytes() == GOLDEN[name]
    found = load_vectors(tmp_path / "v")
    same(found, TINY)
    assert found.counts is None if name != "fasttext-bin" else found.counts is not None and found.counts.tolist() == [7, 2]
    assert detect_format(tmp_path / "v") == ("word2vec-text" if name == "fasttext-vec" else name)


def test_golden_folder(tmp_path: Path) -> None:
    """The tensors are those of the safetensors library, byte for byte, though they are written piece by piece."""
    vectors = with_ngrams()
    save_vectors(vectors, tmp_path / "v")
    assert vectors.ngrams is not None and vectors.counts is not None
    tensors = {"vectors": np.array(vectors.matrix), "ngrams": vectors.ngrams.vectors, "counts": vectors.counts}
    assert (tmp_path / "v" / "vectors.safetensors").read_bytes() == safetensors.numpy.save(tensors)
    assert (tmp_path / "v" / "words.txt").read_bytes() == "".join(f"{word}\n" for word in WORDS).encode()
    document = json.loads((tmp_path / "v" / "vectors.json").read_bytes())
    table = {"minn": 3, "maxn": 4, "buckets": 40}
    assert document == {"format": 1, "words": 10, "dimension": 5, "ngrams": table, "facts": {}}
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_bytes())["files"]
    assert set(manifest) == {"README.md", "vectors.json", "vectors.safetensors", "words.txt"}


# ---- any vectors ----------------------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
plain_words = words.filter(lambda word: " " not in word and not word.startswith("\ufeff"))
matrices = st.integers(1, 6).flatmap(
    lambda dimension: of_numpy.arrays(np.float32, (4, dimension), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)


@settings(max_examples=50)
@given(st.lists(plain_words, min_size=4, max_size=4, unique=True), matrices, st.sampled_from(FORMATS), st.booleans())
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, some: list[str], matrix: np.ndarray, name: FormatName, packed: bool
) -> None:
    place = tmp_path_factory.mktemp("v") / ("v.gz" if packed and name != "folder" else "v")
    vectors, said = WordVectors(some, matrix), list[str]()
    save_vectors(vectors, place, to=name, say=said.append)
    same(load_vectors(place, say=said.append), vectors)
    assert said == []


@given(st.binary(max_size=300), st.sampled_from([b"", b"2 3\n", b"\xba\x16\x4f\x2f\x0c\0\0\0", b"the 0.1 0.2\n"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    place = write(tmp_path_factory.mktemp("v") / "v", start + data)
    try:
        found = load_vectors(place, say=lambda line: None)
    except DataError as error:
        assert str(place) in str(error)
    else:
        assert np.isfinite(found.matrix).all() and len(set(found.words)) == len(found.words)


@settings(max_examples=60)
@given(st.sampled_from(FILES), st.data())
def test_a_file_that_is_cut_is_refused_or_has_fewer_words(
    tmp_path_factory: pytest.TempPathFactory, name: FormatName, data: st.DataObject
) -> None:
    place, vectors = tmp_path_factory.mktemp("v") / "v", with_ngrams(["the", "слово", "日本語"])
    save_vectors(vectors, place, to=name, say=lambda line: None)
    whole = place.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    place.write_bytes(whole[:cut])
    try:
        found = load_vectors(place, say=lambda line: None)
    except DataError:
        return
    assert name == "glove" or cut >= len(whole) - 20 or (name == "fasttext-bin" and cut >= len(whole) - 17 - 60)
    assert all(word in vectors for word in found.words)


# ---- gensim ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gensim leaves a file open without a header
@pytest.mark.parametrize("binary", [True, False])
def test_gensim_reads_ours_and_we_read_gensims(binary: bool, tmp_path: Path) -> None:
    vectors = some_vectors()
    save_vectors(vectors, tmp_path / "ours", to="word2vec-binary" if binary else "word2vec-text")
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "ours"), binary=binary)
    assert theirs.index_to_key == vectors.words
    np.testing.assert_array_equal(theirs.vectors, vectors.matrix)
    theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
    same(load_vectors(tmp_path / "theirs"), vectors)
    save_vectors(vectors, tmp_path / "glove", to="glove")
    glove = KeyedVectors.load_word2vec_format(str(tmp_path / "glove"), no_header=True)
    np.testing.assert_array_equal(glove.vectors, vectors.matrix)


def test_gensim_reads_our_models_of_fasttext(tmp_path: Path) -> None:
    vectors = with_ngrams()
    save_vectors(vectors, tmp_path / "v.bin", to="fasttext-bin")
    theirs = load_facebook_vectors(str(tmp_path / "v.bin"))
    assert theirs.index_to_key == WORDS and theirs.bucket == 40 and (theirs.min_n, theirs.max_n) == (3, 4)
    np.testing.assert_allclose(theirs.vectors, vectors.matrix, atol=2e-6)
    assert [theirs.get_vecattr(word, "count") for word in WORDS] == list(range(30, 0, -3))
    for unseen in ("überall", "словом", "日本", "theirs"):
        np.testing.assert_allclose(theirs[unseen], vectors.vector(unseen), atol=1e-6)
    again = load_vectors(tmp_path / "v.bin")
    np.testing.assert_allclose(again.matrix, vectors.matrix, atol=2e-6)
    assert again.ngrams is not None and vectors.ngrams is not None
    np.testing.assert_array_equal(again.ngrams.vectors, vectors.ngrams.vectors)


def test_gensim_trains_our_models_of_fasttext_on(tmp_path: Path) -> None:
    save_vectors(with_ngrams(), tmp_path / "v.bin", to="fasttext-bin")
    model = load_facebook_model(str(tmp_path / "v.bin"))
    before = np.array(model.wv["the"])
    model.train([["the", "слово", "日本語"] * 3] * 500, total_examples=500, epochs=1)
    assert not np.array_equal(before, model.wv["the"])


@pytest.mark.parametrize("sg", [0, 1])
def test_we_read_gensims_models_of_fasttext(sg: int, tmp_path: Path) -> None:
    text = [WORDS[:4], WORDS[3:7], WORDS[6:], WORDS] * 5
    model = FastText(text, vector_size=6, min_count=1, bucket=50, min_n=2, max_n=5, sg=sg, workers=1, epochs=1, window=3)
    save_facebook_model(model, str(tmp_path / "v.bin"))
    ours = load_vectors(tmp_path / "v.bin")
    assert list(ours.words) == model.wv.index_to_key and ours.facts["fasttext"]["ws"] == 3
    np.testing.assert_allclose(ours.matrix, model.wv.vectors, atol=1e-6)
    np.testing.assert_allclose(ours.vector("слова"), model.wv["слова"], atol=1e-6)
    save_vectors(ours, tmp_path / "again.bin", to="fasttext-bin")
    settings = slice(8, 8 + 56)
    assert (tmp_path / "again.bin").read_bytes()[settings] == (tmp_path / "v.bin").read_bytes()[settings]


# ---- what is wrong with files ---------------------------------------------------------------------------------------------------

GOOD = b"3 2\na 1 2\nb 3 4\nc 5 6\n"
FLOATS = struct.pack("<2f", 1, 2)
REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "a mark alone": (b"\xef\xbb\xbf", "no numbers"),
    "no numbers": (b"a text\nof words\n", ":1: no numbers"),
    "a header alone": (b"3 2\n", "12 bytes at least|ends|text"),
    "no words promised": (b"0 5\n", "0 words of 5"),
    "no numbers promised": (b"5 0\na\n", "5 words of 0"),
    "a huge header": (b"99999999999 300\na 1 2\n", "99,999,999,999 words of 300 numbers, .* bytes at least, and the file has 22"),
    "too many promised": (GOOD.replace(b"3 2", b"4 2"), "says 4 words, and there are 3"),
    "too few promised": (GOOD.replace(b"3 2", b"2 2"), "says 2 words, and line 4 is one more"),
    "a greater dimension promised": (b"2 3\na 1 2\nb 3 4\nlonger and longer\n", ":2: 2 numbers\n.*3 numbers after the word, as the header"),
    "a smaller dimension promised": (GOOD.replace(b"3 2", b"3 1"), ":2: 2 numbers\n.*1 numbers after the word"),
    "a short line": (b"a 1 2\nb 3\nc 5 6\n", ":2: 1 numbers\n.*2 numbers after the word, as most lines have"),
    "a long line": (b"a 1 2\nb 3 4 5\nc 5 6\n", ":2: 3 numbers"),
    "a short line later": (b"".join(b"w%d 1 2\n" % n for n in range(999)) + b"w 1\n", ":1000: 1 numbers"),
    "no number": (b"a 1 2\nb 3 x4\nc 5 6\n", ":2: 'x4' is not a number"),
    "an underscore": (b"a 1 2\nb 3 1_0\nc 5 6\n", ":2: '1_0' is not a number"),
    "a decimal comma": (b"a 1 2\nb 3 4\nc 5 6,5\n", ":3: '6,5' is not a number"),
    "NaN": (b"a 1 2\nb 3 nan\n", "line 2: holds a number that is not finite"),
    "infinity": (b"a 1 2\nb 3 -inf\n", "line 2: holds a number that is not finite"),
    "too large for 32 bits": (b"a 1 2\nb 3 1e39\n", "line 2: holds a number that is not finite"),
    "Latin-1": ("a 1 2\nétat 3 4\n".encode("latin-1"), "line 2: .*is not UTF-8(?s:.)*iconv"),
    "UTF-16": ("a 1 2\nb 3 4\n".encode("utf-16"), "is UTF-16"),
    "a zip archive": (b"PK\x03\x04 and more", "zip archive\n(?s:.)*unpack"),
    "a web page": (b"<!DOCTYPE html><p>1 2</p>", "web page"),
    "binary, cut short": (b"2 2\na " + FLOATS + b"\nb " + FLOATS[:5], "22 bytes|ends within|bytes at least"),
    "binary, cut within a word": (b"1 2\nlong-word-without-an-end\x00", "ends within word 1 of 1"),
    "binary, more words": (b"1 2\na " + FLOATS + b"\nb " + FLOATS, "says 1 words, and more follow"),
    "binary, another dimension": (b"2 1\na " + FLOATS + b"\nb " + FLOATS, "word 2: .*control characters"),
    "binary, NaN": (b"2 1\na " + FLOATS[:4] + b"\nb \x00\x00\xc0\x7f\n", "word 2: holds a number that is not finite"),
    "binary, no text": (b"1 1\n\xff\xfea " + FLOATS[:4], "word 1: .*not UTF-8"),
}


@pytest.mark.parametrize(("data", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_files_are_refused_with_the_place(data: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told) as caught:
        load_vectors(write(tmp_path / "v", data))
    assert str(caught.value).startswith(str(tmp_path / "v"))


MENDED = {
    "a mark": (b"\xef\xbb\xbf" + GOOD, ["line 1: begins with a byte order mark: removed"], ["a", "b", "c"]),
    "a mark, no header": (b"\xef\xbb\xbfa 1 2\nb 3 4\n", ["line 1: begins with a byte order mark: removed"], ["a", "b"]),
    "line ends": (GOOD.replace(b"\n", b"\r\n"), ["3 lines, the first 2: ends in a carriage return: removed"], ["a", "b", "c"]),
    "blank lines": (b"a 1 2\n\n \nb 3 4\n\n", ["2 lines, the first 2: is blank: left out"], ["a", "b"]),
    "twice": (b"a 1 2\nb 3 4\na 5 6\n", ["line 3: is there already: left out"], ["a", "b"]),
    "no word": (b"a 1 2\n 3 4\n", ["line 2: is empty: left out"], ["a"]),
    "a cut character": (b"a 1 2\n" + "слово".encode()[:-1] + b" 3 4\n", ["line 2: is not UTF-8: left out"], ["a"]),
    "a non-breaking space": ("a 1 2\n\u00a0 3 4\na\u00a0b 5 6\n".encode(), [], ["a", "\u00a0", "a\u00a0b"]),
    "spaces in words": (b"a 1 2\n. . . 3 4\nto x@y.z 5 6\n", [], ["a", ". . .", "to x@y.z"]),
    "spaces at the end": (b"3 2\na 1 2 \nb 3 4 \nc 5 6 \n", [], ["a", "b", "c"]),
    "tabs and many spaces": (b"a\t1\t2\nb  3   4\n", [], ["a", "b"]),
    "no line end": (b"a 1 2\nb 3 4", [], ["a", "b"]),
    "words that are numbers": (b"7 1 2\n1.5 3 4\n3 5 6\n", [], ["7", "1.5", "3"]),
    "binary, no line ends": (b"2 2\na " + FLOATS + b"b " + FLOATS, [], ["a", "b"]),
    "binary, twice": (b"2 2\na " + FLOATS + b"a " + FLOATS, ["word 2: is there already: left out"], ["a"]),
}


@pytest.mark.parametrize(("data", "told", "words"), MENDED.values(), ids=MENDED.keys())
def test_what_is_harmless_is_mended_and_told(data: bytes, told: list[str], words: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    found = load_vectors(write(tmp_path / "v", data), say=said.append)
    assert said == [f"{tmp_path / 'v'}: {line}" for line in told]
    assert list(found.words) == words
    assert found.matrix.tolist()[0] == [1, 2]


def test_the_first_words_alone(tmp_path: Path) -> None:
    """With what follows unread."""
    vectors = with_ngrams()
    for name in FORMATS:
        save_vectors(vectors, tmp_path / name, to=name, say=lambda line: None)
        found = load_vectors(tmp_path / name, limit=3)
        assert list(found.words) == WORDS[:3]
        np.testing.assert_allclose(found.matrix, vectors.matrix[:3], atol=2e-6)
        assert len(load_vectors(tmp_path / name, limit=100)) == 10
    assert list(load_vectors(write(tmp_path / "v", b"a 1 2\nb 3 4\nc 5\n"), limit=2).words) == ["a", "b"]
    with pytest.raises(UsageError, match="at least 1"):
        load_vectors(tmp_path / "glove", limit=0)


def test_memory_grows_with_what_is_read_and_not_with_a_promise(tmp_path: Path) -> None:
    """Compressed files do not say how much they hold: this one promises 4 TB."""
    text = b"1000000000000 1000\na " + b"1 " * 1000
    with pytest.raises(DataError, match="there are 1"):
        load_vectors(write(tmp_path / "v.gz", gzip.compress(text)))
    head = GOLDEN["fasttext-bin"].replace(
        struct.pack("<12i", 2, 5, 5, 5, 5, 1, 2, 2, 0, 0, 0, 100), struct.pack("<12i", 2, 5, 5, 5, 5, 1, 2, 2, 1 << 30, 3, 6, 100)
    )
    rows = struct.pack("<2q", 2, 2)
    data = head[:8] + head[8:].replace(b"\0" + rows + NUMBERS, b"\0" + struct.pack("<2q", 2 + (1 << 30), 2) + NUMBERS, 1)
    with pytest.raises(DataError, match="ends within the vectors of n-grams"):
        load_vectors(write(tmp_path / "v.bin.gz", gzip.compress(data)))


def test_compressed_files_are_read_by_name_and_content(tmp_path: Path) -> None:
    same(load_vectors(write(tmp_path / "v.txt.bz2", bz2.compress(GOLDEN["glove"]))), TINY)
    with pytest.raises(DataError, match="gzip-compressed"):
        load_vectors(write(tmp_path / "v", gzip.compress(GOLDEN["glove"])))
    with pytest.raises(DataError, match="no such file"):
        load_vectors(tmp_path / "nowhere")


def change(at: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:at] + data + whole[at + len(data) :]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (change(4, struct.pack("<i", 13)), "version 13(?s:.)*update"),
        (change(4, struct.pack("<i", 10)), "version 10"),
        (change(8, struct.pack("<i", -1)), "dimension -1"),
        (change(64, struct.pack("<i", 3)), "2 words and 0 labels of 3 entries"),
        (change(84, struct.pack("<q", 5)), "quantised"),
        (change(102, b"\1"), "kind 1"),
        (change(115, b"\1"), "quantised"),
        (change(116, struct.pack("<q", 7)), "7 rows in its input matrix"),
        (change(124, struct.pack("<q", 3)), "an input matrix of 2 x 3"),
        (change(64, struct.pack("<2i", 1 << 30, 1 << 30)), "bytes at least"),
    ],
)
def test_damaged_models_of_fasttext_are_refused(changed: Callable[[bytes], bytes], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        load_vectors(write(tmp_path / "v.bin", changed(GOLDEN["fasttext-bin"])))


def test_a_classifier_of_fasttext_has_its_words_and_not_its_labels(tmp_path: Path) -> None:
    """Its buckets are of words, not of characters."""
    settings = struct.pack("<12id", 2, 5, 5, 1, 5, 2, 3, 3, 4, 0, 0, 100, 1e-4)
    entries = b"a\0" + struct.pack("<qb", 7, 0) + b"\xff\0" + struct.pack("<qb", 2, 0) + b"__label__x\0" + struct.pack("<qb", 2, 1)
    matrix = b"\0" + struct.pack("<2q", 6, 2) + NUMBERS + bytes(32)
    data = b"\xba\x16\x4f\x2f\x0c\0\0\0" + settings + struct.pack("<3i2q", 3, 2, 1, 9, -1) + entries + matrix
    said: list[str] = []
    found = load_vectors(write(tmp_path / "v.bin", data), say=said.append)
    assert list(found.words) == ["a"] and found.ngrams is None and found.matrix.tolist() == [[0.5, -1]]
    assert [line.partition("v.bin: ")[2] for line in said] == ["1 labels of a classifier: left out", "word 2: is not UTF-8: left out"]
    save_vectors(found, tmp_path / "again.bin", to="fasttext-bin")
    assert load_facebook_vectors(str(tmp_path / "again.bin")).index_to_key == ["a"]


# ---- writing --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_what_a_format_cannot_hold_is_told(name: FormatName, tmp_path: Path) -> None:
    vectors, said = with_ngrams(["New York", "a", "b\tc", "\0"]), list[str]()
    save_vectors(vectors, tmp_path / "v", to=name, say=said.append)
    found = load_vectors(tmp_path / "v")
    if name == "fasttext-bin":
        assert list(found.words) == ["New York", "a", "b\tc"] and said == [
            f"{tmp_path / 'v'}: 1 words left out, which {name} cannot hold, the first '\\x00'"
        ]
        np.testing.assert_allclose(found.matrix, vectors.matrix[:3], atol=2e-6)
        return
    assert list(found.words) == ["a"]
    assert [line.partition("v: ")[2].split(",")[0] for line in said] == [
        f"{name} has no n-grams: words that are not in the file will have no vector there",
        "3 words left out",
    ]
    with pytest.raises(UsageError, match=r"no word can be written(?s:.)*--to folder"):
        save_vectors(some_vectors(["a b"]), tmp_path / "none", to=name, say=said.append)
    assert not (tmp_path / "none").exists()


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "text", b"some text of mine\n")
    for name in FORMATS:
        with pytest.raises(UsageError, match=r"did not write|is not a folder"):
            save_vectors(TINY, tmp_path / "text", to=name)
    assert (tmp_path / "text").read_bytes() == b"some text of mine\n"
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "mine", b"x")
    with pytest.raises(UsageError, match="did not write"):
        save_vectors(TINY, tmp_path / "folder")
    for name in FILES:
        save_vectors(TINY, tmp_path / "v", to=name)
        save_vectors(some_vectors(), tmp_path / "v", to=name, say=lambda line: None)
    save_vectors(TINY, tmp_path / "f")
    save_vectors(some_vectors(), tmp_path / "f")
    same(load_vectors(tmp_path / "f"), some_vectors())
    with pytest.raises(UsageError, match=r"\.gz"):
        save_vectors(TINY, tmp_path / "v.xz", to="glove")


def test_a_folder_keeps_everything(tmp_path: Path) -> None:
    plain = with_ngrams(["a b", "\u00a0", "\r", "日本"])
    vectors = WordVectors(plain.words, np.array(plain.matrix), plain.counts, plain.ngrams, {"method": "skip-gram", "window": 5})
    save_vectors(vectors, tmp_path / "v")
    found = load_vectors(tmp_path / "v")
    same(found, vectors)
    assert found.facts == vectors.facts and found.counts is not None and found.counts.tolist() == [12, 9, 6, 3]
    np.testing.assert_array_equal(found.vector("unseen"), vectors.vector("unseen"))
    assert "- method: skip-gram" in (tmp_path / "v" / "README.md").read_text()
    for word in ("a\nb", "", "\ud800"):
        with pytest.raises(UsageError, match="the word"):
            save_vectors(some_vectors([word]), tmp_path / "w")
    with pytest.raises(ModelError, match="not finite"):
        save_vectors(WordVectors(["a"], np.full((1, 2), np.nan, dtype=np.float32)), tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("file", ["vectors.json", "vectors.safetensors", "words.txt", "manifest.json"])
def test_a_damaged_folder_is_refused(file: str, tmp_path: Path) -> None:
    save_vectors(with_ngrams(), tmp_path / "v")
    place = tmp_path / "v" / file
    whole = place.read_bytes()
    place.write_bytes(whole[:-5] + b"x" + whole[-4:])
    with pytest.raises(ModelError, match=r"altered|manifest"):
        load_vectors(tmp_path / "v")
    place.unlink()
    with pytest.raises(ModelError, match=r"missing|holds no word vectors"):
        load_vectors(tmp_path / "v")
    with pytest.raises(ModelError, match="holds no word vectors"):
        load_vectors(tmp_path)


def test_many_words_in_several_blocks(tmp_path: Path) -> None:
    """More than are read, written or grown at once."""
    draw = np.random.default_rng(0)
    vectors = WordVectors([f"слово{n}" for n in range(5000)], draw.integers(-9, 9, size=(5000, 60)).astype(np.float32))
    for name in FORMATS:
        save_vectors(vectors, tmp_path / name, to=name)
        same(load_vectors(tmp_path / name), vectors)
