"""Read gzip, bzip2, xz and zstandard as streams: bounded in ratio, size and memory; errors name the damaged file."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vitrail.errors import DataError

BUFFER_BYTES = 1 << 18
"""Bytes read at a time."""
_XZ_MEMORY_BYTES = 1 << 28
_ZSTANDARD_WINDOW_BYTES = 1 << 27
"""The default limit of `zstd` itself."""
# One block of zstandard data is at least 4 bytes long and at most 131,072 unpacked: so many bytes at a time hold at most 64 MiB.
_ZSTANDARD_PIECE = 2_048


@dataclass(frozen=True)
class Limits:
    """Limits on the memory and size of one file."""

    line_bytes: int = 1 << 20
    """A longer line is cut here and ends in CUT_MARK; its pair is kept."""
    gzip_ratio: int = 200
    """Largest ratio of unpacked to packed bytes, for every format. Text reaches 3 to 10, gzip's greatest is 1032."""
    gzip_ratio_from_bytes: int = 1 << 26
    """The ratio is checked only beyond this many unpacked bytes."""
    gzip_bytes: int = 1 << 40
    """Unpacked bytes in all."""
    document_bytes: int = 1 << 26
    """A PO or XLIFF file, which is held in memory as a whole."""


class Guarded(io.RawIOBase):
    """A stream of bytes that raises every read error as a DataError with the file's name."""

    def __init__(self, read: Callable[[int], bytes], *, name: str, shut: Callable[[], None]) -> None:
        self._read, self._name, self._shut, self.bytes_read = read, name, shut, 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._shut()

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._read(len(buffer))
        except (OSError, ValueError) as error:
            raise DataError(f"{self._name}: cannot be read ({error})") from None
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)


@dataclass(frozen=True)
class Packing:
    """One compression format."""

    name: str
    suffixes: tuple[str, ...]
    """Of file names; the first is the usual one. Those of compressed tar archives are here too; their content is refused."""
    start: re.Pattern[bytes]


PACKINGS = (
    Packing("gzip", (".gz", ".tgz"), re.compile(rb"\x1f\x8b")),
    Packing("bzip2", (".bz2", ".tbz2", ".tbz"), re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)")),
    Packing("xz", (".xz", ".txz"), re.compile(rb"\xfd7zXZ\x00")),
    Packing("zstandard", (".zst", ".tzst"), re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")),
)


def bare_name(path: Path) -> Path:
    """The path without the suffix of a compression: a.tsv.gz is a.tsv."""
    return path.with_suffix("") if any(path.suffix.lower() in packing.suffixes for packing in PACKINGS) else path


def packing_of(stream: io.BufferedReader, path: Path, *, shown_name: str) -> Packing | None:
    """The compression of a stream, by its first bytes. Raises DataError where the file's name means another."""
    head = stream.peek(10)[:10]
    found = next((packing for packing in PACKINGS if packing.start.match(head)), None)
    named = next((packing for packing in PACKINGS if path.suffix.lower() in packing.suffixes), None)
    if found is not None and found is not named:
        suffix = found.suffixes[0]
        raise DataError(
            f"{shown_name}: is {found.name}-compressed", expected=f"a name ending in {suffix}", remedy="rename it, or unpack it first"
        )
    if named is not None and found is None and head:
        raise DataError(
            f"{path}: is not {named.name}-compressed",
            expected=f"{named.name}, as its name says",
            remedy=f"rename it without {path.suffix}, or download it again",
        )
    return found


class _Decompressor(Protocol):
    """One compressed stream; a file may hold several, one after the other."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Zstandard:
    """zstandard's decompressor with the interface of bz2's and lzma's. Takes small pieces, as its output has no other bound."""

    def __init__(self, name: str) -> None:
        try:
            import zstandard
        except ImportError:
            raise DataError(
                f"{name}: is zstandard-compressed, and the package zstandard is not installed",
                remedy="pip install 'vitrail[formats]', or unpack it first: zstd -d",
            ) from None
        self._error: type[Exception] = zstandard.ZstdError
        self._object = zstandard.ZstdDecompressor(max_window_size=_ZSTANDARD_WINDOW_BYTES).decompressobj()
        self._pending = b""

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._pending

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data + self._pending

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        self._pending += data
        piece, self._pending = self._pending[:_ZSTANDARD_PIECE], self._pending[_ZSTANDARD_PIECE:]
        try:
            return self._object.decompress(piece)
        except self._error as error:
            raise OSError(error) from None


class _Unpacked:
    """All streams of a file, one after the other."""

    def __init__(self, packed: io.BufferedReader, make: Callable[[], _Decompressor]) -> None:
        self._packed, self._make, self._part, self._ready = packed, make, make(), memoryview(b"")

    def read(self, wanted: int) -> bytes:
        """At most this many bytes; none at the end. Raises EOFError when the data end within a stream."""
        while not self._ready:
            if self._part.eof:
                if not self._start_next():
                    return b""
                continue
            data = self._packed.read1(BUFFER_BYTES) if self._part.needs_input else b""
            if not data and self._part.needs_input:
                raise EOFError
            self._ready = memoryview(self._part.decompress(data, wanted))
        found, self._ready = bytes(self._ready[:wanted]), self._ready[wanted:]
        return found

    def _start_next(self) -> bool:
        # xz pads with zero bytes between streams; the other formats have none there, and no stream begins with one.
        rest = self._part.unused_data.lstrip(b"\x00")
        while not rest:
            data = self._packed.read1(BUFFER_BYTES)
            if not data:
                return False
            rest = data.lstrip(b"\x00")
        self._part = self._make()
        self._ready = memoryview(self._part.decompress(rest, BUFFER_BYTES))
        return True


def _reader(packing: Packing, packed: io.BufferedReader, name: str) -> Callable[[int], bytes]:
    match packing.name:
        case "gzip":
            return gzip.GzipFile(fileobj=packed).read
        case "bzip2":
            return _Unpacked(packed, bz2.BZ2Decompressor).read
        case "xz":
            return _Unpacked(packed, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)).read
        case _:
            return _Unpacked(packed, lambda: _Zstandard(name)).read


def unpack(packing: Packing, packed: io.BufferedReader, *, counter: Guarded, name: str, limits: Limits) -> io.BufferedReader:
    """The unpacked bytes. Their number is bounded by that of the packed bytes read, from `counter`."""
    take, size = _reader(packing, packed, name), 0

    def read(wanted: int) -> bytes:
        nonlocal size
        try:
            data = take(wanted)
        except EOFError:
            raise DataError(f"{name}: the {packing.name} data ends too early", remedy="copy or download the file again") from None
        except (OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{name}: damaged {packing.name} data ({error})", remedy="copy or download the file again") from None
        size += len(data)
        too_dense = size > limits.gzip_ratio_from_bytes and size > limits.gzip_ratio * counter.bytes_read
        if too_dense or size > limits.gzip_bytes:
            raise DataError(
                f"{name}: unpacks to more than {size:,} bytes from {counter.bytes_read:,}",
                expected=f"at most {limits.gzip_ratio} times its size and {limits.gzip_bytes:,} bytes",
                remedy="if you trust the file, unpack it and give the unpacked one",
            )
        return data

    return io.BufferedReader(Guarded(read, name=name, shut=packed.close), BUFFER_BYTES)
