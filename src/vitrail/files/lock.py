"""One process at a time in a folder."""

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from vitrail.errors import TrainingError
from vitrail.files.owner import require_own, start_of
from vitrail.files.system import NO_SUCH_CALL, explaining, make_folder, system, write_all
from vitrail.files.writing import remove_leftovers


class _Owner(NamedTuple):
    """The owner of a lock. `started` distinguishes a process from a later one with the same number; empty where unknown."""

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
        return ""  # os.kill would terminate it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return ""


LOCK = ".lock"


def _is_lock(path: Path) -> bool:
    return start_of(path, 1) in (b"{", b"[")


class FolderLock:
    """One process at a time in a folder: `with FolderLock(run): ...`

    The kernel's lock on `.lock` decides where there is one (it ends with its process, on any host of a correct network disk). Elsewhere the
    record in the file decides: a live process on this host, or any on another host, has the lock; a dead one has not, nor has a later
    process with its number. After locking, partial files of a killed process are removed (`sweep`).
    Raises: TrainingError "in use by pid P on host H"; NotWritten when the folder cannot be written; UsageError for a foreign `.lock`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> "FolderLock":
        file = self.path / LOCK
        require_own({file: _is_lock}, what="the lock of a folder")
        make_folder(self.path)
        with explaining(file):
            descriptor = system().open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            self._take(descriptor, file)
            remove_leftovers(self.path)
        except BaseException:
            with suppress(OSError):
                system().close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _take(self, descriptor: int, file: Path) -> None:
        with explaining(file):
            try:
                system().lock(descriptor)
            except BlockingIOError:
                raise self._in_use(_owner(file)) from None
            except OSError as error:
                if error.errno not in NO_SUCH_CALL:
                    raise
                owner = _owner(file)
                if owner is not None and _lives(owner):
                    raise self._in_use(owner) from None
            ours = _Owner(os.getpid(), socket.gethostname(), _started(os.getpid()) or "")
            system().truncate(descriptor, 0)
            write_all(descriptor, json.dumps(ours._asdict()).encode() + b"\n")
        if _owner(file) != ours:  # only without a kernel lock: another took the dead one's place in the same moment
            raise self._in_use(_owner(file))

    def _in_use(self, owner: _Owner | None) -> TrainingError:
        by = f"pid {owner.pid} on host {owner.host}" if owner else "another process"
        return TrainingError(
            f"{self.path}: in use by {by}",
            expected="one process at a time in a folder",
            remedy=f"wait for it, stop it, or use another folder; if it is certainly dead, delete {self.path / LOCK}",
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # The empty file stays: if it were deleted, a process that has it open could hold a lock that nobody else sees.
        with suppress(OSError):
            system().truncate(descriptor, 0)
        with suppress(OSError):
            system().close(descriptor)


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
        return True  # unknown on this host
    started = _started(owner.pid)
    return started is not None and (not started or not owner.started or started == owner.started)
