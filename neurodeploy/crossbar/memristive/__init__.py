"""Memristive networks: circuits in which every edge is a memristor in series with a voltage source.

The equation of Caravelli, Traversa and Di Ventra, Physical Review E 95, 022140 (2017)::

    dw/dt = alpha w - (1/beta) (I + xi Omega W)^-1 Omega S,    0 <= w <= 1,  W = diag(w)
    R = R_on (1 + xi w),    xi = (R_off - R_on) / R_on

``w`` is each memristor's memory (0: R_on, 1: R_off), ``S`` the voltages of the sources, and ``Omega`` the projector on
the circuit's cycles: ``A^T (A A^T)^-1 A`` with the cycle matrix A, or ``I - B^+ B`` with the incidence matrix B. What
the inverse gives is R_on times the currents. Its matrix isn't symmetric, but it needn't be solved: with an orthonormal
basis Q of the cycles (``Omega = Q Q^T``) the currents are ``Q y`` where ::

    (I + xi Q^T W Q) y = Q^T S            one unknown a loop

and with conductances ``G = (I + xi W)^-1`` and node voltages v, one node of each part of the circuit grounded::

    (B G B^T) v = B G S,    R_on i = G (S - B^T v)        one unknown a node

Both are symmetric and positive definite for xi > -1; the smaller one is solved.

For constant S and free w (none held at a border)

    L = -(alpha/3) sum w^3 - (alpha xi/4) (w^2)^T Omega (w^2) + (1/(2 beta)) (w^2)^T Omega S

falls: with ``M = W + xi W Omega W``, which has no negative eigenvalue, ``dL/dt = -f^T M f`` where f = dw/dt. (Compare
Caravelli, Entropy 21, 789, 2019.) Units held at 0 don't change that, since their rows of M are 0. A unit held at 1 adds
``-(P f)^T M (I - P) f``, P the free units, which can be positive: then L may rise.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import DataError

Array = np.ndarray
#: Numbers in the largest array that a batch makes; more samples are taken in pieces.
PIECE = 1 << 22


@dataclass(frozen=True)
class Circuit:
    """A circuit's graph: ``edges`` (from, to), ``nodes``, ``incidence`` B [nodes, edges] (-1 where an edge leaves, 1
    where it arrives), ``cycles`` A [loops, edges] (one fundamental cycle a chord of a spanning forest), ``parts`` (its
    connected parts), ``basis`` Q [edges, loops], orthonormal, and ``grounded`` B without one node of each part."""

    edges: tuple[tuple[Hashable, Hashable], ...]
    nodes: tuple[Hashable, ...]
    incidence: Array
    cycles: Array
    parts: int
    basis: Array
    grounded: Array

    @property
    def loops(self) -> int:
        """Independent loops, the rank of Omega: edges - nodes + parts."""
        return len(self.cycles)

    @property
    def omega(self) -> Array:
        """The projector on the cycles [edges, edges], ``A^T (A A^T)^-1 A``."""
        return self.basis @ self.basis.T

    @property
    def omega_by_cuts(self) -> Array:
        """The same from the incidence matrix, ``I - B^+ B``."""
        return np.eye(len(self.edges)) - np.linalg.pinv(self.incidence) @ self.incidence


def circuit(edges: Sequence[tuple[Hashable, Hashable]]) -> Circuit:
    """The circuit of edges given as pairs of nodes; an edge's direction is that of its source and of its current.

    Parallel edges, self-loops and several unconnected parts are taken. Raises :class:`DataError` where no edge is on a
    loop, since then no current can flow.
    """
    pairs = [tuple(edge) for edge in edges]
    wrong = [edge for edge in pairs if len(edge) != 2]
    if not pairs or wrong:
        found = f"edge {wrong[0]!r}" if wrong else "no edges"
        raise DataError(f"{found}; needed pairs of nodes.", place="circuit")
    nodes = tuple(dict.fromkeys(node for edge in pairs for node in edge))
    index = {node: i for i, node in enumerate(nodes)}
    ends = np.array([[index[a], index[b]] for a, b in pairs])
    incidence = np.zeros((len(nodes), len(pairs)))
    np.add.at(incidence, (ends[:, 0], np.arange(len(pairs))), -1.0)
    np.add.at(incidence, (ends[:, 1], np.arange(len(pairs))), 1.0)
    cycles, roots = _cycles(ends, len(nodes))
    if not len(cycles):
        raise DataError(
            f"its {len(pairs)} edges and {len(nodes)} nodes hold no loop, so Omega is 0 and no current flows; needed a "
            "loop.", place="circuit", hint="Close the circuit with one more edge.",
        )  # fmt: skip
    basis = np.linalg.qr(cycles.T)[0]
    grounded = np.delete(incidence, roots, axis=0)
    return Circuit(tuple((a, b) for a, b in pairs), nodes, incidence, cycles, len(roots), basis, grounded)


def _cycles(ends: Array, nodes: int) -> tuple[Array, list[int]]:
    """Fundamental cycles [loops, edges] of a breadth-first spanning forest, and the forest's roots."""
    neighbours: list[list[tuple[int, int, float]]] = [[] for _ in range(nodes)]
    for edge, (a, b) in enumerate(ends.tolist()):
        neighbours[a].append((b, edge, 1.0))
        neighbours[b].append((a, edge, -1.0))
    # From a node's root to the node: which tree edges are passed, and in which direction.
    path = np.zeros((nodes, len(ends)))
    seen, tree, roots = np.zeros(nodes, bool), np.zeros(len(ends), bool), []
    for root in range(nodes):
        if seen[root]:
            continue
        roots.append(root)
        seen[root], queue = True, [root]
        for node in queue:
            for other, edge, sign in neighbours[node]:
                if not seen[other]:
                    seen[other], tree[edge] = True, True
                    path[other] = path[node]
                    path[other, edge] = sign
                    queue.append(other)
    chords = np.flatnonzero(~tree)
    cycles = path[ends[chords, 0]] - path[ends[chords, 1]]
    cycles[np.arange(len(chords)), chords] += 1.0
    return cycles, roots


@dataclass(frozen=True)
class Network:
    """A circuit of memristors: ``alpha`` (1/s, growth of w without current; below 0 w decays to R_on), ``beta`` > 0
    (V s), ``xi`` > -1, and ``r_on_ohms`` > 0, which scales currents only. Raises :class:`DataError` for other values.

    Arrays ``w`` and ``S`` end in an axis of the circuit's edges; axes in front of it are a batch, and a sample's bits
    don't depend on the others.
    """

    circuit: Circuit
    alpha: float
    beta: float
    xi: float
    r_on_ohms: float = 1.0

    def __post_init__(self) -> None:
        for name, low in (("alpha", -math.inf), ("beta", 0.0), ("xi", -1.0), ("r_on_ohms", 0.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > low):
                needed = f"a number above {low:g}" if math.isfinite(low) else "a finite number"
                raise DataError(f"{name} is {value}; needed {needed}.", place="memristive network")

    @property
    def units(self) -> int:
        """Number of memristors."""
        return len(self.circuit.edges)

    def flow(self, w: Array, S: Array, *, by: str = "") -> Array:
        """R_on times the current in every edge, in volts. ``by`` "loops" or "nodes" fixes the system that is solved."""
        w, S = np.broadcast_arrays(np.asarray(w, np.float64), np.asarray(S, np.float64))
        if w.shape[-1:] != (self.units,):
            raise DataError(f"w and S end in {w.shape[-1:]}; needed {self.units} edges.", place="memristive network")
        rows, sources = w.reshape(-1, self.units), S.reshape(-1, self.units)
        loops = by == "loops" or (not by and self.circuit.loops <= len(self.circuit.grounded))
        size = max(1, PIECE // (self.units * min(self.circuit.loops, max(1, len(self.circuit.grounded)))))
        solve = self._by_loops if loops else self._by_nodes
        parts = [solve(rows[i : i + size], sources[i : i + size]) for i in range(0, len(rows), size)]
        return np.concatenate(parts).reshape(w.shape) if parts else np.zeros(w.shape)

    def _by_loops(self, w: Array, S: Array) -> Array:
        # Products stack by stack, as matmul does them, so that bits don't depend on the batch.
        Q = self.circuit.basis
        system = np.eye(Q.shape[1]) + self.xi * ((Q.T * w[:, None, :]) @ Q)
        return (Q @ np.linalg.solve(system, Q.T @ S[:, :, None]))[:, :, 0]

    def _by_nodes(self, w: Array, S: Array) -> Array:
        B, g = self.circuit.grounded, 1.0 / (1.0 + self.xi * w)
        v = np.linalg.solve((B * g[:, None, :]) @ B.T, B @ (g * S)[:, :, None])
        return g * (S - (B.T @ v)[:, :, 0])

    def rate(self, w: Array, S: Array) -> Array:
        """dw/dt by the equation, borders apart."""
        return self.alpha * np.asarray(w) - self.flow(w, S) / self.beta

    def kirchhoff(self, w: Array, S: Array) -> tuple[Array, Array]:
        """Node voltages [nodes] (0 at the first node of each part) and edge currents [edges] in amperes, from both of
        Kirchhoff's laws at once: currents and voltages are the unknowns, Omega has no part in it. One sample."""
        B = self.circuit.grounded
        n, m = len(B), self.units
        R = self.r_on_ohms * (1.0 + self.xi * np.asarray(w, np.float64))
        system = np.block([[np.diag(R), B.T], [B, np.zeros((n, n))]])
        found = np.linalg.solve(system, np.concatenate([np.asarray(S, np.float64), np.zeros(n)]))
        voltages = np.zeros(len(self.circuit.nodes))
        kept = [i for i, row in enumerate(self.circuit.incidence) if any(np.array_equal(row, b) for b in B)]
        voltages[kept] = found[m:]
        return voltages, found[:m]

    def lyapunov(self, w: Array, S: Array) -> Array:
        """L of the module's text, in 1/s: one value a sample."""
        squares = np.asarray(w, np.float64) ** 2
        along = squares @ self.circuit.basis
        own = -self.alpha / 3 * (squares * w).sum(-1) - self.alpha * self.xi / 4 * (along**2).sum(-1)
        return own + (along * (np.asarray(S) @ self.circuit.basis)).sum(-1) / (2 * self.beta)

    def euler(self, w: Array, S: Array, dt: float) -> Array:
        """One step of the cell ``ctdv`` in its own float32 arithmetic, every bit of the golden model: [batch, n]."""
        f32 = np.float32
        w, S, omega = np.asarray(w, f32), np.asarray(S, f32), self.circuit.omega.astype(f32)
        system = np.eye(self.units, dtype=f32) + f32(self.xi) * (omega * w[..., None, :])
        right = (S @ omega.T).astype(np.float64)
        current = np.linalg.solve(system.astype(np.float64), right[..., None])[..., 0].astype(f32)
        new = w + f32(dt) * (f32(self.alpha) * w - f32(1.0 / self.beta) * current)
        return np.maximum(np.minimum(new, f32(1)), f32(0))


def one_mesh(w0: Array, s: float, t: Array, *, beta: float, xi: float) -> Array:
    """Mean memory at times t of one mesh of memristors, all in the same direction, alpha = 0: the exact solution::

        mean w(t) = [-1 + sqrt((1 + xi m)^2 + 2 xi s t / beta)] / xi,    m = mean w0,  s = -mean S

    The mean follows it whether or not the memristors are equal, and their differences stay: ``w_i - mean w`` is
    constant. So it holds until the first memristor reaches a border. Raises :class:`DataError` for times after that.
    """
    w0, t = np.asarray(w0, np.float64), np.asarray(t, np.float64)
    m = w0.mean()
    if abs(xi) < 1e-12:
        mean = m + s * t / beta
    else:
        inner = (1 + xi * m) ** 2 + 2 * xi * s * t / beta
        mean = (np.sqrt(np.where(inner >= 0, inner, np.nan)) - 1) / xi
    low, high = w0.min() - m, w0.max() - m
    inside = (mean + low >= -1e-12) & (mean + high <= 1 + 1e-12)
    if not inside.all():
        raise DataError(
            f"a memristor has reached a border by t = {t[~inside].min():g} s; the formula ends there.", place="one mesh"
        )
    return mean
