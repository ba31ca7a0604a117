"""The fast reference: a spiking network in compiled, event-driven loops, bit for bit what :mod:`.net` defines.

Synaptic currents and membranes are updated elementwise, neuron by neuron as the definition writes them; spikes are
delivered through lists (from -> to) of the neurons that fired, into sums that are exact in any order. A projection's
delay is read from a ring of those lists. Samples are independent, so they may run in several threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from neurodeploy.errors import require
from neurodeploy.spiking.net import Activity, SpikingNet

WHY = "runs spiking networks in compiled loops"


def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray, *, raster: bool = False, threads: int = 1) -> Activity:
    """What :func:`neurodeploy.spiking.net.simulate` gives, at any number of threads: quantized inputs
    ``[batch, frames, inputs]``, which frames run ``[batch, frames]``.

    Raises :class:`MissingExtraError` without numba.
    """
    require("numba", "spiking", WHY)
    from neurodeploy.spiking.reference_kernel import run

    batch, frames = active.shape
    n = net.neurons
    J = np.ascontiguousarray(net.current(x))
    active = np.ascontiguousarray(active, bool)
    traces, counts = np.empty((batch, frames, n), np.float32), np.zeros((batch, frames, n), np.int32)
    fired_at = np.zeros((batch, frames * net.ticks, n) if raster else (batch, 0, 0), bool)
    constants = (
        net.ticks, net.beta, net.threshold, net.start, net.reset == "subtract", net.floor, net.ceiling, net.limited,
        net.input_to == "synapse", net.keep, *_synapses(net),
    )  # fmt: skip

    def part(of: slice) -> None:
        run(J[of], active[of], *constants, traces[of], counts[of], fired_at[of], raster)

    bounds = np.linspace(0, batch, max(1, min(threads, batch)) + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    if len(parts) == 1:
        part(parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(part, parts))
    return Activity(traces, counts, fired_at if raster else None)


def _synapses(net: SpikingNet) -> tuple[np.ndarray, ...]:
    """alpha f32[p, n], delay i64[p], first i64[p, n + 1]; of each synapse, by the neuron it comes from: to, weight."""
    n = net.neurons
    alpha = np.array([np.broadcast_to(p.alpha, n) for p in net.projections], np.float32).reshape(-1, n)
    delay = np.array([p.delay for p in net.projections], np.int64)
    first = np.zeros((len(net.projections), n + 1), np.int64)
    post, weight, at = [np.zeros(0, np.uint32)], [np.zeros(0, np.float32)], 0
    for row, p in zip(first, net.projections, strict=True):
        pre, to = np.nonzero(p.weights.T)
        row[:] = at + np.searchsorted(pre, np.arange(n + 1))
        at += len(pre)
        post.append(to.astype(np.uint32))
        weight.append(p.weights[to, pre].astype(np.float32))
    return alpha, delay, first, np.concatenate(post), np.concatenate(weight)
