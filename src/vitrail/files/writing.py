"""Atomic writing of files and folders: a temporary name, sync, then one rename."""

import hashlib
import os
import stat
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitrail.errors import ModelError
from vitrail.files.manifest import FILE_NAME, MANIFEST, FileEntry, manifest_text, others_in, read_manifest, verify_file
from vitrail.files.owner import LEFT_OVER, Recognise, is_published, require_own
from vitrail.files.system import NO_SUCH_CALL, explaining, make_folder, remove_tree, sync_folder, system, write_all

_PIECE_BYTES = 1 << 24
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.vitrail-{kind}-{os.getpid()}")


def is_being_replaced(path: Path) -> bool:
    """Whether a folder has no name at the moment, since another process is replacing it."""
    return not path.exists() and any(path.parent.glob(f"{path.name}.vitrail-old-*"))


class FileWriter:
    """A new file being written: counts and hashes its bytes. Got from `FolderWriter.create`."""

    def __init__(self, descriptor: int, *, shown: Path) -> None:
        self._descriptor, self._shown, self._sha256 = descriptor, shown, hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append bytes. Raises NotWritten when the disk refuses them."""
        with explaining(self._shown, self.size + len(data)):
            write_all(self._descriptor, data)
        self._sha256.update(data)
        self.size += len(data)

    @property
    def entry(self) -> FileEntry:
        """Size and SHA-256 of the bytes so far."""
        return FileEntry(self.size, self._sha256.hexdigest())


@contextmanager
def _new_file(path: Path, *, shown: Path) -> Generator[FileWriter, None, None]:
    """Open a file that must not exist yet (0644 under the umask); it is synced when the block ends without an error. `shown`: its name in
    errors."""
    with explaining(shown):
        descriptor = system().open(path, _NEW_FILE, 0o644)
    try:
        writer = FileWriter(descriptor, shown=shown)
        yield writer
        with explaining(shown, writer.size):
            system().fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            system().close(descriptor)
        raise
    with explaining(shown, writer.size):
        system().close(descriptor)


def write_file(path: Path, data: bytes, *, ours: Recognise | None = None) -> None:
    """Write a file atomically, as `publish_file` does.

    Args:   ours: whether an existing file may be replaced; default: the caller has checked it.
    Raises: UsageError where it may not; NotWritten.
    """
    if ours is not None and not _is_device(path):
        require_own({path: ours}, what=path.name)
    with publish_file(path, needed=len(data)) as file:
        file.write(data)


@contextmanager
def publish_file(path: Path, *, needed: int = 0) -> Generator[FileWriter, None, None]:
    """Write a file atomically, piece by piece: temporary name, write, fsync, rename, fsync of the folder. Missing parents are created.

    The mode is 0644 under the umask, so that a server of another user may read it (safetensors' own writer makes 0600).
    A device or a pipe (/dev/stdout) is written to, never replaced.
    Args:   needed: bytes, as far as they are known, for the error of a full disk.
    Raises: NotWritten naming path, bytes needed and bytes free; the previous version is then intact and no temporary file remains.
    """
    if _is_device(path):
        with explaining(path, needed):
            descriptor = system().open(path, os.O_WRONLY, 0)
        try:
            yield FileWriter(descriptor, shown=path)
        finally:
            with explaining(path, needed):
                system().close(descriptor)
        return
    temporary = _beside(path, "tmp")
    make_folder(path.parent)
    try:
        with explaining(path, needed):
            remove_tree(temporary)  # of a dead process with our number
        with _new_file(temporary, shown=path) as file:
            yield file
        with explaining(path, file.size):
            system().rename(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            remove_tree(temporary)
        raise


def _is_device(path: Path) -> bool:
    """Whether a name is that of a device, a pipe, or an open file of a process: something to write to, but no file of that name."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or (path.is_symlink() and path.absolute().parts[1] in ("dev", "proc"))


class FolderWriter:
    """A folder being written, not yet visible under its name. Got from `publish_folder`; `entries` lists its files so far."""

    def __init__(self, temporary: Path, *, shown: Path) -> None:
        self._temporary, self._shown = temporary, shown
        self.entries: dict[str, FileEntry] = {}

    @contextmanager
    def create(self, name: str) -> Generator[FileWriter, None, None]:
        """Open a new file for writing piece by piece; several may be open at once. Empty files are refused as our mistake: damaged files
        look like them."""
        assert FILE_NAME.fullmatch(name) and name not in self.entries, f"{name!r} cannot be a file's name here, or is taken"
        with _new_file(self._temporary / name, shown=self._shown / name) as file:
            yield file
        assert file.size > 0, f"{name} is empty"
        self.entries[name] = file.entry

    def write(self, name: str, data: bytes) -> None:
        """Write one file at once."""
        with self.create(name) as file:
            file.write(data)


@contextmanager
def publish_folder(path: Path, *, ours: Recognise = is_published, edited: Collection[str] = ()) -> Generator[FolderWriter, None, None]:
    """Write a folder atomically; it appears under its name, with its manifest, when the block ends without an error.

        with publish_folder(run / "model") as folder:
            folder.write("config.json", config)

    Order: each file is written and synced, the manifest last; the temporary folder is synced and put in its place; the parent is synced. An
    existing folder is exchanged with it in one step, so that a reader always finds one of the two. Where the system cannot do that, it is
    first set aside, and restored if the rename fails; if the process dies between the two renames, `sweep` restores it. Foreign files in it
    are kept.
    Args:   ours: whether an existing folder may be replaced. edited: files that people edit; they are kept, too.
    Raises: UsageError where it may not; NotWritten as `write_file`; the previous version is then intact and the temporary folder gone.
    """
    require_own({path: ours}, what=f"{path.name}/")
    temporary = _beside(path, "tmp")
    make_folder(path.parent)
    try:
        with explaining(path):
            remove_tree(temporary)
            system().mkdir(temporary, 0o777)
        writer = FolderWriter(temporary, shown=path)
        yield writer
        needed = sum(entry.size for entry in writer.entries.values())
        writer.write(MANIFEST, manifest_text(writer.entries))
        with explaining(path, needed):
            keep_entries(path, temporary, _not_ours(path, writer.entries, edited=edited))
            sync_folder(temporary)
            _put_in_place(temporary, path)
    except BaseException:
        with suppress(OSError):
            remove_tree(temporary)
        raise


def _not_ours(path: Path, written: Collection[str], *, edited: Collection[str]) -> list[str]:
    """Foreign or changed files in a published folder, if the new one has no file of that name or people edit it."""
    if not path.is_dir():
        return []
    try:
        before = read_manifest(path)
    except ModelError:
        before = dict[str, FileEntry]()
    by_hand = [name for name in edited if name in before and _is_edited(path / name, before[name])]
    return [*others_in(path, before.keys() | set(written)), *by_hand]


def _is_edited(path: Path, entry: FileEntry) -> bool:
    try:
        verify_file(path, entry)
    except ModelError:
        return path.is_file() and not path.is_symlink() and path.stat().st_size > 0
    return False


def keep_entries(path: Path, into: Path, names: Collection[str]) -> None:
    """Put some entries of a folder into another one as well, replacing entries of the same name. Raises NotWritten."""
    for name in names:
        with explaining(path / name):
            remove_tree(into / name)
            _share(path / name, into / name)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two entries of one folder in a single step, durably; False where the system cannot. Raises NotWritten."""
    with explaining(other):
        try:
            system().exchange(one, other)
        except OSError as error:
            if error.errno not in NO_SUCH_CALL:
                raise
            return False
        sync_folder(other.parent)
        return True


def _put_in_place(temporary: Path, path: Path) -> None:
    there = os.path.lexists(path)
    if there and exchange(temporary, path):
        with suppress(OSError):  # `sweep` removes what is left of the old
            remove_tree(temporary)
        return
    aside = _beside(path, "old")
    try:
        if there:
            remove_tree(aside)
            system().rename(path, aside)
        system().rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            if os.path.lexists(aside) and not os.path.lexists(path):
                system().rename(aside, path)
        raise
    sync_folder(path.parent)
    with suppress(OSError):
        remove_tree(aside)


def share_folder(path: Path, into: Path) -> None:
    """Give a folder a second name, atomically: with hard links where the system has them, copies elsewhere.

    An existing entry of that name is replaced. Precondition: its files are never written in place, so that the two names stay independent
    (true for prepared data, not for logs and locks). Raises NotWritten.
    """
    temporary = _beside(into, "tmp")
    make_folder(into.parent)
    try:
        with explaining(into):
            remove_tree(temporary)
            _share_tree(path, temporary)
            _put_in_place(temporary, into)
    except BaseException:
        with suppress(OSError):
            remove_tree(temporary)
        raise


def _share_tree(path: Path, into: Path) -> None:
    system().mkdir(into, 0o777)
    for entry in sorted(path.iterdir()):
        _share(entry, into / entry.name)
    sync_folder(into)


def _share(entry: Path, into: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        _share_tree(entry, into)
        return
    try:
        system().link(entry, into)
    except OSError:  # another disk, or a file system without links
        with _new_file(into, shown=into) as copy, entry.open("rb") as original:
            while piece := original.read(_PIECE_BYTES):
                copy.write(piece)


def rename(before: Path, after: Path) -> None:
    """Give a file or a folder another name in the same file system, durably. Raises NotWritten."""
    with explaining(after):
        system().rename(before, after)
        sync_folder(after.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder atomically: it is first renamed, durably. Raises NotWritten."""
    temporary = _beside(path, "tmp")
    with explaining(path):
        remove_tree(temporary)
        system().rename(path, temporary)
        sync_folder(path.parent)
        remove_tree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove the partial files of a killed process in a folder and its direct subfolders; folders that it had set aside get their names
    back.

    Precondition: no other process is writing there. `FolderLock` calls it when it has the lock. Raises NotWritten.
    """
    with explaining(folder):
        inner = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink() and not LEFT_OVER.fullmatch(entry.name)]
        for parent in (folder, *inner):
            for entry in sorted(parent.iterdir()):
                match = LEFT_OVER.fullmatch(entry.name)
                if match is None:
                    continue
                if match["kind"] == "old" and not os.path.lexists(parent / match["name"]):
                    system().rename(entry, parent / match["name"])
                    sync_folder(parent)
                else:
                    remove_tree(entry)
