"""A dictionary from two texts that are not parallel, measured where the truth is known: `vitrail bench dictionary`.

The two sides of a parallel text are shuffled apart, so that nothing but the words' company is left; the text as it was gives the right
translations.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from vitrail.data.reading.lines import lines
from vitrail.errors import DataError
from vitrail.vectors.evaluating.dictionary import DictionaryScore, score_dictionary
from vitrail.vectors.mapping import MappedSpaces
from vitrail.vectors.training.config import VectorsConfig
from vitrail.vectors.training.corpus import splitter
from vitrail.vectors.training.train import train_vectors
from vitrail.vectors.word_vectors import WordVectors

_LEAST_COUNT, _LEAST_DICE, _ALSO_RIGHT = 20, 0.2, 0.7
_MOST_TESTED = 1_000


class Translation(NamedTuple):
    """A word of a parallel text and the words that stand opposite it, the best first."""

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class InducedRow:
    """What so many known pairs give."""

    seed_pairs: int
    refined: int
    score: DictionaryScore


@dataclass(frozen=True)
class InducedBench:
    """All rows."""

    conditions: str
    rows: tuple[InducedRow, ...]

    def to_json(self) -> str:
        """The fields by name."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """A table for people."""
        out = [self.conditions, "", f"{'known pairs':>11}  {'fits':>4}  {'at 1, CSLS':<22}{'at 5, CSLS':<22}{'at 1, cosine':<22}"]
        for row in self.rows:
            figures = (row.score.csls.get(1), row.score.csls.get(5), row.score.cosine.get(1))
            shown = "".join(f"{'-' if one is None else one.to_text():<22}" for one in figures)
            out.append(f"{row.seed_pairs:>11}  {row.refined:>4}  {shown}".rstrip())
        return "\n".join(out) + "\n"


def known_translations(pairs: Iterable[tuple[list[str], list[str]]]) -> list[Translation]:
    """Words that stand opposite each other in sentence pairs, the most frequent first.

    Of words with 20 occurrences or more, that have a letter: by the Dice coefficient, 2 n(s, t) / (n(s) + n(t)) (Smadja et al. 1996), of at
    least 0.2, each being the other's best. Words with 0.7 of the coefficient of the best are right, too.
    """
    sources, targets, both = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for one, other in pairs:
        some, others = ({word for word in side if word.isalpha()} for side in (one, other))
        sources.update(some)
        targets.update(others)
        both.update((s, t) for s in some for t in others)
    opposite: dict[str, list[tuple[float, str]]] = defaultdict(list)
    best: dict[str, tuple[float, str]] = {}
    for (s, t), count in both.items():
        if min(sources[s], targets[t]) >= _LEAST_COUNT and (dice := 2 * count / (sources[s] + targets[t])) >= _LEAST_DICE:
            opposite[s].append((dice, t))
            best[t] = max(best.get(t, (0.0, "")), (dice, s))
    found: list[Translation] = []
    for s in sorted(opposite, key=lambda word: (-sources[word], word)):
        ranked = sorted(opposite[s], key=lambda pair: (-pair[0], pair[1]))
        if best[ranked[0][1]][1] == s:
            found.append(Translation(s, tuple(t for dice, t in ranked if dice >= _ALSO_RIGHT * ranked[0][0])))
    return found


def measure_dictionary(
    source: Path, target: Path, *, config: dict[str, object], seeds: Sequence[int], refine: int, say: Callable[[str], None]
) -> InducedBench:
    """Train on each side by itself, map with so many known pairs, and look up other words.

    Args:   config: fields of `VectorsConfig`.
    Raises: DataError where the sides differ in length or no two words stand opposite each other.
    """
    sides = [list(lines(path)) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(f"{source} has {len(sides[0]):,} lines, {target} {len(sides[1]):,}", expected="a parallel text, line for line")
    split = splitter(VectorsConfig.model_validate({**config, "text": [source]}).tokens)
    known = known_translations(zip(map(split, sides[0]), map(split, sides[1]), strict=True))
    if len(known) < 2:
        raise DataError(f"{source}, {target}: {len(known)} words whose translation is sure", expected="a larger parallel text")
    say(f"{len(known):,} words whose translation is sure: every second one can be known, of the others {_MOST_TESTED:,} are looked up")
    spaces = [_trained_apart(side, place, config, say=say) for place, side in enumerate(sides)]
    test = [(word, right) for word, all_right in known[1::2][:_MOST_TESTED] for right in all_right]
    rows: list[InducedRow] = []
    for size in seeds:
        seed = [(word, right[0]) for word, right in known[::2][:size]]
        plain = MappedSpaces.fit(spaces[0], spaces[1], seed)
        for rounds in dict.fromkeys((0, refine)):
            rows.append(InducedRow(len(seed), rounds, score_dictionary(plain.refined(rounds), test, seed=seed)))
    settings = VectorsConfig.model_validate({**config, "text": [source]})
    conditions = (
        f"{source.name}, {target.name}: {len(sides[0]):,} lines, shuffled apart; {settings.method}, dimension {settings.dimension}, "
        f"{settings.epochs} epochs; {rows[0].score.covered:,} words looked up"
    )
    return InducedBench(conditions, tuple(rows))


def _trained_apart(side: Sequence[str], place: int, config: dict[str, object], *, say: Callable[[str], None]) -> WordVectors:
    """Vectors of one side in an order of its own."""
    text = [line.replace("\n", " ") for line in side]
    Random(place).shuffle(text)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "text"
        path.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
        return train_vectors(VectorsConfig.model_validate({**config, "text": [path]}), Path(name) / "vectors", say=say)
