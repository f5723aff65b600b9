"""The configurations of encoders: those of every model that reads a source sentence inherit one of these."""

from pydantic import Field, model_validator

from vitrail.models.configs.blocks import BlockConfig, CellsConfig
from vitrail.models.places import Order, Place, cell_places


class TransformerEncoderConfig(BlockConfig):
    """The shape of a Transformer's encoder."""

    encoder_layers: int = Field(default=4, ge=1, le=200)
    """Blocks in the encoder."""

    def encoder_places(self) -> list[Place]:
        """The places of the encoder's blocks."""
        blocks = [
            self.block_places(f"encoder.{layer}", "source", layer, {"self_attention": "source"}) for layer in range(self.encoder_layers)
        ]
        return [place for block in blocks for place in block]


class RecurrentEncoderConfig(CellsConfig):
    """Configuration of a recurrent encoder."""

    encoder_layers: int = Field(default=1, ge=1, le=100)
    """Recurrent layers in the encoder."""
    bidirectional: bool = True
    """Read the source in both directions."""
    reverse_source: bool = False
    """Read the source from its last word to its first (Sutskever et al. 2014), so that first words are near each other."""

    @model_validator(mode="after")
    def _two_halves(self) -> "RecurrentEncoderConfig":
        if self.bidirectional and self.width % 2:
            raise ValueError(f"width {self.width} does not halve between the two directions of the encoder; make it even")
        return self

    def encoder_places(self) -> list[Place]:
        """The places of the encoder's layers."""
        forward: Order = "reversed" if self.reverse_source else "forward"
        backward: Order = "reversed_backward" if self.reverse_source else "backward"
        found: list[Place] = []
        for layer in range(self.encoder_layers):
            cells: list[tuple[str, Order]] = [("forward_cell", forward), ("backward_cell", backward)]
            for name, order in cells if self.bidirectional else cells[:1]:
                found += cell_places(f"encoder.{layer}.{name}", self.cell, side="source", layer=layer, order=order, layer_output=False)
            found.append(Place(f"encoder.{layer}.output", "output", "source", layer, order=forward, layer_output=True))
        return found
