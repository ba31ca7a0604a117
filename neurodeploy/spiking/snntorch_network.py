"""Sigma-delta neurons in snnTorch: weights are ``torch.nn.Linear``, the neuron is a ``snntorch.SpikingNeuron``.

Tensors are float64 and hold whole numbers below 2^53 only, so that every operation on them is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.errors import require
from neurodeploy.ir.graph import Graph
from neurodeploy.spiking.sigma_delta import LEVEL_LIMIT, SigmaDelta

WHY = "the target's simulator"


def neuron_class() -> Any:
    """The class of the neuron, a ``snntorch.SpikingNeuron``; made when asked for, as its base is optional."""
    torch, snntorch = require("torch", "spiking", WHY), require("snntorch", "spiking", WHY)

    class SigmaDeltaNeuron(snntorch.SpikingNeuron):
        """Sends the change of its level: ``forward(z, mem, sent) -> events, mem', sent'``, each ``[batch, units]``.

        ``z``: input to the table of f; ``mem``: what the level is of, f or with a leak of the unit's own h; ``sent``:
        the level that receivers know. An event is graded: 0 for none, else the number of levels up or down.
        """

        def __init__(self, layer: SigmaDelta) -> None:
            super().__init__(reset_mechanism="none", surrogate_disable=True)
            leak = layer.leak_mult * 2.0 ** (layer.leak_pre - 32) if layer.leak_at == "unit" else np.ones(1)
            per_level = layer.level_mult * 2.0 ** (layer.level_pre - 32)
            for name, array in {"table": layer.table, "leak": leak, "per_level": per_level}.items():
                self.register_buffer(name, torch.as_tensor(array.astype(np.float64)))

        def forward(self, z: Any, mem: Any, sent: Any) -> tuple[Any, Any, Any]:
            mem = (mem + torch.floor((self._f(z) - mem) * self.leak + 0.5)).clamp(-32768, 32767)
            events = self.fire(mem, sent)
            return events, mem, sent + events

        def fire(self, mem: Any, sent: Any) -> Any:  # type: ignore[override]
            """How far the state's level is from what was sent."""
            level = torch.floor(mem * self.per_level + 0.5)
            return level.clamp(-LEVEL_LIMIT, LEVEL_LIMIT - 1) - sent

        def _f(self, z: Any) -> Any:
            """The table, linear between its 513 knots."""
            place = z + 32768
            knot = torch.floor(place / 128)
            part, at = place - 128 * knot, knot.long()
            return torch.floor((self.table[at] * (128 - part) + self.table[at + 1] * part + 64) / 128)

    return SigmaDeltaNeuron


class SigmaDeltaEngine:
    """An executor for :func:`neurodeploy.ir.drive.drive`: steps in snnTorch, on batches.

    After a run, ``events`` is ``[batch, steps, units]``: the graded events that were sent.
    """

    def __init__(self, layer: SigmaDelta, graph: Graph) -> None:
        torch, snntorch = require("torch", "spiking", WHY), require("snntorch", "spiking", WHY)
        self.torch, self.layer = torch, layer
        self._input, self._output = next(iter(graph.inputs)), next(iter(graph.outputs))
        self._types = {state.name: state.type for state in graph.states}
        self.neuron = neuron_class()(layer)
        snntorch.SpikingNeuron.instances.remove(self.neuron)  # snnTorch keeps every neuron ever made, for init_hidden
        self.feed, self.recurrent, self.readout = (self._linear(w) for w in (layer.W, layer.U, layer.V))
        self.events = np.zeros((0, 0, len(layer.bias)), np.int64)
        self._state: dict[str, Any] = {}

    def _linear(self, weights: np.ndarray) -> Any:
        linear = self.torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False, dtype=self.torch.float64)
        linear.weight.data = self.torch.as_tensor(weights.astype(np.float64))
        return linear.requires_grad_(False)

    def reset(self, batch: int, init: Mapping[str, np.ndarray]) -> None:
        """All states and received sums to zero."""
        units, outputs = len(self.layer.bias), len(self.layer.c)
        sizes = {"mem": units, "sent": units, "U k": units, "V k": outputs, "recurrent": units, "readout": outputs}
        self._state = {key: self.torch.zeros(batch, size, dtype=self.torch.float64) for key, size in sizes.items()}
        self.events = np.zeros((batch, 0, units), np.int64)

    def step(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """One step of quantized inputs ``[batch, inputs]``; samples that aren't active keep still."""
        torch, layer, old = self.torch, self.layer, self._state
        x = torch.as_tensor(inputs[self._input].astype(np.float64))
        current = self.feed(x) + torch.as_tensor(layer.bias.astype(np.float64))
        z = _requantize(torch, current, layer.in_mult, layer.in_pre)
        recurrent = self._leaky(old["recurrent"], old["U k"])
        z = z + _requantize(torch, recurrent, layer.rec_mult, layer.rec_pre)
        events, mem, sent = self.neuron(z.clamp(-32768, 32767), old["mem"], old["sent"])
        moves = torch.as_tensor(active)[:, None]
        events = torch.where(moves, events, 0.0)
        readout = old["V k"] + self.readout(events)
        new = {
            "mem": mem,
            "sent": sent,
            "U k": old["U k"] + self.recurrent(events),
            "V k": readout,
            "recurrent": recurrent,
            "readout": self._leaky(old["readout"], readout),
        }
        self._state = {key: torch.where(moves, tensor, old[key]) for key, tensor in new.items()}
        self.events = np.concatenate([self.events, events.numpy().astype(np.int64)[:, None]], axis=1)
        scores = self._state["readout"].numpy().astype(np.int64) + layer.c
        return {self._output: scores.astype(np.int32)}

    def _leaky(self, old: Any, total: Any) -> Any:
        """A receiver's sum of events, leaky where the layer leaks there."""
        if self.layer.leak_at != "receiver":
            return total
        return old + _requantize(self.torch, total - old, int(self.layer.leak_mult[0]), self.layer.leak_pre)

    def states(self) -> dict[str, np.ndarray]:
        """The program's states, ``[batch, units]``."""
        arrays = {name: self._state.get(name, self._state["mem"]) for name in self._types}
        arrays.update({name: self._state["sent"] for name, type_ in self._types.items() if type_.dtype == "i8"})
        return {name: tensor.numpy().astype(self._types[name].numpy) for name, tensor in arrays.items()}


def _requantize(torch: Any, x: Any, mult: int, pre: int) -> Any:
    """``floor(x mult 2^(pre-32) + 1/2)`` through int64: the product may pass 2^53."""
    return ((x.long() << pre) * mult + (1 << 31) >> 32).double()
