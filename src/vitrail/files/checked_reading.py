"""Read one version of a published folder, even while another process publishes the next."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vitrail.errors import ModelError
from vitrail.files.writing import is_being_replaced

Result = TypeVar("Result")

_WAIT_SECONDS, _MOST_SECONDS = 0.05, 20


def read_whole(path: Path, read: Callable[[], Result]) -> Result:
    """The result of `read` on one version of a folder: if the folder was replaced meanwhile, it is read again.

    Raises the error of `read` if the folder was not replaced, so that the error is real; ModelError if it is replaced again and again.
    """
    deadline = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < deadline:
        before = _version(path)
        try:
            found = read()
        except ModelError:
            if _version(path) == before and not is_being_replaced(path):
                raise
        else:
            if _version(path) == before:
                return found
        time.sleep(_WAIT_SECONDS)
    raise ModelError(f"{path}: is replaced again and again while it is read", remedy="read it again later, or read a copy")


def _version(path: Path) -> tuple[int, int, int] | None:
    """Identifies a folder among others of the same name; inode numbers are reused, times are not."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
