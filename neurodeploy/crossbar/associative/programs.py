"""Associative memories: what is stored (rules), and the network as a program that every backend takes.

Patterns are rows of -1 and 1, ``[patterns, units]``. Weights act as ``field = W s``: ``W[i, j]`` from unit j to unit i.
A program written with ``neurodeploy.ir.text.to_files`` compiles from the command line as any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.errors import DataError, UsageError, nearest
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify

Array = np.ndarray


def hebb(patterns: Array) -> Array:
    """``W = sum_p x_p x_p^T / n`` without its diagonal (Hopfield, PNAS 79, 2554, 1982). Raises :class:`DataError`."""
    x = signs(patterns, "patterns")
    return _hollow(x.T @ x / x.shape[1])


def storkey(patterns: Array) -> Array:
    """Pattern after pattern ``W_ij += (x_i x_j - x_i h_ji - h_ij x_j) / n``, ``h_ij = sum_{k != i, j} W_ik x_k``, with
    the diagonal left at 0 (Storkey, "Increasing the capacity of a Hopfield network without sacrificing functionality",
    ICANN 1997). Raises :class:`DataError`.
    """
    x = signs(patterns, "patterns")
    W = np.zeros((x.shape[1], x.shape[1]))
    for pattern in x:
        h = (W @ pattern)[:, None] - W * pattern  # W_ii = 0: nothing else to leave out
        change = np.outer(pattern, pattern) - pattern[:, None] * h.T - h * pattern
        W = _hollow(W + change / len(pattern))
    return W


def pseudo_inverse(patterns: Array) -> Array:
    """The projection onto the patterns, ``W = X^+ X``, without its diagonal: every stored pattern is a fixed point
    while they are linearly independent (Personnaz, Guyon and Dreyfus, J. Physique Lett. 46, 1985). Raises
    :class:`DataError`.
    """
    x = signs(patterns, "patterns")
    W = np.linalg.pinv(x) @ x
    return _hollow((W + W.T) / 2)


RULES = {"hebb": hebb, "storkey": storkey, "pseudo-inverse": pseudo_inverse}


def stored(patterns: Array, rule: str = "hebb") -> Array:
    """Weights ``[n, n]`` that hold ``patterns [count, n]``. Raises :class:`UsageError` for an unknown rule."""
    if rule not in RULES:
        raise UsageError(f"there is no rule '{rule}'.", place="associative memory", hint=nearest(rule, RULES))
    return RULES[rule](patterns)


def pairs(x: Array, y: Array) -> Array:
    """Kosko's weights ``W = sum_p y_p x_p^T / n`` [y units, x units] of a bidirectional memory, n the x units (IEEE
    Trans. SMC 18, 49, 1988). Raises :class:`DataError` for unequal numbers of patterns.
    """
    left, right = signs(x, "x"), signs(y, "y")
    if len(left) != len(right):
        raise DataError(
            f"{len(left)} patterns x and {len(right)} patterns y; needed pairs.", place="associative memory"
        )
    return right.T @ left / left.shape[1]


def signs(patterns: Any, name: str, units: int | None = None) -> Array:
    """``patterns`` as float64 ``[count, units]``. Raises :class:`DataError` for anything else than -1 and 1."""
    found = np.asarray(patterns)
    if found.dtype.kind not in "fiu" or found.ndim != 2 or 0 in found.shape:
        needed = f"numbers [count, {units or 'units'}]"
        raise DataError(f"'{name}' is {found.dtype}{list(found.shape)}; needed {needed}.", place="associative memory")
    if units is not None and found.shape[1] != units:
        raise DataError(
            f"'{name}' has {found.shape[1]} units a row; the network has {units}.", place="associative memory"
        )
    if not np.isin(found, (-1, 1)).all():
        raise DataError(f"'{name}' holds other values than -1 and 1.", place="associative memory")
    return found.astype(np.float64)


def matrix(weights: Any, name: str = "weights", square: bool = True) -> Array:
    """``weights`` as finite float64 ``[n, n]`` (or ``[m, n]``). Raises :class:`DataError`."""
    found = np.asarray(weights)
    shape = "[n, n]" if square else "[m, n]"
    wrong = found.ndim != 2 or 0 in found.shape or (square and found.shape[0] != found.shape[1])
    if found.dtype.kind not in "fiub" or wrong:
        raise DataError(
            f"'{name}' is {found.dtype}{list(found.shape)}; needed numbers {shape}.", place="associative memory"
        )
    if not np.isfinite(found).all():
        raise DataError(f"'{name}' holds NaN or infinity.", place="associative memory")
    return found.astype(np.float64)


def hopfield_program(weights: Any, thresholds: Any = None, max_steps: int = 50, name: str = "memory") -> Program:
    """``s' = sign(W s - theta)``, all units at once, from the static input ``cue [n]`` until ``s`` stands.

    Outputs ``s``, the last state. At most ``max_steps`` steps: synchronous updates can end in a cycle of two states
    (Bruck, Proc. IEEE 78, 1579, 1990). Raises :class:`DataError`.
    """
    W = matrix(weights)
    n = len(W)
    theta = np.zeros(n) if thresholds is None else vector(thresholds, "thresholds", n)
    b = Builder()
    cue, s, begun = b.input("cue", (n,)), b.state("s", (n,)), b.state("begun", ())
    now = _from_cue(b, cue, s, begun)
    held = [b.param(key, data.astype(np.float32)) for key, data in (("W", W), ("theta", theta))]
    new, stable = b.call("hopfield", now, *held)
    b.next(s, new)
    b.output("s", new)
    b.output("stable", stable)
    return _program(b, name, n, {"s": Ref("s", "main", "last")}, max_steps)


def bam_program(weights: Any, max_steps: int = 50, name: str = "memory") -> Program:
    """``y = sign(W x)``, ``x' = sign(W^T y)`` from the static input ``cue [n]`` until ``x`` stands; a tie of y is 1 and
    one of x keeps the old value. Outputs ``x`` and ``y``. Raises :class:`DataError`.
    """
    W = matrix(weights, square=False)
    m, n = W.shape
    b = Builder()
    cue, x, begun = b.input("cue", (n,)), b.state("x", (n,)), b.state("begun", ())
    now = _from_cue(b, cue, x, begun)
    y = _sign(b, b.param("W", W.astype(np.float32)) @ now, b("broadcast", b.const(1.0), shape=[m]))
    new = _sign(b, b.param("WT", np.ascontiguousarray(W.T.astype(np.float32))) @ y, now)
    b.next(x, new)
    b.output("x", new)
    b.output("y", y)
    b.output("stable", b("eq", b("sum", b("abs", new - now), axis=0), b.const(0.0)))
    return _program(b, name, n, {"x": Ref("x", "main", "last"), "y": Ref("y", "main", "last")}, max_steps)


def vector(values: Any, name: str, size: int) -> Array:
    """``values`` as finite float64 ``[size]``. Raises :class:`DataError`."""
    found = np.asarray(values)
    if found.dtype.kind not in "fiub" or found.shape != (size,) or not np.isfinite(found).all():
        raise DataError(
            f"'{name}' is {found.dtype}{list(found.shape)}; needed {size} finite numbers.", place="associative memory"
        )
    return found.astype(np.float64)


def _hollow(W: Array) -> Array:
    W = W.copy()
    np.fill_diagonal(W, 0.0)
    return W


def _from_cue(b: Builder, cue: Sym, state: Sym, begun: Sym) -> Sym:
    """The cue at the first step, then the state: ``begun`` is 0 at first."""
    now = b("select", b("eq", begun, b.const(0.0)), cue, state)
    b.next(begun, b.const(1.0))
    return now


def _sign(b: Builder, field: Sym, tie: Sym) -> Sym:
    return b("select", field > 0.0, b.const(1.0), b("select", field < 0.0, b.const(-1.0), tie))


def _program(b: Builder, name: str, n: int, outputs: dict[str, Ref], max_steps: int) -> Program:
    if max_steps < 1:
        raise UsageError(f"max_steps is {max_steps}; needed at least 1.", place="associative memory")
    drive = Drive("until", predicate="stable", max_steps=max_steps)
    stage = Stage("main", b.graph(), drive, {"cue": Ref("cue")})
    return verify(Program(name, {"cue": ProgramInput(TensorType((n,)), "static")}, (stage,), outputs))
