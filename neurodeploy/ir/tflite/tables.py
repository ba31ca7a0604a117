"""LOGISTIC and TANH: a table at i16, gemmlowp's series at i8.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference/integer_ops/logistic.h`` and ``tanh.h``, and their
``Prepare`` in ``micro/kernels/logistic_common.cc`` and ``tanh.cc``. The results' scales are fixed: 2^-15 at i16; at i8
2^-8 with the zero point -128 for LOGISTIC, and 2^-7 for TANH.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from neurodeploy.errors import NumericsError
from neurodeploy.ir.op import Array, Op, fit
from neurodeploy.ir.tflite import gemmlowp
from neurodeploy.ir.tflite.fixed_point import (
    INT,
    Attrs,
    Types,
    multiply_32,
    offset,
    quantize_multiplier,
    rounding_shift,
    scale_of,
)
from neurodeploy.ir.tflite.pointwise import infer_same
from neurodeploy.ir.types import Quant, TensorType

TABLE_STEP = 1 / 24

#: The one form of the results, by function and dtype.
RESULTS: Mapping[tuple[str, str], Quant] = {
    ("sigmoid", "i16"): Quant(2.0**-15),
    ("tanh", "i16"): Quant(2.0**-15),
    ("sigmoid", "i8"): Quant(2.0**-8, -128),
    ("tanh", "i8"): Quant(2.0**-7),
}

#: Integer bits of the argument at i8.
SERIES_BITS = 4


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


def table_input(scale: np.ndarray, most: int) -> tuple[int, int]:
    """``(factor, shift)`` that bring an input to units of 1/(3 * 4096): ``x * factor / 2^shift``, rounded.

    A scale of a power of two (2^-12 .. 2^(most-12)) has no shift, others have a factor of 15 bits.
    """
    log2 = np.float32(np.log(np.float32(scale))) * (np.float32(1) / np.float32(np.log(np.float32(2))))
    power = np.floor(np.abs(log2) + np.float32(0.5)) * np.sign(log2)
    shift = 12 + int(power)
    if abs(log2 - power) < np.float32(1e-3) and 0 <= shift <= most:
        return 3 << shift, 0
    factor, shift = float(scale) * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2 and shift <= 30:
        factor, shift = factor * 2, shift + 1
    return int(factor), shift


def _table_input(x: Array, scale: np.ndarray, most: int) -> Array:
    factor, shift = table_input(scale, most)
    return fit(x.astype(np.int64) * factor + ((1 << shift) >> 1), "i32").astype(np.int64) >> shift


def _interpolate(size: Array, bits: int) -> Array:
    """Between the table's knots, ``2^bits`` steps apart, times ``2^bits``."""
    table = sigmoid_table()
    index, fraction = np.minimum(size >> bits, 254), size & ((1 << bits) - 1)
    low, high = table[index], table[index + 1]
    return (low << bits) + fraction * (high - low)


def _series(x: Array, type_: TensorType, function: Callable[[Array, int], Array], bits: int, zero: int) -> Array:
    """The function by gemmlowp's series, in steps of ``2^-bits``; flat beyond 15."""
    if x.size > 256:
        table = _series(np.arange(-128, 128, dtype=np.int8), type_, function, bits, zero)
        return table[x.astype(np.int64) + 128]
    mult, shift = quantize_multiplier(float(scale_of(type_)) * 2.0 ** (31 - SERIES_BITS))
    if shift < 0:
        raise NumericsError(f"the scale of {type_} is below 2^-27, too fine for the kernel.")
    within = offset(x, type_)
    radius = (15 << (31 - SERIES_BITS)) >> int(shift)
    most = max(radius - 1, 0)
    inner = multiply_32(np.clip(within, -most, most), mult, shift)
    result = rounding_shift(function(inner, SERIES_BITS), 31 - bits) + zero
    result = np.where(within <= -radius, -128, np.where(within >= radius, 127, result))
    return np.clip(result, -128, 127).astype(np.int8)


def _eval_logistic(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    if type_.dtype == "i8":
        return _series(args[0], types[0], gemmlowp.logistic, 8, -128)
    x = _table_input(args[0], scale_of(types[0]), 0)
    size = np.abs(x)
    result = np.where(size >> 9 >= 255, 0x7FFF << 10, _interpolate(size, 9))
    return (np.where(x >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1) >> 10).astype(np.int16)


def _eval_tanh(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    if type_.dtype == "i8":
        return _series(args[0], types[0], gemmlowp.tanh, 7, 0)
    x = _table_input(args[0], scale_of(types[0]), 1)
    size = np.abs(x)
    result = np.where(size >> 8 >= 255, 0xFFFF << 8, _interpolate(size, 8))
    return (np.where(x >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1) >> 8).astype(np.int16)


OPS = (
    Op("tfl_logistic", (1, 1), infer_same, _eval_logistic, INT, elementwise=True),
    Op("tfl_tanh", (1, 1), infer_same, _eval_tanh, INT, elementwise=True),
)
