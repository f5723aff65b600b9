"""The task of a causal language model: text in blocks whose state is carried on, or in windows that are independent."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.data.blocks import Blocks
from vitrail.data.preparing.prepared import PreparedText
from vitrail.data.text_config import TextConfig
from vitrail.data.windows import Windows
from vitrail.decode.perplexity import measure_text
from vitrail.models.architectures import require_language
from vitrail.models.base import CarryingModel, LanguageModel, Model
from vitrail.models.build import build_model
from vitrail.train.resume.carry import Carried
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import DevSet, Validation


class LanguageTask(Task):
    """Text in, a language model out."""

    scores: ClassVar = {"loss": "loss"}
    preferred: ClassVar = "loss"
    noise: ClassVar = {"loss": -math.inf}

    def __init__(self, config: RunConfig, prepared: PreparedText, device: torch.device) -> None:
        super().__init__(config, device)
        shape, tokens = require_language(config.model), config.train.batch_tokens
        self.prepared, self._dev = prepared, prepared.dev
        self._text: Blocks | Windows
        if shape.window is not None:
            data = config.data
            assert isinstance(data, TextConfig)
            self._text = Windows(prepared.stores, tokens=tokens, length=shape.window, seed=config.seed, documents=data.documents)
        else:
            length, groups = shape.truncate or tokens, config.train.accumulate
            self._text = Blocks(prepared.stores, tokens=tokens, length=length, groups=groups, seed=config.seed)
        self.batches = self._text

    @property
    def dev(self) -> DevSet:
        """See `Task`."""
        return DevSet(self._dev, self._dev)

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `Task`."""
        data = self.config.data
        return {**self.prepared.facts, **({"blank_lines": True} if isinstance(data, TextConfig) and data.keeps_blank_lines else {})}

    def build(self) -> Model:
        """See `Task`."""
        return build_model(self.config.model, self.prepared.vocabularies).to(self.device)

    @property
    def longest_probe(self) -> int:
        """See `Task`: it is written on."""
        window = require_language(self.config.model).window
        return super().longest_probe if window is None else min(super().longest_probe, window - 2)

    def carried(self, model: Model) -> Carried | None:
        """See `Task`."""
        if isinstance(self._text, Windows):
            return None
        assert isinstance(model, CarryingModel)
        return Carried(model, groups=self._text.groups, lanes=self._text.lanes, goes_on=self._text.goes_on)

    def validate(self, model: Model) -> Validation:
        """See `Task`."""
        assert isinstance(model, LanguageModel)
        found = measure_text(model.eval(), self.prepared.vocabularies.target, self._dev)
        return Validation({f"dev_{name}": value for name, value in found.figures().items()}, [])

    def introduce(self) -> tuple[str, Sequence[str]]:
        """See `Task`."""
        facts = self.prepared.facts
        rows = self._text.lanes if isinstance(self._text, Blocks) else self._text.rows
        return f"{facts['lines']:,} lines of {facts['tokens']:,} tokens, read in {rows} x {self._text.length} tokens a batch", ()

    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """See `Task`."""
        text = self.prepared.vocabularies.target
        return {"lanes": [{"ids": row, "text": text.written(row)} for row in batch[0].tolist()]}
