"""A film by itself as the record of a page: of a run that no sentence is looked at with."""

from vitrail.inspection.contents import ONE_SIDE, Facts, InspectionContents, Side
from vitrail.inspection.decoding import Decoding
from vitrail.inspection.film.frames import Film
from vitrail.models.architectures import AnyConfig


def film_alone(film: Film, config: AnyConfig, *, name: str) -> InspectionContents:
    """A record without arrays: a page of it has the film alone. Args: config: of the model. name: of the run, its title."""
    facts = Facts(
        format=ONE_SIDE,
        source=Side(text=name, ids=(), pieces=(), spans=(), words=()),
        target=None,
        first="",
        given=True,
        asked=name,
        model=config.model_dump(mode="json"),
        decoding=Decoding(beams=1, length_penalty=0.0, nodes=(), finished=(), steps=()),
        extras={"film": film.to_record()},
    )
    return InspectionContents(facts, {})
