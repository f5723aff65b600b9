"""Tasks: the parts of a training that depend on its kind. Start with `make_task`."""

import torch

from vitrail.data.preparing.prepared import Prepared, PreparedText
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.language_task import LanguageTask
from vitrail.train.tasks.task import Task
from vitrail.train.tasks.translation_task import TranslationTask


def make_task(config: RunConfig, prepared: Prepared | PreparedText, device: torch.device) -> Task:
    """The task for prepared data."""
    match prepared:
        case Prepared():
            return TranslationTask(config, prepared, device)
        case PreparedText():
            return LanguageTask(config, prepared, device)
