"""Which tokens a sentence may have: places in its shortlist in, tokens out, and back."""

import numpy as np

from vitrail.native.compiled import compiled_inside
from vitrail.native.search.state import GROUP, ROWS, Search

# pyright: reportArgumentType=false, reportReturnType=false
# (an element of an array has no known type)


@compiled_inside
def is_listed(search: Search) -> bool:
    """Whether there are shortlists."""
    return len(search.shortlists.tokens) > 0


@compiled_inside
def width_of(search: Search, b: int, width: int) -> int:
    """Numbers of a row of logits of a sentence. Args: width: of a row for the whole vocabulary."""
    columns = search.shortlists.columns
    return columns[b + 1] - columns[b] if is_listed(search) else width


@compiled_inside
def end_of_group(search: Search, first: int) -> int:
    """The row after the last whose logits are computed together with those of a row: at most GROUP; with shortlists, of one sentence."""
    end, last, sentences = first + 1, min(first + GROUP, search.progress[ROWS]), search.rows.sentences
    while end < last and (sentences[end] == sentences[first] or not is_listed(search)):
        end += 1
    return end


@compiled_inside
def token_at(search: Search, b: int, place: int) -> int:
    """The token at a place of a sentence's logits."""
    return search.shortlists.tokens[search.shortlists.starts[b] + place] if is_listed(search) else place


@compiled_inside
def place_of(search: Search, b: int, token: int) -> int:
    """The place of a token; -1 where it is not in the sentence's list."""
    if not is_listed(search):
        return token
    tokens, begin = search.shortlists.tokens, search.shortlists.starts[b]
    low, high = begin, search.shortlists.starts[b + 1]
    while low < high:
        middle = (low + high) // 2
        if tokens[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low - begin if low < search.shortlists.starts[b + 1] and tokens[low] == token else -1


@compiled_inside
def forbid(search: Search, b: int, begin: int, token: int) -> None:
    """Set the logit of a token to -inf; those of the row begin at a place."""
    place = place_of(search, b, token)
    if place >= 0:
        search.rows.logits[begin + place] = -np.inf
