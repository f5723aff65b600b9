"""Groups of texts read by compiled code: `transformer.pooling` and `recurrent.pooling` of `vitrail.native`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from vitrail.decode.encoding.engine import Array, How
from vitrail.decode.engines.native_models import NativeModel, NativeRecurrent, NativeTransformer
from vitrail.errors import ModelError
from vitrail.models.stored import StoredModel
from vitrail.native.arrays import Allocate, Integers, allocate, padded
from vitrail.native.compiled import entry_obstacle, load_entry
from vitrail.native.machine_code import Entry
from vitrail.native.matrices.packing import STEP
from vitrail.native.recurrent import architecture as recurrent_architecture
from vitrail.native.recurrent import memory as recurrent_memory
from vitrail.native.recurrent import packing as recurrent_packing
from vitrail.native.transformer import architecture as transformer_architecture
from vitrail.native.transformer.memory import GUESSES, MEAN, NO_SCORES, PRODUCT, TOKENS, Texts, make_pooled, make_workspace

Rows = Sequence[Sequence[int]]
"""Ids with their marks."""


class Found(NamedTuple):
    """What the compiled code finds of some texts."""

    vectors: Array
    scores: Array


class Reader(ABC):
    """Reads texts with one packed model."""

    program: ClassVar[str]
    """The folder of `vitrail.native` that computes it."""
    architecture: ClassVar[ModuleType]
    """The module that knows which models it takes, and their tensors."""

    @property
    @abstractmethod
    def model(self) -> NativeModel:
        """What reads them."""

    def compiled(self) -> Entry:
        """The compiled entry; needs Numba."""
        return load_entry(*self._entry())

    @classmethod
    def obstacle(cls, config: Mapping[str, Any]) -> str:
        """Why a model of this configuration cannot be read; empty where it can."""
        return cls.architecture.obstacle(config) or entry_obstacle(*cls._entry())

    @classmethod
    def _entry(cls) -> tuple[str, str]:
        return f"vitrail.native.{cls.program}.pooling", "pool"

    @abstractmethod
    def read(self, texts: Rows, *, scored: bool, make: Allocate = allocate) -> Found:
        """The vectors of some texts, and the scores of labels where they are asked for.

        Raises ModelError where a vector is not a number. Preconditions: all ids are in the vocabulary, all positions in the table.
        """


class TransformerReader(Reader):
    """Reads texts with a Transformer's encoder."""

    program, architecture = "transformer", transformer_architecture

    def __init__(self, stored: StoredModel, how: How) -> None:
        table = stored.config.model_dump()
        parts = transformer_architecture.Architecture.of(table)
        self._first = table.get("pooling") == "first"
        parts = parts.only_encoder() if how.purpose == "vectors" else parts
        self._model = NativeTransformer.of_architecture(parts, stored.tensors, precision=how.precision)

    @property
    def model(self) -> NativeModel:
        """See `Reader.model`."""
        return self._model

    def read(self, texts: Rows, *, scored: bool, make: Allocate = allocate) -> Found:
        """See `Reader.read`."""
        tokens = np.cumsum([0, *map(len, texts[:-1])]) if self._first else None
        return self._read(texts, tokens, PRODUCT if scored else NO_SCORES, make)

    def guess(self, text: Sequence[int], places: Sequence[int], *, make: Allocate = allocate) -> Array:
        """The scores of all tokens at some places of a text, by a masked language model."""
        return self._read([text], np.asarray(places, np.int64), GUESSES, make).scores

    def _read(self, texts: Rows, tokens: Integers | None, scores: int, make: Allocate) -> Found:
        """Vectors and scores of texts, or of tokens. Args: tokens: places in all texts, one after the other; None: each text's mean."""
        packed = self._model.packed
        outputs = padded(packed.shape.vocabulary, STEP) if scores != NO_SCORES else 0
        work = make_workspace(packed.shape, texts, beams=1, steps=0, make=make)
        pooled = make_pooled(packed.shape, tokens, len(texts), outputs, make=make)
        self.compiled()(Texts(packed, work, pooled, MEAN if tokens is None else TOKENS, scores))
        vectors = pooled.vectors.reshape(-1, packed.shape.width)[:, : packed.shape.real_width]
        return _found(vectors, pooled.scores, packed.shape.vocabulary)


class RecurrentReader(Reader):
    """Reads texts with a recurrent encoder."""

    program, architecture = "recurrent", recurrent_architecture

    def __init__(self, stored: StoredModel, how: How) -> None:
        table = stored.config.model_dump()
        parts = recurrent_architecture.Architecture.of(table)
        parts = parts.only_encoder() if how.purpose == "vectors" else parts
        self._which = recurrent_memory.LAST if table.get("pooling") == "last" else recurrent_memory.MEAN
        self._places = recurrent_packing.state_places(parts)
        self._model = NativeRecurrent(recurrent_packing.pack(parts, stored.tensors, precision=how.precision))

    @property
    def model(self) -> NativeModel:
        """See `Reader.model`."""
        return self._model

    def read(self, texts: Rows, *, scored: bool, make: Allocate = allocate) -> Found:
        """See `Reader.read`."""
        packed = self._model.packed
        work = recurrent_memory.make_workspace(packed, texts, beams=1, make=make)
        outputs = padded(packed.shape.vocabulary, STEP) if scored else 0
        pooled = recurrent_memory.make_pooled(packed.shape, len(texts), outputs, make=make)
        self.compiled()(recurrent_memory.Texts(packed, work, pooled, self._which, int(scored)))
        vectors = pooled.vectors.reshape(-1, packed.shape.width)[:, self._places]
        return _found(vectors, pooled.scores, packed.shape.vocabulary)


def _found(vectors: Array, scores: Array, outputs: int) -> Found:
    if not np.isfinite(vectors).all():
        raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")
    return Found(vectors, scores.reshape(len(vectors), -1)[:, :outputs])
