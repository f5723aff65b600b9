"""A run directory as the doctor reads it: without a lock (nothing is written), and with the missing parts listed by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vitrail.config import build, read_toml
from vitrail.data.batches import IdRow
from vitrail.data.preparing.prepared import Prepared, PreparedLabels, PreparedText, open_data
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.sentences.embedding import Embedder
from vitrail.decode.translate import TranslateConfig, Translation, Translator
from vitrail.errors import ModelError, UsageError
from vitrail.evaluation.learned import LONGEST, spread
from vitrail.files import read_json_lines
from vitrail.models.base import AutoregressiveModel, Classifies, LanguageModel, Model, TranslationModel, unique_tensors
from vitrail.models.build import MODEL_KINDS, TASK_MODELS, build_model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.model_folder import LoadedFolder, load_folder, model_folder
from vitrail.train.resume import checkpoints
from vitrail.train.run_config import RunConfig
from vitrail.train.starting.warm_start import as_trained

DEV_SENTENCES = 128
"""Dev sentences to translate and to measure the loss on: 1 s on one core with the Transformer `tiny`. 5 % of them are 6 sentences, more
than chance."""
NOT_FOR = "it does not apply"
"""Begins the reason of a check that a model of another kind has no use for."""
_A_RUN = "the folder of a run, as vitrail train -o FOLDER makes it"
_NEEDS = {"train": ("step",), "validation": ("step",)}
"""Keys that every line of metrics.jsonl has, by its kind."""


@dataclass(frozen=True)
class PairLists:
    """Encoded sentence pairs, without SOS and EOS; lines of a text have empty sources."""

    source: list[IdRow]
    target: list[IdRow]

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class RunUnderTest:
    """The parts of a run's folder; None or empty for missing ones."""

    folder: Path
    device: torch.device
    config: RunConfig | None = None
    prepared: Prepared | PreparedText | None = None
    loaded: LoadedFolder | None = None
    """Of a model that predicts text token by token, with a source or without."""
    reader: LoadedFolder | None = None
    """Of a model that only reads: a masked language model, a classifier."""
    read_lines: tuple[str, ...] = ()
    """The dev text of a classifier."""
    metrics: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    checkpoint: checkpoints.Checkpoint | None = None
    """The newest valid one: weights and optimizer state."""
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """Why a part is missing: "model", "data", "metrics", "state", "config"; also "dev", the dev text, "pairs", sources with targets,
    "network", a model of any kind, and "lines", data of any kind."""
    damaged: tuple[str, ...] = ()
    """Newer checkpoints that cannot be used, with the reason."""

    @property
    def model(self) -> AutoregressiveModel:
        """Precondition: there is one."""
        assert self.loaded is not None and isinstance(self.loaded.model, AutoregressiveModel)
        return self.loaded.model

    @property
    def network(self) -> Model:
        """The model of any kind. Precondition: there is one."""
        found = self.loaded or self.reader
        assert found is not None
        return found.model

    @property
    def data(self) -> Prepared | PreparedText:
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
        """The dev text by the roles of its streams: source and target, or text."""
        data = self.data
        return {"text": data.dev} if isinstance(data, PreparedText) else {"source": data.dev.source, "target": data.dev.target}

    @property
    def longest_line(self) -> int:
        """Tokens of a dev sentence that is read, at most: what fits into the model's context, and into memory."""
        context = self.model.context if self.loaded is not None and isinstance(self.model, LanguageModel) else None
        return LONGEST if context is None else min(LONGEST, context - 1)

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

        Of a text, lines with empty sources; an autoencoder has each line on both sides.
        """
        if isinstance(self.data, PreparedText):
            lines = _some_lines(self.data.dev)
            return lines if self.is_autoencoder else [""] * len(lines), lines
        first = {source: target for source, target in zip(*reversed_sides(self.data.dev), strict=True) if source.strip()}
        chosen = spread(len(first), DEV_SENTENCES)
        pairs = list(first.items())
        return [pairs[place][0] for place in chosen], [pairs[place][1] for place in chosen]

    @cached_property
    def dev_pairs(self) -> PairLists:
        """`dev_sentences` encoded with the model's vocabularies; only pairs of 1 to `LONGEST` tokens a side. Lines of a text are cut."""
        source, target = self.dev_sentences
        if isinstance(self.data, PreparedText):
            lines: list[IdRow] = [line[: self.longest_line] for line in self.vocabularies.target.encode_batch(target) if line]
            return PairLists(lines if self.is_autoencoder else [()] * len(lines), lines)
        rows = zip(self.vocabularies.source.encode_batch(source), self.vocabularies.target.encode_batch(target), strict=True)
        short = [pair for pair in rows if all(0 < len(side) <= LONGEST for side in pair)]
        return PairLists([source for source, _ in short], [target for _, target in short])

    @property
    def unit(self) -> str:
        """What the loss is of: a token, or an example of a classifier."""
        return "example" if isinstance(self.reader and self.reader.model, Classifies) else "token"

    @property
    def is_autoencoder(self) -> bool:
        """Whether its model gives back the line that it reads."""
        return self.loaded is not None and isinstance(self.loaded.model, AutoencoderModel)

    @cached_property
    def dev_rows(self) -> list[IdRow]:
        """Lines of the dev text for a model that only reads, encoded as it reads them. Precondition: there is one."""
        assert self.reader is not None
        embedder = Embedder.of(self.reader, name=str(self.folder))
        text = self.prepared.dev if isinstance(self.prepared, PreparedText) else self.read_lines
        return [row[:LONGEST] for line in _some_lines(text) if (row := embedder.encode(line))]

    @cached_property
    def translations(self) -> list[Translation]:
        """Translations of `dev_sentences`: greedy, and without the repetition guard, which would hide loops."""
        search = SearchConfig(beams=1, repeat_ngram=0, max_extra=20)
        config = TranslateConfig(search=search, exact=False)
        assert isinstance(self.model, TranslationModel), "asked of pairs alone"
        translator = Translator(self.model, vocabularies=self.vocabularies, config=config, device=self.device)
        return translator.translate(self.dev_sentences[0])


def _some_lines(text: Sequence[str]) -> list[str]:
    """`DEV_SENTENCES` different lines, evenly spread over a text."""
    lines = list(dict.fromkeys(line for line in text if line.strip()))
    return [lines[place] for place in spread(len(lines), DEV_SENTENCES)]


def reversed_sides(texts: Any) -> tuple[list[str], list[str]]:
    """Source and target, last pair first, so that a dictionary keeps the first of equal sources."""
    return texts.source[::-1], texts.target[::-1]


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
    missing |= {other: missing[name] for name, other in (("model", "network"), ("data", "lines")) if name in missing}
    prepared = open_data(folder / "data") if here["data"] else None
    labelled: tuple[str, ...] = ()
    if isinstance(prepared, PreparedLabels):
        missing["data"] = missing["pairs"] = f"{NOT_FOR}: a classifier has texts and labels"
        prepared, labelled = None, tuple(prepared.dev.source)
    if not labelled and (prepared is None or not (prepared.dev if isinstance(prepared, PreparedText) else prepared.dev.source)):
        missing["dev"] = "there is no dev text"
    loaded, reader = load_folder(folder, device=place) if here["model"] else None, None
    if loaded is not None and not isinstance(loaded.model, AutoregressiveModel):
        missing["model"], loaded, reader = f"{NOT_FOR} to {TASK_MODELS[MODEL_KINDS[loaded.config.kind].task]}", None, loaded
    if isinstance(prepared, PreparedText) or (loaded is not None and not isinstance(loaded.model, TranslationModel)):
        known = loaded or reader
        model = "a language model" if known is None else TASK_MODELS[MODEL_KINDS[known.config.kind].task]
        missing["pairs"] = f"{NOT_FOR}: {model} has no pairs of sentences"
    checkpoint, damaged = _newest(folder) if here["state"] else (None, ())
    if here["state"] and checkpoint is None:
        missing["state"] = "no checkpoint can be used"
    return RunUnderTest(
        folder=folder,
        device=place,
        config=_config(folder / "config.toml") if here["config"] else None,
        prepared=prepared,
        loaded=loaded,
        reader=reader,
        read_lines=labelled,
        metrics=read_json_lines(folder / "metrics.jsonl", needs=_NEEDS) if here["metrics"] else [],
        checkpoint=checkpoint,
        missing=missing,
        damaged=damaged,
    )


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
