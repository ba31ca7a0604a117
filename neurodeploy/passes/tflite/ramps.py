"""Any function of an int16 as two FULLY_CONNECTED: a row of ramps, and their weighted sum.

TFLite Micro has kernels at int16 for sigmoid and tanh, not for exp, log, roots or quotients. But FULLY_CONNECTED
saturates, so that a row of it is a ramp: -1 to the left of a segment of the argument's range, +1 to the right, straight
between. A weighted sum of ramps is then any piecewise linear function, flat outside its range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurodeploy.ir.op import Array

#: What a ramp's int16 stands for: -1 to 1.
RAMP_SCALE = 2.0**-15
#: Numbers of segments that are tried. The most keep a function within about 2^-11 of its range, one that turns within
#: 2^-10; the int8 weights around it lose more.
PIECES = (1, 2, 4, 8, 16, 32)
#: An error that is good enough, in what one step of the argument and one of the result make together.
GOOD = 1.0
#: What the rise of a function counts beside its bends where the segments are chosen.
RISES = (0.0, 0.3, 1.0, 3.0)
#: Fewer steps of the argument than this can't be a ramp: the kernel's factor is below 128.
SHORTEST = 5


@dataclass(frozen=True)
class Ramps:
    """A function's segments in steps of its argument, their weights, and its constant in steps of the result.

    ``starts``, ``widths`` ``[k]``: the segments. ``weights`` ``[k]``: int8, half of what the function rises along each,
    in units of ``unit`` steps of the result. ``middle``: the mean of both ends.
    """

    starts: Array
    widths: Array
    weights: Array
    unit: float
    middle: float

    def __call__(self, x: Array) -> Array:
        """The function in steps of its result, without the kernels' rounding."""
        knots = np.append(self.starts, self.starts[-1] + self.widths[-1])
        ends = 2 * np.concatenate([[0.0], self.weights.cumsum()]) - self.weights.sum()
        return self.middle + self.unit * np.interp(x, knots, ends)


def fit(function: Callable[[Array], Array], low: int, high: int) -> Ramps:
    """The function of an int16 (in steps of argument and result) between two integers, with as few segments as do.

    An error counts by the step of the result and by how much one step of the argument changes it there.
    """
    low, high = max(low, -32768), min(high, 32767)
    high = max(high, low + SHORTEST)
    x = np.arange(low, high + 1, dtype=np.float64)
    y = function(x)
    slope = np.diff(y)
    bends = _share(np.sqrt(np.abs(np.diff(slope, prepend=slope[0]))))
    rises = _share(np.abs(slope))
    step = 1 + np.maximum(np.abs(slope), np.abs(np.roll(slope, 1)))[np.r_[: len(slope), -1]]
    tried: list[tuple[float, Ramps]] = []
    for pieces in PIECES:
        if pieces > max(1, (len(x) - 1) // SHORTEST):
            break
        found = [_ramps(x, y, _apart(np.interp(np.linspace(0, total[-1], pieces + 1), total, x)))
                 for total in (bends + part * rises + x * 1e-12 for part in RISES)]  # fmt: skip
        errors = [float(np.max(np.abs(made(x) - y) / step)) for made in found]
        tried.append(min(zip(errors, found, strict=True), key=lambda pair: pair[0]))
        if tried[-1][0] <= GOOD:
            break
    best = min(error for error, _ in tried)
    return next(made for error, made in tried if error <= max(GOOD, 1.2 * best))


def _share(density: Array) -> Array:
    """Its running sum from 0 to 1."""
    total = np.concatenate([[0.0], density.cumsum()])
    return total / total[-1] if total[-1] else total


def _ramps(x: Array, y: Array, knots: Array) -> Ramps:
    values = np.interp(knots, x, y) - _bends(knots, x, y)
    unit = float(np.abs(np.diff(values)).max(initial=0)) / 127 or 1.0
    ends = np.rint((values - values[0]) / unit)  # rounded where it adds up, so that errors don't
    weights = np.clip(np.diff(ends), -127, 127)
    return Ramps(knots[:-1], np.diff(knots), weights, unit / 2, float(values[0] + weights.sum() * unit / 2))


def _apart(knots: Array) -> Array:
    """The same knots, at least the shortest segment from each other."""
    gaps = np.arange(len(knots)) * SHORTEST
    low, high = knots[0], knots[-1]
    return np.clip(np.maximum.accumulate(knots - gaps), low, high - gaps[-1]) + gaps


def _bends(knots: Array, x: Array, y: Array) -> Array:
    """By how much to lower every knot, so that its chords are off by as much above as below."""
    values = np.interp(knots, x, y)
    off = (values[1:] + values[:-1]) / 2 - np.interp((knots[1:] + knots[:-1]) / 2, x, y)
    return (np.concatenate([off[:1], off]) + np.concatenate([off, off[-1:]])) / 4
