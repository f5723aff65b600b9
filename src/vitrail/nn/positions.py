"""Positions of tokens: sinusoidal, learned, rotary, or none."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.errors import UsageError


def frequencies(width: int, *, steps: int | None = None) -> Float[Tensor, " E"]:
    """1 / 10000^(i/N) for i < D/2: the angle from one position to the next, in radians; N is D/2 unless `steps` says it."""
    return torch.exp(torch.arange(width // 2) * (-torch.log(torch.tensor(10000.0)) / (steps or width // 2)))


def sinusoids(length: int, width: int, *, steps: int | None = None) -> Float[Tensor, "T D"]:
    """The fixed table P[t, i] = sin(t / 10000^(i/N)) for i < D/2, then the cosines of the same angles; see `frequencies`.

    Source: Vaswani et al. 2017, section 3.5. Differs from it: sine half then cosine half (as Tensor2Tensor and Hugging Face Marian
    do) instead of interleaved, a fixed permutation of the columns. Tensor2Tensor, Marian and fairseq have N = D/2 - 1.
    """
    angles = torch.arange(length)[:, None] * frequencies(width, steps=steps)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def grow_table(table: Float[Tensor, "T D"], length: int, *, steps: int | None = None) -> Float[Tensor, "T2 D"]:
    """A table of sinusoids for at least this length; usable with gradients even if a search made it."""
    with torch.inference_mode(False):
        return sinusoids(2 * length, table.shape[1], steps=steps).to(table)


def end_of(start: int | Int[Tensor, "B T"], embedded: Float[Tensor, "B T D"]) -> int:
    """The position after the highest one."""
    return start + embedded.shape[1] if isinstance(start, int) else int(start.max()) + 1


class SinusoidalPositions(nn.Module):
    """Adds the sinusoid table to token embeddings: X + P. Nothing is learned; the table grows to any length.

    Args: steps: see `sinusoids`.
    """

    def __init__(self, width: int, *, steps: int | None = None) -> None:
        super().__init__()
        if width % 2 or steps == 0:
            raise UsageError(f"width {width} with sinusoidal positions", expected="an even width" if width % 2 else "at least 4")
        self.steps = steps
        self.table: Tensor
        self.register_buffer("table", sinusoids(256, width, steps=steps), persistent=False)

    def forward(self, embedded: Float[Tensor, "B T D"], start: int | Int[Tensor, "B T"] = 0) -> Float[Tensor, "B T D"]:
        """Add the positions `start`, `start + 1`, ... to the tokens of each row, or to each token its own."""
        # Another thread may put its own table there meanwhile: what was looked at is used.
        table, end = self.table, end_of(start, embedded)
        if end > table.shape[0]:
            self.table = table = grow_table(table, end, steps=self.steps)
        return embedded + (table[start:end] if isinstance(start, int) else table[start]).to(embedded.dtype)


class LearnedPositions(nn.Module):
    """Adds one learned vector per position: X + P. Positions beyond the last learned one are an error."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, width) * width**-0.5)

    def forward(self, embedded: Float[Tensor, "B T D"], start: int | Int[Tensor, "B T"] = 0) -> Float[Tensor, "B T D"]:
        """Add the positions `start`, `start + 1`, ... to the tokens of each row, or to each token its own.

        Raises UsageError beyond the learned length.
        """
        end = end_of(start, embedded)
        if end > self.weight.shape[0]:
            raise UsageError(
                f"position {end} with {self.weight.shape[0]} learned positions",
                remedy="raise model.max_positions, or use sinusoidal or rotary positions",
            )
        return embedded + (self.weight[start:end] if isinstance(start, int) else self.weight[start])


class NoPositions(nn.Module):
    """Adds nothing: the encoder then reads its words as a set."""

    def forward(self, embedded: Float[Tensor, "B T D"], start: int | Int[Tensor, "B T"] = 0) -> Float[Tensor, "B T D"]:
        """Return the embeddings as they are."""
        return embedded


class Rotary(nn.Module):
    """Rotates queries and keys by an angle that grows with their position, so that QKᵀ depends on distances alone.

    (x_i, x_{i+E/2}) is rotated by t / 10000^(2i/E). Source: Su et al. 2021, RoFormer, eq. 34; pairs are split halves (GPT-NeoX),
    a fixed permutation of the paper's neighbours. Self-attention only.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        if head_width % 2:
            raise UsageError(f"head width {head_width} with rotary positions", expected="an even head width")
        self.half_width = head_width // 2
        self.table: Tensor
        self.register_buffer("table", sinusoids(256, head_width), persistent=False)

    def forward(self, heads: Float[Tensor, "B H T E"], start: int = 0) -> Float[Tensor, "B H T E"]:
        """Rotate each vector by the angle of its position; the first position is `start`."""
        table, end = self.table, start + heads.shape[2]
        if end > table.shape[0]:
            self.table = table = grow_table(table, end)
        sine, cosine = table[start:end].to(heads.dtype).split(self.half_width, dim=1)
        first, second = heads.split(self.half_width, dim=3)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=3)
