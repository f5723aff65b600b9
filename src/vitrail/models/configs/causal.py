"""The configuration of causal language models."""

from typing import Literal

from pydantic import Field

from vitrail.models.configs.blocks import BlockConfig, Shape
from vitrail.models.places import Place


class CausalConfig(BlockConfig):
    """The shape of a causal Transformer language model."""

    kind: Literal["causal-language"] = "causal-language"
    layers: int = Field(default=4, ge=1, le=200)
    """Blocks."""
    context: int = Field(default=256, ge=2, le=1_000_000)
    """Tokens that it is trained on at a time, and that it looks back over at most."""
    tie: bool = True
    """Let the output share the embeddings."""

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return self.layers

    @property
    def window(self) -> int:
        """Tokens of a window of training text."""
        return self.context

    @property
    def truncate(self) -> None:
        """It carries no state from block to block."""
        return None

    @property
    def is_reference(self) -> bool:
        """Whether comparisons keep this model's width and give the others as many parameters."""
        return True

    def products(self, shape: Shape, *, vocabulary: int) -> int:
        """Multiply-adds of one forward pass; see `ladder.flops` for the formula."""
        width, heads = self.width, self.heads * self.width_of_head
        feed_forward = (3 if self.activation == "swiglu" else 2) * width * self.feed_forward
        block = shape.rows * shape.target * (4 * width * heads + feed_forward + 2 * shape.target * heads)
        return self.layers * block + shape.real * width * vocabulary

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`; a text is written as a target is."""
        found = [Place("target_embedded", "embedded", "target"), Place("target_input", "position", "target")]
        for layer in range(self.layers):
            found += self.block_places(f"decoder.{layer}", "target", layer, {"self_attention": "target"})
        return (*found, Place("logits", "logits", "target"))


PRESETS: dict[str, CausalConfig] = {
    "gpt-mini": CausalConfig(width=128, heads=4, feed_forward=512, activation="gelu", positions="rotary"),
    "gpt-small": CausalConfig(layers=6, width=384, heads=6, feed_forward=1536, activation="gelu", positions="rotary", dropout=0.2),
}
"""Causal language models by name."""
