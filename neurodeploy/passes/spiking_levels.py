"""The whole numbers of levels: steps, the weights that act on levels, multipliers that float64 takes exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Significant bits of a multiplier: with 31 bits of a shifted integer they make 51, which float64 holds.
MULTIPLIER_BITS = 20
#: A unit that hardly moves has the step of one that takes this share of the vector's largest range.
_LEAST_RANGE = 0.01


def short(mult: np.ndarray) -> np.ndarray:
    """Multipliers cut to 20 significant bits, to the nearest."""
    whole = np.asarray(mult, np.int64)
    spare = np.maximum(np.ceil(np.log2(np.maximum(np.abs(whole), 1) + 1)).astype(np.int64) - MULTIPLIER_BITS, 0)
    rounded = (whole + (1 << spare >> 1)) >> spare << spare
    return np.where(rounded > 0x7FFFFFFF, whole >> spare << spare, rounded).astype(np.int32)


def level_multipliers(ranges: np.ndarray, levels: int) -> tuple[np.ndarray, int, np.ndarray]:
    """``(mult i32[n], pre, step[n])``: ``levels`` steps reach from 0 to each range; a step is no finer than 1.

    ``step = 2^(32 - pre) / mult``, exactly what ``requantize`` divides by. Levels times step never pass the range, but
    for a step of 1, where levels are the integers themselves.
    """
    top = int(ranges.max(initial=0)) or levels
    reach = np.maximum(ranges, _LEAST_RANGE * top)
    factor = np.minimum(levels / reach, 1.0)
    pre = 2 if factor.max() >= 0.5 else 0
    whole = np.ceil(factor * 2.0 ** (32 - pre)).astype(np.int64)
    spare = np.maximum(np.ceil(np.log2(whole + 1)).astype(np.int64) - MULTIPLIER_BITS, 0)
    mult = (whole + (1 << spare) - 1) >> spare << spare
    return mult.astype(np.int32), pre, 2.0 ** (32 - pre) / mult


def level_weights(weights: np.ndarray, step: np.ndarray, levels: int, size: int, bits: int) -> tuple[Any, Any]:
    """``(W' , f)``: ``f[:, None] * W' ~ weights * step``, W' in ``bits`` bits, and the row's bound of the module."""
    exact = weights.astype(np.float64) * step
    top = 2 ** (bits - 1) - 1
    f = np.maximum(np.ceil(np.abs(exact).max(axis=1, initial=0) / top), 1.0)
    whole = np.rint(exact / f[:, None])
    reach = f * np.abs(whole).sum(axis=1) * levels
    passes = reach > np.abs(weights.astype(np.float64)).sum(axis=1) * size
    whole = np.where(passes[:, None], np.trunc(exact / f[:, None]), whole)
    return whole.astype(np.int8 if bits <= 8 else np.int16), f.astype(np.int32)
