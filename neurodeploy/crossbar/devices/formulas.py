"""The devices' formulas: deviations, drift, noise and current as functions of conductance, time and voltage.

Conductances in siemens, times in seconds after the first read, ``r = g/g_max``. The constants come from the target's
description, their sources stand there; every function says whose formula it is.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.descriptions_devices import Device, ThermalNoise

Array = np.ndarray
BOLTZMANN = 1.380649e-23  # J/K, exact in the SI of 2019
_SMALLEST = 1e-7  # a conductance of 0 has no logarithm; the clipped lines have long ended here

polyval = np.polynomial.polynomial.polyval


def to_levels(device: Device, g: Array) -> Array:
    """The device's own level nearest to ``g`` (S): evenly spaced from g_min to g_max; g itself where it has no levels.

    A conductance that is a level but for rounding (1e-9 of the range) is left as it is, to the last bit.
    """
    if device.levels is None:
        return g
    span = device.g_max_siemens - device.g_min_siemens
    steps = device.levels - 1
    code = np.clip(np.rint((g - device.g_min_siemens) / span * steps), 0, steps)
    rounded = device.g_min_siemens + code * (span / steps)
    return np.where(np.abs(rounded - g) <= 1e-9 * span, g, rounded)


def programming_sd(device: Device, g: Array) -> Array:
    """Standard deviation (S) of a device programmed to ``g`` (S); zeros where the target has no programming noise."""
    noise = device.programming
    if noise is None:
        return np.zeros_like(g)
    return polyval(g / (noise.reference_siemens or device.g_max_siemens), noise.sd_siemens)


def spread_sd(device: Device, g: Array, seconds: float) -> Array:
    """Standard deviation (S) from the target ``g`` (S) some time after the first read; zeros without ``[spread]``.

    Between two measured times it is a line in ln t, t from programming; after the last one it stays.
    """
    spread = device.spread
    if spread is None:
        return np.zeros_like(g)
    logs = np.log(spread.times_s)
    now = min(np.log(seconds + device.t0_s), logs[-1])
    k = min(max(int(np.searchsorted(logs, now, side="right")) - 1, 0), len(logs) - 2)
    x = g / (spread.reference_siemens or device.g_max_siemens)
    before, after = (polyval(x, spread.sd_siemens[i]) for i in (k, k + 1))
    return before + (after - before) * ((now - logs[k]) / (logs[k + 1] - logs[k]))


def relaxation(device: Device, seconds: float) -> tuple[float, float]:
    """Mean and standard deviation (S) of what relaxation adds to every conductance; zeros without it."""
    law = device.relaxation
    if law is None:
        return 0.0, 0.0
    log = float(np.log(seconds + law.t0_s))
    return float(polyval(log, law.mean_siemens)), max(float(polyval(log, law.sd_siemens)), 0.0)


def drift_exponent(device: Device, g: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the drift exponent nu of a device meant to have ``g`` (S); zeros without drift.

    Nandakumar et al., ICECS 2019 (IEEE 8964852), as aihwkit's ``PCMLikeNoiseModel`` codes it.
    """
    drift = device.drift
    if drift is None:
        return np.zeros_like(g), np.zeros_like(g)
    log = np.log(np.maximum(g / device.g_max_siemens, _SMALLEST))
    mean = np.clip(drift.nu_mean_slope * log + drift.nu_mean_offset, drift.nu_mean_min, drift.nu_mean_max)
    sd = np.clip(drift.nu_sd_slope * log + drift.nu_sd_offset, drift.nu_sd_min, drift.nu_sd_max)
    return mean, sd


def read_noise_sd(device: Device, programmed: Array, now: Array, seconds: float) -> Array:
    """Standard deviation (S) of 1/f noise on a conductance ``now`` (S) that was ``programmed`` (S) earlier.

    Nandakumar et al., ICECS 2019: the variance of 1/f noise since programming grows with the logarithm of time.
    """
    noise = device.read_noise
    if noise is None:
        return np.zeros_like(now)
    since = seconds + device.t0_s
    relative = np.maximum(programmed / device.g_max_siemens, _SMALLEST)
    q = np.minimum(noise.q_scale / relative**noise.q_exponent, noise.q_max)
    # below one read time nothing has accumulated yet: the logarithm would be negative
    grown = max(np.log((since + noise.t_read_s) / (2 * noise.t_read_s)), 0.0)
    return now * q * np.sqrt(grown)


def johnson_variance(noise: ThermalNoise, conductance: Array, bandwidth_hz: float) -> Array:
    """Variance (A^2) of the thermal current of ``conductance`` (S): ``4 k T G B``. Nyquist, Phys. Rev. 32, 110 (1928).

    Conductances on one bit line add, and so do those of a pair's two lines, whose noises are independent.
    """
    return 4.0 * BOLTZMANN * noise.temperature_kelvin * conductance * bandwidth_hz


def johnson_sd(noise: ThermalNoise, conductance: Array, pulse_s: float) -> Array:
    """Standard deviation (A) of the thermal current, averaged over a read of ``pulse_s``: ``B = 1/(2 pulse_s)``."""
    return np.sqrt(johnson_variance(noise, conductance, 1.0 / (2.0 * pulse_s)))


def nonlinear_coefficients(device: Device, g: Array) -> tuple[Array, Array]:
    """a2 (A/V^2) and a3 (A/V^3) of ``I = g V + a2 V^2 + a3 V^3`` for conductances ``g`` (S); zeros without the table.

    Polynomials in log10(g / 1 S) inside the fitted range, in proportion to g outside: 0 for a cell that isn't formed.
    """
    law = device.nonlinear
    if law is None:
        return np.zeros_like(g), np.zeros_like(g)
    inside = np.clip(g, law.fitted_min_siemens, law.fitted_max_siemens)
    log = np.log10(inside)
    return polyval(log, law.a2) * (g / inside), polyval(log, law.a3) * (g / inside)


def current(device: Device, g: Array, volts: Array) -> Array:
    """Current (A) through devices of conductance ``g`` (S) at ``volts``; ohmic without ``[nonlinear]``."""
    a2, a3 = nonlinear_coefficients(device, g)
    return volts * (g + volts * (a2 + volts * a3))


def slope(device: Device, g: Array, volts: Array) -> Array:
    """Differential conductance dI/dV (S) of :func:`current`."""
    a2, a3 = nonlinear_coefficients(device, g)
    return g + volts * (2.0 * a2 + volts * 3.0 * a3)
