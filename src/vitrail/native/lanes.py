"""Vectors of 16 numbers as values of Numba code: one register with AVX-512, two with AVX2, four with SSE2 and NEON.

A plain Numba loop becomes vector instructions only when LLVM can prove that it may; sums and products of several rows at once rarely do.
Here `load(a, i) * load(b, j) + c` is what it says. Everything lowers to LLVM's own vector operations, so it runs on every processor.

Functions of this module can be called in compiled code only. Nothing checks indices.
"""

import operator
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import register_model

from vitrail.native.lowering import address as _address
from vitrail.native.lowering import call as _call
from vitrail.native.lowering import infix as _infix
from vitrail.native.lowering import inlined as _inlined
from vitrail.native.lowering import pick as _pick
from vitrail.native.lowering import spread_value

COUNT = 16
"""Numbers in a vector."""
_I8, _I32, _F32 = ir.IntType(8), ir.IntType(32), ir.FloatType()
_LANES = ir.VectorType(_F32, COUNT)
_INTEGERS = ir.VectorType(_I32, COUNT)
_FAST = ("contract", "nsz")
_ALIGNED = 4
"""Bytes: rows may begin at any number."""


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="16 x float32")


class _Registers(types.Type):
    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"{count} x 16 x float32")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LANES)


@register_model(_Registers)
class _RegistersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LANES.as_pointer())


lanes = _Lanes()


class Lanes:
    """16 numbers, in annotations of compiled functions."""

    @staticmethod
    def numba_type() -> Any:
        """For `native.compiled`."""
        return lanes

    def __add__(self, other: "Lanes") -> "Lanes": ...
    def __sub__(self, other: "Lanes") -> "Lanes": ...
    def __mul__(self, other: "Lanes") -> "Lanes": ...
    def __truediv__(self, other: "Lanes") -> "Lanes": ...


def _spread(builder: Any, value: Any) -> Any:
    return spread_value(builder, value, COUNT)


_infix(lanes, operator.add, lambda builder, x, y: builder.fadd(x, y, flags=_FAST))
_infix(lanes, operator.sub, lambda builder, x, y: builder.fsub(x, y, flags=_FAST))
_infix(lanes, operator.mul, lambda builder, x, y: builder.fmul(x, y, flags=_FAST))
_infix(lanes, operator.truediv, lambda builder, x, y: builder.fdiv(x, y, flags=_FAST))


def _constant(value: float) -> Any:
    return ir.Constant(_LANES, [value] * COUNT)


@_inlined
def spread(typingctx: Any, value: Any) -> Any:
    """A number, 16 times."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return lanes(types.float32), code


@_inlined
def spread_at(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index], 16 times; unlike `spread(array[index])` without a check for a negative index."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return _spread(builder, builder.load(_address(context, builder, array, args[0], args[1], _F32), align=_ALIGNED))

    return lanes(array, types.intp), code


@_inlined
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index : index + 16], of a contiguous float32 array of one dimension."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, array, args[0], args[1], _LANES), align=_ALIGNED)

    return lanes(array, types.intp), code


@_inlined
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + 16] = value."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, array, args[0], args[1], _LANES), align=_ALIGNED)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@_inlined
def store_apart(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index], array[index + 4], ... array[index + 60] = value."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        for i in range(COUNT):
            place = builder.add(args[1], ir.Constant(args[1].type, 4 * i))
            number = builder.extract_element(args[2], ir.Constant(_I32, i))
            builder.store(number, _address(context, builder, array, args[0], place, _F32), align=_ALIGNED)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@_inlined
def spread_four(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index] 4 times, then each of the next three 4 times."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        four = builder.load(_address(context, builder, array, args[0], args[1], ir.VectorType(_F32, 4)), align=_ALIGNED)
        return _pick(builder, four, [i // 4 for i in range(COUNT)])

    return lanes(array, types.intp), code


@_inlined
def join_fours(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Numbers 0 to 3 are sums of a[0::4], a[1::4], a[2::4] and a[3::4], numbers 4 to 7 those of b, and so on."""
    fours = [list(range(first, first + 4)) for first in range(0, 2 * COUNT, 4)]
    even, odd = ([number for four in fours[first::2] for number in four] for first in (0, 1))

    def half(builder: Any, x: Any, y: Any) -> Any:
        """Of each two neighbouring fours of x, then of y, the sum."""
        parts = (builder.shuffle_vector(x, y, ir.Constant(_INTEGERS, numbers)) for numbers in (even, odd))
        return builder.fadd(*parts, flags=_FAST)

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return half(builder, half(builder, *args[:2]), half(builder, *args[2:]))

    return lanes(lanes, lanes, lanes, lanes), code


@_inlined
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Begin to fetch the cache line of array[index], which will be written."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        place = _address(context, builder, array, args[0], args[1], _I8)
        write, keep, data = (ir.Constant(_I32, number) for number in (1, 3, 1))
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), place, write, keep, data)
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@_inlined
def total(typingctx: Any, value: Any) -> Any:
    """The sum of the 16, in any order."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        function_type = ir.FunctionType(_F32, [_F32, _LANES])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.vector.reduce.fadd.v16f32")
        return builder.call(function, [ir.Constant(_F32, -0.0), args[0]], fastmath=("reassoc",))

    return types.float32(lanes), code


@_inlined
def multiply_add(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z of each: rounded once where the processor can do so, else twice; on one processor always the same."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return _call(builder, "llvm.fmuladd.v16f32", _LANES, *args)

    return lanes(lanes, lanes, lanes), code


@_inlined
def magnitude(typingctx: Any, value: Any) -> Any:
    """|x| of each."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return _call(builder, "llvm.fabs.v16f32", _LANES, args[0])

    return lanes(lanes), code


@_inlined
def larger(typingctx: Any, x: Any, y: Any) -> Any:
    """The larger of each two; y where one of them is NaN."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return lanes(lanes, lanes), code


@_inlined
def largest(typingctx: Any, value: Any) -> Any:
    """The largest of the 16; where some are NaN, any of the others or NaN."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        # LLVM's own reduction looks for NaN at each step, which takes three times as long.
        found = args[0]
        for half in (8, 4, 2, 1):
            low, high = (_pick(builder, found, list(range(first, first + half))) for first in (0, half))
            found = builder.select(builder.fcmp_ordered(">", low, high), low, high)
        return builder.extract_element(found, ir.Constant(_I32, 0))

    return types.float32(lanes), code


@_inlined
def keep_first(typingctx: Any, value: Any, count: Any, rest: Any) -> Any:
    """The first `count` of the 16; the others become `rest`."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        counts = spread_value(builder, builder.trunc(args[1], _I32), COUNT)
        within = builder.icmp_signed("<", ir.Constant(_INTEGERS, list(range(COUNT))), counts)
        return builder.select(within, args[0], _spread(builder, args[2]))

    return lanes(lanes, types.intp, types.float32), code


@_inlined
def square_root(typingctx: Any, value: Any) -> Any:
    """√x of each."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return _call(builder, "llvm.sqrt.v16f32", _LANES, args[0])

    return lanes(lanes), code


@_inlined
def clamp(typingctx: Any, value: Any, limit: Any) -> Any:
    """min(max(x, -limit), limit) of each; NaN stays NaN."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        high = _spread(builder, args[1])
        low = builder.fsub(_constant(-0.0), high)
        x = builder.select(builder.fcmp_unordered("<", args[0], high), args[0], high)
        return builder.select(builder.fcmp_unordered(">", x, low), x, low)

    return lanes(lanes, types.float32), code


@_inlined
def exponential(typingctx: Any, value: Any) -> Any:
    """e^x of each, within 2 units in the last place; x is limited to -87 .. 88.

    e^x = 2^n · e^r with n = round(x / ln 2) and |r| <= ln 2 / 2 (reduction of Cody and Waite 1980; polynomial of Cephes' expf).
    """

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return _exponential(builder, args[0])

    return lanes(lanes), code


def _exponential(builder: Any, x: Any) -> Any:
    def fma(a: Any, b: Any, c: Any) -> Any:
        return _call(builder, "llvm.fma.v16f32", _LANES, a, b, c)

    x = builder.select(builder.fcmp_ordered(">", x, _constant(-87.0)), x, _constant(-87.0))
    x = builder.select(builder.fcmp_ordered("<", x, _constant(88.0)), x, _constant(88.0))
    n = _call(builder, "llvm.rint.v16f32", _LANES, builder.fmul(x, _constant(1.4426950408889634)))
    r = fma(n, _constant(2.12194440e-4), fma(n, _constant(-0.693359375), x))
    p = _constant(1.9875691500e-4)
    for number in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(p, r, _constant(number))
    p = fma(p, builder.fmul(r, r), builder.fadd(r, _constant(1.0)))
    bias, mantissa = (ir.Constant(_INTEGERS, [number] * COUNT) for number in (127, 23))
    power = builder.shl(builder.add(builder.fptosi(n, _INTEGERS), bias), mantissa)
    return builder.fmul(p, builder.bitcast(power, _LANES))


@_inlined
def sigmoid(typingctx: Any, value: Any) -> Any:
    """1 / (1 + e^-x) of each; NaN where x is not finite, which `exponential` does not tell."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        zero, one = _constant(0.0), _constant(1.0)
        found = builder.fdiv(one, builder.fadd(one, _exponential(builder, builder.fsub(zero, args[0]))))
        return _call(builder, "llvm.fmuladd.v16f32", _LANES, args[0], zero, found)

    return lanes(lanes), code


@_inlined
def power_of_two(typingctx: Any, value: Any) -> Any:
    """2^x of each, within 3e-7 of it; x is limited to -126 from below. Precondition: x is below 127.

    2^x = 2^n · 2^r with n = round(x) and |r| <= 1/2 (polynomial of Cephes' exp2f). It takes two thirds of the time of `exponential`.
    """

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        x = builder.select(builder.fcmp_ordered("<", args[0], _constant(-126.0)), _constant(-126.0), args[0])
        n = _call(builder, "llvm.rint.v16f32", _LANES, x)
        r = builder.fsub(x, n)
        p = _constant(1.535336188319500e-4)
        for number in (1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2, 2.402264791363012e-1, 6.931472028550421e-1, 1.0):
            p = _call(builder, "llvm.fma.v16f32", _LANES, p, r, _constant(number))
        power = builder.shl(builder.fptosi(n, _INTEGERS), ir.Constant(_INTEGERS, [23] * COUNT))
        return builder.bitcast(builder.add(builder.bitcast(p, _INTEGERS), power), _LANES)

    return lanes(lanes), code


@_inlined
def reaches(typingctx: Any, value: Any, limit: Any) -> Any:
    """Whether one of the 16 is at least the limit."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        found = builder.fcmp_ordered(">=", args[0], _spread(builder, args[1]))
        return builder.icmp_unsigned("!=", builder.bitcast(found, ir.IntType(COUNT)), ir.Constant(ir.IntType(COUNT), 0))

    return types.boolean(lanes, types.float32), code


@_inlined
def registers(typingctx: Any, shape: Any) -> Any:
    """Room for as many vectors as `shape` (a tuple) has elements, without values.

    The length of a tuple is part of its type: loops over `range(len(shape))` are unrolled, and the room becomes registers.
    """
    kind = _Registers(cast(int, shape.count))

    def code(context: Any, builder: Any, types_: Any, args: Any) -> Any:
        return cgutils.alloca_once(builder, _LANES, size=kind.count)

    return kind(shape), code


@_inlined
def get(typingctx: Any, room: Any, place: Any) -> Any:
    """The vector at a place of `registers`."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return lanes(room, types.intp), code


@_inlined
def put(typingctx: Any, room: Any, place: Any, value: Any) -> Any:
    """Set the vector at a place of `registers`."""

    def code(context: Any, builder: Any, kind: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(room, types.intp, lanes), code
