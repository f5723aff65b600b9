"""The run directory: the names of its files, and how each is recognised.

runs/en-fr/  config.toml  choices.json  log.txt  metrics.jsonl  samples.jsonl  film.jsonl  scores.json  test.translated
             start.json  gains.json
             data/  state/  model/  bad_batches/  tensorboard/  .lock

A process that trains or prepares there has the lock of the folder; data/, state/ and model/ belong to it.
"""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitrail.config import build, read_toml, to_toml
from vitrail.data.any_config import AnyData
from vitrail.data.preparing.fingerprints import input_files
from vitrail.data.preparing.holder import holds_comparison
from vitrail.data.preparing.paths import find_texts, with_full_names
from vitrail.data.preparing.prepared import is_prepared, open_data
from vitrail.errors import UsageError, VitrailError
from vitrail.files import Recognise, holds, is_json_with, is_log_with, is_published, require_folder, require_own, start_of
from vitrail.models.stored import is_model
from vitrail.train.resume import checkpoints

CONFIG, CHOICES = "config.toml", "choices.json"
_HALF_SAVED = re.compile(r"step-\d{6,18}\.(?:vitrail-)?(?:tmp|old)-\d+")
"""Partial files of a process killed at its first checkpoint; earlier releases used a shorter name."""
_TABLES = frozenset({"data", "model", "optimizer", "schedule", "train", "search", "seed"})
"""Keys of every run's configuration; a user's file of settings has some of them."""


_FOLDERS = frozenset({"data", "state", "model", "bad_batches", "tensorboard"})


def require_own_run(folder: Path, *, inputs: Iterable[Path] = (), settings: Iterable[Path] = ()) -> None:
    """Refuse to train in a folder with foreign files under the names that a run writes. Nothing is changed.

    Args:
        inputs: files that are read: text.
        settings: files of settings. The run's own, as the run wrote it, is allowed: the same is written again.
    Raises: UsageError that names the foreign files.
    """
    require_folder(folder)
    if holds_comparison(folder):
        raise UsageError(
            f"{folder}: is a comparison", expected="a folder for the run alone; nothing was changed", remedy="-o with another name"
        )
    require_no_part(folder)
    own = folder / CONFIG
    if not _is_config(own) and any(path.exists() and own.exists() and path.samefile(own) for path in settings):
        raise UsageError(
            f"{own}: is an input file, and the run would overwrite it with its configuration",
            expected="settings in a file of another name or place; nothing was changed",
            remedy="-o with another name, or rename the file",
        )
    places: dict[str, Recognise] = {"state": _is_state, "model": is_model, "data": is_prepared}
    if not checkpoints.checkpoints(folder):  # a started run owns these names; the files may be damaged
        places |= _FILES
    require_own({folder / name: recognise for name, recognise in places.items()}, what="a run", inputs=inputs)


def require_no_part(folder: Path) -> None:
    """Refuse a folder that belongs to a run: one of those that a run writes, or one in it. Raises UsageError that names the run."""
    path = folder.absolute()
    for around in path.parents:
        if path.relative_to(around).parts[0] in _FOLDERS and _is_config(around / CONFIG):
            raise UsageError(
                f"{folder}: is a part of the run {around}",
                expected="a folder outside it; nothing was changed",
                remedy="-o with another name",
            )


def kept_fingerprint(folder: Path, data: AnyData) -> dict[str, Any] | None:
    """The fingerprint of a run's data, if the run has the same text (by file names) and some of it, or a vocabulary that it took, is gone.

    Then the run can resume without them; None wherever text has to be read.
    """
    if all(map(os.path.lexists, [*input_files(data), *data.subwords.folders()])):
        return None
    try:
        own = build(type(data), find_texts(read_toml(folder / CONFIG), folder)["data"], origin=str(folder / CONFIG))
        same = with_full_names(own).texts() == with_full_names(data).texts()
        return open_data(folder / "data").fingerprint if same else None
    except (VitrailError, KeyError):
        return None


def is_begun(folder: Path) -> bool:
    """Whether a run's folder has a model or a checkpoint."""
    return holds_model(folder) or bool(checkpoints.checkpoints(folder))


def holds_model(folder: Path) -> bool:
    """Whether a run's folder has a model, good or damaged."""
    return is_model(folder / "model")


def _is_state(path: Path) -> bool:
    """Whether a folder has our checkpoints; other files in it are not touched."""
    ours = any(is_published(step) or (step / checkpoints.STATE).exists() for step in checkpoints.checkpoints(path.parent))
    return ours or all(_HALF_SAVED.fullmatch(entry.name) for entry in path.iterdir())


def _is_config(path: Path) -> bool:
    """Whether a file is exactly a run's configuration: one written or edited by hand is not."""
    try:
        text = path.read_bytes().decode()
        table: dict[str, Any] = tomllib.loads(text)
    except (OSError, ValueError):
        return False
    return table.keys() >= _TABLES and to_toml(table) == text


def _is_choices(path: Path) -> bool:
    data = start_of(path)
    return not data.strip(b"[]\n ") or holds(b'"name":', b'"value":', b'"reason":')(path)


def _holds_batches(path: Path) -> bool:
    return path.is_dir() and any(path.glob("step-*-batch-*.json"))


_FILES: dict[str, Recognise] = {
    CONFIG: _is_config,
    CHOICES: _is_choices,
    "metrics.jsonl": is_log_with("step", "kind"),
    "samples.jsonl": is_log_with("step", "source", "reference", "translation"),
    "film.jsonl": is_log_with("step", "format", "probes"),
    "log.txt": holds(b" INFO "),
    "scores.json": is_json_with("step", "lines"),
    "test.translated": lambda path: is_json_with("step", "lines")(path.with_name("scores.json")),
    "start.json": is_json_with("of", "model", "translations"),
    "gains.json": is_json_with("decided_by", "lines", "sets"),
    "process.json": is_json_with("peak_memory_bytes", "error"),
    "bad_batches": _holds_batches,
    "tensorboard": lambda path: path.is_dir() and any(path.glob("events.out.tfevents.*")),
}
