"""Measurements of one model besides scores: dev scores over time, gradients by time step, whether it has learned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One validation of a training."""

    step: int
    minutes: float
    dev_loss: float
    """Nats per target token."""
    dev_bleu: float
    """Not a number for a language model."""


@dataclass(frozen=True)
class GradientCurve:
    """The norm of dL/dh_t on the source side of a model, for each source position t, from last to first.

    A mean over the long enough sentences, relative to the last position (1.0), so that architectures can be compared.
    """

    name: str
    """Where in the model, by the name of its Probe."""
    norms: tuple[float, ...]
    """norms[k]: k positions before the last."""
    sentences: int


@dataclass(frozen=True)
class LearningCheck:
    """The evidence on whether a model has learned its task; None where it was not measured, or for a language model."""

    word_entropy: float
    """Nats per token: the loss of a unigram model."""
    source_gain: float | None
    """Nats per token by which the source of another sentence raises the dev loss."""
    own_chrf: float | None
    other_chrf: float | None
    """chrF of the test translations against their own references, and against those of other sentences."""
    doubts: tuple[str, ...]
    """The evidence against it; empty: it has learned."""


@dataclass(frozen=True)
class TrainingEstimate:
    """An estimate of how long a training should have been."""

    steps: int
    minutes: float
    """At the speed of this rung."""
