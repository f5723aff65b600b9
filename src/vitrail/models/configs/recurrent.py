"""The configuration of recurrent encoder-decoders."""

from typing import Literal

from pydantic import Field, model_validator

from vitrail.models.configs.blocks import Shape
from vitrail.models.configs.encoders import RecurrentEncoderConfig
from vitrail.models.places import Place, cell_places, step_attention_places
from vitrail.nn.options import CELL_SIZES, CellKind

AttentionKind = Literal["none", "bahdanau", "luong-dot", "luong-general", "luong-concat"]


class RecurrentConfig(RecurrentEncoderConfig):
    """Configuration of a recurrent encoder-decoder."""

    kind: Literal["recurrent"] = "recurrent"
    """Recurrent networks; another kind is `transformer`."""
    attention: AttentionKind = "none"
    """How the decoder attends to the source: none (it gets only the encoder's last state), bahdanau (additive; the query is the state
    before the step), luong-dot, luong-general or luong-concat (the query is the state after it)."""
    input_feeding: bool = False
    """Luong's input feeding: the decoder also reads the attentional vector of the step before. Bahdanau's reads its context in any case."""
    decoder_layers: int = Field(default=1, ge=1, le=100)
    """Recurrent layers in the decoder."""
    tie: Literal["all", "target", "none"] = "all"
    """Embeddings shared by source, target and output (all: needs a joint vocabulary), by target and output (target), or not."""

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.encoder_layers + self.decoder_layers

    @model_validator(mode="after")
    def _consistent(self) -> "RecurrentConfig":
        if self.input_feeding and not self.attention.startswith("luong"):
            raise ValueError(f"input_feeding with attention = {self.attention}: it belongs to luong-dot, luong-general and luong-concat")
        return self

    @property
    def recurrent_cell(self) -> CellKind:
        """The kind of its cells."""
        return self.cell

    @property
    def is_reference(self) -> bool:
        """Whether comparisons keep this model's width and give the others as many parameters."""
        return False

    def with_width(self, width: int) -> "RecurrentConfig":
        """The same architecture at another width, embeddings as wide."""
        return type(self).model_validate(self.model_dump() | {"width": width, "embedding_width": width})

    def describe(self) -> str:
        """A summary of the sizes that its speed depends on."""
        layers = f"{self.encoder_layers}+{self.decoder_layers} layers"
        attention = "no attention" if self.attention == "none" else f"attention {self.attention}"
        fed = ", input feeding" if self.input_feeding else ""
        sides = "bidirectional" if self.bidirectional else "left to right"
        return f"{layers} of {self.cell} ({sides}), width {self.width}, embeddings {self.embedding_width}, {attention}{fed}"

    def products(self, shape: Shape, *, vocabulary: int) -> int:
        """Multiply-adds of one forward pass; see `ladder.flops` for the formula."""
        rows, source, target, real = shape
        width, embedding, cell = self.width, self.embedding_width, CELL_SIZES[self.cell]
        each = width // 2 if self.bidirectional else width
        fed = (width if self.attention == "bahdanau" else embedding) if self.feeds else 0
        read_by_encoder = embedding + (self.encoder_layers - 1) * width
        read_by_decoder = embedding + fed + (self.decoder_layers - 1) * width
        encoder = rows * source * cell.gates * width * (read_by_encoder + self.encoder_layers * each)
        decoder = rows * target * cell.gates * width * (read_by_decoder + self.decoder_layers * width)
        bridge = rows * self.decoder_layers * cell.parts * width * width
        attends, embeds = self.attention != "none", self.attention == "bahdanau"
        readout = rows * target * embedding * (width + attends * width + embeds * embedding)
        return encoder + decoder + bridge + self._attention_products(shape) + readout + real * embedding * vocabulary

    def _attention_products(self, shape: Shape) -> int:
        square = self.width * self.width
        keys, queries = shape.rows * shape.source * square, shape.rows * shape.target * square
        mixing = shape.rows * shape.target * 2 * shape.source * self.width
        match self.attention:
            case "none":
                return 0
            case "luong-dot":
                return mixing
            case "luong-general":
                return mixing + keys
            case "luong-concat" | "bahdanau":
                return mixing + keys + queries

    @property
    def word_order(self) -> str:
        """How the model knows the order of words: it reads them one after the other."""
        return "recurrent"

    @property
    def feeds(self) -> bool:
        """Whether a step reads the attention's output, so that steps must be computed one after the other."""
        return self.input_feeding or self.attention == "bahdanau"

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`."""
        embedded = [Place("source_embedded", "embedded", "source"), Place("target_embedded", "embedded", "target")]
        found = embedded + self.encoder_places()
        for layer in range(self.decoder_layers):
            found += cell_places(f"decoder.{layer}", self.cell, side="target", layer=layer, layer_output=True)
        found += step_attention_places("attention") if self.attention != "none" else []
        tail = [Place("memory", "memory", "source"), Place("attentional", "output", "target"), Place("logits", "logits", "target")]
        return (*found, *tail)


PRESETS: dict[str, RecurrentConfig] = {
    "rnn": RecurrentConfig(cell="rnn"),
    "gru": RecurrentConfig(cell="gru"),
    "lstm": RecurrentConfig(cell="lstm"),
    "lstm-attention": RecurrentConfig(cell="lstm", attention="luong-general"),
    "gru-attention": RecurrentConfig(cell="gru", attention="bahdanau"),
}
"""About as many parameters as the Transformer `tiny`, whose embeddings are as wide."""
