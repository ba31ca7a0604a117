"""The compiled loops of :mod:`neurodeploy.spiking.reference`; importing this needs numba.

No fast-math: LLVM then neither reorders sums nor contracts ``a b + c``, so every operation is rounded as in NumPy.

Neurons lie in blocks of :data:`LANES`. A block is one row of float32: for each of its variables so many numbers, one a
neuron. What a loop over a block reads and writes lies at constant distances, so LLVM turns it into vector instructions
without checks for overlap. Its length is an argument (``width``), as a short loop of known length would be unrolled
into scalar instructions, of which numba's LLVM doesn't make vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Array = np.ndarray

#: A multiple of 8.
LANES = 64
#: Where a block's variables begin in its row.
MEM, TRACE, SPIKE, CURRENT, TOTAL, BETA, THRESHOLD, KEEP, FLOOR, CEILING = range(0, 10 * LANES, LANES)
#: The first projection's in the same row; the others have rows of their own, which begin with these three.
SYN, ALPHA, ARRIVED = range(10 * LANES, 13 * LANES, LANES)
ROW, MORE = 13 * LANES, 3 * LANES


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled at first use; kept on disk (NUMBA_CACHE_DIR says where) unless nothing there can be written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compiled
def run(
    J: Array, active: Array, ticks: int, neurons: int, width: int, subtract: bool, limited: bool, to_synapse: bool,
    begin: Array, delay: Array, dense: Array, first: Array, post: Array, weight: Array, traces: Array, counts: Array,
    raster: Array, with_raster: bool,
) -> None:  # fmt: skip
    """Run every sample; fills ``traces``, ``counts`` and, if wanted, ``raster``.

    ``width``: :data:`LANES`. ``begin``: all rows, one after another, as a sample begins: the blocks', then each further
    projection's. Synapses of neuron ``i`` in projection ``p``: ``first[p, i]`` to ``first[p, i + 1]`` in ``post``, the
    neuron they are to, and ``weight``; where ``dense[p]``, they are to all neurons in order, and ``post`` isn't read.
    """
    projections = len(delay)
    blocks = (neurons + LANES - 1) // LANES
    state = np.empty_like(begin)
    rows = state[: blocks * ROW].reshape(blocks, ROW)
    more = state[blocks * ROW :].reshape(max(0, projections - 1), blocks, MORE)
    longest = 1
    for p in range(projections):
        longest = max(longest, delay[p])
    fired, number = np.empty((longest, blocks * LANES), np.uint32), np.zeros(longest, np.int64)
    sums, flags = np.zeros(blocks * LANES, np.float32), np.zeros(blocks * LANES, np.uint8)
    for sample in range(len(J)):
        state[:] = begin
        number[:] = 0
        now = 0
        for t in range(J.shape[1]):
            if active[sample, t]:
                _put(rows, CURRENT, J[sample, t])
                for tick in range(ticks):
                    for p in range(projections):
                        slot = (now - delay[p]) % longest
                        if number[slot] == 0:
                            continue
                        sums[:] = 0
                        if dense[p]:
                            _deliver_rows(fired[slot, : number[slot]], first[p], weight, sums)
                        else:
                            _deliver(fired[slot, : number[slot]], first[p], post, weight, sums)
                        if p == 0:
                            _put(rows, ARRIVED, sums)
                        else:
                            _put(more[p - 1], MORE - LANES, sums)
                    _advance(rows, more, width, projections, subtract, limited, to_synapse, flags)
                    slot = now % longest
                    number[slot] = _list(flags.view(np.uint64), flags, fired[slot])
                    for i in fired[slot, : number[slot]]:
                        counts[sample, t, i] += 1
                        if with_raster:
                            raster[sample, t * ticks + tick, i] = True
                    now += 1
            _take(rows, TRACE, traces[sample, t])


@_compiled
def _deliver(fired: Array, first: Array, post: Array, weight: Array, sums: Array) -> None:
    """Add up, for every neuron, the weights from those that fired; eight synapses at a time, which LLVM unrolls."""
    for pre in fired:
        to, w = post[first[pre] : first[pre + np.uint32(1)]], weight[first[pre] : first[pre + np.uint32(1)]]
        eights = len(w) // 8
        for k in range(eights):
            for i in range(8):
                sums[to[8 * k + i]] += w[8 * k + i]
        for k in range(8 * eights, len(w)):
            sums[to[k]] += w[k]


@_compiled
def _deliver_rows(fired: Array, first: Array, weight: Array, sums: Array) -> None:
    """The same for weights to all neurons in order."""
    for pre in fired:
        w = weight[first[pre] : first[pre + np.uint32(1)]]
        for i in range(len(w)):
            sums[i] += w[i]


@_compiled
def _put(rows: Array, at: int, values: Array) -> None:
    """Write values of all neurons, into a variable of the rows."""
    for b in range(len(rows)):
        own = values[b * LANES : (b + 1) * LANES]
        for i in range(len(own)):
            rows[b, at + i] = own[i]


@_compiled
def _take(rows: Array, at: int, values: Array) -> None:
    """Read a variable of the rows."""
    for b in range(len(rows)):
        own = values[b * LANES : (b + 1) * LANES]
        for i in range(len(own)):
            own[i] = rows[b, at + i]


@_compiled
def _advance(
    rows: Array, more: Array, width: int, projections: int, subtract: bool, limited: bool, to_synapse: bool,
    flags: Array,
) -> None:  # fmt: skip
    """One tick of all neurons, after spikes have arrived; flags those that fire."""
    for b in range(len(rows)):
        if projections > 0:
            for i in range(width):
                rows[b, SYN + i] = rows[b, ALPHA + i] * rows[b, SYN + i] + rows[b, ARRIVED + i]
                rows[b, ARRIVED + i] = 0
            if to_synapse:
                for i in range(width):
                    rows[b, SYN + i] = rows[b, SYN + i] + rows[b, CURRENT + i]
            for i in range(width):
                rows[b, TOTAL + i] = rows[b, SYN + i]
        for p in range(projections - 1):
            for i in range(width):
                more[p, b, i] = more[p, b, LANES + i] * more[p, b, i] + more[p, b, 2 * LANES + i]
                more[p, b, 2 * LANES + i] = 0
                rows[b, TOTAL + i] = rows[b, TOTAL + i] + more[p, b, i]
        for i in range(width):
            rows[b, MEM + i] = rows[b, BETA + i] * rows[b, MEM + i] + rows[b, TOTAL + i]
        if not to_synapse:
            for i in range(width):
                rows[b, MEM + i] = rows[b, MEM + i] + rows[b, CURRENT + i]
        if limited:
            for i in range(width):
                rows[b, MEM + i] = min(max(rows[b, MEM + i], rows[b, FLOOR + i]), rows[b, CEILING + i])
        for i in range(width):
            rows[b, SPIKE + i] = rows[b, MEM + i] > rows[b, THRESHOLD + i]
        for i in range(width):
            flags[b * LANES + i] = rows[b, SPIKE + i] > 0
        if subtract:
            for i in range(width):
                rows[b, MEM + i] = rows[b, MEM + i] - rows[b, THRESHOLD + i] * rows[b, SPIKE + i]
        else:
            for i in range(width):
                rows[b, MEM + i] = np.float32(0) if rows[b, SPIKE + i] > 0 else rows[b, MEM + i]
        for i in range(width):
            rows[b, TRACE + i] = rows[b, KEEP + i] * rows[b, TRACE + i] + rows[b, SPIKE + i]


@_compiled
def _list(words: Array, flags: Array, fired: Array) -> int:
    """List the flagged neurons and return how many there are; ``words``: the flags, eight at a time."""
    number = 0
    for word in range(len(words)):
        if words[word]:
            for i in range(8 * word, 8 * word + 8):
                if flags[i]:
                    fired[number] = i
                    number += 1
    return number
