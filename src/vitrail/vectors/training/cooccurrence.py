"""How often words stand near each other: counted from a text of any length in bounded memory, and shuffled for training.

    X[i, j] = sum of 1 / d over all places where j stands d words beside i in one line, d <= window    (Pennington et al. 2014, section 4.2)

1. A hash table in memory holds the counts of pairs i <= j: X is symmetric, so half of it is enough.
2. A full table is sorted and written to disk as a run, and begun anew.
3. The runs are merged. The merged pairs, now in both directions, are dealt out to blocks at random, and each block is shuffled in memory.

Counts are whole numbers of 2^-30, not floats: their sums do not depend on the order, so the result is the same to the last byte whatever
the memory. 1 / d is rounded to them, which changes it by at most d / 2^31 of itself: less than float32 can tell for d <= 100. A pair may
reach 2^33.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.errors import DataError, UsageError
from vitrail.files import FolderWriter, ScratchFile, publish_folder, scratch_file, verify_folder
from vitrail.native.compiled import compiled
from vitrail.native.lanes import prefetch
from vitrail.vectors.training.draws import Floats, Integers

Longs = npt.NDArray[np.int64]
Progress = Callable[[int], None]
UNIT = 1 << 30
"""A weight of 1 in the table."""
MOST_WINDOW = 10_000
_WAITING = 64
"""Pairs whose places in the table are fetched at once."""
_LEAST_PIECE = 64
"""Pairs of a run that are read at once, at least."""
_PAIR = np.dtype([("word", "<i4"), ("context", "<i4"), ("weight", "<f4")])
_PAIRS, _FACTS = "pairs.bin", "pairs.json"


@dataclass(frozen=True)
class Counting:
    """How pairs are counted."""

    window: int = 10
    """The most words to each side."""
    flat: bool = False
    """Each pair counts 1, not 1 / distance."""
    memory_bytes: int = 1 << 30
    """Memory of the table, of merging and of shuffling, one after the other; what Python and the libraries need comes on top."""
    block_pairs: int = 1 << 20
    """Pairs of a block, which is shuffled and learnt as a whole."""
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.window <= MOST_WINDOW:
            raise UsageError(f"a window of {self.window} words", expected=f"1 to {MOST_WINDOW}")
        if self.block_pairs < 1:
            raise UsageError(f"blocks of {self.block_pairs} pairs", expected="1 or more")
        least = max(_TABLE_BYTES * 2 * (_WAITING + self.window), _SHUFFLING_BYTES * self.block_pairs)
        if self.memory_bytes < least:
            raise UsageError(
                f"{self.memory_bytes:,} bytes of memory for counting pairs",
                expected=f"at least {least:,}, for windows of {self.window} and blocks of {self.block_pairs:,}",
                remedy="more memory",
            )


_TABLE_BYTES = 28
"""Memory for each place of the table: its 16 bytes; and, when it is sorted, keys and order of the 3/4 that are in use."""
_MERGING_BYTES = 160
"""Memory for each pair that is merged."""
_SHUFFLING_BYTES = 64
"""Memory for each pair of a block that is shuffled."""


class Pairs(NamedTuple):
    """Some pairs in the order in which they are learnt: those of a word stand together."""

    words: Integers
    contexts: Integers
    weights: Floats


@dataclass(frozen=True)
class CountedPairs:
    """All pairs of a text, in blocks that lie in a folder."""

    folder: Path
    vocabulary: int
    """Words are 0 .. vocabulary - 1."""
    total: int
    """Pairs in all blocks; (i, j) and (j, i) are two."""
    counting: Counting

    @property
    def blocks(self) -> int:
        """How many there are."""
        return _blocks(self.total, self.counting)

    def block(self, number: int) -> Pairs:
        """Read a block; it is the same at each call, and holds 12 bytes a pair in memory."""
        first, last = (int(place) for place in _starts(self.total, self.blocks)[number : number + 2])
        raw = np.fromfile(self.folder / _PAIRS, "<i4", count=3 * (last - first), offset=12 * first)
        words, contexts, weights = raw.astype(np.int32, copy=False).reshape(3, -1)
        return Pairs(words, contexts, weights.view(np.float32))


def open_pairs(folder: Path) -> CountedPairs:
    """The pairs that `count_pairs` wrote to a folder. Raises ModelError where files are missing or damaged; all are read once for that."""
    verify_folder(folder)
    facts = json.loads((folder / _FACTS).read_bytes())
    return CountedPairs(folder, facts["vocabulary"], facts["total"], Counting(**facts["counting"]))


def count_pairs(
    tokens: Integers, *, folder: Path, vocabulary: int, counting: Counting, progress: Progress = lambda read: None
) -> CountedPairs:
    """Count the pairs of a text and write them, shuffled, to a folder, which appears when it is whole.

    The same text, seed, window and size of blocks give the same bytes, whatever the memory. Disk: 16 bytes for each pair of each run; 24
    for each pair of the result while it is shuffled, 12 at the end. Temporary files lie beside the folder.
    Args:   tokens: words as numbers; -1 ends a line. May be a np.memmap. progress: is told how many tokens have been read.
    Raises: DataError for numbers that are no words, and where no two words stand in one line; UsageError for a folder of something else;
            NotWritten.
    """
    with scratch_file(folder.with_name(f"{folder.name}-runs")) as scratch:
        runs = _Runs(scratch, vocabulary, counting, tokens=len(tokens))
        for piece in _pieces(tokens, vocabulary, counting):
            runs.count(piece)
            progress(piece.end)
        runs.finish()
        total = sum(len(rows) for rows in runs.merged())
        if total == 0:
            raise DataError(
                "no two words stand in one line",
                expected="lines of several words",
                remedy="more text, or a smaller --min-count",
            )
        counted = CountedPairs(folder, vocabulary, total, counting)
        with scratch_file(folder.with_name(f"{folder.name}-blocks")) as dealt:
            _deal(runs.merged(), counted, dealt)
            with publish_folder(folder) as writer:
                _write_blocks(dealt, counted, writer)
                facts = {"vocabulary": vocabulary, "total": total, "counting": asdict(counting)}
                writer.write(_FACTS, json.dumps(facts).encode())
    return counted


# ---- counting ---------------------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Some tokens, with those before them that their windows reach."""

    tokens: Integers
    begin: int
    """The first token that is to be counted, in `tokens`."""
    end: int
    """The place after the last, in the text."""


def _pieces(tokens: Integers, vocabulary: int, counting: Counting) -> Iterator[_Piece]:
    """The text in pieces that are counted in well below a second each."""
    size = max(min((1 << 24) // counting.window, counting.memory_bytes // 64), counting.window)
    for place in range(0, len(tokens), size):
        before = min(place, counting.window)
        piece = np.array(tokens[place - before : place + size], np.int32)
        low, high = int(piece.min()), int(piece.max())
        if low < -1 or high >= vocabulary:
            raise DataError(
                f"the encoded text: has the number {low if low < -1 else high} near token {place:,}",
                expected=f"words 0 to {vocabulary - 1}, and -1 after each line",
                remedy="encode the text again",
            )
        yield _Piece(piece, before, min(place + size, len(tokens)))


class _Table(NamedTuple):
    """A hash table with open addressing and linear steps (Knuth 1998, section 6.4)."""

    entries: Longs
    """[2 * places]: key + 1 and count, side by side in one cache line; a key of 0 is an empty place."""
    used: Longs
    """[1] places in use."""
    waiting: Longs
    """[2 * (_WAITING + window)]: key + 1 and count of pairs whose places are being fetched."""


@compiled
def place_of(key: np.int64, places: int) -> np.int64:
    """Where a key is looked for first (Fibonacci hashing: Knuth 1998, section 6.4)."""
    bits = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return np.int64((bits * np.uint64(places)) >> np.uint64(32))


@compiled
def add_waiting(table: _Table, count: int) -> None:
    """Add the first `count` pairs that wait."""
    places = len(table.entries) // 2
    for n in range(count):
        key = table.waiting[2 * n]
        place = place_of(key, places)
        while table.entries[2 * place] != key and table.entries[2 * place] != 0:
            place = place + 1 if place + 1 < places else 0
        if table.entries[2 * place] == 0:
            table.entries[2 * place] = key
            table.used[0] += 1
        table.entries[2 * place + 1] += table.waiting[2 * n + 1]


@compiled
def count_tokens(tokens: Integers, begin: int, table: _Table, steps: Longs, vocabulary: int) -> int:
    """Count the pairs of tokens[begin:] with words before them; steps[d]: what distance d adds.

    Returns where it stopped: at the end, or when the table was full.
    """
    places, window, count, place = len(table.entries) // 2, len(steps) - 1, 0, begin
    while place < len(tokens):
        if count >= _WAITING:
            add_waiting(table, count)
            count = 0
        if 4 * (table.used[0] + _WAITING + window) > 3 * places:
            break
        word = np.int64(tokens[place])
        other, lowest = place - 1, max(0, place - window)
        while word >= 0 and other >= lowest and tokens[other] >= 0:
            near = np.int64(tokens[other])
            key = min(word, near) * vocabulary + max(word, near) + 1
            table.waiting[2 * count] = key
            table.waiting[2 * count + 1] = steps[place - other]
            prefetch(table.entries, 2 * place_of(key, places))
            count += 1
            other -= 1
        place += 1
    add_waiting(table, count)
    return place


@compiled
def close_ranks(table: _Table) -> None:
    """Move the entries to the front."""
    last = 0
    for place in range(len(table.entries) // 2):
        if table.entries[2 * place] != 0:
            key, count = table.entries[2 * place], table.entries[2 * place + 1]
            table.entries[2 * last] = key
            table.entries[2 * last + 1] = count
            last += 1


# ---- runs on disk -----------------------------------------------------------------------------------------------------------------


class _Runs:
    """The table, and the sorted runs that it has become: entries of key + 1 and count."""

    def __init__(self, scratch: ScratchFile, vocabulary: int, counting: Counting, *, tokens: int) -> None:
        self._scratch, self._vocabulary, self._counting = scratch, vocabulary, counting
        waiting = _WAITING + counting.window
        most = min(tokens * counting.window, vocabulary * (vocabulary + 1) // 2) + waiting
        places = min(counting.memory_bytes // _TABLE_BYTES, 2 * most, 2**32 - 1)
        self._table = _Table(np.zeros(2 * places, np.int64), np.zeros(1, np.int64), np.zeros(2 * waiting, np.int64))
        distances = np.maximum(np.arange(counting.window + 1), 1)
        self._steps = np.full(len(distances), UNIT) if counting.flat else np.rint(UNIT / distances).astype(np.int64)
        self._lengths: list[int] = []

    def count(self, piece: _Piece) -> None:
        """Count a piece, with as many spills as it takes."""
        place = piece.begin
        while (place := count_tokens(piece.tokens, place, self._table, self._steps, self._vocabulary)) < len(piece.tokens):
            self.spill()

    def spill(self) -> None:
        """Write what the table holds as a run, and empty it."""
        used = int(self._table.used[0])
        if used == 0:
            return
        close_ranks(self._table)
        entries = self._table.entries[: 2 * used].reshape(-1, 2)
        order = np.argsort(entries[:, 0].copy())
        for begin in range(0, used, 1 << 16):
            self._scratch.append(entries[order[begin : begin + (1 << 16)]].tobytes())
        self._lengths.append(used)
        self._table.entries[:] = 0
        self._table.used[0] = 0

    def finish(self) -> None:
        """Write the last run; the memory of the table is free then."""
        self.spill()
        self._table = self._table._replace(entries=np.zeros(0, np.int64))

    def merged(self) -> Iterator[npt.NDArray[np.void]]:
        """All pairs in both directions, as `_PAIR`, by the smaller word and then the larger one; the sizes of the pieces mean nothing."""
        return (_both_ways(entries, self._vocabulary) for entries in self._merged_entries())

    def _merged_entries(self) -> Iterator[npt.NDArray[np.int64]]:
        """The entries of all runs, sorted, equal keys added up.

        Each round takes what is not above the smallest of the last keys that are in memory: no run can bring such a key later.
        """
        ends = np.cumsum(self._lengths, dtype=np.int64)
        places = ends - self._lengths
        piece = max(self._counting.memory_bytes // _MERGING_BYTES // max(len(ends), 1), _LEAST_PIECE)
        heads = [np.empty((0, 2), np.int64)] * len(ends)
        while True:
            for run in range(len(ends)):
                if 2 * len(heads[run]) <= piece and places[run] < ends[run]:
                    count = min(piece - len(heads[run]), ends[run] - places[run])
                    read = np.frombuffer(self._scratch.read(16 * int(places[run]), 16 * int(count)), np.int64).reshape(-1, 2)
                    heads[run], places[run] = np.concatenate([heads[run], read]), places[run] + count
            if not any(map(len, heads)):
                return
            bounds = [head[-1, 0] for head, place, end in zip(heads, places, ends, strict=True) if place < end]
            cuts = [int(np.searchsorted(head[:, 0], min(bounds), "right")) if bounds else len(head) for head in heads]
            yield _added([head[:cut] for head, cut in zip(heads, cuts, strict=True) if cut])
            heads = [head[cut:] for head, cut in zip(heads, cuts, strict=True)]


def _added(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Sorted entries of several runs as one, equal keys added up."""
    if len(parts) == 1:
        return parts[0]
    entries = np.concatenate(parts)
    entries = entries[np.argsort(entries[:, 0], kind="stable")]
    starts = np.flatnonzero(np.concatenate([[True], entries[1:, 0] != entries[:-1, 0]]))
    return np.stack([entries[starts, 0], np.add.reduceat(entries[:, 1], starts)], axis=1)


def _both_ways(entries: npt.NDArray[np.int64], vocabulary: int) -> npt.NDArray[np.void]:
    """Entries as pairs, each followed by its reverse; a word with itself is one pair, counted from both sides."""
    first, second = np.divmod(entries[:, 0] - 1, vocabulary)
    same = first == second
    pairs = np.empty(2 * len(entries), _PAIR)
    pairs["word"][::2], pairs["word"][1::2] = first, second
    pairs["context"][::2], pairs["context"][1::2] = second, first
    pairs["weight"] = np.repeat(entries[:, 1] * np.where(same, 2, 1) / UNIT, 2)
    keep = np.ones(len(pairs), bool)
    keep[1::2] = ~same
    return pairs[keep]


# ---- blocks -----------------------------------------------------------------------------------------------------------------------


def _blocks(total: int, counting: Counting) -> int:
    return -(-total // counting.block_pairs)


def _starts(total: int, blocks: int) -> Longs:
    """Where blocks begin, and the last ends: sizes differ by 1 at most."""
    return np.arange(blocks + 1) * (total // blocks) + np.minimum(np.arange(blocks + 1), total % blocks)


def _deal(merged: Iterator[npt.NDArray[np.void]], counted: CountedPairs, dealt: ScratchFile) -> None:
    """Write each pair into the room of its block: of as many neighbours in the order as there are blocks, each block gets one at random."""
    blocks, generator = counted.blocks, np.random.default_rng([counted.counting.seed, 0])
    places = _starts(counted.total, blocks)[:-1] * _PAIR.itemsize
    rest = np.empty(0, _PAIR)
    for pairs in merged:
        pairs = np.concatenate([rest, pairs])
        hands = np.arange(len(pairs) // blocks * blocks).reshape(-1, blocks)
        rest = pairs[hands.size :]
        if blocks > 1:
            hands = generator.permuted(hands, axis=1)
        for block in range(blocks if len(hands) else 0):
            dealt.write(int(places[block]), pairs[hands[:, block]].tobytes())
        places += len(hands) * _PAIR.itemsize
    for block, pair in enumerate(rest):
        dealt.write(int(places[block]), pair.tobytes())


def _write_blocks(dealt: ScratchFile, counted: CountedPairs, writer: FolderWriter) -> None:
    """Shuffle each block: its words in a random order, and the contexts of each word, too."""
    starts = _starts(counted.total, counted.blocks)
    with writer.create(_PAIRS) as file:
        for block, (first, last) in enumerate(pairwise(starts)):
            generator = np.random.default_rng([counted.counting.seed, 1, block])
            pairs = np.frombuffer(dealt.read(int(first) * _PAIR.itemsize, int(last - first) * _PAIR.itemsize), _PAIR)
            pairs = pairs[generator.permutation(len(pairs))]
            _, ranks = np.unique(pairs["word"], return_inverse=True)
            ranks = generator.permutation(int(ranks.max()) + 1)[ranks]
            order = np.argsort(ranks, kind="stable")
            for name in ("word", "context", "weight"):
                file.write(pairs[name][order].tobytes())
