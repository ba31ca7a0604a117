"""The fast reference: a spiking network in compiled, event-driven loops, bit for bit what :mod:`.net` defines.

Synaptic currents and membranes are updated elementwise, in the order that the definition writes; spikes are delivered
through lists (from -> to) of the neurons that fired, into sums that are exact in any order. A projection's delay is
read from a ring of those lists. Samples are independent, so they may run in several threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from neurodeploy.errors import require
from neurodeploy.spiking.net import Activity, SpikingNet

WHY = "runs spiking networks in compiled loops"
#: Connections from which on it is faster to add a row of weights, zeros and all, than to follow a list.
DENSE = 0.2
#: Samples that a thread runs at a time: few, so that their input currents stay in the caches.
PART = 4


class Reference:
    """A network laid out for the loops once, to run on many inputs."""

    def __init__(self, net: SpikingNet) -> None:
        """Raises :class:`MissingExtraError` without numba."""
        require("numba", "spiking", WHY)
        from neurodeploy.spiking import reference_kernel

        self.net, self._kernel = net, reference_kernel
        self._constants = (
            net.ticks, net.neurons, reference_kernel.LANES, net.reset == "subtract", net.limited,
            net.input_to == "synapse", self._rows(), np.array([p.delay for p in net.projections], np.int64),
            *self._synapses(),
        )  # fmt: skip

    def __call__(self, x: np.ndarray, active: np.ndarray, *, raster: bool = False, threads: int = 1) -> Activity:
        """Run quantized inputs ``[batch, frames, inputs]``, in the frames ``[batch, frames]`` that run."""
        net = self.net
        batch, frames = active.shape
        active = np.require(active, bool, ["C", "W"])
        traces, counts = (np.zeros((batch, frames, net.neurons), kind) for kind in (np.float32, np.int32))
        fired_at = np.zeros((batch, frames * net.ticks, net.neurons) if raster else (batch, 0, 0), bool)

        def part(first: int) -> None:
            of = slice(first, first + PART)
            J = np.require(net.current(x[of]), requirements=["C", "W"])
            self._kernel.run(J, active[of], *self._constants, traces[of], counts[of], fired_at[of], raster)

        with ThreadPoolExecutor(threads) as pool:
            list((pool.map if threads > 1 else map)(part, range(0, batch, PART)))
        return Activity(traces, counts, fired_at if raster else None)

    def _rows(self) -> np.ndarray:
        """The kernel's rows as a sample begins; what fills the last block up never fires."""
        k, net = self._kernel, self.net
        blocks = -(-net.neurons // k.LANES)
        rows = np.zeros((blocks, k.ROW), np.float32)
        for at, values, rest in (
            (k.MEM, net.start, 0), (k.BETA, net.beta, 0), (k.THRESHOLD, net.threshold, float(np.finfo(np.float32).max)),
            (k.KEEP, net.keep, 0), (k.FLOOR, net.floor, 0), (k.CEILING, net.ceiling, 0),
        ):  # fmt: skip
            rows[:, at : at + k.LANES] = self._blocks(values, rest)
        alphas = [self._blocks(np.broadcast_to(p.alpha, net.neurons), 0) for p in net.projections]
        further = np.zeros((max(0, len(alphas) - 1), blocks, k.MORE), np.float32)
        for p, alpha in enumerate(alphas):
            (rows if p == 0 else further[p - 1])[:, (k.ALPHA if p == 0 else k.LANES) :][:, : k.LANES] = alpha
        return np.concatenate([rows.ravel(), further.ravel()])

    def _blocks(self, values: np.ndarray, rest: float) -> np.ndarray:
        """Values of all neurons as ``[blocks, lanes]``."""
        lanes = self._kernel.LANES
        padded = np.full(-(-len(values) // lanes) * lanes, rest, np.float32)
        padded[: len(values)] = values
        return padded.reshape(-1, lanes)

    def _synapses(self) -> tuple[np.ndarray, ...]:
        """dense bool[p], first i64[p, n + 1], and of each synapse, by the neuron it comes from: to which, weight."""
        n, count = self.net.neurons, len(self.net.projections)
        index = np.uint16 if n <= 2**16 else np.uint32
        dense, first = np.zeros(count, bool), np.zeros((count, n + 1), np.int64)
        post, weight, at = [np.zeros(0, index)], [np.zeros(0, np.float32)], 0
        for p, projection in enumerate(self.net.projections):
            by_source = np.ascontiguousarray(projection.weights.T, np.float32)
            there = by_source != 0
            dense[p] = there.mean() > DENSE
            if dense[p]:
                there[:] = True
            first[p, 0] = at
            first[p, 1:] = at + np.cumsum(there.sum(axis=1))
            at = int(first[p, -1])
            post.append(np.nonzero(there)[1].astype(index))
            weight.append(by_source[there])
        return dense, first, np.concatenate(post), np.concatenate(weight)


def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray, *, raster: bool = False, **options: Any) -> Activity:
    """What :func:`neurodeploy.spiking.net.simulate` gives; ``threads`` don't change it. See :class:`Reference`."""
    return Reference(net)(x, active, raster=raster, **options)
