"""LEAKY_RELU, PRELU, HARD_SWISH and ELU, as files of others have them.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference`` (``leaky_relu.h``, ``prelu.h``, ``hard_swish.h``) and
their ``Prepare`` in ``micro/kernels``; ``micro/kernels/elu.cc``. (The wheel's LEAKY_RELU makes its multipliers in
double, where sources up to 2026 go on in float.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, align, broadcast, saturate
from neurodeploy.ir.tflite.fixed_point import (
    INT,
    Attrs,
    Types,
    clamped,
    multiply_32,
    offset,
    quantize_multiplier,
    rounding_shift,
    scale_of,
    zero_of,
)
from neurodeploy.ir.tflite.pointwise import ADD_SHIFT, rescaled
from neurodeploy.ir.types import TensorType


def _infer_leaky(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype not in ADD_SHIFT:
        raise IRError(f"takes i8 or i16; {types[0]} given.")
    if not np.isfinite(float(attrs.get("alpha", 0.0))):
        raise IRError(f"alpha is {attrs['alpha']}; needed a number.")
    return TensorType(types[0].shape, types[0].dtype)


def _eval_leaky(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """``x``, or ``alpha x`` where it is negative: each has its own multiplier."""
    alpha = np.float64(np.float32(attrs.get("alpha", 0.0)))
    scale, result = np.float64(scale_of(types[0])), np.float64(scale_of(type_))
    mult, shift = quantize_multiplier(abs(scale * alpha / result))
    x = offset(args[0], types[0])
    below = multiply_32(np.minimum(x, 0), mult, shift) * (-1 if alpha < 0 else 1)
    mult, shift = quantize_multiplier(scale / result)
    return clamped(np.where(x < 0, below, multiply_32(np.maximum(x, 0), mult, shift)), type_)


def _infer_prelu(types: Types, attrs: Attrs) -> TensorType:
    x, alpha = types
    if x.dtype not in ADD_SHIFT or alpha.dtype != "i8":
        raise IRError(f"takes i8 or i16 and an i8 alpha; {x} and {alpha} given.")
    return TensorType(broadcast([x.shape, alpha.shape]), x.dtype)


def _eval_prelu(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x, alpha = align(args)
    factor = np.float64(scale_of(types[0])) * np.float64(scale_of(types[1])) / np.float64(scale_of(type_))
    below = np.minimum(offset(x, types[0]), 0) * offset(alpha, types[1])
    above = rescaled(np.maximum(x, zero_of(types[0])), types[0], type_)
    negative = x < zero_of(types[0])
    return clamped(np.where(negative, multiply_32(below, *quantize_multiplier(factor)), above), type_)


def _infer_narrow(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype != "i8":
        raise IRError(f"takes i8; {types[0]} given.")
    return TensorType(types[0].shape, "i8")


def _short(real: float) -> tuple[int, int]:
    """A multiplier of 15 bits and its exponent."""
    mult, shift = quantize_multiplier(real)
    return min((int(mult) + (1 << 15)) >> 16, (1 << 15) - 1), int(shift)


def _times_16(a: Array, b: int) -> Array:
    """The rounding, doubling high product of int16."""
    return (a * b + (1 << 14)) >> 15


def _eval_hard_swish(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """``x * clip(x + 3, 0, 6) / 6``: all in int16, the argument raised by 7 bits."""
    fine = np.float32(scale_of(types[0])) * np.float32(1 / 128)
    mult, shift = _short(float(fine / np.float32(scale_of(type_))))
    if shift > 0:
        raise IRError(f"gives no scale as fine as {type_} for {types[0]}.")
    x = offset(args[0], types[0]) << 7
    gate_mult, gate_shift = _short(float(fine / np.float32(3 / 32768)))
    gate = saturate(x << max(gate_shift - 1, 0), "i16").astype(np.int64)
    gate = _times_16(gate, gate_mult)
    if gate_shift > 0:
        gate = saturate(gate << 1, "i16").astype(np.int64)
    gate = rounding_shift(gate, max(-gate_shift, 0))
    product = ((gate + (1 << 15)) >> 1) * _times_16(x, mult)
    high = np.sign(product) * (np.abs(product) >> 15)
    return clamped(rounding_shift(high, -shift), type_)


def _eval_elu(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """``x``, or ``exp(x) - 1`` where it is negative, in float32 for each of the 256 integers."""
    x = np.float32(scale_of(types[0])) * (np.arange(-128, 128) - zero_of(types[0])).astype(np.float32)
    curve = np.exp(np.minimum(x, 0).astype(np.float64)).astype(np.float32) - np.float32(1)
    steps = np.where(x < 0, curve, x) * (np.float32(1) / np.float32(scale_of(type_)))
    whole = np.copysign(np.floor(np.abs(steps).astype(np.float64) + 0.5), steps).astype(np.int64)
    return clamped(whole, type_)[args[0].astype(np.int64) + 128]


OPS = (
    Op("tfl_leaky_relu", (1, 1), _infer_leaky, _eval_leaky, INT, ("alpha",), elementwise=True),
    Op("tfl_prelu", (2, 2), _infer_prelu, _eval_prelu, INT, elementwise=True),
    Op("tfl_hard_swish", (1, 1), _infer_narrow, _eval_hard_swish, INT, elementwise=True),
    Op("tfl_elu", (1, 1), _infer_narrow, _eval_elu, INT, elementwise=True),
)
