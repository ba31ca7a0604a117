"""Memristive devices: what programming leaves in them, and what they are some time later.

The formulas are those of phase-change memory by Nandakumar et al., "Phase-change memory models for deep learning
training and inference", ICECS 2019 (IEEE 8964852), as aihwkit's ``PCMLikeNoiseModel`` codes them; their constants come
from the target's description. With ``r = g/g_max``::

    programming   g_p = max(0, g + sd(r) z),  sd = sum_k c_k r^k
    drift         g(t) = g_p ((t + t0)/t0)^-nu,  nu = |mean(r) + sd(r) z'|, both clipped lines in ln r
    read (1/f)    g(t) (1 + Q sqrt(ln((t + t0 + t_r)/(2 t_r))) z''),  Q = min(q / r_p^e, q_max),  never below 0

t counts from t0, the first read after programming (20 s there): ``seconds = 0`` is that read. nu depends on the target
conductance, Q on the programmed one. 1/f noise is slow against an inference, so it is drawn once for a chip and a time
and held while that time's data run. Conductances in siemens, times in seconds. A table that the target lacks (no
programming noise, no drift, no read noise) leaves the conductance untouched, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurodeploy.descriptions_crossbar import Device, ThermalNoise
from neurodeploy.errors import UsageError

Array = np.ndarray
Normals = Callable[[str], Array]
PURPOSES = {"programming": 1, "drift": 2, "read": 3, "dac": 4, "adc": 5}
BOLTZMANN = 1.380649e-23  # J/K, exact in the SI of 2019
_SMALLEST = 1e-7  # a conductance of 0 has no logarithm; the clipped lines have long ended here


def stream(seed: int, chip: int, array: int, purpose: str, seconds: float = 0.0) -> np.random.Generator:
    """Random numbers that depend on nothing but what is named here: Philox, its key and counter made of the arguments.

    So a chip is the same however many others are simulated beside it, and whatever times are asked for. Philox 4x64:
    Salmon, Moraes, Dror and Shaw, SC 2011. Raises :class:`UsageError` for a seed that isn't in 0..2^64-1.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 64:
        raise UsageError(f"the seed is {seed!r}; needed a whole number from 0 to 2^64 - 1.", place="crossbar")
    milliseconds = round(seconds * 1000)
    counter = np.array([0, milliseconds, array, chip], dtype=np.uint64)
    key = np.array([seed, PURPOSES[purpose]], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def programming_sd(device: Device, g: Array) -> Array:
    """Standard deviation (S) of a device programmed to ``g`` (S); zeros where the target has no programming noise."""
    if device.programming is None:
        return np.zeros_like(g)
    return np.polynomial.polynomial.polyval(g / device.g_max_siemens, device.programming.sd_siemens)


def drift_exponent(device: Device, g: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the drift exponent nu of a device meant to have ``g`` (S); zeros without drift."""
    drift = device.drift
    if drift is None:
        return np.zeros_like(g), np.zeros_like(g)
    log = np.log(np.maximum(g / device.g_max_siemens, _SMALLEST))
    mean = np.clip(drift.nu_mean_slope * log + drift.nu_mean_offset, drift.nu_mean_min, drift.nu_mean_max)
    sd = np.clip(drift.nu_sd_slope * log + drift.nu_sd_offset, drift.nu_sd_min, drift.nu_sd_max)
    return mean, sd


def read_noise_sd(device: Device, programmed: Array, now: Array, seconds: float) -> Array:
    """Standard deviation (S) of 1/f noise on a conductance ``now`` (S) that was ``programmed`` (S) earlier."""
    noise = device.read_noise
    if noise is None:
        return np.zeros_like(now)
    since = seconds + (device.drift.t0_s if device.drift else 0.0)
    relative = np.maximum(programmed / device.g_max_siemens, _SMALLEST)
    q = np.minimum(noise.q_scale / relative**noise.q_exponent, noise.q_max)
    # below one read time nothing has accumulated yet: the logarithm would be negative
    grown = max(np.log((since + noise.t_read_s) / (2 * noise.t_read_s)), 0.0)
    return now * q * np.sqrt(grown)


def johnson_sd(noise: ThermalNoise, conductance: Array, pulse_s: float) -> Array:
    """Standard deviation (A) of the current through ``conductance`` (S), averaged over a read of ``pulse_s``.

    ``sqrt(4 k T G B)`` with the bandwidth of an average, ``B = 1/(2 pulse_s)``. Nyquist, Phys. Rev. 32, 110 (1928).
    """
    return np.sqrt(4 * BOLTZMANN * noise.temperature_kelvin * conductance / (2 * pulse_s))


@dataclass(frozen=True)
class Cells:
    """Devices of one array after programming: targets, what they were programmed to (S), drift exponents."""

    device: Device
    target: Array
    programmed: Array
    nu: Array | None

    @classmethod
    def program(cls, device: Device, target: Array, normals: Normals) -> Cells:
        """Program devices to ``target`` (S, any shape). ``normals(purpose)`` gives standard normals of that shape."""
        programmed, nu = target, None
        if device.programming is not None:
            programmed = np.maximum(target + programming_sd(device, target) * normals("programming"), 0.0)
        if device.drift is not None:
            mean, sd = drift_exponent(device, target)
            nu = np.abs(mean + sd * normals("drift"))
        return cls(device, target, programmed, nu)

    def at(self, seconds: float, normals: Normals) -> Array:
        """Conductances (S) as read ``seconds`` after the first read, 1/f noise included."""
        now = self.programmed
        if self.device.drift is not None and self.nu is not None and seconds > 0:
            now = now * (1.0 + seconds / self.device.drift.t0_s) ** -self.nu
        if self.device.read_noise is not None:
            sd = read_noise_sd(self.device, self.programmed, now, seconds)
            now = np.maximum(now + sd * normals("read"), 0.0)
        return now
