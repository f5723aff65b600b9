"""Logs of JSON objects, one per line; a killed process cannot damage them."""

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from vitrail.errors import ModelError
from vitrail.files.system import explaining, make_folder, system, write_all

_log = logging.getLogger(__name__)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


class JsonLines:
    """A log of JSON objects, one per line, that is only appended to.

    One write per line: a reader sees whole lines, and a killed process leaves at most one incomplete line at the end. `read` ignores it and
    the next writer removes it. NaN and infinities, which JSON does not have, become null. One writer at a time.
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

    def go_back(self, step: int, *, size: int | None = None) -> None:
        """Remove everything after a step: a resumed run will write it again.

        Args: size: the size of the log at that step, if known; else, or if the file was altered since, the "step" of each line decides. An
        unreadable line decides nothing; one that stays is reported.
        """
        assert self._descriptor is not None, "the log is closed"
        lines = list(_lines(self.path))
        ends = {0, *(line.end for line in lines)}
        last = max((line.end for line in lines if line.step is not None and line.step <= step), default=0)
        after = next((line.end - line.size for line in lines if line.end > last and line.step is not None), self._size)
        end = size if size in ends else after
        if size is not None and size > self._size:
            _log.warning("%s: is shorter than it was at step %d; the missing lines are lost; training continues", self.path, step)
        _tell_unreadable(self.path, [line for line in lines if line.end <= end])
        with explaining(self.path):
            self._cut(end)
            system().fsync(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes of the lines so far, for `go_back`."""
        return self._size

    def sync(self) -> None:
        """Sync the lines to disk; call it before saving the checkpoint of their step."""
        assert self._descriptor is not None, "the log is closed"
        with explaining(self.path):
            system().fsync(self._descriptor)

    def close(self) -> None:
        """Close the log; closing twice is allowed."""
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


class _Line(NamedTuple):
    """A whole line of a log."""

    number: int
    size: int
    end: int
    record: dict[str, Any] | None
    """None where it cannot be read."""

    @property
    def step(self) -> float | None:
        """The value of "step", if there is one."""
        step = None if self.record is None else self.record.get("step")
        return step if isinstance(step, int | float) else None


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _whole_bytes(path: Path) -> int:
    return sum(len(line) for line in _whole_lines(path))


def _lines(path: Path) -> Iterator[_Line]:
    """Every line except an incomplete last one; blank lines are empty records."""
    end = 0
    for number, line in enumerate(_whole_lines(path), start=1):
        end += len(line)
        yield _Line(number, len(line), end, _record(line) if line.strip() else {})


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _tell_unreadable(path: Path, lines: list[_Line]) -> None:
    lost = [line.number for line in lines if line.record is None]
    if lost:
        many = f"line {lost[0]} is" if len(lost) == 1 else f"{len(lost)} lines, the first of them line {lost[0]}, are"
        _log.warning("%s: %s no JSON object; left out", path, many)


def read_json_lines(path: Path, *, needs: Mapping[str, tuple[str, ...]] | None = None) -> list[dict[str, Any]]:
    """The records of a `JsonLines` log. Damaged lines are left out with a warning, an incomplete last line without one.

    Args:    needs: the keys that a record of each "kind" must have, or it counts as damaged; a record of another kind needs none.
    Raises:  ModelError where there is no such file.
    """
    try:
        lines = list(_lines(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if needs is not None:
        lines = [line._replace(record=None) if _lacks(line.record, needs) else line for line in lines]
    _tell_unreadable(path, lines)
    return [line.record for line in lines if line.record]


def _lacks(record: dict[str, Any] | None, needs: Mapping[str, tuple[str, ...]]) -> bool:
    kind = None if record is None else record.get("kind")
    return bool(record) and (not isinstance(kind, str) or any(key not in record for key in needs.get(kind, ())))
