"""Whether the mean state of a sentence finds that of its translation among others'."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitrail.config import Config
from vitrail.inspection.maps.similarity import Matrix, retrieve, rotation
from vitrail.inspection.maps.states import Pooled, TokenPair, pool
from vitrail.models.base import TranslationModel


class Retrieval(Config):
    """How often a sentence's vector finds that of its translation among those of other translations.

    A vector is the mean over the positions of a place. Sentences are halved; each half is looked up in itself, by cosine, after its means
    are taken away (which takes away what language it is) and, where `mapped`, the queries are turned by the rotation that fits the other
    half best: so no pair is judged by what was learned from it. What is looked up:
        memory -> memory of the translation: the same encoder reads both languages. It was never trained to read the second one, so this
            asks how far the shared embeddings alone bring it there. Joint vocabularies only.
        memory -> decoder_output, mapped: the decoder has read the whole translation while the source it saw was empty, so that it knows
            of the source only what its translation says. Asks whether the two halves of the model order meanings alike.
        source_embedded -> target_embedded: the same with bags of embeddings, before any layer. What layers add is the difference to it.
    """

    source: str
    target: str
    """Places that vectors are the means of; "memory" of the translation where the encoder read it."""
    mapped: bool
    accuracy: float
    """Share of sentences whose translation was nearest; one that is only as near as another counts as missed."""
    chance: float
    """The same share for a blind guess: 1 / candidates."""
    median_rank: float
    candidates: int
    """Translations among which each was looked for."""
    sentences: int

    def to_text(self) -> str:
        """One line."""
        how = "rotated" if self.mapped else "as it is"
        blind = f"chance {self.chance:.1%}, median rank {self.median_rank:.0f} of {self.candidates}"
        return f"{self.source} -> {self.target}, {how}: {self.accuracy:.1%} first ({blind})"


def look_up(queries: Matrix, answers: Matrix, *, source: str, target: str, mapped: bool) -> Retrieval:
    """Look each half of the queries up among its own answers, turned as the other half teaches. Precondition: at least eight."""
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
    """All that `Retrieval` tells of.

    Args: pooled: of the pairs. joint: whether the encoder knows the other language's tokens.
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
