"""Paths of a run's text: stored in full, and found again when the run and its text were moved together."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from vitrail.data.any_config import LISTS, AnyData
from vitrail.data.reading.lines import STDIN
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.text_config import TextFile

DataT = TypeVar("DataT", bound=AnyData)
AnyText = TypeVar("AnyText", bound=ParallelText | TextFile)
_VOCABULARIES = ("taken_from", "source_from", "target_from")
_TEXTS = ("dev", "test", "old_dev")
_FOUND = (*LISTS.values(), "more_dev")
_LISTS = (*_FOUND, "old")


def with_full_names(config: DataT) -> DataT:
    """The same with absolute file names, so that they are found from any folder."""
    changed: dict[str, Any] = {name: _in_full(text) for name in _TEXTS if (text := getattr(config, name, None)) is not None}
    several = {name: tuple(map(_in_full, texts)) for name in _LISTS if (texts := getattr(config, name, None)) is not None}
    named = {name: full_name(folder) for name in _VOCABULARIES if (folder := getattr(config.subwords, name)) is not None}
    return config.model_copy(update=changed | several | {"subwords": config.subwords.model_copy(update=named)})


def _in_full(text: AnyText) -> AnyText:
    return text.model_copy(update={side: full_name(path) for side in ("source", "target") if (path := getattr(text, side)) is not None})


def full_name(path: Path) -> Path:
    """The absolute name of a file or a folder."""
    if path == STDIN:
        return path
    with suppress(OSError):  # the current folder was deleted
        return Path(os.path.normpath(path.absolute()))
    return path


def find_texts(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration of the run in `folder`, its text where it is now.

    A missing file is searched for in the folders above the run, by the longest end of its name that exists there. So a project may be moved
    with its text and its runs, and the relative names of older configurations work from anywhere. When the training resumes, the bytes are
    checked too.
    """
    data = table.get("data")
    if not isinstance(data, dict):
        return table
    parts: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
    for name in _FOUND:
        if isinstance(parts.get(name), list):
            parts[name] = [_found(text, folder) for text in parts[name]]
    # Not those of an old model: each run has files of the same names itself, and what is prepared holds it.
    for name in ("dev", "test"):
        if name in parts:
            parts[name] = _found(parts[name], folder)
    return {**table, "data": parts}


def _found(text: Any, folder: Path) -> Any:
    if not isinstance(text, dict):
        return text
    named: dict[str, Any] = dict(text)  # pyright: ignore[reportUnknownArgumentType]
    for side in ("source", "target"):
        if isinstance(named.get(side), str):
            named[side] = str(_near(Path(named[side]), folder))
    return named


def _near(path: Path, folder: Path) -> Path:
    with suppress(OSError, ValueError):
        if path == STDIN or path.exists():
            return path
        return next((place for place in _places(path, folder.absolute()) if place.is_file()), path)
    return path


def _places(path: Path, folder: Path) -> Iterator[Path]:
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for start in range(len(parts)):
        for above in (folder, *folder.parents):
            yield above.joinpath(*parts[start:])
