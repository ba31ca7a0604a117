"""What programming takes: the pulses to be expected of write and verify, and their energy.

A pulse leaves ``max(0, g + sd z)`` of the aimed g, and the read after it is within the tolerance with probability p;
then ``(1 - (1 - p)^n)/p`` pulses are to be expected of at most n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neurodeploy.artifact import Figure
from neurodeploy.crossbar.costs.parts import devices
from neurodeploy.crossbar.devices.formulas import programming_sd, to_levels
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import Device
from neurodeploy.ir.graph import Program

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_normal = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2.0)), otypes=[float])


def programming_figures(program: Program, matrices: Sequence[Matrix], target: Crossbar) -> list[Figure]:
    """Pulses of all devices of a chip, and their energy in nJ; unknown where the target doesn't write and verify."""
    verify = target.device.write_verify
    if verify is None:
        why = f"'{target.name}' doesn't say how its devices are programmed ([device.write_verify])"
        return [Figure.unknown("programming_pulses", "pulses", why), Figure.unknown("programming_energy", "nJ", why)]
    pulses = 0.0
    for matrix in matrices:
        weights = tiles.weights(program, matrix)
        for tile in matrix.tiles:
            for aimed in devices(matrix, tile, weights, target):
                pulses += float(expected(target.device, aimed[~np.isnan(aimed)]).sum())
    why = f"expected of write and verify, at most {verify.max_pulses} a device; {verify.source}"
    found = [Figure("programming_pulses", pulses, "pulses", "estimated", why)]
    if verify.pulse_joule is None:
        return [*found, Figure.unknown("programming_energy", "nJ", f"'{target.name}' has no joules of a pulse")]
    why = f"{pulses:.6g} pulses x {verify.pulse_joule * 1e12:.4g} pJ; {verify.source}"
    return [*found, Figure("programming_energy", pulses * verify.pulse_joule * 1e9, "nJ", "estimated", why)]


def expected(device: Device, aimed: Array) -> Array:
    """Pulses to be expected of devices aimed at ``aimed`` (S, any shape)."""
    verify = device.write_verify
    if verify is None or not aimed.size:
        return np.ones(aimed.shape)
    values, where = np.unique(to_levels(device, aimed), return_inverse=True)
    sd = programming_sd(device, values)
    within = np.zeros(values.shape)
    for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        off = verify.read_sd_siemens * node
        low, high = values - verify.tolerance_siemens - off, values + verify.tolerance_siemens - off
        within += weight * np.where(
            high >= 0, _below(high, values, sd) - np.where(low > 0, _below(low, values, sd), 0), 0
        )
    p = np.clip(within, 0.0, 1.0)
    n = verify.max_pulses
    pulses = np.where(p > 1e-12, (1 - (1 - p) ** n) / np.maximum(p, 1e-12), float(n))
    return pulses[where].reshape(aimed.shape)


def _below(limit: Array, mean: Array, sd: Array) -> Array:
    """The probability that a normal value lies below a limit; a spread of 0 is a step."""
    return np.where(sd > 0, _normal((limit - mean) / np.where(sd > 0, sd, 1.0)), (mean <= limit).astype(float))
