"""Digital-to-analog and analog-to-digital converters as ideal staircases, and the ranges that they are set to."""

from __future__ import annotations

import numpy as np

from neurodeploy.errors import TargetError
from neurodeploy.hardware import Crossbar

Array = np.ndarray


def levels(bits: int) -> int:
    """The largest code m of a signed converter: codes are -m..m with ``m = 2^(bits-1) - 1``, zero is one of them."""
    return (1 << (bits - 1)) - 1


def check(target: Crossbar) -> None:
    """Raise :class:`TargetError` for a converter that has no room for a sign."""
    for name in ("dac", "adc"):
        bits = getattr(target, name).bits
        if bits is not None and bits < 2:
            raise TargetError(
                f"'{name}.bits' is {bits}; inputs and outputs have signs, needed at least 2.",
                place=target.name,
                hint="Leave 'bits' out for a converter of infinite precision.",
            )


def convert(x: Array, full_scale: Array | float, bits: int | None) -> tuple[Array, Array | None]:
    """``step clip(round(x / step), -m, m)`` with ``step = full_scale / m``; halves go to the even code.

    ``full_scale`` broadcasts against x (floats), in x's unit; where it is 0 the result is 0. Returns the result in x's
    dtype and where x lay half a step or more outside the range, None for nowhere. Without ``bits``: x itself.
    """
    if bits is None:
        return x, None
    m = levels(bits)
    step = np.asarray(full_scale, dtype=np.float64) / m
    step = np.where(step > 0, step, 1.0 / np.finfo(np.float32).tiny).astype(x.dtype)
    codes = x / step
    np.rint(codes, out=codes)
    saturated = None
    if codes.size and max(codes.max(), -codes.min()) > m:
        saturated = np.abs(codes) > m
        np.clip(codes, -m, m, out=codes)
    codes *= step
    return codes, saturated
