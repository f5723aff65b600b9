"""The scores of word vectors as text and as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vitrail.reports.figure import Figure
from vitrail.vectors.evaluating.analogies import AnalogyScore, SectionScore, evaluate_analogies
from vitrail.vectors.evaluating.questions import AnalogySet, SimilaritySet
from vitrail.vectors.evaluating.similarity import RESAMPLES, SimilarityScore, evaluate_similarity
from vitrail.vectors.word_vectors import ANALOGY_METHODS, WordVectors

_SHOWN = 12


@dataclass(frozen=True)
class VectorEvaluation:
    """All scores of some word vectors."""

    name: str
    words: int
    dimension: int
    ngrams: bool
    """Whether words out of the vocabulary have vectors."""
    fold_case: bool
    similarity: tuple[SimilarityScore, ...]
    analogies: tuple[AnalogyScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        tables = [{"sections": [*map(_row, score.sections)], "totals": [*map(_row, score.totals)]} for score in self.analogies]
        found = asdict(self)
        return found | {"analogies": [plain | table for plain, table in zip(found["analogies"], tables, strict=True)]}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Tables for people."""
        more = "; unseen words by n-grams" * self.ngrams + "; case does not count" * self.fold_case
        lines = [f"{self.name}: {self.words:,} words of {self.dimension} numbers{more}"]
        if self.similarity:
            lines += ["", *self._similarity_lines()]
        for score in self.analogies:
            lines += ["", *self._analogy_lines(score)]
        return "\n".join(lines)

    def _similarity_lines(self) -> list[str]:
        width = max(10, *(len(score.name) for score in self.similarity))
        lines = [f"{'similarity':<{width}}  pairs   in vocabulary  by n-grams  Spearman, 95 % interval"]
        for score in self.similarity:
            share = f"{score.in_vocabulary:,} ({100 * score.in_vocabulary / score.pairs:.1f} %)"
            lines.append(f"{score.name:<{width}}  {score.pairs:>5,}  {share:>14}  {score.from_ngrams:>10,}  {_shown(score.spearman)}")
            if score.from_ngrams:
                lines.append(f"  of the pairs in the vocabulary alone: {_shown(score.spearman_in_vocabulary)}")
            if self.ngrams:
                lines.append(f"  with every word by its n-grams alone, as if unseen: {_shown(score.spearman_as_unseen)}")
            lines += _missing_lines(score.missing, what="pairs")
            if score.more_if_folded:
                lines.append(f"  --fold-case would have vectors for {score.more_if_folded:,} pairs more")
        return lines

    def _analogy_lines(self, score: AnalogyScore) -> list[str]:
        rows = [*score.sections, *score.totals]
        width = max(9, len(score.name), *(len(row.name) for row in rows))
        lines = [f"{score.name:<{width}}  questions         covered  3CosAdd  3CosMul"]
        for row in rows:
            share = f"{row.covered:,} ({100 * row.covered / row.questions:.1f} %)"
            accuracies = (row.accuracy(method) for method in ANALOGY_METHODS)
            cells = "  ".join(f"{'-' if value is None else f'{value:.3f}':>7}" for value in accuracies)
            lines.append(f"{row.name:<{width}}  {row.questions:>9,}  {share:>14}  {cells}")
        lines.append("  " + "; ".join(f"{method} {_shown(score.accuracy[method])}" for method in ANALOGY_METHODS))
        return lines + _missing_lines(score.missing, what="questions")


def _row(section: SectionScore) -> dict[str, Any]:
    accuracy = {method: section.accuracy(method) for method in ANALOGY_METHODS}
    return section._asdict() | {"right": dict(section.right), "accuracy": accuracy}


def _shown(figure: Figure | None) -> str:
    return "not defined: fewer than two values, or all equal" if figure is None else figure.to_text()


def _missing_lines(words: Sequence[str], *, what: str) -> list[str]:
    if not words:
        return []
    more = f" and {len(words) - _SHOWN:,} more (--json has all)" if len(words) > _SHOWN else ""
    return [f"  {what} left out, since these words are missing: {', '.join(words[:_SHOWN])}{more}"]


def evaluate_vectors(
    vectors: WordVectors,
    *,
    name: str,
    similarity: Sequence[SimilaritySet] = (),
    analogies: Sequence[AnalogySet] = (),
    fold_case: bool | None = None,
    bootstrap: int = RESAMPLES,
    say: Callable[[str], None] = lambda line: None,
) -> VectorEvaluation:
    """All scores.

    Args: name: of the vectors, in the report. fold_case: whether words that are equal but for case are the same; None: where the vectors
        have no upper case.
    """
    fold_case = vectors.is_lower_case if fold_case is None else fold_case
    return VectorEvaluation(
        name=name,
        words=len(vectors),
        dimension=vectors.dimension,
        ngrams=vectors.ngrams is not None,
        fold_case=fold_case,
        similarity=tuple(evaluate_similarity(vectors, one, fold_case=fold_case, bootstrap=bootstrap) for one in similarity),
        analogies=tuple(evaluate_analogies(vectors, one, fold_case=fold_case, bootstrap=bootstrap, say=say) for one in analogies),
    )
