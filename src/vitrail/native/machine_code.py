"""Machine code of one function: Numba made it once, a file keeps it, and it is called without Numba.

Numba needs half a second to start and 100 MB; what it made needs LLVM's loader alone. Such a function gets the address of a table of 64-bit
words: its argument, a tuple, part after part; of each array where it begins and how many numbers it has.
"""

import ctypes
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from struct import pack
from typing import Any, NamedTuple

from vitrail.files import NotWritten, seal, unseal, write_file

INT, FLOAT = "int", "float"
"""In a layout: numbers. An array is there as NumPy writes its type (<f4), a tuple as the list of its parts."""


class MachineCode(NamedTuple):
    """A function as an object file."""

    symbol: str
    """Its name in there."""
    needs: tuple[str, ...]
    """Functions that it calls and that a library may have to bring."""
    layout: list[Any]
    """Of its argument."""
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
    """A function in memory. It returns a whole number, raises nothing, and runs without Python's lock."""

    def __init__(self, made: MachineCode) -> None:
        self._layout, self._memory = made.layout, _load(made)
        # How Numba's functions are called: a place for the result, a place for an error, the arguments; 0 is returned where all is well.
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._function = kind(self._memory.get_function_address(made.symbol))

    def __call__(self, argument: Any) -> int:
        """Call it. Precondition: the argument is of the type of its annotation, with arrays of one dimension without gaps."""
        return self.bound(argument)()

    def bound(self, argument: Any) -> Callable[[], int]:
        """The same for several calls with one argument, whose arrays may change."""
        words = array("q")
        add_words(words, self._layout, argument)

        def call(kept: Any = argument) -> int:
            result, error = ctypes.c_int64(), ctypes.c_void_p()
            status = self._function(ctypes.byref(result), ctypes.byref(error), words.buffer_info()[0])
            assert status == 0, "compiled code raises nothing"
            return result.value

        return call


def add_words(words: "array[int]", layout: Any, value: Any) -> None:
    """Append a value of a layout to a table. Raises TypeError for a number with a fraction in place of a whole one."""
    if layout == INT:
        words.append(value)
    elif layout == FLOAT:
        words.frombytes(pack("d", value))
    elif isinstance(layout, str):
        assert value.dtype.str == layout, f"an array of {value.dtype.str} in place of {layout}"
        words.append(value.__array_interface__["data"][0])
        words.append(len(value))
    else:
        for inner, part in zip(layout, value, strict=True):
            add_words(words, inner, part)


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
