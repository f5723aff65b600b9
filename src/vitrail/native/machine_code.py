"""Machine code of one function: Numba made it once, a file keeps it, and it is called without Numba.

Numba needs half a second to start and 100 MB; what it made needs LLVM's loader alone. Such a function gets the address of a table of 64-bit
words: its argument, a tuple, part after part; of each array where it begins and how many numbers it has.
"""

import ctypes
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from importlib import import_module
from operator import index
from pathlib import Path
from struct import pack
from typing import Any, NamedTuple

import numpy as np

from vitrail.files import NotWritten, seal, unseal, write_file
from vitrail.native.arrays import Address, address_of

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
        self._layout, self._memory = with_types(made.layout), _load(made)
        # How Numba's functions are called: a place for the result, a place for an error, the arguments; 0 is returned where all is well.
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._function = kind(self._memory.get_function_address(made.symbol))

    def words(self, part: int, value: Any) -> "array[int]":
        """The words of one part of the argument, which can be given in its place as long as that part lives."""
        words = list[int]()
        add_words(words, [self._layout[part]], (value,), address_of)
        return array("q", words)

    def __call__(self, argument: Sequence[Any], address: Address = address_of) -> int:
        """Call it. Precondition: the argument is of the type of its annotation, with arrays of one dimension without gaps, or has the
        words of some part in its place. Args: address: says where an array begins."""
        return self.bound(argument, address)()

    def bound(self, argument: Sequence[Any], address: Address = address_of) -> Callable[[], int]:
        """The same for several calls with one argument, whose arrays may change and must live as long as the calls."""
        table = array("q")
        for layout, part in zip(self._layout, argument, strict=True):
            if isinstance(part, array):
                table += part
            else:
                words = list[int]()
                add_words(words, [layout], (part,), address)
                table.extend(words)

        def call() -> int:
            result, error = ctypes.c_int64(), ctypes.c_void_p()
            status = self._function(ctypes.byref(result), ctypes.byref(error), table.buffer_info()[0])
            assert status == 0, "compiled code raises nothing"
            return result.value

        return call


def add_words(words: list[int], layout: list[Any], values: Sequence[Any], address: Address) -> None:
    """Append the values of a layout to a table. Raises TypeError for a number with a fraction in place of a whole one.

    Args: layout: as `with_types` gives it.
    """
    for kind, value in zip(layout, values, strict=True):
        if isinstance(kind, np.dtype):
            assert value.dtype == kind, f"an array of {value.dtype.str} in place of {kind.str}"
            length = len(value)
            words += (address(value), length) if length else (0, 0)
        elif isinstance(kind, list):
            add_words(words, kind, value, address)
        elif kind == INT:
            words.append(index(value))
        else:
            words.append(int.from_bytes(pack("d", value), sys.byteorder, signed=True))


def with_types(layout: Any) -> Any:
    """A layout with NumPy's types in place of their names."""
    if isinstance(layout, list):
        return [with_types(part) for part in layout]
    return layout if layout in (INT, FLOAT) else np.dtype(layout)


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
