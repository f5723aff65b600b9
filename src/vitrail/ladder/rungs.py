"""What is known of each rung of a ladder: several architectures that were trained on the same data within the same budget."""

from dataclasses import dataclass

from vitrail.evaluation.curves import GradientCurve, LearningCheck, Point, TrainingEstimate
from vitrail.evaluation.scores import Comparison, Score
from vitrail.evaluation.slices import Band, Share


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
    learned: LearningCheck | None = None
    """None: not asked."""
    enough: TrainingEstimate | None = None
    """Where it has not learned: what would about be long enough."""

    @property
    def comparable(self) -> bool:
        """Whether its scores are those of a translator, as far as is known."""
        return self.learned is None or not self.learned.doubts


@dataclass(frozen=True)
class RungComparison:
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
    pairs: tuple[RungComparison, ...]
    """Each rung against the one before it, those left out that have not learned to translate."""
    notes: tuple[str, ...]
    """What a reader must know: parameters that could not be matched, rungs that are not finished, sets too small."""
