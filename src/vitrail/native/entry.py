"""Machine code of a function that Python calls: Numba's, behind one that reads the arguments from a table of words."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import numba
from llvmlite import ir
from numba import types
from numba.np.arrayobj import populate_array

from vitrail.native.lowering import inlined
from vitrail.native.machine_code import FLOAT, INT, MachineCode

_WORD = ir.IntType(64)


def machine_code_of(function: Callable[..., Any], signature: Any) -> MachineCode:
    """Compile a function of Numba for these types: of one argument; it returns a number and raises nothing."""
    (argument,) = signature.args

    @inlined
    def read(typingctx: Any, table: Any) -> Any:
        def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
            return _read(context, builder, argument, _words(builder, args[0]))

        return argument(types.int64), code

    @numba.njit(types.int64(types.int64), error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def entry(table: int) -> int:
        return int(function(read(table)))

    (made,) = cast(Any, entry).overloads.values()
    final = ir_functions(made.library)
    return MachineCode(made.fndesc.llvm_func_name, tuple(final), _layout(argument), made.library._get_compiled_object())


def ir_functions(library: Any) -> list[str]:
    """The functions of other libraries that some code calls by name."""
    functions = library._final_module.functions
    return sorted(one.name for one in functions if one.is_declaration and not one.name.startswith("llvm."))


def _words(builder: Any, address: Any) -> Iterator[Any]:
    """The words of a table, each read when it is asked for."""
    table, at = builder.inttoptr(address, _WORD.as_pointer()), 0
    while True:
        yield builder.load(builder.gep(table, [ir.Constant(_WORD, at)]))
        at += 1


def _read(context: Any, builder: Any, kind: Any, words: Iterator[Any]) -> Any:
    """A value of a type."""
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_read(context, builder, part, words) for part in kind.types])
    if isinstance(kind, types.Array):
        made, size = (
            context.make_array(kind)(context, builder),
            ir.Constant(_WORD, context.get_abi_sizeof(context.get_data_type(kind.dtype))),
        )
        data = builder.inttoptr(next(words), made.data.type)
        populate_array(made, data=data, shape=[next(words)], strides=[size], itemsize=size, meminfo=None)
        return made._getvalue()
    return builder.bitcast(next(words), ir.DoubleType()) if kind == types.float64 else next(words)


def _layout(kind: Any) -> Any:
    """How `machine_code.add_words` writes what `_read` reads."""
    if isinstance(kind, types.BaseTuple):
        return [_layout(part) for part in kind.types]
    if isinstance(kind, types.Array):
        return numba.np.numpy_support.as_dtype(kind.dtype).str
    assert kind in (types.int64, types.float64), f"{kind} as an argument"
    return FLOAT if kind == types.float64 else INT
