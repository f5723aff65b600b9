"""Several models score tokens together: the mean of their probabilities, as in `vitrail.decode.ensemble`."""

import numpy as np

from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import Lanes, exponential, larger, load, multiply_add, spread, store
from vitrail.native.search.selection import log_sum
from vitrail.native.search.shortlists import stride_of, width_of
from vitrail.native.search.state import MEMBERS, ROWS, Search

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _log_add(x: Lanes, y: Lanes) -> Lanes:
    """ln(e^x + e^y) = m + ln(1 + t), m = max(x, y), t = e^-|x - y|; ln(1 + t) = 2 artanh(s), s = t / (2 + t) <= 1/3, by its series."""
    one, two, top = spread(np.float32(1)), spread(np.float32(2)), larger(x, y)
    t = exponential(larger(x + y - two * top, spread(np.float32(-87))))  # not a number where both are -inf: -87 then
    s = t / (two + t)
    q = s * s
    p = spread(np.float32(1 / 13))
    p = multiply_add(p, q, spread(np.float32(1 / 11)))
    p = multiply_add(p, q, spread(np.float32(1 / 9)))
    p = multiply_add(p, q, spread(np.float32(1 / 7)))
    p = multiply_add(p, q, spread(np.float32(1 / 5)))
    p = multiply_add(p, q, spread(np.float32(1 / 3)))
    return multiply_add(two * s, multiply_add(p, q, one), top)


@compiled_inside
def mix(search: Search, width: int, span: tuple[int, int]) -> None:
    """Add a model's probabilities of a span of rows, whose logits are in `member_logits`: in logarithms. Args: width: as of `rate`."""
    own, mixed, is_first = search.rows.member_logits, search.rows.logits, search.progress[MEMBERS] == 0
    stride = stride_of(search, width)
    for row in range(span[0], span[1]):
        begin, to, numbers = (row - span[0]) * stride, row * stride, width_of(search, search.rows.sentences[row], width)
        total = spread(np.float32(log_sum(own, begin, numbers)))
        for i in range(0, numbers, 16):
            value = load(own, begin + i) - total
            store(mixed, to + i, value if is_first else _log_add(load(mixed, to + i), value))


@compiled_inside
def average(search: Search, width: int) -> None:
    """Divide the probabilities of all rows by the number of models. Args: width: as of `rate`."""
    logits, share = search.rows.logits, spread(np.float32(np.log(np.float64(search.progress[MEMBERS]))))
    for i in range(0, search.progress[ROWS] * stride_of(search, width), 16):
        store(logits, i, load(logits, i) - share)
