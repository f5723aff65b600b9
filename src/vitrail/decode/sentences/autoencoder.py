"""What an autoencoder does: sentences to vectors, vectors to sentences, and all that lies between."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.batches import IdRow
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.subwords import Subwords, Vocabularies
from vitrail.decode.encoding.engine import EncoderEngine
from vitrail.decode.encoding.torch import sentence_vectors
from vitrail.decode.forced import batches, make_batch
from vitrail.decode.search.beams import beam_search
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig
from vitrail.decode.sentences.embedding import Embedder, Vectors
from vitrail.errors import UsageError
from vitrail.models.architectures import task_of
from vitrail.models.base import Encoded, TranslationModel
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.stored import StoredModel, of_another_task
from vitrail.runtime.device import fewest_rows

GREEDY = SearchConfig(beams=1)
_ROWS = 64
_ROOM = 2.0, 10
"""A reconstruction has at most twice the tokens of its sentence, and ten."""


@dataclass(frozen=True)
class Between:
    """A point on the way from one sentence to another."""

    share: float
    """How much of the way: 0 is the first sentence, 1 the second."""
    text: str
    """What the decoder writes there."""


@dataclass(frozen=True)
class Reconstructions:
    """How well an autoencoder gives sentences back."""

    lines: tuple[str, ...]
    texts: tuple[str, ...]
    """What was given back for each line, greedily."""
    nats: float
    """-log p of all tokens, given z, ends included."""
    tokens: int
    divergence: float | None
    """KL(q(z|x) || N(0, 1)) of a line in nats, on average; None where it is not variational."""

    @property
    def exact(self) -> int:
        """How many lines were given back exactly."""
        return sum(line == text for line, text in zip(self.lines, self.texts, strict=True))

    @property
    def chrf(self) -> float:
        """chrF of the texts, 0 to 100."""
        from sacrebleu.metrics import CHRF

        return CHRF().corpus_score(list(self.texts), [list(self.lines)]).score

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        loss = self.nats / self.tokens
        found = {"loss_nats_per_token": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
        found |= {"exact_share": self.exact / len(self.lines), "chrf": self.chrf}
        return found if self.divergence is None else found | {"kl_nats_per_sentence": self.divergence}


class Autoencoder(Embedder):
    """An autoencoder, loaded.

    autoencoder = Autoencoder.load("runs/auto")
    print(autoencoder.reconstruct(["A dog runs."]), autoencoder.interpolate("A dog runs.", "A man sits.")[3].text)
    """

    engines = ("torch",)

    def __init__(self, model: AutoencoderModel | EncoderEngine, vocabularies: Vocabularies, *, facts: dict[str, Any] | None = None) -> None:
        super().__init__(model if isinstance(model, EncoderEngine) else model.eval(), vocabularies.source, read=normalise, facts=facts)

    @classmethod
    def require(cls, stored: StoredModel, *, name: str) -> None:
        """Raise ModelError for a model of another kind."""
        if task_of(stored.config) != "autoencoding":
            raise of_another_task(name, stored.config, expected="autoencoding")

    @classmethod
    def of(cls, encoder: EncoderEngine, stored: StoredModel) -> "Autoencoder":
        """See `Embedder.of`."""
        return cls(encoder, stored.vocabularies, facts=stored.facts)

    @property
    def model(self) -> AutoencoderModel:
        """The model on torch."""
        return self.encoder.model

    def decode(self, latents: Vectors, *, longest: int | None = None) -> list[str]:
        """What the decoder writes for each vector z, greedily: a function of z alone. Args: longest: tokens at most."""
        limit = self.model.config.context if longest is None else longest
        return [self.vocabulary.decode(row) for row in write_latents(self.model, torch.from_numpy(latents), [limit] * len(latents))]

    def reconstruct(self, texts: Sequence[str]) -> list[str]:
        """Each sentence, given back from its one vector; of an empty one nothing. Sentences that are too long are cut."""
        rows = [self.encode(text) for text in texts]
        written = iter(give_back(self.model, [row for row in rows if row]))
        return [self.vocabulary.decode(next(written)) if row else "" for row in rows]

    def interpolate(self, first: str, second: str, *, steps: int = 7) -> list[Between]:
        """What lies on the straight line between the vectors of two sentences, both ends included.

        Raises: UsageError for fewer than two steps, or an empty sentence.
        """
        if steps < 2 or not (self.encode(first) and self.encode(second)):
            raise UsageError(f"{steps} steps between {first[:40]!r} and {second[:40]!r}", expected="two sentences, and two steps or more")
        shares = np.linspace(0, 1, steps, dtype=np.float32)
        start, end = self.embed([first, second])
        points = (1 - shares[:, None]) * start + shares[:, None] * end
        return [Between(float(share), text) for share, text in zip(shares, self.decode(points), strict=True)]

    def measure(self, lines: Sequence[str]) -> Reconstructions:
        """How well a text is given back; see `measure_reconstruction`."""
        return measure_reconstruction(self.model, self.vocabulary, [normalise(line) for line in lines])


@torch.inference_mode()
def write_latents(model: AutoencoderModel, latents: Float[Tensor, "B Z"], longest: Sequence[int]) -> list[tuple[int, ...]]:
    """The ids that are written for each z, greedily, at most `longest` of each. Precondition: evaluation mode."""
    device = next(model.parameters()).device
    found: dict[int, tuple[int, ...]] = {}
    order = sorted(range(len(latents)), key=lambda place: longest[place])
    for first in range(0, len(order), _ROWS):
        part = order[first : first + _ROWS]
        written = write_encoded(model, model.expand(latents[part].to(device)), [longest[place] for place in part])
        found.update(zip(part, written, strict=True))
    return [found[place] for place in range(len(latents))]


@torch.inference_mode()
def write_encoded(model: TranslationModel, encoded: Encoded, longest: Sequence[int]) -> list[tuple[int, ...]]:
    """The ids that a decoder writes from what it is given, greedily, at most `longest` of each. Precondition: evaluation mode."""
    queries = [Query(longest=max(1, most)) for most in longest]
    least, device = fewest_rows(torch.get_num_threads()), encoded.memory.device
    found = beam_search(model.step, model.start(encoded), queries, config=GREEDY, min_rows=least, device=device)
    return [tuple(one.tokens) for one, *_ in found]


def give_back(model: AutoencoderModel, rows: Sequence[IdRow]) -> list[tuple[int, ...]]:
    """What is written from the vector of each row of ids, greedily. Precondition: evaluation mode."""
    latents = sentence_vectors(model.latent, rows, start=False, device=next(model.parameters()).device)
    return write_latents(model, torch.from_numpy(latents), [int(_ROOM[0] * len(row)) + _ROOM[1] for row in rows])


@torch.inference_mode()
def measure_reconstruction(model: AutoencoderModel, vocabulary: Subwords, lines: Sequence[str]) -> Reconstructions:
    """Give each line back from its vector, greedily, and measure -log p of the lines themselves; both with the mean of z.

    Lines longer than the model's context are cut, and count as such. Precondition: evaluation mode.
    Raises: UsageError for a text of empty lines.
    """
    kept = [line for line in lines if line]
    limit = model.config.context - 1
    rows = [row[:limit] for row in vocabulary.encode_batch(kept)]
    if not kept:
        raise UsageError("a text of empty lines", expected="at least one line that holds something")
    nats, divergence = 0.0, 0.0
    for numbers in batches(rows, rows, tokens=4096):
        chosen = [rows[number] for number in numbers]
        batch = make_batch(model, chosen, chosen)
        posterior = model.posterior(batch.source)
        nats += float(model.loss_given(model.expand(posterior.mean), batch).plain_nats)
        divergence += float(posterior.divergence().sum())
    texts = tuple(vocabulary.decode(row) for row in give_back(model, rows))
    tokens = sum(map(len, rows)) + len(rows)
    return Reconstructions(tuple(kept), texts, nats, tokens, divergence / len(kept) if model.config.latent == "variational" else None)
