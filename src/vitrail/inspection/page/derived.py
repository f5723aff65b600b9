"""What the page shows of the places, links and states of a record, computed here, so that the page computes nothing a second time."""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from vitrail.inspection.alignment.links import Links, WordMatrix, link, links_between_spaces, pool_by_word, to_pharaoh
from vitrail.inspection.alignment.pair_words import positions_of
from vitrail.inspection.contents import InspectionContents
from vitrail.inspection.maps.similarity import pca
from vitrail.models.places import find, layer_outputs

_DIGITS = 5
"""Of coordinates: more than a screen can show."""


def tell_places(inspection: InspectionContents) -> list[dict[str, Any]]:
    """The places of the model by role, side and layer: the page asks them what a model has."""
    return [place._asdict() | {"path": place.path} for place in inspection.places if place.role not in ("logits", "score", "mask")]


def tell_links(inspection: InspectionContents, *, layers: Collection[int]) -> dict[str, dict[str, dict[str, str]]]:
    """By choice of heads and rule: `links` between words, and the same between words as spaces cut them, `pharaoh`, where that differs.

    Choices are "chosen" (the heads of the analysis), "all", "L0" (a layer) and "L0H1" (a head); rules "grown" and "target".
    Args: layers: of cross-attention, those that the page holds.
    """
    if len(inspection.sides) < 2:
        return {}
    source, target = inspection.source, inspection.target
    if not source.words or not target.words:
        return {}
    sources, targets = positions_of(inspection)

    def tell(links: Links) -> dict[str, str]:
        own, between = to_pharaoh(links), to_pharaoh(links_between_spaces(links, sources=sources, targets=targets))
        return {"links": own} if own == between else {"links": own, "pharaoh": between}

    found: dict[str, dict[str, dict[str, str]]] = {}
    for choice, weights in _choices(inspection, layers):
        matrix = pool_by_word(weights, sources=source.words, targets=target.words)
        found[choice] = {"grown": tell(link(matrix)), "target": tell(link(matrix, method="target"))}
    if "alignment.links" in inspection.arrays:
        recorded = frozenset((int(i), int(j)) for i, j in inspection.arrays["alignment.links"])
        found["chosen"]["grown"] = tell(recorded)
    return found


def _choices(inspection: InspectionContents, layers: Collection[int]) -> Iterator[tuple[str, WordMatrix]]:
    if "alignment.weights" in inspection.arrays:
        yield "chosen", np.asarray(inspection.arrays["alignment.weights"], dtype=np.float32)
    if not layers:
        return
    by_layer = {layer: inspection.weights("cross", layer=layer) for layer in layers}
    yield "all", np.concatenate(list(by_layer.values())).mean(0)
    for layer, heads in by_layer.items():
        yield f"L{layer}", heads.mean(0)
        for number, head in enumerate(heads):
            yield f"L{layer}H{number}", head


def tell_planes(inspection: InspectionContents) -> list[dict[str, Any]]:
    """This sentence's tokens on the plane on which they differ most, from the embeddings to the memory: `place`, `points`, `explained`.

    Those of the source; of a model without one, those of its text.
    """
    side = inspection.sides[0]
    roles = [find(inspection.places, role, side) for role in ("embedded", "position")]
    places = [*roles, *layer_outputs(inspection.places, side), find(inspection.places, "memory", side)]
    found: list[dict[str, Any]] = []
    for place in places:
        values = None if place is None else inspection.arrays.get(place.name)
        if place is not None and values is not None:
            plane = pca(np.asarray(values, dtype=np.float32), components=2)
            points = [[float(f"{x:.{_DIGITS}g}") for x in row] for row in plane.coordinates.tolist()]
            found.append({"place": place.name, "points": points, "explained": plane.explained})
    return found
