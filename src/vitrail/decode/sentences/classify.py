"""What a classifier says: the probability of each label of a text, and how well it does on texts whose labels are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, Vocabularies
from vitrail.decode.encoding.engine import Array, EncoderEngine, How, Precision
from vitrail.decode.encoding.table import make_encoder, with_torch
from vitrail.decode.sentences.label_scores import Predictions, flags
from vitrail.errors import DataError, ModelError
from vitrail.models.architectures import task_of
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.stored import of_another_task, read_stored
from vitrail.runtime.machine import Device

AnyClassifier = TypeVar("AnyClassifier", bound="Classifier")
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

    engines: ClassVar[tuple[str, ...]] = ()
    """The suitable engines; empty: all."""

    def __init__(self, model: ClassifierModel | EncoderEngine, vocabularies: Vocabularies, *, facts: dict[str, Any] | None = None) -> None:
        assert isinstance(vocabularies.target, LabelVocabulary)
        self.encoder = model if isinstance(model, EncoderEngine) else with_torch(model.eval())
        """What computes."""
        self.vocabulary, self.facts = vocabularies.source, facts or {}
        self._labels = vocabularies.target

    @classmethod
    def load(
        cls: type[AnyClassifier],
        path: str | Path,
        *,
        engine: str = "auto",
        precision: Precision = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> AnyClassifier:
        """Load a classifier from a run's folder or a model folder.

        Args:   as those of `Embedder.load`.
        Raises: ModelError where the folder is missing or damaged, or holds another kind of model; UsageError for an unknown engine, or one
            that cannot compute with the model.
        """
        stored = read_stored(Path(path))
        if task_of(stored.config) != "classification":
            raise of_another_task(path, stored.config, expected="classification")
        if not isinstance(stored.vocabularies.target, LabelVocabulary):
            raise ModelError(f"{path}: a classifier without its labels", remedy="copy the folder again")
        encoder = make_encoder(engine, stored, How("labels", device, threads, precision), among=cls.engines)
        return cls(encoder, stored.vocabularies, facts=stored.facts)

    @property
    def model(self) -> ClassifierModel:
        """The model on torch."""
        return self.encoder.model

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
        shares = self.encoder.probabilities(self._scores(ids))
        orders = np.argsort(-shares, axis=1, kind="stable")
        for row, probabilities, order in zip(ids, shares.tolist(), orders.tolist(), strict=True):
            chosen = [label for label in order if probabilities[label] > _EVEN] if self.several else order[:1]
            by_label = {self.labels[label]: probabilities[label] for label in order}
            found.append(Classified(tuple(self.labels[label] for label in chosen), by_label, cut=len(row) > longest))
        return found

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """The vector of each text that the last layer reads."""
        return torch.from_numpy(self.encoder.vectors([row[: self.longest] for row in self._encode(texts)]))

    def logits(self, texts: Sequence[str]) -> Float[Tensor, "B logits"]:
        """The scores of each text before sigmoid or softmax; two labels may have one score alone."""
        return torch.from_numpy(self._scores(self._encode(texts)))

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
        return self.encoder.config.context - 1 - self.encoder.marks_start

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.vocabulary.encode_batch([normalise(text) for text in texts])

    def _scores(self, ids: Sequence[Sequence[int]]) -> Array:
        return self.encoder.scores([row[: self.longest] for row in ids])
