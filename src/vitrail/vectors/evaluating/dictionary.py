"""Dictionaries of two languages: read as pairs of words, induced from two mapped spaces, and how often the right word is found."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.errors import DataError
from vitrail.reports.figure import Figure
from vitrail.vectors.evaluating.questions import numbered_lines, split_fields
from vitrail.vectors.mapping import MappedSpaces

DEPTHS = (1, 5)
_SEED = 1


class Entry(NamedTuple):
    """A source word and what was found for it."""

    source: str
    target: str
    score: float
    """CSLS without the term of the source word."""


@dataclass(frozen=True)
class DictionaryScore:
    """How often a right translation is among the first found."""

    seed_pairs: int
    seed_known: int
    """Seed pairs of which both words are in their vocabularies."""
    fitted_pairs: int
    """Pairs that the mapping was fitted to in the end, after refinement."""
    words: int
    """Different source words of the test pairs."""
    covered: int
    """Those that are in the source vocabulary, with a translation in the target vocabulary; the others are left out."""
    missing: tuple[str, ...]
    csls: dict[int, Figure]
    """Precision at each depth: the share of covered words with a right translation among so many. Empty where none is covered."""
    cosine: dict[int, Figure]

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """A table for people."""
        lines = [
            f"fitted to {self.fitted_pairs:,} pairs; of {self.seed_pairs:,} seed pairs {self.seed_known:,} are in both vocabularies",
            f"{self.words:,} test words, {self.covered:,} ({100 * self.covered / max(1, self.words):.1f} %) covered",
        ]
        if not self.covered:
            return "\n".join([*lines, "no word is covered, so no precision is known"])
        lines += ["", f"{'precision at':<14}" + "".join(f"{depth:<22}" for depth in self.csls)]
        for name, figures in (("CSLS", self.csls), ("cosine", self.cosine)):
            lines.append(f"{name:<14}" + "".join(f"{figure.to_text():<22}" for figure in figures.values()))
        return "\n".join(line.rstrip() for line in lines)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read a source word and a target word a line, with a tab, a comma or spaces between them. Raises DataError that names the line."""
    pairs: list[tuple[str, str]] = []
    for number, line in numbered_lines(path):
        fields = split_fields(line)
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"{path}:{number}: {len(fields)} fields",
                expected="a source word and a target word, with a tab or spaces between them",
                remedy="cut -f 1,2 where there are more columns",
            )
        pairs.append((fields[0], fields[1]))
    if not pairs:
        raise DataError(f"{path}: holds no pairs", expected="a source word and a target word in each line")
    return pairs


def induce_dictionary(spaces: MappedSpaces, *, words: int) -> list[Entry]:
    """The best translation by CSLS of each of the most frequent source words."""
    rows = range(min(words, len(spaces.source)))
    best = spaces.translations(rows, count=1)
    source, target = spaces.source.vectors.words, spaces.target.vectors.words
    return [Entry(source[row], target[int(best.rows[row, 0])], float(best.scores[row, 0])) for row in rows]


def score_dictionary(
    spaces: MappedSpaces, test: Sequence[tuple[str, str]], *, seed: Sequence[tuple[str, str]], bootstrap: int = 1_000
) -> DictionaryScore:
    """Precision on test pairs; a source word with several translations is right with any of them (Conneau et al. 2018)."""
    source, target = spaces.source.vectors, spaces.target.vectors
    right: dict[str, set[int]] = {}
    for one, other in test:
        right.setdefault(one, set()).update([target.index[other]] if other in target else [])
    covered = {word: source.index[word] for word, rows in right.items() if word in source and rows}
    figures: list[dict[int, Figure]] = [{}, {}]
    for csls, found in zip((True, False), figures, strict=True):
        if not covered:
            break
        best = spaces.translations(list(covered.values()), count=max(DEPTHS), csls=csls)
        for depth in DEPTHS:
            hits = np.array([bool(right[word] & set(rows[:depth])) for word, rows in zip(covered, best.rows.tolist(), strict=True)])
            drawn = np.random.default_rng(_SEED).binomial(len(hits), hits.mean(), size=bootstrap) / len(hits)
            found[depth] = Figure.of(float(hits.mean()), drawn)
    return DictionaryScore(
        seed_pairs=len(seed),
        seed_known=sum(one in source and other in target for one, other in seed),
        fitted_pairs=spaces.pairs,
        words=len(right),
        covered=len(covered),
        missing=tuple(word for word in right if word not in covered),
        csls=figures[0],
        cosine=figures[1],
    )
