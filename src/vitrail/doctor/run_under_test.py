"""A run directory as the doctor reads it: without a lock (nothing is written), and with the missing parts listed by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vitrail.config import build, read_toml
from vitrail.data.batches import Batch, IdRow
from vitrail.data.examples.labelled import LabelledBatch, Labelling
from vitrail.data.examples.masking import MaskedBatch, Masking
from vitrail.data.preparing.prepared import AnyPrepared, Prepared, PreparedLabels, PreparedText, open_data
from vitrail.data.vocabularies.subwords import EOS, Vocabularies
from vitrail.decode.forced import make_batch
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig, Translation, Translator
from vitrail.errors import ModelError, UsageError
from vitrail.evaluation.learned import LONGEST, spread
from vitrail.files import read_json_lines
from vitrail.models.architectures import TASK_MODELS, TaskName, task_of
from vitrail.models.base import AutoregressiveModel, LanguageModel, Model, TranslationModel, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.model_folder import LoadedFolder, load_folder
from vitrail.models.stored import model_folder
from vitrail.train.resume import checkpoints
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.warm_start import as_trained

DEV_SENTENCES = 128
"""Dev sentences to translate and to measure the loss on: 1 s on one core with the Transformer `tiny`. 5 % of them are 6 sentences, more
than chance."""
_A_RUN = "the folder of a run, as vitrail train -o FOLDER makes it"
_NEEDS = {"train": ("step",), "validation": ("step",)}
"""Keys that every line of metrics.jsonl has, by its kind."""


@dataclass(frozen=True)
class PairLists:
    """What a model is given of the dev text, without SOS and EOS. A language model has empty sources, a masked one empty targets; the
    target of a classifier's text is its labels, that of an autoencoder's sentence the sentence."""

    source: list[IdRow]
    target: list[IdRow]

    def __len__(self) -> int:
        return len(self.source)

    def longest_first(self) -> list[int]:
        """The places of the rows, the longest first, by the source where there is one."""
        return sorted(range(len(self)), key=lambda place: -len(self.source[place] or self.target[place]))


@dataclass(frozen=True)
class RunUnderTest:
    """The parts of a run's folder; None or empty for missing ones."""

    folder: Path
    device: torch.device
    config: RunConfig | None = None
    prepared: AnyPrepared | None = None
    loaded: LoadedFolder | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    checkpoint: checkpoints.Checkpoint | None = None
    """The newest valid one: weights and optimizer state."""
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """Why a part is missing: "model", "data", "metrics", "state", "config"; also "dev", the dev text, "pairs",
    sources with translations, "written", what a model writes from a source, and "answers", what it says of a text as a whole."""
    damaged: tuple[str, ...] = ()
    """Newer checkpoints that cannot be used, with the reason."""

    @property
    def model(self) -> Model:
        """Precondition: there is one."""
        assert self.loaded is not None
        return self.loaded.model

    @property
    def writer(self) -> AutoregressiveModel:
        """Precondition: there is a model, which predicts text token by token."""
        assert isinstance(self.model, AutoregressiveModel)
        return self.model

    @property
    def task(self) -> TaskName:
        """What the model is for, or was trained for."""
        return _task(self.loaded, self.config, self.prepared)

    @property
    def data(self) -> AnyPrepared:
        """Precondition: there is prepared data."""
        assert self.prepared is not None
        return self.prepared

    @property
    def pairs(self) -> Prepared:
        """Precondition: there is prepared data, of pairs."""
        assert isinstance(self.prepared, Prepared)
        return self.prepared

    @property
    def dev_texts(self) -> dict[str, list[str]]:
        """The dev text by the roles of its streams: source and target, or text; of a classifier the source alone."""
        match self.data:
            case PreparedText(dev=lines):
                return {"text": lines}
            case PreparedLabels(dev=examples):
                return {"source": examples.source}
            case Prepared(dev=pairs):
                return {"source": pairs.source, "target": pairs.target}
            case _:
                raise AssertionError("there is no other kind")

    @property
    def longest_line(self) -> int:
        """Tokens of a dev sentence that is read, at most: what fits into the model's context, and into memory."""
        match self.model if self.loaded is not None else None:
            case LanguageModel(context=int(context)):
                room = context - 1
            case MaskedLanguageModel() as model:
                room = model.config.context - 2
            case ClassifierModel() as model:
                room = model.config.context - 1 - model.marks_start
            case AutoencoderModel() as model:
                room = model.config.context - 1
            case _:
                room = LONGEST
        return min(LONGEST, room)

    @property
    def vocabularies(self) -> Vocabularies:
        """The model's vocabularies, or those of the data where there is no model."""
        return self.loaded.vocabularies if self.loaded is not None else self.data.vocabularies

    @property
    def checkpoint_is_foreign(self) -> bool:
        """Whether the checkpoint's weights do not match the configuration and the data's vocabularies."""
        assert self.checkpoint is not None and self.config is not None
        with torch.device("meta"):
            model = build_model(self.config.model, self.data.vocabularies)
            as_trained(model, self.config, self.checkpoint.facts.get("init", {}))
            wanted = unique_tensors(model)
        return checkpoints.specs(self.checkpoint.tensors["model"]) != checkpoints.specs(wanted)

    @cached_property
    def dev_sentences(self) -> tuple[list[str], list[str]]:
        """`DEV_SENTENCES` pairs of the dev text with different sources, evenly spread over it.

        Lines of a language model have empty sources, those of a masked one empty targets; an autoencoder's are both.
        """
        if isinstance(self.data, PreparedText):
            lines = list(dict.fromkeys(line for line in self.data.dev if line.strip()))
            chosen = [lines[place] for place in spread(len(lines), DEV_SENTENCES)]
            none = [""] * len(chosen)
            return none if self.task == "language" else chosen, none if self.task == "masked" else chosen
        first = {source: target for source, target in zip(*reversed_sides(self.data.dev), strict=True) if source.strip()}
        chosen = spread(len(first), DEV_SENTENCES)
        pairs = list(first.items())
        return [pairs[place][0] for place in chosen], [pairs[place][1] for place in chosen]

    @cached_property
    def dev_pairs(self) -> PairLists:
        """`dev_sentences` encoded with the model's vocabularies.

        Of a translator or an autoencoder, those of 1 token to `longest_line` a side. Other models read lines and texts as far as that.
        """
        source, target = self.dev_sentences
        rows = list(zip(self.vocabularies.source.encode_batch(source), self.vocabularies.target.encode_batch(target), strict=True))
        most = self.longest_line
        if self.task in ("translation", "autoencoding"):
            rows = [pair for pair in rows if all(0 < len(side) <= most for side in pair)]
        elif self.task == "classification":  # a label that the model does not know is nothing to ask for
            rows = [(text[:most], labels) for text, labels in rows if text and all(label > EOS for label in labels)]
        else:
            rows = [(text[:most], line[:most]) for text, line in rows if text or line]
        return PairLists([source for source, _ in rows], [target for _, target in rows])

    def batch(self, places: Sequence[int]) -> Batch | MaskedBatch | LabelledBatch:
        """Some of `dev_pairs` as the model is trained on them, on its device. Precondition: there is a model."""
        source, target = ([side[place] for place in places] for side in (self.dev_pairs.source, self.dev_pairs.target))
        match self.model:
            case AutoregressiveModel() as model:
                return make_batch(model, source, target)
            case MaskedLanguageModel(config=shape):
                hide = Masking.of(self.vocabularies.target, share=shape.mask_share, whole_words=shape.whole_words)
                return MaskedBatch(*(part.to(self.device) for part in hide(source, seed=0)))
            case ClassifierModel() as model:
                label = Labelling(model.head.labels, bool(model.marks_start))
                return LabelledBatch(*(part.to(self.device) for part in label(source, target)))
            case _:
                raise AssertionError("there is no other kind")

    @cached_property
    def outputs(self) -> list[Translation]:
        """What is written for each of `dev_sentences`: greedy, and without the repetition guard, which would hide loops."""
        search = SearchConfig(beams=1, repeat_ngram=0, max_extra=20)
        config = TranslateConfig(search=search, exact=False)
        assert isinstance(self.model, TranslationModel), "nothing else writes from a source"
        translator = Translator(self.model, vocabularies=self.vocabularies, config=config, device=self.device)
        return translator.translate(self.dev_sentences[0])


def reversed_sides(texts: Any) -> tuple[list[str], list[str]]:
    """Both sides, last pair first, so that a dictionary keeps the first of equal sources."""
    return texts[0][::-1], texts[1][::-1]


def _task(loaded: LoadedFolder | None, config: RunConfig | None, prepared: AnyPrepared | None) -> TaskName:
    if loaded is not None:
        return task_of(loaded.config)
    if config is not None:
        return task_of(config.model)
    return "language" if isinstance(prepared, PreparedText) else "classification" if isinstance(prepared, PreparedLabels) else "translation"


def read_run_folder(folder: Path, *, device: torch.device | None = None) -> RunUnderTest:
    """Read the folder of a run, or of a model. Nothing is written, so a running training is not disturbed.

    Raises ModelError where the folder is missing, is neither a run nor a model, or a part of it is damaged.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder", expected=_A_RUN)
    place = torch.device("cpu") if device is None else device
    is_model = (folder / "config.json").exists()
    here = {
        "config": (folder / "config.toml").exists(),
        "data": (folder / "data" / "prepared.json").exists(),
        "model": is_model or model_folder(folder) != folder,
        "metrics": (folder / "metrics.jsonl").exists(),
        "state": bool(checkpoints.checkpoints(folder)),
    }
    if not any(here.values()):
        raise ModelError(f"{folder}: no run: it has no config.toml, data/, model/, metrics.jsonl or state/", expected=_A_RUN)
    missing = {name: _ABSENT[name] for name, there in here.items() if not there}
    prepared = open_data(folder / "data") if here["data"] else None
    if prepared is None or not (prepared.dev if isinstance(prepared, PreparedText) else prepared.dev.source):
        missing["dev"] = "there is no dev text"
    loaded = load_folder(folder, device=place) if here["model"] else None
    config = _config(folder / "config.toml") if here["config"] else None
    missing |= _unfitting(_task(loaded, config, prepared))
    checkpoint, damaged = _newest(folder) if here["state"] else (None, ())
    if here["state"] and checkpoint is None:
        missing["state"] = "no checkpoint can be used"
    return RunUnderTest(
        folder=folder,
        device=place,
        config=config,
        prepared=prepared,
        loaded=loaded,
        metrics=read_json_lines(folder / "metrics.jsonl", needs=_NEEDS) if here["metrics"] else [],
        checkpoint=checkpoint,
        missing=missing,
        damaged=damaged,
    )


def _unfitting(task: TaskName) -> dict[str, str]:
    """The parts that a model of some task does not have, with the reason."""
    what = f"it does not apply: {TASK_MODELS[task]}"
    pairs = {} if task == "translation" else {"pairs": f"{what} is not trained on pairs of sentences"}
    match task:
        case "translation" | "autoencoding":
            return pairs
        case "classification":
            return {**pairs, "written": f"{what} writes no text"}
        case "masked":
            return {**pairs, "written": f"{what} writes no text", "answers": f"{what} guesses single tokens"}
        case "language":
            return {**pairs, "written": f"{what} has no source", "answers": f"{what} has no source"}


_ABSENT = {
    "config": "there is no config.toml",
    "data": "there is no data/",
    "model": "there is no model/ yet",
    "metrics": "there is no metrics.jsonl",
    "state": "there is no checkpoint in state/",
}


def _config(path: Path) -> RunConfig:
    try:
        return build(RunConfig, read_toml(path), origin=str(path))
    except UsageError as error:  # Elsewhere users write this file; here a file of the run is damaged, or of another version.
        raise ModelError(error.found, expected="the configuration that vitrail train wrote", remedy="copy the file again") from None


def _newest(folder: Path) -> tuple[checkpoints.Checkpoint | None, tuple[str, ...]]:
    """The newest readable checkpoint, and why newer ones are not; a checkpoint pruned meanwhile is ignored."""
    refused: list[str] = []
    for path in reversed(checkpoints.checkpoints(folder)):
        try:
            found = checkpoints.load_checkpoint(path, expected={"model": None, "optimizer": None})
        except ModelError as error:
            if path.exists():
                refused.append(error.found)
            continue
        return found, tuple(refused)
    return None, tuple(refused)
