"""What a record holds of a masked language model or a classifier besides its arrays: guesses, labels, how a text becomes one vector.

Extras: `guesses`: [GuessAt], `labels`: Labels, `pooling`: Pooled; of a bag of words, by attribution, `features`: [Contribution];
positions are those of `source_tokens`.
"""

from typing import Any, Literal

from vitrail.config import Config
from vitrail.inspection.contents import InspectionContents
from vitrail.inspection.decoding import DecodingStep


class GuessAt(DecodingStep):
    """What a masked language model guesses at one position; `chosen` is the token there, or at a mask the likeliest one."""

    position: int
    hidden: bool
    """Whether a mask stands there."""


class LabelScore(Config):
    """One label of a classifier."""

    label: str
    logit: float
    """Its probability is the sigmoid, or the softmax, of these. Where the model has one logit z for two labels: -z and z."""
    probability: float
    chosen: bool
    """Whether the model gives the text this label."""


class Labels(Config):
    """What a classifier says of a text: every label, in the order of the model."""

    output: Literal["sigmoid", "softmax"]
    several: bool
    """Whether labels may hold together."""
    labels: tuple[LabelScore, ...]


class Pooled(Config):
    """How the vectors of tokens become that of the text."""

    how: Literal["first", "mean", "last"]
    tokens: tuple[int, ...]
    """The positions whose vectors enter."""


class Contribution(Config):
    """What a token or an n-gram of a bag adds to the logits that are explained, in their order. With the bias, these sum to the logit."""

    first: int
    """Position of its first token; -1: the bias, which every text has."""
    size: int
    """How many tokens it has."""
    logits: tuple[float, ...]


def guesses_of(inspection: InspectionContents) -> list[GuessAt]:
    """The guesses of a record; none where it is not of a masked language model."""
    found: list[Any] = inspection.facts.extras.get("guesses", [])
    return [GuessAt.model_validate(one) for one in found]


def labels_of(inspection: InspectionContents) -> Labels | None:
    """The labels of a record; None where it is not of a classifier."""
    found = inspection.facts.extras.get("labels")
    return None if found is None else Labels.model_validate(found)
