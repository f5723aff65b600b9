"""The configurations of autoencoders."""

from typing import Literal

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.noise_config import NoiseConfig
from vitrail.errors import UsageError
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.nn.options import Pooling


class BottleneckConfig(Config):
    """The vector between encoder and decoder, and how it is learned."""

    bottleneck: int = Field(default=128, ge=1, le=65_536)
    """Numbers Z of the vector between encoder and decoder."""
    context: int = Field(default=128, ge=2, le=1_000_000)
    """Tokens of a line at most, its end counted; longer lines are cut for training."""
    latent: Literal["point", "variational"] = "point"
    """point: a sentence has one vector. variational: it has a normal distribution, whose mean is used and from which training draws."""
    kl_weight: float = Field(default=1.0, ge=0, le=1_000)
    """Weight of the divergence from the prior N(0, 1), where variational (the beta of Higgins et al. 2017)."""
    free_nats: float = Field(default=8.0, ge=0, le=100_000)
    """The divergence of a sentence costs nothing up to here (free bits, Kingma et al. 2016), so that z is not left unused, where
    variational."""
    noise: NoiseConfig = NoiseConfig()
    """What is done to a sentence before it is read; what must be written is the sentence as it was."""


class TransformerAutoencoderConfig(BottleneckConfig, TransformerConfig):
    """The shape of a Transformer with one vector between encoder and decoder."""

    kind: Literal["transformer-autoencoder"] = "transformer-autoencoder"  # pyright: ignore[reportIncompatibleVariableOverride]
    """A Transformer whose decoder gets one vector; another kind is `recurrent-autoencoder`."""
    pooling: Pooling = "mean"
    """How vectors of tokens become one: mean, or first (of a <s> that is put before the sentence, as BERT's [CLS])."""
    slots: int = Field(default=1, ge=1, le=1024)
    """Vectors of model width that z is mapped to, for the decoder's attention to choose from. With 1 it has no choice, and its queries
    and keys learn nothing; more of them overfitted a small text."""

    def describe(self) -> str:
        """See `TransformerConfig.describe`."""
        return f"{super().describe()}, bottleneck {self.bottleneck}"

    @model_validator(mode="after")
    def _enough_positions(self) -> "TransformerAutoencoderConfig":
        if self.positions == "learned" and self.max_positions <= self.context:
            raise UsageError(
                f"model.context = {self.context} with {self.max_positions} learned positions",
                remedy=f"--set model.max_positions={self.context + 1}, or rotary positions",
            )
        return self


class RecurrentAutoencoderConfig(BottleneckConfig, RecurrentConfig):
    """The shape of recurrent networks with one vector between encoder and decoder."""

    kind: Literal["recurrent-autoencoder"] = "recurrent-autoencoder"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Recurrent networks whose decoder starts from one vector; another kind is `transformer-autoencoder`."""

    def describe(self) -> str:
        """See `RecurrentConfig.describe`."""
        return f"{super().describe()}, bottleneck {self.bottleneck}"

    @model_validator(mode="after")
    def _no_attention(self) -> "RecurrentAutoencoderConfig":
        if self.attention != "none":
            raise ValueError(f"attention = {self.attention} would read past the bottleneck; an autoencoder has none")
        return self


TRANSFORMER_PRESETS: dict[str, TransformerAutoencoderConfig] = {
    "autoencoder-mini": TransformerAutoencoderConfig(encoder_layers=3, decoder_layers=3, feed_forward=512),
}


RECURRENT_PRESETS: dict[str, RecurrentAutoencoderConfig] = {"autoencoder-lstm": RecurrentAutoencoderConfig(dropout=0.1)}
"""Autoencoders by name."""
