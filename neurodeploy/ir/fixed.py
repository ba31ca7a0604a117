"""Integer arithmetic of ``native`` numerics: ops whose meaning is a rule about bits, and the rules behind the others.

Every function here is exact and has a twin in C, ``firmware/core/nd_math.h``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, NumericsError
from neurodeploy.ir.op import Array, Op, align, broadcast, fit, saturate
from neurodeploy.ir.types import TensorType, int_range

INT = frozenset({"int"})
LUT_SIZE = 513
LUT_STEP_BITS = 7
#: 16384 (a half, Q0.15) and rounding, before the shift by 8; 127 rather than 128 keeps the result below 32768.
HALF_OFFSET = (16384 << 8) + 127
PHILOX_ROUNDS, PHILOX_MULTIPLIER, PHILOX_KEY_STEP = 10, 0xD256D193, 0x9E3779B9

__all__ = ["FIXED_OPS", "LUT_SIZE", "divide", "isqrt", "lut_table", "matmul", "multiplier", "philox", "saturate"]


def matmul(a: Array, b: Array, dtype: str = "i32") -> Array:
    """Integer ``a @ b`` with a batch axis in front of each, exact.

    It goes through float64 BLAS while ``K * max|a| * max|b| < 2^53`` (every partial sum is then an exact integer),
    else through int64. Raises :class:`NumericsError` if a result leaves ``dtype``.
    """
    from neurodeploy.ir.ops_math import batched_matmul

    def top(x: Array) -> int:
        return max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0

    inner = a.shape[-1]
    if inner * top(a) * top(b) < 1 << 53:
        return fit(batched_matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64), dtype)
    return fit(batched_matmul(a.astype(np.int64), b.astype(np.int64)), dtype)


def divide(a: Array, b: Array) -> Array:
    """``a / b`` to the nearest integer, halves away from zero; ``x / 0`` is i32's extreme of its sign, ``0 / 0`` 0."""
    a, b = a.astype(np.int64), b.astype(np.int64)
    size = np.abs(b)
    quotient = (np.abs(a) + size // 2) // np.maximum(size, 1)
    signed = np.where((a < 0) != (b < 0), -quotient, quotient)
    low, high = int_range("i32")
    return np.where(b == 0, np.where(a > 0, high, np.where(a < 0, low, 0)), signed)


def isqrt(x: Array) -> Array:
    """The largest r with ``r*r <= x``; 0 for negative x. x below 2^52."""
    root = np.floor(np.sqrt(np.maximum(x, 0).astype(np.float64))).astype(np.int64)
    root = np.where(root * root > x, root - 1, root)
    root = np.where((root + 1) * (root + 1) <= x, root + 1, root)
    return np.where(x < 0, 0, root)


def multiplier(factor: float) -> tuple[int, int]:
    """``(mult, pre)`` of a :data:`requantize` that multiplies by ``factor``: ``factor ~ mult * 2^(pre-32)``.

    ``pre`` is the smallest shift (0 to 15) for which mult fits 31 bits. Raises :class:`IRError` if there is none.
    """
    for pre in range(16):
        mult = round(factor * 2.0 ** (32 - pre))
        if mult <= 0x7FFFFFFF:
            return mult, pre
    raise IRError(f"a rescale by {factor} is out of reach (it must be below 16384).")


def _infer_requantize(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    x, mult = types
    if not x.is_int or x.dtype == "i64" or mult.dtype != "i32" or attrs.get("to", "i16") not in ("i8", "i16", "i32"):
        raise IRError(
            f"requantize takes an integer and i32 multipliers and gives i8, i16 or i32; {x} and {mult} given."
        )
    if not isinstance(attrs.get("pre", 0), int) or not 0 <= attrs.get("pre", 0) <= 15:
        raise IRError(f"requantize shifts by pre= 0 to 15; found {attrs.get('pre')}.")
    return TensorType(broadcast([x.shape, mult.shape]), attrs.get("to", "i16"))


def _eval_requantize(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
    """``saturate(((x << pre) * mult + 2^31) >> 32)``: one rounding multiply. ``x << pre`` must fit i32."""
    x, mult = align(args)
    shifted = fit(x.astype(np.int64) << attrs.get("pre", 0), "i32").astype(np.int64)
    return saturate((shifted * mult.astype(np.int64) + (1 << 31)) >> 32, type_.dtype)


def _infer_lut(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    x, table = types
    if x.dtype != "i16" or table.dtype != "i16" or table.shape != (LUT_SIZE,):
        raise IRError(f"lut takes i16 and a table i16[{LUT_SIZE}]; {x} and {table} given.")
    if not isinstance(attrs.get("half", False), bool):
        raise IRError(f"lut's half is true or false; found {attrs['half']}.")
    shift = attrs.get("shift", 0)
    if not isinstance(shift, int) or not 0 <= shift <= 15 or (shift and attrs.get("half")):
        raise IRError(f"lut shifts by 0 to 15 more bits, and not with half; found {shift}.")
    return TensorType(x.shape, "i16")


def _eval_lut(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
    """Linear interpolation between 513 knots: with ``u = x + 32768``, ``i = u >> 7``, ``f = u & 127`` and
    ``v = t[i] * (128 - f) + t[i+1] * f``, the result is ``(v + (64 << shift)) >> (7 + shift)``.

    With ``half`` it is ``(v + 16384 * 256 + 127) >> 8``, a sigmoid from the table of a tanh:
    ``s(x) = tanh(x / 2) / 2 + 1 / 2``.
    """
    x, table = args
    u = x.astype(np.int64) + 32768
    index, fraction = u >> LUT_STEP_BITS, u & 127
    if table.shape[0] == 1:
        t = table[0].astype(np.int64)
        low, high = t[index], t[index + 1]
    else:
        flat = index.reshape(len(index), -1)
        t = np.broadcast_to(table.astype(np.int64), (len(index), LUT_SIZE))
        low = np.take_along_axis(t, flat, 1).reshape(index.shape)
        high = np.take_along_axis(t, flat + 1, 1).reshape(index.shape)
    v = low * (128 - fraction) + high * fraction
    offset, shift = lut_rounding(attrs)
    return ((v + offset) >> shift).astype(np.int16)


def lut_rounding(attrs: Mapping[str, Any]) -> tuple[int, int]:
    """What is added to the interpolated sum, and by how many bits it is then shifted down."""
    if attrs.get("half"):
        return HALF_OFFSET, LUT_STEP_BITS + 1
    shift = attrs.get("shift", 0)
    return 64 << shift, LUT_STEP_BITS + shift


def lut_ends(table: Array, attrs: Mapping[str, Any]) -> tuple[int, int]:
    """The least and the greatest result of a table."""
    offset, shift = lut_rounding(attrs)
    return int(table.min()) * 128 + offset >> shift, int(table.max()) * 128 + offset >> shift


def lut_table(function: Any, in_scale: float, out_scale: float) -> Array:
    """The i16 ``[513]`` table of ``function`` (float64 -> float64): knot i is for input ``(128 i - 32768) in_scale``.

    Results are rounded half to even and saturate; where the function is not finite the nearest finite knot is taken.
    """
    x = (np.arange(LUT_SIZE, dtype=np.float64) * 128 - 32768) * in_scale
    with np.errstate(all="ignore"):
        y = np.asarray(function(x), dtype=np.float64) / out_scale
    finite = np.isfinite(y)
    if not finite.any():
        raise NumericsError("a table's function has no finite value on its range.")
    y = np.where(finite, y, np.interp(x, x[finite], y[finite]))
    return saturate(np.rint(np.clip(y, -1e6, 1e6)).astype(np.int64), "i16")


def _infer_quantize(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    if types[0].dtype != "f32" or attrs.get("to") not in ("i8", "i16"):
        raise IRError(f"quantize takes f32 and to= i8 or i16; {types[0]} and {attrs.get('to')!r} given.")
    return TensorType(types[0].shape, attrs["to"])


def _eval_quantize(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
    return quantize(args[0], type_)


def quantize(x: Array, type_: TensorType) -> Array:
    """Real values as integers of a quantized type: ``saturate(floor(x * (1/scale) + 0.5) + zero_point)`` in float32.

    ``x`` is ``[..., *type.shape]``. Raises :class:`IRError` if the type has no quantization.
    """
    if type_.quant is None:
        raise IRError(f"{type_} has no scale to quantize to.")
    inverse = (1.0 / type_.quant.shaped(len(type_.shape))).astype(np.float32)
    scaled = np.floor(np.asarray(x, dtype=np.float32) * inverse + np.float32(0.5))
    clipped = np.clip(np.nan_to_num(scaled), -(2.0**30), 2.0**30).astype(np.int64)
    return saturate(clipped + type_.quant.zero_point, type_.dtype)


def dequantize(x: Array, type_: TensorType) -> Array:
    """Integers of a quantized type as float32 reals: ``(x - zero_point) * scale``. Others pass as they are."""
    if type_.quant is None:
        return x
    scale = type_.quant.shaped(len(type_.shape)).astype(np.float32)
    return (x.astype(np.int64) - type_.quant.zero_point).astype(np.float32) * scale


def _infer_dequantize(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    if not types[0].is_int or types[0].quant is None:
        raise IRError(f"dequantize takes an integer that has a scale; {types[0]} given.")
    return TensorType(types[0].shape, "f32")


def philox(counter: Array, size: int, seed: int) -> Array:
    """``size`` random uint32 words a counter, ``[B, size]``: Philox 2x32 with 10 rounds.

    Word i of counter c is the first output word for counter ``(c, i)`` and key ``seed mod 2^32``.
    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    left = np.repeat(counter.astype(np.uint64).reshape(-1, 1) & np.uint64(0xFFFFFFFF), size, axis=1)
    right = np.broadcast_to(np.arange(size, dtype=np.uint64), left.shape).copy()
    key = seed & 0xFFFFFFFF
    for _ in range(PHILOX_ROUNDS):
        product = left * np.uint64(PHILOX_MULTIPLIER)
        left, right = (product >> np.uint64(32)) ^ np.uint64(key) ^ right, product & np.uint64(0xFFFFFFFF)
        key = (key + PHILOX_KEY_STEP) & 0xFFFFFFFF
    return left.astype(np.uint32)


_OPS = (
    Op("requantize", (2, 2), _infer_requantize, _eval_requantize, INT, ("pre", "to"), elementwise=True),
    Op("lut", (2, 2), _infer_lut, _eval_lut, INT, ("half", "shift")),
    Op("quantize", (1, 1), _infer_quantize, _eval_quantize, frozenset({"float"}), ("to",), elementwise=True),
    Op("dequantize", (1, 1), _infer_dequantize, lambda a, at, t, ts: dequantize(a[0], ts[0]), INT, elementwise=True),
)
FIXED_OPS: dict[str, Op] = {op.name: op for op in _OPS}
