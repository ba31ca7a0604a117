"""Programming: one pulse, or write and verify, device by device, with the pulses that it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.devices.formulas import programming_sd
from neurodeploy.descriptions_devices import Device

Array = np.ndarray


def write_and_verify(
    device: Device, aimed: Array, normals: Callable[[str], Array], formed: Array | None
) -> tuple[Array, Array, Array | None]:
    """Conductances (S) after programming to ``aimed`` (S), the normals of the last pulses, and the pulses taken.

    Without ``[write_verify]`` it is one pulse, ``max(0, aimed + sd z)``, and pulses are None. With it, every device is
    pulsed and read until the read is within the tolerance, or ``max_pulses`` times; cells that aren't formed take none.
    A device's pulses depend on its own random numbers only.
    """
    sd = programming_sd(device, aimed)
    normal = normals("programming")
    programmed = np.maximum(aimed + sd * normal, 0.0)
    verify = device.write_verify
    if verify is None:
        return programmed, normal, None
    open_ = np.ones(aimed.shape, bool) if formed is None else formed.copy()
    pulses = open_.astype(np.int32)
    for pulse in range(1, verify.max_pulses + 1):
        if pulse > 1:
            drawn = normals(f"programming {pulse}")
            normal = np.where(open_, drawn, normal)
            programmed = np.where(open_, np.maximum(aimed + sd * drawn, 0.0), programmed)
            pulses += open_
        read = programmed
        if verify.read_sd_siemens > 0:
            read = programmed + verify.read_sd_siemens * normals(f"verify {pulse}")
        open_ &= np.abs(read - aimed) > verify.tolerance_siemens
        if not open_.any():
            break
    return programmed, normal, pulses


def pulses_in_vain(device: Device, aimed: Array, fixed: Array, pulses: Array) -> Array:
    """Pulses that devices stuck at ``fixed`` (S) take: all there are, or one where that is what was aimed at."""
    verify = device.write_verify
    most = 1 if verify is None else np.where(np.abs(fixed - aimed) > verify.tolerance_siemens, verify.max_pulses, 1)
    return np.where(pulses > 0, most, 0).astype(np.int32)


@dataclass(frozen=True)
class Pulses:
    """Programming pulses of some devices: how many devices there are, all pulses, the mean and the most of a device.

    ``histogram[k]`` devices took k pulses. ``out_of_tolerance``: devices that were still outside after the last pulse,
    by their true conductance. ``joule``: energy of all pulses; None where the target doesn't say what one takes.
    """

    devices: int
    total: int
    mean: float
    most: int
    histogram: tuple[int, ...]
    out_of_tolerance: int
    joule: float | None


def count(device: Device, aimed: Array, programmed: Array, pulses: Array | None, formed: Array | None) -> Pulses:
    """Count what :func:`write_and_verify` did; without ``[write_verify]`` a formed device takes one pulse."""
    here = np.ones(aimed.shape, bool) if formed is None else np.broadcast_to(formed, aimed.shape)
    taken = np.ones(int(here.sum()), np.int64) if pulses is None else pulses[here].astype(np.int64)
    verify = device.write_verify
    outside = 0
    if verify is not None:
        outside = int((np.abs(programmed - aimed)[here] > verify.tolerance_siemens).sum())
    total = int(taken.sum())
    return Pulses(
        devices=taken.size,
        total=total,
        mean=total / taken.size if taken.size else 0.0,
        most=int(taken.max(initial=0)),
        histogram=tuple(np.bincount(taken).tolist()),
        out_of_tolerance=outside,
        joule=None if verify is None or verify.pulse_joule is None else total * verify.pulse_joule,
    )
