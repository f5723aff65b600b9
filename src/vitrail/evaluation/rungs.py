"""What is known of each rung of a ladder: several architectures that were trained on the same data within the same budget."""

from dataclasses import dataclass

from vitrail.evaluation.scores import Comparison, Score
from vitrail.evaluation.slices import Band, Share


@dataclass(frozen=True)
class Point:
    """One validation of a training."""

    step: int
    minutes: float
    dev_loss: float
    """Nats per target token."""
    dev_bleu: float


@dataclass(frozen=True)
class GradientCurve:
    """How strongly the loss pulls at the source side of a model: the norm of dL/dh_t for each source position t, from last to first.

    A mean over sentences that are long enough, each position relative to the last one (1.0), so that architectures can be compared.
    """

    name: str
    """Where in the model, by the name of its Probe."""
    norms: tuple[float, ...]
    """norms[k]: k positions before the last."""
    sentences: int


@dataclass(frozen=True)
class Learned:
    """What tells whether a model has learned to translate; None where it was not measured."""

    word_entropy: float
    """Nats per token: the loss of who only knows how frequent each word is."""
    source_gain: float | None
    """Nats per token by which the source of another sentence raises the dev loss."""
    own_chrf: float | None
    other_chrf: float | None
    """chrF of the test translations against their own references, and against those of other sentences."""
    doubts: tuple[str, ...]
    """What speaks against it; empty: it has learned."""


@dataclass(frozen=True)
class Enough:
    """An estimate of how long a training should have been."""

    steps: int
    minutes: float
    """At the speed of this rung."""


@dataclass(frozen=True)
class Rung:
    """One architecture as it was measured; what was not measured is None or empty. Times and speeds are of the first seed's training."""

    name: str
    title: str
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    """What tells it from the other rungs, as `--set` takes it."""
    parameters: int
    steps: int
    epochs: float
    minutes: float
    """Training alone, validations left out."""
    training_flops: float
    """2 · (multiply-adds of matrix products), forward and backward: see `evaluation.flops`."""
    tokens_per_second: float
    """Real target tokens in training."""
    peak_memory_bytes: int | None
    """Largest resident memory of the training's process; None where another process made the run."""
    dev_loss: float
    dev_perplexity: float
    test_loss: float | None
    test_perplexity: float | None
    scores: tuple[Score, ...]
    """BLEU and chrF on the test set (of the first seed), with 95 % intervals."""
    seed_scores: tuple[float, ...]
    """BLEU of each seed."""
    bands: tuple[Band, ...]
    """Scores by source length."""
    shares: tuple[Share, ...]
    """Pronoun and agreement accuracy, where the test set is the phrasebook's."""
    sentences_per_second: float | None
    """Decoding of the test set as the search is configured."""
    gradients: tuple[GradientCurve, ...]
    curve: tuple[Point, ...]
    learned: Learned | None = None
    """None: not asked."""
    enough: Enough | None = None
    """Where it has not learned: what would about be long enough."""

    @property
    def comparable(self) -> bool:
        """Whether its scores are those of a translator, as far as is known."""
        return self.learned is None or not self.learned.doubts


@dataclass(frozen=True)
class Pair:
    """Two rungs held against each other, sentence by sentence."""

    baseline: str
    system: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Ladder:
    """The whole comparison."""

    budget: str
    """In words: "10 minutes each"."""
    corpus: tuple[str, ...]
    """Facts of the data, one a line: files, pairs, vocabulary."""
    machine: str
    rungs: tuple[Rung, ...]
    pairs: tuple[Pair, ...]
    """Each rung against the one before it, those left out that have not learned to translate."""
    notes: tuple[str, ...]
    """What a reader must know: parameters that could not be matched, rungs that are not finished, sets too small."""
