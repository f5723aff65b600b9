"""The Huffman tree of hierarchical softmax: frequent words have short ways."""

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Turn(NamedTuple):
    """One inner node on the way to a word."""

    node: int
    """Its row of the output vectors."""
    label: int
    """1 or 0: which way the word lies. The chance of 1 is s(h·o), that of 0 is 1 - s(h·o)."""


class HuffmanTree(NamedTuple):
    """The words are the nodes 0 .. words - 1; the inner nodes follow, the root is the last."""

    above: npt.NDArray[np.int64]
    """[2 * words - 1] the parent of each node."""
    ones: npt.NDArray[np.bool_]
    """[2 * words - 1] whether a node is what a label of 1 leads to."""
    rows: npt.NDArray[np.int64]
    """[2 * words - 1] the output row of each inner node."""

    def way(self, word: int) -> list[Turn]:
        """The turns from the root to a word."""
        turns, node = list[Turn](), word
        while node != len(self.above) - 1:
            turns.append(Turn(int(self.rows[self.above[node]]), int(self.ones[node])))
            node = int(self.above[node])
        return turns[::-1]


def huffman_tree(counts: npt.NDArray[np.int64]) -> HuffmanTree:
    """The tree of our trainings. The row of the root is 0, and of inner nodes joined earlier words - 2 .. 1.

    The probabilities of all words sum to 1, as each inner node parts its own (Morin and Bengio 2005; the tree is Huffman's, 1952).
    Of equal counts the word that comes first is joined last. Precondition: at least two words.
    """
    size = len(counts)
    heap = [(int(count), -place, place) for place, count in enumerate(counts)]
    heapq.heapify(heap)
    above, left = np.zeros(2 * size - 1, np.int64), np.zeros(2 * size - 1, np.bool_)
    for inner in range(size, 2 * size - 1):
        (less, _, one), (more, _, other) = heapq.heappop(heap), heapq.heappop(heap)
        above[one], above[other], left[one] = inner, inner, True
        heapq.heappush(heap, (less + more, -inner, inner))
    return HuffmanTree(above, left, 2 * size - 2 - np.arange(2 * size - 1))


def fasttext_tree(counts: npt.NDArray[np.int64]) -> HuffmanTree:
    """The tree of the fastText program, which begins with words by falling count: its rows are numbered as nodes are joined."""
    size = len(counts)
    weight = np.full(2 * size - 1, 10**15, np.int64)
    weight[:size] = counts
    above, ones = np.zeros(2 * size - 1, np.int64), np.zeros(2 * size - 1, np.bool_)
    leaf, node = size - 1, size
    for inner in range(size, 2 * size - 1):
        joined: list[int] = []
        for _ in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                joined.append(leaf)
                leaf -= 1
            else:
                joined.append(node)
                node += 1
        weight[inner] = weight[joined].sum()
        above[joined], ones[joined[1]] = inner, True
    return HuffmanTree(above, ones, np.arange(2 * size - 1) - size)
