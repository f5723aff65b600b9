"""Translation of one batch: the encoder, then steps of the decoder and of the search by turns."""

from vitrail.native.compiled import compiled_entry, compiled_inside
from vitrail.native.recurrent.layers import copy_states, decode_step, encode
from vitrail.native.recurrent.memory import Asked, Workspace
from vitrail.native.recurrent.packing import Model
from vitrail.native.references import refer
from vitrail.native.search.beams import begin
from vitrail.native.search.state import GIVEN, MEMBER, ONWARD, PART, PHASE, READ, REST, ROWS, START, WHOLE, Search
from vitrail.native.search.steps import gather_lists, go_on, score_rows

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _read(model: Model, work: Workspace, search: Search) -> None:
    """Read the sources, and the prompts but their last token."""
    gather_lists(work.listed, search)
    encode(model, work)
    for position in range(search.rules.prompt - 1):
        rows = begin(search, position)
        if rows > 0:
            decode_step(model, work, rows, search.rows.places, search.rows.last)


@compiled_inside
def _read_given(model: Model, work: Workspace, search: Search) -> None:
    """Read the sources and the given translations; the attention weights that are asked for are kept."""
    encode(model, work)
    given, rows, count = work.given, search.rows, 1
    given.step[0] = 0
    while count > 0:
        count = 0
        for b in range(len(given.begins) - 1):
            if given.step[0] < given.begins[b + 1] - given.begins[b]:
                rows.places[count], rows.last[count] = b, given.tokens[given.begins[b] + given.step[0]]
                count += 1
        if count > 0:
            decode_step(model, work, count, rows.places, rows.last)
            given.step[0] += 1


@compiled_inside
def _decode(model: Model, work: Workspace, search: Search) -> None:
    """Make the memory follow the hypotheses, and read the last token of each row."""
    copies = search.copies
    for i in range(copies.number[0]):
        copy_states(model, work, copies.sources[i], copies.targets[i])
    decode_step(model, work, search.progress[ROWS], search.rows.places, search.rows.last)


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
        _read_given(model, work, search)
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
