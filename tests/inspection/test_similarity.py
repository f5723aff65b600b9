"""Principal components, neighbours, retrieval and CKA against scikit-learn and equations written out in float64."""

import sys

import numpy as np
import numpy.typing as npt
import pytest

from vitrail.errors import UsageError
from vitrail.inspection.maps.similarity import ProjectionMethod, cka_matrix, columns, linear_cka, nearest, pca, project, retrieve, rotation

Array = npt.NDArray[np.float64]


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(3)


def a_rotation(draw: np.random.Generator, size: int) -> Array:
    return np.linalg.qr(draw.normal(size=(size, size)))[0]


# ---- principal components --------------------------------------------------------------------------------------------------------


def test_principal_components_equal_scikit_learns(draw: np.random.Generator) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    values = draw.normal(size=(40, 12)) @ draw.normal(size=(12, 12)) + 5
    found, reference = pca(values, components=3), decomposition.PCA(3, svd_solver="full").fit(values)
    assert found.explained is not None
    np.testing.assert_allclose(found.explained, reference.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(found.coordinates, reference.transform(values), atol=1e-9)


def test_principal_components_are_eigenvectors_of_the_covariance(draw: np.random.Generator) -> None:
    values = draw.normal(size=(50, 6)) * np.arange(1, 7)
    found = pca(values, components=6)
    sizes = np.sort(np.linalg.eigvalsh(np.cov(values.T)))[::-1]
    np.testing.assert_allclose(found.coordinates.var(axis=0, ddof=1), sizes, rtol=1e-9)
    assert found.explained is not None and sum(found.explained) == pytest.approx(1)
    # As many components as dimensions only turn the points: distances stay.
    np.testing.assert_allclose(np.linalg.norm(np.diff(found.coordinates, axis=0), axis=1), np.linalg.norm(np.diff(values, axis=0), axis=1))


def test_the_sign_does_not_depend_on_the_order_of_points(draw: np.random.Generator) -> None:
    values = draw.normal(size=(30, 5))
    turned = pca(values[::-1]).coordinates[::-1]
    np.testing.assert_allclose(pca(values).coordinates, turned, atol=1e-9)


def test_points_that_are_all_the_same_and_fewer_dimensions_than_asked_for() -> None:
    same = pca(np.ones((6, 4)))
    assert not same.coordinates.any() and same.explained == (0, 0, 0)
    line = pca(np.arange(5.0)[:, None])
    assert line.coordinates.shape == (5, 3) and line.explained == pytest.approx((1, 0, 0)) and not line.coordinates[:, 1:].any()


def test_coordinates_are_written_with_four_digits_of_the_widest(draw: np.random.Generator) -> None:
    (first, *_) = columns(pca(draw.normal(size=(20, 4)) * 1234))
    assert all(value == round(value) for value in first)
    (first, *_) = columns(pca(draw.normal(size=(20, 4)) / 1000))
    assert len(set(first)) == 20


def test_t_sne_keeps_groups_together_and_is_repeatable(draw: np.random.Generator) -> None:
    pytest.importorskip("sklearn")
    centres = np.repeat(np.eye(3) * 50, 20, axis=0)
    values = centres + draw.normal(size=(60, 3))
    found = project(values, method="tsne", components=2)
    again = project(values, method="tsne", components=2)
    np.testing.assert_array_equal(found.coordinates, again.coordinates)
    assert found.explained is None
    own = np.linalg.norm(found.coordinates[:20] - found.coordinates[:20].mean(axis=0), axis=1).max()
    others = np.linalg.norm(found.coordinates[20:] - found.coordinates[:20].mean(axis=0), axis=1).min()
    assert own < others


@pytest.mark.parametrize(("method", "module", "remedy"), [("tsne", "sklearn.manifold", "vitrail[maps]"), ("umap", "umap", "vitrail[umap]")])
def test_a_missing_library_is_named(method: ProjectionMethod, module: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match="not installed") as caught:
        project(np.eye(9), method=method)
    assert remedy in str(caught.value)


# ---- neighbours and retrieval ----------------------------------------------------------------------------------------------------


def test_neighbours_are_the_largest_cosines(draw: np.random.Generator) -> None:
    table = draw.normal(size=(30, 8))
    found = nearest(table, np.array([4, 17]), count=29)
    for row, number in enumerate((4, 17)):
        cosines = {
            other: table[number] @ table[other] / np.sqrt((table[number] ** 2).sum() * (table[other] ** 2).sum())
            for other in range(30)
            if other != number
        }
        assert found.rows[row].tolist() == sorted(cosines, key=lambda other: -cosines[other])
        np.testing.assert_allclose(found.cosines[row], sorted(cosines.values(), reverse=True))


def test_only_the_allowed_are_neighbours(draw: np.random.Generator) -> None:
    found = nearest(draw.normal(size=(9, 4)), np.array([0]), count=3, among=np.arange(9) >= 7)
    assert set(found.rows[0, :2].tolist()) == {7, 8} and found.cosines[0, 2] == -np.inf


def test_a_row_of_zeros_is_like_nothing() -> None:
    assert nearest(np.array([[0.0, 0], [1, 0]]), np.array([0]), count=1).cosines[0, 0] == 0


def test_ranks_count_those_that_are_as_near(draw: np.random.Generator) -> None:
    values = draw.normal(size=(20, 5))
    assert retrieve(values * 3, values).tolist() == [1] * 20
    twice = np.concatenate([values[:2], values[:2]])
    assert retrieve(twice, twice).tolist() == [2] * 4  # the other copy is as near, so neither is found
    assert retrieve(values, -values).tolist() == [20] * 20


def test_the_rotation_is_found_and_keeps_lengths(draw: np.random.Generator) -> None:
    values, turn = draw.normal(size=(60, 7)), a_rotation(draw, 7)
    np.testing.assert_allclose(rotation(values, values @ turn), turn, atol=1e-9)
    wide = rotation(draw.normal(size=(60, 7)), draw.normal(size=(60, 4)))
    np.testing.assert_allclose(wide.T @ wide, np.eye(4), atol=1e-9)


# ---- CKA -------------------------------------------------------------------------------------------------------------------------


def reference_cka(one: Array, other: Array) -> float:
    """Song et al. 2012, eq. 5, as it is printed."""

    def hsic(k: Array, m: Array) -> float:
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        ones = np.ones(n)
        first = np.trace(k @ m)
        second = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * (ones @ k @ m @ ones)
        return float(first + second - third) / (n * (n - 3))

    grams = one @ one.T, other @ other.T
    return hsic(*grams) / np.sqrt(hsic(grams[0], grams[0]) * hsic(grams[1], grams[1]))


def biased_cka(one: Array, other: Array) -> float:
    """Kornblith et al. 2019: ||YᵀX||² / (||XᵀX||·||YᵀY||) of centred features."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return float(np.linalg.norm(other.T @ one) ** 2 / (np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)))


def test_cka_equals_the_estimate_written_out(draw: np.random.Generator) -> None:
    one = draw.normal(size=(40, 10))
    other = one[:, :6] @ draw.normal(size=(6, 8)) + draw.normal(size=(40, 8)) + 3
    assert linear_cka(one, other) == pytest.approx(reference_cka(one, other), rel=1e-9)
    assert linear_cka(one, other) == pytest.approx(linear_cka(other, one))


def test_cka_is_one_for_a_turned_scaled_and_moved_copy(draw: np.random.Generator) -> None:
    one = draw.normal(size=(30, 9))
    other = draw.normal(size=(30, 5))
    assert linear_cka(one, one) == pytest.approx(1)
    assert linear_cka(one, 7 * one @ a_rotation(draw, 9) - 2) == pytest.approx(1)
    assert linear_cka(one, other) == pytest.approx(linear_cka(one @ a_rotation(draw, 9) + 4, other / 5))
    # A linear map that is no rotation is seen.
    assert linear_cka(one, one * np.logspace(0, 2, 9)) < 0.9


def test_cka_of_the_unrelated_is_zero_where_the_biased_one_is_not(draw: np.random.Generator) -> None:
    one, other = draw.normal(size=(200, 128)), draw.normal(size=(200, 128))
    assert biased_cka(one, other) == pytest.approx(0.39, abs=0.01)
    assert abs(linear_cka(one, other)) < 0.01


def test_with_many_things_both_estimates_agree(draw: np.random.Generator) -> None:
    one = draw.normal(size=(1500, 4))
    other = one @ draw.normal(size=(4, 4))
    assert linear_cka(one, other) == pytest.approx(biased_cka(one, other), abs=2e-3)


def test_states_that_are_all_the_same_are_like_nothing(draw: np.random.Generator) -> None:
    found = cka_matrix([draw.normal(size=(10, 3)), np.ones((10, 3))], [draw.normal(size=(10, 3))])
    assert np.isfinite(found[0, 0]) and np.isnan(found[1, 0])
