"""The encoder over some sentences, which stand one after the other, without padding between them. A row is one token."""

from vitrail.native.compiled import compiled_inside
from vitrail.native.matrices.products import multiply
from vitrail.native.transformer.attention import attend, remember, turn
from vitrail.native.transformer.layers import after, before, embed, feed_forward, normalise
from vitrail.native.transformer.memory import Past, Workspace
from vitrail.native.transformer.packing import Model

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def _attend_within(model: Model, first: int, last: int, work: Workspace) -> None:
    """Self-attention of the rows of one sentence to each other; queries, keys and values are in z."""
    shape, rooms, turns = model.shape, work.rooms, model.weights.positions
    width = shape.attention
    for row in range(first, last):
        query = row * 3 * width
        turn(shape, turns, rooms.z, query, row - first)
        turn(shape, turns, rooms.z, query + width, row - first)
        remember(shape, rooms.z, query + width, query + 2 * width, work.within, row - first)
    for row in range(first, last):
        attend(shape, rooms, row * 3 * width, work.within, Past(0, last - first), row * width)


@compiled_inside
def encode(model: Model, work: Workspace) -> None:
    """The vector of each token, in y [rows, D]."""
    shape, linears, norms, batch, rooms = model.shape, model.linears, model.norms, work.batch, work.rooms
    sentences = len(batch.starts) - 1
    rows = batch.starts[sentences]
    for b in range(sentences):
        for row in range(batch.starts[b], batch.starts[b + 1]):
            embed(model, 0, 0, batch.tokens[row], row - batch.starts[b], row, rooms)
    if shape.embedding_norm == 1:
        normalise(model, norms.source, 0, rooms.x, rows, rooms.x)
    for layer in range(shape.encoder_layers):
        before(model, norms.encoder_1, layer, rows, rooms)
        multiply(model.weights.matrices, linears.encoder_qkv, layer, rooms.y, rows, rooms.quantised, rooms.z)
        for b in range(sentences):
            _attend_within(model, batch.starts[b], batch.starts[b + 1], work)
        multiply(model.weights.matrices, linears.encoder_out, layer, rooms.mixed, rows, rooms.quantised, rooms.x)
        after(model, norms.encoder_1, layer, rows, rooms)
        feed_forward(model, (linears.encoder_expand, linears.encoder_contract), norms.encoder_2, layer, rows, rooms)
    before(model, norms.encoder_end, 0, rows, rooms)
