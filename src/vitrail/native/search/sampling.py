"""Drawing the next tokens, by the rules and with the random numbers of `vitrail.decode.search.selection.sample`."""

import numpy as np

from vitrail.native.arrays import Floats, Integers
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import exponential, larger, largest, load, spread, store, total
from vitrail.native.search.shortlists import place_of, token_at
from vitrail.native.search.state import BLOCK, EOS, LENGTH, Drawing, Samples, Search

# pyright: reportArgumentType=false, reportReturnType=false, reportAssignmentType=false
# (an element of an array has no known type)

_STEP, _FARTHEST = 3.5, 87.0
"""Tokens are looked for among those whose logit, divided by the temperature, is at most so much below the largest, then twice, and so on;
what is farther away has no weight."""


@compiled_inside
def _penalise(search: Search, row: int, begin: int) -> None:
    """Make the tokens that a row has read or written less likely; special tokens are left alone. Their logits are kept."""
    logits, tokens, kept, penalty = search.rows.logits, search.beams.tokens, search.samples.kept, np.float32(search.drawing.penalty)
    first, count, b = search.rows.places[row] * search.steps, search.rules.prompt + search.progress[LENGTH], search.rows.sentences[row]
    for i in range(count):
        place = place_of(search, b, tokens[first + i])
        kept[i] = logits[begin + place] if place >= 0 else -np.inf
    for i in range(count):
        place = place_of(search, b, tokens[first + i])
        if tokens[first + i] > EOS and place >= 0:
            logits[begin + place] = kept[i] / penalty if kept[i] > 0 else kept[i] * penalty


@compiled_inside
def _own_logit(search: Search, row: int, begin: int, place: int) -> float:
    """The logit at a place before the penalty."""
    if search.drawing.penalty != 1:
        first, token = search.rows.places[row] * search.steps, token_at(search, search.rows.sentences[row], place)
        for i in range(search.rules.prompt + search.progress[LENGTH]):
            if search.beams.tokens[first + i] == token:
                return search.samples.kept[i]
    return search.rows.logits[begin + place]


@compiled_inside
def _largest(logits: Floats, begin: int, width: int) -> float:
    tops = load(logits, begin)
    for i in range(begin + 16, begin + width, 16):
        tops = larger(load(logits, i), tops)
    return largest(tops)


@compiled_inside
def _weigh(logits: Floats, begin: int, width: int, temperature: float, samples: Samples) -> float:
    """weights[i] = e^((x_i - max x) / T), and their sums by block; returns the sum of all, 0 where no token is allowed."""
    top, everything = _largest(logits, begin, width), 0.0
    if top == -np.inf:
        return 0.0
    most, factor = spread(np.float32(top)), spread(np.float32(1 / temperature))
    never = exponential(spread(np.float32(-_FARTHEST)))
    for first in range(0, width, BLOCK):
        sums = spread(np.float32(0))
        for i in range(first, min(first + BLOCK, width), 16):
            weight = exponential((load(logits, begin + i) - most) * factor) - never
            store(samples.weights, i, weight)
            sums = sums + weight
        samples.sums[first // BLOCK] = total(sums)
        everything += samples.sums[first // BLOCK]
    return everything


@compiled_inside
def _precedes(logits: Floats, begin: int, a: int, b: int) -> bool:
    """Whether token a is more probable than token b, or as probable and lower."""
    x, y = logits[begin + a], logits[begin + b]
    return a < b if x == y else x > y


@compiled_inside
def _sort(logits: Floats, begin: int, order: Integers, count: int) -> None:
    """Sort tokens, the most probable first (Shell 1959)."""
    gap = count // 2
    while gap > 0:
        for i in range(gap, count):
            token, j = order[i], i
            while j >= gap and _precedes(logits, begin, token, order[j - gap]):
                order[j] = order[j - gap]
                j -= gap
            order[j] = token
        gap //= 2


@compiled_inside
def _gather(logits: Floats, begin: int, width: int, drawing: Drawing, samples: Samples, everything: float) -> int:
    """List the tokens that may be drawn, the most probable first, and their weights; returns how many there are."""
    top, distance, count, mass, enough = _largest(logits, begin, width), 0.0, 0, 0.0, False
    while not enough:
        distance += _STEP
        floor, count, mass = top - distance * drawing.temperature, 0, 0.0
        for i in range(width):
            if logits[begin + i] >= floor and logits[begin + i] > -np.inf:
                samples.order[count] = i
                count += 1
                mass += samples.weights[i]
        enough = distance > _FARTHEST or (count >= drawing.top_k if drawing.top_k > 0 else mass >= drawing.top_p * everything)
    _sort(logits, begin, samples.order, count)
    if drawing.top_k > 0:
        count, mass = min(count, drawing.top_k), 0.0
        for i in range(count):
            mass += samples.weights[samples.order[i]]
        everything = mass
    if drawing.top_p < 1:
        kept, mass = 0, 0.0
        while kept < count and mass < drawing.top_p * everything:
            mass += samples.weights[samples.order[kept]]
            kept += 1
        count = kept
    while count > 1 and samples.weights[samples.order[count - 1]] < drawing.min_p:
        count -= 1
    return count


@compiled_inside
def _drop_improbable(width: int, samples: Samples, least: float) -> float:
    """Weights below `least`, of 1 for the most probable token, become 0; returns the sum of the others."""
    everything = 0.0
    for first in range(0, width, BLOCK):
        mass = 0.0
        for i in range(first, min(first + BLOCK, width)):
            if samples.weights[i] < least:
                samples.weights[i] = 0
            mass += samples.weights[i]
        samples.sums[first // BLOCK] = mass
        everything += mass
    return everything


@compiled_inside
def _pick_any(width: int, samples: Samples, wanted: float) -> int:
    """The token where the sum of the weights, in the order of tokens, passes `wanted`."""
    mass, block, blocks = 0.0, 0, (width + BLOCK - 1) // BLOCK
    while block + 1 < blocks and mass + samples.sums[block] <= wanted:
        mass += samples.sums[block]
        block += 1
    last = 0
    for i in range(block * BLOCK, min((block + 1) * BLOCK, width)):
        if samples.weights[i] > 0:
            last = i
            mass += samples.weights[i]
            if mass > wanted:
                return i
    return last


@compiled_inside
def _pick_listed(count: int, samples: Samples, wanted: float) -> int:
    """The same in the order of `samples.order`."""
    mass = 0.0
    for i in range(count):
        mass += samples.weights[samples.order[i]]
        if mass > wanted:
            return samples.order[i]
    return samples.order[count - 1]


@compiled_inside
def draw(search: Search, row: int, begin: int, width: int, log_total: float) -> None:
    """Draw the next token of a row whose logits begin at `begin`; at the first step, for all samples of its sentence.

    By inversion: u of the sum of all weights, from 0, is in one token's share. Precondition: sentences' columns are empty.
    """
    drawing, samples, columns, samples_of = search.drawing, search.samples, search.columns, search.rules.beams
    b, sample, length = search.rows.sentences[row], search.rows.beams[row], search.progress[LENGTH]
    if drawing.penalty != 1:
        _penalise(search, row, begin)
    everything, listed = _weigh(search.rows.logits, begin, width, drawing.temperature, samples), 0
    if everything == 0:
        return
    if drawing.top_k > 0 or drawing.top_p < 1:
        listed = _gather(search.rows.logits, begin, width, drawing, samples, everything)
        everything = 0.0
        for i in range(listed):
            everything += samples.weights[samples.order[i]]
    elif drawing.min_p > 0:
        everything = _drop_improbable(width, samples, drawing.min_p)
    before = search.beams.totals[b * samples_of + sample]
    for number in range(0 if length == 0 else sample, samples_of if length == 0 else sample + 1):
        wanted = samples.noise[(b * search.longest + length) * samples_of + number] * everything
        place = _pick_listed(listed, samples, wanted) if listed > 0 else _pick_any(width, samples, wanted)
        column = 2 * b * samples_of + number
        columns.parents[column], columns.tokens[column] = sample, token_at(search, b, place)
        columns.log_probs[column] = np.float32(_own_logit(search, row, begin, place)) - np.float32(log_total)
        columns.totals[column] = before + columns.log_probs[column]
