"""Memory of one batch: its sources, the values of all rows, and keys and values of attention, or what SSRUs remember.

Memory is in pages of 16 positions, whose layout `attention.paged` has. All of it is a part
of what a call of compiled code is given (`Asked`, `Texts`).
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from vitrail.native.arrays import Allocate, Floats, Integers, allocate
from vitrail.native.attention.given import Given, nothing_given
from vitrail.native.attention.paged import PAGE, Memory, pages
from vitrail.native.matrices.packing import NO_LISTS, ListedVocabulary, Quantised, make_quantised
from vitrail.native.search.state import Search
from vitrail.native.transformer.packing import Model, Shape

TOGETHER = 64
"""Tokens of a prompt that are read together, at least."""
MEAN, TOKENS = 0, 1
"""Whose vectors: the mean over the tokens of each text, or some tokens' own."""
NO_SCORES, PRODUCT, GUESSES = 0, 1, 2
"""Scores: none; W·v + b; or those of a masked language model, E·norm(gelu(W·v + b)) + c."""


class Past(NamedTuple):
    """What a query may read of a memory."""

    first: int
    """The first position; a multiple of 16."""
    length: int


class Rooms(NamedTuple):
    """Values of all rows at one place of the model."""

    x: Floats
    """[rows, D] the residual stream."""
    y: Floats
    """[rows, D] normed."""
    z: Floats
    """[rows, widest] what a matrix gives."""
    mixed: Floats
    """[rows, H E] what attention gives."""
    scores: Floats
    """[H, longest] of one query."""
    quantised: Quantised


class Batch(NamedTuple):
    """The sources, one after the other, and where the memory of each is."""

    tokens: Integers
    """Those after the last sentence have no meaning."""
    starts: Integers
    """[B + 1] sentence b has the tokens starts[b] to starts[b + 1]."""
    pages: Integers
    """[B + 1] the same for its pages of memory in each layer."""


class Reading(NamedTuple):
    """Tokens that the decoder reads together, one in each row. Those of one hypothesis come in order."""

    places: Integers
    """[rows] where the memory of the hypothesis is: sentence * K + a number below K."""
    tokens: Integers
    """[rows]"""
    positions: Integers
    """[rows] in that memory."""


class Pooled(NamedTuple):
    """Vectors of sentences or tokens, and scores that are made of them."""

    tokens: Integers
    """[N] the rows of the tokens that are asked for, if any."""
    vectors: Floats
    """[N, D] or [B, D]"""
    scores: Floats
    """The same rows, [outputs] each; empty for none."""


class Workspace(NamedTuple):
    """All memory of one batch but the search's."""

    batch: Batch
    rooms: Rooms
    source: Memory
    """[layers, pages of all sentences]"""
    within: Memory
    """Of one sentence, while the encoder reads it."""
    own: Memory
    """[layers, B K, pages for the longest translation]; without numbers where the decoder has SSRUs."""
    cells: Floats
    """[layers, B K, D] what these remember: c of each hypothesis; else without numbers."""
    reading: Reading
    forgotten: Integers
    """[1] tokens of each hypothesis before the first that its memory has."""
    beams: int
    """K"""
    room: int
    """Positions of `own` for each hypothesis; a multiple of 16."""
    listed: ListedVocabulary
    """What makes logits where sentences have shortlists."""
    given: Given
    """Translations that are read instead of a search."""


class Asked(NamedTuple):
    """What `run.run` is given: a batch, and its search, whose `progress` says which part of it is to be done."""

    model: Model
    work: Workspace
    search: Search


class Texts(NamedTuple):
    """What `pooling.pool` is given: texts to read, and what is to be made of them."""

    model: Model
    work: Workspace
    pooled: Pooled
    which: int
    """MEAN or TOKENS."""
    scores: int
    """NO_SCORES, PRODUCT or GUESSES."""


def make_workspace(
    shape: Shape,
    sources: Sequence[Sequence[int]],
    *,
    beams: int,
    steps: int,
    listed: ListedVocabulary = NO_LISTS,
    make: Allocate = allocate,
    passing: Allocate | None = None,
) -> Workspace:
    """Room for sources, ends included, and for `beams` translations of each of at most `steps` tokens.

    Without an encoder, sources are empty. Args: listed: see `Workspace`. passing: makes what is written before it is read, and not read
        after the batch.
    """
    lengths = [len(source) for source in sources]
    starts, places = (np.array([0, *accumulate(counts)], np.int64) for counts in (lengths, map(pages, lengths)))
    longest, rows = max(lengths), max(sum(lengths), beams * len(sources))
    if shape.decoder_layers:
        rows = max(rows, TOGETHER)
    steps = min(steps, shape.context) if shape.context else steps
    steps = 0 if shape.recurs else steps
    room, memories = PAGE * pages(steps), shape.decoder_layers * beams * len(sources)

    passing = passing or make

    def floats(count: int) -> Floats:
        return passing(count, np.float32)

    def memory(positions: int) -> Memory:
        return Memory(floats(positions * shape.attention), floats(positions * shape.attention))

    deepest = max(shape.width, shape.attention, shape.hidden)
    rooms = Rooms(
        x=floats(rows * shape.width),
        y=floats(rows * shape.width),
        z=floats(rows * shape.widest),
        mixed=np.zeros(0, np.float32),
        scores=floats(shape.heads * PAGE * pages(max(longest, steps))),
        quantised=make_quantised(rows, deepest, passing),
    )
    if shape.attention > shape.heads * shape.head:
        mixed: Floats = make(rows * shape.attention, np.float32)
        mixed.fill(0)  # what pads the heads together is never written
    else:
        mixed = floats(rows * shape.attention)
    forgotten: Integers = make(1, np.int64)
    forgotten[0] = 0
    tokens: Integers = make(sum(lengths), np.int64)
    tokens[:] = [token for source in sources for token in source]
    return Workspace(
        Batch(tokens, starts, places),
        rooms._replace(mixed=mixed),
        source=memory(shape.decoder_layers * int(places[-1]) * PAGE),
        within=memory(PAGE * pages(longest)),
        own=memory(memories * room),
        cells=floats(memories * shape.width if shape.recurs else 0),
        reading=Reading(*(passing(rows, np.int64) for _ in range(3))),
        forgotten=forgotten,
        beams=beams,
        room=room,
        listed=listed,
        given=nothing_given(make),
    )


def put_source(work: Workspace, source: Sequence[int]) -> None:
    """Replace the source of a batch of one sentence. Precondition: it is not longer than the one that the batch was made with."""
    work.batch.tokens[: len(source)] = source
    work.batch.starts[1] = len(source)


def make_pooled(shape: Shape, tokens: Integers | None, sentences: int, scores: int, *, make: Allocate = allocate) -> Pooled:
    """Room for vectors. Args: tokens: those asked for; None: one vector for each sentence. scores: of each, padded; 0 for none."""
    rows = sentences if tokens is None else len(tokens)
    asked: Integers = make(0 if tokens is None else rows, np.int64)
    if tokens is not None:
        asked[:] = tokens
    return Pooled(asked, make(rows * shape.width, np.float32), make(rows * scores, np.float32))
