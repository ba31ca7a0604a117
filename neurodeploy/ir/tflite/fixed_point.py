"""TFLite's fixed-point arithmetic: scales as a flatbuffer holds them, multipliers, the ways to round and to clamp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, NumericsError
from neurodeploy.ir.op import Array, fit
from neurodeploy.ir.types import TensorType, int_range

INT = frozenset({"int"})
Types = Sequence[TensorType]
Attrs = Mapping[str, Any]

#: Fused activations (attribute ``act``) and the real numbers between which they clamp.
ACTIVATIONS: Mapping[str, tuple[float, float | None]] = {
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def scale_of(type_: TensorType) -> np.ndarray:
    """The scale(s) as the float32 that a flatbuffer holds. Raises :class:`IRError` if there is none."""
    if type_.quant is None:
        raise IRError(f"{type_} needs a scale.")
    return type_.quant.array.astype(np.float32)


def zero_of(type_: TensorType) -> int:
    """The zero point."""
    return 0 if type_.quant is None else type_.quant.zero_point


def offset(x: Array, type_: TensorType) -> Array:
    """The integers less their zero point, in int64."""
    return x.astype(np.int64) - zero_of(type_)


def nearest_step(value: float, type_: TensorType) -> int:
    """A real number as an integer of that type: divided in float32, halves away from zero, not clipped."""
    steps = float(np.float32(value) / scale_of(type_))
    return int(np.copysign(np.floor(abs(steps) + 0.5), steps)) + zero_of(type_)


def activation_range(type_: TensorType, act: str | None) -> tuple[int, int]:
    """The integers between which a result is clamped: those of its dtype, or fewer with a fused activation.

    From kernels/kernel_util.cc, ``CalculateActivationRangeQuantized``. Raises :class:`IRError` for one it doesn't know.
    """
    least, most = int_range(type_.dtype)
    if act is None:
        return least, most
    if act not in ACTIVATIONS:
        raise IRError(f"act is '{act}'; needed one of {', '.join(ACTIVATIONS)}.")
    low, high = ACTIVATIONS[act]
    return max(least, nearest_step(low, type_)), most if high is None else min(most, nearest_step(high, type_))


def clamped(x: Array, type_: TensorType, act: str | None = None) -> Array:
    """Integers without a zero point as that type: the zero point added, then clamped."""
    low, high = activation_range(type_, act)
    return np.clip(x + zero_of(type_), low, high).astype(type_.numpy)


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
    """The int64 product: the multiplier is rounded to 16 bits, one rounding in all. x below 2^47, factor below 128."""
    if (x.size and np.abs(x).max() >= 1 << 47) or np.max(shift, initial=0) >= 8:
        raise NumericsError("an accumulator is too large for the int64 product (2^47, and a factor of 128).")
    reduced = np.where(mult < 0x7FFF0000, (mult + (1 << 15)) >> 16, 0x7FFF)
    total = 15 - shift
    return fit((x * reduced + (np.int64(1) << (total - 1))) >> total, "i32").astype(np.int64)
