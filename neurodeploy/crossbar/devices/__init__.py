"""Memristive devices: what programming leaves in them, and what they are some time later.

A device's life here, in this order; a table that the target lacks leaves the conductance untouched, to the last bit::

    levels        the target is rounded to the device's own levels
    programming   g_p = max(0, g + sd(g) z), one pulse; with [write_verify] pulses until a read is near enough
    stuck         stays at its conductance for ever, exactly
    drift         g(t) = g_p ((t + t0)/t0)^-nu,  nu = |mean(r) + sd(r) z'|, both clipped lines in ln r
    or spread     g(t) = max(0, g + sd(g, t) z), z of programming: the measured deviation from the target at that time
    or relaxation g(t) = max(0, g_p + mean(ln t) + sd(ln t) z')
    read (1/f)    g(t) (1 + Q sqrt(ln((t + t0 + t_r)/(2 t_r))) z''),  Q = min(q / r_p^e, q_max),  never below 0

z, z', z'' are standard normal, independent from device to device, ``r = g/g_max``. z and z' belong to the device and
don't change with time, so a device ages along one curve. Thermal noise and the current's curve are in
:mod:`neurodeploy.crossbar.devices.formulas`. t counts from t0, the first read after programming (20 s for PCM):
``seconds = 0`` is that read. nu depends on the target conductance, Q on the programmed one. 1/f noise is slow against
an inference, so it is drawn once for a chip and a time and held while that time's data run. Conductances in siemens,
times in seconds. A target of NaN is a cell that was never formed: it conducts exactly nothing, always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.devices import stuck as devices_stuck
from neurodeploy.crossbar.devices.formulas import (
    drift_exponent,
    programming_sd,
    read_noise_sd,
    relaxation,
    spread_sd,
    to_levels,
)
from neurodeploy.crossbar.devices.verify import Pulses, count, pulses_in_vain, write_and_verify
from neurodeploy.descriptions_devices import Device
from neurodeploy.errors import UsageError

Array = np.ndarray
Normals = Callable[[str], Array]
#: What random numbers are drawn for; "programming 2" is for the second pulse, and so on.
PURPOSES = {"programming": 1, "drift": 2, "read": 3, "dac": 4, "adc": 5, "stuck": 6, "verify": 7}


def stream(seed: int, chip: int, array: int, purpose: str, seconds: float = 0.0) -> np.random.Generator:
    """Random numbers that depend on nothing but what is named here: Philox, its key and counter made of the arguments.

    So a chip is the same however many others are simulated beside it, and whatever times are asked for. Philox 4x64:
    Salmon, Moraes, Dror and Shaw, SC 2011. Times count in milliseconds. Raises :class:`UsageError` for a seed that
    isn't in 0..2^64-1.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 64:
        raise UsageError(f"the seed is {seed!r}; needed a whole number from 0 to 2^64 - 1.", place="crossbar")
    milliseconds = round(seconds * 1000)
    name, _, count = purpose.partition(" ")
    counter = np.array([0, milliseconds, array, chip], dtype=np.uint64)
    key = np.array([seed, PURPOSES[name] + 256 * (int(count or 1) - 1)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def age_warning(device: Device, seconds: float) -> str | None:
    """What to say about an age past the last measured one, where the conductances are held; None where all is well."""
    oldest = device.oldest_s
    if oldest is None or seconds <= oldest * (1 + 1e-9):
        return None
    return (
        f"an age of {seconds:g} s is past the last measured one, {oldest:g} s after the first read: "
        "the devices are as they were then."
    )


@dataclass(frozen=True)
class Cells:
    """Devices of one array after programming, every array of one shape.

    ``target``: what was asked for (S, 0 where no device is formed); ``aimed``: the same on the device's levels;
    ``programmed``: what programming left (S, 0 where unformed), stuck devices included. They are one array where
    nothing changed it. ``normal``: z of programming, ``nu``: drift exponents or z of relaxation, ``stuck``: the map,
    ``pulses``: how many each device took; None where the target has no such table. ``formed``: None for all.
    """

    device: Device
    target: Array
    aimed: Array
    programmed: Array
    normal: Array | None = None
    nu: Array | None = None
    formed: Array | None = None
    stuck: Array | None = None
    pulses: Array | None = None

    @classmethod
    def program(cls, device: Device, target: Array, normals: Normals, stuck: Array | None = None) -> Cells:
        """Program devices to ``target`` (S, any shape; NaN for a cell that isn't formed).

        ``normals(purpose)`` gives standard normals of that shape, for the purposes in :data:`PURPOSES`.
        ``stuck``, a map that fits the last axes (:mod:`neurodeploy.crossbar.devices.stuck`), replaces the sampled one.
        Raises :class:`DataError` for a map that doesn't fit.
        """
        formed = ~np.isnan(target)
        if formed.all():
            formed = None
        else:
            target = np.where(formed, target, 0.0)
        aimed = to_levels(device, target)
        programmed, normal, nu, pulses = aimed, None, None, None
        if device.programming is not None:
            programmed, normal, pulses = write_and_verify(device, aimed, normals, formed)
        elif device.spread is not None:
            normal = normals("programming")
        if device.drift is not None:
            mean, sd = drift_exponent(device, aimed)
            nu = np.abs(mean + sd * normals("drift"))
        elif device.relaxation is not None:
            nu = normals("drift")
        if stuck is not None:
            stuck = np.broadcast_to(devices_stuck.checked(stuck, target.shape, "crossbar"), target.shape)
        elif device.stuck is not None:
            stuck = devices_stuck.sample(device.stuck, normals("stuck"))
        if stuck is not None:
            fixed = devices_stuck.conductances(device, stuck)
            programmed = np.where(stuck == devices_stuck.HEALTHY, programmed, fixed)
            if pulses is not None:
                pulses = np.where(stuck == devices_stuck.HEALTHY, pulses, pulses_in_vain(device, aimed, fixed, pulses))
        if formed is not None and programmed is not target:
            programmed = np.where(formed, programmed, 0.0)
        return cls(device, target, aimed, programmed, normal, nu, formed, stuck, pulses)

    def at(self, seconds: float, normals: Normals) -> Array:
        """Conductances (S) as read ``seconds`` after the first read, 1/f noise included.

        Raises :class:`UsageError` for an age that is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"the age is {seconds} s; needed: a finite number, at least 0.", place="crossbar")
        now = self._aged(seconds)
        if self.device.read_noise is not None:
            sd = read_noise_sd(self.device, self.programmed, now, seconds)
            now = np.maximum(now + sd * normals("read"), 0.0)
        if now is self.programmed:
            return now
        if self.stuck is not None:
            now = np.where(self.stuck == devices_stuck.HEALTHY, now, self.programmed)
        return now if self.formed is None else np.where(self.formed, now, 0.0)

    def pulse_count(self) -> Pulses:
        """The programming pulses that these devices took, and their energy where the target says it."""
        return count(self.device, self.aimed, self.programmed, self.pulses, self.formed)

    def _aged(self, seconds: float) -> Array:
        """Healthy devices after drift, spread or relaxation, without read noise."""
        device = self.device
        if device.drift is not None and self.nu is not None and seconds > 0:
            return self.programmed * (1.0 + seconds / device.drift.t0_s) ** -self.nu
        if device.spread is not None and self.normal is not None and seconds > 0:
            change = spread_sd(device, self.aimed, seconds) - spread_sd(device, self.aimed, 0.0)
            return np.maximum(self.aimed + (programming_sd(device, self.aimed) + change) * self.normal, 0.0)
        if device.relaxation is not None and self.nu is not None:
            mean, sd = relaxation(device, seconds)
            return np.maximum(self.programmed + mean + sd * self.nu, 0.0)
        return self.programmed
