"""The Huffman tree of hierarchical softmax: frequent words have short ways."""

import heapq

import numpy as np
import numpy.typing as npt

from vitrail.vectors.steps.draws import Floats
from vitrail.vectors.steps.kernels import Bags


def huffman_paths(counts: npt.NDArray[np.int64]) -> tuple[Bags, Floats]:
    """For each word the inner nodes from the root on (0 .. words - 2), and for each of them 1 where the way turns left.

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
    root = 2 * size - 2
    starts, rows, turns = np.zeros(size + 1, np.int64), list[int](), list[float]()
    for word in range(size):
        way: list[tuple[int, float]] = []
        node = word
        while node != root:
            way.append((root - int(above[node]), float(left[node])))
            node = int(above[node])
        rows += [inner for inner, _ in reversed(way)]
        turns += [turn for _, turn in reversed(way)]
        starts[word + 1] = len(rows)
    return Bags(starts, np.asarray(rows, np.int32)), np.asarray(turns, np.float32)
