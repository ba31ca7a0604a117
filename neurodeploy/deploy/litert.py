"""Running a tflite artifact in LiteRT, the interpreter of phones and computers (``ai-edge-litert``, once TensorFlow
Lite): other kernels than TFLite Micro's, so other last bits."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends import check_run
from neurodeploy.backends.tflite.fused import variables
from neurodeploy.backends.tflite.stage import Call, stage_model
from neurodeploy.deploy.tflite_steps import StepExecutor, run_artifact
from neurodeploy.errors import DeviceError, MissingExtraError, require
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.ir.op import Array

#: Module of an interpreter -> its distribution. tflite_runtime is LiteRT's former name.
RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
#: dtype -> how far an output or next state may be from the golden model's after one step from equal states. Twice what
#: was seen over every family (5 and 16 LSB): LiteRT's kernels round each product, table and sum otherwise than TFLM's.
BOUNDS: Mapping[str, str] = {
    "int8": "lsb(10)", "int16": "lsb(32)", "int32": "lsb(0)", "int64": "lsb(0)", "bool": "lsb(0)",
    "float32": "close(1e-5)",
}  # fmt: skip
#: What running freely promises: steps drift apart by more than one step's bound, accuracies hardly.
FREE_RUNNING = "statistical(0.01)"


def runtime() -> str:
    """The module of the interpreter that is installed.

    Raises :class:`MissingExtraError` for none, and for tflite_runtime with a numpy that it can't load.
    """
    found = next((name for name in RUNTIMES if importlib.util.find_spec(name) is not None), None)
    if found is None:
        raise MissingExtraError(
            "running .tflite in LiteRT needs the package 'ai_edge_litert'.",
            hint="Install it: pip install 'neurodeploy[tflite]'",
        )
    if found == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        raise MissingExtraError(
            f"tflite-runtime {version('tflite-runtime')} is built for numpy 1 (it fails with '_ARRAY_API not found'); "
            f"numpy {np.__version__} is installed.",
            hint="Install LiteRT, its successor: pip install ai-edge-litert (or pip install 'numpy<2').",
        )
    return found


class LiteRTEngine:
    """An interpreter of LiteRT. It has no way to reset variables, so one that has run is made anew."""

    def __init__(self, model: bytes, zero: bool = True) -> None:
        self._model = model
        self._begin()

    def _begin(self) -> None:
        name = runtime()
        module = require(f"{name}.interpreter", "tflite", "running .tflite in LiteRT")
        try:
            self._engine = module.Interpreter(model_content=self._model)
            self._engine.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise DeviceError(
                f"{RUNTIMES[name]} {version(RUNTIMES[name])} refuses the model: {_told(error)}",
                hint="TFLite Micro runs types that LiteRT has no kernels for; run it on tflm.",
            ) from error
        self._inputs = [found["index"] for found in self._engine.get_input_details()]
        self._outputs = [found["index"] for found in self._engine.get_output_details()]
        self._ran = False

    def set_input(self, array: Array, index: int) -> None:
        self._engine.set_tensor(self._inputs[index], np.ascontiguousarray(array))

    def invoke(self) -> None:
        """Raises :class:`DeviceError`."""
        self._ran = True
        try:
            self._engine.invoke()
        except RuntimeError as error:
            raise DeviceError(f"LiteRT failed in a step: {_told(error)}") from error

    def get_output(self, index: int) -> Array:
        return self._engine.get_tensor(self._outputs[index])

    def reset(self) -> None:
        if self._ran:
            self._begin()


def _told(error: Exception) -> str:
    """LiteRT's message in one line, without the paths of its sources."""
    words = re.sub(r"\S*/(?=\w+\.cc:)", "", " ".join(str(error).split()))
    return words if len(words) <= 300 else f"{words[:300]} ..."


class FedExecutor:
    """The golden model's steps, and beside each of them LiteRT's from the same inputs and the same states.

    ``gaps``: dtype -> the largest difference in each step, of all its outputs and next states.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.golden = graph, StepInterpreter(graph)
        call = Call(state="io")
        self.other = StepExecutor(stage_model(graph, "fed", call=call), graph, LiteRTEngine, call)
        self.gaps: dict[str, list[Array]] = {}

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        self.golden.reset(batch, init)
        self.other.reset(batch, init)

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        self.other.set_states(self.golden.states())
        theirs = self.other.step(inputs, active)
        ours = self.golden.step(inputs, active)
        after = self.other.held_states()
        pairs = [(ours[n], theirs[n]) for n in ours] + [(a, after[n]) for n, a in self.golden.states().items()]
        worst: dict[str, Array] = {}
        for a, b in pairs:
            gap = np.abs(a[active].astype(np.float64) - b[active].astype(np.float64)).reshape(int(active.sum()), -1)
            if gap.size:
                kind = a.dtype.name
                worst[kind] = np.maximum(worst.get(kind, 0.0), gap.max(axis=1))
        for kind, array in worst.items():
            self.gaps.setdefault(kind, []).append(array)
        return ours

    def states(self) -> dict[str, Array]:
        return self.golden.states()


class LiteRTRunner:
    """Runs a tflite artifact in LiteRT, freely; and step by step from the golden model's states, which is judged."""

    name = "litert"

    def run(
        self,
        artifact: Artifact,
        inputs: dict[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        **options: Any,
    ) -> Trace:
        """Run the artifact's ``.tflite`` files on a batch. The record says what LiteRT promises (``equality``), and how
        it kept to :data:`BOUNDS` (``agreement``).

        Raises :class:`MissingExtraError` without an interpreter, :class:`DeviceError` naming the operator that LiteRT
        has no kernel for, :class:`DataError` for data that don't fit, :class:`UsageError` for another backend's build.
        """
        check_run(self, artifact, ("tflite",), options)
        trace = run_artifact(artifact, inputs, lengths, LiteRTEngine, states=states, small=False)
        name = RUNTIMES[runtime()]
        trace.record["where"] = f"LiteRT ({name} {version(name)}), on this machine"
        trace.record["versions"] = {name: version(name), "numpy": np.__version__}
        trace.record["equality"] = FREE_RUNNING
        trace.record["agreement"] = from_equal_states(artifact, inputs, lengths)
        return trace


def from_equal_states(artifact: Artifact, inputs: Mapping[str, Array], lengths: Array | None) -> list[dict[str, Any]]:
    """How far LiteRT is from the golden model in one step, each step begun from the golden model's states.

    One agreement for each dtype, as :class:`~neurodeploy.report.schema.Agreement` takes it. Stages whose operators keep
    their states themselves (the fused LSTM) can't begin from others, and are left out.
    """
    program = text.from_files(artifact.files, "program")
    made: list[FedExecutor] = []

    def executor(name: str, graph: Graph) -> FedExecutor | StepInterpreter:
        if variables(graph):
            return StepInterpreter(graph)
        made.append(FedExecutor(graph))
        return made[-1]

    drive(program, dict(inputs), lengths, executor)
    found = []
    for kind in sorted({kind for one in made for kind in one.gaps}):
        gaps = np.concatenate([array for one in made for array in one.gaps.get(kind, [])])
        limit = float(BOUNDS[kind].partition("(")[2][:-1])
        found.append(
            {
                "against": f"golden, each step from its states ({kind})",
                "equality": BOUNDS[kind],
                "holds": bool(gaps.max() <= limit),
                "compared": len(gaps),
                "bit_exact": int((gaps == 0).sum()),
                "max_difference": float(gaps.max()) if np.isfinite(gaps.max()) else None,
                "difference_unit": "absolute" if kind.startswith("float") else "LSB",
            }
        )
    return found
