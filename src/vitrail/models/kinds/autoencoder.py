"""Autoencoders: a sentence in, one vector z in the middle, the same sentence out; nothing but z reaches the decoder."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.data.batches import Batch
from vitrail.data.vocabularies.subwords import SOS
from vitrail.models.base import Encoded, TranslationModel
from vitrail.models.configs.autoencoder import RecurrentAutoencoderConfig, TransformerAutoencoderConfig
from vitrail.models.kinds.blocks import initialise_matrices
from vitrail.models.kinds.encoders import enough_rows
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.models.kinds.transformer import Transformer, TransformerState
from vitrail.nn.cells import CELLS
from vitrail.nn.layers import pool
from vitrail.nn.losses import LossSum


class Posterior(NamedTuple):
    """What the encoder knows of z: its mean, and the logarithm of its variance where it is variational."""

    mean: Float[Tensor, "B Z"]
    log_variance: Float[Tensor, "B Z"] | None

    def draw(self) -> Float[Tensor, "B Z"]:
        """A sample, with torch's generator: mean + sigma · epsilon (Kingma and Welling 2014); the mean where there is no variance."""
        if self.log_variance is None:
            return self.mean
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)

    def divergence(self) -> Float[Tensor, " B"]:
        """KL(q(z|x) || N(0, 1)) of each sentence in nats; 0 where there is no variance."""
        if self.log_variance is None:
            return self.mean.new_zeros(len(self.mean), dtype=torch.float32)
        mean, log_variance = self.mean.float(), self.log_variance.float()
        return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


class Bottleneck(nn.Module):
    """From a summary of the sentence to z: one linear map, and another one for the variance."""

    def __init__(self, summary: int, latent: int, *, variational: bool) -> None:
        super().__init__()
        self.mean = nn.Linear(summary, latent)
        self.log_variance = nn.Linear(summary, latent) if variational else None

    def forward(self, summary: Float[Tensor, "B R"]) -> Posterior:
        """Where z is."""
        rows = len(summary)
        summary = enough_rows(summary, training=self.training)
        return Posterior(self.mean(summary)[:rows], None if self.log_variance is None else self.log_variance(summary)[:rows])


class AutoencoderModel(TranslationModel):
    """A model that translates a sentence into itself by way of one vector z.

    loss = -log p(x|z) + weight · max(free nats, KL(q(z|x') || N(0, 1))), the last term only where it is variational, in training.
    x' is the sentence with noise, where there is any.
    """

    marks_start: ClassVar[bool] = False
    bottleneck: Bottleneck

    @property
    def adds_start(self) -> bool:
        """Whether the encoder reads a position before the sentence, which no batch holds."""
        return False

    @property
    def longest(self) -> int | None:
        """See `Embeds.longest`."""
        return self.config.context

    @abstractmethod
    def summarise(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B R"]:
        """The vector that z is made from."""

    @abstractmethod
    def expand(self, latent: Float[Tensor, "B Z"]) -> Encoded:
        """What the decoder gets: a function of z alone."""

    def posterior(self, source: Int[Tensor, "B S"]) -> Posterior:
        """Where z of each sentence is."""
        return self.bottleneck(self.summarise(source))

    def latent(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B Z"]:
        """z of each sentence, the same on every call: the mean."""
        return self.posterior(source).mean

    def embed(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B Z"]:
        """See `Embeds.embed`."""
        return self.latent(source)

    def encode(self, source: Int[Tensor, "B S"]) -> Encoded:
        """See `TranslationModel.encode`; in training z is drawn, where it is variational."""
        found = self.posterior(source)
        return self.expand(found.draw() if self.training else found.mean)

    def loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        """See `Model.loss`. The divergence is added in training alone; what is measured later is the reconstruction."""
        found = self.posterior(batch.source)
        if not self.training:
            return self.loss_given(self.expand(found.mean), batch, label_smoothing=label_smoothing)
        loss = self.loss_given(self.expand(found.draw()), batch, label_smoothing=label_smoothing)
        if found.log_variance is None:
            return loss
        divergence = found.divergence().clamp(min=self.config.free_nats).sum()
        return loss._replace(nats=loss.nats + self.config.kl_weight * divergence)


class TransformerAutoencoder(AutoencoderModel, Transformer):
    """A Transformer whose decoder attends to vectors made from z: z = W·pool(h_1 .. h_n) + b, memory = V·z + c.

    Differs from the Transformer in nothing else. With one slot, attention has one position to read, so that every layer adds the same
    vector to all target positions.
    """

    reads_tokens: ClassVar[bool] = False
    config: TransformerAutoencoderConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: TransformerAutoencoderConfig, *, source_vocabulary: int, target_vocabulary: int) -> None:
        super().__init__(config, source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary)
        self.bottleneck = Bottleneck(config.width, config.bottleneck, variational=config.latent == "variational")
        self.expansion = nn.Linear(config.bottleneck, config.slots * config.width)
        for part in (self.bottleneck, self.expansion):
            initialise_matrices(part)

    @property
    def adds_start(self) -> bool:
        """See `AutoencoderModel.adds_start`: that whose vector is pooled."""
        return self.config.pooling == "first"

    def summarise(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """See `AutoencoderModel.summarise`: the tokens' vectors, pooled."""
        encoded = Transformer.encode(self, F.pad(source, (1, 0), value=SOS) if self.adds_start else source)
        return pool(encoded.memory, encoded.keep, self.config.pooling)

    def expand(self, latent: Float[Tensor, "B Z"]) -> Encoded:
        """See `AutoencoderModel.expand`."""
        memory = self.expansion(enough_rows(latent, training=self.training))[: len(latent)].unflatten(1, (self.config.slots, -1))
        return Encoded(memory, torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device))

    def start(self, encoded: Encoded) -> TransformerState:
        """See `TranslationModel.start`; few sentences are filled up, as each has few positions."""
        rows = len(encoded.memory)
        memory, keep = (enough_rows(part, training=self.training) for part in (encoded.memory, encoded.keep))
        state = super().start(Encoded(memory, keep))
        kept = torch.arange(rows, device=memory.device)
        return state if len(memory) == rows else state.select(kept, kept)


class RecurrentAutoencoder(AutoencoderModel, Recurrent):
    """Recurrent networks whose decoder starts from z alone: z = W·[last states] + b, and V·z + c goes on in place of the last states."""

    config: RecurrentAutoencoderConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: RecurrentAutoencoderConfig, *, source_vocabulary: int, target_vocabulary: int) -> None:
        super().__init__(config, source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary)
        summary = config.encoder_layers * CELLS[config.cell].parts * config.width
        self.bottleneck = Bottleneck(summary, config.bottleneck, variational=config.latent == "variational")
        self.expansion = nn.Linear(config.bottleneck, summary)
        for part in (self.bottleneck, self.expansion):
            initialise_matrices(part)

    def summarise(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B R"]:
        """See `AutoencoderModel.summarise`: the last states of all layers."""
        summary = Recurrent.encode(self, source).summary
        assert summary is not None
        return summary

    def expand(self, latent: Float[Tensor, "B Z"]) -> Encoded:
        """See `AutoencoderModel.expand`; the one position of the memory is empty, as nothing reads it."""
        summary = self.expansion(enough_rows(latent, training=self.training))[: len(latent)]
        memory = summary.new_zeros(len(latent), 1, self.config.width)
        return Encoded(memory, torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device), summary)


def transformer_autoencoder(config: Any, source: int, target: int) -> TransformerAutoencoder:
    """See `ModelKind.make`."""
    return TransformerAutoencoder(config, source_vocabulary=source, target_vocabulary=target)


def recurrent_autoencoder(config: Any, source: int, target: int) -> RecurrentAutoencoder:
    """See `ModelKind.make`."""
    return RecurrentAutoencoder(config, source_vocabulary=source, target_vocabulary=target)
