"""IR drop: the exact currents of a crossbar whose lines, drivers and sense amplifiers have resistance.

Row 0 is nearest to the sense amplifiers, column 0 nearest to the drivers. Between a driver and the first cell of its
word line lie ``driver_ohm`` and one segment of ``row_ohm``, between two cells one segment, between a bit line's first
cell and its amplifier, a virtual ground, ``column_ohm`` and ``sense_ohm``; a line that is driven or sensed at both ends
has the same again at its far end. Everything is float64. A line's resistance may be 0.

- :func:`effective`: a linear crosspoint array is one matrix, computed once; then every read is a product.
- :func:`solve`, :func:`voltages`: a few vectors at a large array, without that matrix.
- :func:`neurodeploy.crossbar.wires.nonlinear.solve_nonlinear`: cells with a cubic current-voltage curve.
- :func:`sensitivity`, :func:`first_order`: what small changes of the cells do to the currents.
- :func:`gated`: inputs that switch transistors; then the currents aren't linear in the inputs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.descriptions_crossbar import Wires
from neurodeploy.errors import DataError, UnsupportedError

Array = np.ndarray
#: From more vectors on, an array's matrix costs less than a solution for each of them.
FEW = 8
_TOLERANCE = 1e-14  # of the voltages, in the energy norm
_STEPS = 200  # conjugate gradients that need more have met an array on which the matrix is faster


def effective(g: Array, wires: Wires) -> Array:
    """Current of every bit line per volt on every word line (S), all other inputs at 0 V, of a crosspoint array.

    ``g``: ``[..., rows, columns]`` (S), leading axes for chips, times, arrays; the result has the same shape, float64,
    so the currents are ``v @ effective(g, wires)``. The relative error of every entry is below 1e-11, in practice
    1e-12, by :mod:`neurodeploy.crossbar.wires.merge`. Raises :class:`DataError` for conductances that are negative or
    not finite, :class:`UnsupportedError` for gated wires, MissingExtraError without numba.
    """
    merge = kernels("merge")
    g = conductances(g)
    crosspoint(wires, "'effective' gives a matrix")
    out = np.empty_like(g)
    for i in np.ndindex(g.shape[:-2]):
        out[i] = _matrix(merge, g[i], wires)
    return out


def solve(g: Array, wires: Wires, v: Array) -> Array:
    """Currents (A) into the sense amplifiers of a crosspoint array, ``[..., n, columns]``.

    ``g``: ``[..., rows, columns]`` (S); ``v``: ``[..., n, rows]`` (V), the leading axes broadcast. Up to :data:`FEW`
    vectors are solved one by one, more of them, and arrays on which that takes too many steps, through
    :func:`effective`. Raises as that does, and :class:`DataError` for voltages of the wrong shape.
    """
    lines = kernels("lines")
    g, v, shape = _inputs(g, v)
    crosspoint(wires, "'solve' adds what inputs do one by one")
    out = np.empty((*shape, v.shape[-2], g.shape[-1]))
    for i in np.ndindex(shape):
        out[i] = _currents(lines, g[i].copy(), wires, v[i].copy())
    return out


def voltages(g: Array, wires: Wires, v: Array) -> tuple[Array, Array]:
    """Voltages (V) of every cell's node on its word line and on its bit line, ``[..., n, rows, columns]`` each.

    Arguments and errors are those of :func:`solve`, and :class:`UnsupportedError` where the iteration doesn't converge.
    """
    lines = kernels("lines")
    g, v, shape = _inputs(g, v)
    crosspoint(wires, "'voltages' solves linear equations")
    word = np.empty((*shape, v.shape[-2], *g.shape[-2:]))
    bit = np.empty_like(word)
    for i in np.ndindex(shape):
        cells = g[i].copy()
        ends = Ends.of(cells, wires)
        for n, inputs in enumerate(v[i].copy()):
            word[(*i, n)], bit[(*i, n)] = lines_of(lines, cells, ends, inputs)
    return word, bit


def sensitivity(g: Array, wires: Wires, v: Array, column: int) -> Array:
    """How much the current of one bit line changes with every cell, ``d I_column / d g`` (A/S), ``[n, rows, columns]``.

    ``g``: ``[rows, columns]`` (S), ``v``: ``[n, rows]`` (V). By Tellegen's theorem it is the product of the cell's
    voltage with that in the adjoint network, in which only this bit line's amplifier has 1 V (Director and Rohrer, IEEE
    Trans. Circuit Theory 16, 318, 1969): one more solution for all cells. To first order independent errors of
    deviation sd add to ``sqrt(sum (d I/d g)^2 sd^2)``.
    """
    if not 0 <= column < np.shape(g)[-1]:
        raise DataError(f"there is no bit line {column}; needed one of 0 to {np.shape(g)[-1] - 1}.", place="wires")
    word, bit = voltages(g, wires, v)
    lines, g = kernels("lines"), conductances(g)
    ends = Ends.of(g, wires)
    out = np.zeros_like(g)
    out[0, column] = ends.column[0]
    out[-1, column] += ends.column[2]
    adjoint_word, adjoint_bit = lines_of(lines, g, ends, np.zeros(len(g)), b=out)
    return (word - bit) * (adjoint_bit - adjoint_word)


def first_order(g: Array, wires: Wires, v: Array, change: Array) -> Array:
    """Change (A) of all currents, ``[n, columns]``, for a small ``change[rows, columns]`` (S) of the cells.

    ``g``: ``[rows, columns]`` (S), ``v``: ``[n, rows]`` (V). A changed cell is a current ``change * volts`` beside it:
    one more solution a vector, linear in ``change``. What is left out is of second order. An exact answer is
    ``solve(g + change, wires, v)``, which costs half as much; this one serves where linearity does.
    """
    word, bit = voltages(g, wires, v)
    lines, g = kernels("lines"), conductances(g)
    if np.shape(change) != g.shape:
        raise DataError(f"the change has the shape {np.shape(change)}; needed {g.shape}, as the cells.", place="wires")
    ends = Ends.of(g, wires)
    out = np.empty((len(word), g.shape[1]))
    for n, across in enumerate(word - bit):
        source = change * across
        out[n] = ends.currents(lines_of(lines, g, ends, np.zeros(len(g)), -source, source)[1])
    return out


def gated(g: Array, wires: Wires, on: Array) -> Array:
    """Current (A) of every bit line per volt of read voltage, ``[..., n, columns]``, where inputs switch transistors.

    ``g``: ``[..., rows, columns]`` (S); ``on``: ``[..., n, rows]``, which inputs are on (bool). A bit line has the read
    voltage at its driver, a source line beside it the amplifier; both have ``column_ohm`` a cell, both begin at row 0's
    end, and ``driven`` (the bit lines) and ``sensed`` (the source lines) say whether their far ends are connected too.
    Word lines carry no current, ``row_ohm`` doesn't matter, and columns are independent. Every set of inputs makes a
    circuit of its own, which is solved exactly. Raises :class:`DataError`, :class:`UnsupportedError` for crosspoints.
    """
    ladder = kernels("ladders")
    if wires.topology != "gated":
        raise UnsupportedError("these wires are a crosspoint array's.", place="wires", hint="Use 'solve' there.")
    if np.asarray(on).dtype != np.bool_:
        raise DataError(f"the inputs are {np.asarray(on).dtype}; needed bool, on or off.", place="wires")
    g, on, shape = _inputs(g, on)
    least = _least(g)
    wire = 1 / max(wires.column_ohm, least)
    drive, sense = (1 / max(wires.column_ohm + ohm, least) for ohm in (wires.driver_ohm, wires.sense_ohm))
    far = (drive if wires.driven == "both ends" else 0.0, sense if wires.sensed == "both ends" else 0.0)
    out = np.empty((*shape, on.shape[-2], g.shape[-1]))
    for i in np.ndindex(shape):
        out[i] = ladder.ladders(g[i].copy(), on[i] != 0, wire, drive, sense, *far)
    return out


# ------------------------------------------------------------------------------------------------ what they share

_NOTHING = np.empty((0, 0))


def kernels(module: str) -> Any:
    """A module of kernels, or MissingExtraError where they can't be compiled."""
    return importlib.import_module(f"neurodeploy.crossbar.wires.{module}")


def conductances(g: Array) -> Array:
    """``g`` as float64 of at least two axes; :class:`DataError` for what no array of cells can be."""
    g = np.require(g, np.float64, ["C", "W"])  # kernels are compiled once, for arrays that may be written to
    if g.ndim < 2 or 0 in g.shape[-2:]:
        raise DataError(f"the conductances have the shape {g.shape}; needed [..., rows, columns].", place="wires")
    bad = ~(np.isfinite(g) & (g >= 0))
    if bad.any():
        raise DataError(
            f"{bad.sum()} of {g.size} conductances are negative or not finite, the first {g[bad][0]} S; needed >= 0.",
            place="wires",
            hint="A cell without a device conducts nothing: 0.",
        )
    return g


def crosspoint(wires: Wires, what: str) -> None:
    """Raise :class:`UnsupportedError` for gated wires, on which currents aren't linear in the inputs."""
    if wires.topology == "gated":
        raise UnsupportedError(
            f"{what}; with the topology 'gated' a cell's current depends on which other inputs are on.",
            place="wires",
            hint="Use 'gated', input by input, or the topology 'crosspoint'.",
        )


@dataclass(frozen=True)
class Ends:
    """Conductance (S) of a word line's and of a bit line's near end, wires and far end (0: open)."""

    row: Array
    column: Array

    @classmethod
    def of(cls, g: Array, wires: Wires) -> Ends:
        """Those of an array of cells ``g[rows, columns]``."""
        least = _least(g)

        def line(ohm: float, end: float, both: bool) -> Array:
            outer = 1 / max(ohm + end, least)
            return np.array([outer, 1 / max(ohm, least), outer if both else 0.0])

        return cls(
            line(wires.row_ohm, wires.driver_ohm, wires.driven == "both ends"),
            line(wires.column_ohm, wires.sense_ohm, wires.sensed == "both ends"),
        )

    def currents(self, bit: Array) -> Array:
        """Currents (A) into the amplifiers, ``[columns]``, of bit lines at ``bit[rows, columns]`` (V)."""
        return self.column[0] * bit[0] + self.column[2] * bit[-1]


def lines_of(
    lines: Any, g: Array, ends: Ends, inputs: Array, a: Array = _NOTHING, b: Array = _NOTHING, start: Array = _NOTHING
) -> tuple[Array, Array]:
    """Voltages of word and bit lines, currents a and b into their nodes; :class:`UnsupportedError` if it fails."""
    most = 100 * _STEPS
    word, bit, steps, left = lines.solve_lines(g, ends.row, ends.column, inputs, a, b, start, _TOLERANCE, most)
    if not left <= 100 * _TOLERANCE:
        raise UnsupportedError(
            f"the voltages of an array of {g.shape[0]} x {g.shape[1]} cells don't converge: after {steps} steps their "
            f"error is {left:.1e}, needed {_TOLERANCE:.0e}.",
            place="wires",
            hint="Cells that conduct far better than the wires between them do this; 'effective' has no such limit.",
        )
    return word, bit


def _least(g: Array) -> float:
    """A resistance (ohm) that changes no bit of any result, and whose inverse a sum of floats can hold: that of 0."""
    return 1e-20 / max(float(g.sum(axis=(-2, -1)).max()), 1e-9)


def _inputs(g: Array, v: Array) -> tuple[Array, Array, tuple[int, ...]]:
    """Cells and inputs with their leading axes made equal, and these axes."""
    g = conductances(g)
    v = np.asarray(v, dtype=np.float64)
    if v.ndim < 2 or v.shape[-1] != g.shape[-2]:
        raise DataError(f"the inputs have the shape {v.shape}; needed [..., n, {g.shape[-2]}].", place="wires")
    if not np.isfinite(v).all():
        raise DataError("some inputs are not finite; needed volts.", place="wires")
    try:
        shape = np.broadcast_shapes(g.shape[:-2], v.shape[:-2])
    except ValueError:
        raise DataError(
            f"{g.shape[:-2]} arrays and {v.shape[:-2]} sets of inputs don't go together.", place="wires"
        ) from None
    return np.broadcast_to(g, (*shape, *g.shape[-2:])), np.broadcast_to(v, (*shape, *v.shape[-2:])), shape


def _currents(lines: Any, g: Array, wires: Wires, v: Array) -> Array:
    """Currents ``[n, columns]`` of one array."""
    if len(v) <= FEW:
        ends = Ends.of(g, wires)
        out = np.empty((len(v), g.shape[1]))
        for n, inputs in enumerate(v):
            given = (inputs, _NOTHING, _NOTHING, _NOTHING)
            _, bit, _, left = lines.solve_lines(g, ends.row, ends.column, *given, _TOLERANCE, _STEPS)
            if not left <= _TOLERANCE:
                break
            out[n] = ends.currents(bit)
        else:
            return out
    return v @ _matrix(kernels("merge"), g, wires)


def _matrix(merge: Any, g: Array, wires: Wires) -> Array:
    """``effective`` of one array."""
    rows, columns = g.shape
    size, least = merge.TILE, _least(g)
    far = wires.driver_ohm if wires.driven == "both ends" else None
    left, right = _halves(columns, size, wires.row_ohm, wires.driver_ohm, far, least)
    far = wires.sense_ohm if wires.sensed == "both ends" else None
    bottom, top = _halves(rows, size, wires.column_ohm, wires.sense_ohm, far, least)

    def block(row: int, column: int, tall: int, wide: int, last: bool) -> tuple[Array, Array]:
        if tall == wide == 1:
            return merge.tile(g, left, right, bottom, top, row * size, column * size)
        vertical = tall > wide
        half = (tall if vertical else wide) // 2
        if vertical:
            a, b = block(row, column, half, wide, False), block(row + half, column, tall - half, wide, False)
        else:
            a, b = block(row, column, tall, half, False), block(row, column + half, tall, wide - half, False)
        return merge.merge(*a, *b, vertical, last)

    tall, wide = -(-rows // size), -(-columns // size)
    y, counts = block(0, 0, tall, wide, True)
    inputs = int(counts[0] + counts[1])
    if tall == wide == 1:
        y = y[:inputs, inputs:]
    # the two ends of a line have the same voltage
    y = y if counts[1] == 0 else y[:rows] + y[rows:]
    return y if counts[3] == 0 else y[:, :columns] + y[:, columns:]


def _halves(count: int, size: int, ohm: float, near: float, far: float | None, least: float) -> tuple[Array, Array]:
    """Conductance (S) from every node of a line to the middle of the wire before it, and of the wire behind it.

    ``near``, ``far``: resistance of what the line's ends are connected to; None for an open end. The line is filled up
    to a multiple of ``size`` by nodes that only carry it on. ``least``: the resistance that counts as none.
    """
    filled = -(-count // size) * size
    before, behind = np.full(filled, 1 / max(ohm / 2, least)), np.full(filled, 1 / max(ohm / 2, least))
    before[0] = 1 / max(ohm + near, least)
    behind[count - 1] = 0.0 if far is None else 1 / max(ohm + far, least)
    before[count:] = behind[count:] = 0.0 if far is None else 1 / least
    return before, behind
