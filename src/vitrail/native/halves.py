"""Numbers of 16 bits with the exponent of float32 (bfloat16), two and two: products whose sums are float32.

As in `lanes`, functions can be called in compiled code only, and nothing checks indices.
"""

from typing import Any

from llvmlite import ir
from numba import types

from vitrail.native.compiled import processor_features
from vitrail.native.integers import integers
from vitrail.native.lanes import COUNT, lanes
from vitrail.native.lowering import address, call, inlined

_I16, _I32 = ir.IntType(16), ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), COUNT)
_INTEGERS = ir.VectorType(_I32, COUNT)


class _BFloat(ir.Type):
    """LLVM's type, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"


_PAIRS = ir.VectorType(_BFloat(), 2 * COUNT)


def _constant(number: int) -> Any:
    return ir.Constant(_INTEGERS, [number] * COUNT)


@inlined
def store_halves(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + 16] = the nearest number of 16 bits of each, the even one of two; NaN stays NaN. Args: array: of uint16."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        bits = builder.bitcast(args[2], _INTEGERS)
        odd = builder.and_(builder.lshr(bits, _constant(16)), _constant(1))
        nearest = builder.lshr(builder.add(bits, builder.add(odd, _constant(0x7FFF))), _constant(16))
        found = builder.select(builder.fcmp_unordered("uno", args[2], args[2]), _constant(0x7FC0), nearest)
        halves = ir.VectorType(_I16, COUNT)
        builder.store(builder.trunc(found, halves), address(context, builder, array, args[0], args[1], halves), align=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@inlined
def dot2(typingctx: Any, sums: Any, first: Any, second: Any) -> Any:
    """sums[i] + the sum over j = 0, 1 of first.half[2i + j] * second.half[2i + j]: one instruction with AVX512-BF16."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        total, x, y = args
        if "avx512bf16" in processor_features():
            pairs = (builder.bitcast(value, _PAIRS) for value in (x, y))
            return call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, total, *pairs)
        low = (builder.shl(value, _constant(16)) for value in (x, y))
        high = (builder.and_(value, _constant(-65536)) for value in (x, y))
        for pair in (low, high):
            a, b = (builder.bitcast(value, _FLOATS) for value in pair)
            total = call(builder, "llvm.fmuladd.v16f32", _FLOATS, a, b, total)
        return total

    return lanes(lanes, integers, integers), code
