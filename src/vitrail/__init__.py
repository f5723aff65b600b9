"""Vitrail: train your own translator from parallel text, and see through it.

import vitrail
translator = vitrail.train_translator("corpus.en", "corpus.fr", "runs/en-fr")
print(translator.translate("I am good.").text)
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitrail import renamed
from vitrail.runtime.cores import keep_few_kernels, wait_briefly
from vitrail.version import __version__

if TYPE_CHECKING:
    from vitrail.api import train_classifier, train_language_model, train_translator
    from vitrail.config import Duration
    from vitrail.decode.generate import Generated, Generator
    from vitrail.decode.search_config import SamplingConfig, SearchConfig, TranslateConfig
    from vitrail.decode.sentences.autoencoder import Autoencoder
    from vitrail.decode.sentences.classify import Classified, Classifier
    from vitrail.decode.sentences.embedding import Embedder
    from vitrail.decode.sentences.masked import Guess, MaskFiller
    from vitrail.decode.textual.results import Translation
    from vitrail.decode.textual.text_constraints import TextConstraints
    from vitrail.decode.translate import Translator
    from vitrail.errors import DataError, Interrupted, ModelError, Stopped, TrainingError, UsageError, VitrailError
    from vitrail.inspection.generator import InspectableGenerator
    from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller
    from vitrail.inspection.record import Inspection
    from vitrail.inspection.translator import InspectableTranslator
    from vitrail.train.run_config import RunConfig
    from vitrail.vectors.formats.table import load_vectors
    from vitrail.vectors.word_vectors import WordVectors

__all__ = [
    "Autoencoder",
    "Classified",
    "Classifier",
    "DataError",
    "Duration",
    "Embedder",
    "Generated",
    "Generator",
    "Guess",
    "InspectableClassifier",
    "InspectableFiller",
    "InspectableGenerator",
    "InspectableTranslator",
    "Inspection",
    "Interrupted",
    "MaskFiller",
    "ModelError",
    "RunConfig",
    "SamplingConfig",
    "SearchConfig",
    "Stopped",
    "TextConstraints",
    "TrainingError",
    "TranslateConfig",
    "Translation",
    "Translator",
    "UsageError",
    "VitrailError",
    "WordVectors",
    "__version__",
    "load",
    "load_vectors",
    "train_classifier",
    "train_language_model",
    "train_translator",
]

# Importing torch takes seconds, so each public name is fetched when it is first used (PEP 562).
_HOMES = {
    "vitrail.api": ("train_classifier", "train_language_model", "train_translator"),
    "vitrail.config": ("Duration",),
    "vitrail.decode.search_config": ("SamplingConfig", "SearchConfig", "TranslateConfig"),
    "vitrail.decode.sentences.classify": ("Classified", "Classifier"),
    "vitrail.decode.sentences.autoencoder": ("Autoencoder",),
    "vitrail.decode.sentences.embedding": ("Embedder",),
    "vitrail.decode.generate": ("Generated", "Generator"),
    "vitrail.decode.sentences.masked": ("Guess", "MaskFiller"),
    "vitrail.decode.textual.results": ("Translation",),
    "vitrail.decode.textual.text_constraints": ("TextConstraints",),
    "vitrail.decode.translate": ("Translator",),
    "vitrail.errors": ("DataError", "Interrupted", "ModelError", "Stopped", "TrainingError", "UsageError", "VitrailError"),
    "vitrail.inspection.generator": ("InspectableGenerator",),
    "vitrail.inspection.reading.reader": ("InspectableClassifier", "InspectableFiller"),
    "vitrail.inspection.record": ("Inspection",),
    "vitrail.inspection.translator": ("InspectableTranslator",),
    "vitrail.train.run_config": ("RunConfig",),
    "vitrail.vectors.formats.table": ("load_vectors",),
    "vitrail.vectors.word_vectors": ("WordVectors",),
}

renamed.install()
keep_few_kernels()
wait_briefly()  # before anything imports torch, and for every way in: the program, `python -m`, a script, a process that one starts


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    return renamed.names(__name__, {"Wishes": "vitrail.decode.textual.text_constraints:TextConstraints"})(name)


def __dir__() -> list[str]:
    return sorted(__all__)


_CLASSES = {
    "language": ("vitrail.inspection.generator", "InspectableGenerator"),
    "masked": ("vitrail.inspection.reading.reader", "InspectableFiller"),
    "classification": ("vitrail.inspection.reading.reader", "InspectableClassifier"),
}
"""What `load` returns of each task of its own; an autoencoder translates into the same words."""


def load(
    path: str | Path,
    *others: str | Path,
    engine: str = "auto",
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    threads: int | None = None,
    config: "TranslateConfig | None" = None,
    search: "SearchConfig | Mapping[str, Any] | None" = None,
) -> Any:
    """Load a model from a run's folder or a model folder, as what its kind can do.

    An `InspectableTranslator`; of a language model an `InspectableGenerator`; of a masked one an `InspectableFiller`; of a classifier an
    `InspectableClassifier`.
    Several translators of the same vocabulary translate together. A program for one kind of model alone may call that class's `load`.

    Args:
        engine: what computes: auto or torch; only torch can be looked into.
        threads: processor threads for this whole process (0: one for each core); None leaves them as they are.
        config: how texts are cut and batched.
        search: how to search, or what to change of how the (first) model was configured to, such as {"beams": 1, "max_length": 80}.
    Raises:  ModelError where a folder is missing or damaged, or the models have different vocabularies; UsageError for another
        kind of model with what only translators have: other models, engine, config or search.
    """
    from vitrail.models.stored import task_of_folder

    task = task_of_folder(Path(path))
    if task in _CLASSES:
        from vitrail.errors import UsageError
        from vitrail.models.architectures import TASK_MODELS

        if others or engine != "auto" or config is not None or search is not None:
            expected = f"{TASK_MODELS[task]} by itself"
            expected += "; how to search or draw is said with each call of generate" * (task == "language")
            remedy = f"vitrail.load({str(path)!r}), with device or threads alone"
            raise UsageError(f"{path}: {TASK_MODELS[task]}, with other models or settings of translators", expected=expected, remedy=remedy)
        home, name = _CLASSES[task]
        return getattr(import_module(home), name).load(path, device=device, threads=threads)
    from vitrail.inspection.translator import InspectableTranslator

    return InspectableTranslator.load(path, *others, engine=engine, device=device, threads=threads, config=config, search=search)
