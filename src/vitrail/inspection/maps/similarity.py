"""Similarity of vectors: principal components, neighbours by cosine, retrieval, and similarity of two sets of states (CKA)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.errors import UsageError

ProjectionMethod = Literal["pca", "tsne", "umap"]
Matrix = npt.NDArray[np.floating]
"""A row for each item, a column for each feature."""

Coordinates = tuple[tuple[float, ...], ...]
"""Each coordinate of all points, as plain numbers."""

_PERPLEXITY = 30
_NEIGHBOURS = 15


@dataclass(frozen=True, eq=False)
class Projection:
    """Points in few dimensions."""

    coordinates: npt.NDArray[np.float64]
    """A row for each point."""
    explained: tuple[float, ...] | None
    """Share of the variance along each coordinate; None for other methods than PCA."""


def pca(values: Matrix, *, components: int = 3) -> Projection:
    """Project points on the directions in which they vary most: the right singular vectors of the centred rows.

    X - mean = U·S·Vᵀ; coordinates U·S, explained S²/ΣS². Source: Pearson 1901. In float64. A singular vector is determined but for its
    sign: here its entry of largest size is positive. Where points vary in fewer dimensions, the other coordinates are 0.
    Cost: O(n·d·min(n, d)).
    """
    centred = np.asarray(values, dtype=np.float64) - np.mean(values, axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:components]
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    coordinates = centred @ (directions * signs[:, None]).T
    variances = sizes**2
    total = variances.sum()
    shares = variances[:components] / total if total > 0 else np.zeros(len(directions))
    missing = components - len(directions)
    return Projection(np.pad(coordinates, ((0, 0), (0, missing))), (*map(float, shares), *(0.0,) * missing))


def project(values: Matrix, *, method: ProjectionMethod = "pca", components: int = 3) -> Projection:
    """Project points by PCA, or by t-SNE (van der Maaten and Hinton 2008) or UMAP (McInnes et al. 2018), which preserve neighbourhoods.

    Both start from the principal components with a fixed seed. On their maps neither distances between groups nor the size of a group are
    meaningful. Fewer than five points are always projected by PCA.
    Raises: UsageError where the library is not installed. Cost: seconds for a thousand points.
    """
    if method == "pca" or len(values) < 5:
        return pca(values, components=components)
    if method == "tsne":
        try:
            from sklearn.manifold import TSNE  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError("t-SNE needs scikit-learn, which is not installed", remedy="pip install 'vitrail[maps]'") from None
        perplexity = min(_PERPLEXITY, (len(values) - 1) / 3)
        fitted = TSNE(components, init="pca", perplexity=perplexity, random_state=0).fit_transform(np.asarray(values, dtype=np.float32))
    else:
        try:
            from umap import UMAP  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError("UMAP needs umap-learn, which is not installed", remedy="pip install 'vitrail[umap]'") from None
        near = min(_NEIGHBOURS, len(values) - 1)
        fitted = UMAP(near, components, init="pca", random_state=0, n_jobs=1).fit_transform(np.asarray(values, dtype=np.float32))
    return Projection(np.asarray(fitted, dtype=np.float64), None)


def columns(projection: Projection) -> Coordinates:
    """The coordinates as plain numbers, to four digits of the widest."""
    widest = float(np.abs(projection.coordinates).max(initial=0))
    digits = 4 if widest == 0 else max(0, 3 - int(np.floor(np.log10(widest))))
    return tuple(tuple(round(value, digits) for value in column) for column in projection.coordinates.T.tolist())


def unit_rows(values: Matrix) -> npt.NDArray[np.float64]:
    """Each row at length 1, in float64; rows of zeros stay."""
    rows = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def nearest(table: Matrix, rows: npt.NDArray[np.integer], *, count: int, among: npt.NDArray[np.bool_] | None = None) -> "Nearest":
    """The nearest neighbours by cosine of some rows of a table; a row is not a neighbour of itself.

    Args: among: which rows may be neighbours; all where not given. Ties go to the lower number.
    Cost: one product of (rows, D) and (D, V).
    """
    units = unit_rows(table)
    cosines = units[rows] @ units.T
    if among is not None:
        cosines[:, ~among] = -np.inf
    cosines[np.arange(len(rows)), rows] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return Nearest(order, np.take_along_axis(cosines, order, axis=1))


class Nearest(NamedTuple):
    """Neighbours of some rows, the nearest first; a cosine of -inf means none."""

    rows: npt.NDArray[np.integer]
    cosines: npt.NDArray[np.float64]


def retrieve(queries: Matrix, candidates: Matrix) -> npt.NDArray[np.integer]:
    """For each query, the rank of the candidate with the same index, by cosine, from 1.

    Ties count against it.
    """
    cosines = unit_rows(queries) @ unit_rows(candidates).T
    return (cosines >= np.diagonal(cosines)[:, None]).sum(axis=1)


def rotation(queries: Matrix, answers: Matrix) -> npt.NDArray[np.float64]:
    """The linear map closest to queries -> answers that preserves lengths and angles: U·Vᵀ of QᵀA = U·S·Vᵀ.

    Source: Schönemann 1966 (orthogonal Procrustes); for words of two languages Xing et al. 2015. If the widths differ, the map only rotates
    the common part. Precondition: both are centred.
    """
    left, _, right = np.linalg.svd(np.asarray(queries, dtype=np.float64).T @ np.asarray(answers, dtype=np.float64), full_matrices=False)
    return left @ right


def linear_cka(one: Matrix, other: Matrix) -> float:
    """Similarity of two sets of states of the same n items: 1 where one is a rotated and scaled copy of the other, about 0 if unrelated.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K)·HSIC(L, L)), K = XXᵀ, L = YYᵀ. Source: Kornblith et al. 2019, eq. 4. Differs from it: HSIC is
    the unbiased estimate (Song et al. 2012, eq. 5; for CKA Nguyen et al. 2021), which centres the items and leaves out the diagonals. The
    biased one approaches 1 for any data with as many features as items (two random 200 x 128 matrices: 0.39, here 0.00), and is never
    negative; this one can be slightly negative. In float64.
    Precondition: at least four items. nan where the states of one set are all equal.
    """
    return float(cka_matrix([one], [other])[0, 0])


def cka_matrix(rows: list[Matrix], columns: list[Matrix]) -> npt.NDArray[np.float64]:
    """`linear_cka` of each set with each other. Cost: n² values a set are held."""
    left = [_gram(values) for values in rows]
    right = left if rows is columns else [_gram(values) for values in columns]
    selves = [np.array([_hsic(gram, gram) for gram in side]) for side in (left, right)]
    crossed = np.array([[_hsic(one, other) for other in right] for one in left])
    with np.errstate(invalid="ignore", divide="ignore"):
        return crossed / np.sqrt(np.outer(np.where(selves[0] > 0, selves[0], np.nan), np.where(selves[1] > 0, selves[1], np.nan)))


def _gram(values: Matrix) -> npt.NDArray[np.float64]:
    """XXᵀ of the centred rows, its diagonal 0. The estimate centres too; centring first is more precise."""
    centred = np.asarray(values, dtype=np.float64) - np.mean(values, axis=0, dtype=np.float64)
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0)
    return gram


def _hsic(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The unbiased estimate of HSIC from Gram matrices without diagonals (Song et al. 2012, eq. 5)."""
    count = len(one)
    assert count >= 4
    sums = one.sum(axis=0), other.sum(axis=0)
    together = float((one * other).sum()) + float(sums[0].sum() * sums[1].sum()) / ((count - 1) * (count - 2))
    return (together - 2 / (count - 2) * float(sums[0] @ sums[1])) / (count * (count - 3))
