"""The task of a masked language model: sentences with hidden tokens."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.data.batches import Batches
from vitrail.data.examples.masking import MaskedBatch, Masking
from vitrail.data.examples.passages import Passages
from vitrail.data.preparing.prepared import PreparedText
from vitrail.data.text_config import TextConfig
from vitrail.decode.sentences.masked import measure_masked
from vitrail.models.base import Model
from vitrail.models.build import build_model
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import DevSet, Validation


class MaskedTask(Task):
    """Text in, a masked language model out."""

    scores: ClassVar = {"loss": "loss"}
    preferred: ClassVar = "loss"
    noise: ClassVar = {"loss": -math.inf}

    def __init__(self, config: RunConfig, prepared: PreparedText, device: torch.device) -> None:
        super().__init__(config, device)
        shape, data = config.model, config.data
        assert isinstance(shape, MaskedConfig) and isinstance(data, TextConfig)
        self.prepared, self._dev = prepared, prepared.dev
        passages = Passages(prepared.stores, length=shape.context - 2, documents=data.documents)
        self.batches = Batches(
            [passages],
            budget=config.train.batch_tokens,
            seed=config.seed,
            max_length=shape.context,
            collate=Masking.of(prepared.vocabularies.target, share=shape.mask_share, whole_words=shape.whole_words),
        )

    @property
    def dev(self) -> DevSet:
        """See `Task`."""
        return DevSet(self._dev, self._dev)

    @property
    def longest_probe(self) -> int:
        """See `Task`."""
        shape = self.config.model
        assert isinstance(shape, MaskedConfig)
        return min(super().longest_probe, shape.context - 2)

    def build(self) -> Model:
        """See `Task`."""
        return build_model(self.config.model, self.prepared.vocabularies).to(self.device)

    def validate(self, model: Model) -> Validation:
        """See `Task`."""
        assert isinstance(model, MaskedLanguageModel)
        found = measure_masked(model.eval(), self.prepared.vocabularies.target, self._dev)
        return Validation({f"dev_{name}": value for name, value in found.figures().items()}, [])

    def introduce(self) -> tuple[str, Sequence[str]]:
        """See `Task`."""
        facts = self.prepared.facts
        return f"{facts['lines']:,} lines of {facts['tokens']:,} tokens in {self.batches.sizes[0]:,} passages", ()

    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """See `Task`."""
        source, following = MaskedBatch(*batch)
        text = self.prepared.vocabularies.target
        whole = torch.where(following > 0, following, source)
        return {"sources": [{"ids": row, "text": text.written(ids)} for row, ids in zip(source.tolist(), whole.tolist(), strict=True)]}
