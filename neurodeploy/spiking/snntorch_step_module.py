"""A step of an n-level program as a ``torch.nn.Module``: snnTorch's neurons send changes, ``nn.Linear`` delivers them.

Importing this needs torch and snntorch.

All numbers are whole and below 2^53, in float64 tensors: every op is exact, whatever the order of its sums, as the
multipliers of ``requantize`` have at most 20 significant bits (:mod:`neurodeploy.passes.spiking`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import snntorch
import torch
from torch import Tensor, nn

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.types import TensorType
from neurodeploy.spiking.step_events import products


class SigmaDeltaNeuron(snntorch.SpikingNeuron):
    """Sends the change of its level: ``forward(level, sent) -> events``, each ``[batch, units]``.

    ``level``: where the unit stands; ``sent``: the level that its receivers know. An event is graded: 0 for none, else
    how many levels up or down.
    """

    def __init__(self) -> None:
        super().__init__(reset_mechanism="none", surrogate_disable=True)
        snntorch.SpikingNeuron.instances.remove(self)  # it keeps every neuron ever made, for init_hidden

    def forward(self, level: Tensor, sent: Tensor) -> Tensor:
        return self.fire(level, sent)

    def fire(self, level: Tensor, sent: Tensor) -> Tensor:  # type: ignore[override]
        """How far the level is from what was sent."""
        return level - sent


class StepModule(nn.Module):
    """One step: ``forward(inputs, states, active) -> table`` of every value's tensor ``[batch or 1, ...]``.

    ``synapses``: a ``nn.Linear`` for each product that events deliver; ``neurons``: one population for each.
    """

    def __init__(self, graph: Graph, sent: Collection[str], place: str = "") -> None:
        from neurodeploy.spiking.snntorch_ops import OPS

        super().__init__()
        self.ops = OPS
        self.graph, self.types = graph, graph.types()
        for value in graph.values:
            _check(value, OPS, place)
        self.products = products(graph, sent)
        self.index = {name: str(i) for i, name in enumerate(self.products)}  # module names take no dots
        self.synapses, self.neurons = nn.ModuleDict(), nn.ModuleDict()
        for name, (weights, _) in self.products.items():
            self.synapses[self.index[name]] = linear(graph.params[weights].data)
            self.neurons[self.index[name]] = SigmaDeltaNeuron()
        used = {a for v in graph.values if v.name not in self.products for a in v.args}
        delivered = {weights for weights, _ in self.products.values()}
        self.constants = {
            n: tensor_of(p.data[None]) for n, p in graph.params.items() if n not in delivered or n in used
        }
        self.events: dict[str, Tensor] = {}

    def reset(self, batch: int) -> None:
        """Nothing was sent yet."""
        self.sent = {n: torch.zeros(batch, self._linear(n).in_features, dtype=torch.float64) for n in self.products}
        self.sums = {n: torch.zeros(batch, self._linear(n).out_features, dtype=torch.float64) for n in self.products}

    def forward(self, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor], active: Tensor) -> dict[str, Tensor]:
        table: dict[str, Tensor] = {**self.constants, **inputs, **states}
        self.events = {}
        for value in self.graph.values:
            if value.name in self.products:
                table[value.name] = self._product(value.name, table[value.args[1]], active)
                continue
            args = [table[a] for a in value.args]
            table[value.name] = self.ops[value.op](args, value.attrs, value.tensor, [self.types[a] for a in value.args])
        return table

    def _linear(self, name: str) -> Any:
        return self.synapses[self.index[name]]

    def _product(self, name: str, level: Tensor, active: Tensor) -> Tensor:
        events = self.neurons[self.index[name]](level, self.sent[name])
        events = torch.where(active[:, None], events, 0.0)
        self.events[self.products[name][1]] = events
        self.sent[name] = self.sent[name] + events
        self.sums[name] = self.sums[name] + self._linear(name)(events)
        return self.sums[name]


def linear(weights: np.ndarray) -> nn.Linear:
    """Weights [m, k] as a layer without bias, float64."""
    made = nn.Linear(weights.shape[1], weights.shape[0], bias=False, dtype=torch.float64)
    made.weight.data = torch.from_numpy(weights.astype(np.float64))
    return made.requires_grad_(False)


def tensor_of(array: np.ndarray) -> Tensor:
    """Whole numbers as float64, conditions as bool."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array.copy() if array.dtype == np.bool_ else array.astype(np.float64))


def _check(value: Value, known: Collection[str], place: str) -> None:
    """Raise :class:`UnsupportedError` naming a value whose op has no exact form here."""
    if value.op not in known or value.body is not None or not isinstance(value.type, TensorType):
        raise UnsupportedError(
            f"%{value.name} ({value.op}) has no form in whole numbers of float64.",
            place=place,
            hint="Run it with the runner reference, or compile the network for a board.",
        )


class StepEngine:
    """An executor for :func:`neurodeploy.ir.drive.drive` on a :class:`StepModule`.

    After a run ``events`` holds the change of each sent value in each step, ``[batch, steps, n]``.
    """

    def __init__(self, graph: Graph, sent: Collection[str], place: str = "") -> None:
        self.graph = graph
        self.module = StepModule(graph, sent, place)
        self._starts = {s.name: graph.params[s.init].data if s.init else None for s in graph.states}
        self._seen: list[dict[str, Tensor]] = []
        self._batch = 0

    def reset(self, batch: int, init: Mapping[str, np.ndarray]) -> None:
        """Every state to ``init``, its param, or zeros."""
        self._batch, self._seen = batch, []
        self._states: dict[str, Tensor] = {}
        for state in self.graph.states:
            start = init.get(state.name)
            if start is None:
                own = self._starts[state.name]
                start = np.zeros(state.type.shape, state.type.numpy) if own is None else own
                start = start[None]
            self._states[state.name] = tensor_of(np.broadcast_to(start, (batch, *state.type.shape)))
        self.module.reset(batch)

    def step(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """One step of all samples; states of samples that aren't active hold."""
        on = torch.from_numpy(np.ascontiguousarray(active, bool))
        table = self.module({n: tensor_of(a) for n, a in inputs.items()}, self._states, on)
        self._seen.append(dict(self.module.events))
        new = {}
        for state in self.graph.states:
            moves = on
            if state.when is not None:
                moves = moves & table[state.when].expand(self._batch)
            mask = moves.reshape(-1, *(1,) * len(state.type.shape))
            new[state.name] = torch.where(mask, table[state.next], self._states[state.name])
        self._states = new
        types = self.graph.output_types()
        return {
            out: array_of(table[name].expand(self._batch, *types[out].shape), types[out])
            for out, name in self.graph.outputs.items()
        }

    def states(self) -> dict[str, np.ndarray]:
        """The states as they stand."""
        return {s.name: array_of(self._states[s.name], s.type) for s in self.graph.states}

    @property
    def events(self) -> dict[str, np.ndarray]:
        """Sent value -> its changes."""
        sizes = {vector: self.module._linear(name).in_features for name, (_, vector) in self.module.products.items()}
        if not self._seen:
            return {vector: np.zeros((self._batch, 0, size), np.int64) for vector, size in sizes.items()}
        return {v: torch.stack([step[v] for step in self._seen], 1).numpy().astype(np.int64) for v in sizes}


def array_of(tensor: Tensor, type_: TensorType) -> np.ndarray:
    """A tensor as the array that the interpreter would give."""
    return tensor.numpy().astype(type_.numpy)
