"""What the one vector of an autoencoder holds of a sentence: what it gives back whole, narrowed, and without parts of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vitrail.decode.forced import make_batch
from vitrail.decode.sentences.autoencoder import Autoencoder, write_latents
from vitrail.decode.sentences.embedding import Neighbour, Vectors, nearest_rows
from vitrail.errors import DataError, UsageError

LEAST = 8
"""Sentences that a text needs, to find the directions in which vectors differ."""


@dataclass(frozen=True)
class Narrowed:
    """What is given back from a part of z: its projection to the directions in which the vectors of a text differ most."""

    directions: int
    variance: float
    """Share of the variance of the text's vectors that these directions hold."""
    text: str
    chrf: float


@dataclass(frozen=True)
class WithoutToken:
    """What becomes of z, and of what is given back, where a token is taken out of the sentence."""

    token: str
    cosine: float
    """Between z of the sentence and z without the token."""
    changed: float
    """Share of the numbers of z that changed by more than a tenth of their spread over the text."""
    text: str


@dataclass(frozen=True)
class OneVector:
    """A sentence in an autoencoder."""

    sentence: str
    tokens: tuple[str, ...]
    latent: tuple[float, ...]
    """z."""
    standard: tuple[float, ...]
    """The same in units of its spread: (z - mean) / standard deviation over the text."""
    text: str
    """What is given back."""
    loss: float
    """-log p of the sentence, in nats a token."""
    narrowed: tuple[Narrowed, ...]
    without_number: tuple[float, ...]
    """-log p of the whole sentence in nats, by how much it grows where this number of z is set to its mean over the text."""
    without_token: tuple[WithoutToken, ...]
    neighbours: tuple[Neighbour, ...]

    @property
    def exact(self) -> bool:
        """Whether the sentence is given back exactly."""
        return self.text == self.sentence


def look_at_vector(autoencoder: Autoencoder, sentence: str, texts: Sequence[str], *, top: int = 8) -> OneVector:
    """All that `OneVector` has. Args: texts: sentences to compare with; their vectors are the measure.

    Raises: UsageError for an empty sentence, DataError for too few texts.
    Cost:   one reading of each text, and one greedy writing for every token and for each width.
    """
    sentence = autoencoder.read(sentence)
    ids = autoencoder.encode(sentence)
    others = [text for text in dict.fromkeys(map(autoencoder.read, texts)) if text and text != sentence]
    if not ids:
        raise UsageError("no sentence to look at", expected='a sentence, such as "A dog runs."')
    if len(others) < LEAST:
        raise DataError(f"{len(others)} different sentences to compare with", expected=f"at least {LEAST}", remedy="--text FILE with more")
    known = autoencoder.embed(others)
    latent = autoencoder.embed([sentence])[0]
    limit = 2 * len(ids) + 10
    spread = known.std(axis=0) + 1e-9
    mean = known.mean(axis=0)
    found = autoencoder.decode(latent[None], longest=limit)[0]
    losses = _losses(autoencoder, ids, np.concatenate([latent[None], _with_mean(latent, mean)]))
    return OneVector(
        sentence=sentence,
        tokens=tuple(autoencoder.vocabulary.pieces(ids)),
        latent=tuple(latent.tolist()),
        standard=tuple(((latent - mean) / spread).tolist()),
        text=found,
        loss=float(losses[0]) / (len(ids) + 1),
        narrowed=tuple(_narrow(autoencoder, sentence, latent, known, limit=limit)),
        without_number=tuple((losses[1:] - losses[0]).tolist()),
        without_token=tuple(_without_tokens(autoencoder, ids, _Whole(latent, spread), limit=limit)),
        neighbours=tuple(Neighbour(place, others[place], cosine) for place, cosine in nearest_rows(latent, known, top=top)),
    )


class _Whole(NamedTuple):
    latent: Vectors
    spread: Vectors


def _with_mean(latent: Vectors, mean: Vectors) -> Vectors:
    """z once for each of its numbers, with that number at its mean."""
    return np.where(np.eye(len(latent), dtype=bool), mean, latent).astype(np.float32)


@torch.inference_mode()
def _losses(autoencoder: Autoencoder, ids: Sequence[int], latents: Vectors) -> npt.NDArray[np.float64]:
    """-log p of a sentence in nats from each of some vectors."""
    model = autoencoder.model
    found: list[float] = []
    for part in np.array_split(latents, -(-len(latents) // 64)):
        batch = make_batch(model, [ids] * len(part), [ids] * len(part))
        hidden = model.decode(batch.target_in, model.expand(torch.from_numpy(part).to(autoencoder.device)))
        chosen = model.read_out(hidden).double().log_softmax(-1).gather(2, batch.target_out[:, :, None])
        found += (-chosen.squeeze(2).sum(1)).tolist()
    return np.array(found)


def _narrow(autoencoder: Autoencoder, sentence: str, latent: Vectors, known: Vectors, *, limit: int) -> list[Narrowed]:
    """What is given back from 0, 1, 2, 4, ... directions, and from all that the text's vectors have."""
    from sacrebleu.metrics import CHRF

    mean = known.mean(axis=0)
    _, sizes, directions = np.linalg.svd((known - mean).astype(np.float64), full_matrices=False)
    shares = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-30)
    most = len(directions)
    widths = [0, *(1 << power for power in range(most.bit_length()) if 1 << power < most), most]
    parts = [mean + (latent - mean) @ directions[:width].T @ directions[:width] for width in widths]
    texts = autoencoder.decode(np.stack(parts).astype(np.float32), longest=limit)
    chrf = CHRF()
    return [
        Narrowed(width, float(shares[width - 1]) if width else 0.0, text, chrf.sentence_score(text, [sentence]).score)
        for width, text in zip(widths, texts, strict=True)
    ]


def _without_tokens(autoencoder: Autoencoder, ids: list[int], whole: _Whole, *, limit: int) -> list[WithoutToken]:
    from vitrail.decode.encoding.torch import sentence_vectors

    model, vocabulary = autoencoder.model, autoencoder.vocabulary
    rows = [[*ids[:place], *ids[place + 1 :]] for place in range(len(ids))]
    latents = sentence_vectors(model.latent, rows, start=False, device=autoencoder.device)
    written = write_latents(model, torch.from_numpy(latents), [limit] * len(rows))
    found: list[WithoutToken] = []
    for piece, latent, row in zip(vocabulary.pieces(ids), latents, written, strict=True):
        (_, cosine), *_ = nearest_rows(whole.latent, latent[None], top=1)
        changed = float((np.abs(latent - whole.latent) > 0.1 * whole.spread).mean())
        found.append(WithoutToken(piece, cosine, changed, vocabulary.decode(row)))
    return found
