"""An n-level step program with its products run by events, in compiled loops: the fast reference of sigma-delta.

Each ``matmul(weights, v)`` whose v is sent keeps a sum of its own for each sample, to which ``weights[:, j] dv_j`` is
added for every element that changed since the last step of that sample. All other ops are the interpreter's. A step in
which a sample isn't active sends nothing. In a guarded region neurons go on following their vectors: what arrives there
is kept, not lost, so that the sum is right when the guard holds again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.errors import require
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.ir.op import Array, fit

WHY = "the compiled reference"


def products(graph: Graph, sent: Collection[str]) -> dict[str, tuple[str, str]]:
    """Name of each product that events deliver -> its weights (a param) and the sent vector."""
    return {
        value.name: (value.args[0], value.args[1])
        for value in graph.values
        if value.op == "matmul" and value.args[0] in graph.params and value.args[1] in sent
    }


def counted(program: Program, changes: Mapping[str, Array]) -> dict[str, Array]:
    """Changes by ``stage.value`` without those of states that are a sent value's, a step later: each event once."""
    later = {
        f"{stage.name}.{state.name}"
        for stage in program.stages
        for state in stage.graph.states
        if f"{stage.name}.{state.next}" in changes
    }
    return {name: found for name, found in changes.items() if name not in later}


def spikes(program: Program, changes: Mapping[str, Array]) -> Array:
    """Events of each sample in each step ``[batch, steps]``, over all stages, as many steps as the longest has."""
    rows = [np.count_nonzero(found, axis=2) for found in counted(program, changes).values()]
    total = np.zeros((len(rows[0]), max(row.shape[1] for row in rows)), np.int64)
    for row in rows:
        total[:, : row.shape[1]] += row
    return total


class _Receiver:
    """The sums of one product: what each sample last heard ``[batch, k]``, and its total ``[batch, m]``."""

    def __init__(self, weights: Array) -> None:
        self.weights = np.ascontiguousarray(weights.T.astype(np.int64))

    def reset(self, batch: int) -> None:
        k, m = self.weights.shape
        self.last, self.total = np.zeros((batch, k), np.int64), np.zeros((batch, m), np.int64)


def _deliver(level: Array, weights: Array, active: Array, last: Array, total: Array, events: Array) -> None:
    """The kernel in NumPy; in float64, which holds the sums exactly."""
    events[active] = level[active] - last[active]
    last += events
    total += (events.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)


def _compiled() -> Callable[..., None]:
    require("numba", "spiking", WHY)
    from neurodeploy.spiking.step_kernel import deliver

    return deliver


class StepEvents:
    """An executor for :func:`neurodeploy.ir.drive.drive`.

    After a run ``events`` holds the change of each sent value in each step, ``[batch, steps, n]``.
    """

    def __init__(self, graph: Graph, sent: Collection[str], *, compiled: bool = True) -> None:
        self._deliver = _compiled() if compiled else _deliver
        self._products = products(graph, sent)
        self._receivers = {name: _Receiver(graph.params[w].data) for name, (w, _) in self._products.items()}
        overrides = {name: partial(self._product, name) for name in self._products}
        self._steps = StepInterpreter(graph, overrides=overrides)
        self._now: dict[str, Array] = {}
        self._seen: list[dict[str, Array]] = []
        self._sizes = {v: graph.tensor(v).shape[0] for _, v in self._products.values()}
        self._batch = 0

    @property
    def events(self) -> dict[str, Array]:
        """Sent value -> its changes."""
        empty = np.zeros((self._batch, 0), np.int64)
        return {
            name: np.stack([step[name] for step in self._seen], 1)
            if self._seen
            else np.zeros((*empty.shape, size), np.int64)
            for name, size in self._sizes.items()
        }

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        """Every state to its start, every sum to nothing."""
        self._batch, self._seen = batch, []
        for receiver in self._receivers.values():
            receiver.reset(batch)
        self._steps.reset(batch, init)

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """One step of all samples."""
        self._active, self._now = np.asarray(active, bool), {}
        outputs = self._steps.step(inputs, active)
        self._seen.append(self._now)
        return outputs

    def states(self) -> dict[str, Array]:
        """The states as they stand."""
        return self._steps.states()

    def _product(self, name: str, args: list[Array]) -> Array:
        receiver, vector = self._receivers[name], self._products[name][1]
        level = np.ascontiguousarray(np.broadcast_to(args[1], (self._batch, args[1].shape[1])).astype(np.int64))
        events = np.zeros_like(level)
        self._deliver(level, receiver.weights, self._active, receiver.last, receiver.total, events)
        self._now[vector] = events
        return fit(receiver.total, "i32")


def run(
    program: Program, inputs: Mapping[str, Array], lengths: Array | None = None, *, states: bool = False,
    compiled: bool = True,
) -> tuple[Trace, dict[str, Array]]:  # fmt: skip
    """Run an n-level program on a batch: its trace, and the events of each sent value under ``stage.value``.

    ``compiled=False`` delivers events in NumPy. Raises :class:`MissingExtraError` without numba, :class:`DataError` for
    data that don't fit.
    """
    sent = program.meta["spiking"]["sent"]
    engines: dict[str, StepEvents] = {}

    def executor(stage: str, graph: Graph) -> StepEvents:
        engines[stage] = StepEvents(graph, sent.get(stage, ()), compiled=compiled)
        return engines[stage]

    trace = drive(program, inputs, lengths, executor, states=states)
    return trace, {f"{stage}.{name}": found for stage, e in engines.items() for name, found in e.events.items()}
