"""Similarity and analogies against gensim's and scipy's; what is missing is counted and named."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from vitrail.errors import DataError
from vitrail.vectors import Ngrams, WordVectors
from vitrail.vectors.evaluating.analogies import evaluate_analogies
from vitrail.vectors.evaluating.questions import Analogy, AnalogySection, AnalogySet, read_analogies, read_similarity
from vitrail.vectors.evaluating.similarity import evaluate_similarity, ranks, spearman
from vitrail.vectors.evaluating.vector_report import evaluate_vectors
from vitrail.vectors.ngrams import Matrix

WORD_EVAL = next((place / "shared/data/word-eval" for place in Path(__file__).parents if (place / "shared/data/word-eval").is_dir()), None)


def vectors_of(words: list[str], dimension: int = 4, *, seed: int = 0) -> WordVectors:
    return WordVectors(words, np.random.default_rng(seed).normal(size=(len(words), dimension)).astype(np.float32))


def gensims(vectors: WordVectors) -> KeyedVectors:
    made = KeyedVectors(vectors.dimension)
    made.add_vectors(list(vectors.words), np.array(vectors.matrix))
    return made


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_ranks_and_correlation_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array([pair[side] for pair in pairs], dtype=np.float64) for side in (0, 1))
    np.testing.assert_array_equal(ranks(a), rankdata(a))
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    else:
        assert math.isnan(spearman(a, b))


# ---- similarity -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("sun\tmoon\t3.5\nмир\tвойна\t1\n", False),
        ("\ufeffsun,moon,3.5\r\nмир,война,1\r\n", False),
        ("sun; moon; 3.5\n\nмир;война;1", False),
        ("sun moon 3.5\nмир  война 1\n", False),
        ("Word 1,Word 2,Human (mean)\nsun,moon,3.5\nмир,война,1\n", True),
    ],
)
def test_similarity_files_of_every_layout(text: str, header: bool, tmp_path: Path) -> None:
    found = read_similarity(write(tmp_path / "s.txt", text), header=header)
    assert found == ("s", (("sun", "moon", 3.5), ("мир", "война", 1.0)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("word1\tword2\tscore\na\tb\t1\n", r":1: 'score' is not a finite number(?s:.)*--header"),
        ("a\tb\t1\na\tb\tnan\n", r":2: 'nan' is not a finite number(?s:.)*correct"),
        ("a\tb\tN\t1\n", r":1: 4 fields(?s:.)*--header"),
        ("a b 1\nc d\n", r":2: 2 fields"),
        ("a\t\t1\n", r":1: 3 fields"),
        ("\n\n", r"holds no pairs"),
    ],
)
def test_bad_similarity_files_are_refused_by_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        read_similarity(write(tmp_path / "s.txt", text))


def test_questions_in_another_encoding_are_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes("sun moon 3\nété été 1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r":2: is not UTF-8(?s:.)*iconv"):
        read_similarity(tmp_path / "s.txt")


def test_similarity_is_that_of_gensim(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(40)]
    vectors, draw = vectors_of(words), np.random.default_rng(3)
    text = "".join(f"w{a}\tw{b}\t{draw.integers(0, 6)}\n" for a, b in draw.integers(0, 44, size=(80, 2)))
    file = write(tmp_path / "s.tsv", text)
    theirs = gensims(vectors).evaluate_word_pairs(str(file), case_insensitive=False)
    ours = evaluate_similarity(vectors, read_similarity(file))
    assert ours.spearman is not None and ours.spearman.value == pytest.approx(theirs[1].statistic, abs=1e-9)
    assert 100 * (1 - ours.in_vocabulary / ours.pairs) == pytest.approx(theirs[2])
    assert set(ours.missing) == {"w40", "w41", "w42"} and ours.from_ngrams == 0
    low, high = ours.spearman.low, ours.spearman.high
    assert low is not None and high is not None and low < ours.spearman.value < high
    assert evaluate_similarity(vectors, read_similarity(file)) == ours, "the interval is the same each time"
    whole = evaluate_similarity(vectors, read_similarity(file), bootstrap=0).spearman
    assert whole is not None and whole.low is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Two normal variables with a known correlation: the interval of 60 pairs holds Spearman's of the distribution in 95 % of draws."""
    from vitrail.vectors.evaluating.similarity import spearman_figure

    truth, draw, held = 6 / np.pi * np.arcsin(0.6 / 2), np.random.default_rng(0), 0
    for _ in range(60):
        a, b = draw.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=60).T
        figure = spearman_figure(a, b, bootstrap=120)
        assert figure is not None and figure.low is not None and figure.high is not None
        held += figure.low <= truth <= figure.high
    assert held >= 52


def test_case_is_folded_by_unicode(tmp_path: Path) -> None:
    vectors = vectors_of(["strasse", "weg", "Weg", "солнце", "луна"])
    file = write(tmp_path / "s.tsv", "Straße\tWEG\t2\nСолнце\tлуна\t4\nweg\tлуна\t1\n")
    plain = evaluate_similarity(vectors, read_similarity(file))
    assert (plain.in_vocabulary, plain.missing, plain.more_if_folded, plain.spearman) == (1, ("Straße", "WEG", "Солнце"), 2, None)
    folded = evaluate_similarity(vectors, read_similarity(file), fold_case=True)
    assert (folded.in_vocabulary, folded.missing, folded.more_if_folded) == (3, (), 0)
    cosines = [vectors.similarity(a, b) for a, b in (("strasse", "weg"), ("солнце", "луна"), ("weg", "луна"))]
    assert folded.spearman is not None and folded.spearman.value == pytest.approx(spearmanr(cosines, [2, 4, 1]).statistic)


def test_words_out_of_the_vocabulary_are_answered_by_ngrams_and_told_apart(tmp_path: Path) -> None:
    table: Matrix = np.random.default_rng(5).normal(size=(30, 4)).astype(np.float32)
    plain = vectors_of(["house", "home", "hut", "car"])
    vectors = WordVectors(plain.words, plain.matrix, ngrams=Ngrams(table, 3, 5))
    file = write(tmp_path / "s.tsv", "house\thome\t9\nhut\tcar\t1\nhouses\thut\t5\nhouse\tcar\t2\n")
    found = evaluate_similarity(vectors, read_similarity(file))
    assert (found.in_vocabulary, found.from_ngrams, found.missing) == (3, 1, ())
    pairs = [("house", "home"), ("hut", "car"), ("houses", "hut"), ("house", "car")]
    cosines = [vectors.similarity(*pair) for pair in pairs]
    assert found.spearman is not None and found.spearman.value == pytest.approx(spearmanr(cosines, [9, 1, 5, 2]).statistic)
    inside = [cosines[place] for place in (0, 1, 3)]
    known = found.spearman_in_vocabulary
    assert known is not None and known.value == pytest.approx(spearmanr(inside, [9, 1, 2]).statistic)
    alone = WordVectors(["x"], plain.matrix[:1], ngrams=vectors.ngrams)
    unseen = found.spearman_as_unseen
    assert unseen is not None and unseen.value == pytest.approx(
        spearmanr([alone.similarity(*pair) for pair in pairs], [9, 1, 5, 2]).statistic
    )


# ---- analogies ------------------------------------------------------------------------------------------------------------------


def grid() -> WordVectors:
    """Words at the corners of parallelograms, among others: both methods answer these right."""
    draw = np.random.default_rng(1)
    ways, places = draw.normal(size=(2, 20)), draw.normal(size=(6, 20))
    corners = {f"w{n}{'ab'[side]}": 2 * places[n] + side * ways[0] for n in range(6) for side in (0, 1)}
    others = {f"x{n}": draw.normal(size=20) for n in range(30)}
    words = [*corners, *others]
    return WordVectors(words, np.array([{**corners, **others}[word] for word in words], dtype=np.float32))


TEXT = (
    ": places\n"
    + "".join(f"w{a}a w{a}b w{b}a w{b}b\n" for a in range(6) for b in range(6) if a != b)
    + ": gram1 of others\nx1 x2 x3 x4\nw0a w0b w1a x9\nx1 nowhere x3 x4\n"
)


def test_analogies_are_those_of_gensim(tmp_path: Path) -> None:
    vectors, file = grid(), write(tmp_path / "a.txt", TEXT)
    score, sections = gensims(vectors).evaluate_word_analogies(str(file), case_insensitive=False)
    said: list[str] = []
    ours = evaluate_analogies(vectors, read_analogies(file), say=said.append)
    assert [(one.name, one.right["3cosadd"]) for one in ours.sections] == [(one["section"], len(one["correct"])) for one in sections[:2]]
    assert ours.accuracy["3cosadd"] is not None and ours.accuracy["3cosadd"].value == pytest.approx(score)
    assert [(one.name, one.questions, one.covered) for one in ours.totals] == [("semantic", 30, 30), ("syntactic", 3, 2), ("all", 33, 32)]
    assert ours.missing == ("nowhere",) and len(said) == 2 and said[0].startswith("places: 3cosadd ")
    assert ours.sections[0].right["3cosadd"] >= 28 and ours.sections[0].right["3cosmul"] >= 28
    for question in read_analogies(file).sections[0].questions[:10]:
        for method in ("3cosadd", "3cosmul"):
            (best,) = vectors.analogy(*question[:3], method=method, count=1)
            one = AnalogySet("one", (AnalogySection("one", (question,)),))
            assert evaluate_analogies(vectors, one).sections[0].right[method] == (best.word == question.d)


def test_analogies_with_folded_case_take_no_word_of_the_question() -> None:
    plain = grid()
    words = [word.upper() if word.startswith("w1") else word for word in plain.words] + ["w1a", "W0A"]
    vectors = WordVectors(words, np.vstack([plain.matrix, plain.matrix[[2, 0]]]))
    questions = AnalogySet("a", (AnalogySection("s", (Analogy("w0a", "w0b", "w1a", "w1b"),)),))
    assert evaluate_analogies(vectors, questions).sections[0].covered == 0
    found = evaluate_analogies(vectors, questions, fold_case=True)
    assert found.sections[0].covered == 1 and found.sections[0].right == {"3cosadd": 1, "3cosmul": 1}


@pytest.mark.parametrize(
    ("text", "told"), [("a b c\n", r":1: 3 words(?s:.)*joined with _"), (": x\n", "no analogies"), ("\n", "no analogies")]
)
def test_bad_files_of_analogies_are_refused_by_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        read_analogies(write(tmp_path / "a.txt", text))


def test_no_such_file() -> None:
    file = Path(__file__).parent / "nowhere"
    with pytest.raises(DataError, match="no such file"):
        read_analogies(file)


def test_analogies_before_the_first_section(tmp_path: Path) -> None:
    found = read_analogies(write(tmp_path / "mine.txt", "a b c d\n: second part\ne f g h\n:\ni j k l\n"))
    assert [section.name for section in found.sections] == ["mine", "second part", "section 3"]


# ---- the report -----------------------------------------------------------------------------------------------------------------


def test_the_report_has_every_number_as_text_and_as_json(tmp_path: Path) -> None:
    vectors = grid()
    similarity = read_similarity(write(tmp_path / "pairs.tsv", "w0a\tw0b\t9\nx1\tx2\t2\nx1\tW0A\t5\nzz\tw0a\t1\nx5\tw0a\t3\n"))
    analogies = [read_analogies(write(tmp_path / "a.txt", TEXT))]
    report = evaluate_vectors(vectors, name="v", similarity=[similarity], analogies=analogies, fold_case=False, bootstrap=50)
    folded = evaluate_vectors(vectors, name="v", similarity=[similarity], bootstrap=0)
    assert folded.fold_case and folded.similarity[0].in_vocabulary == 4, "no word of these vectors has an upper case letter"
    text = report.to_text()
    assert "v: 42 words of 20 numbers\n" in text and "pairs           5      3 (60.0 %)           0  " in text
    assert "pairs left out, since these words are missing: W0A, zz" in text and "--fold-case would have vectors for 1 pairs more" in text
    assert "gram1 of others          3      2 (66.7 %)" in text and "questions left out, since these words are missing: nowhere" in text
    found = json.loads(report.to_json())
    assert found["similarity"][0]["in_vocabulary"] == 3 and found["similarity"][0]["spearman"]["value"] is not None
    assert found["analogies"][0]["totals"][-1]["name"] == "all" and 0 <= found["analogies"][0]["totals"][-1]["accuracy"]["3cosmul"] <= 1
    none = evaluate_vectors(vectors, name="v", similarity=[read_similarity(write(tmp_path / "n.tsv", "a\tb\t9\n"))])
    assert "not defined" in none.to_text() and "0 (0.0 %)" in none.to_text()


@pytest.mark.skipif(WORD_EVAL is None, reason="no folder shared/data/word-eval above this one")
@pytest.mark.parametrize(("name", "pairs"), [("EN-RG-65", 65), ("EN-WS-353-ALL", 353)])
def test_the_sets_that_the_field_uses(name: str, pairs: int) -> None:
    assert WORD_EVAL is not None
    found = read_similarity(WORD_EVAL / f"{name}.txt")
    assert len(found.pairs) == pairs
    words = sorted({word for pair in found.pairs for word in pair[:2]})
    vectors = vectors_of(words, 10)
    theirs = gensims(vectors).evaluate_word_pairs(str(WORD_EVAL / f"{name}.txt"), case_insensitive=False)
    ours = evaluate_similarity(vectors, found, bootstrap=0)
    assert ours.in_vocabulary == pairs and ours.spearman is not None
    assert ours.spearman.value == pytest.approx(theirs[1].statistic, abs=1e-4)
