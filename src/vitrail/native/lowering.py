"""What the operations of `lanes` and `integers` are made of: calls of LLVM, addresses in arrays, operators."""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

_I32 = ir.IntType(32)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives the types of its result and arguments, and the code that stands for a call."""
    return cast(Callable[..., Any], intrinsic(function))


def infix(vector: Any, function: Any, make: Callable[[Any, Any, Any], Any]) -> None:
    """Give an operator of Python a meaning for two vectors of a type."""

    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(vector, vector, vector) if args == (vector, vector) else None

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return make(builder, *args)

    cast(Any, infer_global)(function)(Typing)
    lower_builtin(function, vector, vector)(code)


def call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call a function of LLVM."""
    kind = ir.FunctionType(result, [one.type for one in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def spread_value(builder: Any, value: Any, count: int) -> Any:
    """A number, `count` times."""
    first = builder.insert_element(ir.Constant(ir.VectorType(value.type, count), ir.Undefined), value, ir.Constant(_I32, 0))
    return pick(builder, first, [0] * count)


def pick(builder: Any, vector: Any, places: list[int]) -> Any:
    """The elements of a vector at these places."""
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, len(places)), places))


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, item: Any) -> Any:
    """Where array[index] is, as a pointer to `item`."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), item.as_pointer())
