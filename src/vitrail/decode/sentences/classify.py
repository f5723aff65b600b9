"""What a classifier says: the probability of each label of a text, and how well it does on texts whose labels are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, Vocabularies
from vitrail.decode.sentences.label_scores import Predictions, flags
from vitrail.errors import DataError, ModelError
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.model_folder import load_folder
from vitrail.models.stored import of_another_task
from vitrail.runtime.device import Device, choose_device, set_threads

_ROWS, _TOKENS = 64, 8_192
_EVEN = 0.5


@dataclass(frozen=True)
class Classified:
    """The labels of one text."""

    labels: tuple[str, ...]
    """The likeliest label; where labels may hold together, all that are likelier than not, the likeliest first: perhaps none."""
    probabilities: Mapping[str, float]
    """Of every label, the likeliest first."""
    cut: bool = False
    """Whether the text is longer than what the model reads."""

    @property
    def label(self) -> str:
        """The label; of several, all with a comma between them."""
        return ", ".join(self.labels)

    @property
    def probability(self) -> float:
        """Of the likeliest label."""
        return next(iter(self.probabilities.values()))


class LabelScore(NamedTuple):
    """How well known labels are found."""

    nats: float
    """-log p of all of them."""
    predictions: Predictions

    def figures(self) -> dict[str, float]:
        """The figures by name; the loss is that of one text."""
        rates = self.predictions.rates()
        return {
            "loss_nats_per_token": self.nats / len(self.predictions.right),
            "accuracy": float(rates.accuracy[0]),
            "f1": float(rates.f1[0]),
            "matthews": float(rates.matthews[0]),
        }


class Classifier:
    """A trained classifier.

    classifier = Classifier.load("runs/reviews")
    print(classifier.classify("A film to love.").label)
    """

    def __init__(self, model: ClassifierModel, vocabularies: Vocabularies, *, facts: dict[str, Any] | None = None) -> None:
        assert isinstance(vocabularies.target, LabelVocabulary)
        self.model, self.vocabulary, self.facts = model.eval(), vocabularies.source, facts or {}
        self._labels = vocabularies.target

    @classmethod
    def load(cls, path: str | Path, *, device: Device = "cpu", threads: int | None = None) -> "Classifier":
        """Load a classifier from a run's folder or a model folder.

        Args:   threads: processor threads for this whole process (0: one for each core); None does not change them.
        Raises: ModelError where the folder is missing or damaged, or holds another kind of model.
        """
        if threads is not None:
            set_threads(threads)
        loaded = load_folder(Path(path), device=choose_device(device))
        if not isinstance(loaded.model, ClassifierModel):
            raise of_another_task(path, loaded.config, expected="classification")
        if not isinstance(loaded.vocabularies.target, LabelVocabulary):
            raise ModelError(f"{path}: a classifier without its labels", remedy="copy the folder again")
        return cls(loaded.model, loaded.vocabularies, facts=loaded.facts)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels."""
        return self._labels.labels

    @property
    def several(self) -> bool:
        """Whether labels may hold together."""
        return self._labels.several

    @overload
    def classify(self, texts: str) -> Classified: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def classify(self, texts: Sequence[str]) -> list[Classified]: ...
    def classify(self, texts: str | Sequence[str]) -> Classified | list[Classified]:
        """The labels of one text, or of each of several."""
        if isinstance(texts, str):
            return self.classify([texts])[0]
        ids, longest = self._encode(texts), self.longest
        found: list[Classified] = []
        shares = self._probabilities(ids)
        orders = shares.argsort(dim=1, descending=True, stable=True)
        for row, probabilities, order in zip(ids, shares.tolist(), orders.tolist(), strict=True):
            chosen = [label for label in order if probabilities[label] > _EVEN] if self.several else order[:1]
            by_label = {self.labels[label]: probabilities[label] for label in order}
            found.append(Classified(tuple(self.labels[label] for label in chosen), by_label, cut=len(row) > longest))
        return found

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """The vector of each text that the last layer reads."""
        return torch.cat([self.model.embed(source) for source in self._batches(self._encode(texts))]).cpu()

    def logits(self, texts: Sequence[str]) -> Float[Tensor, "B logits"]:
        """The scores of each text before sigmoid or softmax; two labels may have one score alone."""
        return self._logits(self._encode(texts))

    def measure(self, texts: Sequence[str], labels: Sequence[str]) -> LabelScore:
        """How well the labels of some texts are found. Args: labels: of each text, as in the file that it was trained on.

        Raises: DataError for a label that the model does not know.
        """
        vocabulary, head = self._labels, self.model.head
        rows = vocabulary.encode_batch(labels)
        for number, (row, text) in enumerate(zip(rows, labels, strict=True), 1):
            if any(id <= EOS for id in row) or not (row or vocabulary.several):
                raise DataError(
                    f"example {number:,}: the label {text[:60]!r}, which the model was not trained on",
                    expected="one of " + ", ".join(one[:30] for one in vocabulary.labels[:20]),
                    remedy="correct the label, or train with examples of it",
                )
        right = flags([[id - EOS - 1 for id in row] for row in rows], len(vocabulary.labels))
        logits = self.logits(texts)
        probabilities = head.probabilities(logits)
        if head.several:
            predicted = (probabilities > _EVEN).numpy()
        else:
            predicted = flags(probabilities.argmax(1, keepdim=True).tolist(), len(vocabulary.labels))
        nats = float(head.nats(logits, torch.from_numpy(right.astype(np.float32))).sum())
        return LabelScore(nats, Predictions(right, predicted, head.several))

    @property
    def longest(self) -> int:
        """Tokens of a text that are read at most, without its marks."""
        return self.model.config.context - 1 - self.model.marks_start

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.vocabulary.encode_batch([normalise(text) for text in texts])

    @torch.inference_mode()
    def _batches(self, ids: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Padded rows, in order: as many at once as fit. Precondition: in the order of their lengths, or few."""
        device, start = next(self.model.parameters()).device, 0
        rows = [row[: self.longest] for row in ids]
        while start < len(rows):
            end = start + 1
            while end < min(len(rows), start + _ROWS) and max(map(len, rows[start : end + 1])) * (end + 1 - start) <= _TOKENS:
                end += 1
            yield pad_rows(rows[start:end], start=self.model.marks_start).to(device)
            start = end

    @torch.inference_mode()
    def _logits(self, ids: Sequence[Sequence[int]]) -> Float[Tensor, "B logits"]:
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        parts = [self.model.classify(source).float().cpu() for source in self._batches([ids[place] for place in order])]
        if not parts:
            return torch.zeros(0, self.model.head.linear.out_features)
        found = torch.cat(parts)
        return torch.empty_like(found).index_copy_(0, torch.tensor(order), found)

    def _probabilities(self, ids: Sequence[Sequence[int]]) -> Float[Tensor, "B labels"]:
        return self.model.head.probabilities(self._logits(ids))
