"""The only code that writes: whole files and whole folders or nothing, a manifest that detects damage, log lines, a lock.

What is written here survives `kill -9` and, where the disk keeps its promises, a power cut: everything goes to a temporary name
beside its place, is synced, and only then renamed. A reader meets the previous version or the new one, never half of one.
A folder's `manifest.json` holds size and SHA-256 of each file, because no tensor format notices a flipped bit by itself.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from vitrail.errors import ModelError, TrainingError, VitrailError

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
_MANIFEST_MOST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 26  # macOS refuses one write of 2 GiB
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LEFT_OVER = re.compile(r"(?P<name>.+)\.(?P<kind>tmp|old)-\d+")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_SUCH_CALL = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class NotWritten(VitrailError):
    """The disk refused; what was there before is intact. A training may go on and try again later."""


class Damaged(ModelError):
    """A file is not what was written: missing, truncated, altered, or of a kind that never is."""


def _try_lock(descriptor: int) -> None:
    """Take the kernel's exclusive lock on an open file. Raises BlockingIOError when held, OSError(ENOSYS) where there is none."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl  # POSIX only

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True)
class FileSystem:
    """Every system call by which this package changes a disk. Tests replace `SYSTEM` to record them or to make one fail."""

    open: Callable[[Path, int, int], int] = os.open
    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    close: Callable[[int], None] = os.close
    truncate: Callable[[int, int], None] = os.ftruncate
    rename: Callable[[Path, Path], None] = os.replace
    mkdir: Callable[[Path, int], None] = os.mkdir
    unlink: Callable[[Path], None] = os.unlink
    rmdir: Callable[[Path], None] = os.rmdir
    lock: Callable[[int], None] = _try_lock


SYSTEM = FileSystem()


# ---- writing ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def _explaining(path: Path, needed: int = 0) -> Generator[None, None, None]:
    """Turn the system's refusal into an error that names the path, the bytes needed and the bytes free."""
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
    for folder in path.absolute().parents:
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return "unknown"


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}-{os.getpid()}")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = SYSTEM.write(descriptor, rest[:_PIECE_BYTES])
        if written == 0:
            raise OSError(errno.EIO, "nothing could be written")
        rest = rest[written:]


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the system can (not on Windows, not on every network disk)."""
    if sys.platform == "win32":
        return
    descriptor = SYSTEM.open(path, os.O_RDONLY | os.O_DIRECTORY, 0)
    try:
        SYSTEM.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        SYSTEM.close(descriptor)


def _remove_tree(path: Path) -> None:
    """Remove a file, a link (not what it points to) or a folder with all it holds; nothing there is fine."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        SYSTEM.unlink(path)
        return
    for entry in sorted(path.iterdir()):
        _remove_tree(entry)
    SYSTEM.rmdir(path)


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent)
    with suppress(FileExistsError):  # another process was quicker
        SYSTEM.mkdir(path, 0o777)  # the umask decides, as mkdir(1) does
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, durably. Raises NotWritten when it cannot be made."""
    with _explaining(path):
        _make_folder(path)


class FileWriter:
    """A new file being written: counts and hashes what passes. Got from `FolderWriter.create`."""

    def __init__(self, descriptor: int, *, shown: Path) -> None:
        self._descriptor, self._shown, self._sha256 = descriptor, shown, hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append bytes. Raises NotWritten when the disk refuses them."""
        with _explaining(self._shown, self.size + len(data)):
            _write_all(self._descriptor, data)
        self._sha256.update(data)
        self.size += len(data)

    @property
    def entry(self) -> "FileEntry":
        """Size and SHA-256 of what was written so far."""
        return FileEntry(self.size, self._sha256.hexdigest())


@contextmanager
def _new_file(path: Path, *, shown: Path) -> Generator[FileWriter, None, None]:
    """Open a file that must not exist yet (0644 under the umask); it is synced when the block ends well. `shown`: its name in errors."""
    with _explaining(shown):
        descriptor = SYSTEM.open(path, _NEW_FILE, 0o644)
    try:
        writer = FileWriter(descriptor, shown=shown)
        yield writer
        with _explaining(shown, writer.size):
            SYSTEM.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            SYSTEM.close(descriptor)
        raise
    with _explaining(shown, writer.size):
        SYSTEM.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: temporary name, write, fsync, rename, fsync of the folder. Missing parents are made.

    The mode is 0644 under the umask, so that a server of another user may read it (safetensors' own writer makes 0600).
    Raises: NotWritten naming path, bytes needed and bytes free; the previous version is then intact and no temporary file remains.
    """
    temporary = _beside(path, "tmp")
    make_folder(path.parent)
    try:
        with _explaining(path, len(data)):
            _remove_tree(temporary)  # of a dead process that had our number
        with _new_file(temporary, shown=path) as file:
            file.write(data)
        with _explaining(path, len(data)):
            SYSTEM.rename(temporary, path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            _remove_tree(temporary)
        raise


class FolderWriter:
    """A folder being written, not yet visible under its name. Got from `publish_folder`; `entries` says what it holds so far."""

    def __init__(self, temporary: Path, *, shown: Path) -> None:
        self._temporary, self._shown = temporary, shown
        self.entries: dict[str, FileEntry] = {}

    @contextmanager
    def create(self, name: str) -> Generator[FileWriter, None, None]:
        """Open a new file for writing piece by piece; several may be open at once. Empty files are our mistake: damage looks like them."""
        assert _NAME.fullmatch(name) and name not in self.entries, f"{name!r} cannot be a file's name here, or is taken"
        with _new_file(self._temporary / name, shown=self._shown / name) as file:
            yield file
        assert file.size > 0, f"{name} is empty"
        self.entries[name] = file.entry

    def write(self, name: str, data: bytes) -> None:
        """Write one file at once."""
        with self.create(name) as file:
            file.write(data)


@contextmanager
def publish_folder(path: Path) -> Generator[FolderWriter, None, None]:
    """Write a whole folder or nothing; it appears under its name, complete with its manifest, when the block ends well.

        with publish_folder(run / "model") as folder:
            folder.write("config.json", config)

    Order: each file written and synced, the manifest last, the temporary folder synced, renamed, the parent synced. A folder that
    had the name is first set aside, and comes back if the rename fails; if we die between the two renames, `sweep` brings it back.
    Raises: NotWritten as `write_file`; the previous version is then intact and the temporary folder gone.
    """
    temporary = _beside(path, "tmp")
    make_folder(path.parent)
    try:
        with _explaining(path):
            _remove_tree(temporary)
            SYSTEM.mkdir(temporary, 0o777)
        writer = FolderWriter(temporary, shown=path)
        yield writer
        needed = sum(entry.size for entry in writer.entries.values())
        writer.write(MANIFEST, _manifest_text(writer.entries))
        with _explaining(path, needed):
            _sync_folder(temporary)
            _put_in_place(temporary, path)
    except BaseException:
        with suppress(OSError):
            _remove_tree(temporary)
        raise


def _put_in_place(temporary: Path, path: Path) -> None:
    aside = _beside(path, "old")
    try:
        if os.path.lexists(path):
            _remove_tree(aside)
            SYSTEM.rename(path, aside)
        SYSTEM.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            if os.path.lexists(aside) and not os.path.lexists(path):
                SYSTEM.rename(aside, path)
        raise
    _sync_folder(path.parent)
    with suppress(OSError):  # the new one is in place; `sweep` removes what is left of the old
        _remove_tree(aside)


def remove_folder(path: Path) -> None:
    """Remove a folder so that nobody ever sees part of it: it first loses its name, durably. Raises NotWritten."""
    temporary = _beside(path, "tmp")
    with _explaining(path):
        _remove_tree(temporary)
        SYSTEM.rename(path, temporary)
        _sync_folder(path.parent)
        _remove_tree(temporary)


def sweep(folder: Path) -> None:
    """Clear away what a killed process left in a folder and in its direct subfolders; what it had set aside gets its name back.

    Precondition: nobody else is writing there. `FolderLock` calls it when it has the lock. Raises NotWritten.
    """
    with _explaining(folder):
        inner = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink() and not _LEFT_OVER.fullmatch(entry.name)]
        for parent in (folder, *inner):
            for entry in sorted(parent.iterdir()):
                match = _LEFT_OVER.fullmatch(entry.name)
                if match is None:
                    continue
                if match["kind"] == "old" and not os.path.lexists(parent / match["name"]):
                    SYSTEM.rename(entry, parent / match["name"])
                    _sync_folder(parent)
                else:
                    _remove_tree(entry)


# ---- verifying -------------------------------------------------------------------------------------------------------------------


class FileEntry(NamedTuple):
    """What the manifest says of one file."""

    size: int
    sha256: str


def _manifest_text(entries: Mapping[str, FileEntry]) -> bytes:
    table = {"format": MANIFEST_FORMAT, "files": {name: entries[name]._asdict() for name in sorted(entries)}}
    return (json.dumps(table, indent=2) + "\n").encode()


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(f"{path}: {reason}", remedy="take a good copy of the folder, or make it again")


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
    """Open a plain file for reading; a link, a pipe or a device is refused before it can lead elsewhere or block."""
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
    if not _NAME.fullmatch(name) or name == MANIFEST:
        raise _damaged(path, f"lists {name[:80]!r}, which cannot be a file's name here")
    match value:
        case {"size": int(size), "sha256": str(sha256), **rest} if not rest and not isinstance(size, bool):
            if re.fullmatch(r"[0-9a-f]{64}", sha256):
                return FileEntry(size, sha256)
        case _:
            pass
    raise _damaged(path, f"has no valid size and SHA-256 for {name}")


def read_manifest(folder: Path) -> dict[str, FileEntry]:
    """What a published folder should hold. Raises Damaged (no manifest, or not a sound one); ModelError (newer release)."""
    path = folder / MANIFEST
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
    """Hold one file against its manifest entry. Raises Damaged naming the file and what is wrong with it."""
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


def verify_folder(path: Path) -> dict[str, FileEntry]:
    """Check every file of a published folder against its manifest, and that there is nothing else.

    Returns: the manifest's entries. Cost: reads everything once, about 1.2 GB/s.
    Raises:  Damaged (a ModelError) naming the first file that is missing, truncated, empty, altered, not listed, a link, or ill named.
    """
    entries = read_manifest(path)
    try:
        present = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    for name in sorted(present - entries.keys() - {MANIFEST}):
        raise _damaged(path / name, "is not in the manifest")
    for name, entry in entries.items():
        verify_file(path / name, entry)
    return entries


# ---- log lines -------------------------------------------------------------------------------------------------------------------


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
        with _explaining(path):
            self._descriptor = SYSTEM.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
            try:
                self._cut(_whole_bytes(path))
            except BaseException:
                with suppress(OSError):
                    SYSTEM.close(self._descriptor)
                raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line. Raises NotWritten when the disk refuses it; the lines before are intact."""
        assert self._descriptor is not None, "the log is closed"
        line = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        with _explaining(self.path, len(line)):
            try:
                _write_all(self._descriptor, line)
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
        with _explaining(self.path):
            self._cut(end)
            SYSTEM.fsync(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes of the lines so far: where `rewind` can go back to."""
        return self._size

    def rewind(self, size: int) -> None:
        """Forget everything after the first `size` bytes; a log that is shorter stays as it is."""
        with _explaining(self.path):
            self._cut(min(size, self._size))

    def sync(self) -> None:
        """Make the lines durable against a power cut too; call it before saving the checkpoint that they lead to."""
        assert self._descriptor is not None, "the log is closed"
        with _explaining(self.path):
            SYSTEM.fsync(self._descriptor)

    def close(self) -> None:
        """End writing; closing twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with _explaining(self.path):
                SYSTEM.close(descriptor)

    def _cut(self, size: int) -> None:
        assert self._descriptor is not None, "the log is closed"
        self._size = size
        if os.fstat(self._descriptor).st_size != size:
            SYSTEM.truncate(self._descriptor, size)

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


# ---- one process a folder --------------------------------------------------------------------------------------------------------


class _Owner(NamedTuple):
    """Who holds a lock. `started` tells a process from a later one with the same number; empty where the system does not say."""

    pid: int
    host: str
    started: str


def _started(pid: int) -> str | None:
    """When a process of this machine started, as boot id and clock ticks; "" where unknown; None when it is dead."""
    if pid <= 0:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    except OSError:
        pass
    if sys.platform == "win32":
        return ""  # os.kill would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return ""


class FolderLock:
    """One process at a time in a folder: `with FolderLock(run): ...`

    The kernel's lock on `.lock` decides where there is one (it dies with its process, on any host of a sound network disk).
    Elsewhere the record in the file decides: a live process on this host, or any on another host, keeps us out; a dead one does
    not, nor a live one that merely has its number. Once inside, what a killed process left half written is cleared away (`sweep`).
    Raises: TrainingError "in use by pid P on host H"; NotWritten when the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> "FolderLock":
        make_folder(self.path)
        file = self.path / ".lock"
        with _explaining(file):
            descriptor = SYSTEM.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            self._take(descriptor, file)
            sweep(self.path)
        except BaseException:
            with suppress(OSError):
                SYSTEM.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _take(self, descriptor: int, file: Path) -> None:
        with _explaining(file):
            try:
                SYSTEM.lock(descriptor)
            except BlockingIOError:
                raise self._in_use(_owner(file)) from None
            except OSError as error:
                if error.errno not in _NO_SUCH_CALL:
                    raise
                owner = _owner(file)
                if owner is not None and _lives(owner):
                    raise self._in_use(owner) from None
            ours = _Owner(os.getpid(), socket.gethostname(), _started(os.getpid()) or "")
            SYSTEM.truncate(descriptor, 0)
            _write_all(descriptor, json.dumps(ours._asdict()).encode() + b"\n")
        if _owner(file) != ours:  # only without a kernel lock: another took the dead one's place in the same moment
            raise self._in_use(_owner(file))

    def _in_use(self, owner: _Owner | None) -> TrainingError:
        by = f"pid {owner.pid} on host {owner.host}" if owner else "another process"
        return TrainingError(
            f"{self.path}: in use by {by}",
            expected="one process at a time in a folder",
            remedy=f"wait for it, stop it, or use another folder; if it is certainly dead, delete {self.path / '.lock'}",
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # The file stays, empty: were it deleted, a process that has it open already could hold a lock that nobody else sees.
        with suppress(OSError):
            SYSTEM.truncate(descriptor, 0)
        with suppress(OSError):
            SYSTEM.close(descriptor)


def _owner(file: Path) -> _Owner | None:
    try:
        match json.loads(file.read_bytes()[:4096]):
            case {"pid": int(pid), "host": str(host), "started": str(started)}:
                return _Owner(pid, host, started)
            case _:
                return None
    except (OSError, ValueError, RecursionError):
        return None


def _lives(owner: _Owner) -> bool:
    if owner.host != socket.gethostname():
        return True  # nobody can tell from here
    started = _started(owner.pid)
    return started is not None and (not started or not owner.started or started == owner.started)
