"""The fingerprint of prepared text: every setting, and the SHA-256 of every input file."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any, Protocol

from vitrail.errors import DataError


class AnyText(Protocol):
    """A text that is read from one file or two."""

    @property
    def source(self) -> Path: ...
    @property
    def target(self) -> Path | None: ...


class Sources(Protocol):
    """A configuration of data: the text and its preparation."""

    def texts(self) -> Sequence[tuple[str, AnyText]]:
        """All input texts with their names in the configuration."""
        ...

    def fingerprint(self, kept: Mapping[str, Any], /) -> dict[str, Any]:
        """See `fingerprint`."""
        ...


def fingerprint(config: Sources, *, kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that the prepared folder depends on, by name: each value of the configuration, and the SHA-256 of each input file.

        {"data.corpora.0.source": "9f86d0...", "data.max_length": 256, ...}

    The place of a file and its name in reports do not count.

    Args:   kept: the fingerprint of data prepared from files of these names; it supplies the hashes of files that no longer exist.
    Raises: DataError when a file cannot be read. Cost: reads all of it.
    """
    return config.fingerprint(kept or {})


def input_files(config: Sources) -> list[Path]:
    """Every file that is read."""
    return [path for _, text in config.texts() for path in (text.source, text.target) if path is not None]


def hash_file(path: Path, kept: str | None) -> str:
    """The SHA-256 of a file, or the known one where the file no longer exists. Raises DataError."""
    if kept is not None and not os.path.lexists(path):
        return kept
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value of nested tables under its full name."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from flatten(f"{prefix}.{key}", below)
    else:
        yield prefix, value


def fingerprint_differences(recorded: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, one line each: `data.max_length: 256, now 128`."""
    absent = "absent"
    names = [*recorded, *(name for name in asked if name not in recorded)]
    return [
        f"{name}: {_brief(recorded.get(name, absent))}, now {_brief(asked.get(name, absent))}"
        for name in names
        if recorded.get(name, absent) != asked.get(name, absent)
    ]


def _brief(value: Any) -> str:
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def stamps(config: Sources, *, gone: bool = False) -> dict[Path, tuple[int, int, int]]:
    """A stamp of each input file that changes when it is replaced or written to. Raises DataError for a missing one that may not be
    `gone`."""
    paths = [path for path in input_files(config) if not gone or os.path.lexists(path)]
    try:
        return {path: (found.st_ino, found.st_size, found.st_mtime_ns) for path in paths if (found := path.stat())}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
