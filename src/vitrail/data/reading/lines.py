"""Read the lines of one file or of stdin, plain or compressed; refuse what is not text, with its name.

A line ends only at the byte 0x0A: U+2028, U+0085, a lone carriage return, VT and FF are part of their line, so that line n here is line n
of `sed -n np`. Text is decoded with `surrogateescape`; bytes that are not UTF-8 become lone surrogates (U+DC80 to U+DCFF), for the cleaning
filters to count. Text that cannot be read exactly is refused with a DataError; repairs (byte order mark, carriage returns, ...) are counted
in Notes. Memory does not grow with the file or its lines.
"""

import io
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from vitrail.data.reading.foreign import detect_non_text
from vitrail.data.reading.unpack import BUFFER_BYTES, Guarded, Limits, packing_of, unpack
from vitrail.errors import DataError

STDIN = Path("-")
"""The name of standard input."""
CUT_MARK = "\ud800"
"""Marks the end of a text that was cut at the line limit. No decoded file has it, and it cannot be encoded: LengthFilter drops it."""

UNITS = "\x1f"
"""Parts the labels of one example that a file gives as a list (the unit separator of ASCII)."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

DEFAULT_LIMITS = Limits()


@dataclass
class Notes:
    """Repairs made while reading, counted by file; complete once the text was read to its end."""

    counts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def add(self, name: str, repair: str, number: int = 1) -> None:
        """Count `number` repairs of one kind in one file."""
        if number:
            self.counts.setdefault(name, Counter())[repair] += number

    def to_text(self) -> str:
        """One line a file; empty when nothing was repaired."""
        return "\n".join(
            f"{name}: " + ", ".join(f"{repair} {n:,}" for repair, n in sorted(seen.items())) for name, seen in self.counts.items()
        )


def is_cut(text: str) -> bool:
    """Whether the text was cut at the line limit."""
    return text.endswith(CUT_MARK)


def shown_name(path: Path) -> str:
    """The name of a file in messages."""
    return "stdin" if path == STDIN else str(path)


def _open_guarded(path: Path) -> Guarded:
    if path == STDIN:
        if sys.stdin is None or sys.stdin.closed:  # pyright: ignore[reportUnnecessaryComparison]  None in a process without a terminal
            raise DataError("stdin: is closed", remedy="name a file, or pipe text in")
        return Guarded(cast(io.BufferedReader, sys.stdin.buffer).read1, name=shown_name(path), shut=lambda: None)
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory", expected="a text file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be opened ({error})") from None
    return Guarded(file.read, name=shown_name(path), shut=file.close)


def open_text(path: Path, *, limits: Limits, allow_empty: bool = False, xml: bool = False) -> io.BufferedReader:
    """Open a file or stdin, decompressed; refuse what is not text. XML names its own encoding, so UTF-16 is allowed there."""
    stream = open_bytes(path, limits=limits)
    try:
        _require_text(stream.peek(4096)[:4096], name=shown_name(path), allow_empty=allow_empty, xml=xml)
    except DataError:
        stream.close()
        raise
    return stream


def open_bytes(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> io.BufferedReader:
    """Open a file or stdin, decompressed, whatever it holds. Raises DataError."""
    guarded = _open_guarded(path)
    stream: io.BufferedReader = io.BufferedReader(guarded, BUFFER_BYTES)
    try:
        packing = packing_of(stream, path, shown_name=shown_name(path))
        return stream if packing is None else unpack(packing, stream, counter=guarded, name=shown_name(path), limits=limits)
    except DataError:
        stream.close()
        raise


def _require_text(head: bytes, *, name: str, allow_empty: bool, xml: bool) -> None:
    if head in (b"", _BYTE_ORDER_MARK) and not allow_empty:
        raise DataError(f"{name}: is empty", expected="text, one sentence per line")
    found = detect_non_text(head, xml=xml)
    if found is not None:
        raise DataError(f"{name}: is {found.what}", expected="UTF-8 text", remedy=found.remedy.format(name=name))


def read_lines(path: Path, *, notes: Notes, limits: Limits, allow_empty: bool = False) -> Iterator[str]:
    """Yield every line without its end; after the last one, `notes` holds the repairs."""
    stream = open_text(path, limits=limits, allow_empty=allow_empty)
    yield from split_lines(stream, name=shown_name(path), notes=notes, limits=limits)


def split_lines(stream: io.BufferedReader, *, name: str, notes: Notes, limits: Limits) -> Iterator[str]:
    """Yield every line of an open file, as `read_lines` does, and close it."""
    cap = limits.line_bytes
    returns = cut = 0
    with stream:
        if stream.peek(3).startswith(_BYTE_ORDER_MARK):
            stream.read(3)
            notes.add(name, "byte order mark removed")
        for raw in iter(partial(stream.readline, cap + 1), b""):
            if len(raw) > cap and not raw.endswith(b"\n"):
                cut += 1
                yield raw[:cap].decode("utf-8", "surrogateescape") + CUT_MARK
                for rest in iter(partial(stream.readline, cap), b""):
                    if rest.endswith(b"\n"):
                        break
                continue
            if raw.endswith(b"\r\n"):
                returns += 1
                raw = raw[:-2]
            yield raw.rstrip(b"\n").decode("utf-8", "surrogateescape")
    notes.add(name, "carriage return at line end removed", returns)
    notes.add(name, "line cut", cut)


def line_parts(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[str]:
    """Yield every line; one that is longer than the limit in parts, which end at a space where there is one. Nothing is left out.

    Raises DataError as `lines` does. For running text, which some programs write as one line.
    """
    before = stamp(path)
    with open_text(path, limits=limits) as stream:
        if stream.peek(3).startswith(_BYTE_ORDER_MARK):
            stream.read(3)
        kept = b""
        while raw := stream.readline(limits.line_bytes):
            kept += raw
            ended = raw.endswith(b"\n")
            end = len(kept) if ended or len(raw) < limits.line_bytes else _part_end(kept)
            yield kept[:end].rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            kept = kept[end:]
    if kept:
        yield kept.decode("utf-8", "surrogateescape")
    require_unchanged(path, before)


def _part_end(raw: bytes) -> int:
    """After the last space; without one, after the last whole character, or what may be one."""
    if end := raw.rfind(b" ") + 1:
        return end
    end = len(raw)
    while end > len(raw) - 4 and raw[end - 1] & 0xC0 == 0x80:
        end -= 1
    return end - 1 or len(raw)


def count_lines(path: Path, *, limits: Limits) -> int:
    """Count the lines of `read_lines`, at the speed of reading."""
    lines, last = 0, b"\n"
    with open_text(path, limits=limits) as stream:
        while chunk := stream.read(BUFFER_BYTES):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def is_stream(path: Path) -> bool:
    """Whether it can be read only once: stdin, a pipe, a device."""
    try:
        mode = path.stat().st_mode if path != STDIN else stat.S_IFIFO
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def stamp(path: Path) -> tuple[int, int, int, int] | None:
    """A stamp that changes when a file is replaced, cut or appended to; None where there is no regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def require_unchanged(path: Path, before: tuple[int, int, int, int] | None) -> None:
    """Raise DataError when a file has another stamp than before."""
    if stamp(path) != before:
        raise DataError(f"{path}: changed while it was read", remedy="run again when no other program writes to it")


def lines(path: Path, *, notes: Notes | None = None, limits: Limits = DEFAULT_LIMITS, allow_empty: bool = False) -> Iterator[str]:
    """Yield the lines of one file (plain, .gz, .bz2, .xz or .zst) or of stdin (`-`), by the same rules as parallel text.

    Args:    allow_empty: a file without a line is no error (its translation is empty too).
    Raises:  DataError when the file cannot be read, is not text, or changes while it is read.
    """
    before = stamp(path)
    yield from read_lines(path, notes=notes or Notes(), limits=limits, allow_empty=allow_empty)
    require_unchanged(path, before)


def one_line(text: str) -> str:
    """A record's text as one line; a lone surrogate (from a JSON escape) becomes bytes that are not UTF-8."""
    return text.replace("\n", " ").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
