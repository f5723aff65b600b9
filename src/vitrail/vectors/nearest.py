"""The best rows of a large matrix for each of some queries, found block by block, so that memory does not grow with the matrix."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_BLOCK_CELLS = 1 << 22
"""Scores computed at a time: 16 MiB."""
_LEAST_BLOCK = 1024


class Best(NamedTuple):
    """For each query its best rows, the best first; of equal scores the earlier row."""

    rows: Rows
    scores: Scores


def best_rows(size: int, score: Callable[[slice], Scores], *, queries: int, count: int, excluded: list[list[int]] | None = None) -> Best:
    """The rows with the greatest scores.

    Args:
        size: rows of the matrix.
        score: [queries, rows of the block] for a block of rows.
        count: rows wanted for each query; fewer where there are not as many.
        excluded: for each query, rows that may not be among them.
    """
    count = min(count, size)
    rows, scores = np.zeros((queries, 0), dtype=np.int64), np.zeros((queries, 0), dtype=np.float32)
    block = max(_LEAST_BLOCK, _BLOCK_CELLS // max(1, queries))
    for start in range(0, size, block):
        place = slice(start, min(size, start + block))
        part = score(place)
        for query, never in enumerate(excluded or ()):
            part[query, [row - start for row in never if start <= row < place.stop]] = -np.inf
        kept = _greatest(part, count)
        rows = np.concatenate([rows, kept + start], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(part, kept, axis=1)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return Best(rows, scores)


def _greatest(scores: Scores, count: int) -> Rows:
    """The columns of the greatest scores of each row, in rising order of columns. All columns with the least of them are equal candidates,
    of which the first are taken, so that blocks of other sizes find the same."""
    width = scores.shape[1]
    if count >= width:
        return np.broadcast_to(np.arange(width), scores.shape)
    if count == 1:
        return np.argmax(scores, axis=1)[:, None]
    found = np.argpartition(scores, width - count, axis=1)[:, width - count :]
    least = np.take_along_axis(scores, found, axis=1).min(axis=1)
    tied = (scores == least[:, None]).sum(axis=1) > 1
    for query in np.flatnonzero(tied):
        found[query] = np.argsort(-scores[query], kind="stable")[:count]
    return np.sort(found, axis=1)


def unit(vectors: Scores) -> Scores:
    """Rows of length 1; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def inverse_lengths(matrix: Scores) -> Scores:
    """1 / length of each row, 0 for rows of zeros. A product with it is a cosine, and no second matrix is kept for that."""
    found = np.zeros(len(matrix), dtype=np.float32)
    block = max(_LEAST_BLOCK, _BLOCK_CELLS // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), block):
        lengths = np.linalg.norm(matrix[start : start + block], axis=1)
        found[start : start + block] = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return found
