"""Node voltages of a crossbar for given inputs: conjugate gradients on its lines; numba kernels.

With V the voltages on the word lines, U on the bit lines, g the cells, L the Laplacians of the lines with their
terminals, a and b the currents that flow into the nodes::

    (L_w + g) V - g U = a,    (L_b + g) U - g V = b

Both matrices are tridiagonal, line by line. U is eliminated exactly, ``S V = a + g B^-1 b`` with ``M = L_w + g``,
``B = L_b + g``, ``S = M - g B^-1 g``; conjugate gradients solve it, preconditioned by M (Hestenes and Stiefel, J. Res.
NBS 49, 409, 1952; Concus, Golub and O'Leary, 1976). ``M p`` is carried along with p, so no difference of two
neighbouring nodes is ever taken, and a wire of no resistance costs no digits. A line is eliminated from its far end: e,
what a node sees behind it, is ``g + y e' y/(y + e')``, positive numbers throughout.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.crossbar.wires.jit import jit

Array = np.ndarray
_WIDTH = 512  # bit lines that are swept at a time: their sums stay in the first-level cache


@jit
def _rows(g, ends, inverse):  # noqa: ANN001, ANN202
    """1 / the pivots of the word lines' tridiagonal matrices; ``ends``: near end, wire, far end (S)."""
    rows, columns = g.shape
    for i in range(rows):
        behind = ends[2]
        for j in range(columns - 1, -1, -1):
            y = ends[1] if j > 0 else ends[0]
            seen = g[i, j] + behind
            inverse[i, j] = 1.0 / (y + seen)
            behind = seen * (y * inverse[i, j])


@jit
def _columns(g, ends, inverse):  # noqa: ANN001, ANN202
    """The same of the bit lines."""
    rows, columns = g.shape
    behind = np.empty(columns)
    for j in range(columns):
        behind[j] = ends[2]
    for i in range(rows - 1, -1, -1):
        y = ends[1] if i > 0 else ends[0]
        for j in range(columns):
            seen = g[i, j] + behind[j]
            inverse[i, j] = 1.0 / (y + seen)
            behind[j] = seen * (y * inverse[i, j])


@jit
def _solve_row(inverse, wire, s, x):  # noqa: ANN001, ANN202
    """``x = M^-1 s`` of one word line."""
    total = 0.0
    for j in range(len(s) - 1, 0, -1):
        total += s[j]
        x[j] = total * inverse[j]
        total *= wire * inverse[j]
    volts = (total + s[0]) * inverse[0]
    x[0] = volts
    for j in range(1, len(s)):
        volts = wire * inverse[j] * volts + x[j]
        x[j] = volts


@jit
def _solve_columns(inverse, wire, g, v, b, x):  # noqa: ANN001, ANN202
    """``x = B^-1 (g v + b)``; b of shape (0, 0) is nothing."""
    rows, columns = g.shape
    total = np.empty(_WIDTH)
    for first in range(0, columns, _WIDTH):
        width = min(_WIDTH, columns - first)
        for j in range(width):
            total[j] = 0.0
        for i in range(rows - 1, -1, -1):
            gi, vi, yi, xi = g[i, first:], v[i, first:], inverse[i, first:], x[i, first:]
            if b.size:
                bi = b[i, first:]
                for j in range(width):
                    total[j] += bi[j]
            for j in range(width):
                xi[j] = (total[j] + gi[j] * vi[j]) * yi[j]
                total[j] = wire * xi[j]
        for i in range(1, rows):
            yi, xi, before = inverse[i, first:], x[i, first:], x[i - 1, first:]
            for j in range(width):
                xi[j] += wire * yi[j] * before[j]


@jit
def _direction(inverse, wire, g, z, r, beta, p, mp, w):  # noqa: ANN001, ANN202
    """The next direction, ``p = z + beta p`` and ``M p``; ``w = S p``, and the product of p and w."""
    rows, columns = g.shape
    total = np.empty(_WIDTH)
    curvature = 0.0
    for first in range(0, columns, _WIDTH):
        width = min(_WIDTH, columns - first)
        for j in range(width):
            total[j] = 0.0
        for i in range(rows - 1, -1, -1):
            gi, yi, wi = g[i, first:], inverse[i, first:], w[i, first:]
            zi, ri, pi, mi = z[i, first:], r[i, first:], p[i, first:], mp[i, first:]
            for j in range(width):
                pi[j] = zi[j] + beta * pi[j]
                mi[j] = ri[j] + beta * mi[j]
                wi[j] = (total[j] + gi[j] * pi[j]) * yi[j]
                total[j] = wire * wi[j]
        for j in range(width):
            total[j] = 0.0
        for i in range(rows):
            gi, yi, wi, pi, mi = g[i, first:], inverse[i, first:], w[i, first:], p[i, first:], mp[i, first:]
            product = 0.0
            for j in range(width):
                total[j] = wire * yi[j] * total[j] + wi[j]
                wi[j] = mi[j] - gi[j] * total[j]
            for j in range(width):
                product += pi[j] * wi[j]
            curvature += product
    return curvature


@jit
def _step(inverse, wire, alpha, p, w, v, r, z):  # noqa: ANN001, ANN202
    """Go ``alpha`` along p: v, the residual r, ``z = M^-1 r``, and the product of r and z."""
    rz = 0.0
    for i in range(len(v)):
        vi, ri, zi, pi, wi = v[i], r[i], z[i], p[i], w[i]
        for j in range(len(vi)):
            vi[j] += alpha * pi[j]
            ri[j] -= alpha * wi[j]
        _solve_row(inverse[i], wire, ri, zi)
        product = 0.0
        for j in range(len(vi)):
            product += ri[j] * zi[j]
        rz += product
    return rz


@jit
def solve_lines(g, row, column, inputs, a, b, start, tolerance, most):  # noqa: ANN001, ANN201
    """Voltages of the word-line and bit-line nodes, ``[rows, columns]`` each, iterations, and the error left.

    ``g`` (S) positive or 0; ``row``, ``column``: conductance (S) of a line's near end, its wires, its far end;
    ``inputs[rows]``: the drivers' voltages (V); ``a``, ``b``: currents into the nodes on top (A), ``start``: a guess of
    the bit lines' voltages (V), ``[rows, columns]`` or (0, 0) for nothing. The error is M's norm of the correction that
    the last residual asks for, relative to that of the voltages.
    """
    rows, columns = g.shape
    # one piece of memory: the system keeps it from call to call, where it takes many smaller ones back
    work = np.empty((9, rows, columns))
    words, bits, v, u, r, z, w, p, mp = work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7], work[8]
    _rows(g, row, words)
    _columns(g, column, bits)
    size = 0.0
    for i in range(rows):  # M v = a + g start
        for j in range(columns):
            r[i, j] = (a[i, j] if a.size else 0.0) + (g[i, j] * start[i, j] if start.size else 0.0)
            p[i, j] = mp[i, j] = 0.0
        r[i, 0] += row[0] * inputs[i]
        r[i, columns - 1] += row[2] * inputs[i]
        _solve_row(words[i], row[1], r[i], v[i])
        for j in range(columns):
            size += r[i, j] * v[i, j]
    size = abs(size)
    _solve_columns(bits, column[1], g, v, b, u)
    for i in range(rows):
        for j in range(columns):
            r[i, j] = g[i, j] * (u[i, j] - (start[i, j] if start.size else 0.0))
    rz = _step(words, row[1], 0.0, p, p, v, r, z)
    beta, steps = 0.0, 0
    while rz > tolerance * tolerance * size and steps < most:
        curvature = _direction(bits, column[1], g, z, r, beta, p, mp, w)
        if not curvature > 0.0:
            break
        new = _step(words, row[1], rz / curvature, p, w, v, r, z)
        beta, rz = new / rz, new
        steps += 1
    if steps:
        _solve_columns(bits, column[1], g, v, b, u)
    left = np.sqrt(max(rz, 0.0) / size) if size > 0.0 else 0.0
    return v, u, steps, left
