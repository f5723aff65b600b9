"""Vectors of 16 whole numbers of 32 bits, and the product of bytes that 8-bit matrices are multiplied with.

`dot4` becomes one instruction with AVX512-VNNI, two with AVX-VNNI, and a few with AVX-512, AVX2, SSE2 and NEON: the sum is the same.
As in `lanes`, functions can be called in compiled code only, and nothing checks indices.
"""

import operator
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import register_model

from vitrail.native.compiled import processor_features
from vitrail.native.lanes import COUNT, lanes
from vitrail.native.lowering import address, call, infix, inlined, pick, spread_value

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), COUNT)
_INTEGERS = ir.VectorType(_I32, COUNT)
_BYTES = ir.VectorType(_I8, COUNT)


class _Integers(types.Type):
    def __init__(self) -> None:
        super().__init__(name="16 x int32")


class _IntegerRegisters(types.Type):
    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"{count} x 16 x int32")


@register_model(_Integers)
class _IntegersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _INTEGERS)


@register_model(_IntegerRegisters)
class _IntegerRegistersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _INTEGERS.as_pointer())


integers = _Integers()
infix(integers, operator.add, lambda builder, x, y: builder.add(x, y))
infix(integers, operator.sub, lambda builder, x, y: builder.sub(x, y))


@inlined
def spread_integer(typingctx: Any, value: Any) -> Any:
    """A whole number, 16 times."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return spread_value(builder, args[0], COUNT)

    return integers(types.int32), code


@inlined
def load_integers(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index : index + 16] of an array of int32; of smaller numbers as many as fill 64 bytes, four bytes in each number."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.load(address(context, builder, array, args[0], args[1], _INTEGERS), align=array.dtype.bitwidth // 8)

    return integers(array, types.intp), code


@inlined
def spread_bytes(typingctx: Any, array: Any, index: Any) -> Any:
    """Four bytes that begin at array[index], 16 times."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return spread_value(builder, builder.load(address(context, builder, array, args[0], args[1], _I32), align=1), COUNT)

    return integers(array, types.intp), code


@inlined
def store_bytes(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + 16] = the lowest byte of each."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[2], _BYTES), address(context, builder, array, args[0], args[1], _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, integers), code


@inlined
def to_floats(typingctx: Any, value: Any) -> Any:
    """The same numbers as float32."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.sitofp(args[0], _FLOATS)

    return lanes(integers), code


@inlined
def rounded(typingctx: Any, value: Any) -> Any:
    """The nearest whole number of each, the even one of two. Precondition: all are within 32 bits."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.fptosi(call(builder, "llvm.rint.v16f32", _FLOATS, args[0]), _INTEGERS)

    return integers(lanes), code


@inlined
def integer_registers(typingctx: Any, shape: Any) -> Any:
    """As `lanes.registers`, for whole numbers."""
    kind = _IntegerRegisters(cast(int, shape.count))

    def code(context: Any, builder: Any, types_: Any, args: Any) -> Any:
        return cgutils.alloca_once(builder, _INTEGERS, size=kind.count)

    return kind(shape), code


@inlined
def get_integers(typingctx: Any, room: Any, place: Any) -> Any:
    """The vector at a place of `integer_registers`."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return integers(room, types.intp), code


@inlined
def put_integers(typingctx: Any, room: Any, place: Any, value: Any) -> Any:
    """Set the vector at a place of `integer_registers`."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(room, types.intp, integers), code


@inlined
def dot4(typingctx: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """sums[i] + the sum over j = 0..3 of unsigned.byte[4i + j] * signed.byte[4i + j], exactly."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        features = processor_features()
        if "avx512vnni" in features:
            return call(builder, "llvm.x86.avx512.vpdpbusd.512", _INTEGERS, *args)
        if "avxvnni" in features:
            return _in_halves(builder, args, _vnni_of_half)
        return _by_words(builder, *args, features=features)

    return integers(integers, integers, integers), code


def _vnni_of_half(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    return call(builder, "llvm.x86.avx512.vpdpbusd.256", sums.type, sums, unsigned, signed)


def _in_halves(builder: Any, values: Any, make: Any) -> Any:
    """A vector that is made of the lower and of the upper halves."""
    made = [
        make(builder, *(pick(builder, value, list(range(h, h + value.type.count // 2))) for value, h in parts))
        for parts in ([(value, 0) for value in values], [(value, value.type.count // 2) for value in values])
    ]
    return builder.shuffle_vector(*made, ir.Constant(_INTEGERS, list(range(COUNT))))


def _by_words(builder: Any, sums: Any, unsigned: Any, signed: Any, *, features: frozenset[str]) -> Any:
    """Products of words of 16 bits: first of the even bytes, then of the odd ones."""
    words = ir.VectorType(_I16, 2 * COUNT)
    a, w = builder.bitcast(unsigned, words), builder.bitcast(signed, words)
    eight, low = ir.Constant(words, [8] * 2 * COUNT), ir.Constant(words, [255] * 2 * COUNT)
    even = builder.and_(a, low), builder.ashr(builder.shl(w, eight), eight)
    odd = builder.lshr(a, eight), builder.ashr(w, eight)
    for x, y in (even, odd):
        sums = builder.add(sums, _pairs(builder, x, y, features=features))
    return sums


def _pairs_of_half(builder: Any, x: Any, y: Any) -> Any:
    return call(builder, "llvm.x86.avx2.pmadd.wd", ir.VectorType(_I32, COUNT // 2), x, y)


def _pairs(builder: Any, x: Any, y: Any, *, features: frozenset[str]) -> Any:
    """The sums of the products of each two neighbouring words."""
    if "avx512bw" in features:
        return call(builder, "llvm.x86.avx512.pmaddw.d.512", _INTEGERS, x, y)
    if "avx2" in features:
        return _in_halves(builder, (x, y), _pairs_of_half)
    even, odd = (
        builder.mul(*(builder.sext(pick(builder, value, list(range(first, 2 * COUNT, 2))), _INTEGERS) for value in (x, y)))
        for first in (0, 1)
    )
    return builder.add(even, odd)
