"""Skip-gram and CBOW, with negative sampling or hierarchical softmax, on words or on their n-grams, in compiled code.

One step learns from an input and its targets. The input h is the mean of some rows of `inputs` (one word; the words around a place; a word
and its n-grams). Each target has a row o of `outputs` and a label y of 0 or 1:

    loss = - sum over targets of  y log s(h·o) + (1 - y) log(1 - s(h·o)),   s(x) = 1 / (1 + e^-x)

With negative sampling the targets are the true word (y = 1) and words drawn at random (y = 0) (Mikolov et al. 2013b); with hierarchical
softmax they are the inner nodes on the way to the word in a Huffman tree (Morin and Bengio 2005). Skip-gram tells each neighbour from the
word, CBOW the word from the mean of its neighbours (Mikolov et al. 2013a); with n-grams it is fastText (Bojanowski et al. 2017). As in all
these programs, each input row gets the gradient of h undivided.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.native.compiled import compiled
from vitrail.native.lanes import exponential, get, load, prefetch, put, registers, spread, store, total
from vitrail.vectors.steps.draws import Floats, Integers, WordTable, draw_below, draw_bits, draw_word

LONGEST = 10_000
"""Words of a line that are read together; a longer one is cut."""


class Rows(NamedTuple):
    """The vectors, one after the other; each is padded with zeros to a multiple of 16 numbers."""

    inputs: Floats
    """[(words + buckets) * width]"""
    outputs: Floats
    """[(words or inner nodes) * width]"""
    shape: tuple[int, ...]
    """As many zeros as a row has vectors of 16: the width is 16 * len(shape), known when the code is compiled."""


class Bags(NamedTuple):
    """Some rows for each word: word w has rows[starts[w] : starts[w + 1]]."""

    starts: npt.NDArray[np.int64]
    rows: Integers


class Objective(NamedTuple):
    """What is to be told: words against drawn ones, or ways through a tree."""

    negatives: int
    """Drawn for each true word; 0: hierarchical softmax."""
    noise: WordTable
    paths: Bags
    """Of hierarchical softmax: the inner nodes on the way to each word."""
    turns: Floats
    """The label of each of `paths.rows`: 1 where the way turns left."""


class Reading(NamedTuple):
    """How the text is read."""

    keep: npt.NDArray[np.uint32]
    """For each word: kept where a random number of 32 bits is not above (subsampling)."""
    window: int
    """The most words to each side; each place draws its own of 1 .. window."""


class Learner(NamedTuple):
    """All that a pass over the text needs."""

    rows: Rows
    bags: Bags
    """The input rows of each word: itself, then its n-grams."""
    objective: Objective
    reading: Reading


class Rates(NamedTuple):
    """The learning rate at the first and after the last token of a piece of text; it falls linearly."""

    first: float
    last: float


class Workspace(NamedTuple):
    """Memory of one worker."""

    state: npt.NDArray[np.uint64]
    """[1] of the random numbers."""
    words: Integers
    """[LONGEST] the line that is read."""
    bag: Integers
    """The input rows of a step."""
    targets: Integers
    """[2 * window * most] output rows: for each place of the window, those of the word there. `most` is a multiple of 16."""
    labels: Floats
    counts: Integers
    """[2 * window + 1] targets of each place of the window."""
    scores: Floats
    """[most] h·o of each target, later the step along it."""


@compiled
def learn(rows: Rows, work: Workspace, bag: int, first: int, targets: int, rate: float, watch: bool) -> float:
    """One step: `bag` input rows against `targets` targets that begin at place `first` of the workspace.

    Returns the loss before the step where it is watched, else 0. A target that occurs twice sees its first step.
    """
    width, shape = 16 * len(rows.shape), rows.shape
    hidden, change = registers(shape), registers(shape)
    row = work.bag[0] * width
    for v in range(len(shape)):
        put(hidden, v, load(rows.inputs, row + 16 * v))
        put(change, v, spread(np.float32(0)))
    if bag > 1:
        for n in range(1, bag):
            row = work.bag[n] * width
            for v in range(len(shape)):
                put(hidden, v, get(hidden, v) + load(rows.inputs, row + 16 * v))
        share = spread(np.float32(1) / np.float32(bag))
        for v in range(len(shape)):
            put(hidden, v, get(hidden, v) * share)
    for n in range(targets):
        row = work.targets[first + n] * width
        product = get(hidden, 0) * load(rows.outputs, row)
        for v in range(1, len(shape)):
            product = product + get(hidden, v) * load(rows.outputs, row + 16 * v)
        work.scores[n] = total(product)
    loss = loss_of(work, first, targets) if watch else 0.0
    one, step = spread(np.float32(1)), spread(np.float32(rate))
    for n in range(0, targets, 16):
        probability = one / (one + exponential(spread(np.float32(0)) - load(work.scores, n)))
        store(work.scores, n, (load(work.labels, first + n) - probability) * step)
    for n in range(targets):
        row = work.targets[first + n] * width
        by = spread(work.scores[n])
        for v in range(len(shape)):
            output = load(rows.outputs, row + 16 * v)
            put(change, v, get(change, v) + by * output)
            store(rows.outputs, row + 16 * v, output + by * get(hidden, v))
    for n in range(bag):
        row = work.bag[n] * width
        for v in range(len(shape)):
            store(rows.inputs, row + 16 * v, load(rows.inputs, row + 16 * v) + get(change, v))
    return loss


@compiled
def loss_of(work: Workspace, first: int, targets: int) -> float:
    """The loss of the scores of a step."""
    loss = 0.0
    for n in range(targets):
        score = np.float64(work.scores[n])
        loss += np.log1p(np.exp(-score if work.labels[first + n] > 0 else score))
    return loss


@compiled
def aim(word: int, first: int, learner: Learner, work: Workspace) -> int:
    """Write the targets of a word at place `first` of the workspace, and begin to fetch their rows; returns their number."""
    objective, width = learner.objective, 16 * len(learner.rows.shape)
    count = 0
    if objective.negatives == 0:
        for place in range(objective.paths.starts[word], objective.paths.starts[word + 1]):
            work.targets[first + count] = objective.paths.rows[place]
            work.labels[first + count] = objective.turns[place]
            count += 1
        return count
    work.targets[first] = word
    work.labels[first] = np.float32(1)
    count = 1
    for _ in range(objective.negatives):
        drawn = draw_word(objective.noise, work.state)
        if drawn != word:
            work.targets[first + count] = drawn
            work.labels[first + count] = np.float32(0)
            for place in range(drawn * width, (drawn + 1) * width, 16):
                prefetch(learner.rows.outputs, place)
            count += 1
    return count


@compiled
def read_line(tokens: Integers, place: int, reading: Reading, work: Workspace) -> tuple[int, int]:
    """Read the line that begins at `place`, without words that subsampling leaves out; returns how many are left and where the next begins.

    A line ends with -1, or after `LONGEST` tokens.
    """
    count, end = 0, min(len(tokens), place + LONGEST)
    while place < end and tokens[place] >= 0:
        word = tokens[place]
        if np.uint32(draw_bits(work.state) >> np.uint64(32)) <= reading.keep[word]:
            work.words[count] = word
            count += 1
        place += 1
    return count, place + 1 if place < end else place


@compiled
def put_bag(word: int, bag: int, learner: Learner, work: Workspace) -> int:
    """Add the input rows of a word to the `bag` that are there; returns how many there are then."""
    for place in range(learner.bags.starts[word], learner.bags.starts[word + 1]):
        work.bag[bag] = learner.bags.rows[place]
        bag += 1
    return bag


@compiled
def skip_gram(tokens: Integers, learner: Learner, rates: Rates, work: Workspace) -> tuple[int, float, int]:
    """Read a piece of text once: each word tells each of the words around it.

    Returns: steps, the sum of the losses that were watched, and how many those are.
    """
    window, most = learner.reading.window, len(work.scores)
    steps, loss, watched, place = 0, 0.0, 0, 0
    while place < len(tokens):
        rate = rates.first + (rates.last - rates.first) * place / len(tokens)
        count, place = read_line(tokens, place, learner.reading, work)
        for center in range(count):
            reach = window - draw_below(window, work.state)
            low, high = max(0, center - reach), min(count, center + reach + 1)
            bag, watch = put_bag(work.words[center], 0, learner, work), steps % 1024 < 8
            for other in range(low, high):
                if other != center:
                    work.counts[other - low] = aim(work.words[other], (other - low) * most, learner, work)
            for other in range(low, high):
                if other != center:
                    loss += learn(learner.rows, work, bag, (other - low) * most, work.counts[other - low], rate, watch)
                    watched += watch
                    steps += 1
    return steps, loss, watched


@compiled
def cbow(tokens: Integers, learner: Learner, rates: Rates, work: Workspace) -> tuple[int, float, int]:
    """Read a piece of text once: the words around a place tell the word there. Returns the same as `skip_gram`."""
    window = learner.reading.window
    steps, loss, watched, place = 0, 0.0, 0, 0
    while place < len(tokens):
        rate = rates.first + (rates.last - rates.first) * place / len(tokens)
        count, place = read_line(tokens, place, learner.reading, work)
        for center in range(count):
            reach, bag = window - draw_below(window, work.state), 0
            for other in range(max(0, center - reach), min(count, center + reach + 1)):
                if other != center:
                    bag = put_bag(work.words[other], bag, learner, work)
            if bag > 0:
                targets, watch = aim(work.words[center], 0, learner, work), steps % 256 < 4
                loss += learn(learner.rows, work, bag, 0, targets, rate, watch)
                watched += watch
                steps += 1
    return steps, loss, watched
