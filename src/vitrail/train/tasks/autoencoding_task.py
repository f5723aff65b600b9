"""The task of an autoencoder: lines of text, each to be given back from one vector."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.data.batches import Batch, Batches, collate_pairs
from vitrail.data.examples.denoising import Denoising
from vitrail.data.examples.passages import Passages
from vitrail.data.preparing.prepared import PreparedText
from vitrail.decode.sentences.autoencoder import measure_reconstruction
from vitrail.errors import UsageError
from vitrail.models.base import Model
from vitrail.models.build import build_model
from vitrail.models.configs.autoencoder import BottleneckConfig
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import DevSet, Validation

_SAMPLES = 8


class AutoencodingTask(Task):
    """Text in, an autoencoder out."""

    scores: ClassVar = {"chrf": "chrF", "loss": "loss"}
    preferred: ClassVar = "chrf"
    preferred_reason: ClassVar = "it counts characters, so that it sees progress in lines of any length and script"
    # Early reconstructions are one sentence for all: chrF 0 to 15 goes up and down while the loss falls.
    noise: ClassVar = {"chrf": 15.0, "loss": -math.inf}

    def __init__(self, config: RunConfig, prepared: PreparedText, device: torch.device) -> None:
        super().__init__(config, device)
        shape = config.model
        assert isinstance(shape, BottleneckConfig)
        if config.train.subword_dropout:
            raise UsageError(
                f"train.subword_dropout = {config.train.subword_dropout} for an autoencoder",
                expected="0: it must give back the very tokens that it reads",
                remedy="--set model.noise.masking=0.1, or other noise",
            )
        self.prepared, self._dev = prepared, prepared.dev
        self.batches = Batches(
            [Passages(prepared.stores, length=shape.context - 1, documents="line")],
            budget=config.train.batch_tokens,
            seed=config.seed,
            max_length=shape.context,
            collate=Denoising.of(prepared.vocabularies.target, shape.noise) if shape.noise.any else collate_pairs,
        )

    @property
    def dev(self) -> DevSet:
        """See `Task`."""
        return DevSet(self._dev, self._dev)

    @property
    def longest_probe(self) -> int:
        """See `Task`."""
        shape = self.config.model
        assert isinstance(shape, BottleneckConfig)
        return min(super().longest_probe, shape.context - 1)

    @property
    def facts(self) -> dict[str, Any]:
        """See `Task`: a line is one sentence for it, whatever it holds, and both sides have its language."""
        shape = self.config.model
        assert isinstance(shape, BottleneckConfig)
        language = self.prepared.facts["language"]
        return self.prepared.facts | {
            "source_language": language,
            "target_language": language,
            "longest_source": shape.context - 1,
            "several_sentences_share": 1.0,
        }

    def build(self) -> Model:
        """See `Task`."""
        return build_model(self.config.model, self.prepared.vocabularies).to(self.device)

    def validate(self, model: Model) -> Validation:
        """See `Task`: loss and chrF of the first lines alone, as many as are written."""
        assert isinstance(model, AutoencoderModel)
        lines = self._dev[: self.config.train.validation_sentences]
        found = measure_reconstruction(model.eval(), self.prepared.vocabularies.target, lines)
        shown = zip(found.lines[:_SAMPLES], found.texts[:_SAMPLES], strict=True)
        samples = [{"source": line, "reference": line, "translation": text} for line, text in shown]
        return Validation({f"dev_{name}": value for name, value in found.figures().items()}, samples)

    def introduce(self) -> tuple[str, Sequence[str]]:
        """See `Task`."""
        return f"{self.prepared.facts['lines']:,} lines of {self.prepared.facts['tokens']:,} tokens", ()

    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """See `Task`."""
        read, _, wanted = Batch(*batch)
        text = self.prepared.vocabularies.target
        sides = {"sources": read.tolist(), "targets": wanted.tolist()}
        return {name: [{"ids": row, "text": text.written(row)} for row in rows] for name, rows in sides.items()}
