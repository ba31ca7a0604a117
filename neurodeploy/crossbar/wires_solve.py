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

from neurodeploy.crossbar.wires_jit import jit

Array = np.ndarray


@jit
def _rows(g, near, wire, far, carry, inverse):  # noqa: ANN001, ANN202
    """Factors of the word lines' tridiagonal matrices, from the far end: what a node passes on, 1 / its pivot."""
    rows, columns = g.shape
    for i in range(rows):
        behind = far
        for j in range(columns - 1, -1, -1):
            y = wire if j > 0 else near
            seen = g[i, j] + behind
            inverse[i, j] = 1.0 / (y + seen)
            carry[i, j] = y * inverse[i, j]
            behind = seen * carry[i, j]


@jit
def _columns(g, near, wire, far, carry, inverse):  # noqa: ANN001, ANN202
    """The same of the bit lines."""
    rows, columns = g.shape
    behind = np.full(columns, far)
    for i in range(rows - 1, -1, -1):
        y = wire if i > 0 else near
        for j in range(columns):
            seen = g[i, j] + behind[j]
            inverse[i, j] = 1.0 / (y + seen)
            carry[i, j] = y * inverse[i, j]
            behind[j] = seen * carry[i, j]


@jit
def _solve_rows(carry, inverse, s, x):  # noqa: ANN001, ANN202
    """``x = M^-1 s``."""
    rows, columns = s.shape
    for i in range(rows):
        total = 0.0
        for j in range(columns - 1, -1, -1):
            total += s[i, j]
            x[i, j] = total * inverse[i, j]
            total *= carry[i, j]
        volts = 0.0
        for j in range(columns):
            volts = carry[i, j] * volts + x[i, j]
            x[i, j] = volts


@jit
def _solve_columns(carry, inverse, g, v, b, x):  # noqa: ANN001, ANN202
    """``x = B^-1 (g v + b)``; b of shape (0, 0) is nothing."""
    rows, columns = g.shape
    total = np.zeros(columns)
    for i in range(rows - 1, -1, -1):
        for j in range(columns):
            total[j] += g[i, j] * v[i, j]
        if b.size:
            for j in range(columns):
                total[j] += b[i, j]
        for j in range(columns):
            x[i, j] = total[j] * inverse[i, j]
            total[j] *= carry[i, j]
    for i in range(1, rows):
        for j in range(columns):
            x[i, j] += carry[i, j] * x[i - 1, j]


@jit
def _dot(x, y):  # noqa: ANN001, ANN202
    total = 0.0
    for i in range(x.shape[0]):
        row = 0.0  # row by row: a long sum of small numbers loses digits
        for j in range(x.shape[1]):
            row += x[i, j] * y[i, j]
        total += row
    return total


@jit
def solve_lines(g, row, column, a, b, start, tolerance, most):  # noqa: ANN001, ANN201
    """Voltages of the word-line and bit-line nodes, ``[rows, columns]`` each, iterations, and the error left.

    ``g`` (S) positive or 0; ``row``, ``column``: conductance (S) of a line's near end, its wires, its far end;
    ``a[rows, columns]``, ``b`` (same shape, or (0, 0) for nothing): currents into the nodes (A); ``start``: a guess of
    the bit lines' voltages. The error is M's norm of the last residual's solution, relative to the voltages' own.
    """
    rows, columns = g.shape
    shape = (rows, columns)
    m_carry, m_inverse, b_carry, b_inverse = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    _rows(g, row[0], row[1], row[2], m_carry, m_inverse)
    _columns(g, column[0], column[1], column[2], b_carry, b_inverse)
    none = np.empty((0, 0))
    v, u, z, w = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    p, mp, r = np.empty(shape), np.empty(shape), np.empty(shape)
    for i in range(rows):
        for j in range(columns):
            r[i, j] = a[i, j] + g[i, j] * start[i, j]
    _solve_rows(m_carry, m_inverse, r, v)
    size = abs(_dot(r, v))
    _solve_columns(b_carry, b_inverse, g, v, b, u)
    for i in range(rows):
        for j in range(columns):
            r[i, j] = g[i, j] * (u[i, j] - start[i, j])
    _solve_rows(m_carry, m_inverse, r, z)
    for i in range(rows):
        for j in range(columns):
            p[i, j], mp[i, j] = z[i, j], r[i, j]
    rz = _dot(r, z)
    steps = 0
    while rz > tolerance * tolerance * size and steps < most:
        _solve_columns(b_carry, b_inverse, g, p, none, w)
        for i in range(rows):
            for j in range(columns):
                w[i, j] = mp[i, j] - g[i, j] * w[i, j]
        curvature = _dot(p, w)
        if not curvature > 0.0:
            break
        alpha = rz / curvature
        for i in range(rows):
            for j in range(columns):
                v[i, j] += alpha * p[i, j]
                r[i, j] -= alpha * w[i, j]
        _solve_rows(m_carry, m_inverse, r, z)
        new = _dot(r, z)
        beta = new / rz
        rz = new
        for i in range(rows):
            for j in range(columns):
                p[i, j] = z[i, j] + beta * p[i, j]
                mp[i, j] = r[i, j] + beta * mp[i, j]
        steps += 1
    _solve_columns(b_carry, b_inverse, g, v, b, u)
    left = np.sqrt(max(rz, 0.0) / size) if size > 0.0 else 0.0
    return v, u, steps, left
