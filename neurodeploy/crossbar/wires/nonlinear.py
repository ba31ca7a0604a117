"""IR drop with cells whose current isn't proportional to their voltage: Newton's method around the linear solution."""

from __future__ import annotations

from dataclasses import dataclass
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
    square: Array | float = 0.0,
    cube: Array | float = 0.0,
    tolerance: float = 1e-12,
    most: int = 50,
) -> Array:
    """Currents (A) into the amplifiers, ``[n, columns]``, where a cell carries ``I = g x + square x^2 + cube x^3``.

    x is the cell's voltage, word line over bit line. ``g``: ``[rows, columns]`` (S), ``v``: ``[n, rows]`` (V);
    ``square`` (A/V^2) and ``cube`` (A/V^3): one number or one a cell, as
    :func:`neurodeploy.crossbar.devices.formulas.nonlinear_coefficients` gives them. Each step replaces the cells by
    their tangents and solves that linear array; it ends when the tangents miss the cells' own currents by less than
    ``tolerance`` of the largest one: Kirchhoff's laws then hold to that.

    Raises :class:`DataError` for wrong values, :class:`NeurodeployError` if ``most`` steps don't suffice, or where a
    cell's current falls while its voltage rises: then there may be several solutions.
    """
    lines = kernels("lines")
    crosspoint(wires, "'solve_nonlinear' drives word lines")
    g, v = conductances(g), np.array(v, dtype=np.float64)
    if g.ndim != 2 or v.ndim != 2 or v.shape[1] != len(g) or not np.isfinite(v).all():
        raise DataError(f"cells {g.shape} and inputs {v.shape}; needed [rows, columns] and [n, rows].", place="wires")
    curve = _Curve(g, _one_a_cell("square", square, g), _one_a_cell("cube", cube, g))
    ends = Ends.of(g, wires)
    found = [_newton(lines, curve, ends, inputs, tolerance, most) for inputs in v]
    return np.array(found).reshape(len(v), g.shape[1])


def _one_a_cell(name: str, values: Array | float, g: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.shape not in ((), g.shape) or not np.isfinite(values).all():
        raise DataError(
            f"'{name}' has the shape {values.shape} and {(~np.isfinite(values)).sum()} values that are not finite; "
            f"needed a number, or one a cell, {g.shape}.",
            place="wires",
        )
    return np.broadcast_to(values, g.shape)


@dataclass(frozen=True)
class _Curve:
    g: Array
    square: Array
    cube: Array

    def current(self, x: Array) -> Array:
        return x * (self.g + x * (self.square + x * self.cube))

    def slope(self, x: Array) -> Array:
        return self.g + x * (2 * self.square + x * 3 * self.cube)


def _newton(lines: Any, curve: _Curve, ends: Ends, inputs: Array, tolerance: float, most: int) -> Array:
    slope, offset = curve.g, np.zeros_like(curve.g)
    bit, missed = np.zeros_like(curve.g), np.inf
    for _ in range(most):
        word, bit = lines_of(lines, slope, ends, inputs, -offset, offset, bit)
        x = word - bit
        current = curve.current(x)
        missed = np.abs(current - (slope * x + offset)).max() / max(np.abs(current).max(), np.finfo(float).tiny)
        if missed <= tolerance:
            return ends.currents(bit)
        slope = curve.slope(x)
        offset = current - slope * x
        falling = slope < 0
        if falling.any():
            raise NeurodeployError(
                f"the current of {falling.sum()} cells falls while their voltage rises, the first at "
                f"{x[falling][0]:.3g} V; needed curves that rise.",
                place="wires",
                hint="Lower the read voltage, or take coefficients that were fitted up to it.",
            )
    raise NeurodeployError(
        f"Newton's method did not converge: after {most} steps Kirchhoff's law is missed by {missed:.1e} of the "
        f"largest current, needed {tolerance:.0e}.",
        place="wires",
        hint="Lower the read voltage or the coefficients, or allow more steps or a larger tolerance.",
    )
