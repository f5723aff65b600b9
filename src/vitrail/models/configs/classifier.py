"""The configurations of classifiers."""

from typing import ClassVar, Literal

from pydantic import Field

from vitrail.config import Config
from vitrail.errors import UsageError
from vitrail.models.configs.encoders import RecurrentEncoderConfig, TransformerEncoderConfig
from vitrail.models.places import Place
from vitrail.nn.options import Pooling


class HeadConfig(Config):
    """Settings of every classifier's end."""

    output: Literal["auto", "sigmoid", "softmax"] = "auto"
    """How scores become probabilities. sigmoid: one score for two labels, p = 1 / (1 + exp(-z)); where labels may hold together, one for
    each label. softmax: one score for each label, of which one holds. auto: sigmoid for two labels, else softmax."""
    several: bool = False
    """Labels may hold together (`data.several`)."""
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share dropped of the vector of the whole text."""
    context: int = Field(default=256, ge=4, le=1_000_000)
    """Tokens of a text that are read at most, its marks counted; the rest is not read."""

    def output_for(self, labels: int) -> Literal["sigmoid", "softmax"]:
        """The output for a number of labels. Raises UsageError where what was asked cannot be."""
        if self.output == "softmax" and self.several:
            raise UsageError(
                "model.output = softmax with labels that may hold together: its probabilities sum to 1, so only one can be likely",
                expected="sigmoid: each label has a probability of its own",
                remedy="--set model.output=sigmoid, or --set data.several=false",
            )
        if self.output == "sigmoid" and not self.several and labels != 2:
            raise UsageError(
                f"model.output = sigmoid with {labels} labels of which one holds",
                expected="softmax, whose probabilities sum to 1; or two labels; or labels that may hold together",
                remedy="--set model.output=softmax, or --set data.several=true",
            )
        if self.output == "auto":
            return "sigmoid" if self.several or labels == 2 else "softmax"
        return self.output

    def scores_for(self, labels: int) -> int:
        """How many scores there are for a number of labels: two labels of which one holds may have one."""
        return 1 if self.output_for(labels) == "sigmoid" and not self.several else labels


class TransformerClassifierConfig(HeadConfig, TransformerEncoderConfig):
    """The shape of a classifier with a Transformer's encoder."""

    kind: Literal["transformer-classifier"] = "transformer-classifier"
    pooling: Pooling = "mean"
    """How vectors of tokens become that of the text: first (of <s>, as BERT's [CLS]) or mean."""

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.encoder_layers

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`; what it reads is a source."""
        start = [Place("source_embedded", "embedded", "source"), Place("source_input", "position", "source")]
        return (*start, *self.encoder_places(), Place("memory", "memory", "source"), Place("logits", "logits", "source"))


class RecurrentClassifierConfig(HeadConfig, RecurrentEncoderConfig):
    """The shape of a classifier with a recurrent encoder."""

    kind: Literal["recurrent-classifier"] = "recurrent-classifier"
    pooling: Literal["mean", "last"] = "mean"
    """How the text becomes one vector: the mean of the vectors of its tokens, or the last states of the highest layer."""

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.encoder_layers

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`; what it reads is a source."""
        ends = [Place("memory", "memory", "source"), Place("logits", "logits", "source")]
        return (Place("source_embedded", "embedded", "source"), *self.encoder_places(), *ends)


class BagClassifierConfig(HeadConfig):
    """The shape of a classifier of a bag of words and n-grams, as fastText's."""

    kind: Literal["bag-classifier"] = "bag-classifier"
    width: int = Field(default=100, ge=1, le=65_536)
    """Numbers in the vector of a token."""
    word_ngrams: int = Field(default=2, ge=1, le=8)
    """Runs of up to this many tokens have vectors, too; 1: only the tokens."""
    buckets: int = Field(default=65_536, ge=1, le=50_000_000)
    """Rows of the table of these vectors: by their hash, several n-grams may share one."""
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share dropped of the vector of the whole text."""
    context: int = Field(default=10_000, ge=4, le=1_000_000)
    """Tokens of a text that are read at most, its end counted; the rest is not read."""
    pooling: ClassVar[Pooling] = "mean"
    depth: ClassVar[int] = 0

    def places(self) -> tuple[Place, ...]:
        """See `Model.places`; what it reads is a source."""
        return (
            Place("source_embedded", "embedded", "source"),
            Place("memory", "memory", "source"),
            Place("logits", "logits", "source"),
        )


PRESETS: dict[str, TransformerClassifierConfig | RecurrentClassifierConfig | BagClassifierConfig] = {
    "classifier-mini": TransformerClassifierConfig(encoder_layers=2, width=128, heads=4, feed_forward=512, activation="gelu"),
    "classifier-small": TransformerClassifierConfig(encoder_layers=6, width=384, heads=6, feed_forward=1536, activation="gelu"),
    "classifier-lstm": RecurrentClassifierConfig(cell="lstm", embedding_width=128, width=256),
    "classifier-gru": RecurrentClassifierConfig(cell="gru", embedding_width=128, width=256),
    "fasttext": BagClassifierConfig(),
}
"""Classifiers by name."""
