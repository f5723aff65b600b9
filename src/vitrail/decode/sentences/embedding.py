"""Vectors of sentences, by any model that makes them: a translator's encoder, a masked language model, an autoencoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.batches import IdRow, pad_rows
from vitrail.data.cleaning.normalise import Normalisation, normalise
from vitrail.data.vocabularies.subwords import Subwords
from vitrail.errors import ModelError, UsageError
from vitrail.models.architectures import MODEL_KINDS, TASK_MODELS
from vitrail.models.base import Embeds
from vitrail.models.model_folder import LoadedFolder, load_folder
from vitrail.runtime.device import Device, choose_device, fewest_rows, set_threads

Vectors = npt.NDArray[np.float32]
AnyEmbedder = TypeVar("AnyEmbedder", bound="Embedder")
_ROWS = 64


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
    """

    def __init__(self, model: Embeds, vocabulary: Subwords, *, read: Callable[[str], str] = normalise, facts: dict[str, Any] | None = None):
        self.model, self.vocabulary, self.read, self.facts = model, vocabulary, read, facts or {}

    @classmethod
    def load(cls: type[AnyEmbedder], path: str | Path, *, device: Device = "cpu", threads: int | None = None) -> AnyEmbedder:
        """Load a run's folder or a model folder.

        Args:   threads: processor threads for this whole process (0: one for each core); None does not change them.
        Raises: ModelError where the folder is missing or damaged, or holds a model that makes no vectors of sentences.
        """
        if threads is not None:
            set_threads(threads)
        return cls.of(load_folder(Path(path), device=choose_device(device)), name=str(path))

    @classmethod
    def of(cls: type[AnyEmbedder], loaded: LoadedFolder, *, name: str) -> AnyEmbedder:
        """The same of a model that is loaded already."""
        if not isinstance(loaded.model, Embeds):
            task = MODEL_KINDS[loaded.config.kind].task
            raise ModelError(f"{name}: holds {TASK_MODELS[task]}, which makes no vectors of sentences", expected="a model with an encoder")
        fact = loaded.facts.get("source_normalization")
        read = normalise if fact is None else Normalisation.from_fact(fact).source
        return cls(loaded.model, loaded.vocabularies.source, read=read, facts=loaded.facts)

    def encode(self, text: str) -> list[int]:
        """The ids of a sentence, cut where it is longer than the model reads."""
        longest = self.model.longest
        ids = self.vocabulary.encode(self.read(text))
        return ids if longest is None else ids[: longest - 1 - self.model.marks_start]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector for each sentence, in their order; never dependent on the others. Sentences that are too long are cut."""
        return sentence_vectors(self.model.embed, [self.encode(text) for text in texts], start=self.model.marks_start, device=self.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        assert isinstance(self.model, torch.nn.Module)
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


@torch.inference_mode()
def sentence_vectors(
    embed: Callable[[Int[Tensor, "B S"]], Float[Tensor, "B D"]], rows: Sequence[IdRow], *, start: bool, device: torch.device
) -> Vectors:
    """Vectors of rows of ids without SOS and EOS, in their order.

    Rows of equal length are read together, and never few: a vector does not depend on the other rows. Precondition: evaluation mode.
    """
    found: dict[int, npt.NDArray[np.float32]] = {}
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(place)
    least = fewest_rows(torch.get_num_threads())
    for places in by_length.values():
        for first in range(0, len(places), _ROWS):
            part = places[first : first + _ROWS]
            asked = part + part[:1] * max(0, least - len(part))
            vectors = embed(pad_rows([rows[place] for place in asked], start=start).to(device)).float().cpu().numpy()
            found.update(zip(part, vectors, strict=False))
    return np.stack([found[place] for place in range(len(rows))]) if rows else np.zeros((0, 0), dtype=np.float32)
