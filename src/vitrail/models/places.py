"""The places of a model: the value of each Probe by role, side and layer, so that no code has to parse names.

A model keeps its layers in lists, `encoder` and `decoder` (`cells` in a language model), so that the path of a layer is
such as `encoder.0`. Only this module and the models use such paths.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vitrail.nn.options import CellKind

Side = Literal["source", "target"]
"""The half of a translator: source (encoder) or target (decoder)."""

Role = Literal[
    "embedded",
    "position",
    "query",
    "key",
    "value",
    "score",
    "mask",
    "attention",
    "context",
    "residual",
    "norm",
    "feed_forward",
    "hidden",
    "cell",
    "gate",
    "memory",
    "output",
    "logits",
]
"""The kind of value at a place:

embedded      token embeddings, scaled
position      embeddings plus positions: the input of the first layer
query, key, value    of an attention, by head
score         of every query with every key, before the softmax
mask          which keys may be read: booleans
attention     weights: softmax of the scores, each row of which sums to 1
context       the output of attention: the weighted mean of the values
residual      a residual sum
norm          output of the norm of a residual connection
feed_forward  the neurons of a feed-forward layer, after the activation
hidden        h, the state of a recurrent cell
cell          c, the second state of an LSTM cell, or what an SSRU remembers
gate          a gate of a recurrent cell, or its candidate
memory        output of the encoder, read by the decoder
output        combined output of several parts: both directions of a recurrent layer, or a recurrent decoder with its attention
logits        scores of the next token
"""

Order = Literal["forward", "backward", "reversed", "reversed_backward"]
"""The order in which the positions of a sentence are recorded: first to last, or last to first. For a source read in reverse: the words
from last to first, then <eos>; for a backward cell on it: <eos>, then the words."""

AttentionType = Literal["encoder", "decoder", "cross"]
"""Encoder self-attention, masked decoder self-attention, cross-attention (the only kind of a recurrent model)."""

ATTENTION_SIDES: dict[AttentionType, tuple[Side, Side]] = {
    "encoder": ("source", "source"),
    "decoder": ("target", "target"),
    "cross": ("target", "source"),
}
"""The side of each kind's queries, and the side of its keys."""


class Place(NamedTuple):
    """One recorded value of a model: its Probe, role, side and layer."""

    name: str
    """The path of the Probe."""
    role: Role
    side: Side
    """The half of the model that it belongs to."""
    layer: int | None = None
    """From 0; None for values outside the layers. The attention of a recurrent model counts as layer 0."""
    heads: int = 0
    """Of an attention; 0 elsewhere."""
    order: Order = "forward"
    """The order of positions, where they are recorded one after the other."""
    reads: Side | None = None
    """The side that an attention attends to; its keys and values have that side's positions."""
    layer_output: bool = False
    """Whether it is the output of its layer to the next one."""

    @property
    def path(self) -> str:
        """The module that the Probe belongs to; empty for the model itself."""
        return self.name.rpartition(".")[0]

    def reading_order(self, length: int) -> list[int]:
        """The index of each position among the recorded values. Args: length: positions, <eos> included, no padding."""
        last = length - 1
        match self.order:
            case "forward":
                return list(range(length))
            case "backward":
                return list(range(last, -1, -1))
            case "reversed":
                return [*range(last - 1, -1, -1), last]
            case "reversed_backward":
                return [*range(1, length), 0]


@dataclass(frozen=True)
class Attention:
    """One attention of a model, with the names of its Probes."""

    kind: AttentionType
    layer: int
    heads: int
    path: str
    """Of its module."""
    probes: dict[Role, str]
    """Their names by role."""

    @property
    def weights(self) -> str:
        """The name of the Probe that records its weights."""
        return self.probes["attention"]


def attentions(places: Sequence[Place], *kinds: AttentionType) -> list[Attention]:
    """The attentions of these kinds, by kind and layer; default: all, in the order of the model."""
    by_sides: dict[tuple[Side, Side], AttentionType] = {sides: kind for kind, sides in ATTENTION_SIDES.items()}
    found = [
        Attention(by_sides[place.side, place.reads], place.layer or 0, place.heads, place.path, probes_at(places, place.path))
        for place in places
        if place.role == "attention" and place.reads is not None
    ]
    return [one for kind in kinds for one in found if one.kind == kind] if kinds else found


def probes_at(places: Iterable[Place], path: str) -> dict[Role, str]:
    """The names of one module's Probes, by role; of several gates the last one's."""
    return {place.role: place.name for place in places if place.path == path}


def find(places: Iterable[Place], role: Role, side: Side) -> Place | None:
    """The first place of a role and a side; None where the model has none."""
    return next((place for place in places if (place.role, place.side) == (role, side)), None)


def layer_outputs(places: Iterable[Place], side: Side) -> list[Place]:
    """The outputs of a side's layers, from first to last."""
    return [place for place in places if place.layer_output and place.side == side]


def gradient_places(places: Iterable[Place]) -> list[Place]:
    """The places for comparing gradients over time steps and layers: each layer's last residual sum, or the state of its forward cell.

    Without layers: the embeddings.
    """
    found: dict[tuple[Side, int | None], Place] = {}
    every = list(places)
    for place in every:
        forward = place.role == "hidden" and place.order in ("forward", "reversed")
        if place.role == "residual" or forward:
            found[place.side, place.layer] = place
    return list(found.values()) or [place for place in every if place.role == "embedded"]


def attention_places(path: str, *, side: Side, reads: Side, layer: int, heads: int) -> list[Place]:
    """The places of a MultiHeadAttention."""
    roles: dict[str, Role] = {"q": "query", "k": "key", "v": "value"}
    projections = [Place(f"{path}.{name}", role, side, layer, heads, reads=reads) for name, role in roles.items()]
    return [*projections, *_weighing(path, side=side, reads=reads, layer=layer, heads=heads)]


def step_attention_places(path: str) -> list[Place]:
    """The places of a StepAttention, which has one head."""
    return _weighing(path, side="target", reads="source", layer=0, heads=1)


def _weighing(path: str, *, side: Side, reads: Side, layer: int, heads: int) -> list[Place]:
    roles: dict[str, Role] = {"scores": "score", "keep": "mask", "weights": "attention", "context": "context"}
    return [Place(f"{path}.{name}", role, side, layer, heads, reads=reads) for name, role in roles.items()]


_STATES: dict[CellKind, dict[str, Role]] = {
    "rnn": {},
    "gru": {"reset_gate": "gate", "update_gate": "gate", "candidate": "gate"},
    "lstm": {"input_gate": "gate", "forget_gate": "gate", "output_gate": "gate", "candidate": "gate", "cell": "cell"},
}
"""The recorded values of each cell besides its hidden state."""


def cell_places(path: str, kind: CellKind, *, side: Side, layer: int, order: Order = "forward", layer_output: bool) -> list[Place]:
    """The places of a recurrent cell. Args: layer_output: whether its hidden state is the layer's output."""
    hidden = Place(f"{path}.hidden", "hidden", side, layer, order=order, layer_output=layer_output)
    return [hidden, *(Place(f"{path}.{name}", role, side, layer, order=order) for name, role in _STATES[kind].items())]


def ssru_places(path: str, *, layer: int) -> list[Place]:
    """The places of an `SSRU`, which a decoder has."""
    roles: dict[str, Role] = {"forget_gate": "gate", "cell": "cell", "hidden": "hidden"}
    return [Place(f"{path}.{name}", role, "target", layer) for name, role in roles.items()]


# Paths of modules, weights and derived values, without Probes.

_LAYER = re.compile(r"((?:encoder|decoder|cells)\.(\d+))(?:\.|$)")
_ORDER = (
    *("source_", "target_", "embedding", "encoder.", "encoder_", "bottleneck", "expansion", "bridge", "attention"),
    *("decoder.", "decoder_", "cells.", "readout", "output"),
)
"""Prefixes of the paths of parts, from input to output."""


def layer_of(path: str) -> str | None:
    """The path of the layer in a path: encoder.0.residual_1.norm.weight -> encoder.0; None outside layers."""
    match = _LAYER.match(path)
    return match[1] if match else None


def group_of(path: str) -> str:
    """The layer of a weight, or else its part of the model: encoder.0, readout."""
    return layer_of(path) or path.partition(".")[0]


def rank(group: str) -> tuple[int, int]:
    """Sort key for results of `group_of`: from input to output, layers in order."""
    place = next((number for number, start in enumerate(_ORDER) if group.startswith(start)), len(_ORDER))
    match = _LAYER.match(group)
    return place, int(match[2]) if match else 0


def numbered(path: str) -> tuple[str, int]:
    """A path with {} for the number of its layer, and that number: encoder.{}.self_attention, 0. Without a layer: 0."""
    match = _LAYER.match(path)
    return (f"{path[: match.start(2)]}{{}}{path[match.end(2) :]}", int(match[2])) if match else (path, 0)


def side_of(path: str) -> Side:
    """The half of the model of a module, a weight or a value, by its path."""
    return "source" if path.startswith(("encoder", "source_")) or path == "memory" else "target"


def distances(names: Iterable[str]) -> dict[str, int]:
    """How many layers each weight is away from the output of its half: 0 after the last layer, 1 in it, and so on.

    Encoder and decoder are counted each from its own end. A table of embeddings is before the layers, also where the output is tied to it.
    """
    named = {name: layer_of(name) for name in names}
    depths: dict[str, int] = {}
    for layer in filter(None, named.values()):
        half, _, number = layer.partition(".")
        depths[half] = max(depths.get(half, 0), int(number) + 1)

    def distance(name: str, layer: str | None) -> int:
        if layer is not None:
            half, _, number = layer.partition(".")
            return depths[half] - int(number)
        if not name.startswith(("source_", "target_", "embedding.")):
            return 0
        halves = ("encoder",) if name.startswith("source_") else ("decoder", "cells")
        return 1 + sum(depths.get(half, 0) for half in halves)

    return {name: distance(name, layer) for name, layer in named.items()}


_RESIDUAL = re.compile(r"\.residual_(\d)\.")
_EMBEDDING, _CELLS = "embedding.", "cells."
HALVES: dict[Side, tuple[str, ...]] = {
    "source": ("source_", "encoder"),
    "target": ("target_", "decoder", "bridge", "attention", "readout", "output_"),
}
"""Prefixes of the common names of each half's weights."""
TABLES = ("source_embedding.weight", "target_embedding.weight", "output_weight", "output_bias")
"""Common names of the weights with a row for each token."""


def common_names(names: Sequence[str]) -> dict[str, str]:
    """The name of each weight by what it does, which is the same in models of every kind.

    A block numbers its residual connections from first to last: the one around the feed-forward is the second of a block that reads only
    its own side, and the third of one that also reads the source. The first is around self-attention or an SSRU. A recurrent language
    model is the decoder of a translator.
    """
    crossed = {layer_of(name) for name in names if ".cross_attention." in name}

    def common(name: str) -> str:
        layer = layer_of(name)
        sublayers = ("self_attention", "cross_attention", "feed_forward") if layer in crossed else ("self_attention", "feed_forward")
        name = _RESIDUAL.sub(lambda match: f".residual_of_{sublayers[int(match[1]) - 1]}.", name)
        if name.startswith(_CELLS):
            return f"decoder.{name.removeprefix(_CELLS)}"
        return f"target_{name}" if name.startswith(_EMBEDDING) else name

    return {name: common(name) for name in names}


def brief(name: str) -> str:
    """A short label of a place: enc 0 for encoder.0.residual_2.sum, X for source_embedded."""
    match = _LAYER.match(name)
    if match is not None:
        return f"{'cell' if name.startswith('cells') else name[:3]} {match[2]}"
    return {"source_embedded": "X", "target_embedded": "Y", "embedded": "Y", "decoder_output": "out"}.get(name, name)
