"""Memory of one batch: its sources, the values of all rows, what attention reads of the sources, and the states of the hypotheses.

It is a part of what a call of compiled code is given (`Asked`, `Texts`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vitrail.native.arrays import Allocate, Floats, Integers, allocate
from vitrail.native.attention.given import Given, nothing_given
from vitrail.native.attention.paged import PAGE, Memory, pages
from vitrail.native.matrices.packing import NO_LISTS, ListedVocabulary, Quantised, make_quantised
from vitrail.native.recurrent.architecture import NONE
from vitrail.native.recurrent.packing import Model, Shape
from vitrail.native.search.state import Search

MEAN, LAST = 0, 1
"""Which vector of a text: the mean over its tokens, or the last states of the highest layer."""


class Carry(NamedTuple):
    """States that go from step to step."""

    hidden: Floats
    cell: Floats
    """Of LSTM; else without numbers."""


class Gates(NamedTuple):
    """What the gates of all rows get."""

    inputs: Floats
    """[rows, G w] W·x + b"""
    recurrent: Floats
    """[rows, G w] U·h + b'"""


class Rooms(NamedTuple):
    """Values of all rows at one place of the model."""

    even: Floats
    """[rows, widest] what layers 0, 2, ... read, and layers 1, 3, ... give."""
    odd: Floats
    """[rows, widest] the same by turns."""
    gates: Gates
    hidden: Floats
    """[rows, W] states before a step, or queries."""
    asked: Floats
    """[rows, W] queries after their matrix."""
    seen: Floats
    """[rows, seen] what the readout reads."""
    y: Floats
    """[rows, E] what it gives."""
    scores: Floats
    """[longest] of one query."""
    quantised: Quantised


class Batch(NamedTuple):
    """The sources, one after the other, and where the memory of each is."""

    tokens: Integers
    """In the order in which the encoder reads them; those after the last sentence have no meaning."""
    starts: Integers
    """[B + 1] sentence b has the tokens starts[b] to starts[b + 1]."""
    pages: Integers
    """[B + 1] the same for its pages of memory."""
    order: Integers
    """[B] sentences, longest first: those that a step of the encoder still reads come first."""


class Pooled(NamedTuple):
    """Vectors of texts, and scores of labels that are made of them."""

    vectors: Floats
    """[B, W]"""
    scores: Floats
    """[B, outputs]; empty for none."""


class Workspace(NamedTuple):
    """All memory of one batch but the search's."""

    batch: Batch
    rooms: Rooms
    source: Memory
    """[pages of all sentences]; without attention none."""
    reading: Carry
    """[B, w] of one layer and direction of the encoder, in the order of `Batch.order`."""
    ends: Carry
    """[B, W] of one layer of the encoder after the last token."""
    own: Carry
    """[layers, B K, W] of the decoder."""
    fed: Floats
    """[B K, E] what the readout gave, where it is fed to the next step."""
    beams: int
    """K"""
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
    """MEAN or LAST."""
    scored: int
    """1: labels are scored."""


def make_workspace(
    model: Model,
    sources: Sequence[Sequence[int]],
    *,
    beams: int,
    listed: ListedVocabulary = NO_LISTS,
    make: Allocate = allocate,
    passing: Allocate | None = None,
) -> Workspace:
    """Room for sources, ends included, and for `beams` translations of each, of any length.

    Args: listed: see `Workspace`. passing: makes what is written before it is read, and not read after the batch.
    """
    passing = passing or make
    shape, lengths = model.shape, [len(source) for source in sources]
    tokens, hypotheses = sum(lengths), beams * len(sources)

    def carry(count: int) -> Carry:
        return Carry(passing(count, np.float32), passing(count if shape.parts == 2 else 0, np.float32))

    memory = 0 if shape.attention == NONE else PAGE * sum(map(pages, lengths)) * shape.width
    fed = make(hypotheses * shape.embedding if shape.feeds else 0, np.float32)
    fed[:] = 0
    return Workspace(
        _make_batch(sources, reverse=bool(shape.reverse_source), make=make),
        _make_rooms(model, tokens, hypotheses, longest=max(lengths), make=passing),
        source=Memory(passing(memory, np.float32), passing(memory, np.float32)),
        reading=carry(len(sources) * model.encoder.width),
        ends=carry(len(sources) * shape.width),
        own=carry(model.decoder.layers * hypotheses * shape.width),
        fed=fed,
        beams=beams,
        listed=listed,
        given=nothing_given(make),
    )


def put_source(model: Model, work: Workspace, source: Sequence[int]) -> None:
    """Replace the source of a batch of one sentence. Precondition: it is not longer than the one that the batch was made with."""
    work.batch.tokens[: len(source)] = _as_read(source, reverse=bool(model.shape.reverse_source))
    work.batch.starts[1] = len(source)


def make_pooled(shape: Shape, texts: int, scores: int, *, make: Allocate = allocate) -> Pooled:
    """Room for vectors. Args: scores: of each text, padded; 0 for none."""
    return Pooled(make(texts * shape.width, np.float32), make(texts * scores, np.float32))


def _make_rooms(model: Model, tokens: int, hypotheses: int, *, longest: int, make: Allocate) -> Rooms:
    shape, rows = model.shape, max(tokens, hypotheses)
    widest = max(shape.read, shape.width, shape.embedding)
    gates = max(tokens * model.encoder.recurrent.outputs, hypotheses * model.decoder.recurrent.outputs)

    def floats(count: int) -> Floats:
        return make(count, np.float32)

    return Rooms(
        even=floats(rows * widest),
        odd=floats(rows * widest),
        gates=Gates(floats(gates), floats(hypotheses * max(model.encoder.recurrent.outputs, model.decoder.recurrent.outputs))),
        hidden=floats(rows * shape.width),
        asked=floats(rows * shape.width),
        seen=floats(hypotheses * shape.seen),
        y=floats(hypotheses * shape.embedding),
        scores=floats(PAGE * pages(longest)),
        quantised=make_quantised(rows, max(widest, shape.seen), make),
    )


def _as_read(source: Sequence[int], *, reverse: bool) -> Sequence[int]:
    """A source in the order in which the encoder reads it. Args: reverse: from the last token to the first, but the end last."""
    return [*source[-2::-1], source[-1]] if reverse else source


def _make_batch(sources: Sequence[Sequence[int]], *, reverse: bool, make: Allocate) -> Batch:
    """Args: reverse: see `_as_read`."""
    lengths = [len(source) for source in sources]
    starts, places = (np.concatenate([[0], np.cumsum(counts)]).astype(np.int64) for counts in (lengths, [pages(one) for one in lengths]))
    tokens: Integers = make(sum(lengths), np.int64)
    tokens[:] = np.concatenate([np.asarray(_as_read(source, reverse=reverse), np.int64) for source in sources])
    return Batch(tokens, starts, places, np.argsort(-np.asarray(lengths), kind="stable").astype(np.int64))
