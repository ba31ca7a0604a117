"""IR drop: the exact current of every bit line of a crossbar whose lines have resistance."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.descriptions_crossbar import Wires
from neurodeploy.errors import DataError, require

Array = np.ndarray
WHY = "simulating a crossbar's wires"


def effective(g: Array, wires: Wires) -> Array:
    """Current of every bit line per volt on every word line, all other inputs at 0 V, of a linear crosspoint array.

    ``g``: ``[..., rows, columns]`` (S), leading axes for chips, times, arrays; the result has the same shape, float64.
    Row 0 is nearest to the sense amplifiers, column 0 nearest to the drivers.
    """
    merge = _kernels("wires_merge")
    g = np.ascontiguousarray(g, dtype=np.float64)
    out = np.empty_like(g)
    rows, columns = g.shape[-2:]
    for i in np.ndindex(g.shape[:-2]):
        out[i] = _one(merge, g[i], wires)
    return out


def _kernels(module: str) -> Any:
    require("numba", "crossbar", WHY)
    return require(f"neurodeploy.crossbar.{module}", "crossbar", WHY)


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


def _one(merge: Any, g: Array, wires: Wires) -> Array:
    rows, columns = g.shape
    size = merge.TILE
    # a wire of this resistance changes no bit of the result, and has a conductance that a float can hold
    least = 1e-20 / max(g.sum(), 1e-9)
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
    y = y if counts[1] == 0 else y[:rows] + y[rows:]
    return y if counts[3] == 0 else y[:, :columns] + y[:, columns:]
