"""Constrained search in up to three searches: without constraints, with those on tokens, and with forced words."""

from collections.abc import Callable, Collection, Iterable, Sequence

from vitrail.decode.search.constraints import Constraints, TokenIds
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError

Search = Callable[[Sequence[Query], Collection[int], int], list[list[Hypothesis]]]
"""The n-best lists of some of the queries, by their numbers, with this number of beams; the other lists do not matter."""


def require_no_forced_words(queries: Iterable[Query]) -> None:
    """Raise UsageError for forced words, which cannot be drawn."""
    if any(query.constraints.forced for query in queries):
        raise UsageError("forced words together with sampling", remedy="use beam search for forced words")


def rank_by(constraints: Constraints) -> Callable[[Hypothesis], tuple[bool, bool, float]]:
    """Sort key: complete hypotheses before truncated ones, then those that satisfy the constraints first, then by score."""
    return lambda item: (item.truncated, item.truncated and not constraints.satisfied_by(item.tokens), -item.score)


def _in_order(found: Iterable[Hypothesis], query: Query) -> list[Hypothesis]:
    """Best first, the earlier one first among equals; without duplicates of tokens or text."""
    best: dict[str | TokenIds, Hypothesis] = {}
    for item in sorted(found, key=rank_by(query.constraints)):
        best.setdefault(item.tokens if query.spell is None else query.spell(item.tokens), item)
    return list(best.values())


def search_constrained(queries: Sequence[Query], search: Search, *, config: SearchConfig) -> list[list[Hypothesis]]:
    """Search without constraints; where the n best do not satisfy them, with all but the forced words, then with all.

    A constraint that is satisfied anyway changes nothing; all hypotheses that satisfy them are ranked together.
    """
    kept: list[list[Hypothesis]] = [[] for _ in queries]
    unmet, before = list(range(len(queries))), list[Query | None]([None] * len(queries))
    for asked in zip(*(query.relaxations() for query in queries), strict=True):
        beams = {sentence: asked[sentence].fewest_beams(config) for sentence in unmet if asked[sentence] != before[sentence]}
        # Sentences with the same number of beams share a batch: no sentence may depend on its neighbours.
        for width in sorted(set(beams.values())):
            group = [sentence for sentence, needed in beams.items() if needed == width]
            found = search(asked, group, width)
            for sentence in group:
                query, new = queries[sentence], found[sentence]
                fit = new if asked[sentence] == query else [item for item in new if query.constraints.satisfied_by(item.tokens)]
                kept[sentence] = _in_order((*kept[sentence], *fit), query)[: config.n_best]
                if len(fit) == len(new):
                    unmet.remove(sentence)
        before = list(asked)
    return kept
