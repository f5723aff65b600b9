"""Rotations against scipy's, CSLS against its definition, and translations in a rotated copy with noise."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from vitrail.errors import DataError, UsageError
from vitrail.vectors import WordVectors
from vitrail.vectors.evaluating.dictionary import induce_dictionary, read_pairs, score_dictionary
from vitrail.vectors.mapping import MappedSpaces, Space, fit_rotation
from vitrail.vectors.nearest import unit

WORDS, DIMENSION = 600, 24
PAIRS = [(f"a{n}", f"b{n}") for n in range(WORDS)]


def copies(noise: float, *, seed: int = 0) -> tuple[WordVectors, WordVectors]:
    """Clustered vectors, and the same rotated, shifted, scaled and with noise, in another order."""
    draw = np.random.default_rng(seed)
    source = draw.normal(size=(30, DIMENSION)).repeat(WORDS // 30, axis=0) + draw.normal(size=(WORDS, DIMENSION))
    rotated = source @ ortho_group.rvs(DIMENSION, random_state=seed) + noise * draw.normal(size=source.shape)
    order = draw.permutation(WORDS)
    names = [f"b{n}" for n in order]
    return (
        WordVectors([f"a{n}" for n in range(WORDS)], source.astype(np.float32)),
        WordVectors(names, (3 * rotated[order]).astype(np.float32)),
    )


def test_the_rotation_is_scipys_and_orthogonal() -> None:
    draw = np.random.default_rng(0)
    source, target = (draw.normal(size=(50, 8)).astype(np.float32) for _ in range(2))
    found = fit_rotation(source, target)
    np.testing.assert_allclose(found, orthogonal_procrustes(source.astype(np.float64), target.astype(np.float64))[0], atol=1e-6)
    np.testing.assert_allclose(found @ found.T, np.eye(8), atol=1e-6)
    turned = ortho_group.rvs(8, random_state=1).astype(np.float32)
    np.testing.assert_allclose(fit_rotation(source, source @ turned), turned, atol=1e-5)


def test_a_space_is_of_unit_vectors_around_zero() -> None:
    vectors, _ = copies(0)
    space = Space(vectors)
    rows = unit(vectors.matrix)
    np.testing.assert_allclose(space.rows(slice(0, WORDS)), unit(rows - rows.mean(axis=0)), atol=1e-6)
    np.testing.assert_array_equal(space.rows([5, 3]), space.rows(slice(0, WORDS))[[5, 3]])


def test_csls_is_as_it_is_defined() -> None:
    source, target = copies(0.8)
    found = MappedSpaces.fit(source, target, PAIRS[:100])
    cosines = found.source.rows(slice(0, WORDS)) @ found.rotation @ found.target.rows(slice(0, WORDS)).T
    of_source = np.sort(cosines, axis=1)[:, -10:].mean(axis=1)
    of_target = np.sort(cosines, axis=0)[-10:].mean(axis=0)
    csls = 2 * cosines - of_source[:, None] - of_target[None]
    best = found.translations(range(WORDS), count=3)
    np.testing.assert_allclose(best.scores - of_source[:, None], np.sort(csls, axis=1)[:, :-4:-1], atol=1e-5)
    assert (best.rows[:, 0] == csls.argmax(axis=1)).mean() > 0.99
    plain = found.translations(range(WORDS), count=3, csls=False)
    np.testing.assert_allclose(plain.scores, np.sort(cosines, axis=1)[:, :-4:-1], atol=1e-5)
    both = (csls.argmax(axis=1)[csls.argmax(axis=0)] == np.arange(WORDS)).sum()
    assert len(found.mutual_pairs(WORDS)) == pytest.approx(both, abs=2)


def test_a_rotated_copy_is_found_again() -> None:
    source, target = copies(0)
    spaces = MappedSpaces.fit(source, target, PAIRS[:40])
    assert [(entry.source, entry.target) for entry in induce_dictionary(spaces, words=WORDS)] == PAIRS
    score = score_dictionary(spaces, PAIRS[40:], seed=PAIRS[:40])
    assert score.csls[1].value == score.csls[5].value == score.cosine[1].value == 1 and score.covered == WORDS - 40


def test_noise_costs_precision_csls_wins_some_back_and_refinement_more() -> None:
    """Few pairs for many dimensions: the first rotation is poor, and what it finds surely makes the next one better."""
    rows: list[list[float]] = []
    for seed in range(3):
        source, target = copies(1, seed=seed)
        first, said = MappedSpaces.fit(source, target, PAIRS[:40]), list[str]()
        before, after = (score_dictionary(one, PAIRS[40:], seed=PAIRS[:40]) for one in (first, first.refined(5, say=said.append)))
        rows.append([before.cosine[1].value, before.csls[1].value, after.csls[1].value])
        assert before.csls[5].value > before.csls[1].value and len(said) == 5
        assert before.fitted_pairs == before.seed_known == 40 and after.fitted_pairs > 400
        low, high = before.csls[1].low, before.csls[1].high
        assert low is not None and high is not None and low < before.csls[1].value < high
    cosine, csls, refined = np.mean(rows, axis=0)
    assert csls > cosine + 0.03 and refined > csls + 0.2


def test_words_with_several_translations_and_words_that_are_missing() -> None:
    source, target = copies(0)
    spaces = MappedSpaces.fit(source, target, [*PAIRS[:40], ("nowhere", "b1"), ("a1", "nowhere")])
    assert spaces.pairs == 40
    test = [("a50", "b51"), ("a50", "b50"), ("a60", "b61"), ("nowhere", "b1"), ("a70", "nowhere")]
    score = score_dictionary(spaces, test, seed=PAIRS[:40])
    assert (score.words, score.covered, score.missing, score.csls[1].value) == (4, 2, ("nowhere", "a70"), 0.5)
    none = score_dictionary(spaces, [("x", "y")], seed=PAIRS[:1])
    assert none.csls == {} and "no word is covered" in none.to_text()
    assert "precision at  1                     5\nCSLS          0.500 [0.000, 1.000]" in score.to_text()


def test_what_cannot_be_mapped_is_refused() -> None:
    source, target = copies(0)
    with pytest.raises(UsageError, match=r"vectors of 24 and of 2 numbers"):
        MappedSpaces.fit(source, WordVectors(["b1"], np.ones((1, 2), dtype=np.float32)), PAIRS)
    with pytest.raises(DataError, match=r"none of 1 pairs"):
        MappedSpaces.fit(source, target, [("b1", "a1")])


def test_pairs_are_read_from_every_layout(tmp_path: Path) -> None:
    file = tmp_path / "p"
    for text in ("chien\tdog\nNew York\tНью-Йорк\n", "chien,dog\nNew York,Нью-Йорк"):
        file.write_text(text, encoding="utf-8")
        assert read_pairs(file) == [("chien", "dog"), ("New York", "Нью-Йорк")]
    file.write_text("chien dog\n\nchat  cat\n")
    assert read_pairs(file) == [("chien", "dog"), ("chat", "cat")]
    for text, told in (("a b\na b c\n", ":2: 3 fields"), ("a\n", ":1: 1 fields"), ("a\t\n", ":1: 2 fields"), ("\n", "holds no pairs")):
        file.write_text(text)
        with pytest.raises(DataError, match=told):
            read_pairs(file)
