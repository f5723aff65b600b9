"""The configuration of recurrent language models."""

from typing import Literal

from pydantic import Field

from vitrail.models.configs.blocks import CellsConfig, Shape
from vitrail.models.places import Place, cell_places
from vitrail.nn.options import CELL_SIZES


class LanguageConfig(CellsConfig):
    """Configuration of a recurrent language model."""

    kind: Literal["recurrent-language"] = "recurrent-language"
    layers: int = Field(default=1, ge=1, le=100)
    """Recurrent layers."""
    tie: bool = True
    """Share the embeddings with the output."""

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.layers

    @property
    def window(self) -> None:
        """It reads text of any length, block by block."""
        return None

    @property
    def is_reference(self) -> bool:
        """Whether comparisons keep this model's width and give the others as many parameters."""
        return False

    def products(self, shape: Shape, *, vocabulary: int) -> int:
        """Multiply-adds of one forward pass; see `ladder.flops` for the formula."""
        width, embedding, tokens = self.width, self.embedding_width, shape.rows * shape.target
        read = embedding + (self.layers - 1) * width
        cells = tokens * CELL_SIZES[self.cell].gates * width * (read + self.layers * width)
        return cells + tokens * embedding * width + shape.real * embedding * vocabulary

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`; a text is a target."""
        cells = [cell_places(f"cells.{layer}", self.cell, side="target", layer=layer, layer_output=True) for layer in range(self.layers)]
        return (Place("embedded", "embedded", "target"), *(place for cell in cells for place in cell), Place("logits", "logits", "target"))


PRESETS: dict[str, LanguageConfig] = {
    f"{cell}-lm": LanguageConfig(cell=cell, layers=2, embedding_width=256, width=512, dropout=0.3) for cell in ("rnn", "gru", "lstm")
}
"""Recurrent language models by name."""
