"""The results of a comparison: several architectures (rungs) trained on the same data within the same budget."""

from dataclasses import dataclass

from vitrail.evaluation.curves import GradientCurve, LearningCheck, Point, TrainingEstimate
from vitrail.evaluation.scores import Comparison, Score
from vitrail.evaluation.slices import Band, Share
from vitrail.models.architectures import TaskName

BITS = "bits a byte"
"""The first score of a language model, the one that can be compared between vocabularies."""


@dataclass(frozen=True)
class Rung:
    """The measurements of one architecture; None or empty where not measured. Times and speeds are those of the first seed."""

    name: str
    title: str
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    """The settings in which it differs from the other rungs, as `--set` takes them."""
    parameters: int
    steps: int
    epochs: float
    minutes: float
    """Training only, without validations."""
    training_flops: float
    """2 · (multiply-adds of matrix products), forward and backward: see `ladder.flops`."""
    tokens_per_second: float
    """Real target tokens seen in training."""
    peak_memory_bytes: int | None
    """Peak resident memory of the training process; None for a run made elsewhere."""
    dev_loss: float
    dev_perplexity: float
    test_loss: float | None
    test_perplexity: float | None
    scores: tuple[Score, ...]
    """BLEU and chrF on the test set, or bits per byte and perplexities on the test text (of the first seed), with 95 % intervals."""
    seed_scores: tuple[float, ...]
    """The first score, of each seed."""
    bands: tuple[Band, ...]
    """Scores by source length."""
    shares: tuple[Share, ...]
    """Pronoun and agreement accuracy, where the test set is the phrasebook's."""
    sentences_per_second: float | None
    """Speed of translating the test set with the configured search; None for a language model."""
    gradients: tuple[GradientCurve, ...]
    curve: tuple[Point, ...]
    learned: LearningCheck | None = None
    """None: not checked."""
    enough: TrainingEstimate | None = None
    """If it has not learned: an estimate of the training it needs."""
    written_tokens_per_second: float | None = None
    """Of a language model: speed of writing several texts side by side."""

    @property
    def comparable(self) -> bool:
        """Whether its scores can be compared: it is not known to have failed to learn."""
        return self.learned is None or not self.learned.doubts


@dataclass(frozen=True)
class RungComparison:
    """The paired comparison of two rungs, sentence by sentence."""

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
    pairs: tuple[RungComparison, ...]
    """Each rung against the one before it, without rungs that have not learned to translate."""
    notes: tuple[str, ...]
    """Notes: parameters that could not be matched, unfinished rungs, small test sets."""
    task: TaskName = "translation"
    """What the models have learned. Of language models, lower scores are better."""
