"""Jobs for an engine: the parts of a text as token ids, each with its query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from vitrail.data.cleaning.normalise import Normalisation, encodable, has_letters, plain
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.search.constraints import Constraints, contains, repeats
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.decode.shortlists.table import Shortlist
from vitrail.decode.textual.split import TextPart, split_to_fit


class PartJob(NamedTuple):
    """One part of one text, ready for the model."""

    tokens: tuple[int, ...]
    query: Query
    text: str
    """The encoded text."""


class CutText(NamedTuple):
    """One text and the jobs of its parts; None for a part that is not translated."""

    source: str
    parts: list[TextPart]
    jobs: list[int | None]
    copies: list[str]
    """The translation of each part without a job: the part itself if it has no letters."""
    places: list[tuple[int, int]]
    """Start and end of each part in the source."""


class CutPortion(NamedTuple):
    """Some texts and the jobs of all their parts."""

    texts: list[CutText]
    jobs: list[PartJob]


class Begun(NamedTuple):
    """The same, and a function that waits for the n-best list of each job."""

    portion: CutPortion
    finish: Callable[[], list[list[Hypothesis]]]


class FoundPortion(NamedTuple):
    """A portion and the n-best list of each job."""

    portion: CutPortion
    results: list[list[Hypothesis]]


@dataclass(frozen=True)
class TextCutter:
    """Reads texts as in the model's training, and splits those that are too long.

    Args:
        comfortable: most tokens of a text that is not split. 0: every sentence is a part.
        limit: most tokens of a part.
        seed: for sampling; each part's generator is seeded with this and its place in the input.
        tags: words that the model knows at the start of a source, such as <2fr>: every part of a text that begins with one has it.
        shortlist: the target tokens that source tokens may become; None: all.
    """

    vocabularies: Vocabularies
    normalisation: Normalisation
    comfortable: int
    limit: int
    seed: int
    tags: tuple[str, ...] = ()
    shortlist: Shortlist | None = None

    def read(self, source: str) -> str:
        """A source as the model reads it."""
        return self.normalisation.source(encodable(source))

    def cut(self, source: str, wanted: Constraints, search: SearchConfig, jobs: list[PartJob], *, place: int) -> CutText:
        """Cut one text into parts and add a job for each to `jobs`; `place`: its number in the input."""
        known: dict[str, list[int]] = {}  # a part is measured, then read

        def encode(part: str) -> list[int]:
            if part not in known:
                known[part] = self.vocabularies.source.encode(part)
            return known[part]

        text = self.read(source)
        if self._stays(text, wanted):
            whole = plain(encodable(source)).strip()
            return CutText(source, [TextPart(whole, "")], [None], [whole], [(0, len(source))])
        tag = next((f"{tag} " for tag in self.tags if text.startswith(f"{tag} ")), "") if self.tags else ""
        room = max(1, self.limit - len(encode(tag))) if tag else self.limit
        parts = split_to_fit(text, length=lambda part: len(encode(plain(part))), comfortable=self.comfortable, limit=room)
        numbers, copies, begun = list[int | None](), list[str](), False
        for part in parts:
            constraints = replace(wanted, prefix=(), forced=()) if begun else wanted
            # With a prefix, the first part cannot be copied.
            stays = self.normalisation.passes(part.text) and not constraints.prefix and has_letters(text)
            read = plain(part.text) if part.text.startswith(tag) else tag + plain(part.text)
            tokens = [] if stays else encode(read)
            copies.append(part.text if stays else "")
            if not tokens:
                numbers.append(None)
                continue
            begun = True
            # With several parts, the part for a forced word is chosen after all are translated.
            constraints = constraints if len(parts) == 1 else replace(constraints, forced=())
            seed = 0 if search.sampling is None else self._seed(place, len(numbers))
            numbers.append(len(jobs))
            jobs.append(self.job(tokens, constraints, search, seed=seed, text=read))
        return CutText(source, parts, numbers, copies, self._places(source, parts))

    def _seed(self, place: int, part: int) -> int:
        return int.from_bytes(blake2b(f"{self.seed} {place} {part}".encode(), digest_size=7).digest(), "big")

    def job(self, tokens: Sequence[int], wanted: Constraints, search: SearchConfig, *, seed: int, text: str = "") -> PartJob:
        """The job of one part. An n-best list has each text once; samples may repeat."""
        longest, shortest = search.lengths(len(tokens))
        spell = self.spell if search.n_best > 1 and search.sampling is None else None
        asked = _unguarded(wanted, tokens, search)
        listed = None if self.shortlist is None else self.shortlist.tokens_for(tokens)
        query = Query(longest=longest, shortest=shortest, constraints=asked, seed=seed, spell=spell, shortlist=listed)
        return PartJob(tuple(tokens), query, text)

    def spell(self, tokens: Sequence[int]) -> str:
        """Their text. A model with byte pieces can write any character; a line must stay a line."""
        return plain(self.vocabularies.target.decode(tokens)).strip()

    def spell_all(self, rows: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], str]:
        """`spell` of each row, at once: a call for each takes several times as long."""
        return {row: plain(text).strip() for row, text in zip(rows, self.vocabularies.target.decode_batch(rows), strict=True)}

    def _stays(self, text: str, wanted: Constraints) -> bool:
        """Whether a text is its own translation: it has no letters, and there are no constraints."""
        if not self.normalisation.passes(text) or wanted.prefix or wanted.forced:
            return False
        return not wanted.forbidden or not any(contains(self.vocabularies.target.encode(text), banned) for banned in wanted.forbidden)

    def _places(self, source: str, parts: Sequence[TextPart]) -> list[tuple[int, int]]:
        """Start and end of each part in the given source."""
        if len(parts) <= 1:
            return [(len(source) - len(source.lstrip()), len(source.rstrip()))] * len(parts)
        origins = [*self.normalisation.origins(encodable(source)), len(source)]
        starts = [0, *accumulate(len(part.text) + len(part.separator) for part in parts)]
        ends = [start + len(part.text) for start, part in zip(starts, parts, strict=False)]
        return [
            (origins[min(start, len(origins) - 1)], origins[min(end, len(origins) - 1)]) for start, end in zip(starts, ends, strict=False)
        ]


def _unguarded(wanted: Constraints, source: Sequence[int], search: SearchConfig) -> Constraints:
    """Switch the repetition guard off if the source repeats itself; but who wants nothing twice has nothing twice."""
    repetitive = search.repeat_ngram and search.max_repeats > 1 and repeats(source, ngram=search.repeat_ngram, times=search.max_repeats)
    return replace(wanted, guard_repeats=False) if repetitive else wanted
