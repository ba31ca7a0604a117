"""TFLite's fixed-point arithmetic: scales as a flatbuffer holds them, multipliers, and the few ways to round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, fit
from neurodeploy.ir.types import TensorType

INT = frozenset({"int"})
Types = Sequence[TensorType]
Attrs = Mapping[str, Any]


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
