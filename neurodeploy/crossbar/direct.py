"""Arrays that no matrix describes: every read is solved on its own.

That is so where inputs switch transistors (``gated`` wires), and where lines have resistance and devices are curved.
Exact, and slow: milliseconds a vector and array.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.crossbar.devices.formulas import nonlinear_coefficients
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import TargetError

Array = np.ndarray


def needed(target: Crossbar) -> bool:
    """Whether a target's arrays have no matrix."""
    if target.wires is None:
        return False
    return target.wires.topology == "gated" or target.device.nonlinear is not None


def check(target: Crossbar) -> None:
    """Raise :class:`TargetError` for gated wires whose inputs aren't exactly on or off, or whose devices are curved."""
    if target.wires is None or target.wires.topology != "gated":
        return
    if target.dac.serial_bits != 1:
        raise TargetError(
            f"its wires are 'gated', inputs are on or off; 'dac.serial_bits' is {target.dac.serial_bits}, needed 1.",
            place=target.name,
            hint='Set serial_bits = 1, or topology = "crosspoint".',
        )
    if target.dac.errors is not None:
        raise TargetError(
            "its wires are 'gated', inputs are on or off; 'dac.errors' are those of voltages.",
            place=target.name,
            hint="Leave [dac.errors] out.",
        )
    if target.device.nonlinear is not None:
        raise TargetError(
            "its wires are 'gated' and its devices curved ('device.nonlinear'); that circuit isn't solved.",
            place=target.name,
            hint="Leave one of them out.",
        )


def currents(target: Crossbar, g: Array, drive: Array) -> Array:
    """Currents of one array's bit lines over the full read voltage (S), ``[n, columns]``.

    ``g``: ``[rows, columns]`` (S); ``drive``: ``[n, rows]``, inputs over full scale. Raises what the solvers raise.
    """
    from neurodeploy.crossbar import wires
    from neurodeploy.crossbar.wires.nonlinear import solve_nonlinear

    line, read = target.wires, target.read
    if line is None or (line.topology != "gated" and read is None):
        raise TargetError("has no wires to solve.", place=target.name)
    if line.topology == "gated":
        on = wires.gated(g, line, drive != 0)
        return on if (drive >= 0).all() else np.where(drive.min(axis=1, keepdims=True) < 0, -on, on)
    volts = read.volts if read is not None else 1.0
    return solve_nonlinear(g, line, drive * volts, *nonlinear_coefficients(target.device, g)) / volts
