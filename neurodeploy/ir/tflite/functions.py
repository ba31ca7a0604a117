"""Products of computed values, sums, SOFTMAX, and any function of an int8 by its table.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference`` (``batch_matmul.h``, ``reduce.h``
``QuantizedMeanOrSum``, ``softmax.h``), ``kernels/internal/common.h`` (``LUTPopulate``, ``LUTLookup``,
``GetReciprocal``), and their ``Prepare`` in ``micro/kernels``.

DIV isn't here: its int8 kernel shifts an int32 by 32 bits and more where the quotient is small, which is undefined in
C++ and gives another number on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neurodeploy.errors import IRError, NumericsError
from neurodeploy.ir.op import Array, Op, align, axis_of, broadcast, fit
from neurodeploy.ir.tflite import gemmlowp
from neurodeploy.ir.tflite.fixed_point import (
    INT,
    Attrs,
    Types,
    clamped,
    multiply_32,
    multiply_64,
    offset,
    quantize_multiplier,
    rounding_shift,
    scale_of,
)
from neurodeploy.ir.tflite.pointwise import centred
from neurodeploy.ir.types import INT_BITS, TensorType, int_range

WIDTHS = ("i8", "i16")


# -- products and sums -------------------------------------------------------------------------------------------------


def _infer_batch_matmul(types: Types, attrs: Attrs) -> TensorType:
    a, b = types
    fits = a.dtype == b.dtype and a.dtype in WIDTHS and min(len(a.shape), len(b.shape)) >= 2
    if not fits or a.shape[-1] != b.shape[-2]:
        raise IRError(f"takes [...,m,k] and [...,k,n], both i8 or both i16; {a} and {b} given.")
    centred(types)
    return TensorType((*broadcast([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1]), a.dtype)


def batch_matmul_factor(a: TensorType, b: TensorType, out: TensorType) -> float:
    """BATCH_MATMUL's factor of the accumulator."""
    return float(np.float64(scale_of(a)) * np.float64(scale_of(b)) / np.float64(scale_of(out)))


def _eval_batch_matmul(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """i8 is summed in int32, i16 in int64; each has its own way to multiply."""
    a, b = (offset(x, t).astype(np.float64) for x, t in zip(align(args), types, strict=True))
    if types[0].shape[-1] >= 1 << 21:
        raise NumericsError(f"sums {types[0].shape[-1]} products; exact here are 2^21 at most.")
    total = np.rint(np.matmul(a, b)).astype(np.int64)  # every sum is below 2^53: 2^16 * 2^16 * 2^21
    factor = quantize_multiplier(batch_matmul_factor(types[0], types[1], type_))
    if type_.dtype == "i8":
        return clamped(multiply_32(fit(total, "i32").astype(np.int64), *factor), type_)
    return clamped(multiply_64(total, *factor), type_)


def _infer_sum(types: Types, attrs: Attrs) -> TensorType:
    x = types[0]
    if x.dtype not in WIDTHS:
        raise IRError(f"takes i8 or i16; {x} given.")
    axis = axis_of(attrs, x.shape)
    return TensorType((*x.shape[:axis], *((1,) if attrs.get("keepdims") else ()), *x.shape[axis + 1 :]), x.dtype)


def _eval_sum(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Along one axis, in int32."""
    axis = axis_of(attrs, types[0].shape) + 1
    total = offset(args[0], types[0]).sum(axis=axis, keepdims=bool(attrs.get("keepdims")))
    factor = np.float64(scale_of(types[0])) / np.float64(scale_of(type_))
    return clamped(multiply_32(fit(total, "i32").astype(np.int64), *quantize_multiplier(factor)), type_)


# -- softmax -----------------------------------------------------------------------------------------------------------

#: The argument's range in the int16 kernel, and the integer bits of sums and of differences in the int8 one.
SOFTMAX_SPAN, SUM_BITS, DIFFERENCE_BITS = 10.0, 12, 5
SEGMENTS, SEGMENT_BITS = 512, 7


def int16_table(function: Callable[[Array], Array], scale: float, zero: int, out_scale: float) -> Array:
    """The 513 knots of a function of int16, in float32 as TFLite makes them: lowered by half of what a chord of it is
    too high in the middle. Argument and result in those scales; the result saturates."""
    f32 = np.float32
    rounded = lambda x: (np.sign(x) * np.floor(np.abs(x) + f32(0.5))).astype(f32)  # noqa: E731
    low, high = (f32(scale) * f32(bound - zero) for bound in (-32768, 32767))
    step = f32((high - low) / f32(SEGMENTS))
    inverse = f32(65536) / (f32(out_scale) * f32(32767) - f32(out_scale) * f32(-32768))
    knots = low + np.arange(SEGMENTS + 1, dtype=f32) * step

    def at(x: Array) -> Array:
        return function(x.astype(np.float64)).astype(f32)

    value, following = at(knots[:-1]), at(low + np.arange(1, SEGMENTS + 1, dtype=f32) * step)
    middle = rounded(at(knots[:-1] + step / f32(2)) * inverse)
    chord = rounded((following * inverse + rounded(value * inverse)) / f32(2))
    table = rounded(value * inverse) - rounded((chord - middle) / f32(2))
    last = rounded(at(np.array([high])) * inverse)
    return np.clip(np.concatenate([table, last]), -32768, 32767).astype(np.int64)


def look_up(x: Array, table: Array) -> Array:
    """Between two knots of an int16's table: its upper nine bits choose them, the lower seven interpolate."""
    index, fraction = 256 + (x >> SEGMENT_BITS), x & 127
    slope = (table[index + 1] - table[index]).astype(np.int16).astype(np.int64)
    return (table[index] + ((slope * fraction + 64) >> SEGMENT_BITS)).astype(np.int16).astype(np.int64)


def _infer_softmax(types: Types, attrs: Attrs) -> TensorType:
    x = types[0]
    if x.dtype not in WIDTHS or not x.shape:
        raise IRError(f"takes i8[...,n] or i16[...,n]; {x} given.")
    if (to := attrs.get("to", x.dtype)) not in (x.dtype, "i16"):
        raise IRError(f"to is {to!r} with {x}; needed {x.dtype} or i16.")
    centred(types)
    return TensorType(x.shape, to)


def _softmax_i16(x: Array, type_: TensorType, to: str) -> Array:
    range_ = 65535
    exponentials = int16_table(np.exp, SOFTMAX_SPAN / range_, 32767, 2 / range_)
    inverses = int16_table(lambda v: 1 / (1 + v), 1 / range_, -32768, 2 / range_)
    factor = quantize_multiplier(float(scale_of(type_)) / (SOFTMAX_SPAN / 65535))
    below = multiply_32(x - x.max(axis=-1, keepdims=True), *factor)
    e = look_up(np.clip(below + 32767, -32768, 32767), exponentials)
    total = e.sum(axis=-1, keepdims=True)
    zeros = 31 - np.floor(np.log2(total)).astype(np.int64)  # of a uint32; exact, for a total of at most 2^31
    aligned = ((total << (zeros - 1)) + (1 << 13)) >> 14
    inverse = look_up(np.clip(aligned - (1 << 15) - (1 << 16), -32768, 32767), inverses)
    shift = 31 - zeros
    return np.clip((e * inverse + (np.int64(1) << (shift - 1))) >> shift, 0, 32767).astype(np.int16)


def exponentials(below: Array, type_: TensorType) -> Array:
    """exp of differences to the greatest, as the int8 kernel takes it: no integer bits, 0 where it counts none."""
    real = min(float(scale_of(type_)) * 2.0 ** (31 - DIFFERENCE_BITS), 2.0**31 - 1)
    mult, shift = quantize_multiplier(real)
    radius = ((1 << DIFFERENCE_BITS) - 1) * 2.0 ** (31 - DIFFERENCE_BITS) / 2.0 ** int(shift)
    counts = below >= -np.floor(radius)
    e = gemmlowp.exp_of_negative(multiply_32(np.where(counts, below, 0), mult, shift), DIFFERENCE_BITS)
    return np.where(counts, e, 0)


def _softmax_i8(x: Array, type_: TensorType, to: str) -> Array:
    bits, least = INT_BITS[to], int_range(to)[0]
    e = exponentials(x - x.max(axis=-1, keepdims=True), type_)
    total = rounding_shift(e, SUM_BITS).sum(axis=-1, keepdims=True)
    zeros = 31 - np.floor(np.log2(total)).astype(np.int64)
    inverse = gemmlowp.inverse_of_one_plus((total << zeros) - (1 << 31))
    made = rounding_shift(gemmlowp.times(inverse, e), SUM_BITS - zeros + 31 - bits) + least
    return np.clip(made, *int_range(to)).astype(f"i{bits // 8}")


def _eval_softmax(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Along the last axis. The result's scale is fixed: 2^-15 at i16, 2^-8 with the zero point -128 at i8; from i8 to
    i16 2^-16 with the zero point -32768."""
    kernel = _softmax_i8 if types[0].dtype == "i8" else _softmax_i16
    return kernel(args[0].astype(np.int64), types[0], type_.dtype)


# -- functions of int8 -------------------------------------------------------------------------------------------------


def _infer_lookup(types: Types, attrs: Attrs) -> TensorType:
    x, table = types
    if x.dtype != "i8" or table.dtype != "i8" or table.shape != (256,):
        raise IRError(f"takes an i8 and a table i8[256]; {x} and {table} given.")
    return TensorType(x.shape, "i8")


def _eval_lookup(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """``table[x + 128]``."""
    return args[1][0][args[0].astype(np.int64) + 128]


OPS = (
    Op("tfl_batch_matmul", (2, 2), _infer_batch_matmul, _eval_batch_matmul, INT),
    Op("tfl_sum", (1, 1), _infer_sum, _eval_sum, INT, ("axis", "keepdims")),
    Op("tfl_softmax", (1, 1), _infer_softmax, _eval_softmax, INT, ("to",)),
    Op("tfl_lookup", (2, 2), _infer_lookup, _eval_lookup, INT),
)
