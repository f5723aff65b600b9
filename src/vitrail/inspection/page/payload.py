"""What of a record goes into its page, within a budget of bytes: facts as JSON, arrays packed, what was left out or rounded said."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vitrail.inspection.page.packing import Group, Precision, Values, pack
from vitrail.inspection.record import Inspection

BUDGET = 1_800_000
"""Bytes of a page."""

_NOT_SENT = ("logits", "probabilities")
"""Of every position and the whole vocabulary; the decoding steps hold the best candidates."""
_LAYER = re.compile(r"(?:parameters\.)?((?:encoder|decoder)\.\d+)\.")
_BEFORE = {
    "encoder.0": ("source_embedded", "source_positions", "source_input"),
    "decoder.0": ("target_embedded", "target_positions", "target_input", "memory", "attentional", "attention.scores", "attention.context"),
}
"""What is no layer's own, and goes with the layer that reads it."""
_WEIGHTS = re.compile(r"(?:(encoder|decoder)\.(\d+)\.(?:self|cross)_)?attention\.(weights|keep)")

_SHARE_OF_ATTENTION, _SHARE_OF_SMALL = 0.4, 0.25
"""Of the budget, for exact attention weights, and for analyses: beyond it they are rounded."""


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

    def try_all(self, attempts: Iterator[Group], *, limit: float = math.inf) -> int | None:
        """Add the first that fits; its place among the attempts, or None."""
        for number, group in enumerate(attempts):
            if group.size <= min(self.left, limit):
                self.add(group)
                return number
        return None


def make_payload(inspection: Inspection, *, reserved: int = 0, budget: int = BUDGET) -> dict[str, Any]:
    """`meta`: the facts, and `walk`, the layers whose every value is there; `checks`, of all weights before any rounding; `notes`, what
    was rounded or left out. `arrays` and `blobs`: see `packing`.

    Args: reserved: bytes of the page that are taken already.
    """
    arrays = {name: values for name, values in inspection.arrays.items() if name not in _NOT_SENT}
    meta: dict[str, Any] = _shorten(inspection.facts.model_dump(mode="json")) | {"checks": check_weights(arrays)}
    room = _Room(budget - reserved - len(to_json(meta).encode()) - 2_000)
    notes = _add_attention(room, {name: values for name, values in arrays.items() if _WEIGHTS.fullmatch(name)}, budget)
    notes += _add_small(room, {name: values for name, values in arrays.items() if _layer_of(name, arrays) == ""}, budget)
    walk, more = _add_layers(room, arrays)
    meta |= {"walk": walk, "notes": notes + more}
    entries = {name: entry | {"blob": number} for number, group in enumerate(room.groups) for name, entry in group.entries.items()}
    return {"meta": meta, "arrays": entries, "blobs": [group.data for group in room.groups]}


def to_json(payload: Any) -> str:
    """As JSON that may stand inside a script element: no character in it can end one, or begin another."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def check_weights(arrays: Mapping[str, Values]) -> dict[str, dict[str, float | None]]:
    """By attention: `rows`, the largest |sum of a row - 1|; `masked`, the largest weight where the mask says no; `later`, the largest
    weight of decoder self-attention on a later position (None for the others). All three should be 0 but for rounding in `rows`."""
    found: dict[str, dict[str, float | None]] = {}
    for name, weights in arrays.items():
        place, _, what = name.rpartition(".")
        if what != "weights" or not _WEIGHTS.fullmatch(name):
            continue
        wide = weights.astype(np.float64)
        keep = arrays.get(f"{place}.keep")
        masked = 0.0 if keep is None else float(np.abs(wide * ~keep.astype(bool)).max(initial=0))
        causal = place.startswith("decoder") and place.endswith("self_attention")
        later = float(np.abs(np.triu(wide, 1)).max(initial=0)) if causal else None
        found[place] = {"rows": float(np.abs(wide.sum(axis=-1) - 1).max(initial=0)), "masked": masked, "later": later}
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


def _layer_of(name: str, arrays: Mapping[str, Values]) -> str | None:
    """The layer that an array goes with: "encoder.0", ...; "" where it goes alone; None for attention, which goes first."""
    if _WEIGHTS.fullmatch(name):
        return None
    if (match := _LAYER.match(name)) is not None:
        return match[1]
    if name == "decoder_output":
        return f"decoder.{max(number for side, number in _layers(arrays) if side == 'decoder')}" if _layers(arrays) else ""
    return next((layer for layer, names in _BEFORE.items() if name in names), "")


def _layers(arrays: Mapping[str, Values]) -> list[tuple[str, int]]:
    """First and last of each side, then the rest from below."""
    layers = {match[1] for name in arrays if (match := _LAYER.match(name)) is not None}
    found = sorted((side, int(number)) for side, number in (layer.split(".") for layer in layers))
    last = {side: max(number for own, number in found if own == side) for side, _ in found}

    def rank(layer: tuple[str, int]) -> tuple[int, int, bool]:
        side, number = layer
        return 0 if number == 0 else 1 if number == last[side] else 2, number, side == "decoder"

    return sorted(found, key=rank)


def _add_attention(room: _Room, arrays: Mapping[str, Values], budget: int) -> list[dict[str, str]]:
    """Every weight exactly where that fits, else rounded, else the mean of the heads, else that of the last layers alone."""
    if not arrays:
        return []
    share = budget * _SHARE_OF_ATTENTION

    def mean(values: Values) -> Values:
        return values if values.dtype == np.bool_ else values.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)

    def last() -> dict[str, Values]:
        kinds: dict[str, str] = {re.sub(r"\d+", "", name): name for name in sorted(arrays, key=_number)}
        return {name: mean(arrays[name]) for name in kinds.values()}

    attempts: tuple[tuple[Callable[[], Mapping[str, Values]], Precision, float], ...] = (
        (lambda: arrays, "float32", share),
        (lambda: arrays, "float16", share),
        (lambda: arrays, "rounded8", share * 1.5),
        (lambda: {name: mean(values) for name, values in arrays.items()}, "rounded8", share * 1.5),
        (last, "rounded8", math.inf),
    )
    chosen = 0
    for chosen, (make, precision, limit) in enumerate(attempts):
        group = room.pack(make(), precision)
        if group.size <= min(limit, room.left) or chosen == len(attempts) - 1:
            room.add(group)
            break
    return [_ATTENTION_NOTES[chosen]] if chosen in _ATTENTION_NOTES else []


def _number(name: str) -> int:
    match = re.search(r"\d+", name)
    return int(match[0]) if match else 0


_ATTENTION_NOTES = {
    2: {
        "en": "A long sentence: attention weights are rounded to 1/255 of the largest of each layer, so that the page stays small.",
        "fr": "Phrase longue : les poids d'attention sont arrondis au 1/255 du plus grand de chaque couche, pour que la page reste petite.",
    },
    3: {
        "en": "A very long sentence: the heads of each layer are averaged and rounded to 1/255, so that the page stays small.",
        "fr": "Phrase très longue : les têtes de chaque couche sont moyennées et arrondies au 1/255, pour que la page reste petite.",
    },
    4: {
        "en": "A very long sentence: only the last layer of each attention is here, its heads averaged and rounded to 1/255.",
        "fr": "Phrase très longue : seule la dernière couche de chaque attention est ici, ses têtes moyennées et arrondies au 1/255.",
    },
}


def _add_small(room: _Room, arrays: Mapping[str, Values], budget: int) -> list[dict[str, str]]:
    """What analyses found: exactly, or rounded, or one by one as long as they fit."""
    precisions: tuple[Precision, ...] = ("float32", "float16", "rounded8")
    attempts = (room.pack(arrays, precision) for precision in precisions)
    if not arrays or room.try_all(attempts, limit=budget * _SHARE_OF_SMALL) is not None:
        return []
    left = [name for name, values in arrays.items() if room.try_all(iter([room.pack({name: values}, "rounded8")])) is None]
    if not left:
        return []
    names = ", ".join(left[:6]) + (", ..." if len(left) > 6 else "")
    return [{"en": f"Left out, so that the page stays small: {names}.", "fr": f"Laissé de côté, pour que la page reste petite : {names}."}]


def _add_layers(room: _Room, arrays: Mapping[str, Values]) -> tuple[list[str], list[dict[str, str]]]:
    """Layer by layer: the first of each side as exactly as they fit together, then the others in the same way."""
    order = [f"{side}.{number}" for side, number in _layers(arrays)]
    members: dict[str, dict[str, Values]] = {layer: {} for layer in order}
    for name, values in arrays.items():
        if (layer := _layer_of(name, arrays)) in members:
            members[layer][name] = values
    first = {name: values for layer in order[:2] for name, values in members[layer].items()}
    ways = _ways(first)
    way = room.try_all(room.pack(_columns(first, columns), precision) for precision, columns in ways)
    walk = [] if way is None else order[:2]
    precision, columns = ways[-1 if way is None else way]
    for layer in order[len(walk) :]:
        if room.try_all(iter([room.pack(_columns(members[layer], columns), precision)])) is not None:
            walk.append(layer)
    notes: list[dict[str, str]] = []
    if precision != "float32" and walk:
        notes.append(
            {
                "en": "A wide model: the values inside its layers are rounded to about three digits, so that the page stays small.",
                "fr": "Modèle large : les valeurs dans ses couches sont arrondies à environ trois chiffres, pour que la page reste petite.",
            }
        )
    return walk, notes


def _ways(arrays: Mapping[str, Values]) -> tuple[tuple[Precision, int], ...]:
    """How exactly, with how many columns of the parameters. What no equation is computed from again may be rounded further."""
    if any(name.endswith("attention.q") for name in arrays):
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
