"""The TFLite dialect: primitives that are each one int16x8 op of TFLite Micro, with its reference kernel's bits.

int8 weights, int16 activations with zero point 0, int64 biases. Every multiplier is derived from the scales in the
types, as the kernel's ``Prepare`` does: a flatbuffer holds float32 scales, the rest is double. (TFLM sources up to
2026 go on in float for ``SUB``, ``RELU`` and FULLY_CONNECTED of one channel: a few results in thousands differ by one.)
Rounding as in tensorflow/tflite-micro, ``kernels/internal/common.cc``, and gemmlowp's ``fixedpoint.h``. Ops that only
move elements or choose between them (slice, concat, reshape, min, max ...) need no twin here: TFLM's int16 kernels do
what the plain primitives do.

Where the C++ would overflow a signed integer its result is undefined; here :class:`NumericsError` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.fixed import matmul
from neurodeploy.ir.op import Array, Op, align, broadcast, fit, saturate
from neurodeploy.ir.types import TensorType

INT = frozenset({"int"})
Types = Sequence[TensorType]
Attrs = Mapping[str, Any]

ADD_SHIFT = 15
TABLE_STEP = 1 / 24


# -- fixed point -------------------------------------------------------------------------------------------------------


def scale_of(type_: TensorType) -> np.ndarray:
    """The scale(s) as the float32 that a flatbuffer holds. Raises :class:`IRError` if there is none."""
    if type_.quant is None:
        raise IRError(f"{type_} needs a scale.")
    return type_.quant.array.astype(np.float32)


def quantize_multiplier(real: Any) -> tuple[Array, Array]:
    """``(mult, shift)`` with ``real ~ mult * 2^(shift - 31)`` and ``mult`` below 2^31 (TFLite's QuantizeMultiplier)."""
    fraction, shift = np.frexp(np.asarray(real, dtype=np.float64))
    mult = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    full = mult == 1 << 31
    mult, shift = np.where(full, mult >> 1, mult), shift.astype(np.int64) + full
    tiny = shift < -31
    return np.where(tiny, 0, mult), np.where(tiny, 0, shift)


def rounding_shift(x: Array, exponent: Array | int) -> Array:
    """``x / 2^exponent`` to the nearest integer, halves away from zero."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


def multiply_32(x: Array, mult: Array, shift: Array) -> Array:
    """The int32 product: doubling high multiply with a rounding, then a rounding shift right. x in int64."""
    x = fit(x << np.maximum(shift, 0), "i32").astype(np.int64)
    return rounding_shift((x * mult + (1 << 30)) >> 31, np.maximum(-shift, 0))


def multiply_64(x: Array, mult: Array, shift: Array) -> Array:
    """The int64 product: the multiplier is rounded to 16 bits, one rounding in all. x below 2^47."""
    reduced = np.where(mult < 0x7FFF0000, (mult + (1 << 15)) >> 16, 0x7FFF)
    total = 15 - shift
    return fit((x * reduced + (np.int64(1) << (total - 1))) >> total, "i32").astype(np.int64)


# -- FULLY_CONNECTED ---------------------------------------------------------------------------------------------------


def _infer_fully_connected(types: Types, attrs: Attrs) -> TensorType:
    x, w = types[:2]
    if (x.dtype, w.dtype) != ("i16", "i8") or not x.shape or len(w.shape) != 2 or x.shape[-1] != w.shape[1]:
        raise IRError(f"tfl_fully_connected takes i16[...,k], i8[n,k] and perhaps a bias i64[n]; {x} and {w} given.")
    if len(types) == 3 and (types[2].dtype, types[2].shape) != ("i64", w.shape[:1]):
        raise IRError(f"tfl_fully_connected takes a bias i64[{w.shape[0]}]; {types[2]} given.")
    return TensorType((*x.shape[:-1], w.shape[0]), "i16")


def fully_connected_factor(x: TensorType, w: TensorType, result: TensorType) -> np.ndarray:
    """The factor of the accumulator, one per output channel (or one in all for a single scale)."""
    return np.float64(scale_of(x)) * scale_of(w).astype(np.float64) / np.float64(scale_of(result))


def _eval_fully_connected(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x, w = args[:2]
    flat = x.reshape(-1, x.shape[-1])
    total = matmul(flat, w[0].T[None], "i64")
    if len(args) == 3:
        total = total + args[2]
    mult, shift = quantize_multiplier(fully_connected_factor(types[0], types[1], type_))
    return saturate(multiply_64(total, mult, shift), "i16").reshape(len(x), *type_.shape)


# -- elementwise -------------------------------------------------------------------------------------------------------


def _infer_pair(types: Types, attrs: Attrs) -> TensorType:
    if {t.dtype for t in types} != {"i16"}:
        raise IRError(f"takes two i16; {' and '.join(map(str, types))} given.")
    return TensorType(broadcast([t.shape for t in types]), "i16")


def add_factors(a: TensorType, b: TensorType, out: TensorType) -> tuple[float, float, float]:
    """ADD's and SUB's factors of both arguments and of their sum."""
    first, second, result = (np.float64(scale_of(t)) for t in (a, b, out))
    twice = 2 * max(first, second)
    return first / twice, second / twice, twice / ((1 << ADD_SHIFT) * result)


def _sum(sign: int) -> Callable[..., Array]:
    def evaluate(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
        first, second, result = (quantize_multiplier(f) for f in add_factors(types[0], types[1], type_))
        a, b = (x.astype(np.int64) << ADD_SHIFT for x in align(args))
        total = multiply_32(a, *first) + sign * multiply_32(b, *second)
        return saturate(multiply_32(total, *result), "i16")

    return evaluate


def mul_factor(a: TensorType, b: TensorType, out: TensorType) -> float:
    """MUL's factor of the product."""
    return float(np.float64(scale_of(a)) * np.float64(scale_of(b)) / np.float64(scale_of(out)))


def _eval_mul(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    a, b = (x.astype(np.int64) for x in align(args))
    return saturate(multiply_32(a * b, *quantize_multiplier(mul_factor(types[0], types[1], type_))), "i16")


def _infer_same(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype != "i16":
        raise IRError(f"takes i16; {types[0]} given.")
    return TensorType(types[0].shape, "i16")


def _eval_relu(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    factor = np.float64(scale_of(types[0])) / np.float64(scale_of(type_))
    scaled = multiply_32(args[0].astype(np.int64), *quantize_multiplier(factor))
    return saturate(np.maximum(scaled, 0), "i16")


def _eval_quantize(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Another scale: QUANTIZE from int16 to int16."""
    factor = np.float64(scale_of(types[0])) / np.float64(scale_of(type_))
    return saturate(multiply_32(args[0].astype(np.int64), *quantize_multiplier(factor)), "i16")


# -- LOGISTIC and TANH -------------------------------------------------------------------------------------------------


def sigmoid_table() -> Array:
    """The 256 knots of TFLite's uint16 table: sigmoid(i/24) in Q0.16, raised by half of what a chord loses at most.

    A chord of a concave function lies below it by up to ``|f''| h^2 / 8``; the knots are raised by half of that.
    The last one is the largest uint16. (Equal to ``sigmoid_table_uint16`` in tflite-micro's common.h; tested there.)
    """
    s = 1 / (1 + np.exp(-np.arange(256) * TABLE_STEP))
    bend = s * (1 - s) * (2 * s - 1)
    table = np.rint(65536 * (s + bend * TABLE_STEP**2 / 16)).astype(np.int64)
    table[-1] = 0xFFFF
    return table


def _table_input(x: Array, scale: np.ndarray, most: int) -> Array:
    """The input in units of 1/(3 * 4096), by a power of two (scale 2^-12 .. 2^(most-12)) or a 15-bit multiplier."""
    log2 = np.float32(np.log(np.float32(scale))) * (np.float32(1) / np.float32(np.log(np.float32(2))))
    power = np.floor(np.abs(log2) + np.float32(0.5)) * np.sign(log2)
    shift = 12 + int(power)
    if abs(log2 - power) < np.float32(1e-3) and 0 <= shift <= most:
        return x.astype(np.int64) * (3 << shift)
    factor, shift = float(scale) * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2 and shift <= 30:
        factor, shift = factor * 2, shift + 1
    return fit(x.astype(np.int64) * int(factor) + ((1 << shift) >> 1), "i32").astype(np.int64) >> shift


def _interpolate(size: Array, bits: int) -> Array:
    """Between the table's knots, ``2^bits`` steps apart, times ``2^bits``."""
    table = sigmoid_table()
    index, fraction = np.minimum(size >> bits, 254), size & ((1 << bits) - 1)
    low, high = table[index], table[index + 1]
    return (low << bits) + fraction * (high - low)


def _eval_logistic(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x = _table_input(args[0], scale_of(types[0]), 0)
    size = np.abs(x)
    result = np.where(size >> 9 >= 255, 0x7FFF << 10, _interpolate(size, 9))
    return (np.where(x >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1) >> 10).astype(np.int16)


def _eval_tanh(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x = _table_input(args[0], scale_of(types[0]), 1)
    size = np.abs(x)
    result = np.where(size >> 8 >= 255, 0xFFFF << 8, _interpolate(size, 8))
    return (np.where(x >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1) >> 8).astype(np.int16)


_OPS = (
    Op("tfl_fully_connected", (2, 3), _infer_fully_connected, _eval_fully_connected, INT),
    Op("tfl_add", (2, 2), _infer_pair, _sum(1), INT, elementwise=True),
    Op("tfl_sub", (2, 2), _infer_pair, _sum(-1), INT, elementwise=True),
    Op("tfl_mul", (2, 2), _infer_pair, _eval_mul, INT, elementwise=True),
    Op("tfl_relu", (1, 1), _infer_same, _eval_relu, INT, elementwise=True),
    Op("tfl_quantize", (1, 1), _infer_same, _eval_quantize, INT, elementwise=True),
    Op("tfl_logistic", (1, 1), _infer_same, _eval_logistic, INT, elementwise=True),
    Op("tfl_tanh", (1, 1), _infer_same, _eval_tanh, INT, elementwise=True),
)
TFLITE_OPS: dict[str, Op] = {op.name: op for op in _OPS}
