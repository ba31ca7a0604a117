"""The compiled loop of :mod:`neurodeploy.spiking.step_events`; importing this needs numba."""

from __future__ import annotations

import numpy as np
from numba import njit

Array = np.ndarray


@njit(nogil=True)
def deliver(level: Array, weights: Array, active: Array, last: Array, total: Array, events: Array) -> None:
    """Send the changes of ``level`` [batch, k] since ``last``: ``total[b] += dk_j weights[j]`` [k, m] for each.

    Samples that aren't active send nothing. Fills ``events`` [batch, k].
    """
    for b in range(len(level)):
        if not active[b]:
            continue
        for j in range(level.shape[1]):
            change = level[b, j] - last[b, j]
            if change != 0:
                events[b, j] = change
                last[b, j] = level[b, j]
                for i in range(weights.shape[1]):
                    total[b, i] += change * weights[j, i]
