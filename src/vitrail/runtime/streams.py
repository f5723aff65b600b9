"""Safe standard streams: a message that cannot be written is lost, a result that cannot be written is an error."""

import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from vitrail.errors import VitrailError


class OutputClosed(VitrailError):
    """The reader of the output has closed it, as `head` does: the program ends quietly."""

    exit_code = 141
    """128 + SIGPIPE, as shells report it."""


class ResultNotWritten(VitrailError):
    """Standard output refused a part of the result."""


class _Raw(io.RawIOBase):
    """A filter for the bytes of a standard stream; `inner`: the stream below, None if it was closed from the start."""

    def __init__(self, inner: io.RawIOBase | None) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return str(getattr(self.inner, "name", "closed"))

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.inner is not None and self.inner.isatty()

    def fileno(self) -> int:
        if self.inner is None:
            raise io.UnsupportedOperation("fileno")
        return self.inner.fileno()


class _LossyStream(_Raw):
    """The stream of messages: those that cannot be written are lost, and nothing else is."""

    def write(self, data: "memoryview | bytes", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.inner is not None:
            with suppress(OSError, ValueError):
                return self.inner.write(data) or len(data)
        return len(data)


class _StrictStream(_Raw):
    """The stream of results: a failed write is an error, reported once."""

    _failed = False

    def write(self, data: "memoryview | bytes", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._failed:
            return len(data)  # buffers, when the interpreter ends
        try:
            if self.inner is None:
                raise OSError("it is closed")
            while (written := self.inner.write(data)) is None:  # another process made the pipe non-blocking
                select.select([], [self.inner], [])
            return written
        except BrokenPipeError:
            self._failed = True
            raise OutputClosed("the program that read the output has closed it") from None
        except OSError as error:
            self._failed = True
            reason = error.strerror or str(error)
            raise ResultNotWritten(
                f"standard output cannot be written: {reason}", remedy="send it elsewhere: > FILE, on a disk with room"
            ) from None


def guard_streams() -> None:
    """Replace this process's standard output and error by such streams. Standard input is unchanged, None if closed."""
    for descriptor in range(3):  # or the next opened file would get the number, and messages would be written to it
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _guarded(sys.stdout, _StrictStream)
    sys.stderr = _guarded(sys.stderr, _LossyStream)


def unfailing(stream: TextIO | None) -> TextIO:
    """The same stream; failed writes are ignored."""
    return _guarded(stream, _LossyStream)


def _guarded(stream: TextIO | None, kind: type[_Raw]) -> TextIO:
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(kind(None)), encoding="utf-8", errors="backslashreplace", line_buffering=True)
    raw = getattr(getattr(stream, "buffer", None), "raw", getattr(stream, "buffer", None))
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase) or isinstance(raw, kind):
        return stream  # a stream in memory, another program's own, or one of these streams
    with suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(raw)),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def ignore_write_errors(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say`, but a line that it cannot write is lost without an error."""

    def tell(line: str) -> None:
        with suppress(OSError):
            say(line)

    return tell
