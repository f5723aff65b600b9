"""Which tokens a sentence may have: places in a row of logits in, tokens out, and back."""

import numpy as np

from vitrail.native.arrays import Integers
from vitrail.native.compiled import compiled_inside
from vitrail.native.search.state import Search

# pyright: reportArgumentType=false, reportReturnType=false
# (an element of an array has no known type)


@compiled_inside
def is_listed(search: Search) -> bool:
    """Whether there are shortlists."""
    return search.shortlists.stride > 0


@compiled_inside
def stride_of(search: Search, width: int) -> int:
    """Numbers from one row of logits to the next. Args: width: of a row for the whole vocabulary."""
    return search.shortlists.stride if is_listed(search) else width


@compiled_inside
def width_of(search: Search, b: int, width: int) -> int:
    """Numbers of a row of a sentence's logits. Args: width: of a row for the whole vocabulary."""
    lists = search.shortlists
    return lists.base + lists.columns[b + 1] - lists.columns[b] if is_listed(search) else width


@compiled_inside
def end_of_sentence(search: Search, first: int, last: int) -> int:
    """The row after the last of a row's sentence, below `last`."""
    end, sentences = first + 1, search.rows.sentences
    while end < last and sentences[end] == sentences[first]:
        end += 1
    return end


@compiled_inside
def token_at(search: Search, b: int, place: int) -> int:
    """The token at a place of a sentence's logits. Precondition: it is no padding."""
    lists = search.shortlists
    if not is_listed(search):
        return place
    return lists.shared[place] if place < lists.base else lists.own[lists.starts[b] + place - lists.base]


@compiled_inside
def _find(tokens: Integers, first: int, last: int, token: int) -> int:
    """Where a token is in rising tokens[first:last]; -1 for nowhere."""
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if tokens[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < last and tokens[low] == token else -1


@compiled_inside
def place_of(search: Search, b: int, token: int) -> int:
    """The place of a token in a sentence's logits; -1 where the sentence may not have it."""
    lists = search.shortlists
    if not is_listed(search):
        return token
    shared = _find(lists.shared, 0, len(lists.shared), token)
    if shared >= 0:
        return shared
    own = _find(lists.own, lists.starts[b], lists.starts[b + 1], token)
    return lists.base + own - lists.starts[b] if own >= 0 else -1


@compiled_inside
def forbid(search: Search, b: int, begin: int, token: int) -> None:
    """Set the logit of a token to -inf. Args: begin: where the logits of the row begin."""
    place = place_of(search, b, token)
    if place >= 0:
        search.rows.logits[begin + place] = -np.inf
