"""Scores of parts of a test set: by source length, recall of rare words, challenge sets."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vitrail.errors import DataError, UsageError
from vitrail.evaluation.scores import SEED, Recipe, Score, Statistics, collect_statistics, score

LENGTH_EDGES = (10, 20, 30, 40, 50)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Band:
    """Scores of the sentences whose source has `first` to `last` words (None: no upper bound); empty where there are no such sentences."""

    first: int
    last: int | None
    sentences: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Share:
    """A share of correct cases, `found` of `total`; `low` and `high` bound it at 95 % (all None where total is 0)."""

    name: str
    found: int
    total: int
    share: float | None
    low: float | None
    high: float | None


def by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    edges: Sequence[int] = LENGTH_EDGES,
    recipe: Recipe | None = None,
    length: Callable[[str], int] | None = None,
) -> list[Band]:
    """Score separately the sentences with up to edges[0] words, up to edges[1], ..., and the longer ones.

    Args: length: measures a source; by default the words between spaces. For a source written without spaces use `len`. A band with few
    sentences has a wide interval.
    """
    return by_length_of(sources, collect_statistics(hypotheses, references, recipe=recipe or Recipe()), edges=edges, length=length)


def by_length_of(
    sources: Sequence[str],
    statistics: Statistics,
    *,
    edges: Sequence[int] = LENGTH_EDGES,
    length: Callable[[str], int] | None = None,
) -> list[Band]:
    """`by_length` for statistics that are already collected."""
    if list(edges) != sorted(set(edges)) or not edges or edges[0] < 0:
        raise UsageError(f"edges: {list(edges)}", expected="rising lengths of 0 or more", remedy="10 20 30")
    if len(sources) != len(statistics.table):
        raise DataError(
            f"{len(sources)} source sentences, {len(statistics.table)} hypotheses", expected="one source line for each hypothesis"
        )
    measure = length or _words_between_spaces
    lengths = np.array([measure(source) for source in sources])
    bands: list[Band] = []
    for first, last in zip([0, *(edge + 1 for edge in edges)], [*edges, None], strict=True):
        inside = lengths >= first if last is None else (lengths >= first) & (lengths <= last)
        rows: list[int] = np.flatnonzero(inside).tolist()
        bands.append(Band(first, last, len(rows), tuple(score(statistics.rows(rows))) if rows else ()))
    return bands


def words(text: str) -> list[str]:
    """Lowercased runs of letters and digits: `L'homme-grenouille` has three. Not for languages without spaces: a text is one run."""
    return _WORD.findall(text.lower())


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs in a training text."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
    return counts


def rare_words(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    train_counts: Mapping[str, int],
    edges: Sequence[int] = (0, 5, 20, 100),
    bootstrap: int = 1000,
    seed: int = SEED,
) -> list[Share]:
    """The share of the reference's rare words that the translation has: words seen up to edges[0] times in training, up to edges[1], ...

    A word that the reference has twice must be found twice. One reference set: a synonym counts as a miss, so use this number only to
    compare systems. With several sets, call once for each.

    Args:   train_counts: of the target side (`count_words`). An edge of 0 gives the words never seen.
    Returns: one Share per edge, words more frequent than the last left out; intervals resample sentences.
    """
    if len(hypotheses) != len(references) or not references:
        raise DataError(f"{len(hypotheses)} hypotheses, {len(references)} references", expected="equal counts, at least one")
    if list(edges) != sorted(set(edges)) or not edges or edges[0] < 0:
        raise UsageError(f"edges: {list(edges)}", expected="rising counts of 0 or more", remedy="0 5 20 100")
    tally = np.zeros((len(references), len(edges), 2))
    for row, hypothesis, reference in zip(tally, hypotheses, references, strict=True):
        had = Counter(words(hypothesis))
        for word, wanted in Counter(words(reference)).items():
            band = int(np.searchsorted(edges, train_counts.get(word, 0)))
            if band < len(edges):
                row[band] += min(wanted, had[word]), wanted
    generator, size = np.random.default_rng(seed), len(references)
    drawn = np.stack([tally[generator.integers(size, size=size)].sum(axis=0) for _ in range(bootstrap)]) if bootstrap else None
    shares: list[Share] = []
    for index, (first, last) in enumerate(zip([0, *(edge + 1 for edge in edges)], edges, strict=False)):
        found, total = tally[:, index].sum(axis=0).astype(int).tolist()
        low = high = None
        if drawn is not None and total:
            # A resample may contain no such word: then its share is undefined.
            kept = drawn[:, index][drawn[:, index, 1] > 0]
            low, high = np.quantile(kept[:, 0] / kept[:, 1], (0.025, 0.975)).tolist() if len(kept) else (None, None)
        name = f"seen {first} times" if first == last else f"seen {first} to {last} times"
        shares.append(Share(name, found, total, found / total if total else None, low, high))
    return shares


def challenge(name: str, sources: Sequence[str], hypotheses: Sequence[str], *, passes: Callable[[str, str], bool]) -> Share:
    """The share of a challenge set that passes: `passes(source, hypothesis)` judges one item.

    The interval is Wilson's (1927), which is accurate for few items and for shares of 0 and 1.
    """
    if len(sources) != len(hypotheses):
        raise DataError(f"{name}: {len(sources)} sources, {len(hypotheses)} hypotheses", expected="equal counts")
    return proportion(name, sum(1 for both in zip(sources, hypotheses, strict=True) if passes(*both)), len(sources))


def proportion(name: str, found: int, total: int) -> Share:
    """`found` of `total`, with Wilson's interval."""
    if not total:
        return Share(name, 0, 0, None, None, None)
    return Share(name, found, total, found / total, *_wilson(found, total))


def _words_between_spaces(text: str) -> int:
    return len(text.split())


def _wilson(found: int, total: int) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.975)
    share, shrink = found / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    reach = z / shrink * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - reach), min(1.0, centre + reach)
