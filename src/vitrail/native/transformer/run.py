"""Translation of one batch: the encoder, then steps of the decoder and of the search by turns."""

from vitrail.native.compiled import compiled_entry, compiled_inside
from vitrail.native.matrices.products import multiply
from vitrail.native.search.beams import begin, choose, rate, settle
from vitrail.native.search.state import ADVANCE, GROUP, READ, SETTLE, WHOLE, Search
from vitrail.native.transformer.asked import Asked
from vitrail.native.transformer.attention import copy_past
from vitrail.native.transformer.decoder import decode_step, keep_sources
from vitrail.native.transformer.encoder import encode
from vitrail.native.transformer.memory import Workspace
from vitrail.native.transformer.packing import Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _advance(model: Model, work: Workspace, search: Search, position: int) -> bool:
    """One step of all live hypotheses, and the columns of each sentence. False where all sentences are done."""
    rows, width, vocabulary = begin(search, position), model.shape.width, model.linears.vocabulary
    if rows == 0:
        return False
    decode_step(model, work, rows, search.rows.places, search.rows.last, position)
    for first in range(0, rows, GROUP):
        some = min(GROUP, rows - first)
        asked = work.rooms.y[first * width : (first + some) * width]
        multiply(model.weights.matrices, vocabulary, 0, asked, some, work.rooms.quantised, search.rows.logits)
        rate(search, vocabulary.outputs, first, some, position)
    choose(search, rows)
    return True


@compiled_inside
def _settle(model: Model, work: Workspace, search: Search, position: int) -> None:
    """What `search.beams.settle` does, with the copies."""
    settle(search, position)
    copies = search.copies
    for i in range(copies.number[0]):
        copy_past(model.shape, work, copies.sources[i], copies.targets[i], position + 1)


@compiled_entry
def run(asked: Asked) -> bool:
    """The whole search, or a part of it: WHOLE, or once READ, then ADVANCE and SETTLE by turns until ADVANCE returns False.

    One function for all, so that what they share is compiled once.
    """
    model, work, search, part, position = asked.model, asked.work, asked.search, asked.part, asked.position
    if part in (WHOLE, READ):
        encode(model, work)
        if model.shape.encoder_layers > 0:
            keep_sources(model, work)
    if part == ADVANCE:
        return _advance(model, work, search, position)
    if part == SETTLE:
        _settle(model, work, search, position)
    if part == WHOLE:
        while _advance(model, work, search, position):
            _settle(model, work, search, position)
            position += 1
    return True
