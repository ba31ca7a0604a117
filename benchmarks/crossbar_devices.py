"""How well weights keep on the devices of the shipped crossbars: their error after programming and with age.

An array of 128 inputs and 64 outputs of normal weights, each output's largest at full conductance, pairs of devices; no
wires, no converters. The error is the root mean square of (weight held - weight) over that of the weights, in %, over
all chips; with ``compensated`` a factor for the whole array, the ratio of sums of magnitudes at the first read and now,
is taken out first, as drift compensation does. Also the time that programming and one age take. Targets with the same
devices are shown once; devices of a few levels, on which weights lie in digits, are left out.

    python -m benchmarks.crossbar_devices [--seeds 5] [--chips 10]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from neurodeploy import hardware
from neurodeploy.cli.output import table
from neurodeploy.crossbar.devices import Cells, age_warning, stream
from neurodeploy.deploy.crossbar import seconds_of
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import Device

AGES = ("0s", "1h", "1d", "1y")
INPUTS, OUTPUTS = 128, 64


def drawn(seed: int, chips: int, seconds: float = 0.0) -> Callable[[str], np.ndarray]:
    """Normals of all chips, ``[chips, inputs, 2 outputs]``, for a purpose."""
    shape = (INPUTS, 2 * OUTPUTS)
    return lambda purpose: np.stack(
        [stream(seed, chip, 0, purpose, seconds).standard_normal(shape) for chip in range(chips)]
    )


def errors(device: Device, seed: int, chips: int) -> tuple[list[float], list[float], float]:
    """Errors in % at every age, as they are and compensated, and nanoseconds for a device's programming and one age."""
    weights = np.random.default_rng(seed).standard_normal((INPUTS, OUTPUTS))
    weights /= np.abs(weights).max(axis=0)
    span = device.g_max_siemens - device.g_min_siemens
    pairs = np.stack([np.maximum(weights, 0), np.maximum(-weights, 0)], axis=2).reshape(INPUTS, -1)
    target = np.broadcast_to(device.g_min_siemens + pairs * span, (chips, *pairs.shape))
    begin = time.perf_counter()
    cells = Cells.program(device, target, drawn(seed, chips))
    cells.at(3600.0, drawn(seed, chips, 3600.0))
    each = (time.perf_counter() - begin) / target.size * 1e9
    plain, compensated, first = [], [], None
    for age in AGES:
        seconds = seconds_of(age)
        g = cells.at(seconds, drawn(seed, chips, seconds))
        held = (g[..., ::2] - g[..., 1::2]) / span
        total = np.abs(held).sum(axis=(1, 2), keepdims=True)
        first = total if first is None else first
        scale = np.sqrt((weights**2).mean())
        plain.append(100 * float(np.sqrt(((held - weights) ** 2).mean())) / scale)
        compensated.append(100 * float(np.sqrt(((held * first / total - weights) ** 2).mean())) / scale)
    return plain, compensated, each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--chips", type=int, default=10)
    args = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    seen: list[Device] = []
    for name in hardware.names("crossbar"):
        device = hardware.find(name, Crossbar).device.model_copy(update={"thermal_noise": None})
        if device.levels is not None or device in seen:
            continue
        seen.append(device)
        for seed in range(args.seeds):
            plain, compensated, each = errors(device, seed, args.chips)
            held = ["*" if age_warning(device, seconds_of(age)) else "" for age in AGES]
            found = [f"{p:.2f}{h} ({c:.2f})" for p, c, h in zip(plain, compensated, held, strict=True)]
            rows.append((name if seed == 0 else "", str(seed), *found, f"{each:.0f}"))
    title = f"weights' error in % (compensated), {args.chips} chips; * older than the source measured, held"
    table(title, ("target", "seed", *AGES, "ns a device"), rows, right=(*AGES, "ns a device"))


if __name__ == "__main__":
    main()
