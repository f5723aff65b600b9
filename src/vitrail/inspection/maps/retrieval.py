"""Retrieval of translations by mean states."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitrail.config import Config
from vitrail.inspection.maps.similarity import Matrix, retrieve, rotation
from vitrail.inspection.maps.states import Pooled, TokenPair, pool
from vitrail.models.base import TranslationModel


class Retrieval(Config):
    """How often the nearest vector to a sentence's vector is that of its translation.

    A vector is the mean over the positions of a place. Sentences are halved; each half is searched in itself, by cosine, after its mean is
    subtracted (which removes the language) and, where `mapped`, the queries are rotated by the best rotation of the other half: so no
    pair is tested on its own fit. The searches:
        memory -> memory of the translation: the same encoder reads both languages. It was never trained to read the second one, so this
            measures the effect of shared embeddings alone. Joint vocabularies only.
        memory -> decoder_output, mapped: the decoder has read the whole translation with an empty source, so it knows only the
            translation. Measures whether the two halves of the model represent meanings alike.
        source_embedded -> target_embedded: the same with bags of embeddings, before any layer. The difference to it is the effect of
            the layers.
    """

    source: str
    target: str
    """Places of the averaged vectors; "memory" of the translation where the encoder read it."""
    mapped: bool
    accuracy: float
    """Share of sentences whose translation was nearest; ties count as missed."""
    chance: float
    """The same share for a blind guess: 1 / candidates."""
    median_rank: float
    candidates: int
    """Number of translations in each search."""
    sentences: int

    def to_text(self) -> str:
        """One line."""
        how = "rotated" if self.mapped else "as it is"
        blind = f"chance {self.chance:.1%}, median rank {self.median_rank:.0f} of {self.candidates}"
        return f"{self.source} -> {self.target}, {how}: {self.accuracy:.1%} first ({blind})"


def look_up(queries: Matrix, answers: Matrix, *, source: str, target: str, mapped: bool) -> Retrieval:
    """Search each half of the queries among its own answers, with the rotation fitted on the other half. Precondition: at least eight."""
    halves = np.arange(len(queries)) % 2
    ranks: list[npt.NDArray[np.integer]] = []
    for half in (0, 1):
        mine, others = halves == half, halves != half
        asked, found = queries[mine] - queries[mine].mean(axis=0), answers[mine] - answers[mine].mean(axis=0)
        if mapped:
            asked = asked @ rotation(queries[others] - queries[others].mean(axis=0), answers[others] - answers[others].mean(axis=0))
        ranks.append(retrieve(asked, found))
    together = np.concatenate(ranks)
    return Retrieval(
        source=source,
        target=target,
        mapped=mapped,
        accuracy=float((together == 1).mean()),
        chance=float(np.mean([1 / len(part) for part in ranks for _ in part])),
        median_rank=float(np.median(together)),
        candidates=max(map(len, ranks)),
        sentences=len(together),
    )


def retrieve_translations(model: TranslationModel, pairs: Sequence[TokenPair], pooled: Pooled, *, joint: bool) -> tuple[Retrieval, ...]:
    """All searches of `Retrieval`.

    Args: pooled: of the pairs. joint: whether the vocabulary has the tokens of both languages.
    Cost: one more pass over the translations with the decoder, and one with the encoder.
    """
    memory, embedded = pooled.source["memory"], (pooled.source["source_embedded"], pooled.target["target_embedded"])
    found: list[Retrieval] = []
    if joint:
        read = pool(model, [(words, ()) for _, words in pairs]).source["memory"]
        found.append(look_up(memory, read, source="memory", target="memory", mapped=False))
        found.append(look_up(*embedded, source="source_embedded", target="target_embedded", mapped=False))
    alone = pool(model, [((), words) for _, words in pairs]).target["decoder_output"]
    found.append(look_up(memory, alone, source="memory", target="decoder_output", mapped=True))
    found.append(look_up(*embedded, source="source_embedded", target="target_embedded", mapped=True))
    return tuple(found)
