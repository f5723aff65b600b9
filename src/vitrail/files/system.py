"""The system calls that change a disk, and small functions on them."""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import VitrailError

_PIECE_BYTES = 1 << 26  # macOS refuses one write of 2 GiB
NO_SUCH_CALL = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""Error numbers of systems that do not support a call; no failure."""


class NotWritten(VitrailError):
    """The disk refused; earlier files are intact. A training may continue and try again later."""


def _try_lock(descriptor: int) -> None:
    """Take the kernel's exclusive lock on an open file. Raises BlockingIOError when held, OSError(ENOSYS) where there is none."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl  # POSIX only

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two names in one folder in a single step. Raises OSError(ENOSYS) where the system has no such call."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
    at_working_folder, swap = -100, 2
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    if (call := getattr(library, "renameat2", None)) is not None:  # Linux
        failed = call(at_working_folder, names[0], at_working_folder, names[1], swap)
    elif (call := getattr(library, "renamex_np", None)) is not None:  # macOS
        failed = call(*names, swap)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass(frozen=True)
class FileSystem:
    """Every system call by which this package changes a disk. Tests replace `SYSTEM` to record them or to make one fail."""

    open: Callable[[Path, int, int], int] = os.open
    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    close: Callable[[int], None] = os.close
    truncate: Callable[[int, int], None] = os.ftruncate
    rename: Callable[[Path, Path], None] = os.replace
    exchange: Callable[[Path, Path], None] = _exchange
    link: Callable[[Path, Path], None] = os.link
    mkdir: Callable[[Path, int], None] = os.mkdir
    unlink: Callable[[Path], None] = os.unlink
    rmdir: Callable[[Path], None] = os.rmdir
    lock: Callable[[int], None] = _try_lock


SYSTEM = FileSystem()
"""Every call that changes a disk goes through this object. Tests replace it to record the calls, or to make one fail."""


def system() -> FileSystem:
    """The file system in use: `SYSTEM`, looked up at each call, so that a test may replace it."""
    return SYSTEM


@contextmanager
def explaining(path: Path, needed: int = 0) -> Generator[None, None, None]:
    """Raise a system error as NotWritten with the path, the bytes needed and the bytes free."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "free some space or choose another disk, then run the same command again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "make the folder writable or choose another one"
        else:
            remedy = "check the disk; what was saved before is intact"
        reason = error.strerror or str(error)
        raise NotWritten(
            f"{path}: cannot be written: {reason} ({needed} bytes needed, {_free_bytes(path)} bytes free)", remedy=remedy
        ) from error


def _free_bytes(path: Path) -> int | str:
    with suppress(OSError):  # the current folder may be gone
        for folder in path.absolute().parents:
            with suppress(OSError):
                return shutil.disk_usage(folder).free
    return "unknown"


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, in as many calls as needed. Raises OSError."""
    rest = memoryview(data)
    while rest:
        written = system().write(descriptor, rest[:_PIECE_BYTES])
        if written == 0:
            raise OSError(errno.EIO, "nothing could be written")
        rest = rest[written:]


def sync_folder(path: Path) -> None:
    """Sync the names in a folder, where the system can (not on Windows, not on every network disk)."""
    if sys.platform == "win32":
        return
    descriptor = system().open(path, os.O_RDONLY | os.O_DIRECTORY, 0)
    try:
        system().fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SUCH_CALL:
            raise
    finally:
        system().close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a file, a link (not its target) or a folder with its content; a missing path is no error."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        system().unlink(path)
        return
    for entry in sorted(path.iterdir()):
        remove_tree(entry)
    system().rmdir(path)


def is_utf8(path: Path) -> bool:
    """Whether a name is text; in a file system it may be any bytes, which Python shows as lone surrogates."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent)
    with suppress(FileExistsError):  # another process was faster
        system().mkdir(path, 0o777)  # the umask decides, as mkdir(1) does
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, durably. Raises NotWritten when it cannot be made, or its name is not UTF-8."""
    if not is_utf8(path):  # the libraries that read tensors cannot open a file there
        raise NotWritten(f"{path}: this name is not UTF-8", remedy="another name")
    with explaining(path):
        _make_folder(path)
