"""Attention of one query to remembered keys and values, for all heads. √E is in the queries' weights already; see `packing`."""

from vitrail.native.arrays import Floats
from vitrail.native.attention.one_head import compare, keep, keep_weights, mix, soften
from vitrail.native.attention.paged import FOUR, PAGE, Memory
from vitrail.native.compiled import compiled_inside
from vitrail.native.lanes import load, store
from vitrail.native.transformer.memory import Past, Rooms, Workspace
from vitrail.native.transformer.packing import Shape

# pyright: reportArgumentType=false
# (an element of an array has no known type)


@compiled_inside
def turn(shape: Shape, turns: Floats, z: Floats, begin: int, position: int) -> None:
    """Turn each head by the angle of a position, where positions are rotary: (a, b) becomes (a cos - b sin, a sin + b cos).

    Args: turns: [positions, E] sines, then cosines. z: the heads begin at `begin`.
    """
    if shape.rotary == 0:
        return
    half, table = shape.head // 2, position * shape.head
    for first in range(begin, begin + shape.heads * shape.head, shape.head):
        for e in range(0, half, 16):
            sine, cosine = load(turns, table + e), load(turns, table + half + e)
            a, b = load(z, first + e), load(z, first + half + e)
            store(z, first + e, a * cosine - b * sine)
            store(z, first + half + e, a * sine + b * cosine)


@compiled_inside
def remember(shape: Shape, z: Floats, key: int, value: int, memory: Memory, place: int) -> None:
    """Keep the key and the value that begin at `key` and `value` of z, at a position of the memory."""
    keep(z, key, z, value, shape.attention, memory, place)


@compiled_inside
def attend(shape: Shape, rooms: Rooms, query: int, memory: Memory, past: Past, out: int) -> None:
    """mixed[out : out + H E] = softmax(q·K)·V of each head, for the query that begins at `query` of z.

    Each stage takes all heads, so that the processor need not wait for the one before.
    """
    begin, width, head, length = past.first * shape.attention, shape.attention, shape.head, past.length
    stride = (length + PAGE - 1) // PAGE * PAGE
    for h in range(shape.heads):
        compare(rooms.z, query + h * head, memory.keys, width, (begin + FOUR * h * head, length, head), rooms.scores, h * stride)
    for h in range(shape.heads):
        soften(rooms.scores, h * stride, length)
    for h in range(shape.heads):
        mix(rooms.scores, h * stride, memory.values, width, (begin + h * head, length, head), rooms.mixed, out + h * head)


@compiled_inside
def keep_heads(shape: Shape, work: Workspace, layer: int, row: int, length: int) -> None:
    """Keep the weights that `attend` has just computed for a row, of those heads that are asked for."""
    given, reading, stride = work.given, work.reading, (length + PAGE - 1) // PAGE * PAGE
    to = given.begins[reading.places[row]] + reading.positions[row]
    for h in range(shape.heads):
        keep_weights(given, layer * shape.heads + h, to, work.rooms.scores, h * stride, length)


@compiled_inside
def copy_past(shape: Shape, work: Workspace, source: int, target: int, length: int) -> None:
    """Copy the keys and values of a hypothesis' `length` tokens from one place to another, in every layer."""
    own, hypotheses, width = work.own, work.beams * (len(work.batch.starts) - 1), shape.attention
    keys, values = FOUR * ((length - 1) // FOUR + 1) * width, length * width
    for layer in range(shape.decoder_layers):
        begin = (layer * hypotheses + source) * work.room * width
        to = (layer * hypotheses + target) * work.room * width
        for k in range(0, keys, 16):
            store(own.keys, to + k, load(own.keys, begin + k))
        for k in range(0, values, 16):
            store(own.values, to + k, load(own.values, begin + k))
