"""The compiled loops of :mod:`neurodeploy.spiking.reference`; importing this needs numba.

No fast-math: LLVM then neither reorders sums nor contracts ``a b + c``, so every operation is rounded as in NumPy.
Loops over neurons are one statement each over contiguous arrays, which LLVM turns into vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Array = np.ndarray


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled at first use; kept on disk (NUMBA_CACHE_DIR says where) unless nothing there can be written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compiled
def run(
    J: Array, active: Array, ticks: int, beta: Array, threshold: Array, start: Array, subtract: bool, floor: Array,
    ceiling: Array, limited: bool, to_synapse: bool, keep: Array, alpha: Array, delay: Array, first: Array,
    post: Array, weight: Array, traces: Array, counts: Array, raster: Array, with_raster: bool,
) -> None:  # fmt: skip
    """Run every sample; fills ``traces``, ``counts`` and, if wanted, ``raster``.

    Synapses of neuron ``i`` in projection ``p``: ``post`` and ``weight`` from ``first[p, i]`` to ``first[p, i + 1]``.
    """
    n, projections = len(beta), len(delay)
    longest = 1
    for p in range(projections):
        longest = max(longest, delay[p])
    mem, trace, total = np.empty(n, np.float32), np.empty(n, np.float32), np.zeros(n, np.float32)
    spikes = np.empty(n, np.float32)
    syn, arrived = np.empty((projections, n), np.float32), np.zeros(n, np.float32)
    fired, number = np.empty((longest, n), np.uint32), np.empty(longest, np.int64)
    for sample in range(len(J)):
        mem[:], trace[:], syn[:], number[:] = start, 0, 0, 0
        now = 0
        for t in range(J.shape[1]):
            if not active[sample, t]:
                traces[sample, t] = trace
                continue
            current, count = J[sample, t], counts[sample, t]
            for tick in range(ticks):
                for p in range(projections):
                    arrived[:] = 0
                    slot = (now - delay[p]) % longest
                    for f in range(number[slot]):
                        pre = fired[slot, f]
                        for k in range(first[p, pre], first[p, pre + np.uint32(1)]):
                            arrived[post[k]] += weight[k]
                    own, kept = syn[p], alpha[p]
                    for i in range(n):
                        own[i] = kept[i] * own[i] + arrived[i]
                    if p == 0:
                        if to_synapse:
                            for i in range(n):
                                own[i] = own[i] + current[i]
                        total[:] = own
                    else:
                        for i in range(n):
                            total[i] = total[i] + own[i]
                for i in range(n):
                    mem[i] = beta[i] * mem[i]
                if projections:
                    for i in range(n):
                        mem[i] = mem[i] + total[i]
                if not to_synapse:
                    for i in range(n):
                        mem[i] = mem[i] + current[i]
                if limited:
                    for i in range(n):
                        mem[i] = min(max(mem[i], floor[i]), ceiling[i])
                for i in range(n):
                    spikes[i] = np.float32(1) if mem[i] > threshold[i] else np.float32(0)
                if subtract:
                    for i in range(n):
                        mem[i] = mem[i] - threshold[i] * spikes[i]
                else:
                    for i in range(n):
                        mem[i] = np.float32(0) if spikes[i] > 0 else mem[i]
                for i in range(n):
                    trace[i] = keep[i] * trace[i] + spikes[i]
                slot, c = now % longest, 0
                list_ = fired[slot]
                for i in range(n):
                    if spikes[i] > 0:
                        list_[c] = i
                        c += 1
                        count[i] += 1
                        if with_raster:
                            raster[sample, t * ticks + tick, i] = True
                number[slot] = c
                now += 1
            traces[sample, t] = trace
