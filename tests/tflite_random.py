"""Random weights and inputs for TFLite's fused operators, and their comparison with the tflite-micro wheel."""

from __future__ import annotations

import numpy as np

from neurodeploy import hardware
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Drive, Graph, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from neurodeploy.passes.expand import Expand

TARGET = hardware.find("tflm")
STEPS = 200
TOPS = {"i8": 127, "i16": 32767}


def f32(x: float) -> float:
    return float(np.float32(x))


def scale(type_: TensorType) -> float:
    """The one scale of a type."""
    assert type_.quant is not None
    return float(type_.quant.array)


def random_weights(rng, dtype: str, rows: int, columns: int) -> Param:
    """Weights of a gate that is neither flat nor always saturated."""
    size = f32(rng.uniform(0.3, 2) / TOPS["i8"] / np.sqrt(columns))
    return Param(TensorType((rows, columns), "i8", Quant(size)), rng.integers(-127, 128, (rows, columns)).astype("i1"))


def program_of(graph: Graph, **drive) -> Program:
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, Drive(**drive), {name: Ref(name) for name in inputs})
    return verify(Program("fused", inputs, (stage,), {name: Ref(name, "main") for name in graph.outputs}, "tflite"))


def every_integer(seed: int, type_: TensorType, samples: int = 2) -> np.ndarray:
    low, high = {"i8": (-128, 128), "i16": (-32768, 32768)}[type_.dtype]
    return np.random.default_rng(seed).integers(low, high, (samples, STEPS, *type_.shape)).astype(type_.numpy)


def assert_bits(program: Program, inputs: dict[str, np.ndarray]) -> bytes:
    """The wheel equals the interpreter in the outputs and states of every step; so does the expanded program."""
    from neurodeploy.backends import backend, runner

    artifact = backend("tflite").compile(program, TARGET)
    golden = interpret.run(program, inputs, states=True)
    opened = interpret.run(Expand()(program), inputs, states=True)
    plain = runner("tflm").run(artifact, inputs)
    found = runner("tflm").run(artifact, inputs, states=True)
    for name, array in {**golden.outputs, **golden.states}.items():
        tables = [found, opened] if name in golden.states else [found, opened, plain]
        for trace in tables:
            got = {**trace.outputs, **trace.states}[name]
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array, err_msg=name)
        assert len(np.unique(array)) > 20
    return artifact.files["main.tflite"]
