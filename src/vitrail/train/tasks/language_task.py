"""The task of a causal language model: text is read block by block, with carried states."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.data.blocks import Block, Blocks
from vitrail.data.preparing.prepared import PreparedText
from vitrail.decode.perplexity import measure_text
from vitrail.errors import UsageError
from vitrail.models.base import LanguageModel, Model
from vitrail.models.build import build_model, require_language
from vitrail.runtime.ranks import join_ranks
from vitrail.train.resume.carry import Carried
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.validate import Validation


class LanguageTask(Task):
    """Text in, a language model out."""

    scores: ClassVar = {"loss": "loss"}
    preferred: ClassVar = "loss"
    noise: ClassVar = {"loss": -math.inf}

    def __init__(self, config: RunConfig, prepared: PreparedText, device: torch.device) -> None:
        super().__init__(config, device)
        shape = require_language(config.model)
        if join_ranks().world > 1:
            raise UsageError("a recurrent language model in several processes", expected="one: states are carried from block to block")
        self.prepared, self._dev = prepared, prepared.dev
        self.batches = self._blocks = Blocks(
            prepared.stores,
            tokens=config.train.batch_tokens,
            length=shape.truncate or config.train.batch_tokens,
            groups=config.train.accumulate,
            seed=config.seed,
        )

    @property
    def has_dev(self) -> bool:
        """See `TaskName`."""
        return bool(self._dev)

    def build(self) -> Model:
        """See `TaskName`."""
        return build_model(self.config.model, self.prepared.vocabularies).to(self.device)

    def carried(self, model: Model) -> Carried:
        """See `TaskName`."""
        assert isinstance(model, LanguageModel)
        return Carried(model, groups=self._blocks.groups, lanes=self._blocks.lanes, goes_on=self._blocks.goes_on)

    def validate(self, model: Model) -> Validation:
        """See `TaskName`."""
        assert isinstance(model, LanguageModel)
        found = measure_text(model.eval(), self.prepared.vocabularies.target, self._dev)
        return Validation({f"dev_{name}": value for name, value in found.figures().items()}, [])

    def introduce(self) -> tuple[str, Sequence[str]]:
        """See `TaskName`."""
        facts = self.prepared.facts
        blocks = f"{self._blocks.lanes} x {self._blocks.length} tokens a block"
        return f"{facts['lines']:,} lines of {facts['tokens']:,} tokens, read in {blocks}", ()

    def written(self, batch: tuple[Tensor, ...]) -> dict[str, Any]:
        """See `TaskName`."""
        text = self.prepared.vocabularies.target
        return {"lanes": [{"ids": row, "text": text.written(row)} for row in Block(*batch).tokens.tolist()]}
