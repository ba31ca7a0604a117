"""The liquid in Brian2: every sample of a batch has its own copy of the neurons, side by side in one network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError, require
from neurodeploy.ir import fixed
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.op import fit
from neurodeploy.spiking.liquid import DECAY_BITS, Liquid

CHUNK = 128
#: Per tick: decay and integrate. ``floor(x + 0.5)`` of whole numbers below 2^53 times 2^-15 is exact in float64.
UPDATE = """
current = floor(current * synapse + 0.5)
v = clip(floor(v * membrane + 0.5) + current + drive(t, i), -threshold, 2 * threshold)
trace = floor(trace * synapse + 0.5)
"""


class LiquidEngine:
    """An executor for :func:`neurodeploy.ir.drive.drive`: whole blocks of frames in Brian2.

    After a run, ``spikes`` is ``[batch, frames, neurons]``, ``first`` ``[batch]`` the spikes of the very first tick.
    """

    codegen = "numpy"

    def __init__(self, liquid: Liquid, graph: Graph, dt_s: float) -> None:
        self.liquid, self.dt_s = liquid, dt_s
        self._output = next(iter(graph.outputs))
        self._input = next(iter(graph.inputs))
        self.spikes = self.first = self._trace = np.zeros((0, 0, liquid.neurons), np.int64)

    def reset(self, batch: int, init: Mapping[str, np.ndarray]) -> None:
        """Forget everything."""
        self.spikes = self.first = np.zeros((batch, 0, self.liquid.neurons), np.int64)
        self._trace = np.zeros((batch, self.liquid.neurons), np.int64)

    def states(self) -> dict[str, np.ndarray]:
        """The traces after the last frame."""
        return {"trace": self._trace.astype(np.int32)}

    def step(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Not offered: Brian2 runs whole sequences."""
        raise UnsupportedError("Brian2 runs whole sequences, not steps.", hint="Leave out states=True.")

    def run_block(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Scores ``[batch, frames, outputs]`` of quantized inputs ``[batch, frames, inputs]``."""
        x = inputs[self._input]
        if not x.size:
            return {self._output: np.zeros((*active.shape, len(self.liquid.readout_bias)), np.int32)}
        parts = [self._simulate(x[at : at + CHUNK], active[at : at + CHUNK]) for at in range(0, len(x), CHUNK)]
        traces, self.spikes, self.first = (np.concatenate(column) for column in zip(*parts, strict=True))
        ends = np.maximum(active.sum(axis=1) - 1, 0)
        self._trace = traces[np.arange(len(x)), ends]
        weights = self.liquid.readout.T.astype(np.int64)
        scores = fixed.matmul(traces.reshape(-1, traces.shape[2]), weights[None]).astype(np.int64)
        return {self._output: fit(scores.reshape(*active.shape, -1) + self.liquid.readout_bias, "i32")}

    def _simulate(self, x: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Traces after each frame and spikes in it ``[batch, frames, neurons]``; spikes of tick one ``[batch]``."""
        b2 = require("brian2", "spiking", "the target's simulator")
        batch, frames = active.shape
        n, ticks, liquid = self.liquid.neurons, self.liquid.ticks, self.liquid
        dt = self.dt_s * b2.second
        J = liquid.current(x).transpose(1, 0, 2).reshape(frames, batch * n).astype(np.float64)
        space: dict[str, Any] = {
            # One frame more, for the tick in which the last frame's traces are read.
            "drive": b2.TimedArray(np.concatenate([J, np.zeros((1, batch * n))]), dt=ticks * dt),
            "synapse": liquid.synapse / 2**DECAY_BITS,
            "membrane": liquid.membrane / 2**DECAY_BITS,
            "threshold": float(liquid.threshold),
            "trace_step": float(liquid.trace_step),
        }
        old = b2.prefs.codegen.target
        b2.prefs.codegen.target = self.codegen
        try:
            monitors = self._network(b2, batch, dt, ticks, space, frames)
        finally:
            b2.prefs.codegen.target = old
        recorded, spike_ticks, spike_neurons = monitors
        traces = recorded[:, 1:].reshape(batch, n, frames).transpose(0, 2, 1)
        spikes = np.zeros((batch, frames, n), np.int64)
        sample, neuron = spike_neurons // n, spike_neurons % n
        frame = spike_ticks // ticks
        kept = (frame < frames) & active[sample, np.minimum(frame, frames - 1)]
        np.add.at(spikes, (sample[kept], frame[kept], neuron[kept]), 1)
        first = np.bincount(sample[kept & (spike_ticks == 0)], minlength=batch)
        return np.rint(traces).astype(np.int64), spikes, first

    def _network(
        self, b2: Any, batch: int, dt: Any, ticks: int, space: dict[str, Any], frames: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Build and run; traces ``[neurons, frames + 1]`` (the first before all), and each spike's tick and neuron.

        Brian2 runs objects of one slot in the order of their ``order``, then of their *names*: so ``order`` is given
        wherever two share a slot. Reading the traces comes before the first update of a frame.
        """
        n = self.liquid.neurons
        clock = b2.Clock(dt)
        neurons = b2.NeuronGroup(
            batch * n, "v : 1\ncurrent : 1\ntrace : 1", threshold="v >= threshold",
            reset="v -= threshold\ntrace += trace_step", namespace=space, clock=clock, order=0,
        )  # fmt: skip
        update = neurons.run_regularly(UPDATE, clock=clock, when="start", order=1)
        post, pre = np.nonzero(self.liquid.weights)
        offsets = (np.arange(batch) * n)[:, None]
        synapses = b2.Synapses(neurons, neurons, "w : 1", on_pre="current_post += w", clock=clock, order=0)
        synapses.connect(i=(offsets + pre).ravel(), j=(offsets + post).ravel())
        synapses.w = np.tile(self.liquid.weights[post, pre], batch).astype(np.float64)
        record = b2.StateMonitor(neurons, "trace", record=True, dt=ticks * dt, when="start", order=0)
        spikes = b2.SpikeMonitor(neurons, when="after_thresholds", order=1)
        network = b2.Network(neurons, update, synapses, record, spikes)
        network.run((frames * ticks + 1) * dt)
        spike_ticks = np.rint(np.asarray(spikes.t / dt)).astype(np.int64)
        return np.asarray(record.trace), spike_ticks, np.asarray(spikes.i).astype(np.int64)
