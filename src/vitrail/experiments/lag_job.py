"""The jobs that `lag` gives to its processes, and their results."""

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["rnn", "lstm", "gru", "attention"]
LagTask = Literal["recall", "adding"]
SHORTEST = 2
"""The least lag: the adding problem needs two numbers."""


@dataclass(frozen=True)
class LagConditions:
    """The same for every architecture, seed and lag."""

    task: LagTask = "recall"
    exact: bool = False
    """Train only at the given lag; otherwise each batch has a random lag from 2 to the given one, as sentences have all lengths."""
    steps: int = 1500
    """Updates for each learning rate; fewer where the task is clearly solved before."""
    learning_rates: tuple[float, ...] = (0.003, 0.01)
    """Of Adam: the next one is tried, from the start, if the one before did not solve the task. The best one counts."""
    batch: int = 32
    """Sequences in an update."""
    width: int = 32
    """Of hidden states and of embedded tokens."""
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Job:
    """One architecture with one seed, at all lags."""

    architecture: Architecture
    seed: int
    lengths: tuple[int, ...]
    conditions: LagConditions


@dataclass(frozen=True)
class Trial:
    """The result of one architecture, seed and lag. After the first lag that a seed did not solve, longer ones are not trained."""

    architecture: Architecture
    seed: int
    lag: int
    gradient_before: float
    """Norm of the gradient at the state of the first time step over that of the last one; see `gradient_ratio`."""
    gradient_after: float | None = None
    """The same after training."""
    score: float | None = None
    """recall: accuracy; adding: mean squared error; on new sequences of exactly this lag."""
    solved: bool = False
    learning_rate: float | None = None
    """The learning rate of this score."""
    steps: int = 0
    """Updates until it was clearly solved, with that rate."""
    processor_seconds: float = 0.0
    """Processor time of all rates tried."""
