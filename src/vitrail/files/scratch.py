"""A file for intermediate results: written and read at any place, and gone at the end."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitrail.errors import ModelError
from vitrail.files.system import explaining, make_folder, remove_tree, system, write_all

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class ScratchFile:
    """An open file without a future. Got from `scratch_file`."""

    def __init__(self, descriptor: int, *, shown: Path) -> None:
        self._descriptor, self._shown = descriptor, shown
        self.size = 0

    def append(self, data: bytes) -> None:
        """Write at the end. Raises NotWritten."""
        self.write(self.size, data)

    def write(self, place: int, data: bytes) -> None:
        """Write at a place in bytes, also behind the end. Raises NotWritten."""
        with explaining(self._shown, self.size + len(data)):
            os.lseek(self._descriptor, place, os.SEEK_SET)
            write_all(self._descriptor, data)
        self.size = max(self.size, place + len(data))

    def read(self, place: int, size: int) -> bytearray:
        """Read bytes that were written. Raises ModelError where the disk does not give them back."""
        data = bytearray(size)
        rest, given = memoryview(data), -1
        os.lseek(self._descriptor, place, os.SEEK_SET)
        while rest and given:
            given = os.readv(self._descriptor, [rest]) if hasattr(os, "readv") else _read_into(self._descriptor, rest)
            rest = rest[given:]
        if rest:
            raise ModelError(f"{self._shown}: ends {len(rest)} bytes too early", remedy="check the disk, then run the same command again")
        return data


def _read_into(descriptor: int, room: memoryview) -> int:
    """As os.readv, which Windows does not have."""
    piece = os.read(descriptor, len(room))
    room[: len(piece)] = piece
    return len(piece)


@contextmanager
def scratch_file(path: Path) -> Generator[ScratchFile, None, None]:
    """Open a new file beside `path`, under a name of temporary files; it is removed at the end of the block in any case.

    Nothing is synced. After a kill, `remove_leftovers` removes it. Raises NotWritten.
    """
    temporary = path.with_name(f"{path.name}.vitrail-tmp-{os.getpid()}")
    make_folder(path.parent)
    with explaining(path):
        remove_tree(temporary)  # of a dead process with our number
        descriptor = system().open(temporary, _NEW_FILE, 0o600)
    try:
        yield ScratchFile(descriptor, shown=path)
    finally:
        with suppress(OSError):
            system().close(descriptor)
        with suppress(OSError):
            remove_tree(temporary)
