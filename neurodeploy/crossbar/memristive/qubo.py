"""What a memristive network minimises at its corners: a quadratic function of binary numbers.

Where every w is 0 or 1, ``w^3 = w^2 = w`` and the Lyapunov function (:mod:`neurodeploy.crossbar.memristive`) is ::

    L(w) = h . w + w^T J w,    J = -(alpha xi/4) Omega,    h = -alpha/3 + Omega S / (2 beta)

(Compare Caravelli, Entropy 21, 789, 2019.) With constant sources, alpha > 0 and xi >= 0 the dynamics run into a corner:
at an inner fixed point the Hessian of L is ``-alpha (W + 2 xi W Omega W)``, so it is a maximum, and left. The corner is
a guess at the minimum, no more: units held at 1 can make L rise on the way, and a corner that the dynamics keep needn't
be one that no flip improves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.memristive import Network
from neurodeploy.crossbar.memristive.integrate import integrate, settled
from neurodeploy.errors import DataError

Array = np.ndarray
#: Units up to which all corners are tried.
MOST_UNITS = 22


@dataclass(frozen=True)
class Qubo:
    """``h . w + w^T J w`` of binary w: ``linear`` h [n], ``quadratic`` J [n, n], symmetric."""

    linear: Array
    quadratic: Array

    def value(self, w: Array) -> Array:
        """Of corners [..., n]."""
        return w @ self.linear + ((w @ self.quadratic) * w).sum(-1)

    def best(self) -> tuple[Array, float]:
        """The least corner of all 2^n and its value. Raises :class:`DataError` above 22 units."""
        n = len(self.linear)
        if n > MOST_UNITS:
            raise DataError(f"{n} units have 2^{n} corners; needed at most {MOST_UNITS} units.", place="QUBO")
        size = 1 << min(n, 14)
        bits = ((np.arange(size)[:, None] >> np.arange(n)) & 1).astype(np.float64)
        corner, least = bits[0], np.inf
        for high in range(0, 1 << n, size):
            w = bits + ((high >> np.arange(n)) & 1)
            values = self.value(w)
            i = int(values.argmin())
            if values[i] < least:
                corner, least = w[i], float(values[i])
        return corner, least

    def descend(self, w: Array) -> Array:
        """From corners [starts, n], the flip that lowers the value most, again and again until none lowers it."""
        w = np.array(w, np.float64)
        own = np.diag(self.quadratic)
        while True:
            # A flip of bit i by d = 1 - 2 w_i changes the value by d (h + 2 J w)_i + J_ii.
            change = (1 - 2 * w) * (self.linear + 2 * w @ self.quadratic) + own
            i = change.argmin(axis=-1)
            falls = np.take_along_axis(change, i[..., None], -1)[..., 0] < -1e-15
            if not falls.any():
                return w
            rows = np.flatnonzero(falls)
            w[rows, i[rows]] = 1 - w[rows, i[rows]]


def qubo(network: Network, S: Array) -> Qubo:
    """The function whose value at every corner is the network's L under constant sources S [edges]."""
    omega = network.circuit.omega
    linear = -network.alpha / 3 + omega @ np.asarray(S, np.float64) / (2 * network.beta)
    return Qubo(linear, -network.alpha * network.xi / 4 * omega)


@dataclass(frozen=True)
class Relaxed:
    """``corners`` [starts, edges] of 0 and 1, which starts came to rest (``settled``), and the ``seconds`` it took."""

    corners: Array
    settled: Array
    seconds: float


def relax(
    network: Network, S: Array, starts: int, seed: int, *, tolerance: float = 1e-6, most_seconds: float | None = None
) -> Relaxed:
    """Let the network run from ``starts`` uniform random states until no unit moves, and round.

    Time doubles until all rest, from 1/alpha up to ``most_seconds`` (1000/alpha): what still moves then is rounded and
    not ``settled``. Raises :class:`DataError` for alpha at or below 0: then corners aren't where the dynamics end.
    """
    if not network.alpha > 0:
        raise DataError(f"alpha is {network.alpha}; needed a number above 0.", place="QUBO relaxation")
    if starts < 1:
        raise DataError(f"{starts} starts; needed at least 1.", place="QUBO relaxation")
    S = np.asarray(S, np.float64)
    w = np.random.default_rng(seed).random((starts, network.units))
    total, span = 0.0, 1.0 / network.alpha
    limit = 1000.0 / network.alpha if most_seconds is None else most_seconds
    rests = np.zeros(starts, bool)
    while not rests.all() and total < limit:
        span = min(span, limit - total)
        moving = ~rests
        w[moving] = integrate(network, w[moving], S, [span], tolerance=tolerance).w[0]
        total, span = total + span, 2 * span
        rests = settled(network, w, S)
    return Relaxed(np.rint(w), rests, total)
