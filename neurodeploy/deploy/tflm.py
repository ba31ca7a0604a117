"""Running a tflite artifact in the TFLite Micro interpreter of the ``tflite-micro`` wheel: the device's own kernels."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends.tflite.stage import stage_model
from neurodeploy.errors import DeviceError, UsageError, require
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.op import Array

#: An arena too small makes the interpreter crash rather than complain, so they are generous.
ROOMY = 1 << 20


def interpreter(model: bytes, arena: int) -> Any:
    """An interpreter with an arena of that many bytes. Raises :class:`MissingExtraError`, :class:`DeviceError`."""
    runtime = require("tflite_micro", "tflite", "running .tflite").runtime
    try:
        return runtime.Interpreter.from_bytes(model, arena_size=arena)
    except RuntimeError as error:
        raise DeviceError(f"TFLite Micro refused the model: {error}.") from error


def arena_bytes(model: bytes) -> int:
    """Bytes of the arena that the model uses, as the interpreter's recording allocator says after one step.

    The wheel is a 64-bit build; a 32-bit device uses less, and needs some more while it plans. Raises
    :class:`DeviceError` if the model doesn't run.
    """
    engine = interpreter(model, ROOMY + 10 * len(model))
    _invoke(engine)
    with _standard_error() as printed:
        engine.print_allocations()
    found = re.search(r"Arena allocation total (\d+) bytes", printed[0])
    if not found:
        raise DeviceError("the interpreter's allocation record says no total.")
    return int(found[1])


def _invoke(engine: Any) -> None:
    try:
        engine.invoke()
    except RuntimeError as error:
        raise DeviceError(f"TFLite Micro failed in a step: {error}.") from error


@contextlib.contextmanager
def _standard_error() -> Iterator[list[str]]:
    """What native code writes to the standard error, as the list's one item after the block."""
    sys.stderr.flush()
    kept, printed = os.dup(2), [""]
    with tempfile.TemporaryFile() as sink:
        try:
            os.dup2(sink.fileno(), 2)
            yield printed
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            printed[0] = sink.read().decode(errors="replace")


class TFLMExecutor:
    """The steps of one stage, each an invocation of the interpreter at batch 1.

    ``start``: states whose first value is fed to the model; ``expose``: states that it gives back behind its outputs.
    Between samples the interpreter is reset, which zeroes variables; a model with other initial values is made anew.
    """

    def __init__(self, model: bytes, graph: Graph, start: Sequence[str] = (), expose: Sequence[str] = ()) -> None:
        self.model, self.graph = model, graph
        self.start, self.expose = tuple(start), tuple(expose)
        self.arena = 4 * arena_bytes(model) + 65536
        self._types = graph.types()
        self._fixed = any(state.init is not None and np.any(graph.params[state.init].data) for state in graph.states)
        self._init: dict[str, Array] = {}
        self._states: dict[str, Array] = {}
        self._single: Any = None
        self._streams: list[Any] = []
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
            self._streams = [interpreter(self.model, self.arena) for _ in range(self.batch)]
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

    def _begin(self) -> Any:
        if self._single is None or self._fixed:
            self._single = interpreter(self.model, self.arena)
        else:
            self._single.reset()
        return self._single

    def _invoke(self, engine: Any, sample: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = list(self.graph.inputs)
        for index, name in enumerate(names):
            engine.set_input(np.ascontiguousarray(inputs[name][None]), index)
        for index, name in enumerate(self.start, len(names)):
            engine.set_input(self._init[name][sample : sample + 1], index)
        if self.start:
            engine.set_input(np.array([self._fresh[sample]]), len(names) + len(self.start))
        _invoke(engine)
        self._fresh[sample] = False
        count = len(self.graph.outputs)
        for index, name in enumerate(self.expose, count):
            self._states[name][sample] = engine.get_output(index)[0]
        return {name: engine.get_output(index)[0] for index, name in enumerate(self.graph.outputs)}


class TFLMRunner:
    """Runs a tflite artifact in the wheel's TFLite Micro interpreter, stage by stage."""

    name = "tflm"

    def run(
        self,
        artifact: Artifact,
        inputs: dict[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        **options: Any,
    ) -> Trace:
        """Run the artifact's ``.tflite`` files on a batch.

        With ``states`` the same graphs run with every state as an output, since an interpreter's variables can't be
        read. Raises :class:`MissingExtraError` without the wheel, :class:`DataError` for data that don't fit,
        :class:`UsageError` for an artifact of another backend or an option that isn't known.
        """
        if options:
            raise UsageError(f"the runner 'tflm' has no option '{min(options)}'.")
        if artifact.backend != "tflite":
            raise UsageError(f"is a build for '{artifact.backend}'; needed one for 'tflite'.", place=artifact.name)
        require("tflite_micro", "tflite", "running .tflite")
        program = text.from_files(artifact.files, "program")
        trace = drive(program, inputs, lengths, partial(_executor, artifact, program, states), states=states)
        trace.record["where"] = "TFLite Micro interpreter, reference kernels, on this machine"
        trace.record["versions"] = {"tflite-micro": version("tflite-micro"), "numpy": np.__version__}
        return trace


def _executor(artifact: Artifact, program: Program, states: bool, name: str, graph: Graph) -> TFLMExecutor:
    layout = artifact.manifest["layout"]["stages"][name]
    if not states:
        return TFLMExecutor(artifact.files[layout["file"]], graph, layout["start"], layout["expose"])
    every = [state.name for state in graph.states]
    model = stage_model(graph, f"{program.name}/{name}", expose=every, start=layout["start"])
    return TFLMExecutor(model, graph, layout["start"], every)
