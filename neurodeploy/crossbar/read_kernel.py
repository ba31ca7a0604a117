"""A read's noise and conversion in one pass over its currents, compiled; imported where numba is there.

The same operations in the same order as :class:`~neurodeploy.crossbar.analog.AnalogMatrix` makes them with NumPy, and
no others: every bit is the same.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def convert(part, words, quantiles, noise, m, step, outside):  # noqa: ANN001, ANN201
    """Turn currents in units of codes, ``part[n, lines]``, into values, in place; how many lay outside.

    ``words[n, lines]`` (uint16) pick the noise's quantiles; ``noise[lines]``: its deviation, of no lines for none.
    ``outside[n, lines]`` (bool) is written where the count isn't 0, and where it is left False before.
    """
    count = 0
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            value = part[i, j]
            if noise.size:
                value += quantiles[words[i, j]] * noise[j]
            code = np.rint(value)
            if code > m:
                code = m
                outside[i, j] = True
                count += 1
            elif code < -m:
                code = -m
                outside[i, j] = True
                count += 1
            part[i, j] = code * step[j]
    return count
