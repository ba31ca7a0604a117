"""Running a tflite artifact in the TFLite Micro interpreter of the ``tflite-micro`` wheel: the device's own kernels."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends import check_run
from neurodeploy.backends.tflite.stage import Call
from neurodeploy.deploy.tflite_steps import StepExecutor, run_artifact
from neurodeploy.errors import DeviceError, require
from neurodeploy.ir.graph import Graph
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


@dataclass(frozen=True)
class Allocations:
    """What the interpreter's recording allocator counts after one step, in bytes of the wheel's 64-bit build.

    ``total`` of the arena is the ``tail``, which stays, and the ``head``, which the tensors of a step share. In the
    tail are the structures of all ``tensors`` (TfLiteEvalTensor) and operators (``nodes``, NodeAndRegistration).
    """

    total: int
    head: int
    tail: int
    tensors: int
    nodes: int


def allocations(model: bytes) -> Allocations:
    """Run one step and ask the recording allocator.

    Raises :class:`MissingExtraError` without the wheel, :class:`DeviceError` if the model doesn't run.
    """
    engine = interpreter(model, ROOMY + 10 * len(model))
    _invoke(engine)
    with _standard_error() as printed:
        engine.print_allocations()
    said = {
        "total": r"Arena allocation total (\d+) bytes",
        "head": r"Arena allocation head (\d+) bytes",
        "tail": r"Arena allocation tail (\d+) bytes",
        "tensors": r"'TfLiteEvalTensor data' used (\d+) bytes",
        "nodes": r"'NodeAndRegistration struct' used (\d+) bytes",
    }
    found = {name: re.search(pattern, printed[0]) for name, pattern in said.items()}
    counted = {name: int(match[1]) for name, match in found.items() if match}
    if lacking := sorted(set(said) - set(counted)):
        raise DeviceError(f"the interpreter's allocation record doesn't say: {', '.join(lacking)}.")
    return Allocations(**counted)


def arena_bytes(model: bytes) -> int:
    """Bytes of the arena that the model uses once it is planned, in the wheel's 64-bit build (:func:`allocations`)."""
    return allocations(model).total


def _invoke(engine: Any) -> None:
    try:
        engine.invoke()
    except RuntimeError as error:
        raise DeviceError(f"TFLite Micro failed in a step: {error}.") from error


#: The standard error is the whole process's: one at a time redirects it.
_REDIRECTED = threading.Lock()


@contextlib.contextmanager
def _standard_error() -> Iterator[list[str]]:
    """What native code writes to the standard error, as the list's one item after the block."""
    sys.stderr.flush()
    with _REDIRECTED, tempfile.TemporaryFile() as sink:
        kept, printed = os.dup(2), [""]
        try:
            os.dup2(sink.fileno(), 2)
            yield printed
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            printed[0] = sink.read().decode(errors="replace")


class TFLMEngine:
    """An interpreter of the wheel. Its own reset zeroes variables, so one with other first values is made anew."""

    def __init__(self, model: bytes, zero: bool, arena: int | None = None) -> None:
        self._model, self._zero = model, zero
        self._arena = 4 * arena_bytes(model) + 65536 if arena is None else arena
        self._engine = interpreter(model, self._arena)

    def set_input(self, array: Array, index: int) -> None:
        self._engine.set_input(np.ascontiguousarray(array), index)

    def invoke(self) -> None:
        """Raises :class:`DeviceError`."""
        _invoke(self._engine)

    def get_output(self, index: int) -> Array:
        return self._engine.get_output(index)

    def reset(self) -> None:
        """Variables back to their first values."""
        if self._zero:
            self._engine.reset()
        else:
            self._engine = interpreter(self._model, self._arena)


class TFLMExecutor(StepExecutor):
    """The steps of one stage in interpreters of the wheel."""

    def __init__(self, model: bytes, graph: Graph, start: Sequence[str] = (), expose: Sequence[str] = ()) -> None:
        super().__init__(model, graph, TFLMEngine, Call(start=tuple(start), expose=tuple(expose)))


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
        """Run the artifact's ``.tflite`` files on a batch (:func:`~neurodeploy.deploy.tflite_steps.run_artifact`).

        Raises :class:`MissingExtraError` without the wheel, :class:`DataError` for data that don't fit,
        :class:`UsageError` for an artifact of another backend or an option that isn't known.
        """
        check_run(self, artifact, ("tflite",), options)
        require("tflite_micro", "tflite", "running .tflite")
        trace = run_artifact(artifact, inputs, lengths, TFLMEngine, states=states)
        trace.record["where"] = "TFLite Micro interpreter, reference kernels, on this machine"
        trace.record["versions"] = {"tflite-micro": version("tflite-micro"), "numpy": np.__version__}
        return trace
