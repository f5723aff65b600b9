"""Links from a matrix of weights between words, their Pharaoh format, and the agreement of a set of heads without gold links."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from math import log
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.inspection.words import WordPosition

Link = tuple[int, int]
"""Source word, target word, both from 0."""
Links = frozenset[Link]
LinkMethod = Literal["target", "intersection", "union", "grow-diag"]
"""How links are made of a matrix: the heaviest source word of each target word; those that are also the heaviest target word of their
source word; all of both directions; or, between the two, the intersection grown over neighbours in the union (Koehn et al. 2003)."""
WordMatrix = npt.NDArray[np.float32]

_NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def link(weights: WordMatrix, *, method: LinkMethod = "grow-diag") -> Links:
    """Links of a matrix (target words, source words). Of equal weights the first word wins.

    A row or column of zeros is a word without tokens, and stays unlinked.
    """
    if not weights.size:
        return frozenset()
    forward = {(int(i), j) for j, i in enumerate(weights.argmax(1)) if weights[j, i] > 0}
    if method == "target":
        return frozenset(forward)
    backward = {(i, int(j)) for i, j in enumerate(weights.argmax(0)) if weights[j, i] > 0}
    match method:
        case "intersection":
            return frozenset(forward & backward)
        case "union":
            return frozenset(forward | backward)
        case "grow-diag":
            return frozenset(_grow(forward & backward, forward | backward))


def _grow(links: set[Link], union: set[Link]) -> set[Link]:
    """Add neighbours in the union that link a word not linked yet, until there are none. Source: Koehn et al. 2003, figure 1."""
    sources, targets = {i for i, _ in links}, {j for _, j in links}
    waiting = sorted(links)
    while waiting:
        added: list[Link] = []
        for i, j in waiting:
            for down, right in _NEIGHBOURS:
                near = (i + down, j + right)
                if near in union and near not in links and (near[0] not in sources or near[1] not in targets):
                    links.add(near)
                    sources.add(near[0])
                    targets.add(near[1])
                    added.append(near)
        waiting = sorted(added)
    return links


def to_pharaoh(links: Collection[Link]) -> str:
    """`0-0 1-2 2-1`: source word - target word, in the order of the source."""
    return " ".join(f"{i}-{j}" for i, j in sorted(links))


def links_between_spaces(
    links: Collection[Link], *, sources: Sequence[WordPosition | None], targets: Sequence[WordPosition | None]
) -> Links:
    """Convert links between the words and marks of the views to links between space-separated words.

    The links of `hungry.` are those of `hungry`, without those of its full stop. Only a mark between spaces is linked to a word that ends
    in a mark, as `hungry?` to the last word of `faim ?`.
    """
    found: set[Link] = set()
    for i, j in links:
        source, target = sources[i], targets[j]
        if source is None or target is None:
            continue
        marks = source.mark and target.mark
        if (source.carries_links and target.carries_links) or (marks and (source.carries_links or target.carries_links)):
            found.add((source.number, target.number))
    return frozenset(found)


def pool_by_word(weights: npt.NDArray[np.float32], *, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> WordMatrix:
    """From tokens (..., T, S) to words (..., J, I): a source word has the sum over its tokens, a target word the mean over its own.

    Args: sources, targets: the tokens of each word. Tokens of no word are left out, <eos> among them.
    """
    columns = _members(sources, weights.shape[-1])
    rows = _members(targets, weights.shape[-2])
    rows /= np.maximum(1, rows.sum(1, keepdims=True))
    return np.asarray(rows @ weights @ columns.T, dtype=np.float32)


def _members(words: Sequence[Sequence[int]], tokens: int) -> npt.NDArray[np.float32]:
    """(words, tokens): 1 where a token belongs to a word."""
    found = np.zeros((len(words), tokens), dtype=np.float32)
    for number, members in enumerate(words):
        found[number, list(members)] = 1
    return found


def mutual_information(pairs: Iterable[tuple[int, int]]) -> float:
    """The mutual information of the two halves of linked pairs, in nats: Σ p(s, t)·log(p(s, t) / (p(s)·p(t))), p being shares of them."""
    both = Counter(pairs)
    total = both.total()
    sources, targets = Counter[int](), Counter[int]()
    for (source, target), count in both.items():
        sources[source] += count
        targets[target] += count
    return sum(count / total * log(count * total / (sources[source] * targets[target])) for (source, target), count in both.items())


# Scoring and choosing heads

_CELLS = 20_000_000
"""Maximal amount of numbers in memory while heads are chosen; for longer texts, fewer sentences are used."""


class HeadMatrices:
    """The word matrices of some sentences for every head (heads, J, I), padded so that sets of heads are scored together.

    Args: gold: the gold links of each sentence, if known.
    """

    def __init__(self, matrices: Sequence[WordMatrix], *, gold: Sequence[Iterable[Link]] | None = None) -> None:
        size, kept = 0, 0
        for matrix in matrices:
            size += matrix.size
            if size > _CELLS and kept:
                break
            kept += 1
        matrices = matrices[:kept]
        rows, columns = max(one.shape[1] for one in matrices), max(one.shape[2] for one in matrices)
        # Padding is below every weight, so it is never the heaviest.
        self.values = np.full((matrices[0].shape[0], kept, rows, columns), -1, dtype=np.float32)
        self.lengths = np.array([one.shape[1:] for one in matrices])
        for number, one in enumerate(matrices):
            self.values[:, number, : one.shape[1], : one.shape[2]] = one
        self.gold: npt.NDArray[np.bool_] | None = None
        if gold is not None:
            self.gold = np.zeros((kept, rows, columns), dtype=np.bool_)
            for number, links in enumerate(gold[:kept]):
                for i, j in links:
                    self.gold[number, j, i] = True

    def judge(self, sums: npt.NDArray[np.float32]) -> float:
        """The score of the links of summed heads (sentences, J, I), from 0 to 1.

        Without gold, agreement: the share of words, of the shorter side, whose link is mutual, each being the heaviest of the other.
        With gold, 1 - AER of the heaviest source word of each target word.
        """
        heaviest = sums.argmax(2)
        real = np.arange(sums.shape[1]) < self.lengths[:, :1]
        if self.gold is None:
            back = np.take_along_axis(sums.argmax(1), heaviest, 1)
            mutual = (back == np.arange(sums.shape[1])) & real
            return float(mutual.sum() / max(1, self.lengths.min(1).sum()))
        right = np.take_along_axis(self.gold, heaviest[:, :, None], 2)[:, :, 0] & real
        return float(2 * right.sum() / max(1, real.sum() + self.gold.sum()))

    def heaviest(self, heads: Sequence[int]) -> list[npt.NDArray[np.int64]]:
        """The heaviest source word of every target word of each sentence, for the sum of some heads."""
        places = self.values[list(heads)].sum(0).argmax(2)
        return [row[:length] for row, (length, _) in zip(places, self.lengths, strict=True)]

    def single(self) -> list[float]:
        """The score of each single head."""
        return [self.judge(head) for head in self.values]

    def search(self, among: Sequence[int]) -> tuple[list[int], float]:
        """A set of these heads whose mean aligns well, and its score.

        Starting with the best head, the head that helps most is added until all are in. Of these sets, the largest one within a standard
        error of the best is taken: averages of more heads depend less on the sentences they were chosen on.
        Cost: half the square of the number of heads, in calls of `judge`.
        """
        chosen: list[int] = []
        way: list[tuple[list[int], float]] = []
        total = np.zeros_like(self.values[0])
        while len(chosen) < len(among):
            worth = {head: self.judge(total + self.values[head]) for head in among if head not in chosen}
            head = max(worth, key=lambda one: (worth[one], -one))
            total, chosen = total + self.values[head], [*chosen, head]
            way.append((chosen, worth[head]))
        best = max(worth for _, worth in way)
        error = (best * (1 - best) / max(1, int(self.lengths.min(1).sum()))) ** 0.5
        return next(one for one in reversed(way) if one[1] >= best - error)
