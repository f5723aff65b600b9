"""Texts for one batch, of a translator or a language model: the encoder, then steps of the decoder and of the search by turns."""

from vitrail.native.compiled import compiled_entry, compiled_inside
from vitrail.native.references import refer
from vitrail.native.search.beams import begin
from vitrail.native.search.state import GIVEN, LENGTH, MEMBER, ONWARD, PART, PHASE, READ, REST, ROWS, START, WHOLE, Search
from vitrail.native.search.steps import gather_lists, go_on, score_rows
from vitrail.native.transformer.decoder import copy_memory, decode, keep_sources
from vitrail.native.transformer.encoder import encode
from vitrail.native.transformer.memory import Asked, Workspace
from vitrail.native.transformer.packing import Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _add_token(model: Model, work: Workspace, count: int, place: int, position: int, token: int) -> int:
    """Add a token to those that are read together, and read them when their room is full; returns how many are still to be read."""
    reading = work.reading
    reading.places[count], reading.positions[count], reading.tokens[count] = place, position, token
    if count + 1 < len(reading.tokens):
        return count + 1
    decode(model, work, count + 1)
    return 0


@compiled_inside
def _read_again(model: Model, work: Workspace, search: Search, first: int, end: int) -> None:
    """Let the memory of each row of the step have the tokens first to end - 1 of its hypothesis, and none before."""
    count, work.forgotten[0] = 0, first
    for row in range(search.progress[ROWS]):
        place = search.rows.places[row]
        for i in range(first, end):
            count = _add_token(model, work, count, place, i - first, search.beams.tokens[place * search.steps + i])
    if count > 0:
        decode(model, work, count)


@compiled_inside
def _read(model: Model, work: Workspace, search: Search) -> None:
    """Read the sources, and the prompts but their last token: as much of them as the model looks back over."""
    gather_lists(work.listed, search)
    if model.shape.encoder_layers > 0:
        encode(model, work)
        keep_sources(model, work)
    before, context = search.rules.prompt - 1, model.shape.context
    if before > 0 and begin(search, before - 1) > 0:
        _read_again(model, work, search, before - context if 0 < context < before else 0, before)


@compiled_inside
def _read_given(model: Model, work: Workspace) -> None:
    """Read the sources and the given translations; the attention weights that are asked for are kept."""
    encode(model, work)
    keep_sources(model, work)
    given, count = work.given, 0
    for b in range(len(given.begins) - 1):
        for i in range(given.begins[b + 1] - given.begins[b]):
            count = _add_token(model, work, count, b, i, given.tokens[given.begins[b] + i])
    if count > 0:
        decode(model, work, count)


@compiled_inside
def _decode(model: Model, work: Workspace, search: Search) -> None:
    """Make the memory follow the hypotheses, and read the last token of each row."""
    copies, position, reading, context = search.copies, search.rules.prompt - 1 + search.progress[LENGTH], work.reading, model.shape.context
    known = position - work.forgotten[0]
    if 0 < context <= known:
        # As a language model of torch does: when the memory is full, the second half of it becomes the first half of a new one.
        _read_again(model, work, search, position - context // 2, position)
        known = context // 2
    else:
        for i in range(copies.number[0]):
            copy_memory(model.shape, work, copies.sources[i], copies.targets[i], known)
    for row in range(search.progress[ROWS]):
        reading.places[row], reading.tokens[row], reading.positions[row] = search.rows.places[row], search.rows.last[row], known
    decode(model, work, search.progress[ROWS])


@compiled_inside
def _step(model: Model, work: Workspace, search: Search) -> None:
    """Score the next tokens of all rows."""
    _decode(model, work, search)
    score_rows(model.weights.matrices, model.linears.vocabulary, work.listed, work.rooms.y, work.rooms.quantised, search)


@compiled_inside
def _whole(model: Model, work: Workspace, search: Search) -> int:
    """Search until Python is to tell something, or to the end."""
    if search.progress[PHASE] == START:
        _read(model, work, search)
    need = go_on(search, model.linears.vocabulary.outputs)
    while need == ONWARD:
        _step(model, work, search)
        need = go_on(search, model.linears.vocabulary.outputs)
    return need


@compiled_inside
def _run(model: Model, work: Workspace, search: Search) -> int:
    part = search.progress[PART]
    if part == GIVEN:
        _read_given(model, work)
    if part == READ:
        _read(model, work, search)
    if part == MEMBER:
        _step(model, work, search)
    if part == REST:
        return go_on(search, model.linears.vocabulary.outputs)
    if part == WHOLE:
        return _whole(model, work, search)
    return ONWARD


@compiled_entry
def run(asked: Asked) -> int:
    """A search, or a part of it, by `Search.progress`: returns what it needs to go on, DONE when it needs nothing.

    WHOLE, and again after each answer; or, for several models, READ with each; then by turns REST with one of them, and MEMBER with each
    where that needs them to go ONWARD. GIVEN reads `Workspace.given` and searches nothing. One function for all, so that what they share is
    compiled once.
    """
    return _run(refer(asked.model), refer(asked.work), refer(asked.search))
