"""Ising, QUBO and max-cut: the problems, how one becomes another, and exact optima to judge answers by.

::

    Ising   E(s) = -1/2 s^T J s - h s + constant,    s in {-1, 1}^n,   J symmetric, no diagonal
    QUBO    E(x) = x^T Q x + constant,               x in {0, 1}^n,    s = 2 x - 1
    cut     C(s) = 1/4 sum_ij A_ij (1 - s_i s_j)     of a graph with weights A: J = -A / 2, E = -C

Exact optima come from elimination of one vertex after the other (bucket elimination: Dechter, Artificial Intelligence
113, 41, 1999), whose tables have 2^width entries: any graph of some twenty vertices, and large sparse ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.crossbar.associative.programs import matrix, vector
from neurodeploy.errors import DataError, UnsupportedError, UsageError

Array = np.ndarray
PLACE = "max-cut"
#: Variables that a table of the elimination may have: 2^24 numbers are 128 MB.
WIDEST = 24


@dataclass(frozen=True)
class Ising:
    """``E(s) = -1/2 s^T J s - h s + constant``; ``J [n, n]`` symmetric without diagonal, ``h [n]``."""

    J: Array
    h: Array
    constant: float = 0.0

    def energy(self, s: Array) -> Array:
        """Energy of states ``[..., n]`` of -1 and 1."""
        return -0.5 * ((s @ self.J) * s).sum(axis=-1) - s @ self.h + self.constant


def ising(J: Any, h: Any = None, constant: float = 0.0) -> Ising:
    """An Ising problem, checked: ``J`` is made symmetric, its diagonal goes to the constant. Raises
    :class:`DataError`."""
    found = matrix(J, "J")
    J = (found + found.T) / 2
    constant -= 0.5 * float(np.trace(J))
    np.fill_diagonal(J, 0.0)
    return Ising(J, np.zeros(len(J)) if h is None else vector(h, "h", len(J)), constant)


def from_qubo(Q: Any, constant: float = 0.0) -> Ising:
    """The Ising problem of ``x^T Q x + constant`` (any ``Q [n, n]``). Raises :class:`DataError`."""
    found = matrix(Q, "Q")
    Q = (found + found.T) / 2
    rows = Q.sum(axis=1)
    constant += 0.25 * float(rows.sum() + np.trace(Q))
    J = -Q / 2
    np.fill_diagonal(J, 0.0)
    return Ising(J, -rows / 2, constant)


def to_qubo(problem: Ising) -> tuple[Array, float]:
    """``Q`` (symmetric, linear terms on its diagonal) and the constant: ``x^T Q x + constant`` is the energy."""
    Q = -2 * problem.J
    linear = 2 * problem.J.sum(axis=1) - 2 * problem.h
    constant = problem.constant - 0.5 * float(problem.J.sum()) + float(problem.h.sum())
    return Q + np.diag(linear), constant


def graph(weights: Any) -> Array:
    """A graph as a symmetric matrix of weights without diagonal, from such a matrix or from edges ``(i, j[, weight])``.

    Raises :class:`DataError` for a matrix that isn't symmetric, square and finite, for self-loops, and for no edges.
    """
    if not isinstance(weights, np.ndarray):
        weights = _from_edges(weights)
    A = matrix(weights, "graph")
    if not np.array_equal(A, A.T):
        raise DataError("the graph's matrix isn't symmetric; edges have no direction.", place=PLACE)
    if np.diag(A).any():
        raise DataError("the graph has an edge from a vertex to itself, which no cut can hold.", place=PLACE)
    if not A.any():
        raise DataError("the graph has no edges; needed at least one.", place=PLACE)
    return A


def cut(A: Array, s: Array) -> Array:
    """Weight of the edges between the two sides, of states ``[..., n]``."""
    return 0.25 * (A.sum() - ((s @ A) * s).sum(axis=-1))


def maxcut_ising(A: Any) -> Ising:
    """The Ising problem of max-cut, whose energy is minus the cut. Raises :class:`DataError`."""
    A = graph(A)
    return Ising(-A / 2, np.zeros(len(A)), -0.25 * float(A.sum()))


def ground(problem: Ising) -> tuple[float, Array]:
    """The lowest energy, exactly, and a state that has it. Raises :class:`UnsupportedError` where that would take too
    large a table (more than ``WIDEST`` variables at once).
    """
    order, width = _elimination_order(problem.J != 0)
    if width > WIDEST:
        raise UnsupportedError(
            f"{len(problem.h)} variables need tables of {width} at once; {WIDEST} are possible.",
            place="exact optimum", hint="Only small or sparse problems can be solved exactly here.",
        )  # fmt: skip
    tables: list[tuple[tuple[int, ...], Array]] = []
    signs = np.array([-1.0, 1.0])
    for i, field in enumerate(problem.h):
        tables.append(((i,), -field * signs))
    for i, j in zip(*np.nonzero(np.triu(problem.J)), strict=True):
        tables.append(((int(i), int(j)), -problem.J[i, j] * np.outer(signs, signs)))
    choices: list[tuple[int, tuple[int, ...], Array]] = []
    for vertex in order:
        mine = [t for t in tables if vertex in t[0]]
        tables = [t for t in tables if vertex not in t[0]]
        others = tuple(sorted({v for scope, _ in mine for v in scope} - {vertex}))
        joined = np.zeros((2,) * (len(others) + 1))
        for scope, table in mine:
            joined = joined + _spread(scope, table, (vertex, *others))
        choices.append((vertex, others, joined.argmin(axis=0).astype(np.int8)))
        tables.append((others, joined.min(axis=0)))
    lowest = sum(float(table) for _, table in tables)
    state = np.zeros(len(problem.h), np.int64)
    for vertex, others, choice in reversed(choices):
        state[vertex] = choice[tuple(state[list(others)])]
    return lowest + problem.constant, 2.0 * state - 1


def best_cut(A: Any) -> tuple[float, Array]:
    """The largest cut, exactly, and a state ``[n]`` that has it; errors as of :func:`graph` and :func:`ground`."""
    A = graph(A)
    _, state = ground(maxcut_ising(A))
    return float(cut(A, state)), state


def complete(n: int) -> Array:
    """K_n; its largest cut is floor(n^2 / 4)."""
    return np.ones((n, n)) - np.eye(n)


def bipartite(left: int, right: int) -> Array:
    """K_left,right; every edge can be cut."""
    A = np.zeros((left + right, left + right))
    A[:left, left:] = A[left:, :left] = 1
    return A


def ring(n: int) -> Array:
    """A cycle of n vertices; its largest cut is n, or n - 1 where n is odd."""
    return _from_edges([(i, (i + 1) % n) for i in range(n)])


def petersen() -> Array:
    """The Petersen graph: 10 vertices, 15 edges, largest cut 12."""
    outer, spokes = [(i, (i + 1) % 5) for i in range(5)], [(i, i + 5) for i in range(5)]
    return _from_edges([*outer, *spokes, *((i + 5, (i + 2) % 5 + 5) for i in range(5))])


def random_graph(n: int, density: float, seed: int) -> Array:
    """Every edge with probability ``density``, weight 1. Raises :class:`UsageError`."""
    if n < 2 or not 0 < density <= 1:
        raise UsageError(f"{n} vertices, density {density}; needed at least 2, and more than 0 up to 1.", place=PLACE)
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < density, 1)
    return (upper | upper.T).astype(np.float64)


def random_regular(n: int, degree: int, seed: int) -> Array:
    """A random graph in which each vertex has ``degree`` edges (pairs of stubs, drawn again until simple).

    Raises :class:`UsageError` where there is none.
    """
    if not 0 < degree < n or n * degree % 2:
        raise UsageError(f"no graph of {n} vertices has degree {degree}.", place=PLACE)
    rng = np.random.default_rng(seed)
    while True:
        stubs = rng.permutation(np.repeat(np.arange(n), degree)).reshape(-1, 2)
        A = np.zeros((n, n))
        np.add.at(A, (stubs[:, 0], stubs[:, 1]), 1)
        A = A + A.T
        if A.max() == 1 and not np.diag(A).any():
            return A


def _from_edges(edges: Iterable[Any]) -> Array:
    found = [_edge(edge) for edge in edges]
    if not found:
        raise DataError("the graph has no edges; needed at least one.", place=PLACE)
    n = 1 + max(max(i, j) for i, j, _ in found)
    A = np.zeros((n, n))
    for i, j, weight in found:
        A[i, j] = A[j, i] = weight
    return A


def _edge(edge: Any) -> tuple[int, int, float]:
    numbers = tuple(edge) if isinstance(edge, tuple | list | np.ndarray) else ()
    ends = [v for v in numbers[:2] if isinstance(v, int | np.integer) and v >= 0]
    if len(numbers) not in (2, 3) or len(ends) != 2 or not all(isinstance(v, int | float | np.number) for v in numbers):
        raise DataError(f"{edge!r} is no edge; needed (i, j) or (i, j, weight), vertices from 0.", place=PLACE)
    return int(ends[0]), int(ends[1]), float(numbers[2]) if len(numbers) == 3 else 1.0


def _spread(scope: tuple[int, ...], table: Array, whole: tuple[int, ...]) -> Array:
    """A table over ``scope`` as one that broadcasts over ``whole``."""
    kept = sorted(range(len(scope)), key=lambda k: whole.index(scope[k]))
    shape = [2 if v in scope else 1 for v in whole]
    return table.transpose(kept).reshape(shape)


def _elimination_order(linked: Array) -> tuple[list[int], int]:
    """Vertices in an order of least fill (fewest edges added, the first of equals), and the most neighbours that one
    has when its turn comes, itself counted."""
    neighbours = {i: set(np.flatnonzero(row).tolist()) for i, row in enumerate(linked)}
    order, width = [], 0
    while neighbours:

        def fill(v: int) -> tuple[int, int, int]:
            near = sorted(neighbours[v])
            missing = sum(b not in neighbours[a] for k, a in enumerate(near) for b in near[k + 1 :])
            return missing, len(near), v

        vertex = min(neighbours, key=fill)
        near = neighbours.pop(vertex)
        width = max(width, len(near) + 1)
        for a in near:
            neighbours[a] |= near - {a}
            neighbours[a].discard(vertex)
        order.append(vertex)
    return order, width
