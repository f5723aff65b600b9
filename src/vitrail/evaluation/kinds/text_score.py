"""The score of a model that is trained on plain text, on a given text: one figure or several, by its task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vitrail.decode.generate import Generator
from vitrail.decode.sentences.autoencoder import Autoencoder
from vitrail.decode.sentences.masked import MaskFiller
from vitrail.errors import ModelError
from vitrail.evaluation.kinds.reconstruction_score import score_reconstruction
from vitrail.models.base import LanguageModel
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.model_folder import load_folder
from vitrail.runtime.device import Device, choose_device, set_threads


class TextScore(Protocol):
    """What is measured on a text."""

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        ...

    def to_text(self) -> str:
        """The figures in one line."""
        ...


def measure_folder(folder: Path, lines: Sequence[str], *, device: Device = "cpu", threads: int | None = None) -> TextScore:
    """Score the model of a run's folder or a model folder on some lines.

    Returns: perplexity of a language model; of a masked one that of hidden tokens; of an autoencoder how many lines it gives back.
    Raises:  ModelError for a damaged folder or a model of another task, UsageError for a text of empty lines.
    """
    if threads is not None:
        set_threads(threads)
    loaded = load_folder(folder, device=choose_device(device))
    vocabulary, facts = loaded.vocabularies.target, loaded.facts
    match loaded.model:
        case LanguageModel() as model:
            return Generator(model, vocabulary, facts=facts).measure(lines)
        case MaskedLanguageModel() as model:
            return MaskFiller(model, vocabulary, facts=facts).measure(lines)
        case AutoencoderModel() as model:
            return score_reconstruction(Autoencoder(model, loaded.vocabularies, facts=facts), lines)
        case _:
            expected = "a language model, masked or not, or an autoencoder"
            raise ModelError(f"{folder}: holds a model that is not trained on plain text", expected=expected)
