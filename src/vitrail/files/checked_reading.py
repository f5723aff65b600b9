"""Reading a published folder whole, of one version, while another process may be publishing the next."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vitrail.errors import ModelError
from vitrail.files.writing import is_being_replaced

Result = TypeVar("Result")

_TRIES = 8
_WAIT_SECONDS = 0.05


def read_whole(path: Path, read: Callable[[], Result]) -> Result:
    """What `read` finds in a folder, of one version of it: where the folder was replaced meanwhile, it is read again.

    Raises what `read` raises where the folder stayed the same, so that something is truly wrong with it.
    """
    for _ in range(_TRIES):
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
    return read()


def _version(path: Path) -> tuple[int, int, int] | None:
    """What tells a folder from another one of the same name; numbers of folders are given again, times are not."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
