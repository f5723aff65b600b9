"""The task of a classifier: texts and their labels."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.data.batches import Batches
from vitrail.data.examples.labelled import LabelledBatch, LabelledTexts, Labelling
from vitrail.data.labels_config import LabelsConfig
from vitrail.data.preparing.prepared import PreparedLabels
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.sentences.classify import Classifier
from vitrail.errors import UsageError
from vitrail.models.architectures import ClassifierConfig
from vitrail.models.base import Model
from vitrail.models.build import build_model
from vitrail.models.configs.classifier import TransformerClassifierConfig
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import DevSet, Validation


class ClassificationTask(Task):
    """Texts in, labels out."""

    scores: ClassVar = {"f1": "macro F1", "accuracy": "accuracy", "matthews": "Matthews", "loss": "loss"}
    preferred: ClassVar = "f1"
    preferred_reason: ClassVar = "the mean over all labels, so that rare ones count as much as frequent ones"
    unit: ClassVar = "examples"
    probe_reference: ClassVar = "its label"
    needs_reference: ClassVar = False
    noise: ClassVar = {"f1": -math.inf, "accuracy": -math.inf, "matthews": -math.inf, "loss": -math.inf}

    def __init__(self, config: RunConfig, prepared: PreparedLabels, device: torch.device) -> None:
        super().__init__(config, device)
        shape, data = config.model, config.data
        assert isinstance(shape, ClassifierConfig) and isinstance(data, LabelsConfig)
        if shape.several != data.several:
            raise UsageError(
                f"model.several = {str(shape.several).lower()} with data.several = {str(data.several).lower()}",
                expected="the same: whether labels may hold together",
                remedy=f"--set model.several={str(data.several).lower()}",
            )
        start = isinstance(shape, TransformerClassifierConfig)
        self.prepared, self._dev, self._labels = prepared, prepared.dev, prepared.labels
        texts = [LabelledTexts(store, length=shape.context - 1 - start) for store in prepared.stores]
        self._cut = sum(text.cut for text in texts)
        self.batches = Batches(
            texts,
            budget=config.train.batch_tokens,
            seed=config.seed,
            max_length=shape.context,
            weights=prepared.weights,
            collate=Labelling(len(prepared.labels.labels), start),
        )

    @property
    def dev(self) -> DevSet:
        """See `Task`."""
        return DevSet(self._dev.source, self._dev.label)

    @property
    def longest_probe(self) -> int:
        """See `Task`."""
        shape = self.config.model
        assert isinstance(shape, ClassifierConfig)
        return min(super().longest_probe, shape.context - 1 - isinstance(shape, TransformerClassifierConfig))

    def build(self) -> Model:
        """See `Task`."""
        return build_model(self.config.model, self.prepared.vocabularies).to(self.device)

    def validate(self, model: Model) -> Validation:
        """See `Task`."""
        assert isinstance(model, ClassifierModel)
        found = Classifier(model, self.prepared.vocabularies).measure(*self._dev)
        return Validation({f"dev_{name}": value for name, value in found.figures().items()}, [])

    def introduce(self) -> tuple[str, Sequence[str]]:
        """See `Task`."""
        shape = self.config.model
        assert isinstance(shape, ClassifierConfig)
        labels = self._labels.labels
        how = shape.output_for(len(labels))
        notes = [f"{len(labels)} labels; output: " + (how if not shape.several else "a sigmoid for each, as labels may hold together")]
        if self._cut:
            notes.append(
                f"{self._cut:,} texts are longer than {shape.context} tokens and are cut: --set model.context=N reads more of them"
            )
        return f"{sum(self.batches.sizes):,} examples", notes

    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """See `Task`."""
        source, labels = LabelledBatch(*batch)
        text, names = self.prepared.vocabularies.source, self._labels
        held = [[place + EOS + 1 for place, holds in enumerate(row) if holds] for row in labels.tolist()]
        return {
            "texts": [{"ids": row, "text": text.written(row)} for row in source.tolist()],
            "labels": [names.pieces(ids) for ids in held],
        }
