"""The best next tokens of a hypothesis: logits in, log-probabilities of the best allowed tokens out."""

import numpy as np

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import larger, largest, load, power_of_two, reaches, spread, total
from vitrail.native.search.state import BLOCK, Best


@compiled_inside
def log_sum(logits: Floats, begin: int, width: int) -> float:
    """ln Σ e^logit over logits[begin : begin + width]. Precondition: width is a multiple of 32."""
    a, b = load(logits, begin), load(logits, begin + 16)
    for i in range(begin + 32, begin + width, 32):
        a, b = larger(load(logits, i), a), larger(load(logits, i + 16), b)
    top = largest(larger(a, b))
    most, bits = spread(top), spread(np.float32(1.4426950408889634))  # e^x = 2^(x / ln 2)
    a = b = spread(np.float32(0))
    for i in range(begin, begin + width, 32):
        a = a + power_of_two((load(logits, i) - most) * bits)
        b = b + power_of_two((load(logits, i + 16) - most) * bits)
    return top + np.log(total(a + b))


@compiled_inside
def _insert(best: Best, value: float, token: int) -> None:
    """Put a value into the list, after all that are as large."""
    place = len(best.values) - 1
    if not value > best.values[place]:
        return
    while place > 0 and best.values[place - 1] < value:
        best.values[place], best.tokens[place] = best.values[place - 1], best.tokens[place - 1]
        place -= 1
    best.values[place], best.tokens[place] = value, token


@compiled_inside
def best_tokens(logits: Floats, begin: int, width: int, best: Best) -> None:
    """The largest of logits[begin : begin + width], largest first, the lower token first among equals.

    Where there are fewer above -inf, the rest have the value -inf and the token -1. Precondition: width is a multiple of 32.
    """
    count, blocks = len(best.values), 0
    for first in range(begin, begin + width, BLOCK):
        tops = load(logits, first)
        for i in range(first + 16, min(first + BLOCK, begin + width), 16):
            tops = larger(load(logits, i), tops)
        best.maxima[blocks] = largest(tops)
        blocks += 1
    # As many tokens as there are blocks reach the maxima of these blocks: what is below the count-th largest maximum is not among the best.
    best.values[:] = -np.inf
    for block in range(blocks):
        _insert(best, best.maxima[block], -1)
    floor = best.values[count - 1] if blocks >= count else np.float32(-np.inf)
    best.values[:] = -np.inf
    best.tokens[:] = -1
    for block in range(blocks):
        if best.maxima[block] >= floor:
            first = begin + block * BLOCK
            for i in range(first, min(first + BLOCK, begin + width), 16):
                if reaches(load(logits, i), floor):
                    for j in range(i, i + 16):
                        if logits[j] >= floor:
                            _insert(best, logits[j], j - begin)
