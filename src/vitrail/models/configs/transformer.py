"""The configuration of the Transformer encoder-decoder."""

from typing import Literal

from pydantic import Field

from vitrail.models.configs.blocks import Shape
from vitrail.models.configs.encoders import TransformerEncoderConfig
from vitrail.models.places import Place, Side, ssru_places


class TransformerConfig(TransformerEncoderConfig):
    """The shape of a Transformer encoder-decoder."""

    kind: Literal["transformer"] = "transformer"
    """The Transformer; another kind is `recurrent`."""
    decoder_layers: int = Field(default=4, ge=1, le=200)
    """Blocks in the decoder; fewer of them translate faster."""
    tie: Literal["all", "target", "none"] = "all"
    """Embeddings shared by source, target and output (all: needs a joint vocabulary), by target and output (target), or not."""
    decoder: Literal["attention", "ssru"] = "attention"
    """What a block of the decoder reads earlier target tokens with: self-attention, or the simpler simple recurrent unit (Kim et al.
    2019), whose memory has one size however long the text is."""
    decoder_start: Literal["token", "zeros"] = "token"
    """First input of the decoder: the embedding of <s> (token), or a vector of zeros, as Marian's decoders have it."""
    output_bias: bool = False
    """Add a learned number to the logit of each token, as Marian's models do."""

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.encoder_layers + self.decoder_layers

    @property
    def recurrent_cell(self) -> None:
        """It has none."""
        return None

    @property
    def is_reference(self) -> bool:
        """Whether comparisons keep this model's width and give the others as many parameters."""
        return True

    def with_width(self, width: int) -> "TransformerConfig":
        """The same architecture at another width, with 4 heads and a feed-forward twice as wide."""
        return type(self).model_validate(self.model_dump() | {"width": width, "heads": 4, "feed_forward": 2 * width})

    def describe(self) -> str:
        """A summary of the sizes that its speed depends on."""
        layers = f"{self.encoder_layers}+{self.decoder_layers} layers"
        return f"{layers}, width {self.width}, feed-forward {self.feed_forward}, {self.heads} heads"

    def products(self, shape: Shape, *, vocabulary: int) -> int:
        """Multiply-adds of one forward pass; see `ladder.flops` for the formula."""
        rows, source, target, real = shape
        width, heads = self.width, self.heads * self.width_of_head
        feed_forward = (3 if self.activation == "swiglu" else 2) * width * self.feed_forward
        encoder = rows * source * (4 * width * heads + feed_forward + 2 * source * heads)
        own = rows * target * ((2 * width * width if self.decoder == "ssru" else 4 * width * heads + 2 * target * heads) + feed_forward)
        cross = rows * (target * 2 * width * heads + source * 2 * width * heads + target * 2 * source * heads)
        return self.encoder_layers * encoder + self.decoder_layers * (own + cross) + real * width * vocabulary

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        sides: tuple[Side, Side] = ("source", "target")
        found = [Place(f"{side}_embedded", "embedded", side) for side in sides]
        found += [Place(f"{side}_input", "position", side) for side in sides]
        found += [Place("memory", "memory", "source"), Place("logits", "logits", "target")]
        found += self.encoder_places()
        recurs = self.decoder == "ssru"
        reads: dict[str, Side] = {"self_attention": "target", "cross_attention": "source"}
        if recurs:
            del reads["self_attention"]
        for layer in range(self.decoder_layers):
            path = f"decoder.{layer}"
            own = ssru_places(f"{path}.recurrence", layer=layer) if recurs else []
            found += self.block_places(path, "target", layer, reads, first=own)
        return tuple(found)


PRESETS: dict[str, TransformerConfig] = {
    "tiny": TransformerConfig(),
    "small": TransformerConfig(encoder_layers=6, decoder_layers=6, width=256, heads=4, feed_forward=1024),
    "base": TransformerConfig(encoder_layers=6, decoder_layers=6, width=512, heads=8, feed_forward=2048),
    "big": TransformerConfig(encoder_layers=6, decoder_layers=6, width=1024, heads=16, feed_forward=4096, dropout=0.3),
    "student": TransformerConfig(
        encoder_layers=6,
        decoder_layers=2,
        width=256,
        heads=8,
        feed_forward=1536,
        norm_position="post",
        positions="tensor2tensor",
        decoder="ssru",
        decoder_start="zeros",
    ),
}
"""`base` and `big` have the paper's sizes (table 3); `tiny` is Wu et al. 2021's for Multi30k. `student` is the form of Kim et al. 2019 in
the size of Firefox's smallest models, which `vitrail export --to bergamot` takes."""
