"""ADD and SUB of two int8 by two multiplications and one shift, where that has the bits of the reference kernel.

The kernel rounds three times; what it gives is compared on every pair of arguments here, at compile time, so that the
short form is used exactly where it is right. Its numbers are searched around the ratios of the scales.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from neurodeploy.backends.c_rounding import I32
from neurodeploy.backends.c_tflite_lower import Lowering
from neurodeploy.errors import NumericsError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite.fixed_point import activation_range, scale_of, zero_of

#: How far from its ratio a factor may lie, in steps of its last bit.
SPAN = 6
#: So many pairs, those nearest to the border between two results, decide between candidates.
NEAR = 2000


@dataclass(frozen=True)
class Weighted:
    """``(x * by[0] + y * by[1] + plus) >> shift``, to be clamped."""

    by: tuple[int, int]
    plus: int
    shift: int

    def sums(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x * self.by[0] + y * self.by[1] + self.plus


def weighted_sum(q: Lowering, value: Value) -> bool:
    """Emit an int8 sum in its short form, if there is one."""
    if any(q.type(a).dtype != "i8" for a in value.args) or value.tensor.dtype != "i8":
        return False
    found = _search(q, value)
    if found is None:
        return False
    clamp = activation_range(value.tensor, value.attrs.get("act"))
    attrs = {"by": found.by, "plus": found.plus, "shift": found.shift, "clamp": clamp}
    q.emit("weighted_sum", value.args, value.tensor, attrs, value.name)
    return True


def _search(q: Lowering, value: Value) -> Weighted | None:
    """Factors near the ratios of the scales that give the kernel's result for every pair that may come."""
    first, second = (np.arange(low, high + 1) for low, high in map(q.known.__getitem__, value.args))
    x, y = np.repeat(first, len(second)), np.tile(second, len(first))
    try:
        wanted = _kernel(q, value, x, y)
    except NumericsError:  # pairs that the kernel doesn't take
        return None
    into, types = value.tensor, [q.type(a) for a in value.args]
    ratios = [float(scale_of(t)) / float(scale_of(into)) for t in types]
    ratios[1] = -ratios[1] if value.op == "tfl_sub" else ratios[1]
    shift = min(int(np.log2(I32[1] / (256 * sum(map(abs, ratios)) + 130))), 30)
    if shift < 1:
        return None
    clamp = activation_range(into, value.attrs.get("act"))
    real = sum(r * (a - zero_of(t)) for r, a, t in zip(ratios, (x, y), types, strict=True)) + zero_of(into) + 0.5
    distance = np.where((real < clamp[0]) | (real > clamp[1] + 1), np.inf, np.abs(real - np.rint(real)))
    near = np.argpartition(distance, min(NEAR, distance.size - 1))[:NEAR]
    middle = [round(r * 2**shift) for r in ratios]
    steps = sorted(itertools.product(range(-SPAN, SPAN + 1), repeat=2), key=lambda s: abs(s[0]) + abs(s[1]))
    for step in steps:
        by = middle[0] + step[0], middle[1] + step[1]
        made = _completed(by, shift, clamp, x[near], y[near], wanted[near])
        if made is not None and _right(made, clamp, x, y, wanted):
            return made
    return None


def _kernel(q: Lowering, value: Value, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    types = [q.type(a).with_(shape=x.shape) for a in value.args]
    arrays = [a.astype(np.int8)[None] for a in (x, y)]
    found = OPS[value.op].eval(arrays, value.attrs, value.tensor.with_(shape=x.shape), types)
    return found.reshape(-1).astype(np.int64)


def _completed(
    by: tuple[int, int], shift: int, clamp: tuple[int, int], x: np.ndarray, y: np.ndarray, wanted: np.ndarray
) -> Weighted | None:
    """The addend that puts every sum into its step; a clamped one is bounded from one side only."""
    sums = Weighted(by, 0, shift).sums(x, y)
    least = ((wanted << shift) - sums)[wanted > clamp[0]]
    most = ((wanted + 1 << shift) - 1 - sums)[wanted < clamp[1]]
    if not least.size or not most.size or least.max() > most.min():
        return None
    return Weighted(by, int(least.max() + most.min()) >> 1, shift)


def _right(made: Weighted, clamp: tuple[int, int], x: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether it is what the kernel gives, in 32 bits all the way, for every pair."""
    steps = made.sums(x, y), y * made.by[1] + made.plus
    if any(s.min() < I32[0] or s.max() > I32[1] for s in steps):
        return False
    return bool((np.clip(steps[0] >> made.shift, *clamp) == wanted).all())
