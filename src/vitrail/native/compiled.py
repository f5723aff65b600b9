"""Functions that Numba compiles: once for a machine, then read from a cache that changes of any source make void.

Numba's own cache looks only at the file that a function is in, not at what the function calls. Here the cache folder's name has a hash of
all sources that may be compiled, of Numba's version and of the processor.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from vitrail.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
_SOURCES = ("native", "vectors/steps", "vectors/training")
"""Folders of functions that are compiled, below the package."""
_SILENT_SECONDS = 0.7


def has_numba() -> bool:
    """Whether Numba is installed."""
    return find_spec("numba") is not None


def require_numba(what: str) -> None:
    """Raise UsageError where Numba is not installed."""
    if not has_numba():
        raise UsageError(f"{what}: numba is not installed", expected="the extra `fast`", remedy="pip install 'vitrail[fast]'")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function at its first call, for the types that it is called with; it runs without Python's lock.

    Sums may be reordered and multiply-adds fused, as in any fast matrix product. Indices are not checked: callers check shapes before.
    Nothing may be allocated inside: arrays are not counted, as each call would otherwise count every array that it is given, which took
    half the time of word vectors.
    """
    numba = _numba()
    folder = cache_folder()
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)
    fast: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "nsz", "contract"}, "_nrt": False}
    decorate = numba.njit(nogil=True, cache=folder is not None, **fast)
    return cast(Callable[P, R], decorate(function))


@contextmanager
def compiling(what: str, say: Callable[[str], None]) -> Generator[None]:
    """Tell that the first calls of compiled functions take seconds, where they do: code that is in the cache is there at once."""
    timer = threading.Timer(_SILENT_SECONDS, say, (f"compiling {what}, once on this machine: some seconds",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def cache_folder() -> Path | None:
    """Where compiled functions are kept: below `VITRAIL_CACHE`, else the user's cache folder. None where none can be written.

    Code is read back from there, so a folder that others may write to is not used.
    """
    given = os.environ.get("VITRAIL_CACHE")
    try:
        above = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitrail"
        folder = above / f"native-{_key()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except (OSError, RuntimeError):
        return None
    own = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return folder if own and os.access(folder, os.W_OK) else None


def _numba() -> Any:
    """Numba, which has no types."""
    return import_module("numba")


@cache
def _key() -> str:
    import llvmlite.binding as llvm

    numba = _numba()
    digest = hashlib.sha256(f"{numba.__version__} {numba.config.CPU_NAME or llvm.get_host_cpu_name()}".encode())
    digest.update(repr(sorted(name for name, there in llvm.get_host_cpu_features().items() if there)).encode())
    package = Path(__file__).parents[1]
    for path in sorted(path for folder in _SOURCES for path in (package / folder).rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
