"""Functions that Numba compiles: once for a machine, then read from a cache that changes of any source make void.

Numba's own cache looks only at the file that a function is in, not at what the function calls. Here the cache folder's name has a hash of
all sources that may be compiled, of Numba's version and of the processor.
"""

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np

from vitrail.errors import UsageError
from vitrail.native.machine_code import Entry, MachineCode

P = ParamSpec("P")
R = TypeVar("R")
_SHARED = "native"
_PROGRAMS: dict[str, tuple[str, ...]] = {
    "vectors": ("vectors/steps", "vectors/training"),
    "shortlists": ("native/shortlists",),
    "matrices": ("native/matrices",),
    "search": ("native/search", "native/matrices"),
    "attention": ("native/attention",),
    "transformer": ("native/transformer", "native/matrices", "native/search", "native/attention"),
    "recurrent": ("native/recurrent", "native/matrices", "native/search", "native/attention"),
}
"""Folders, below the package, of all compiled functions that a program uses; those of `native` itself are used by all. A function
is kept with the first program that has its folder: what several programs share is a program by itself."""
_REORDERED = {"reassoc", "nsz", "contract"}


def has_numba() -> bool:
    """Whether Numba is installed."""
    return find_spec("numba") is not None


def entry_obstacle(module: str, name: str) -> str:
    """Why a `compiled_entry` cannot be had; empty where it can. Numba is imported only where it has to compile.

    Precondition: it is installed.
    """
    try:
        path = _path_of(module, name)
        if path is None or not path.exists():
            _numba()
    except (ImportError, OSError, AttributeError, SystemError) as error:  # such as of a Numba that does not know this NumPy
        return f"numba cannot be imported: {' '.join(str(error).split())}"
    return ""


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
    return _compile(function, _REORDERED)


def compiled_entry(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function one that `load_entry` compiles. It has one argument, a named tuple of numbers, arrays and tuples; Python calls it.

    Sums keep the order in which they are written, so that a result does not depend on how loops were compiled. It makes no arrays: what it
    works on is given. That saves most of the time of compiling, where arguments hold many arrays.
    """
    return _compile(function, False, inline="always")


_loaded: dict[tuple[str, str], Entry] = {}
_loading = threading.RLock()


def load_entry(module: str, name: str) -> Entry:
    """A `compiled_entry`, from the cache where it is there. Otherwise its module is imported, and it is compiled, by one thread for all."""
    found = _loaded.get((module, name))
    if found is None:  # a forked process, where a lock may stay locked, has it before
        with _loading:
            found = _loaded.get((module, name)) or _load_entry(module, name)
            _loaded[module, name] = found
    return found


def _load_entry(module: str, name: str) -> Entry:
    path = _path_of(module, name)
    made = None if path is None else MachineCode.kept(path)
    if made is None:
        function = getattr(import_module(module), name)
        made = cast(MachineCode, import_module("vitrail.native.entry").machine_code_of(function, signature_of(function.py_func)))
        if path is not None:
            made.keep(path)
    return Entry(made)


def _path_of(module: str, name: str) -> Path | None:
    folder = cache_folder(program_of(module))
    return None if folder is None else folder / f"{module}.{name}.code"


def compiled_inside(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that only compiled code calls. It is typed as soon as its module is imported, and becomes machine code as a
    part of an entry: see `vitrail.native.entry`. It gets large tuples by reference: see `vitrail.native.references`."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": import_module("vitrail.native.entry").PartCompiler}
    return _compile(function, False, signature_of(function, inside=True), kept=False, **options)


def _compile(
    function: Callable[P, R], reordered: set[str] | bool, signature: Any = None, *, kept: bool = True, **options: Any
) -> Callable[P, R]:
    numba = _numba()
    folder = cache_folder(program_of(function.__module__)) if kept else None
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)
    kinds = () if signature is None else (signature,)
    decorate = numba.njit(*kinds, nogil=True, cache=folder is not None, error_model="numpy", fastmath=reordered, _nrt=False, **options)
    return cast(Callable[P, R], decorate(function))


@contextmanager
def compiling(what: str, say: Callable[[str], None], *, program: str, after: float) -> Generator[None]:
    """Tell that the first calls of a program's functions take long, where they do: code that is in the cache is there at once.

    Args:
        what: is compiled, such as "for vectors of 100 numbers (some seconds)".
        after: seconds until it is told, more than reading the cache takes.
    """
    told, began = threading.Event(), time.monotonic()
    timer = threading.Timer(after, lambda: (told.set(), say(f"compiling {what}, once on this machine")))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if told.is_set():
        kept = "" if cache_folder(program) else "; not kept, as no cache can be written"
        say(f"compiled in {time.monotonic() - began:.0f} seconds{kept}")


def signature_of(function: Callable[..., Any], *, inside: bool = False) -> Any:
    """The types of a function's arguments and result for Numba, from its annotations. Args: inside: large named tuples by reference."""
    hints = get_type_hints(function)
    result = _type_of(hints.pop("return"))
    kinds = [_type_of(hint) for hint in hints.values()]
    return result(*(import_module("vitrail.native.references").by_reference(kind) if inside else kind for kind in kinds))


def _type_of(hint: Any) -> Any:
    """Numba's type: of numbers, of arrays of one dimension, of tuples of these, named or not, and of those that `numba_type` names."""
    types = import_module("numba.types")
    plain = {int: types.int64, float: types.float64, bool: types.boolean, type(None): types.void}
    if hint in plain:
        return plain[hint]
    if hasattr(hint, "numba_type"):
        return hint.numba_type()
    if hasattr(hint, "_fields"):
        return types.BaseTuple.from_types([_type_of(part) for part in get_type_hints(hint).values()], hint)
    parts = get_args(hint)
    if get_origin(hint) is tuple:
        return types.BaseTuple.from_types([_type_of(part) for part in parts])
    (number,) = get_args(parts[-1]) or parts  # NDArray[number] is ndarray[..., dtype[number]] before NumPy 2.5, and stays itself since then
    return types.Array(_numba().from_dtype(np.dtype(number)), 1, "C")


def program_of(module: str) -> str:
    """The program that a module's functions are kept with; "" for none of those known."""
    path = module.removeprefix("vitrail.").replace(".", "/")
    found = (name for name, folders in _PROGRAMS.items() if any(f"{path}/".startswith(f"{folder}/") for folder in folders))
    return next(found, "")


@cache
def cache_folder(program: str = "") -> Path | None:
    """Where compiled functions are kept: below `VITRAIL_CACHE`, else the user's cache folder. None where none can be written, and where the
    user has no home.

    Code is read back from there, so a folder that others may write to is not used.

    Args: program: whose functions; each has a folder of its own, so that a change of one does not compile the other anew.
    """
    given = os.environ.get("VITRAIL_CACHE")
    try:
        above = Path(given or _user_cache())
        folder = above / f"native-{program or 'other'}-{_key(program)}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except (OSError, RuntimeError):
        return None
    own = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return folder if own and os.access(folder, os.W_OK) else None


def _user_cache() -> Path:
    """Raises OSError where the user has no home, which is not made."""
    if told := os.environ.get("XDG_CACHE_HOME"):
        return Path(told) / "vitrail"
    return Path.home().resolve(strict=True) / ".cache" / "vitrail"


def _numba() -> Any:
    """Numba, which has no types."""
    return import_module("numba")


@cache
def processor_features() -> frozenset[str]:
    """What the processor can do, by LLVM's names, such as avx2; where `NUMBA_CPU_FEATURES` pretends another one, what that can."""
    import llvmlite.binding as llvm

    pretended = os.environ.get("NUMBA_CPU_FEATURES")
    if pretended is not None:
        return frozenset(part[1:] for part in pretended.split(",") if part.startswith("+"))
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@cache
def _key(program: str) -> str:
    import llvmlite.binding as llvm

    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    digest = hashlib.sha256(f"{version('numba')} {version('llvmlite')} {name}".encode())
    digest.update(repr(sorted(processor_features())).encode())
    package = Path(__file__).parents[1]
    own = (path for folder in _PROGRAMS.get(program, ()) for path in (package / folder).rglob("*.py"))
    for path in sorted([*(package / _SHARED).glob("*.py"), *own]):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
