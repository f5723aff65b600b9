"""A record with all that can be found out about its sentence, for a page that leaves nothing out."""

from pathlib import Path

from vitrail.errors import ModelError, UsageError
from vitrail.inspection.alignment import align, heads_for
from vitrail.inspection.attribution import attribute
from vitrail.inspection.film import read_film
from vitrail.inspection.lens import apply_lens
from vitrail.inspection.maps import dev_pairs, map_model
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator

MAPPED = 200
"""Sentences of a run's dev set that its maps are drawn from, unless maps are asked for by themselves."""


def complete(inspection: Inspection, translator: InspectableTranslator, folder: Path, *, maps: int = MAPPED) -> Inspection:
    """Add alignment, attribution, logit lens, maps of the dev set and the training film, as far as model and folder have them.

    Args:   folder: the run, or a model folder, which holds neither dev set nor film. maps: sentences to map; 0: none.
    Raises: ModelError where the record is of another model.
    Cost:   some seconds for a small model, most of them for the maps.
    """
    inspection = attribute(inspection, translator.model)
    if inspection.attentions("cross"):
        inspection = align(inspection, heads=heads_for(translator, folder))
    if inspection.attentions("decoder"):
        inspection = apply_lens(inspection, translator.model, translator.vocabularies.target)
    extras = _maps(translator, folder, maps) | _film(folder)
    return inspection.with_arrays({}, **extras)


def _maps(translator: InspectableTranslator, folder: Path, sentences: int) -> dict[str, object]:
    if not sentences:
        return {}
    try:
        sources, targets = dev_pairs(folder, count=sentences)
        return {"maps": map_model(translator, sources, translations=targets).to_record()}
    except (ModelError, UsageError):  # no dev set beside the model, or too small a one
        return {}


def _film(folder: Path) -> dict[str, object]:
    film = read_film(folder)
    return {"film": film.to_record()} if film.steps else {}
