"""Machine code of one function: Numba made it once, a file keeps it, and it is called without Numba.

Numba needs half a second to start and 100 MB; what it made needs LLVM's loader alone. Such a function gets the address of a table of 64-bit
words: its argument, a tuple, part after part; of each array where it begins and how many numbers it has.
"""

import ctypes
from array import array
from base64 import b64decode, b64encode
from copy import copy
from importlib import import_module
from pathlib import Path
from struct import pack
from typing import Any, NamedTuple

import numpy as np

from vitrail.files import NotWritten, seal, unseal, write_file

INT, FLOAT = "int", "float"
"""In a layout: numbers. An array is there as NumPy writes its type (<f4), a tuple as the list of its parts."""
_INTS = "ints"


class MachineCode(NamedTuple):
    """A function as an object file."""

    symbol: str
    """Its name in there."""
    needs: tuple[str, ...]
    """Functions that it calls and that a library may have to bring."""
    layout: list[Any]
    """Of the parts of its argument."""
    code: bytes

    def keep(self, path: Path) -> None:
        """Write it to a file of the cache; where that cannot be, it is made anew the next time."""
        try:
            write_file(path, seal(self._asdict() | {"code": b64encode(self.code).decode()}))
        except NotWritten:
            return

    @classmethod
    def kept(cls, path: Path) -> "MachineCode | None":
        """What was kept in a file; None where nothing was, or the file is damaged."""
        try:
            found = unseal(path.read_bytes())
            return cls(found["symbol"], tuple(found["needs"]), found["layout"], b64decode(found["code"]))
        except (OSError, ValueError, KeyError):
            return None


class Entry:
    """A function in memory. It is called with the parts of its argument, returns a whole number, raises nothing, and runs without Python's
    lock.

    Args: given: the first parts, which are put into words once for all calls.
    """

    def __init__(self, made: MachineCode) -> None:
        self._layout, self._memory = [_compact(one) for one in made.layout], _load(made)
        # How Numba's functions are called: a place for the result, a place for an error, the argument; 0 is returned where all is well.
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._function = kind(self._memory.get_function_address(made.symbol))
        self._count = sum(map(_count, made.layout))
        self._given: tuple[Any, ...] = ()
        self._words = array("q")

    def given(self, *parts: Any) -> "Entry":
        """The same with its first parts given, which are put into words once for all calls."""
        made = copy(self)
        made._given, made._words = parts, self.words(*parts)
        return made

    def words(self, *parts: Any) -> "array[int]":
        """The table for some parts, after those that are given."""
        words = self._words[:]
        for layout, part in zip(self._layout[len(self._given) :], parts, strict=False):
            _add_words(words, layout, part)
        return words

    def __call__(self, *parts: Any) -> int:
        """Call it. Precondition: the parts are of the types of its annotation, with writable arrays of one dimension without gaps."""
        words, result, error = self.words(*parts), ctypes.c_int64(), ctypes.c_void_p()
        assert len(words) == self._count, f"{len(words)} words in place of {self._count}"
        status = self._function(ctypes.byref(result), ctypes.byref(error), words.buffer_info()[0])
        assert status == 0, "compiled code raises nothing"
        return result.value


def _count(layout: Any) -> int:
    """The words of a layout."""
    return sum(map(_count, layout)) if isinstance(layout, list) else 1 if layout in (INT, FLOAT) else 2


def _compact(layout: Any) -> Any:
    """A layout in which tuples of whole numbers alone are one word, and types of arrays are NumPy's."""
    if not isinstance(layout, list):
        return layout if layout in (INT, FLOAT) else np.dtype(layout)
    parts: list[Any] = layout
    return _INTS if all(part == INT for part in parts) else [_compact(part) for part in parts]


def _add_words(words: "array[int]", layout: Any, value: Any) -> None:
    """Append a value of a layout to a table. Raises TypeError for a number with a fraction in place of a whole one."""
    if isinstance(layout, np.dtype):
        assert value.dtype == layout, f"an array of {value.dtype} in place of {layout}"
        # A third of the time of `value.ctypes.data`. An empty array has no place, and none is needed.
        words.append(ctypes.addressof(ctypes.c_char.from_buffer(value)) if len(value) else 0)
        words.append(len(value))
    elif layout == _INTS:
        words.extend(value)
    elif layout == INT:
        words.append(value)
    elif layout == FLOAT:
        words.frombytes(pack("d", value))
    else:
        for inner, part in zip(layout, value, strict=True):
            _add_words(words, inner, part)


def _load(made: MachineCode) -> Any:
    """The memory with the code, which lives as long as this object."""
    llvm: Any = import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if any(llvm.address_of_symbol(name) is None for name in made.needs):
        import_module("numba")  # loads the libraries of mathematical functions that it found when it made the code
    memory = llvm.create_mcjit_compiler(llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine(jit=True))
    memory.add_object_file(llvm.object_file.ObjectFileRef.from_data(made.code))
    memory.finalize_object()
    return memory
