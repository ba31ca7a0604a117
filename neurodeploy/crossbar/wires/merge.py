"""A crossbar's conductances from inputs to outputs by nested dissection; numba kernels, imported where they are used.

A block of cells is a network whose ports are the ends of its lines: left and right of its word lines, bottom and top of
its bit lines. It is kept as the conductances between every two ports, ``[ports, ports]``, and nothing else: a diagonal
is the sum of its row whenever one is needed. Two blocks side by side share a port a line; eliminating a shared node k
is the star-mesh transform ``g_ij += g_ki g_kj / sum_m g_km``. Only positive numbers are added, multiplied and divided,
so every result has a relative error of a few roundings however far apart the conductances lie, as in the elimination of
Grassmann, Taksar and Heyman, Operations Research 33, 1107 (1985).

The order is that of A. George's nested dissection, SIAM J. Numer. Anal. 10, 345 (1973): halves, quarters, ... down to
single cells, so an array of n x n costs O(n^3). Cells are merged to leaves of 8 x 8, 8 leaves at a time, one a lane of
a vector; leaves upwards by a blocked factorisation.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.crossbar.wires.jit import add_scaled, jit

Array = np.ndarray
LEAF = 8  # cells along a leaf's side
LANES = 8  # leaves that are merged at a time
TILE = 32  # cells along the side of the square of 16 leaves that one call takes
_add_scaled = add_scaled(LANES)
_CHUNK = 128  # ports that are updated at a time: their panel stays in the second-level cache


@jit
def _segments(a, b, vertical):  # noqa: ANN001, ANN202
    """Where the ports of a merged block come from: ``[6, 4]`` of block (0 or 1), first port there, count, first here.

    ``a``, ``b``: how many ports a block has on the left, right, bottom and top. ``b`` is right of ``a``, or above it.
    The result's ports are again left, right, bottom, top.
    """
    sides = (0, 0, 1, 1, 2, 3) if vertical else (0, 1, 2, 2, 3, 3)
    found = np.empty((6, 4), np.int64)
    here = 0
    for i in range(6):
        counts = a if i % 2 == 0 else b
        first = 0
        for side in range(sides[i]):
            first += counts[side]
        found[i, 0], found[i, 1], found[i, 2], found[i, 3] = i % 2, first, counts[sides[i]], here
        here += found[i, 2]
    return found


# ------------------------------------------------------------------------------- cells to leaves, 8 leaves at a time


@jit
def _star_mesh(w, s, n, total, share):  # noqa: ANN001, ANN202
    """Eliminate the first ``s`` of ``n`` nodes of ``w[n, n, LANES]``, upper triangle."""
    for k in range(s):
        for l in range(LANES):
            total[l] = 0.0
        for j in range(k + 1, n):
            for l in range(LANES):
                total[l] += w[k, j, l]
        for l in range(LANES):
            total[l] = 1.0 / total[l] if total[l] > 0.0 else 0.0
        for i in range(k + 1, n):
            for l in range(LANES):
                share[l] = w[k, i, l] * total[l]
            _add_scaled(share, w[k, i + 1 : n], w[i, i + 1 : n])


@jit
def _merge_lanes(a, b, r, c, vertical, w, total, share, out):  # noqa: ANN001, ANN202
    """Merge two blocks of ``r x c`` cells, ``[ports, ports, LANES]``, to one, ``out``."""
    sides = np.array([r, r, c, c])
    segments = _segments(sides, sides, vertical)
    s, on_a, on_b = (c, 2 * r + c, 2 * r) if vertical else (r, r, 0)
    for i in range(s):
        for j in range(i + 1, s):
            for l in range(LANES):
                w[i, j, l] = a[on_a + i, on_a + j, l] + b[on_b + i, on_b + j, l]
        p = s
        for g in range(6):
            block, shared = (a, on_a) if segments[g, 0] == 0 else (b, on_b)
            for q in range(segments[g, 1], segments[g, 1] + segments[g, 2]):
                for l in range(LANES):
                    w[i, p, l] = block[shared + i, q, l]
                p += 1
    first = s
    for g in range(6):
        block = a if segments[g, 0] == 0 else b
        start = segments[g, 1]
        for i in range(segments[g, 2]):
            p = first
            for h in range(g, 6):
                same = segments[h, 0] == segments[g, 0]
                for q in range(segments[h, 1], segments[h, 1] + segments[h, 2]):
                    for l in range(LANES):
                        w[first + i, p, l] = block[start + i, q, l] if same else 0.0
                    p += 1
        first += segments[g, 2]
    _star_mesh(w, s, first, total, share)
    for p in range(s, first):
        for l in range(LANES):
            out[p - s, p - s, l] = 0.0
        for q in range(p + 1, first):
            for l in range(LANES):
                out[p - s, q - s, l] = w[p, q, l]
                out[q - s, p - s, l] = w[p, q, l]


@jit
def _cells(g, left, right, bottom, top, out):  # noqa: ANN001, ANN202
    """One cell a lane to the conductances between its four ports; all arguments ``[LANES]``, ``out[4, 4, LANES]``.

    The cell's two nodes, one on each line, are eliminated by hand. A lane of zeros stays zeros.
    """
    for l in range(LANES):
        total = left[l] + right[l] + g[l]
        inverse = 1.0 / total if total > 0.0 else 0.0
        through = left[l] * right[l] * inverse
        x = (left[l] * g[l] * inverse, right[l] * g[l] * inverse, bottom[l], top[l])
        total = x[0] + x[1] + x[2] + x[3]
        inverse = 1.0 / total if total > 0.0 else 0.0
        for p in range(4):
            for q in range(4):
                out[p, q, l] = 0.0 if p == q else x[p] * x[q] * inverse
        out[0, 1, l] += through
        out[1, 0, l] += through


@jit
def _leaves(g, left, right, bottom, top, row, column, out):  # noqa: ANN001, ANN202
    """Merge 8 leaves, 2 rows of 4 from ``(row, column)`` on, to ``out[8, 32, 32]``.

    Beyond the array there are no cells, and only the wires that its lines go on with to their far ends.
    """
    rows, columns = g.shape
    total, share = np.empty(LANES), np.empty(LANES)
    x = np.zeros((5, LANES))
    now = np.empty((LEAF * LEAF, 4, 4, LANES))
    for i in range(LEAF):
        for j in range(LEAF):
            for l in range(LANES):
                r, c = row + l // 4 * LEAF + i, column + l % 4 * LEAF + j
                x[0, l] = g[r, c] if r < rows and c < columns else 0.0
                x[1, l] = left[c] if r < rows else 0.0
                x[2, l] = right[c] if r < rows else 0.0
                x[3, l] = bottom[r] if c < columns else 0.0
                x[4, l] = top[r] if c < columns else 0.0
            _cells(x[0], x[1], x[2], x[3], x[4], now[i * LEAF + j])
    w = np.empty((5 * LEAF, 5 * LEAF, LANES))
    tall, wide = LEAF, LEAF
    while tall * wide > 1:
        r, c, vertical = LEAF // tall, LEAF // wide, wide < tall
        taller, wider = (tall // 2, wide) if vertical else (tall, wide // 2)
        size = 2 * (r * (2 if vertical else 1) + c * (1 if vertical else 2))
        new = np.empty((taller * wider, size, size, LANES))
        for i in range(taller):
            for j in range(wider):
                first = 2 * i * wide + j if vertical else i * wide + 2 * j
                second = first + (wide if vertical else 1)
                _merge_lanes(now[first], now[second], r, c, vertical, w, total, share, new[i * wider + j])
        now = new
        tall, wide = taller, wider
    for l in range(LANES):
        for p in range(4 * LEAF):
            for q in range(4 * LEAF):
                out[l, p, q] = now[0, p, q, l]


# ----------------------------------------------------------------------------------------------- leaves upwards


@jit
def _copy(source, to):  # noqa: ANN001, ANN202
    """One row to another: a loop, which is vectorised; numba's assignment to a slice is not."""
    for j in range(len(to)):
        to[j] = source[j]


@jit
def _accumulate(a, b, c, begin, width, m):  # noqa: ANN001, ANN202
    """``c[q, j] += sum_k a[k, q] b[k, j]``: 4 rows q, k below m, j from ``begin`` to ``width``; a: rows of 4."""
    whole = m // 4 * 4
    c, count = c[begin:], width - begin  # views of their own: indices that can't be negative, or loops stay scalar
    for k in range(0, whole, 4):
        x = b[k * _CHUNK + begin : (k + 4) * _CHUNK]
        f = a[4 * k : 4 * k + 16]
        a00, a01, a02, a03 = f[0], f[4], f[8], f[12]
        a10, a11, a12, a13 = f[1], f[5], f[9], f[13]
        a20, a21, a22, a23 = f[2], f[6], f[10], f[14]
        a30, a31, a32, a33 = f[3], f[7], f[11], f[15]
        for j in range(count):
            x0, x1, x2, x3 = x[j], x[_CHUNK + j], x[2 * _CHUNK + j], x[3 * _CHUNK + j]
            c[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
            c[_CHUNK + j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
            c[2 * _CHUNK + j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
            c[3 * _CHUNK + j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
    for k in range(whole, m):
        x = b[k * _CHUNK + begin : (k + 1) * _CHUNK]
        f = a[4 * k : 4 * k + 4]
        a0, a1, a2, a3 = f[0], f[1], f[2], f[3]
        for j in range(count):
            c[j] += a0 * x[j]
            c[_CHUNK + j] += a1 * x[j]
            c[2 * _CHUNK + j] += a2 * x[j]
            c[3 * _CHUNK + j] += a3 * x[j]


@jit
def _eliminate(u, scale, panel, width, rows, known, c):  # noqa: ANN001, ANN202
    """Forward elimination of a panel ``[rows, width]`` by the rows before each; the first ``known`` have their pivots.

    From row ``known`` on, the panel holds the diagonal block (its column 0 is node ``known``) and, last, the sum of
    everything to its right: a row's pivot is the sum of what is right of its diagonal. Rows are scaled by the pivot's
    root. ``u``: rows by node, 4 nodes together; the columns of a panel with a diagonal block are written there.
    """
    stride = len(scale) * 4
    factor = known < rows
    for first in range(0, rows, 4):
        own = u[first // 4 * stride : (first // 4 + 1) * stride]
        _copy(panel[first * _CHUNK : (first + 4) * _CHUNK], c)
        _accumulate(own, panel, c, 0, width, first)
        for q in range(min(4, rows - first)):
            k = first + q
            row = c[q * _CHUNK : (q + 1) * _CHUNK]
            for p in range(q):
                f = own[4 * (first + p) + q]
                before = c[p * _CHUNK : (p + 1) * _CHUNK]
                for j in range(width):
                    row[j] += f * before[j]
            start = 0
            if factor and k >= known:
                start = k - known + 1
                pivot = 0.0
                for j in range(start, width):
                    pivot += row[j]
                scale[k] = 1.0 / np.sqrt(pivot) if pivot > 0.0 else 0.0
            f = scale[k]
            for j in range(width):
                row[j] *= f
            if factor:
                for j in range(start, width - 1):
                    u[(known + j) // 4 * stride + 4 * k + (known + j) % 4] = row[j]
        _copy(c, panel[first * _CHUNK : (first + 4) * _CHUNK])


@jit
def _gather(a, on, s, segments, block, x):  # noqa: ANN001, ANN202
    """What a block's ``s`` shared nodes, ``on`` the first, have to its other ports: its columns of ``x[s, ports]``.

    Only the upper triangle of ``a`` is there.
    """
    to = 0
    for g in range(6):
        q, count = segments[g, 1], segments[g, 2]
        if segments[g, 0] == block:
            if q > on:
                for k in range(s):
                    _copy(a[on + k, q : q + count], x[k, to : to + count])
            else:
                for k0 in range(0, s, 8):
                    for j in range(count):
                        for k in range(k0, min(k0 + 8, s)):
                            x[k, to + j] = a[q + j, on + k]
        to += count


@jit
def _base(a, b, segments, i, first, stop, c):  # noqa: ANN001, ANN202
    """What the blocks hold between the merged one's ports ``i`` and ``first`` to ``stop``, right of i: to ``c``."""
    g = 0
    while i >= segments[g, 3] + segments[g, 2]:
        g += 1
    row = segments[g, 1] + i - segments[g, 3]
    block = a if segments[g, 0] == 0 else b
    for h in range(g, 6):
        at, count, q = segments[h, 3], segments[h, 2], segments[h, 1]
        start, end = max(first - at, 0), min(stop - at, count)
        if start < end:
            part = c[at + start - first : at + end - first]
            if segments[h, 0] == segments[g, 0]:
                _copy(block[row, q + start : q + end], part)
            else:
                for j in range(len(part)):
                    part[j] = 0.0


@jit
def merge(a, a_counts, b, b_counts, vertical, last):  # noqa: ANN001, ANN201
    """Block ``b`` right of ``a``, or above it, as one; how many ports it has on each side.

    ``a``, ``b``, result: conductances between ports, ``[ports, ports]``; only what is above the diagonal counts.
    ``last``: only what lies between word lines and bit lines, ``[left + right, bottom + top]``.
    """
    segments = _segments(a_counts, b_counts, vertical)
    counts = a_counts + b_counts
    if vertical:
        s, on_a, on_b = a_counts[3], a_counts[:3].sum(), b_counts[:2].sum()
        counts[2], counts[3] = a_counts[2], b_counts[3]
    else:
        s, on_a, on_b = a_counts[1], a_counts[0], 0
        counts[0], counts[1] = a_counts[0], b_counts[1]
    size = counts.sum()
    rows = counts[0] + counts[1] if last else size
    start = rows if last else 0
    x = np.empty((s, size))
    for block in range(2):
        _gather(b if block else a, on_b if block else on_a, s, segments, block, x)
    scale, u = np.zeros(s), np.zeros((s + 3) // 4 * s * 4)
    panel, c = np.zeros((s + 4) * _CHUNK), np.zeros(4 * _CHUNK)
    rest = np.zeros(s)
    for k in range(s):
        for j in range(size):
            rest[k] += x[k, j]
    for first in range(0, s, _CHUNK - 1):  # the shared nodes themselves; one column for what is right of them
        stop = min(first + _CHUNK - 1, s)
        for k in range(stop):
            row = panel[k * _CHUNK : (k + 1) * _CHUNK]
            for j in range(max(first, k + 1), stop):
                row[j - first] = a[on_a + k, on_a + j] + b[on_b + k, on_b + j]
            right = rest[k]
            for j in range(stop, s):
                right += a[on_a + k, on_a + j] + b[on_b + k, on_b + j]
            row[stop - first] = right
        _eliminate(u, scale, panel, stop - first + 1, stop, first, c)
    packed = np.zeros((size + 3) // 4 * s * 4)
    out = np.empty((rows, size - start))
    for first in range(0, size, _CHUNK):  # the ports
        stop = min(first + _CHUNK, size)
        width = stop - first
        for k in range(s):
            _copy(x[k, first:stop], panel[k * _CHUNK : k * _CHUNK + width])
        _eliminate(u, scale, panel, width, s, s, c)
        for j0 in range(0, width, 4):
            own = packed[(first + j0) * s : (first + j0 + 4) * s]
            for k in range(s):
                for q in range(min(4, width - j0)):
                    own[4 * k + q] = panel[k * _CHUNK + j0 + q]
        for i in range(0, min(stop, rows), 4):
            begin = max(first, start, i)  # columns; what is left of the diagonal is never looked at
            count = min(4, rows - i)
            if begin < stop:
                for q in range(count):
                    _base(a, b, segments, i + q, begin, stop, c[q * _CHUNK + begin - first : (q + 1) * _CHUNK])
                _accumulate(packed[i * s : (i + 4) * s], panel, c, begin - first, width, s)
                for q in range(count):
                    row = c[q * _CHUNK + begin - first : q * _CHUNK + width]
                    _copy(row, out[i + q, begin - start : stop - start])
    return out, counts


@jit
def tile(g, left, right, bottom, top, row, column):  # noqa: ANN001, ANN201
    """The cells from ``(row, column)`` on, at most 32 x 32, as one block; how many ports it has on each side.

    ``g[rows, columns]`` (S); ``left, right`` and ``bottom, top`` (S), by column and by row, filled up to whole tiles:
    what a cell's node on its word line, on its bit line, is connected to its four ports with: half a wire to either
    side, 0 at an open end.
    """
    leaves = np.empty((2, LANES, 4 * LEAF, 4 * LEAF))
    for half in range(2):
        _leaves(g, left, right, bottom, top, row + half * 2 * LEAF, column, leaves[half])
    sides = np.array([LEAF, LEAF, LEAF, LEAF])
    blocks = [leaves[i // 8, i % 8] for i in range(16)]
    tall, wide = 4, 4
    while tall * wide > 1:
        vertical = wide < tall
        merged = []
        for i in range(tall * wide // 2):
            first = i // wide * 2 * wide + i % wide if vertical else 2 * i
            whole, n = merge(blocks[first], sides, blocks[first + (wide if vertical else 1)], sides, vertical, bool(0))
            merged.append(whole)
        sides, blocks = n, merged
        tall, wide = (tall // 2, wide) if vertical else (tall, wide // 2)
    whole = blocks[0]
    rows, columns = min(TILE, g.shape[0] - row), min(TILE, g.shape[1] - column)
    counts = np.array([rows, rows, columns, columns])
    counts[1] = 0 if right[column + TILE - 1] == 0.0 else rows
    counts[3] = 0 if top[row + TILE - 1] == 0.0 else columns
    kept = np.empty(counts.sum(), np.int64)
    i = 0
    for side in range(4):
        for p in range(counts[side]):
            kept[i] = side * TILE + p
            i += 1
    out = np.empty((i, i))
    for p in range(i):
        for q in range(i):
            out[p, q] = whole[kept[p], kept[q]]
    return out, counts
