"""Where the words of a sentence and of its translation stand among those that spaces cut, which is how word aligners count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitrail.data.cleaning.normalise import encodable, plain
from vitrail.inspection.words import Span, WordPosition, between_spaces, map_spans, word_positions

if TYPE_CHECKING:
    from vitrail.inspection.contents import InspectionContents

Positions = list[WordPosition | None]


def positions_of(inspection: "InspectionContents") -> tuple[Positions, Positions]:
    """Those of the sentence and of its translation, in the text as it was given and in the whole translation."""
    facts, source, target = inspection.facts, inspection.source, inspection.target
    where = (facts.source_start, len(facts.asked) if facts.source_end is None else facts.source_end)
    sources = positions_in(source.words, source.spans, text=source.text, whole=facts.asked, where=where)
    said = as_read(target.text)
    whole = said if facts.translation is None else facts.translation
    where = (facts.target_start, facts.target_start + len(said))
    return sources, positions_in(target.words, target.spans, text=target.text, whole=whole, where=where)


def positions_in(words: Sequence[Sequence[int]], spans: Sequence[Span], *, text: str, whole: str, where: tuple[int, int]) -> Positions:
    """Where the words of a text that a model has read or said stand between the spaces of the whole text that people see.

    Args: where: the part of `whole` that became `text`, which may have other spaces, and no marks that cannot be seen.
    """
    whole = plain(encodable(whole))
    return word_positions(words, map_spans(spans, text=text, whole=whole, where=where), text=whole, between=between_spaces(whole))


def as_read(target: str) -> str:
    """A translation as a model reads it."""
    return plain(encodable(target)).strip()
