"""The manifest of a folder: size and SHA-256 of each file, as no tensor format detects a flipped bit by itself."""

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.errors import ModelError
from vitrail.files.system import is_utf8

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
"""Allowed file names in a published folder: no path out of it."""
_MANIFEST_MOST_BYTES = 1 << 20
_log = logging.getLogger(__name__)
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Damaged(ModelError):
    """A file is not as it was written: missing, truncated, altered, or of a kind that is never written."""


class FileEntry(NamedTuple):
    """The manifest's entry of one file."""

    size: int
    sha256: str


def manifest_text(entries: Mapping[str, FileEntry]) -> bytes:
    """The bytes of a manifest, equal for equal entries."""
    table = {"format": MANIFEST_FORMAT, "files": {name: entries[name]._asdict() for name in sorted(entries)}}
    return (json.dumps(table, indent=2) + "\n").encode()


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(f"{path}: {reason}", remedy="copy the folder again, or rebuild it")


def _read_regular(path: Path, *, most: int) -> bytes:
    try:
        with open(_open_regular(path), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise _damaged(path, f"is larger than {most} bytes")
    return data


def _open_regular(path: Path) -> int:
    """Open a plain file for reading; links, pipes and devices are refused, as they may lead elsewhere or block."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    if stat.S_ISLNK(mode):
        raise _damaged(path, "is a symbolic link, which is not followed here")
    if not stat.S_ISREG(mode):
        raise _damaged(path, "is not a plain file")
    return os.open(path, _READ)


def _entry_of(path: Path, name: str, value: Any) -> FileEntry:
    if not FILE_NAME.fullmatch(name) or name == MANIFEST:
        raise _damaged(path, f"lists {name[:80]!r}, which cannot be a file's name here")
    match value:
        case {"size": int(size), "sha256": str(sha256), **rest} if not rest and not isinstance(size, bool):
            if re.fullmatch(r"[0-9a-f]{64}", sha256):
                return FileEntry(size, sha256)
        case _:
            pass
    raise _damaged(path, f"has no valid size and SHA-256 for {name}")


def read_manifest(folder: Path) -> dict[str, FileEntry]:
    """The manifest of a published folder. Raises Damaged (no manifest, or a damaged one); ModelError (newer release)."""
    path = folder / MANIFEST
    if not is_utf8(folder):  # the libraries that read tensors cannot open a file there
        raise ModelError(f"{folder}: this name is not UTF-8", remedy="give the folder another name")
    try:
        table = json.loads(_read_regular(path, most=_MANIFEST_MOST_BYTES))
    except (ValueError, RecursionError):
        raise _damaged(path, "is not valid JSON") from None
    match table:
        case {"format": int(number), "files": dict(files), **rest} if not rest and number == MANIFEST_FORMAT and files:
            return {str(name): _entry_of(path, str(name), value) for name, value in files.items()}
        case {"format": int(number)} if number > MANIFEST_FORMAT:
            raise ModelError(
                f"{path}: has format {number}",
                expected=f"format {MANIFEST_FORMAT} or older",
                remedy="update vitrail: pip install -U vitrail",
            )
        case _:
            raise _damaged(path, "is not a manifest of this release")


def verify_file(path: Path, entry: FileEntry) -> None:
    """Compare one file with its manifest entry. Raises Damaged naming the file and the fault."""
    try:
        with open(_open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise _damaged(path, "is empty")
            if size != entry.size:
                kind = "is truncated" if size < entry.size else "has extra bytes"
                raise _damaged(path, f"{kind}: {size} bytes, {entry.size} by the manifest")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    if digest != entry.sha256:
        raise _damaged(path, "is altered: its SHA-256 is not the one in the manifest")


def verify_folder(path: Path, *, unused: Collection[str] = ()) -> dict[str, FileEntry]:
    """Compare every file of a published folder that is loaded with its manifest.

    Files that the manifest does not list (.DS_Store, a licence, an editor's backup) are never read; one line of the log names them.
    Args:    unused: listed files that are not loaded, such as a README that people edit.
    Returns: the manifest's entries. Cost: reads everything once, about 1.2 GB/s.
    Raises:  Damaged (a ModelError) naming the first file that is missing, truncated, empty, altered, a link, or ill named.
    """
    entries = read_manifest(path)
    for name, entry in entries.items():
        if name not in unused:
            verify_file(path / name, entry)
    if others := others_in(path, entries):
        _log.info("%s: holds %s besides; not read", path, ", ".join(others))
    return entries


def others_in(path: Path, entries: Collection[str]) -> list[str]:
    """The names in a published folder that its manifest does not list: foreign files."""
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.name not in entries and entry.name != MANIFEST)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
