"""Running the ``.tflite`` files of a build in an interpreter: the same for every interpreter.

An interpreter takes part as an :class:`Engine` (four methods), and a runner as a function that makes one of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends.tflite.stage import Call, begins_reset, first, stage_model
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.op import Array


class Engine(Protocol):
    """One interpreter of one model. Tensors are counted in the order of subgraph 0's inputs and outputs."""

    def set_input(self, array: Array, index: int) -> None:
        """Copy an array of the tensor's shape and dtype into an input."""
        ...

    def invoke(self) -> None:
        """Run the model once. Raises :class:`DeviceError` if the interpreter fails."""
        ...

    def get_output(self, index: int) -> Array:
        """An output as it stands after :meth:`invoke`; a copy."""
        ...

    def reset(self) -> None:
        """Back to before the first :meth:`invoke`: every variable at its first value, also one that isn't zero."""
        ...


#: Makes an engine of a model's bytes; ``zero`` says that every variable starts at zeros.
MakeEngine = Callable[[bytes, bool], Engine]


class StepExecutor:
    """The steps of one stage, in invocations of an engine at batch 1, each of as many steps as the model's call takes.

    Samples run one after another in one engine that is reset between them, or (:meth:`step`) each in its own. A sample
    whose steps don't fill the last call is fed its last step again; what comes of that is dropped.
    """

    def __init__(self, model: bytes, graph: Graph, make: MakeEngine, call: Call) -> None:
        self.graph, self.call = graph, call
        zero = all(begins_reset(graph, state) for state in graph.states)
        self._make = partial(make, model, zero)
        self._states: dict[str, Array] = {}
        self._begun: dict[str, Array] = {}
        self._trail: dict[str, Array] = {}
        self._single: Engine | None = None
        self._streams: list[Engine] = []
        self._fresh: list[bool] = []
        self.batch = 0

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        """Every sample to its beginning; ``init`` holds the values of states that begin elsewhere."""
        self.batch = batch
        self._streams = []
        self._fresh = [True] * batch
        self._states = {}
        for state in self.graph.states:
            value = np.empty((batch, *state.type.shape), state.type.numpy)
            value[:] = init[state.name] if state.name in init else first(self.graph, state)
            self._states[state.name] = value
        self._begun = {name: array.copy() for name, array in self._states.items()}

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """One step of the active samples, each in an interpreter of its own; the outputs of others are zero."""
        if not self._streams:
            self._streams = [self._make() for _ in range(self.batch)]
        made = self._outputs((self.batch,))
        for sample in map(int, np.nonzero(active)[0]):
            rows = {name: a[sample : sample + 1] for name, a in inputs.items()}
            for name, array in self._invoke(self._streams[sample], sample, rows)[0].items():
                made[name][sample] = array[0]
        return made

    def run_block(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """Many steps: sample by sample in one interpreter. ``inputs`` ``[B, K, ...]``, ``active`` ``[B, K]``."""
        made = self._outputs(active.shape)
        self._trail = {}
        for state in self.graph.states:
            if state.name in self.call.expose:
                self._trail[state.name] = np.empty((*active.shape, *state.type.shape), state.type.numpy)
        for sample in range(self.batch):
            engine = self._begin()
            running = np.nonzero(active[sample])[0]
            trail = {name: self._states[name][sample : sample + 1].copy() for name in self._trail}
            for start in range(0, len(running), self.call.steps):
                steps = running[start : start + self.call.steps]
                found, states = self._invoke(engine, sample, {name: a[sample, steps] for name, a in inputs.items()})
                for name, array in found.items():
                    made[name][sample, steps] = array
                for name, array in trail.items():
                    trail[name] = np.concatenate([array, states[name]])
            for name, array in trail.items():
                self._trail[name][sample] = array[np.cumsum(active[sample])]
        return made

    def block_states(self) -> dict[str, Array]:
        """The exposed states after every step of the last :meth:`run_block`, ``[B, K, ...]``."""
        return self._trail

    def states(self) -> dict[str, Array]:
        """The exposed states as they stand, ``[B, ...]``."""
        return {name: self._states[name].copy() for name in self.call.expose}

    def set_states(self, states: Mapping[str, Array]) -> None:
        """Every state, ``[B, ...]``, of a model whose states are inputs and outputs."""
        self._states = {name: array.copy() for name, array in states.items()}

    def held_states(self) -> dict[str, Array]:
        """Every state as it stands, ``[B, ...]``, of a model whose states are inputs and outputs."""
        return {name: array.copy() for name, array in self._states.items()}

    def _outputs(self, lead: tuple[int, ...]) -> dict[str, Array]:
        return {n: np.zeros((*lead, *t.shape), t.numpy) for n, t in self.graph.output_types().items()}

    def _begin(self) -> Engine:
        if self._single is None:
            self._single = self._make()
        else:
            self._single.reset()
        return self._single

    def _invoke(
        self, engine: Engine, sample: int, inputs: Mapping[str, Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """One call on inputs ``[n, ...]`` of at most the call's steps: outputs and exposed states, ``[n, ...]``."""
        count = len(next(iter(inputs.values()))) if inputs else 1
        for index, array in enumerate(self._fed(sample, inputs)):
            engine.set_input(np.ascontiguousarray(array), index)
        engine.invoke()
        self._fresh[sample] = False
        types = self.graph.output_types()
        found = {}
        for index, (name, type_) in enumerate(types.items()):
            found[name] = engine.get_output(index).reshape(self.call.steps, *type_.shape)[:count]
        place, states = len(types), {}
        if self.call.state == "io":
            for state in self.graph.states:
                states[state.name] = engine.get_output(place)
                self._states[state.name][sample] = states[state.name][0]
                place += 1
        for index, name in enumerate(self.call.shown, place):
            states[name] = engine.get_output(index)[:count]
            self._states[name][sample] = states[name][-1]
        return found, states

    def _fed(self, sample: int, inputs: Mapping[str, Array]) -> Iterator[Array]:
        """What the model's inputs get, in order."""
        for name in self.graph.inputs:
            array, steps = inputs[name], self.call.steps
            if steps == 1 or name not in self.call.series:
                yield array[:1]
            else:
                yield np.concatenate([array, np.repeat(array[-1:], steps - len(array), axis=0)])
        if self.call.state == "io":
            for state in self.graph.states:
                yield self._states[state.name][sample : sample + 1]
        elif self.call.start:
            for name in self.call.start:
                yield self._begun[name][sample : sample + 1]
            yield np.array([self._fresh[sample]])


def run_artifact(
    artifact: Artifact,
    inputs: dict[str, np.ndarray],
    lengths: np.ndarray | None,
    make: MakeEngine,
    *,
    states: bool = False,
    small: bool = True,
) -> Trace:
    """Run a build's ``.tflite`` files on a batch, every one in engines of that making.

    With ``states`` the same graphs run with every state as an output, since an interpreter's variables can't be read.
    ``small=False``: the engines don't take the small files that ``optimize="size"`` makes; the same graphs run whole.
    Raises :class:`DataError` for data that don't fit.
    """
    program = text.from_files(artifact.files, "program")
    return drive(program, inputs, lengths, partial(_executor, artifact, program, make, states, small), states=states)


def _executor(
    artifact: Artifact, program: Program, make: MakeEngine, states: bool, small: bool, name: str, graph: Graph
) -> StepExecutor:
    layout = artifact.manifest["layout"]["stages"][name]
    call = Call.of(layout)
    model = artifact.files[layout["file"]]
    if states or (call.small and not small):
        shown = tuple(state.name for state in graph.states) if states else call.expose
        call = replace(call, expose=shown, small=call.small and small)
        model = stage_model(graph, f"{program.name}/{name}", call=call)
    return StepExecutor(model, graph, make, call)
