"""An executor for :func:`neurodeploy.ir.drive.drive` that lets any simulator run a :class:`SpikingNet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph
from neurodeploy.spiking.net import Activity, SpikingNet

#: ``simulate(net, x [batch, frames, inputs] whole numbers, active [batch, frames]) -> Activity``.
Simulator = Callable[[SpikingNet, np.ndarray, np.ndarray], Activity]


class NetEngine:
    """Whole blocks of frames of a spiking network; after a run ``activity`` holds what it did, on the inputs ``x``."""

    def __init__(self, net: SpikingNet, graph: Graph, simulate: Simulator) -> None:
        self.net, self._simulate = net, simulate
        self._input, self._output = next(iter(graph.inputs)), next(iter(graph.outputs))
        self.activity: Activity | None = None
        self.x: np.ndarray | None = None

    def reset(self, batch: int, init: Mapping[str, np.ndarray]) -> None:
        """Forget everything."""
        self.activity = None
        self._trace = np.zeros((batch, self.net.neurons), np.float32)

    def states(self) -> dict[str, np.ndarray]:
        """The traces after the last frame."""
        return {"trace": self._trace}

    def step(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Not offered: simulators run whole sequences."""
        raise UnsupportedError("a spiking simulator runs whole sequences, not steps.", hint="Leave out states=True.")

    def run_block(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Scores ``[batch, frames, outputs]`` of quantized inputs ``[batch, frames, inputs]``."""
        activity = self._simulate(self.net, inputs[self._input], active)
        self.activity, self.x = activity, inputs[self._input]
        if active.size:
            ends = np.maximum(active.sum(axis=1) - 1, 0)
            self._trace = activity.traces[np.arange(len(active)), ends]
        return {self._output: self.net.scores(activity.traces)}
