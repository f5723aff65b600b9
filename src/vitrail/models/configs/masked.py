"""The configuration of masked language models."""

from typing import Literal

from pydantic import Field

from vitrail.models.configs.encoders import TransformerEncoderConfig
from vitrail.models.places import Place
from vitrail.nn.options import Pooling


class MaskedConfig(TransformerEncoderConfig):
    """The shape of a masked language model."""

    kind: Literal["masked-language"] = "masked-language"
    context: int = Field(default=128, ge=4, le=1_000_000)
    """Tokens of a row at most, <s> and </s> counted; longer lines are cut for training."""
    mask_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens that it must guess: 80 % of them are hidden by the mask, 10 % become another token, 10 % stay."""
    whole_words: bool = False
    """Hide all tokens of a word together."""
    pooling: Pooling = "mean"
    """How vectors of tokens become the vector of a sentence: first (of <s>, as BERT's [CLS]) or mean."""
    tie: bool = True
    """Share the embeddings with the output."""

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.encoder_layers

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`; what it reads is a source."""
        ends = [Place("memory", "memory", "source"), Place("logits", "logits", "source")]
        return (
            Place("source_embedded", "embedded", "source"),
            Place("source_input", "position", "source"),
            *self.encoder_places(),
            *ends,
        )


PRESETS: dict[str, MaskedConfig] = {
    "bert-mini": MaskedConfig(width=128, heads=4, feed_forward=512, activation="gelu", positions="rotary"),
    "bert-small": MaskedConfig(encoder_layers=6, width=384, heads=6, feed_forward=1536, activation="gelu", positions="rotary"),
}
"""Masked language models by name."""
