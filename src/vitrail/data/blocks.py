"""Blocks of one long text, for language models: several places are read in parallel, a fixed number of tokens at a time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.preparing.store import Store
from vitrail.errors import DataError


class Block(NamedTuple):
    """The next tokens of every lane, and the token after each of them. Nothing is padded."""

    tokens: Int[Tensor, "B T"]
    following: Int[Tensor, "B T"]


STRETCH_TOKENS = 256
"""About how many tokens a state is carried; then the lane restarts at the start of a line. Generation starts there too, and a model learns
only from these places how a text begins. An LSTM makes hardly any use of what is 200 tokens back (Khandelwal et al. 2018)."""
_LONGEST_LINE = 256
"""In a longer line, a lane restarts where it is."""


class Ring:
    """The tokens of several stores, one after the other, the last of which is followed by the first."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._parts = [store.ids("text") for store in stores]
        self.starts = np.cumsum([0, *map(len, self._parts)])
        self.size = int(self.starts[-1])

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """So many tokens of the ring."""
        found: list[npt.NDArray[np.int64]] = []
        while count > 0:
            start %= self.size
            part = int(np.searchsorted(self.starts, start, side="right")) - 1
            piece = self._parts[part][start - self.starts[part] :][:count].astype(np.int64)
            found.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(found)


class Blocks:
    """The blocks of a training, in any order: a pure function of (text, settings, seed, number).

    The text is a ring; each epoch starts at another token. Lane k of L begins k/L of the way round, and block n holds
    tokens n·T to (n+1)·T of every lane, so that the state of a lane carries over from block to block. About every STRETCH_TOKENS the state
    is not carried on, and the lane is set back to the end of the line before. With `groups` above 1 the lanes are divided into that many
    groups in turn, and block n continues block n - groups.

    Args:   stores: of text, read one after the other. tokens: of a block, at most: lanes times length.
    Raises: DataError for a text that is too short.
    """

    def __init__(self, stores: Sequence[Store], *, tokens: int, length: int, groups: int, seed: int) -> None:
        self._ring = Ring(stores)
        self._size, self._seed, self.groups = self._ring.size, seed, groups
        if self._size < 2:
            raise DataError(f"{self._size} tokens of text", expected="at least 2", remedy="more text")
        self._ends = np.cumsum(np.concatenate([store.lengths("text") for store in stores]), dtype=np.int64) - 1
        self.length = min(length, self._size)
        self.lanes = max(1, min(tokens // self.length, self._size // (self.length * groups)))
        """Of one group."""
        self._lane_tokens = self._size // (self.lanes * groups)
        self._stretch = max(1, STRETCH_TOKENS // self.length)
        self.sizes = [self._size]
        """Tokens of the text."""

    def epoch_length(self, epoch: int) -> int:
        """The number of blocks of an epoch: always the same."""
        return -(-self._lane_tokens // self.length) * self.groups

    def locate(self, number: int) -> tuple[int, int]:
        """The epoch and the position in it of block `number`."""
        return divmod(number, self.epoch_length(0))

    def goes_on(self, number: int) -> bool:
        """Whether block `number` continues where block `number - groups` ended."""
        return self.locate(number)[1] // self.groups % self._stretch != 0

    def at(self, epoch: int, position: int) -> Block:
        """The block at a position of an epoch."""
        chunk, group = divmod(position, self.groups)
        length = min(self.length, self._lane_tokens - chunk * self.length)
        within = chunk % self._stretch * self.length
        begun = self._entry(epoch) + chunk * self.length - within
        lanes = range(group * self.lanes, (group + 1) * self.lanes)
        rows = [self._ring.read(self._line_start(begun + lane * self._lane_tokens) + within, length + 1) for lane in lanes]
        ids = torch.from_numpy(np.stack(rows))
        return Block(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())

    def longest(self) -> Block:
        """A block of the largest size. A trial of it shows at once whether memory suffices."""
        return self.at(0, 0)

    def sequence(self, first: int, *, rank: int = 0, world: int = 1) -> Iterator[Block]:
        """Blocks from number `first` on, without end: those whose number is `rank` modulo `world`."""
        number = first + (rank - first) % world
        while True:
            yield self.at(*self.locate(number))
            number += world

    def _entry(self, epoch: int) -> int:
        """Where an epoch begins to read: the first at the start of the text."""
        return int(np.random.PCG64(np.random.SeedSequence((self._seed, epoch))).random_raw(1)[0] % self._size) if epoch else 0

    def _line_start(self, place: int) -> int:
        """Where the line before ends, from which this one is read; the place itself in a very long line."""
        place %= self._size
        before = int(np.searchsorted(self._ends, place, side="right")) - 1
        end = int(self._ends[before]) - (self._size if before < 0 else 0)
        return end if place - end <= _LONGEST_LINE else place
