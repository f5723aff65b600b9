"""The scores of a classifier on texts whose labels are known: figures with 95 % bootstrap intervals, each label, and confusions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.labels_config import Examples
from vitrail.decode.sentences.classify import Classifier, LabelScore
from vitrail.decode.sentences.label_scores import Predictions
from vitrail.errors import DataError
from vitrail.reports.figure import Figure

RESAMPLES = 1_000
_MOST_SHOWN, _MOST_CONFUSED = 30, 12


class LabelRow(NamedTuple):
    """One label: how often it holds, and how well it is found."""

    label: str
    examples: int
    precision: float
    recall: float
    f1: Figure


@dataclass(frozen=True)
class LabelEvaluation:
    """All scores of a classifier on some examples."""

    examples: int
    several: bool
    loss: float
    """-log p of the right labels of an example, in nats."""
    accuracy: Figure
    f1: Figure
    matthews: Figure
    labels: tuple[LabelRow, ...]
    confusion: list[Any]
    """Rows: right labels, columns: predicted ones; where labels may hold together, for each label [[no, false yes], [false no, yes]]."""
    most_frequent: float
    """The accuracy of always saying the most frequent label, or the most frequent labels that are together."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: getattr(self, name) for name in ("examples", "several", "loss", "most_frequent", "confusion")}
        figures = {name: asdict(getattr(self, name)) for name in ("accuracy", "f1", "matthews")}
        return plain | figures | {"labels": [row._asdict() | {"f1": asdict(row.f1)} for row in self.labels]}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Figures, labels and confusions for people."""
        exact = "accuracy (all labels of a text right)" if self.several else "accuracy"
        mean = "Matthews (mean over labels)" if self.several else "Matthews"
        rows = [(exact, self.accuracy), ("macro F1", self.f1), (mean, self.matthews)]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {figure.to_text()}" for name, figure in rows]
        lines += [
            f"{self.examples:,} examples, 95 % intervals by the bootstrap; the most frequent label alone: {self.most_frequent:.3f}",
            "",
        ]
        return "\n".join([*lines, *self._label_lines(), "", *self._confusion_lines()])

    def _label_lines(self) -> list[str]:
        shown = sorted(self.labels, key=lambda row: -row.examples)[:_MOST_SHOWN] if len(self.labels) > _MOST_SHOWN else self.labels
        width = min(30, max(5, *(len(row.label) for row in shown)))
        lines = [f"{'label':<{width}}  examples  precision  recall  F1"]
        lines += [
            f"{row.label[:width]:<{width}}  {row.examples:>8,}  {row.precision:>9.3f}  {row.recall:>6.3f}  {row.f1.to_text()}"
            for row in shown
        ]
        left = len(self.labels) - len(shown)
        return lines + ([f"and {left:,} labels more: --json has them all"] if left else [])

    def _confusion_lines(self) -> list[str]:
        names = [row.label[:12] for row in self.labels]
        if self.several:
            lines = [f"{'label':<12}  right no  false yes  false no  right yes"]
            cells = [[cell for row in table for cell in row] for table in self.confusion]
            lines += [f"{name:<12}  {a:>8,}  {b:>9,}  {c:>8,}  {d:>9,}" for name, (a, b, c, d) in zip(names, cells, strict=True)]
            return lines[: _MOST_SHOWN + 1]
        if len(names) <= _MOST_CONFUSED:
            width = max(8, *map(len, names))
            lines = ["rows: right labels; columns: predicted ones", " " * 12 + "".join(f"  {name:>{width}}" for name in names)]
            return lines + [
                f"{name:<12}" + "".join(f"  {cell:>{width},}" for cell in row) for name, row in zip(names, self.confusion, strict=True)
            ]
        wrong = [(cell, i, j) for i, row in enumerate(self.confusion) for j, cell in enumerate(row) if i != j and cell]
        listed = sorted(wrong, key=lambda one: -one[0])[:_MOST_CONFUSED]
        return ["most frequent confusions:", *(f"{cell:>8,}  {names[i]} taken for {names[j]}" for cell, i, j in listed)]


def evaluate_predictions(score: LabelScore, labels: Sequence[str], *, bootstrap: int = RESAMPLES) -> LabelEvaluation:
    """All scores of predicted labels. Args: bootstrap: resamples for the intervals; 0: none."""
    found: Predictions = score.predictions
    rates = found.rates()
    again = found.resampled(bootstrap) if bootstrap else None
    none = np.zeros(0)

    def figure(name: str) -> Figure:
        return Figure.of(getattr(rates, name)[0], none if again is None else getattr(again, name))

    precision, recall = found.by_label()
    rows = [
        LabelRow(
            label,
            int(found.right[:, place].sum()),
            float(precision[place]),
            float(recall[place]),
            Figure.of(rates.f1_by_label[0, place], none if again is None else again.f1_by_label[:, place]),
        )
        for place, label in enumerate(labels)
    ]
    usual = np.unique(found.right, axis=0, return_counts=True)[1].max() / len(found.right)
    return LabelEvaluation(
        examples=len(found.right),
        several=found.several,
        loss=score.nats / len(found.right),
        accuracy=figure("accuracy"),
        f1=figure("f1"),
        matthews=figure("matthews"),
        labels=tuple(rows),
        confusion=found.confusion().tolist(),
        most_frequent=float(usual),
    )


def evaluate_examples(
    classifier: Classifier, texts: Sequence[str], labels: Sequence[str], *, bootstrap: int = RESAMPLES
) -> LabelEvaluation:
    """Score a classifier on texts with their labels. Raises DataError where there is none, or for a label that it does not know."""
    if not texts:
        raise DataError("no examples", expected="texts with their labels")
    return evaluate_predictions(classifier.measure(texts, labels), classifier.labels, bootstrap=bootstrap)


def read_examples(examples: Examples) -> tuple[list[str], list[str]]:
    """The texts and labels of a file, none left out. Bytes that are not UTF-8 become U+FFFD."""
    pairs = [tuple(side.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for side in pair[:2]) for pair in examples.pairs()]
    return [text for text, _ in pairs], [label for _, label in pairs]


def read_test(folder: Path) -> tuple[list[str], list[str]] | None:
    """The test set of a run; None where it has none."""
    files = [folder / "data" / f"test.{side}" for side in ("source", "label")]
    if not all(path.exists() for path in files):
        return None
    texts, labels = (path.read_bytes().decode().split("\n")[:-1] for path in files)
    return texts, labels
