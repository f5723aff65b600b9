"""Ownership of files: existing files are checked before writing, and foreign ones are refused before anything changes."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vitrail.errors import ModelError, UsageError
from vitrail.files.manifest import MANIFEST, others_in, read_manifest

Recognise = Callable[[Path], bool]
"""Whether the file or folder at a path is of the kind that we write there. For a damaged one, some sign of ours is enough."""

_LOOKED_AT_BYTES = 1 << 20
_SHOWN = 4
LEFT_OVER = re.compile(r"(?P<name>.+)\.vitrail-(?P<kind>tmp|old)-\d+")
"""Names of partial files of a killed process, and of folders that it set aside. Only we use such names; `sweep` removes them."""
_OF_THE_DESKTOP = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.directory")
"""Files that file managers leave in every opened folder; they do not count as foreign."""


def require_own(places: Mapping[Path, Recognise], *, what: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse to overwrite foreign files. Nothing is changed in any case.

    Args:
        places: everything that is to be written or replaced. Missing and empty ones may be written.
        what: what is to be written, in words: "a run", "this comparison".
        inputs: files that are read; none of them may be in a place that is written.
    Raises: UsageError that names the foreign files.
    """
    foreign = [path for path, recognise in places.items() if _holds_something(path) and not recognise(path)]
    if foreign:
        shown = ", ".join(map(_shown, foreign[:_SHOWN]))
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        whose = "wrote as something else" if all(map(is_published, foreign)) else "did not write"
        raise UsageError(
            f"{foreign[0].parent}: holds {shown}{more}, which vitrail {whose}",
            expected=f"a folder for {what} without other files of these names; nothing was changed",
            remedy="-o with another name, or move away what is there",
        )
    for given in inputs:
        at = given.resolve()
        inside = next((place for place in places if place.exists() and (place.resolve() == at or place.resolve() in at.parents)), None)
        if inside is not None:
            raise UsageError(
                f"{given}: is an input file, and {what} would overwrite it",
                expected="text and settings in another place; nothing was changed",
                remedy="-o with another name, or move the file",
            )


def require_apart(output: Path, *, inputs: Iterable[Path]) -> None:
    """Refuse to write a folder or a file in the place of what it is made of. Args: inputs: files, and folders of models and of runs.

    Raises: UsageError that names it.
    """
    for given in inputs:
        if any(output.exists() and place.exists() and output.samefile(place) for place in (given, given / "model")):
            raise UsageError(
                f"{output}: would replace what it is made of ({given})",
                expected="another place; nothing was changed",
                remedy="-o with another name",
            )


def require_folder(path: Path) -> None:
    """Refuse a path that exists and is no folder. Raises UsageError."""
    if os.path.lexists(path) and not path.is_dir():
        raise UsageError(f"{path}: is not a folder", expected="the name of a folder, new or there already", remedy="-o with another name")


def _shown(path: Path) -> str:
    if not path.is_dir():
        return path.name
    inside = sorted(entry.name for entry in path.iterdir() if not _OF_THE_DESKTOP.fullmatch(entry.name))
    return f"{path.name}/ (with {', '.join(inside[:2])}{', ...' if len(inside) > 2 else ''})"


def _holds_something(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return not all(_OF_THE_DESKTOP.fullmatch(entry.name) or LEFT_OVER.fullmatch(entry.name) for entry in path.iterdir())
    return os.path.lexists(path) and not (path.is_file() and path.stat().st_size == 0)


# ---- signs of ours ---------------------------------------------------------------------------------------------------------------


def start_of(path: Path, most: int = _LOOKED_AT_BYTES) -> bytes:
    """The first bytes of a plain file; empty if there is none."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def holds(*signs: bytes, least: int | None = None) -> Recognise:
    """A file with these byte strings near its start, or at least `least` of them."""
    return lambda path: sum(sign in start_of(path) for sign in signs) >= (len(signs) if least is None else least)


def is_json_with(*keys: str) -> Recognise:
    """A file that is a JSON object with these keys; a damaged one that cannot be parsed must contain most of them."""
    signs = holds(*(f'"{key}":'.encode() for key in keys), least=max(2, len(keys) - 1))

    def recognise(path: Path) -> bool:
        data = start_of(path)
        return _has(data, keys) if _is_json(data) else signs(path)

    return recognise


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def is_log_with(*keys: str) -> Recognise:
    """A log of JSON objects, one per line; at least one can be read and has these keys."""

    def recognise(path: Path) -> bool:
        return any(_has(line, keys) for line in start_of(path).split(b"\n"))

    return recognise


def _has(line: bytes, keys: tuple[str, ...]) -> bool:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and all(key in record for key in keys)


def is_published(path: Path) -> bool:
    """A folder that `publish_folder` wrote, though its manifest may be damaged."""
    return holds(b'"format":', b'"files":', b'"sha256":', least=2)(path / MANIFEST)


def holds_others(path: Path) -> bool:
    """Whether a published folder has foreign files; those of file managers do not count."""
    try:
        return not all(_OF_THE_DESKTOP.fullmatch(name) for name in others_in(path, read_manifest(path)))
    except ModelError:
        return False
