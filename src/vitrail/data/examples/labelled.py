"""Texts with labels for a classifier: what `Batches` batches by length, and what makes a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.batches import IdRow, Lengths, pad_rows
from vitrail.data.preparing.store import Store
from vitrail.data.vocabularies.subwords import EOS


class LabelledBatch(NamedTuple):
    """Padded ids of some texts, and their labels."""

    source: Int[Tensor, "B S"]
    """Each row ends in EOS, then PAD; where the model marks starts, it begins with SOS."""
    labels: Float[Tensor, "B labels"]
    """1 for each label that a text has, else 0."""


class LabelledTexts:
    """The examples of a store, as `batches.Pairs`: texts longer than `length` are cut; their target is their labels.

    Both lengths are those of the text, which is all that a model reads.
    """

    def __init__(self, store: Store, *, length: int) -> None:
        self._store, self._length = store, length
        self.source_lengths: Lengths = np.minimum(store.source_lengths, length)
        self.target_lengths = self.source_lengths

    @property
    def cut(self) -> int:
        """How many texts are longer."""
        return int(np.count_nonzero(self._store.source_lengths > self._length))

    def __len__(self) -> int:
        return len(self._store)

    def source(self, index: int, /) -> npt.NDArray[np.int32]:
        """The ids of a text."""
        return self._store.source(index)[: self._length]

    def target(self, index: int, /) -> npt.NDArray[np.int32]:
        """The ids of its labels."""
        return self._store.row("label", index)


class Labelling(NamedTuple):
    """Makes a batch of texts and their labels; see `batches.Collate`."""

    labels: int
    """How many labels there are."""
    start: bool
    """Whether texts begin with SOS."""

    def __call__(self, source: Sequence[IdRow], target: Sequence[IdRow], /, *, seed: int = 0) -> LabelledBatch:
        """The batch. Args: target: ids of labels."""
        del seed
        labels = torch.zeros(len(source), self.labels)
        for row, ids in enumerate(target):
            labels[row, torch.as_tensor(np.asarray(ids, dtype=np.int64)) - (EOS + 1)] = 1.0
        return LabelledBatch(pad_rows(source, start=self.start), labels)
