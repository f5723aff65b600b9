"""What the configurations of several kinds have in common: the shape of blocks and of cells."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.models.places import Place, Side, attention_places
from vitrail.nn.options import Activation, CellKind, CellNorm, Norm, NormPosition

Positions = Literal["sinusoidal", "tensor2tensor", "learned", "rotary", "none"]


class Shape(NamedTuple):
    """The amount of work of a batch."""

    rows: int
    source: int
    """Positions in each row, <eos> and padding counted."""
    target: int
    real: int
    """Target positions of all rows that are not padding."""


class BlockConfig(Config):
    """The shape of the blocks of a Transformer."""

    width: int = Field(default=128, ge=1, le=65_536)
    """Model width D: length of the vector that stands for one token."""
    heads: int = Field(default=4, ge=1, le=4096)
    """Attention heads H in each attention."""
    head_width: int | None = Field(default=None, ge=1, le=65_536)
    """Width E of one head; width / heads when not given."""
    feed_forward: int = Field(default=256, ge=1, le=1_000_000)
    """Width F of the feed-forward layer."""
    activation: Activation = "relu"
    """Function inside the feed-forward: relu (the paper), gelu, silu (x·sigmoid(x), also called swish), or swiglu (silu with a gate)."""
    norm: Norm = "layer"
    """Normalisation: layer (the paper), rms, or batch (padding left out of its statistics)."""
    norm_position: NormPosition = "pre"
    """Norm before each sublayer (pre: trains without care) or after the residual sum (post: the paper)."""
    positions: Positions = "sinusoidal"
    """How order is told: sinusoidal (the paper), tensor2tensor (sinusoidal with its frequencies and Marian's), learned, rotary
    (self-attention only), or none (words are then a set)."""
    max_positions: int = Field(default=1024, ge=1, le=1_000_000)
    """Positions that exist with learned positions; the others know no limit."""
    embedding_norm: bool = False
    """Normalise the sum of embeddings and positions (BERT)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share dropped of every sublayer's output before the residual sum, and of the embeddings."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of attention weights dropped."""
    activation_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share dropped inside the feed-forward."""

    @model_validator(mode="after")
    def _consistent(self) -> "BlockConfig":
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads; change one or give head_width")
        return self

    @property
    def word_order(self) -> str:
        """How the model knows the order of words: sinusoidal, learned or rotary positions, or none."""
        return self.positions

    @property
    def sinusoid_steps(self) -> int | None:
        """N of sinusoidal positions; None: as in the paper, see `nn.positions.sinusoids`."""
        return self.width // 2 - 1 if self.positions == "tensor2tensor" else None

    @property
    def width_of_head(self) -> int:
        """E: the width of one head."""
        return self.head_width or self.width // self.heads

    def block_places(self, path: str, side: Side, layer: int, attentions: dict[str, Side], *, first: Sequence[Place] = ()) -> list[Place]:
        """The places of one block, whose attentions look at these sides; after the last of its sublayers comes the feed-forward.

        Args: first: places of a sublayer before the attentions.
        """
        found = list(first)
        for name, reads in attentions.items():
            found += attention_places(f"{path}.{name}", side=side, reads=reads, layer=layer, heads=self.heads)
        found.append(Place(f"{path}.feed_forward.activation", "feed_forward", side, layer))
        last, pre = len(attentions) + 1 + bool(first), self.norm_position == "pre"
        for number in range(1, last + 1):
            # A norm before a sublayer is no part of what goes on; one after the sum is.
            at_end = number == last
            found.append(Place(f"{path}.residual_{number}.normed", "norm", side, layer, layer_output=at_end and not pre))
            found.append(Place(f"{path}.residual_{number}.sum", "residual", side, layer, layer_output=at_end and pre))
        return found


class CellsConfig(Config):
    """Settings of all recurrent models."""

    cell: CellKind = "lstm"
    """Recurrent cell: rnn (Elman, tanh), gru or lstm."""
    embedding_width: int = Field(default=128, ge=1, le=65_536)
    """Length of the vector that stands for one token."""
    width: int = Field(default=256, ge=1, le=65_536)
    """Width D of the hidden state; a bidirectional encoder halves it between its directions."""
    residual: bool = False
    """Add the input of every layer but the first to its output."""
    norm: CellNorm = "none"
    """Normalisation inside the cells: none, layer, or batch (of the input's part only)."""
    forget_bias: float = 1.0
    """Initial bias of an LSTM's forget gate."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout rate of the embeddings, between layers, and before the output."""
    variational: bool = False
    """Drop the same values at every time step of a sentence (Gal and Ghahramani 2016) instead of new ones at each."""
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of words whose whole embedding is dropped."""
    truncate: int | None = Field(default=None, ge=1)
    """Truncated back-propagation through time in the decoder alone: target positions in a chunk. The state is carried from chunk to
    chunk, its gradient is not; there is one update a batch. Empty: gradients go back to the first position."""
