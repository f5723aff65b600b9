"""How good predicted labels are: accuracy, F1, Matthews' correlation and confusions, from counts that add up.

Definitions are those of scikit-learn. F1 of a label that no text has and none is given is 0; macro F1 is the mean over all labels.
Matthews' correlation of several classes is Gorodkin's R_K (2004); where labels may hold together, it is the mean over the labels. It is 0
where it is not defined (all predictions alike, or all labels).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
"""A row for each text, a column for each label: whether it holds."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """Figures of predictions, each with one entry for each way to weight the texts."""

    accuracy: Numbers
    """Share of the texts whose labels are all right."""
    f1: Numbers
    """Macro F1: the mean over the labels."""
    matthews: Numbers
    f1_by_label: Numbers
    """One row for each way to weight, one column for each label."""


@dataclass(frozen=True)
class Predictions:
    """Which labels hold, and which were predicted."""

    right: Flags
    predicted: Flags
    several: bool
    """Whether labels may hold together; else each row has one."""

    @cached_property
    def _patterns(self) -> tuple[Flags, Flags, Numbers]:
        """Each pair of right and predicted labels that occurs, once, and how often it does: figures depend on nothing else."""
        both = np.unique(np.concatenate([self.right, self.predicted], axis=1), axis=0, return_counts=True)
        labels = self.right.shape[1]
        return both[0][:, :labels], both[0][:, labels:], both[1].astype(np.float64)

    def rates(self, weights: Numbers | None = None) -> Rates:
        """The figures of all texts. Args: weights: how often each text counts, one row for each result; None: all once."""
        if weights is None:
            right, predicted, counts = self._patterns
            return self._rates(right, predicted, counts[None])
        return self._rates(self.right, self.predicted, weights)

    def resampled(self, times: int, *, seed: int = 12_345) -> Rates:
        """The figures of as many texts drawn with replacement, `times` times (the bootstrap)."""
        right, predicted, counts = self._patterns
        number = int(counts.sum())
        draws = np.random.default_rng(seed).multinomial(number, counts / number, size=times)
        return self._rates(right, predicted, draws.astype(np.float64))

    def _rates(self, right: Flags, predicted: Flags, weights: Numbers) -> Rates:
        hits = weights @ (right & predicted)
        wanted, given, total = weights @ right, weights @ predicted, weights.sum(1)
        whole = (weights @ (right == predicted).all(1)) / total
        f1 = _ratio(2 * hits, wanted + given)
        if self.several:
            matthews = _ratio(total[:, None] * hits - wanted * given, _root(wanted, total[:, None]) * _root(given, total[:, None])).mean(1)
        else:
            squares = (total**2 - (wanted**2).sum(1)), (total**2 - (given**2).sum(1))
            matthews = _ratio(hits.sum(1) * total - (wanted * given).sum(1), np.sqrt(squares[0] * squares[1]))
        return Rates(whole, f1.mean(1), matthews, f1)

    def confusion(self) -> npt.NDArray[np.int64]:
        """How often label i was taken for j; where labels may hold together, of each [[right no, false yes], [false no, right yes]]."""
        right, predicted = self.right.astype(np.int64), self.predicted.astype(np.int64)
        if not self.several:
            return right.T @ predicted
        hits, wanted, given = (right & predicted).sum(0), right.sum(0), predicted.sum(0)
        cells = [[len(right) - wanted - given + hits, given - hits], [wanted - hits, hits]]
        return np.array(cells).transpose(2, 0, 1)

    def by_label(self) -> tuple[Numbers, Numbers]:
        """Precision and recall of each label."""
        hits = (self.right & self.predicted).sum(0).astype(np.float64)
        return _ratio(hits, self.predicted.sum(0).astype(np.float64)), _ratio(hits, self.right.sum(0).astype(np.float64))


def _root(number: Numbers, total: Numbers) -> Numbers:
    return np.sqrt(number * (total - number))


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """Above / below; 0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def flags(rows: Sequence[Sequence[int]], labels: int) -> Flags:
    """The labels of each text as flags. Args: rows: their places, from 0."""
    found = np.zeros((len(rows), labels), dtype=np.bool_)
    for number, places in enumerate(rows):
        found[number, list(places)] = True
    return found
