"""IR drop with cells whose current isn't proportional to their voltage: Newton's method around the linear solution."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.crossbar.wires import Ends, conductances, crosspoint, kernels, lines_of
from neurodeploy.descriptions_crossbar import Wires
from neurodeploy.errors import DataError, NeurodeployError

Array = np.ndarray


def solve_nonlinear(
    g: Array,
    wires: Wires,
    v: Array,
    cubic: Array | float,
    square: Array | float = 0.0,
    tolerance: float = 1e-12,
    most: int = 50,
) -> Array:
    """Currents (A) into the sense amplifiers, ``[n, columns]``; a cell carries ``I = g x (1 + square x + cubic x^2)``.

    x is the cell's voltage. ``g``: ``[rows, columns]`` (S), ``v``: ``[n, rows]`` (V), ``square`` (1/V) and ``cubic``
    (1/V^2): one number or one a cell. Each step replaces the cells by their tangents and solves that linear array; it
    ends when the tangents miss the cells' own currents by less than ``tolerance`` of the largest one: Kirchhoff's laws
    then hold to that.

    Raises :class:`DataError` for wrong values, :class:`NeurodeployError` if ``most`` steps don't suffice, or if a
    cell's current falls while its voltage rises (without ``square`` a negative ``cubic`` at ``x^2 > 1/(3 |cubic|)``):
    then there may be several solutions, or none.
    """
    lines = kernels("wires_solve")
    crosspoint(wires, "'solve_nonlinear' drives word lines")
    g, v = conductances(g), np.asarray(v, dtype=np.float64)
    if g.ndim != 2 or v.ndim != 2 or v.shape[1] != len(g) or not np.isfinite(v).all():
        raise DataError(f"cells {g.shape} and inputs {v.shape}; needed [rows, columns] and [n, rows].", place="wires")
    curve = (_coefficients("square", square, g), _coefficients("cubic", cubic, g))
    ends = Ends.of(g, wires)
    return np.array([_one(lines, g, ends, inputs, curve, tolerance, most) for inputs in v]).reshape(len(v), g.shape[1])


def _coefficients(name: str, given: Array | float, g: Array) -> Array:
    try:
        found = np.broadcast_to(np.asarray(given, dtype=np.float64), g.shape)
    except ValueError:
        raise DataError(f"'{name}' has the shape {np.shape(given)}; needed {g.shape}.", place="wires") from None
    if not np.isfinite(found).all():
        raise DataError(f"some {name} coefficients are not finite.", place="wires")
    return found


def _one(
    lines: Any, g: Array, ends: Ends, inputs: Array, curve: tuple[Array, Array], tolerance: float, most: int
) -> Array:
    square, cubic = curve
    drive = ends.drive(inputs, g.shape)
    slope, offset = g, np.zeros_like(g)
    bit, missed = np.zeros_like(g), np.inf
    for _ in range(most):
        word, bit = lines_of(lines, slope, ends, drive - offset, offset, bit)
        x = word - bit
        current = g * x * (1 + x * (square + cubic * x))
        missed = np.abs(current - (slope * x + offset)).max() / max(np.abs(current).max(), np.finfo(float).tiny)
        if missed <= tolerance:
            return ends.currents(bit)
        slope = g * (1 + x * (2 * square + 3 * cubic * x))
        offset = -g * x * x * (square + 2 * cubic * x)
        falling = (slope < 0).sum()
        if falling:
            raise NeurodeployError(
                f"the current of {falling} cells falls while their voltage rises; needed curves that rise.",
                place="wires",
                hint="Lower the read voltage: 1 + 2 square x + 3 cubic x^2 has to stay above 0.",
            )
    raise NeurodeployError(
        f"Newton's method did not converge: after {most} steps Kirchhoff's law is missed by {missed:.1e} of the "
        f"largest current, needed {tolerance:.0e}.",
        place="wires",
        hint="Lower the read voltage or 'cubic', or allow more steps or a larger tolerance.",
    )
