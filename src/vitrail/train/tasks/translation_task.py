"""The task of a translator: pairs of sentences."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.data.batches import Batch, Batches, SubwordDropout, collate_pairs
from vitrail.data.data_config import DataConfig
from vitrail.data.preparing.prepared import Prepared
from vitrail.models.base import Model, TranslationModel
from vitrail.models.build import build_model
from vitrail.scoring import bleu_settings_for
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import DevSet, Validation, named_values, validate


class TranslationTask(Task):
    """Pairs in, a translator out."""

    scores: ClassVar = {"bleu": "BLEU", "chrf": "chrF", "loss": "loss"}
    preferred: ClassVar = "chrf"
    preferred_reason: ClassVar = "it counts characters, so that it sees progress in lines of any length and script"
    probe_reference: ClassVar = "its translation"
    # Early translations are unrelated to their sources: chrF 0 to 13 and BLEU 0 to 0.5 go up and down while the loss falls.
    noise: ClassVar = {"bleu": 1.0, "chrf": 15.0, "loss": -math.inf}

    def __init__(self, config: RunConfig, prepared: Prepared, device: torch.device) -> None:
        super().__init__(config, device)
        assert isinstance(config.data, DataConfig)
        self.prepared = prepared
        self._normalisation = prepared.normalisation
        dropout = config.train.subword_dropout
        self.batches = Batches(
            prepared.stores,
            budget=config.train.batch_tokens,
            seed=config.seed,
            max_length=config.data.max_length,
            weights=prepared.weights,
            temperature=config.data.temperature,
            collate=SubwordDropout(prepared.vocabularies, dropout) if dropout else collate_pairs,
        )
        self._dev = DevSet(*prepared.dev)
        self._more_dev = {name: DevSet(*texts) for name, texts in prepared.more_dev.items()}
        self._counting = bleu_settings_for(prepared.facts["target_language"], self._dev.first(config.train.validation_sentences).target)

    @property
    def dev(self) -> DevSet:
        """See `Task`."""
        return self._dev

    @property
    def longest_probe(self) -> int:
        """See `Task`."""
        assert isinstance(self.config.data, DataConfig)
        return min(super().longest_probe, self.config.data.max_length)

    def build(self) -> Model:
        """See `Task`."""
        return build_model(self.config.model, self.prepared.vocabularies).to(self.device)

    def validate(self, model: Model) -> Validation:
        """See `Task`."""
        found = self._score(model, self._dev)
        more = named_values({name: self._score(model, dev) for name, dev in self._more_dev.items()})
        return Validation(found.values | more, found.samples)

    def _score(self, model: Model, dev: DevSet) -> Validation:
        assert isinstance(model, TranslationModel)
        return validate(
            model,
            self.prepared.vocabularies,
            dev,
            device=self.device,
            sentences=self.config.train.validation_sentences,
            search=self.config.search,
            tokenize=self._counting.tokenize,
            normalisation=self._normalisation,
            tags=self.prepared.facts.get("tags", ()),
        )

    def introduce(self) -> tuple[str, Sequence[str]]:
        """See `Task`."""
        return f"{sum(self.batches.sizes):,} pairs", self._counting.notes

    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """See `Task`."""
        source, _, target = Batch(*batch)
        words = self.prepared.vocabularies
        return {
            "sources": [{"ids": row, "text": words.source.written(row)} for row in source.tolist()],
            "targets": [{"ids": row, "text": words.target.written(row)} for row in target.tolist()],
        }
