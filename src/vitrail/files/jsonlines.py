"""Logs of JSON objects, one a line, that a killed process cannot spoil."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from vitrail.errors import ModelError
from vitrail.files.system import explaining, make_folder, system, write_all


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


class JsonLines:
    """A log of JSON objects, one a line, only ever appended to.

    One write per line, so that a reader sees whole lines and a killed process leaves at most half a line, at the end: `read` leaves
    it out and the next writer cuts it off. NaN and infinities, which JSON cannot say, become null. One writer at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        self._size = 0
        self._descriptor: int | None = None
        with explaining(path):
            self._descriptor = system().open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
            try:
                self._cut(_whole_bytes(path))
            except BaseException:
                with suppress(OSError):
                    system().close(self._descriptor)
                raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line. Raises NotWritten when the disk refuses it; the lines before are intact."""
        assert self._descriptor is not None, "the log is closed"
        line = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        with explaining(self.path, len(line)):
            try:
                write_all(self._descriptor, line)
            except BaseException:
                with suppress(OSError):
                    self._cut(self._size)
                raise
        self._size += len(line)

    def truncate_after(self, step: int) -> None:
        """Forget everything from the first line whose "step" is later: a run that goes on from `step` will write it again."""
        assert self._descriptor is not None, "the log is closed"
        end = 0
        for number, line in enumerate(_whole_lines(self.path), start=1):
            recorded = _record(self.path, number, line).get("step")
            if isinstance(recorded, int | float) and recorded > step:
                break
            end += len(line)
        with explaining(self.path):
            self._cut(end)
            system().fsync(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes of the lines so far: where `rewind` can go back to."""
        return self._size

    def rewind(self, size: int) -> None:
        """Forget everything after the first `size` bytes; a log that is shorter stays as it is."""
        with explaining(self.path):
            self._cut(min(size, self._size))

    def sync(self) -> None:
        """Make the lines durable against a power cut too; call it before saving the checkpoint that they lead to."""
        assert self._descriptor is not None, "the log is closed"
        with explaining(self.path):
            system().fsync(self._descriptor)

    def close(self) -> None:
        """End writing; closing twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with explaining(self.path):
                system().close(descriptor)

    def _cut(self, size: int) -> None:
        assert self._descriptor is not None, "the log is closed"
        self._size = size
        if os.fstat(self._descriptor).st_size != size:
            system().truncate(self._descriptor, size)

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _whole_bytes(path: Path) -> int:
    return sum(len(line) for line in _whole_lines(path))


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ModelError(f"{path}:{number}: is not a JSON object", remedy="delete that line")
    return record  # pyright: ignore[reportUnknownVariableType]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a `JsonLines` log; half a last line is left out. Raises ModelError naming a damaged line, or a missing file."""
    try:
        return [_record(path, number, line) for number, line in enumerate(_whole_lines(path), start=1)]
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
