"""Vectors of sentences, by any model that makes them: a translator's encoder, a masked language model, an autoencoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from vitrail.data.cleaning.normalise import Normalisation, normalise
from vitrail.data.vocabularies.subwords import Subwords
from vitrail.decode.encoding.engine import EncoderEngine, How, Precision
from vitrail.decode.encoding.table import make_encoder, with_torch
from vitrail.errors import ModelError, UsageError
from vitrail.models.architectures import TASK_MODELS, task_of
from vitrail.models.stored import StoredModel, read_stored
from vitrail.runtime.machine import Device

if TYPE_CHECKING:
    import torch

    from vitrail.models.base import Embeds

Vectors = npt.NDArray[np.float32]
AnyEmbedder = TypeVar("AnyEmbedder", bound="Embedder")


@dataclass(frozen=True)
class Neighbour:
    """A sentence near another one."""

    place: int
    """Its place among the sentences that were searched, from 0."""
    text: str
    cosine: float
    """The cosine between both vectors, 1 where they point the same way."""


class Embedder:
    """Sentences in, vectors out.

    embedder = Embedder.load("runs/en-fr")
    vectors = embedder.embed(["A dog runs.", "A man sits."])

    Args: model: one that makes vectors of sentences, in evaluation mode; or an engine that has one.
    """

    engines: ClassVar[tuple[str, ...]] = ()
    """The suitable engines; empty: all."""

    def __init__(
        self,
        model: "Embeds | EncoderEngine",
        vocabulary: Subwords,
        *,
        read: Callable[[str], str] = normalise,
        facts: dict[str, Any] | None = None,
    ):
        self.encoder = model if isinstance(model, EncoderEngine) else with_torch(model)
        """What computes."""
        self.vocabulary, self.read, self.facts = vocabulary, read, facts or {}

    @classmethod
    def load(
        cls: type[AnyEmbedder],
        path: str | Path,
        *,
        engine: str = "auto",
        precision: Precision = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> AnyEmbedder:
        """Load a run's folder or a model folder.

        Args:
            engine: native, torch, or auto for the first of them that can compute with the model; see docs/engine.md.
            precision: of the native engine.
            threads: processor threads (0: one for each core), with torch for this whole process; None leaves them as they are.
        Raises: ModelError where the folder is missing or damaged, or holds a model that makes no vectors of sentences; UsageError for an
            unknown engine, or one that cannot compute with the model.
        """
        stored = read_stored(Path(path))
        cls.require(stored, name=str(path))
        return cls.of(make_encoder(engine, stored, How("vectors", device, threads, precision), among=cls.engines), stored)

    @classmethod
    def require(cls, stored: StoredModel, *, name: str) -> None:
        """Raise ModelError where a model makes no vectors of sentences."""
        task = task_of(stored.config)
        if task == "language":
            raise ModelError(f"{name}: holds {TASK_MODELS[task]}, which makes no vectors of sentences", expected="a model with an encoder")

    @classmethod
    def of(cls: type[AnyEmbedder], encoder: EncoderEngine, stored: StoredModel) -> AnyEmbedder:
        """With an engine that has a stored model."""
        fact = stored.facts.get("source_normalization")
        read = normalise if fact is None else Normalisation.from_fact(fact).source
        return cls(encoder, stored.vocabularies.source, read=read, facts=stored.facts)

    @property
    def model(self) -> Any:
        """The model on torch."""
        return self.encoder.model

    def encode(self, text: str) -> list[int]:
        """The ids of a sentence, cut where it is longer than the model reads."""
        longest = self.encoder.longest
        ids = self.vocabulary.encode(self.read(text))
        return ids if longest is None else ids[: longest - 1 - self.encoder.marks_start]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector for each sentence, in their order; never dependent on the others. Sentences that are too long are cut."""
        return self.encoder.vectors([self.encode(text) for text in texts])

    @property
    def device(self) -> "torch.device":
        """Where the model is."""
        return next(self.model.parameters()).device

    def nearest(self, query: str, texts: Sequence[str], *, top: int = 5, vectors: Vectors | None = None) -> list[Neighbour]:
        """The sentences nearest to another one by the cosine of their vectors, the nearest first; of equal ones, the first first.

        Args:   vectors: those of the texts, where they are known.
        Raises: UsageError for an empty sentence, or without sentences to search.
        """
        if not self.encode(query) or not texts:
            raise UsageError("nothing to compare", expected="a sentence, and a text to search for its neighbours")
        known = self.embed(texts) if vectors is None else vectors
        return [Neighbour(place, texts[place], cosine) for place, cosine in nearest_rows(self.embed([query])[0], known, top=top)]


def nearest_rows(query: Vectors, vectors: Vectors, *, top: int) -> list[tuple[int, float]]:
    """The rows with the largest cosine to a vector, each with it; of equal ones, the first first. A zero vector is near to none."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    cosines = np.divide(vectors @ query, lengths, out=np.zeros(len(vectors), dtype=np.float32), where=lengths > 0)
    order = np.argsort(-cosines, kind="stable")[:top]
    return [(int(place), float(min(1.0, cosines[place]))) for place in order]
