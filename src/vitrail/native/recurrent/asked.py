"""What a call of the compiled search is given."""

from typing import NamedTuple

from vitrail.native.recurrent.memory import Workspace
from vitrail.native.recurrent.packing import Model
from vitrail.native.search.state import Search


class Asked(NamedTuple):
    """A batch, and its search, whose `progress` says which part of it is to be done."""

    model: Model
    work: Workspace
    search: Search
