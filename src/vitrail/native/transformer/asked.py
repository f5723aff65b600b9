"""What a call of compiled code is given: of the search, `run.run`, and of what reads texts, `pooling.pool`."""

from typing import NamedTuple

from vitrail.native.search.state import Search
from vitrail.native.transformer.memory import Pooled, Workspace
from vitrail.native.transformer.packing import Model

MEAN, TOKENS = 0, 1
"""Whose vectors: the mean over the tokens of each text, or some tokens' own."""
NO_SCORES, PRODUCT, GUESSES = 0, 1, 2
"""Scores: none; W·v + b; or those of a masked language model, E·norm(gelu(W·v + b)) + c."""


class Asked(NamedTuple):
    """A batch, and its search, whose `progress` says which part of it is to be done."""

    model: Model
    work: Workspace
    search: Search


class Texts(NamedTuple):
    """Texts to read, and what is to be made of them."""

    model: Model
    work: Workspace
    pooled: Pooled
    which: int
    """MEAN or TOKENS."""
    scores: int
    """NO_SCORES, PRODUCT or GUESSES."""
