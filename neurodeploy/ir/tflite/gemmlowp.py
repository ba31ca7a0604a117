"""gemmlowp's fixed-point functions on int32, as int64 arrays of raw integers.

A number with ``m`` integer bits is ``raw * 2^(m - 31)``. The algorithms are those of gemmlowp's
``fixedpoint/fixedpoint.h`` (functions ``exp_on_negative_values``, ``one_over_one_plus_x_for_x_in_0_1``,
``one_minus_x_over_one_plus_x_for_x_in_0_1``, ``logistic``, ``tanh``); constants are the nearest raw integers.
"""

from __future__ import annotations

import math

import numpy as np

from neurodeploy.ir.op import Array
from neurodeploy.ir.tflite.fixed_point import rounding_shift

ONE = (1 << 31) - 1


def raw(value: float, integer_bits: int) -> int:
    """A constant's nearest raw integer."""
    return round(value * 2.0 ** (31 - integer_bits))


def times(a: Array, b: Array | int) -> Array:
    """The product's raw integers (its integer bits are the sum of both), saturated."""
    return np.minimum((a * b + (1 << 30)) >> 31, ONE)


def raised(x: Array, bits: int) -> Array:
    """Fewer integer bits: ``x << bits``, saturated."""
    return np.clip(x << bits, -ONE - 1, ONE)


def _exp_of_an_interval(a: Array) -> Array:
    """exp(a) for -1/4 <= a < 0, no integer bits: four terms of the series around -1/8."""
    centre = raw(math.exp(-1 / 8), 0)
    x = a + (1 << 28)
    square = times(x, x)
    cube, fourth = times(square, x), times(square, square)
    tail = times(rounding_shift(fourth, 2) + cube, raw(1 / 3, 0))
    return centre + times(x + rounding_shift(tail + square, 1), centre)


def exp_of_negative(a: Array, integer_bits: int) -> Array:
    """exp(a) for a <= 0 with that many integer bits; the result has none."""
    quarter = 1 << (29 - integer_bits)
    within = (a & (quarter - 1)) - quarter
    result = _exp_of_an_interval(raised(within, integer_bits))
    quarters = within - a
    for power in range(-2, integer_bits):
        factor = raw(math.exp(-(2.0**power)), 0)
        bit = np.int64(1) << (31 - integer_bits + power)
        result = np.where(quarters & bit, times(result, factor), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (36 - integer_bits)), 0, result)
    return np.where(a == 0, ONE, result)


def _inverse_of_half(half: Array) -> Array:
    """1/half for 1/2 <= half < 1, with 2 integer bits: three steps of Newton from 48/17 - 32/17 half."""
    x = raw(48 / 17, 2) + times(half, raw(-32 / 17, 2))
    for _ in range(3):
        x = x + raised(times(x, (1 << 29) - times(half, x)), 2)
    return x


def inverse_of_one_plus(a: Array) -> Array:
    """1 / (1 + a) for 0 <= a < 1, no integer bits."""
    return raised(_inverse_of_half((a + ONE + 1) >> 1), 1)


def logistic(a: Array, integer_bits: int) -> Array:
    """1 / (1 + exp(-a)); the result has no integer bits."""
    upper = inverse_of_one_plus(exp_of_negative(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a > 0, upper, ONE - upper))


def tanh(a: Array, integer_bits: int) -> Array:
    """tanh(a); the result has no integer bits."""
    small = exp_of_negative(-np.abs(a), integer_bits + 1)
    size = raised(_inverse_of_half((small + ONE + 1) >> 1) - (1 << 29), 2)
    return np.where(a == 0, 0, np.where(a < 0, -size, size))
