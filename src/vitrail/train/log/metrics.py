"""Metrics: named values with units, always in `metrics.jsonl`, optionally in TensorBoard."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitrail.errors import UsageError


class Event(NamedTuple):
    """An event of a training; observers (progress bar, trackers, inspection) are called with each."""

    kind: Literal["train", "validation", "saved", "skipped", "mixed", "finished"]
    step: int
    values: dict[str, Any]
    unit: str = "tokens"
    """What is counted as tokens."""

    def record(self) -> dict[str, Any]:
        """The event as one line of `metrics.jsonl`."""
        return {"step": self.step, "kind": self.kind, **self.values}


Observe = Callable[[Event], None]


@dataclass
class Window:
    """Sums over the steps since the last line of metrics; saved with each checkpoint, so that a line may span a stop."""

    nats: float = 0.0
    plain_nats: float = 0.0
    tokens: int = 0
    steps: int = 0
    norm_before: float = 0.0
    norm_after: float = 0.0
    seconds: float = 0.0
    learning_rate: float = 0.0
    """That of the last step."""
    clipped_steps: int = 0
    """Steps whose gradient was clipped, by its norm or element by element."""
    norm_highest: float = 0.0
    """Largest norm before clipping."""

    def add(self, *, nats: float, plain_nats: float, tokens: int, norms: tuple[float, float], seconds: float, learning_rate: float) -> None:
        """Count one update."""
        self.nats += nats
        self.plain_nats += plain_nats
        self.tokens += tokens
        self.norm_before += norms[0]
        self.norm_after += norms[1]
        self.norm_highest = max(self.norm_highest, norms[0])
        self.clipped_steps += norms[1] < norms[0]
        self.seconds += seconds
        self.steps += 1
        self.learning_rate = learning_rate

    def values(self) -> dict[str, float]:
        """Metrics of the window: mean losses per token, mean and highest norms, share of clipped steps. Precondition: at least one step."""
        return {
            "loss_nats_per_token": self.nats / self.tokens,
            "perplexity": perplexity(self.plain_nats / self.tokens),
            "gradient_norm": self.norm_before / self.steps,
            "gradient_norm_clipped": self.norm_after / self.steps,
            "gradient_norm_highest": self.norm_highest,
            "clipped_share": self.clipped_steps / self.steps,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else 0.0,
            "learning_rate": self.learning_rate,
        }


def perplexity(nats_per_token: float) -> float:
    """exp of the mean cross-entropy (without smoothing); infinite where that overflows."""
    return math.exp(nats_per_token) if nats_per_token < 700 else math.inf


def tensorboard(folder: Path) -> Observe:
    """An observer that writes TensorBoard files from the first event on. Raises UsageError where the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed", remedy="pip install 'vitrail[track]'") from None
    writers: list[SummaryWriter] = []

    def observe(event: Event) -> None:
        writer = writers[0] if writers else SummaryWriter(str(folder))
        writers[:] = [writer]
        for name, value in event.values.items():
            if isinstance(value, int | float):
                writer.add_scalar(f"{event.kind}/{name}", value, event.step)
        if event.kind in ("validation", "finished"):
            writer.flush()

    return observe
