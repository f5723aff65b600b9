"""Bags of words and n-grams: which row of a table each run of tokens shares with others, and which tokens are read."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

_FACTOR = 116049371


class Known(nn.Module):
    """Which tokens count. A module, so that a hook can leave further ones out. Args: without: ids that never count."""

    def __init__(self, without: Sequence[int]) -> None:
        super().__init__()
        self.without = tuple(without)

    def forward(self, tokens: Int[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
        """True where a token counts."""
        known = torch.ones_like(tokens, dtype=torch.bool)
        for id in self.without:
            known &= tokens != id
        return known


def ngram_rows(hashes: Int[Tensor, "B S"], *, size: int, buckets: int) -> Int[Tensor, "B R"]:
    """The row of each n-gram of `size` tokens, from left to right: h <- h * 116049371 + next modulo 2^64, then modulo `buckets`.

    Source: the fastText program (Joulin et al. 2017). Precondition: at least `size` columns.
    Args:   hashes: of each token, 32 bits, as signed numbers: the program's int32_t.
    """
    count = hashes.shape[1] - size + 1
    found = hashes[:, :count]
    for place in range(1, size):
        found = found * _FACTOR + hashes[:, place : place + count]  # wraps around, as an unsigned number does
    rows = found.remainder(buckets)
    return torch.where(found < 0, (rows + 2**64 % buckets) % buckets, rows)  # a number below 0 stands for itself + 2^64


def whole_ngrams(known: Bool[Tensor, "B S"], *, size: int) -> Bool[Tensor, "B R"]:
    """Whether all tokens of each n-gram count. Precondition: at least `size` columns."""
    return known.unfold(1, size, 1).all(2)


def shared_out(vectors: Float[Tensor, "B R D"], *, size: int) -> Float[Tensor, "B S D"]:
    """To each token an equal share of the n-grams that it is in, so that the sum over all stays what it was."""
    shares = vectors / size
    total = nn.functional.pad(shares, (0, 0, 0, size - 1))
    for place in range(1, size):
        total = total + nn.functional.pad(shares, (0, 0, place, size - 1 - place))
    return total
