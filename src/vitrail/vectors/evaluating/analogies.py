"""Analogies: how often the best of all words is the right one, by section, with both methods of search."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from vitrail.reports.figure import Figure
from vitrail.vectors.evaluating.questions import Analogy, AnalogySection, AnalogySet
from vitrail.vectors.nearest import unit
from vitrail.vectors.word_vectors import ANALOGY_METHODS, AnalogyMethod, WordVectors

_BATCH = 256
_SEED = 1


class SectionScore(NamedTuple):
    """The questions of one section, or of several together."""

    name: str
    questions: int
    covered: int
    """Questions whose four words are in the vocabulary."""
    right: Mapping[AnalogyMethod, int]
    """Covered questions that were answered right."""

    def accuracy(self, method: AnalogyMethod) -> float | None:
        """The share of covered questions that were answered right; None where none is covered."""
        return self.right[method] / self.covered if self.covered else None


@dataclass(frozen=True)
class AnalogyScore:
    """All sections of a file."""

    name: str
    sections: tuple[SectionScore, ...]
    totals: tuple[SectionScore, ...]
    """Semantic and syntactic, where the names of some sections begin with "gram" and of others do not, as in Google's; then all."""
    accuracy: Mapping[AnalogyMethod, Figure | None]
    """Of all covered questions."""
    missing: tuple[str, ...]
    """Words that are not in the vocabulary; their questions are left out, though n-grams may give them vectors."""


def evaluate_analogies(
    vectors: WordVectors,
    questions: AnalogySet,
    *,
    fold_case: bool = False,
    bootstrap: int = 1_000,
    say: Callable[[str], None] = lambda line: None,
) -> AnalogyScore:
    """Answer each question by the best word of the vocabulary but the three of the question.

    Args: fold_case: words that are equal but for case count as the same. say: is told of each section when it is done.
    Cost: for each question 4 x words x dimension multiply-adds.
    """
    asked = {word for section in questions.sections for question in section.questions for word in question}
    same = _rows_of(vectors, asked, fold_case=fold_case)
    sections: list[SectionScore] = []
    for section in questions.sections:
        sections.append(_score_section(vectors, section, same))
        shares = (f"{method} {sections[-1].accuracy(method):.3f}" for method in ANALOGY_METHODS if sections[-1].covered)
        say(f"{section.name}: {', '.join(shares) or 'no question is covered'}")
    semantic = [one for one in sections if not one.name.startswith("gram")]
    syntactic = [one for one in sections if one.name.startswith("gram")]
    whole = _total("all", sections)
    parts = (_total("semantic", semantic), _total("syntactic", syntactic)) if semantic and syntactic else ()
    return AnalogyScore(
        name=questions.name,
        sections=tuple(sections),
        totals=(*parts, whole),
        accuracy={method: _figure(whole, method, bootstrap=bootstrap) for method in ANALOGY_METHODS},
        missing=tuple(sorted(word for word in asked if not same[word])),
    )


def _rows_of(vectors: WordVectors, words: set[str], *, fold_case: bool) -> dict[str, list[int]]:
    """For each word the rows that count as it: the word's own, or those of all words that are equal but for case, most frequent first."""
    if not fold_case:
        found = {word: vectors.row(word) for word in words}
        return {word: [] if row is None else [row] for word, row in found.items()}
    forms = {word: normalize("NFC", word).casefold() for word in words}
    folded: dict[str, list[int]] = {form: [] for form in forms.values()}
    for row, word in enumerate(vectors.words):
        if (same := folded.get(word.casefold())) is not None:
            same.append(row)
    return {word: folded[form] for word, form in forms.items()}


def _score_section(vectors: WordVectors, section: AnalogySection, same: Mapping[str, list[int]]) -> SectionScore:
    covered = [question for question in section.questions if all(same[word] for word in question)]
    right: dict[AnalogyMethod, int] = dict.fromkeys(ANALOGY_METHODS, 0)
    for batch in _batches(covered):
        a, b, c = (unit(vectors.matrix[[same[question[place]][0] for question in batch]]) for place in range(3))
        excluded = [[row for word in question[:3] for row in same[word]] for question in batch]
        for method in ANALOGY_METHODS:
            best = vectors.answers(a, b, c, method=method, count=1, excluded=excluded)
            right[method] += sum(row in same[question.d] for row, question in zip(best.rows[:, 0].tolist(), batch, strict=True))
    return SectionScore(section.name, len(section.questions), len(covered), right)


def _batches(questions: Sequence[Analogy]) -> Iterator[Sequence[Analogy]]:
    return (questions[start : start + _BATCH] for start in range(0, len(questions), _BATCH))


def _total(name: str, sections: Sequence[SectionScore]) -> SectionScore:
    right: dict[AnalogyMethod, int] = {method: sum(one.right[method] for one in sections) for method in ANALOGY_METHODS}
    return SectionScore(name, sum(one.questions for one in sections), sum(one.covered for one in sections), right)


def _figure(whole: SectionScore, method: AnalogyMethod, *, bootstrap: int) -> Figure | None:
    """A mean of zeros and ones that is drawn again has a binomial count."""
    value = whole.accuracy(method)
    if value is None:
        return None
    return Figure.of(value, np.random.default_rng(_SEED).binomial(whole.covered, value, size=bootstrap) / whole.covered)
