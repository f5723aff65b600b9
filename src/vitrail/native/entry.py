"""Machine code of a function that Python calls: Numba's, behind one that reads the arguments from a table of words.

LLVM optimises the entry with all that it calls, once. Numba would do so for each function with all that *it* calls, and make machine code
of each, which took half of the time of compiling.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

from llvmlite import ir
from numba import njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype

from vitrail.native.lowering import inlined
from vitrail.native.machine_code import FLOAT, INT, MachineCode

_WORD = ir.IntType(64)


class _NoEnvironments:
    """Where Numba writes the Python globals of a function that has machine code: here none has."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        return


class _Part(JITCodeLibrary):
    """The code of a function that is neither optimised nor called by itself."""

    @property
    def codegen(self) -> Any:
        return _NoEnvironments()

    def _optimize_final_module(self) -> None:
        return

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0


class PartCompiler(CompilerBase):
    """Compiles a function that becomes a part of an entry."""

    def define_pipelines(self) -> list[Any]:
        """See Numba's `CompilerBase`."""
        state: Any = self.state
        state["library"] = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        return [cast(Any, DefaultPassBuilder).define_nopython_pipeline(state)]


def machine_code_of(function: Callable[..., Any], signature: Any) -> MachineCode:
    """Compile a function of Numba for these types: of one argument; it returns a number and raises nothing."""
    (argument,) = signature.args

    @inlined
    def read(typingctx: Any, table: Any) -> Any:
        def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
            return _read(context, builder, argument, _words(builder, args[0]))

        return argument(types.int64), code

    def entry(table: int) -> int:
        return int(function(read(table)))

    options = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    (made,) = cast(Any, njit)(types.int64(types.int64), **options)(entry).overloads.values()
    found = made._asdict()  # Numba's result is a named tuple
    layout, library = [_layout(part) for part in _parts(argument)], found["library"]
    return MachineCode(found["fndesc"].llvm_func_name, _called(library), layout, library._get_compiled_object())


def _called(library: Any) -> tuple[str, ...]:
    """The functions of other libraries that the code calls by name."""
    functions = library._final_module.functions
    return tuple(sorted(one.name for one in functions if one.is_declaration and not one.name.startswith("llvm.")))


def _parts(kind: Any) -> Any:
    """The types in the type of a tuple."""
    return kind.types


def _words(builder: Any, address: Any) -> Iterator[Any]:
    """The words of a table, each read when it is asked for."""
    table, at = builder.inttoptr(address, _WORD.as_pointer()), 0
    while True:
        yield builder.load(builder.gep(table, [ir.Constant(_WORD, at)]))
        at += 1


def _read(context: Any, builder: Any, kind: Any, words: Iterator[Any]) -> Any:
    """A value of a type."""
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_read(context, builder, part, words) for part in _parts(kind)])
    if isinstance(kind, types.Array):
        made = context.make_array(kind)(context, builder)
        size = ir.Constant(_WORD, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        data = builder.inttoptr(next(words), made.data.type)
        populate_array(made, data=data, shape=[next(words)], strides=[size], itemsize=size, meminfo=None)
        return made._getvalue()
    return builder.bitcast(next(words), ir.DoubleType()) if kind == types.float64 else next(words)


def _layout(kind: Any) -> Any:
    """How `machine_code.add_words` writes what `_read` reads."""
    if isinstance(kind, types.BaseTuple):
        return [_layout(part) for part in _parts(kind)]
    if isinstance(kind, types.Array):
        return as_dtype(kind.dtype).str
    assert kind in (types.int64, types.float64), f"{kind} as an argument"
    return FLOAT if kind == types.float64 else INT
