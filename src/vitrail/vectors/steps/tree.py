"""The ways through the Huffman tree, as the kernels read them."""

import numpy as np
import numpy.typing as npt

from vitrail.vectors.huffman import huffman_tree
from vitrail.vectors.steps.draws import Floats
from vitrail.vectors.steps.kernels import Bags


def huffman_paths(counts: npt.NDArray[np.int64]) -> tuple[Bags, Floats]:
    """For each word the inner nodes from the root on (0 .. words - 2), and for each of them 1 where the way turns left.

    See `huffman.huffman_tree`. Precondition: at least two words.
    """
    tree = huffman_tree(counts)
    starts, rows, turns = np.zeros(len(counts) + 1, np.int64), list[int](), list[float]()
    for word in range(len(counts)):
        way = tree.way(word)
        rows += [turn.node for turn in way]
        turns += [float(turn.label) for turn in way]
        starts[word + 1] = len(rows)
    return Bags(starts, np.asarray(rows, np.int32)), np.asarray(turns, np.float32)
