"""Dale's law: every neuron of a liquid only excites or only inhibits, and the currents stay as they were, nearly.

Of N neurons a given share only excites. Their weights V, of one sign a column, replace the liquid's own W: row by row
the least squares fit of the same input currents to the same filtered rates r, as the liquid had them in training::

    min over V, c   mean |V r + c - W r|^2 + NOISE mean var(r) |V|^2      V[:, excitatory] >= 0, V[:, inhibitory] <= 0

The penalty keeps weights small, which would carry the spikes' noise. It is convex; coordinate descent solves it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOISE = 0.01
SWEEPS = 300


@dataclass(frozen=True)
class Dale:
    """``weights`` [N, N], ``offset`` [N], ``excites`` bool[N]; ``error``: what the currents lost, as a part of their
    standard deviation (root mean square over all)."""

    weights: np.ndarray
    offset: np.ndarray
    excites: np.ndarray
    error: float


def dale(weights: np.ndarray, rates: np.ndarray, excitatory: float) -> Dale:
    """Weights of one sign a column that keep the currents; ``rates`` [rows, N] are the filtered rates.

    Those neurons inhibit whose weights, times their rates' spread, inhibit the most.
    """
    n = len(weights)
    moving = rates - rates.mean(axis=0)
    gram = moving.T @ moving / len(rates)
    negative = np.minimum(weights, 0.0).sum(axis=0) * np.sqrt(np.diag(gram))
    excites = np.ones(n, bool)
    excites[np.argsort(negative, kind="stable")[: n - round(excitatory * n)]] = False
    signs = np.where(excites, 1.0, -1.0)
    penalized = gram + NOISE * np.trace(gram) / n * np.eye(n)
    fitted = _signed_least_squares(penalized, weights @ gram, np.where(weights * signs > 0, weights, 0.0), signs)
    lost = fitted - weights
    spread = np.einsum("ij,jk,ik->i", weights, gram, weights).sum()
    error = np.sqrt(np.einsum("ij,jk,ik->i", lost, gram, lost).sum() / max(spread, 1e-30))
    return Dale(fitted, -lost @ rates.mean(axis=0), excites, float(error))


def _signed_least_squares(gram: np.ndarray, right: np.ndarray, start: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Rows v with the least ``v gram v / 2 - right v`` and ``v signs >= 0``, all rows at once."""
    v, gradient = start.copy(), start @ gram - right
    for _ in range(SWEEPS):
        largest = 0.0
        for j in range(len(gram)):
            if gram[j, j] <= 1e-15:
                continue
            new = v[:, j] - gradient[:, j] / gram[j, j]
            new = np.maximum(new, 0.0) if signs[j] > 0 else np.minimum(new, 0.0)
            change = new - v[:, j]
            gradient += change[:, None] * gram[j]
            v[:, j] = new
            largest = max(largest, float(np.abs(change).max()))
        if largest < 1e-5 * max(1e-12, float(np.abs(v).max())):
            break
    return v
