"""Full scales of input converters for joined vectors: a balance between the devices' errors and the converters' steps.

The word lines of one matrix share one voltage range, and its outputs one weight at full conductance. If every segment's
full scale F_s were the largest magnitude R_s that it takes, a segment whose weights times inputs are small would be
held by conductances near g_min, and drown in the devices' errors. A larger F_s drives these word lines with less and
holds their weights on larger conductances, for coarser steps of the input. The expected noise power of all outputs is::

    devices      sum_ji var(|w_ji| F_s / M_j) (M_j / F_s)^2 p_i,    M_j = max_i |w_ji| F_s(i)
    converters   sum_ji (F_s / m)^2 / 12 w_ji^2,                    m = 2^(bits-1) - 1

with ``var(v)`` the variance of the devices that hold a weight v of 1, over the conductance range, and ``p_i`` the mean
square of input i. ``F_s = R_s (max_t(w_t R_t) / (w_s R_s))^a``, ``w_s`` the root mean square over outputs of the
largest weight in s, and a of 0, 1/4, ... 1 is the one with the least noise: 0 for devices without errors; with 1 every
segment uses the conductances as it would alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.crossbar.converters import levels
from neurodeploy.crossbar.devices.formulas import programming_sd, spread_sd
from neurodeploy.crossbar.mapping.tiles import Segments
from neurodeploy.crossbar.ranges import Watch
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir.graph import Program
from neurodeploy.passes.tiling import OP

Array = np.ndarray
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def balanced(
    program: Program, target: Crossbar, segments: Segments, seen: Mapping[tuple[str, str], Watch] | None
) -> Segments:
    """The segments with full scales that are balanced; those of whole weights on a grid, and without any, stay.

    ``seen``: what drives the products in calibration; without it inputs count as spread evenly over their range.
    """
    made = dict(segments)
    for stage in program.stages:
        for value in stage.graph.values:
            known = segments.get((stage.name, value.name), ())
            if value.op != OP or len(known) < 2 or any(not full for *_, full in known):
                continue
            held = stage.graph.params[value.args[0]].data
            if held.dtype.kind == "i" and target.array.weight_bits is not None:
                continue
            weights = np.abs((held if value.attrs["side"] == "left" else held.T).astype(np.float64))
            if seen is None:
                power = np.concatenate([np.full(b - a, full**2 / 3) for a, b, full in known if full])
            else:
                power = seen[stage.name, value.name].power
            tried = [(noise(weights, known, f, power, target), i, f) for i, f in enumerate(_candidates(weights, known))]
            *_, full = min(tried, key=lambda t: t[:2])
            made[stage.name, value.name] = tuple((a, b, float(f)) for (a, b, _), f in zip(known, full, strict=True))
    return made


def _candidates(weights: Array, known: tuple[tuple[int, int, float | None], ...]) -> list[Array]:
    """Full scales ``[segments]`` for each exponent, the finest steps first."""
    largest = np.array([full for *_, full in known], np.float64)
    each = np.array([np.sqrt((weights[:, a:b].max(axis=1) ** 2).mean()) for a, b, _ in known])
    size = each * largest
    size = np.where(size > 0, size, size.max() or 1.0)
    return [largest * (size.max() / size) ** exponent for exponent in EXPONENTS]


def noise(
    weights: Array,
    known: tuple[tuple[int, int, float | None], ...],
    full: Array,
    power: Array,
    target: Crossbar,
) -> float:
    """Expected noise power of all outputs; ``|w|`` is ``[outputs, inputs]``, ``power`` the inputs' mean squares."""
    drive = np.concatenate([np.full(b - a, f) for (a, b, _), f in zip(known, full, strict=True)])
    stored = weights * drive
    top = stored.max(axis=1, keepdims=True)
    relative = np.divide(stored, top, out=np.zeros_like(stored), where=top > 0)
    total = float((variance(target, relative) * (top / drive) ** 2 * power).sum())
    if target.dac.bits is not None:
        total += float(((drive / levels(target.dac.bits)) ** 2 / 12 * weights**2).sum())
    return total


def variance(target: Crossbar, relative: Array) -> Array:
    """Variance over the conductance range squared of what holds magnitudes 0..1 of a weight, at the first read.

    Programming and spread of the devices, and rounding to ``weight_bits``, in units of the weight at full conductance.
    """
    device, array = target.device, target.array
    span = device.g_max_siemens - device.g_min_siemens

    def of(conductance: Array) -> Array:
        g = device.g_min_siemens + conductance * span
        return (programming_sd(device, g) ** 2 + spread_sd(device, g, 0.0) ** 2) / span**2

    if array.encoding == "differential":
        found = of(relative) + of(np.zeros_like(relative))
    else:  # a weight of 1 is half the range; both signs are as likely
        found = 4 * (of((1 + relative) / 2) + of((1 - relative) / 2)) / 2
    if array.encoding == "offset":  # the reference column errs too
        found = found + 4 * of(np.full_like(relative, 0.5))
    if array.weight_bits is not None:
        found = found + 1.0 / (12.0 * levels(array.weight_bits) ** 2)
    return found
