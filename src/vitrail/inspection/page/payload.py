"""What of a record goes into its page, within a budget of bytes: facts and arrays, deflated; what was left out or rounded is said."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vitrail.inspection.contents import InspectionContents
from vitrail.inspection.page.derived import tell_links, tell_places, tell_planes
from vitrail.inspection.page.packing import Group, Precision, Values, deflate, least_size, pack
from vitrail.models.places import Place, Side, attentions, layer_of, rank, side_of

BUDGET = 1_950_000
"""Bytes of a page: what is promised is less than 2 MB."""

_NOT_SENT = ("logits", "probabilities")
"""Of every position and the whole vocabulary; the decoding steps hold the best candidates."""

_POSITIONS: dict[str, Side] = {"source_positions": "source", "target_positions": "target"}
"""What a record adds to what a model's places record, before the first layer."""

_INDEX = 40
"""Bytes that an array's name, shape and place take in the page, about."""

_SHARE_OF_ATTENTION, _SHARE_OF_SMALL = 0.4, 0.25
"""Of the budget, for exact attention weights, and for analyses: beyond it they are rounded."""


Attempt = tuple[Mapping[str, Values], Precision]


class _Room:
    """Groups of arrays, as long as they fit."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.groups: list[Group] = []
        self._known: dict[str, dict[str, Any]] = {}

    def pack(self, arrays: Mapping[str, Values], precision: Precision) -> Group:
        return pack(arrays, precision=precision, known=self._known)

    def add(self, group: Group) -> None:
        self.groups.append(group)
        self.left -= group.size
        self._known |= group.known

    def try_all(self, attempts: Sequence[Attempt], *, limit: float = math.inf) -> int | None:
        """Add the first that fits; its place among the attempts, or None. What cannot fit is not even packed."""
        limit = min(self.left, limit)
        for number, (arrays, precision) in enumerate(attempts):
            if least_size(arrays, precision) > limit:
                continue
            group = self.pack(arrays, precision)
            if group.size <= limit:
                self.add(group)
                return number
        return None


def make_payload(inspection: InspectionContents, *, reserved: int = 0, budget: int = BUDGET) -> dict[str, Any]:
    """`meta`: the facts, the `places` of the model, `links` and `planes` (see `derived`); `walk`, the layers whose every value is there;
    `checks`, of all weights before any rounding; `notes`, what was rounded or left out. `arrays` and `blobs`: see `packing`.

    Args: reserved: bytes of the page that are taken already.
    """
    arrays = {name: values for name, values in inspection.arrays.items() if name not in _NOT_SENT}
    weights = {place.name: place for place in inspection.places if place.role in ("attention", "mask")}
    layers = _layers_of(arrays, inspection.places)
    crossing = {one.layer: one.weights for one in attentions(inspection.places, "cross") if one.weights in arrays}
    meta: dict[str, Any] = _shorten(inspection.facts.model_dump(mode="json")) | {
        "checks": check_weights(arrays, inspection.places),
        "places": tell_places(inspection),
        "planes": _shorten(tell_planes(inspection)),
        "links": tell_links(inspection, layers=list(crossing)),
    }
    room = _Room(budget - reserved - len(_text(meta)) - _INDEX * len(arrays))
    notes = _add_attention(room, {name: values for name, values in arrays.items() if name in weights}, budget, places=weights)
    held = {name for group in room.groups for name in group.entries}
    if left := [layer for layer, name in crossing.items() if name not in held]:
        meta["links"] = tell_links(inspection, layers=[layer for layer in crossing if layer not in left])
    notes += _add_small(room, {name: values for name, values in arrays.items() if not layers.get(name, name in weights)}, budget)
    by_head = any(place.role == "query" and place.name in arrays for place in inspection.places)
    walk, more = _add_layers(room, arrays, layers=layers, by_head=by_head)
    meta |= {"walk": walk, "notes": notes + more}
    entries = {name: entry | {"blob": number} for number, group in enumerate(room.groups) for name, entry in group.entries.items()}
    return {"meta": meta, "arrays": entries, "blobs": [group.data for group in room.groups]}


def encode_payload(payload: dict[str, Any]) -> str:
    """As a list of texts in base64, each deflated: `meta` and `arrays` as JSON, then the blobs. Nothing that a sentence says stands in
    the page as it is, so that none of it can be taken for markup."""
    return json.dumps([_text({"meta": payload["meta"], "arrays": payload["arrays"]}), *payload["blobs"]])


def _text(value: Any) -> str:
    return deflate(json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii"))


def check_weights(arrays: Mapping[str, Values], places: Sequence[Place]) -> dict[str, dict[str, float | None]]:
    """By attention: `rows`, the largest |sum of a row - 1|; `masked`, the largest weight where the mask says no; `later`, the largest
    weight of decoder self-attention on a later position (None for the others). All three should be 0 but for rounding in `rows`."""
    found: dict[str, dict[str, float | None]] = {}
    readers = {one.weights: one for one in attentions(places)}
    for name, weights in arrays.items():
        one = readers.get(name)
        if one is None:
            continue
        wide = weights.astype(np.float64)
        keep = arrays.get(one.probes["mask"])
        masked = 0.0 if keep is None else float(np.abs(wide * ~keep.astype(bool)).max(initial=0))
        later = float(np.abs(np.triu(wide, 1)).max(initial=0)) if one.kind == "decoder" else None
        found[one.path] = {"rows": float(np.abs(wide.sum(axis=-1) - 1).max(initial=0)), "masked": masked, "later": later}
    return found


def _shorten(value: Any) -> Any:
    """Numbers to seven digits; those that JSON does not know become null."""
    match value:
        case float():
            return float(f"{value:.7g}") if math.isfinite(value) else None
        case dict():
            return {str(key): _shorten(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_shorten(inner) for inner in value]
        case _:
            return value


def _layers_of(arrays: Mapping[str, Values], places: Sequence[Place]) -> dict[str, str]:
    """The layer that an array goes with: "encoder.0", ... What is no layer's own goes with the layer that reads it.

    What goes alone is left out, and so are attention weights and masks, which go first.
    """
    known = {place.name: place for place in places}
    own = {name: layer for name in arrays if (layer := layer_of(name.removeprefix("parameters."))) is not None}
    order = _order(own.values())
    ends: dict[tuple[Side, bool], str] = {}
    for layer in sorted(order, key=rank):
        ends.setdefault((side_of(layer), True), layer)
        ends[side_of(layer), False] = layer
    found: dict[str, str] = {}
    for name in arrays:
        place = known.get(name)
        layer = own.get(name)
        if place is not None and place.role in ("attention", "mask"):
            continue
        if layer is None and name == "decoder_output":
            layer = ends.get(("target", False))
        elif layer is None and place is not None:
            layer = ends.get(("target" if place.role == "memory" else place.side, True))
        elif layer is None and name in _POSITIONS:
            layer = ends.get((_POSITIONS[name], True))
        if layer is not None:
            found[name] = layer
    return found


def _order(layers: Iterable[str]) -> list[str]:
    """First and last of each side, then the rest from below."""
    found = sorted(set(layers))
    last = {side: max(rank(own)[1] for own in found if side_of(own) == side) for side in map(side_of, found)}

    def key(layer: str) -> tuple[int, int, bool]:
        number, side = rank(layer)[1], side_of(layer)
        return 0 if number == 0 else 1 if number == last[side] else 2, number, side == "target"

    return sorted(found, key=key)


def _add_attention(room: _Room, arrays: Mapping[str, Values], budget: int, *, places: Mapping[str, Place]) -> list[dict[str, str]]:
    """Every weight exactly where that fits, else rounded, else the mean of the heads, else that of the last layers alone."""
    if not arrays:
        return []
    share = budget * _SHARE_OF_ATTENTION

    def mean(values: Values) -> Values:
        return values if values.dtype == np.bool_ else values.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)

    def last() -> dict[str, Values]:
        ordered = sorted((places[name] for name in arrays), key=lambda place: place.layer or 0)
        kinds = {(place.side, place.reads, place.role): place.name for place in ordered}
        return {name: mean(arrays[name]) for name in kinds.values()}

    heads = {name: mean(values) for name, values in arrays.items()}
    exact: list[Attempt] = [(arrays, "float32"), (arrays, "float16")]
    rounded: list[Attempt] = [(arrays, "rounded8"), (heads, "rounded8")]
    if room.try_all(exact, limit=share) is not None:
        return []
    chosen = room.try_all(rounded, limit=1.5 * share)
    if chosen is None:
        room.add(room.pack(last(), "rounded8"))
    return [_ATTENTION_NOTES[2 if chosen is None else chosen]]


_ATTENTION_NOTES = (
    {
        "en": "A long sentence: attention weights are rounded to 1/255 of the largest of each layer, so that the page stays small.",
        "fr": "Phrase longue : les poids d'attention sont arrondis au 1/255 du plus grand de chaque couche, pour que la page reste petite.",
    },
    {
        "en": "A very long sentence: the heads of each layer are averaged and rounded to 1/255, so that the page stays small.",
        "fr": "Phrase très longue : les têtes de chaque couche sont moyennées et arrondies au 1/255, pour que la page reste petite.",
    },
    {
        "en": "A very long sentence: only the last layer of each attention is here, its heads averaged and rounded to 1/255.",
        "fr": "Phrase très longue : seule la dernière couche de chaque attention est ici, ses têtes moyennées et arrondies au 1/255.",
    },
)


def _add_small(room: _Room, arrays: Mapping[str, Values], budget: int) -> list[dict[str, str]]:
    """What analyses found: exactly, or rounded, or one by one as long as they fit."""
    precisions: tuple[Precision, ...] = ("float32", "float16", "rounded8")
    if not arrays or room.try_all([(arrays, precision) for precision in precisions], limit=budget * _SHARE_OF_SMALL) is not None:
        return []
    left = [name for name, values in arrays.items() if room.try_all([({name: values}, "rounded8")]) is None]
    if not left:
        return []
    names = ", ".join(left[:6]) + (", ..." if len(left) > 6 else "")
    return [{"en": f"Left out, so that the page stays small: {names}.", "fr": f"Laissé de côté, pour que la page reste petite : {names}."}]


def _add_layers(
    room: _Room, arrays: Mapping[str, Values], *, layers: Mapping[str, str], by_head: bool
) -> tuple[list[str], list[dict[str, str]]]:
    """Layer by layer: the first of each side as exactly as they fit together, then the others in the same way.

    Args: layers: which array goes with which layer. by_head: whether attention is recorded head by head.
    """
    order = _order(layers.values())
    members = {layer: {name: values for name, values in arrays.items() if layers.get(name) == layer} for layer in order}
    first = {name: values for layer in order[:2] for name, values in members[layer].items()}
    ways = _ways(by_head=by_head)
    way = room.try_all([(_columns(first, columns), precision) for precision, columns in ways])
    walk = [] if way is None else order[:2]
    precision, columns = ways[-1 if way is None else way]
    for layer in order[len(walk) :]:
        if room.try_all([(_columns(members[layer], columns), precision)]) is not None:
            walk.append(layer)
    notes: list[dict[str, str]] = []
    if precision != "float32" and walk:
        notes.append(
            {
                "en": "A wide model or a long sentence: values inside layers are rounded to three digits, so that the page stays small.",
                "fr": "Modèle large, phrase longue : l'intérieur des couches est arrondi à trois chiffres, pour que la page reste petite.",
            }
        )
    return walk, notes


def _ways(*, by_head: bool) -> tuple[tuple[Precision, int], ...]:
    """How exactly, with how many columns of the parameters. What no equation is computed from again may be rounded further."""
    if by_head:
        return (("float32", 8), ("float16", 8), ("float16", 4), ("float16", 2), ("float16", 1))
    return (("float32", 8), ("float16", 8), ("rounded8", 8))


def _columns(arrays: Mapping[str, Values], count: int) -> dict[str, Values]:
    """The first output columns of the matrices under `parameters.`: of every head where they have heads. Norms' gains stay whole."""

    def cut(name: str, values: Values) -> Values:
        if not name.startswith("parameters.") or ".norm." in name:
            return values
        by_head = any(f".{which}." in name for which in ("query", "key", "value"))
        return values[:, :count] if by_head else values[:count]

    return {name: cut(name, values) for name, values in arrays.items()}
