"""Vectors and scores of texts computed by compiled code (`vitrail.native.transformer.pooling`), with a Transformer on the processor."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.encoding.engine import Array, EncoderEngine, How, Purpose, Rows
from vitrail.decode.engines.native_engine import unavailable
from vitrail.decode.engines.native_models import NativeTransformer, computed_by_torch, require_within
from vitrail.errors import ModelError
from vitrail.models.configs.classifier import TransformerClassifierConfig
from vitrail.models.stored import StoredModel, TensorKind
from vitrail.native.arrays import Allocate, Integers, allocate, padded
from vitrail.native.compiled import compiling, load_entry
from vitrail.native.machine_code import Entry
from vitrail.native.matrices.packing import STEP
from vitrail.native.transformer.architecture import Architecture, obstacle, tensor_shapes
from vitrail.native.transformer.asked import GUESSES, MEAN, NO_SCORES, PRODUCT, TOKENS, Texts
from vitrail.native.transformer.memory import make_pooled, make_workspace
from vitrail.runtime.cores import usual_threads

GROUP_SENTENCES, GROUP_TOKENS = 64, 1024
"""Texts and tokens of a group: enough for a matrix to be read once for many rows, and few enough for the cache."""
_KINDS: dict[Purpose, tuple[str, ...]] = {
    "vectors": ("transformer", "masked-language", "transformer-classifier"),
    "labels": ("transformer-classifier",),
    "guesses": ("masked-language",),
}
"""The kinds of model that are taken for each purpose."""


def compiled_pooling() -> Entry:
    """The compiled entry, `transformer.pooling.pool`; needs Numba."""
    return load_entry("vitrail.native.transformer.pooling", "pool")


class Found(NamedTuple):
    """What the compiled code finds of some texts."""

    vectors: Array
    scores: Array


class NativeEncoder(EncoderEngine):
    """Reads texts with one Transformer in compiled code. torch is imported when its model is asked for."""

    name = "native"

    def __init__(self, stored: StoredModel, how: How) -> None:
        self._stored, self._how, self._process = stored, how, os.getpid()
        self.config = config = stored.config
        table = config.model_dump()
        self.marks_start = config.kind != "transformer"
        learned: int | None = table["max_positions"] if table["positions"] == "learned" else None
        self.longest = table["context"] if config.kind == "masked-language" else learned
        self._first = table.get("pooling") == "first"
        parts = Architecture.of(table)
        parts = parts.only_encoder() if how.purpose == "vectors" else parts
        self.packed = NativeTransformer.of_architecture(parts, stored.tensors, precision=how.precision)
        """The model as the compiled code takes it."""

    @classmethod
    def obstacle(cls, stored: StoredModel, how: How) -> str:
        """See `EncoderEngine.obstacle`."""
        kind = stored.config.kind
        taken = kind in _KINDS[how.purpose]
        return unavailable(how.device) or (obstacle(stored.config.model_dump()) if taken else computed_by_torch(kind))

    @classmethod
    def of(cls, stored: StoredModel, how: How) -> "NativeEncoder":
        """See `EncoderEngine.of`. Precondition: no obstacle."""
        source, target = stored.vocabularies.source.size, stored.vocabularies.target.size
        if isinstance(stored.config, TransformerClassifierConfig):
            target = stored.config.scores_for(target - (EOS + 1))
        shapes = tensor_shapes(stored.config.model_dump(), source=source, target=target)
        stored.require({name: TensorKind(shape) for name, shape in shapes.items()})
        return cls(stored, how)

    @property
    def model(self) -> Any:
        """See `EncoderEngine.model`."""
        return self._on_torch

    @cached_property
    def _on_torch(self) -> Any:
        from vitrail.models.model_folder import build_stored

        return build_stored(self._stored)

    def describe(self) -> str:
        """See `EncoderEngine.describe`."""
        return f"native ({self._how.precision})"

    def announce(self, say: Callable[[str], None]) -> None:
        """See `EncoderEngine.announce`. Compiles, or reads what was compiled before."""
        with compiling("what reads texts (about 10 seconds)", say, program="transformer", after=4):
            compiled_pooling()
        super().announce(say)

    def vectors(self, rows: Rows) -> Array:
        """See `EncoderEngine.vectors`."""
        return self._read(rows, scores=NO_SCORES).vectors

    def scores(self, rows: Rows) -> Array:
        """See `EncoderEngine.scores`."""
        return self._read(rows, scores=PRODUCT).scores

    def probabilities(self, scores: Array) -> Array:
        """See `EncoderEngine.probabilities`."""
        assert isinstance(self.config, TransformerClassifierConfig)
        wide = scores.astype(np.float64)
        if self.config.output_for(self._stored.vocabularies.target.size - (EOS + 1)) == "softmax":
            return _softmax(wide)
        found = _sigmoid(wide if self.config.several else np.concatenate([-wide, wide], axis=1))
        return found.astype(np.float32)

    def guesses(self, row: Sequence[int], places: Sequence[int]) -> Array:
        """See `EncoderEngine.guesses`."""
        marked = self._marked([row])
        tokens = np.asarray(places, np.int64) + int(self.marks_start)
        scores = read_group(self.packed, marked, tokens=tokens, scores=GUESSES).scores
        found = np.zeros((len(places), scores.shape[1] - 1), np.float32)
        found[:, EOS + 1 :] = _softmax(scores[:, EOS + 1 : -1].astype(np.float64))
        return found

    def _marked(self, rows: Rows) -> list[tuple[int, ...]]:
        for row in rows:
            require_within(row, self.packed.source_vocabulary)
        marked = [(*((SOS,) if self.marks_start else ()), *row, EOS) for row in rows]
        longest = max(map(len, marked), default=0)
        self.packed.require(longest)
        self.packed.extend_positions(longest)
        return marked

    def _read(self, rows: Rows, *, scores: int) -> Found:
        """Vectors and scores of texts, in their order."""
        marked, packed = self._marked(rows), self.packed
        shape = packed.packed.shape
        if not marked:
            return Found(np.zeros((0, 0), np.float32), np.zeros((0, shape.vocabulary), np.float32))

        def read(group: Sequence[int]) -> Found:
            texts = [marked[place] for place in group]
            return read_group(packed, texts, tokens=_firsts(texts) if self._first else None, scores=scores)

        groups = make_groups([len(row) for row in marked])
        threads = 1 if os.getpid() != self._process else self._how.threads or usual_threads()
        if threads == 1 or len(groups) == 1:
            found = [read(group) for group in groups]
        else:
            with ThreadPoolExecutor(min(threads, len(groups))) as pool:
                found = list(pool.map(read, groups))
        order = np.argsort(np.concatenate(groups))
        return Found(*(np.concatenate(part)[order] for part in zip(*found, strict=True)))


def make_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Places of texts of similar length together, longest first."""
    groups: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not groups or len(groups[-1]) >= GROUP_SENTENCES or tokens + lengths[place] > GROUP_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(place)
        tokens += lengths[place]
    return groups


def read_group(
    model: NativeTransformer, texts: Sequence[Sequence[int]], *, tokens: Integers | None, scores: int, make: Allocate = allocate
) -> Found:
    """Vectors and scores of some texts, or of some of their tokens.

    Args:   texts: ids with their marks. tokens: places in all texts, one after the other; None: the mean of each text is asked for.
    Raises: ModelError where a vector is not a number. Preconditions: all ids are in the vocabulary, all positions in the table.
    """
    packed = model.packed
    outputs = padded(packed.shape.vocabulary, STEP) if scores != NO_SCORES else 0
    work = make_workspace(packed.shape, texts, beams=1, steps=0, make=make)
    pooled = make_pooled(packed.shape, tokens, len(texts), outputs, make=make)
    compiled_pooling()(Texts(packed, work, pooled, MEAN if tokens is None else TOKENS, scores))
    vectors = pooled.vectors.reshape(-1, packed.shape.width)[:, : packed.shape.real_width]
    if not np.isfinite(vectors).all():
        raise ModelError("the model's output is not a number", remedy="the weights are damaged or diverged; use an earlier checkpoint")
    return Found(vectors, pooled.scores.reshape(len(vectors), -1)[:, : packed.shape.vocabulary])


def _firsts(texts: Sequence[Sequence[int]]) -> Integers:
    return np.cumsum([0, *map(len, texts[:-1])])


def _softmax(scores: npt.NDArray[np.float64]) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _sigmoid(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
