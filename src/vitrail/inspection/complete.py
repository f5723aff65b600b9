"""Adds all analyses to a record that its model has, for a complete page."""

from contextlib import nullcontext
from pathlib import Path

from vitrail.errors import ModelError, UsageError
from vitrail.inspection.alignment.word_alignment import align, heads_for
from vitrail.inspection.causes.attribution import attribute
from vitrail.inspection.causes.change import Edit
from vitrail.inspection.causes.lens import apply_lens, has_lens
from vitrail.inspection.film.frames import read_film
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.maps.model_map import dev_lines, dev_pairs, map_model, map_text
from vitrail.inspection.maps.similarity import ProjectionMethod
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator

MAPPED = 200
"""Dev sentences for the maps, unless maps are requested separately."""


def complete(
    inspection: Inspection,
    inspector: InspectableTranslator | InspectableGenerator,
    folder: Path,
    *,
    edit: Edit | None = None,
    maps: int = MAPPED,
    layout: ProjectionMethod = "pca",
    against: tuple[str, InspectableTranslator] | None = None,
) -> Inspection:
    """Add alignment, attribution, logit lens, maps of the dev set and the training film, where model and folder have them.

    Args:
        inspector: the model of the record. folder: its run, or a model folder, which has neither dev set nor film.
        edit: the edit that the record was made with; maps, and the choice of alignment heads, use the model without it.
        maps: sentences to map; 0: none. layout: how, see `similarity.project`.
        against: another model by name, whose layers are compared with these.
    Raises: ModelError where the record is of another model; UsageError or ModelError where a layout or another model was given and
            maps cannot be made.
    Cost:   some seconds for a small model, most of them for the maps.
    """
    # A patch belongs to one sentence, and a hidden position may be beyond the end of another.
    with nullcontext() if edit is None else inspector.applied(edit, inspection):
        inspection = attribute(inspection, inspector.model)
    if isinstance(inspector, InspectableTranslator) and inspection.attentions("cross"):
        inspection = align(inspection, heads=heads_for(inspector, folder))
    if has_lens(inspection):
        try:
            inspection = apply_lens(inspection, inspector.model, inspector.vocabularies.target)
        except ModelError:
            if edit is None:
                raise  # otherwise the edit is after the last layer, which the lens does not cover
    return add_film(inspection.with_arrays({}, **_maps(inspector, folder, maps, layout, against)), folder)


def _maps(
    inspector: InspectableTranslator | InspectableGenerator,
    folder: Path,
    sentences: int,
    layout: ProjectionMethod,
    against: tuple[str, InspectableTranslator] | None,
) -> dict[str, object]:
    if not sentences:
        return {}
    name, other = against or ("", None)
    try:
        if not isinstance(inspector, InspectableTranslator):
            return {"maps": map_text(inspector, dev_lines(folder, count=sentences), method=layout).to_record()}
        sources, targets = dev_pairs(folder, count=sentences)
        return {"maps": map_model(inspector, sources, translations=targets, method=layout, other=other, other_name=name).to_record()}
    except (ModelError, UsageError):  # no dev set beside the model, or too small a one
        if layout != "pca" or against is not None:
            raise
        return {}


def add_film(inspection: Inspection, folder: Path) -> Inspection:
    """Add the film of the training, where the folder has one."""
    film = read_film(folder)
    return inspection.with_arrays({}, film=film.to_record()) if film.steps else inspection
