"""Tasks: the parts of a training that depend on its kind. Start with `make_task`."""

import torch

from vitrail.data.preparing.prepared import AnyPrepared, Prepared, PreparedLabels, PreparedText
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.autoencoding_task import AutoencodingTask
from vitrail.train.tasks.classification_task import ClassificationTask
from vitrail.train.tasks.language_task import LanguageTask
from vitrail.train.tasks.masked_task import MaskedTask
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.translation_task import TranslationTask


def make_task(config: RunConfig, prepared: AnyPrepared, device: torch.device) -> Task:
    """The task of a run with its prepared data."""
    match prepared, config.task:
        case Prepared(), _:
            return TranslationTask(config, prepared, device)
        case PreparedLabels(), _:
            return ClassificationTask(config, prepared, device)
        case PreparedText(), "masked":
            return MaskedTask(config, prepared, device)
        case PreparedText(), "autoencoding":
            return AutoencodingTask(config, prepared, device)
        case PreparedText(), _:
            return LanguageTask(config, prepared, device)
