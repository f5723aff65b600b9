"""The character n-grams of fastText: which a word has, which row of a table each shares, and vectors of words made of them.

Source: Bojanowski et al. 2017; the order and the hash are those of the fastText program, so that its models and ours give equal vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

LINE_END = "</s>"
"""fastText's word for the end of a line. It has no n-grams, though others could be read in it."""
_FNV_START, _FNV_PRIME = 2166136261, 16777619
_BLOCK_WORDS = 1024


def ngrams_of(word: str, minn: int, maxn: int) -> list[bytes]:
    """All n-grams of `<word>` of minn to maxn characters, in UTF-8; `<` and `>` alone are none.

    In the order of the fastText program: by first character, then by length.
    """
    marked = f"<{word}>"
    return [
        marked[start : start + size].encode("utf-8", "surrogatepass")
        for start in range(len(marked))
        for size in range(minn, min(maxn, len(marked) - start) + 1)
        if size > 1 or 0 < start < len(marked) - 1
    ]


def bucket_of(ngram: bytes, buckets: int) -> int:
    """The row of an n-gram: FNV-1a with 32 bits, modulo the number of rows.

    fastText takes each byte as a signed char, so that bytes from 0x80 on flip the upper 24 bits as well; FNV itself does not.
    """
    found = _FNV_START
    for byte in ngram:
        signed = byte | 0xFFFFFF00 if byte >= 0x80 else byte
        found = ((found ^ signed) * _FNV_PRIME) & 0xFFFFFFFF
    return found % buckets


def word_hashes(words: Sequence[str]) -> Rows:
    """The hash of each whole word, as the signed 32-bit number that fastText makes n-grams of words of.

    Cost: as many passes as the longest word has bytes, each over the words that are so long.
    """
    texts = [word.encode("utf-8", "surrogatepass") for word in words]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    signed = np.frombuffer(b"".join(texts), dtype=np.int8).astype(np.int32).view(np.uint32)
    found = np.full(len(texts), _FNV_START, dtype=np.uint32)
    for place, count in enumerate(np.searchsorted(lengths[order[::-1]], np.arange(lengths.max(initial=0)), side="right")):
        longer = slice(0, len(texts) - int(count))
        found[longer] = (found[longer] ^ signed[starts[longer] + place]) * np.uint32(_FNV_PRIME)
    hashes = np.empty_like(found)
    hashes[order] = found
    return hashes.view(np.int32).astype(np.int64)


class WordBuckets(NamedTuple):
    """The rows of the n-grams of several words, one word after the other."""

    rows: Rows
    sizes: Rows
    """How many rows each word has."""


def word_buckets(words: Sequence[str], *, minn: int, maxn: int, buckets: int) -> WordBuckets:
    """`bucket_of` for each of the `ngrams_of` each word, computed for all words at once; `</s>` has none.

    Cost: about 2 microseconds and 300 bytes a word while it runs.
    """
    texts = [b"" if word == LINE_END else f"<{word}>".encode("utf-8", "surrogatepass") for word in words]
    data = np.frombuffer(b"".join(texts), dtype=np.uint8)
    starts = np.flatnonzero((data & 0xC0) != 0x80)  # of each character
    ends = np.append(starts[1:], len(data))
    word_ends = np.cumsum([len(text) for text in texts])
    word_of = np.searchsorted(word_ends, starts, side="right")
    changes = word_of[1:] != word_of[:-1]
    edge = np.append(True, changes)[: len(starts)] | np.append(changes, True)[: len(starts)]  # of `<` and `>`
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    hashes = np.full(len(starts), _FNV_START, dtype=np.uint32)
    kept: list[tuple[Rows, Rows, Rows]] = []
    for size in range(1, maxn + 1):
        begun = np.arange(len(starts) - size + 1)
        begun = begun[word_of[begun] == word_of[begun + size - 1]] if len(begun) else begun
        if not len(begun):
            break
        _take_character(hashes, begun, signed=signed, at=starts[begun + size - 1], end=ends[begun + size - 1])
        if size >= minn:
            counted = begun[~edge[begun]] if size == 1 else begun
            kept.append((counted, np.full(len(counted), size), (hashes[counted] % np.uint32(buckets)).astype(np.int64)))
    none = np.zeros(0, dtype=np.int64)
    begun, lengths, rows = (np.concatenate(parts) for parts in zip((none,) * 3, *kept, strict=True))
    order = np.lexsort((lengths, begun))
    return WordBuckets(rows[order], np.bincount(word_of[begun], minlength=len(words)).astype(np.int64))


def _take_character(
    hashes: npt.NDArray[np.uint32], begun: Rows, *, signed: npt.NDArray[np.uint32], at: npt.NDArray[np.intp], end: npt.NDArray[np.intp]
) -> None:
    """Put one more character, of one to four bytes, into the hashes that began at some places."""
    for byte in range(4):
        more = at + byte < end
        who = begun[more]
        hashes[who] = (hashes[who] ^ signed[at[more] + byte]) * np.uint32(_FNV_PRIME)


@dataclass(frozen=True, eq=False)
class Ngrams:
    """The table of n-gram vectors of a fastText model, which gives a vector to any word that has an n-gram.

    Args: vectors: [buckets, dimension]. minn, maxn: lengths of n-grams in characters.
    """

    vectors: Matrix
    minn: int
    maxn: int

    @property
    def buckets(self) -> int:
        """Rows of the table."""
        return len(self.vectors)

    def rows_of(self, words: Sequence[str]) -> WordBuckets:
        """The rows of the n-grams of words."""
        return word_buckets(words, minn=self.minn, maxn=self.maxn, buckets=self.buckets)

    def vector(self, word: str) -> Matrix | None:
        """The mean of the vectors of a word's n-grams, as for a word that no training saw; None where it has none."""
        rows = [bucket_of(ngram, self.buckets) for ngram in ngrams_of(word, self.minn, self.maxn)]
        return self.vectors[rows].mean(axis=0) if rows else None

    def compose(self, words: Sequence[str], own: Matrix) -> None:
        """Turn the rows that belong to words alone into the words' vectors, in place: the mean of a word's own row and its n-grams'."""
        for block, sums, sizes in self._blocks(words):
            own[block] = (own[block] + sums) / (sizes + 1)

    def own_rows(self, words: Sequence[str], matrix: Matrix) -> Matrix:
        """The rows that `compose` made these vectors of, up to rounding."""
        own = matrix.copy()
        for block, sums, sizes in self._blocks(words):
            own[block] = own[block] * (sizes + 1) - sums
        return own

    def _blocks(self, words: Sequence[str]) -> Iterator[tuple[slice, Matrix, Matrix]]:
        """For each block of words: its place, the sum of each word's n-gram vectors, and their number as a column."""
        for start in range(0, len(words), _BLOCK_WORDS):
            part = words[start : start + _BLOCK_WORDS]
            rows, sizes = self.rows_of(part)
            sums = np.zeros((len(part), self.vectors.shape[1]), dtype=np.float32)
            some = sizes > 0
            if some.any():
                begins = (np.cumsum(sizes) - sizes)[some]
                sums[some] = np.add.reduceat(self.vectors[rows], begins, axis=0)
            yield slice(start, start + len(part)), sums, sizes[:, None].astype(np.float32)
