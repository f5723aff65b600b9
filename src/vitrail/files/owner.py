"""Whose is it? What stands where something is to be written is looked at first; what is not ours is refused before anything changes."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vitrail.errors import ModelError, UsageError
from vitrail.files.manifest import MANIFEST, others_in, read_manifest

Recognise = Callable[[Path], bool]
"""Whether what stands at a path is of the kind that we write there. It may be damaged: then some sign of ours is enough."""

_LOOKED_AT_BYTES = 1 << 20
_SHOWN = 4
LEFT_OVER = re.compile(r"(?P<name>.+)\.vitrail-(?P<kind>tmp|old)-\d+")
"""What a killed process left half written, or set aside. Nobody else gives such a name: `sweep` removes what has one."""
_OF_THE_DESKTOP = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.directory")
"""What file managers leave in every folder that is opened: it makes no folder somebody's."""


def require_own(places: Mapping[Path, Recognise], *, what: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse to write where something stands that is not ours. Nothing is changed, whatever comes of it.

    Args:
        places: everything that is to be written or replaced. What is not there, or is empty, may be written.
        what: what is to be written, in words: "a run", "this comparison".
        inputs: files that are read; none of them may stand in a place that is written.
    Raises: UsageError that names what stands there.
    """
    foreign = [path for path, recognise in places.items() if _holds_something(path) and not recognise(path)]
    if foreign:
        shown = ", ".join(map(_shown, foreign[:_SHOWN]))
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise UsageError(
            f"{foreign[0].parent}: holds {shown}{more}, which vitrail did not write",
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


def require_folder(path: Path) -> None:
    """Refuse something that is no folder where one is needed. Raises UsageError."""
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
    """The first bytes of a plain file; nothing where there is none."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def holds(*signs: bytes, least: int | None = None) -> Recognise:
    """A file that holds these bytes somewhere near its start, or so many of them."""
    return lambda path: sum(sign in start_of(path) for sign in signs) >= (len(signs) if least is None else least)


def is_json_with(*keys: str) -> Recognise:
    """A file that is a JSON object with these keys; one that is damaged, so that it cannot be read, shows most of them all the same."""
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
    """A log of JSON objects, one a line, of which one at least can be read and has these keys."""

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
    """Whether somebody put something of his own into a published folder; what a file manager leaves does not count."""
    try:
        return not all(_OF_THE_DESKTOP.fullmatch(name) for name in others_in(path, read_manifest(path)))
    except ModelError:
        return False
