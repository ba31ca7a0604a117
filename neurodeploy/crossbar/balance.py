"""Full scales of input converters for joined vectors: a balance between the devices' errors and the converters' steps.

The word lines of one matrix share one voltage range, and its outputs one weight at full conductance. If every segment's
full scale F_s were the largest magnitude R_s that it takes, a segment whose weights times inputs are small would be
held by conductances far below full, where the devices' errors, which hardly depend on conductance, drown it. A larger
F_s drives these word lines with less and holds their weights on larger conductances, for coarser steps of the input.
With ``w_js`` the largest weight of output j in segment s, ``P_s`` the sum of its inputs' mean squares and ``e`` a
device's error over the conductance range, the expected noise power of all outputs is::

    devices      e^2 sum_js (max_t(w_jt F_t) / F_s)^2 P_s
    converters   sum_js (F_s / m)^2 / 12 sum_(i in s) w_ji^2,        m = 2^(bits-1) - 1

``F_s = R_s (max_t(w_t R_t) / (w_s R_s))^a``, w_s the root mean square of the ``w_js``, and a of 0, 1/4, ... 1 is the
one with the least noise: 0 for devices without errors, 1 where every segment would use the conductances as it would
alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.crossbar.converters import levels
from neurodeploy.crossbar.devices_formulas import programming_sd, spread_sd
from neurodeploy.crossbar.ranges import Watch
from neurodeploy.crossbar.tiles import Segments
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
    error = device_error(target)
    made = dict(segments)
    for stage in program.stages:
        for value in stage.graph.values:
            known = segments.get((stage.name, value.name), ())
            if value.op != OP or len(known) < 2 or any(not full for *_, full in known) or not error:
                continue
            held = stage.graph.params[value.args[0]].data
            if held.dtype.kind == "i" and target.array.weight_bits is not None:
                continue
            weights = np.abs((held if value.attrs["side"] == "left" else held.T).astype(np.float64))
            largest = np.array([full for *_, full in known])
            spans = [slice(a, b) for a, b, _ in known]
            power = None if seen is None else seen[stage.name, value.name].power
            if power is None:
                power = np.concatenate([np.full(b - a, full**2 / 3) for a, b, full in known if full])
            full = _full_scales(weights, spans, largest, power, error, target.dac.bits)
            made[stage.name, value.name] = tuple((a, b, float(f)) for (a, b, _), f in zip(known, full, strict=True))
    return made


def device_error(target: Crossbar) -> float:
    """Standard deviation of a device's error at the first read over the conductance range, in the middle of it.

    Programming, spread, and rounding to ``weight_bits``.
    """
    device = target.device
    span = device.g_max_siemens - device.g_min_siemens
    middle = np.array([device.g_min_siemens + span / 2])
    variance = (programming_sd(device, middle)[0] / span) ** 2 + (spread_sd(device, middle, 0.0)[0] / span) ** 2
    if target.array.weight_bits is not None:
        variance += 1.0 / (12.0 * levels(target.array.weight_bits) ** 2)
    return float(np.sqrt(variance))


def _full_scales(
    weights: Array, spans: list[slice], largest: Array, power: Array, error: float, bits: int | None
) -> Array:
    """The candidate with the least expected noise, ``[segments]``."""
    each = np.array([weights[:, s].max(axis=1) for s in spans])  # [segments, outputs]
    total = np.array([power[s].sum() for s in spans])
    squares = np.array([(weights[:, s] ** 2).sum() for s in spans])
    size = np.sqrt((each**2).mean(axis=1)) * largest
    size = np.where(size > 0, size, size.max() or 1.0)
    best, least = largest, np.inf
    for exponent in EXPONENTS:
        full = largest * (size.max() / size) ** exponent
        stored = (each * full[:, None]).max(axis=0)  # the weight at full conductance, times the full drive
        noise = error**2 * float(((stored[None] / full[:, None]) ** 2 * total[:, None]).sum())
        if bits is not None:
            noise += float(((full / levels(bits)) ** 2 / 12 * squares).sum())
        if noise < least:
            best, least = full, noise
    return best
