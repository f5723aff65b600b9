"""What the vectors of an encoder's tokens hold: what a decoder writes from all, without one, from one alone, and from their mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.vocabularies.subwords import Subwords
from vitrail.decode.sentences.autoencoder import write_encoded
from vitrail.decode.translate import Translator
from vitrail.errors import ModelError, UsageError
from vitrail.models.base import Encoded, TranslationModel
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.model_folder import LoadedModel

_ROWS = 32


@dataclass(frozen=True)
class TokenVector:
    """One token's vector."""

    token: str
    values: tuple[float, ...]
    without: str
    """What the decoder writes where this vector is hidden from it."""
    alone: str
    """What it writes where it gets this vector only."""
    likest: str
    """The token with the nearest vector (cosine) in other sentences of the text."""

    @property
    def named(self) -> bool:
        """Whether the nearest vector of other sentences is of the same token."""
        return self.likest == self.token


@dataclass(frozen=True)
class TokenVectors:
    """A sentence in a translator's encoder."""

    tokens: tuple[TokenVector, ...]
    """The last is the end of the sentence."""
    text: str
    """What the decoder writes from all vectors."""
    from_mean: str
    """What it writes where every vector is replaced by the mean of all: one vector, which it was not trained to read."""


def look_at_tokens(loaded: LoadedModel, sentence: str, texts: Sequence[str], *, name: str) -> TokenVectors:
    """All that `TokenVectors` has. Args: texts: other sentences, in the language that the translator reads.

    Raises: ModelError for a model whose decoder reads something else than one vector per token.
    """
    model, vocabularies = loaded.model, loaded.vocabularies
    translator = Translator(model, vocabularies=vocabularies)
    ids = vocabularies.source.encode(translator.read(sentence))
    if not ids:
        raise UsageError("no sentence to look at", expected='a sentence, such as "A dog runs."')
    if isinstance(model, AutoencoderModel):
        raise ModelError(f"{name}: an autoencoder, too", expected="a Transformer that translates, to stand beside it")
    with torch.inference_mode():
        encoded = model.encode(pad_rows([ids]).to(next(model.parameters()).device))
        if encoded.summary is not None:
            raise ModelError(
                f"{name}: its decoder also starts from the encoder's last states",
                expected="a Transformer, whose decoder gets one vector for each token and nothing else",
            )
        written = _write_variants(model, vocabularies.target, encoded, longest=2 * len(ids) + 20)
        likest = _likest(model, vocabularies.source, encoded.memory[0], [text for text in texts if text != sentence])
    count = len(ids) + 1
    pieces = [*vocabularies.source.pieces(ids), "</s>"]
    vectors: list[list[float]] = encoded.memory[0].float().cpu().tolist()
    tokens = [
        TokenVector(piece, tuple(vector), without, alone, like)
        for piece, vector, without, alone, like in zip(pieces, vectors, written[2 : 2 + count], written[2 + count :], likest, strict=True)
    ]
    return TokenVectors(tuple(tokens), written[0], written[1])


def _write_variants(model: TranslationModel, target: Subwords, encoded: Encoded, *, longest: int) -> list[str]:
    """What is written from all vectors, from their mean in every place, without each, and from each alone."""
    memory = encoded.memory
    count = memory.shape[1]
    everything = torch.ones(1, count, dtype=torch.bool, device=memory.device)
    one = torch.eye(count, dtype=torch.bool, device=memory.device)
    keep = torch.cat([everything, everything, ~one, one])
    same = memory.expand(len(keep), -1, -1).clone()
    same[1] = memory.mean(1)
    found: list[str] = []
    for rows in torch.arange(len(keep), device=memory.device).split(_ROWS):
        written = write_encoded(model, Encoded(same[rows], keep[rows]), [longest] * len(rows))
        found += [target.decode(row) for row in written]
    return found


def _likest(model: TranslationModel, source: Subwords, vectors: Float[Tensor, "S D"], texts: Sequence[str]) -> list[str]:
    """For each vector, the token of other sentences whose vector is nearest by cosine; empty without other sentences."""
    rows = [row for row in source.encode_batch(texts) if row]
    if not rows:
        return [""] * len(vectors)
    names: list[str] = []
    parts: list[Tensor] = []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        encoded = model.encode(pad_rows(part).to(vectors.device))
        parts.append(torch.nn.functional.normalize(encoded.memory[encoded.keep].float(), dim=1))
        names += [piece for row in part for piece in (*source.pieces(row), "</s>")]
    nearest = (torch.nn.functional.normalize(vectors.float(), dim=1) @ torch.cat(parts).t()).argmax(1)
    return [names[place] for place in np.asarray(nearest.cpu())]
