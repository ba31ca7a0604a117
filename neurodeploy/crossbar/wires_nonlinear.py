"""IR drop with cells whose current isn't proportional to their voltage: Newton's method around the linear solution."""

from __future__ import annotations

import numpy as np

from neurodeploy.crossbar.wires import Ends, conductances, crosspoint, kernels, lines_of
from neurodeploy.descriptions_crossbar import Wires
from neurodeploy.errors import DataError, NeurodeployError

Array = np.ndarray


def solve_nonlinear(
    g: Array, wires: Wires, v: Array, cubic: Array | float, tolerance: float = 1e-12, most: int = 50
) -> Array:
    """Currents (A) into the sense amplifiers, ``[n, columns]``, where a cell carries ``I = g x (1 + cubic x^2)``.

    x is the cell's voltage. ``g``: ``[rows, columns]`` (S), ``v``: ``[n, rows]`` (V), ``cubic`` (1/V^2): one number or
    one a cell. Each step replaces the cells by their tangents and solves that linear array; it ends when the tangents
    miss the cells' own currents by less than ``tolerance`` of the largest one: Kirchhoff's laws then hold to that.

    Raises :class:`DataError` for wrong values, :class:`NeurodeployError` if ``most`` steps don't suffice, or if a
    cell's current falls while its voltage rises (a negative ``cubic`` at ``x^2 > 1/(3 |cubic|)``): then there may be
    several solutions, or none.
    """
    lines = kernels("wires_solve")
    crosspoint(wires, "'solve_nonlinear' drives word lines")
    g, v = conductances(g), np.asarray(v, dtype=np.float64)
    if g.ndim != 2 or v.ndim != 2 or v.shape[1] != len(g) or not np.isfinite(v).all():
        raise DataError(f"cells {g.shape} and inputs {v.shape}; needed [rows, columns] and [n, rows].", place="wires")
    try:
        cubic = np.broadcast_to(np.asarray(cubic, dtype=np.float64), g.shape)
    except ValueError:
        raise DataError(f"'cubic' has the shape {np.shape(cubic)}; needed {g.shape}.", place="wires") from None
    if not np.isfinite(cubic).all():
        raise DataError("some cubic coefficients are not finite.", place="wires")
    ends = Ends.of(g, wires)
    return np.array([_one(lines, g, ends, inputs, cubic, tolerance, most) for inputs in v]).reshape(len(v), g.shape[1])


def _one(lines, g: Array, ends: Ends, inputs: Array, cubic: Array, tolerance: float, most: int) -> Array:  # noqa: ANN001
    drive = ends.drive(inputs, g.shape)
    slope, offset = g, np.zeros_like(g)
    bit, missed = np.zeros_like(g), np.inf
    for _ in range(most):
        word, bit = lines_of(lines, slope, ends, drive - offset, offset, bit)
        x = word - bit
        current = g * x * (1 + cubic * x * x)
        missed = np.abs(current - (slope * x + offset)).max() / max(np.abs(current).max(), np.finfo(float).tiny)
        if missed <= tolerance:
            return ends.currents(bit)
        slope, offset = g * (1 + 3 * cubic * x * x), -2 * g * cubic * x**3
        falling = (slope < 0).sum()
        if falling:
            limit = (-1 / (3 * cubic.min())) ** 0.5
            raise NeurodeployError(
                f"the current of {falling} cells falls while their voltage rises; needed curves that rise.",
                place="wires",
                hint=f"With cubic = {cubic.min():g} 1/V^2 a cell may have {limit:.3g} V at most.",
            )
    raise NeurodeployError(
        f"Newton's method did not converge: after {most} steps Kirchhoff's law is missed by {missed:.1e} of the "
        f"largest current, needed {tolerance:.0e}.",
        place="wires",
        hint="Lower the read voltage or 'cubic', or allow more steps or a larger tolerance.",
    )
