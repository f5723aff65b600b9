"""What a call of compiled code is given: of the search, `run.run`, and of what reads texts, `pooling.pool`."""

from typing import NamedTuple

from vitrail.native.recurrent.memory import Pooled, Workspace
from vitrail.native.recurrent.packing import Model
from vitrail.native.search.state import Search

MEAN, LAST = 0, 1
"""Which vector of a text: the mean over its tokens, or the last states of the highest layer."""


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
    """MEAN or LAST."""
    scored: int
    """1: labels are scored."""
