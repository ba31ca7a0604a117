"""Gated columns: a bit line and its source line, joined by the cells whose inputs are on; a numba kernel.

The ladder is eliminated from its far end by star-mesh transforms. What lies behind a row is six conductances between
four terminals: b and s, the row's nodes on the bit line and on the source line, D, the read voltage, and S, the virtual
ground. Only positive numbers are added, multiplied and divided.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.crossbar.wires.jit import jit

Array = np.ndarray


@jit
def ladders(g, on, wire, drive, sense, far_drive, far_sense):  # noqa: ANN001, ANN201
    """Conductance (S) from D to S of every column, ``[n, columns]``; ``g[rows, columns]`` (S), ``on[n, rows]`` (bool).

    ``wire``: of a segment of either line; ``drive``, ``sense``: of what lies between row 0's nodes and the terminals,
    ``far_drive``, ``far_sense`` between the last row's and theirs, 0 for an open end.
    """
    rows, columns = g.shape
    out = np.empty((len(on), columns))
    for n in range(len(on)):
        for j in range(columns):
            bs, bd, b_sense, sd, s_sense, ds = 0.0, far_drive, 0.0, 0.0, far_sense, 0.0
            for i in range(rows - 1, -1, -1):
                if on[n, i]:
                    bs += g[i, j]
                before = wire if i > 0 else drive
                f = 1.0 / (before + bs + bd + b_sense)
                sd += bs * bd * f
                s_sense += bs * b_sense * f
                ds += bd * b_sense * f
                bs, bd, b_sense = before * bs * f, before * bd * f, before * b_sense * f
                if i == 0:  # behind the last wire of the bit line lies D itself
                    sd += bs
                    ds += b_sense
                    bs, bd, b_sense = 0.0, 0.0, 0.0
                before = wire if i > 0 else sense
                f = 1.0 / (before + bs + sd + s_sense)
                bd += bs * sd * f
                b_sense += bs * s_sense * f
                ds += sd * s_sense * f
                bs, sd, s_sense = before * bs * f, before * sd * f, before * s_sense * f
            out[n, j] = ds + sd
    return out
