"""What a training says of two words: every number of its objective, in double precision, as plain values for a page or a terminal."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.config import Config

Numbers = npt.NDArray[np.float64]
Missing = Literal["method", "outputs", "counts", "other", "text"]
"""What a walk lacks: what is known of the training; the output vectors; the counts; an output vector of the other word, which the
training never saw; for GloVe, how often the two stand near each other, which only the text tells."""
SHOWN = 8
_TERMS = 3


class Shown(Config):
    """A vector: its first numbers."""

    first: tuple[float, ...]
    size: int
    length: float

    @classmethod
    def of(cls, vector: Numbers) -> "Shown":
        """The first of its numbers."""
        return cls(first=tuple(vector[:SHOWN].tolist()), size=len(vector), length=float(np.linalg.norm(vector)))


class Product(Config):
    """A dot product: its first terms, the sum of the others, and what all come to."""

    terms: tuple[tuple[float, float], ...]
    others: int
    rest: float
    value: float

    @classmethod
    def of(cls, one: Numbers, other: Numbers) -> "Product":
        """The product of two vectors."""
        terms = one * other
        return cls(
            terms=tuple(zip(one[:_TERMS].tolist(), other[:_TERMS].tolist(), strict=True)),
            others=max(0, len(one) - _TERMS),
            rest=float(terms[_TERMS:].sum()),
            value=float(terms.sum()),
        )


class InputRow(Config):
    """One of the rows that h is the mean of."""

    name: str
    """The word or the n-gram."""
    of: str
    """The word that it belongs to."""
    ngram: bool
    row: int
    """Of the words' table, or of that of n-grams."""
    length: float
    share: float | None
    """Its part of the score h·o: row·o / number of rows. None without output vectors."""


class Target(Config):
    """One row of the output vectors that h is compared with."""

    name: str | None
    """The word; None for a node of the tree."""
    row: int
    count: int | None
    label: int
    drawn: float | None
    """The chance that a draw gives this word; None where nothing is drawn."""
    score: float
    """h·o"""
    sigmoid: float
    """s(h·o)"""
    loss: float
    """-ln s(h·o) for a label of 1, -ln(1 - s(h·o)) for a label of 0."""
    pull: float
    """label - s(h·o): a step moves o by rate * pull * h, and h by rate * pull * o."""


class Gloves(Config):
    """What GloVe fits for a word w and a context u."""

    word: Shown
    context: Shown
    product: Product
    """w·u"""
    bias: float
    """b, of the word"""
    context_bias: float
    """c, of the context"""
    predicted: float
    """w·u + b + c, which is to be ln X"""
    x: float | None
    """How often they stand near each other, each time by 1 / distance; None where no text was given."""
    log_x: float | None
    weight: float | None
    """f(X) = min(1, (X / x_max)^alpha)"""
    error: float | None
    """d = w·u + b + c - ln X"""
    loss: float | None
    """f(X) d²"""
    x_max: float
    alpha: float
    window: int


class Walk(Config):
    """The objective for a word and another one, which it is to tell; of CBOW, which it helps to tell."""

    word: str
    other: str
    around: tuple[str, ...] = ()
    """Of CBOW: what stands in the window beside the word."""
    kind: Literal["negatives", "tree", "glove"] | None
    method: str | None
    architecture: Literal["skip-gram", "cbow"] | None
    cosine: float
    """Of the vectors of the two words."""
    product: Product
    """Of the vectors of the two words."""
    missing: tuple[Missing, ...]
    hidden: Shown | None = None
    """h"""
    rows: tuple[InputRow, ...] = ()
    output: Shown | None = None
    """o, of the other word"""
    score: Product | None = None
    """h·o of the other word"""
    targets: tuple[Target, ...] = ()
    """The other word first, then the likeliest draws; or the nodes from the root to the other word."""
    negatives: int = 0
    noise_power: float = 0.0
    expected: float | None = None
    """The loss of all draws together, on average."""
    probability: float | None = None
    """Of the tree: the product of all turns."""
    loss: float | None = None
    """Of the true word and, on average, of the draws; or of all turns."""
    glove: Gloves | None = None
