"""Running the ``.tflite`` files of a build in an interpreter: the same for every interpreter.

An interpreter takes part as an :class:`Engine` (four methods), and a runner as a function that makes one of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends.tflite.stage import stage_model
from neurodeploy.errors import UsageError
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
    """The steps of one stage, each an invocation of an engine at batch 1.

    ``start``: states whose first value is fed to the model; ``expose``: states that it gives back behind its outputs.
    Samples run one after another in one engine that is reset between them, or (:meth:`step`) each in its own.
    """

    def __init__(
        self,
        model: bytes,
        graph: Graph,
        make: MakeEngine,
        start: Sequence[str] = (),
        expose: Sequence[str] = (),
    ) -> None:
        self.graph = graph
        self.start, self.expose = tuple(start), tuple(expose)
        zero = not any(state.init is not None and np.any(graph.params[state.init].data) for state in graph.states)
        self._make = partial(make, model, zero)
        self._init: dict[str, Array] = {}
        self._states: dict[str, Array] = {}
        self._single: Engine | None = None
        self._streams: list[Engine] = []
        self._fresh: list[bool] = []
        self.batch = 0

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        """Every sample to its beginning; ``init`` holds the values of the states in ``start``."""
        self.batch = batch
        self._init = {name: np.ascontiguousarray(init[name]) for name in self.start}
        self._streams = []
        self._fresh = [True] * batch
        self._states = {}
        for state in self.graph.states:
            if state.name in self.expose:
                value = np.zeros((batch, *state.type.shape), state.type.numpy)
                if state.name in init:
                    value[:] = init[state.name]
                elif state.init is not None:
                    value[:] = self.graph.params[state.init].data
                self._states[state.name] = value

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """One step of the active samples, each in an interpreter of its own; the outputs of others are zero."""
        if not self._streams:
            self._streams = [self._make() for _ in range(self.batch)]
        made = self._outputs((self.batch,))
        for sample in map(int, np.nonzero(active)[0]):
            found = self._invoke(self._streams[sample], sample, {name: a[sample] for name, a in inputs.items()})
            for name, array in found.items():
                made[name][sample] = array
        return made

    def run_block(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """Many steps: sample by sample in one interpreter. ``inputs`` ``[B, K, ...]``, ``active`` ``[B, K]``."""
        made = self._outputs(active.shape)
        for sample in range(self.batch):
            engine = self._begin()
            for k in np.nonzero(active[sample])[0]:
                found = self._invoke(engine, sample, {name: a[sample, k] for name, a in inputs.items()})
                for name, array in found.items():
                    made[name][sample, k] = array
        return made

    def states(self) -> dict[str, Array]:
        """The exposed states as they stand, ``[B, ...]``."""
        return {name: array.copy() for name, array in self._states.items()}

    def _outputs(self, lead: tuple[int, ...]) -> dict[str, Array]:
        return {n: np.zeros((*lead, *t.shape), t.numpy) for n, t in self.graph.output_types().items()}

    def _begin(self) -> Engine:
        if self._single is None:
            self._single = self._make()
        else:
            self._single.reset()
        return self._single

    def _invoke(self, engine: Engine, sample: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = list(self.graph.inputs)
        for index, name in enumerate(names):
            engine.set_input(np.ascontiguousarray(inputs[name][None]), index)
        for index, name in enumerate(self.start, len(names)):
            engine.set_input(self._init[name][sample : sample + 1], index)
        if self.start:
            engine.set_input(np.array([self._fresh[sample]]), len(names) + len(self.start))
        engine.invoke()
        self._fresh[sample] = False
        count = len(self.graph.outputs)
        for index, name in enumerate(self.expose, count):
            self._states[name][sample] = engine.get_output(index)[0]
        return {name: engine.get_output(index)[0] for index, name in enumerate(self.graph.outputs)}


def run_artifact(
    artifact: Artifact,
    inputs: dict[str, np.ndarray],
    lengths: np.ndarray | None,
    make: MakeEngine,
    *,
    states: bool = False,
) -> Trace:
    """Run a build's ``.tflite`` files on a batch, every one in engines of that making.

    With ``states`` the same graphs run with every state as an output, since an interpreter's variables can't be read.
    Raises :class:`DataError` for data that don't fit, :class:`UsageError` for another backend's build.
    """
    if artifact.backend != "tflite":
        raise UsageError(f"is a build for '{artifact.backend}'; needed one for 'tflite'.", place=artifact.name)
    program = text.from_files(artifact.files, "program")
    return drive(program, inputs, lengths, partial(_executor, artifact, program, make, states), states=states)


def _executor(
    artifact: Artifact, program: Program, make: MakeEngine, states: bool, name: str, graph: Graph
) -> StepExecutor:
    layout = artifact.manifest["layout"]["stages"][name]
    if not states:
        return StepExecutor(artifact.files[layout["file"]], graph, make, layout["start"], layout["expose"])
    every = [state.name for state in graph.states]
    model = stage_model(graph, f"{program.name}/{name}", expose=every, start=layout["start"])
    return StepExecutor(model, graph, make, layout["start"], every)
