"""The results of translation: text, scores, alternatives, and the search of each part."""

from dataclasses import dataclass
from typing import NamedTuple

from vitrail import renamed
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.decode.textual.joining import Alternative, Segment


@dataclass(frozen=True)
class Translation:
    """One text translated. An empty text has an empty translation of score 0."""

    source: str
    text: str
    score: float
    """Natural logarithm of the probability, normalised by length as `SearchConfig.length_penalty` says."""
    log_probability: float
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    """The tokens in readable form."""
    alternatives: tuple[Alternative, ...]
    """The n-best list, best first; the first is the translation itself."""
    truncated: bool
    """Whether some part reached the limit of length before its end."""
    parts: int
    """The number of translated pieces."""
    cut: bool
    """Whether a sentence had to be cut because it was too long."""
    segments: tuple[Segment, ...] = ()
    """The parts that have tokens, with their places in `source` and `text`."""
    passed_through: bool = False
    """Whether the text was copied, as it has no letters to translate."""
    token_log_probabilities: tuple[float, ...] = ()
    """One for each token and, after those of each part, one for its end unless it was truncated."""

    @property
    def stretches(self) -> tuple[Segment, ...]:
        """The old name of `segments`."""
        renamed.warn("Translation.stretches", "Translation.segments")
        return self.segments


class SearchedPart(NamedTuple):
    """One part of a text that has tokens, with all results of its search."""

    segment: Segment
    query: Query
    hypotheses: tuple[Hypothesis, ...]
    """Best first; the first one is in the translation."""


class Searched(NamedTuple):
    """A translation with its parts, and the actual search settings: with more beams where words are forced."""

    translation: Translation
    parts: tuple[SearchedPart, ...]
    search: SearchConfig
