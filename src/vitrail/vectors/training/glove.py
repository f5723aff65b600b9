"""GloVe: pairs counted first, then learned from block by block."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrail.files import is_published
from vitrail.vectors.steps.glove import begin_glove, glove_pass_block
from vitrail.vectors.training.config import VectorsConfig
from vitrail.vectors.training.cooccurrence import CountedPairs, Counting, Pairs, count_pairs, open_pairs
from vitrail.vectors.training.corpus import WordCounts
from vitrail.vectors.training.pieces import PieceResult
from vitrail.vectors.word_vectors import Outputs, WordVectors


class Glove:
    """A training on counted pairs; see `pieces.Learning`. One block is a piece, and each epoch has an order of its own.

    Memory: see `GloveState`; and 12 bytes for each pair of the blocks that are read.
    """

    unit = "pairs"

    def __init__(self, config: VectorsConfig, vocabulary: WordCounts, pairs: CountedPairs) -> None:
        self._config, self._vocabulary, self._pairs = config, vocabulary, pairs
        self._state = begin_glove(
            len(vocabulary.words), dimension=config.dimension, seed=config.seed, x_max=config.x_max, alpha=config.alpha
        )

    @property
    def pieces(self) -> int:
        """Blocks of pairs."""
        return self._pairs.blocks

    def compile(self) -> None:
        """Compile the step, if it is not yet."""
        none = np.zeros(0, np.int32)
        glove_pass_block(Pairs(none, none, np.zeros(0, np.float32)), self._state, self._config.first_rate)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All that training changes."""
        return self._state.arrays()

    def read_piece(self, epoch: int, piece: int) -> PieceResult:
        """Learn from one block of pairs."""
        order = np.random.default_rng([self._config.seed, epoch]).permutation(self.pieces)
        loss, pairs = glove_pass_block(self._pairs.block(int(order[piece])), self._state, self._config.first_rate)
        return PieceResult(words=pairs, steps=pairs, loss=loss, watched=pairs, rate=self._config.first_rate)

    def vectors(self) -> WordVectors:
        """The sums of the vectors of word and context."""
        outputs = None
        if self._config.keep_outputs:
            contexts = np.ascontiguousarray(self._state.arrays()["contexts"][:, : self._config.dimension])
            outputs = Outputs(contexts, np.stack(self._state.biases(), axis=1))
        return WordVectors(self._vocabulary.words, self._state.vectors(), self._vocabulary.counts, outputs=outputs)


def counted_pairs(config: VectorsConfig, vocabulary: WordCounts, tokens: Path) -> CountedPairs:
    """Count the pairs of a text, or open those that were counted before. They lie beside the file of tokens' folder."""
    counting = Counting(window=config.window, memory_bytes=config.memory_mib << 20, seed=config.seed)
    # Other settings have other pairs, in a folder of another name.
    key = hashlib.sha256(json.dumps(asdict(counting), sort_keys=True).encode()).hexdigest()[:8]
    folder = tokens.parent.with_name(f"pairs-{key}")
    if is_published(folder):
        return open_pairs(folder)
    numbers = np.memmap(tokens, dtype="<i4", mode="r")
    return count_pairs(numbers, folder=folder, vocabulary=len(vocabulary.words), counting=counting)
