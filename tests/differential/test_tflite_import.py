"""The importer of ``.tflite`` against TFLite Micro, operator by operator, and against our own files, family by family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurodeploy.backends.tflite.stage import stage_model
from neurodeploy.backends.tflite.write import Model, Subgraph
from neurodeploy.data import arrange
from neurodeploy.errors import NeurodeployError
from neurodeploy.importers import load
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import StepInterpreter, run
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes import pipeline
from neurodeploy.passes import run as run_passes
from tests.families import CASES

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

KINDS = {"f32": np.float32, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "bool": np.bool_}
Build = Callable[[Subgraph], None]


def written(build: Build) -> bytes:
    """A file whose one subgraph ``build`` fills."""
    model = Model()
    build(model.subgraph("main"))
    return model.finish()


def f32(x: float) -> float:
    return float(np.float32(x))


def loaded(tmp_path, data: bytes) -> Program:
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    return load(path, check=False)


def numbers(rng, dtype: str, shape) -> np.ndarray:
    if dtype == "f32":
        x = rng.normal(0, 2, shape).astype(np.float32)
        whole = np.where(np.rint(x) == 0, 1, np.rint(x))
        return np.where(rng.integers(0, 4, shape) == 0, whole, x).astype(np.float32)  # some are equal
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    low, high = (-20, 20) if dtype == "i32" else (np.iinfo(KINDS[dtype]).min, np.iinfo(KINDS[dtype]).max + 1)
    return rng.integers(low, high, shape).astype(KINDS[dtype])


def assert_as_tflm(tmp_path, data: bytes, *, steps: int = 20, close: float = 0.0, uint8=()) -> Program:
    """The program of a file gives what the wheel's interpreter gives, on random inputs, every step."""
    from neurodeploy.deploy.tflm import interpreter

    program = loaded(tmp_path, data)
    rng, engine = np.random.default_rng(0), interpreter(data, 1 << 20)
    given = {n: numbers(rng, i.type.dtype, (1, steps, *i.type.shape)) for n, i in program.inputs.items()}
    trace = run(program, given)
    assert all(len(np.unique(array)) > 1 for array in trace.outputs.values()), "flat outputs show nothing"
    for k in range(steps):
        for index, (name, array) in enumerate(given.items()):
            shape = engine.get_input_details(index)["shape"]
            fed = array[0, k].astype(np.int16) + 128 if name in uint8 else array[0, k]
            engine.set_input(fed.astype(np.uint8 if name in uint8 else fed.dtype).reshape(shape), index)
        engine.invoke()
        for index, (name, array) in enumerate(trace.outputs.items()):
            wanted, found = engine.get_output(index), array[0, k]
            if name in uint8:
                found = found.astype(np.int16) + 128
            assert name in uint8 or found.dtype == wanted.dtype or wanted.dtype == np.int64
            if close:
                np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=close, atol=close, err_msg=name)
            else:
                np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, err_msg=f"{name}, step {k}")
    return program


# -- operators that move elements --------------------------------------------------------------------------------------


def moving(code: str, shape, result, *constants, table=None, first=False, dtype="i8", **options) -> Build:
    """One operator on x with vectors of int32 behind it (in front of it with ``first``)."""

    def build(s: Subgraph) -> None:
        scale = Quant(0.1, 3) if dtype == "i8" else None
        x = s.tensor("x", shape, dtype, scale)
        extra = [s.tensor(f"c{i}", np.shape(c), "i32", data=np.array(c, np.int32)) for i, c in enumerate(constants)]
        shapes = result if isinstance(result, list) else [result]
        outs = [s.tensor(f"y{i}", shape, dtype, scale) for i, shape in enumerate(shapes)]
        s.inputs, s.outputs = [x], outs
        s.op(code, [*extra, x] if first else [x, *extra], outs, table, **options)

    return build


def slicing(shape, result, begin, end, by, **masks) -> Build:
    return moving("STRIDED_SLICE", shape, result, begin, end, by, table="StridedSliceOptions", **masks)


MOVES = {
    "reshape": moving("RESHAPE", (1, 2, 6), (1, 3, 4), [1, 3, 4]),
    "reshape away from the batch": moving("RESHAPE", (1, 2, 6), (4, 3), [4, 3]),
    "squeeze": moving("SQUEEZE", (1, 3, 1, 2), (3, 2), table="SqueezeOptions", squeezeDims=[0, 2]),
    "expand_dims": moving("EXPAND_DIMS", (1, 3, 2), (1, 3, 1, 2), [2]),
    "transpose": moving("TRANSPOSE", (1, 2, 3, 4), (1, 4, 2, 3), [0, 3, 1, 2]),
    "transpose with the batch": moving("TRANSPOSE", (1, 2, 3), (3, 1, 2), [2, 0, 1]),
    "split": moving("SPLIT", (1, 6, 2), [(1, 2, 2)] * 3, 1, first=True, table="SplitOptions", numSplits=3),
    "split_v": moving("SPLIT_V", (1, 6, 2), [(1, 1, 2), (1, 5, 2)], [1, 5], 1, table="SplitVOptions", numSplits=2),
    "split the first axis": moving("SPLIT", (4, 2), [(2, 2)] * 2, 0, first=True, table="SplitOptions", numSplits=2),
    "slice": moving("SLICE", (1, 5, 4), (1, 2, 3), [0, 1, 1], [1, 2, 3]),
    "slice to the end": moving("SLICE", (1, 5, 4), (1, 3, 4), [0, 2, 0], [-1, -1, -1]),
    "strided_slice": slicing((1, 7, 4), (1, 3, 2), [0, 1, 0], [1, 7, 4], [1, 2, 2]),
    "strided_slice by masks": slicing((1, 7, 4), (1, 4, 4), [9, -4, 9], [0, 0, 0], [1, 1, 1], beginMask=5, endMask=7),
    "strided_slice backwards": slicing((1, 5, 4), (1, 3, 4), [0, 4, 0], [1, -5, 4], [1, -2, 1], endMask=2),
    "strided_slice beyond the end": slicing((1, 5, 4), (1, 2, 4), [0, 3, 0], [1, 99, 99], [1, 1, 1]),
    "strided_slice of one entry": slicing((1, 5, 4), (1, 4), [0, -2, 0], [1, 0, 4], [1, 1, 1], shrinkAxisMask=2),
    "strided_slice of the batch": slicing((1, 5, 4), (5, 4), [0, 0, 0], [1, 5, 4], [1, 1, 1], shrinkAxisMask=1),
    "pad": moving("PAD", (1, 3, 2), (1, 6, 3), [[0, 0], [1, 2], [1, 0]]),
    "pad the first axis": moving("PAD", (3, 2), (4, 2), [[1, 0], [0, 0]]),
    "gather": moving("GATHER", (1, 5, 3), (1, 4, 3), [4, 0, 0, 2], table="GatherOptions", axis=1),
    "gather the first axis": moving("GATHER", (4, 3), (2, 3), [3, 1], table="GatherOptions", axis=0),
    "unpack": moving("UNPACK", (1, 3, 2), [(1, 2)] * 3, table="UnpackOptions", num=3, axis=1),
    "broadcast_to": moving("BROADCAST_TO", (1, 1, 3), (1, 4, 3), [1, 4, 3], dtype="f32"),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(tmp_path, name):
    program = assert_as_tflm(tmp_path, written(MOVES[name]))
    assert program.numerics == "float" if name == "broadcast_to" else "tflite"


def joining(code: str, shape, result, count, table, dtype="i8", **options) -> Build:
    def build(s: Subgraph) -> None:
        scale = Quant(0.1, 3) if dtype == "i8" else None
        s.inputs = [s.tensor(f"x{i}", shape, dtype, scale) for i in range(count)]
        s.outputs = [s.tensor("y", result, dtype, scale)]
        s.op(code, s.inputs, s.outputs, table, **options)

    return build


@pytest.mark.parametrize(
    "build",
    [
        joining("CONCATENATION", (1, 3, 2), (1, 6, 2), 2, "ConcatenationOptions", axis=1),
        joining("CONCATENATION", (1, 3, 2), (1, 3, 6), 3, "ConcatenationOptions", axis=-1),
        joining("CONCATENATION", (1, 3), (2, 3), 2, "ConcatenationOptions", axis=0),
        joining("PACK", (1, 3), (1, 2, 3), 2, "PackOptions", axis=1, valuesCount=2),
        joining("PACK", (1, 3), (1, 3, 2), 2, "PackOptions", axis=-1, valuesCount=2),
        joining("PACK", (3,), (2, 3), 2, "PackOptions", axis=0, valuesCount=2),
        joining("MAXIMUM", (1, 3), (1, 3), 2, "MaximumMinimumOptions"),
        joining("MINIMUM", (1, 3), (1, 3), 2, "MaximumMinimumOptions"),
    ],
)
def test_joins(tmp_path, build):
    assert_as_tflm(tmp_path, written(build))


# -- floats ------------------------------------------------------------------------------------------------------------


def floats(code: str, *shapes, result, table=None, constants=(), kind="f32", **options) -> Build:
    """One operator on f32 inputs, constants behind them."""

    def build(s: Subgraph) -> None:
        s.inputs = [s.tensor(f"x{i}", shape, "f32") for i, shape in enumerate(shapes)]
        extra = [s.tensor(f"c{i}", c.shape, "f32" if c.dtype.kind == "f" else "i32", data=c) for i, c in
                 enumerate(constants)]  # fmt: skip
        s.outputs = [s.tensor("y", result, kind)]
        s.op(code, [*s.inputs, *extra], s.outputs, table, **options)

    return build


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def axes(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


CONV: dict[str, Any] = {"padding": 0, "strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 2}
POOL: dict[str, Any] = {"padding": 0, "strideH": 2, "strideW": 1, "filterHeight": 3, "filterWidth": 2}
FLOATS = {
    "add": floats("ADD", (1, 3, 4), (1, 1, 4), result=(1, 3, 4), table="AddOptions", fusedActivationFunction=1),
    "sub": floats("SUB", (1, 4), (1, 4), result=(1, 4), table="SubOptions", fusedActivationFunction=3),
    "mul": floats("MUL", (1, 4), (4,), result=(1, 4), table="MulOptions", fusedActivationFunction=2),
    "div": floats("DIV", (1, 4), (1, 4), result=(1, 4), table="DivOptions"),
    "fully_connected": floats("FULLY_CONNECTED", (1, 6), result=(1, 3), table="FullyConnectedOptions",
                              constants=(weights(3, 6), weights(3)), fusedActivationFunction=1),
    "fully_connected of rows": floats("FULLY_CONNECTED", (1, 2, 6), result=(1, 2, 3), table="FullyConnectedOptions",
                                      constants=(weights(3, 6), weights(3)), keepNumDims=True),
    "conv_2d": floats("CONV_2D", (1, 6, 5, 4), result=(1, 3, 5, 3), table="Conv2DOptions",
                      constants=(weights(3, 3, 2, 4), weights(3)), fusedActivationFunction=1, **CONV),
    "conv_2d in groups": floats("CONV_2D", (1, 6, 5, 4), result=(1, 3, 5, 6), table="Conv2DOptions",
                                constants=(weights(6, 3, 2, 2), weights(6)), **CONV),
    "depthwise_conv_2d": floats("DEPTHWISE_CONV_2D", (1, 6, 5, 2), result=(1, 3, 5, 6), table="DepthwiseConv2DOptions",
                                constants=(weights(1, 3, 2, 6), weights(6)), depthMultiplier=3, **CONV),
    "average_pool_2d": floats("AVERAGE_POOL_2D", (1, 5, 4, 3), result=(1, 3, 4, 3), table="Pool2DOptions", **POOL),
    "max_pool_2d": floats("MAX_POOL_2D", (1, 5, 4, 3), result=(1, 3, 4, 3), table="Pool2DOptions", **POOL),
    "relu": floats("RELU", (1, 9), result=(1, 9)),
    "relu6": floats("RELU6", (1, 9), result=(1, 9)),
    "leaky_relu": floats("LEAKY_RELU", (1, 9), result=(1, 9), table="LeakyReluOptions", alpha=0.3),
    "prelu": floats("PRELU", (1, 3, 4), result=(1, 3, 4), constants=(weights(1, 1, 4),)),
    "hard_swish": floats("HARD_SWISH", (1, 9), result=(1, 9)),
    "elu": floats("ELU", (1, 9), result=(1, 9)),
    "logistic": floats("LOGISTIC", (1, 9), result=(1, 9)),
    "tanh": floats("TANH", (1, 9), result=(1, 9)),
    "exp": floats("EXP", (1, 9), result=(1, 9)),
    "abs": floats("ABS", (1, 9), result=(1, 9)),
    "neg": floats("NEG", (1, 9), result=(1, 9)),
    "round": floats("ROUND", (1, 9), result=(1, 9)),
    "floor": floats("FLOOR", (1, 9), result=(1, 9)),
    "square": floats("SQUARE", (1, 9), result=(1, 9)),
    "squared_difference": floats("SQUARED_DIFFERENCE", (1, 9), (1, 9), result=(1, 9)),
    "softmax": floats("SOFTMAX", (1, 2, 5), result=(1, 2, 5), table="SoftmaxOptions", beta=0.7),
    "mean": floats("MEAN", (1, 3, 4, 2), result=(1, 2), table="ReducerOptions", constants=(axes(1, 2),)),
    "sum": floats("SUM", (1, 3, 4), result=(1, 3, 1), table="ReducerOptions", constants=(axes(-1),), keepDims=True),
    "reduce_max": floats("REDUCE_MAX", (1, 3, 4), result=(1, 4), table="ReducerOptions", constants=(axes(1),)),
    "arg_max": floats("ARG_MAX", (1, 3, 4), result=(1, 3), table="ArgMaxOptions", constants=(axes(2),), kind="i32",
                      outputType=2),
    "less": floats("LESS", (1, 9), (1, 9), result=(1, 9), kind="bool"),
    "greater": floats("GREATER", (1, 9), (1, 9), result=(1, 9), kind="bool"),
    "less_equal": floats("LESS_EQUAL", (1, 9), (1, 9), result=(1, 9), kind="bool"),
    "greater_equal": floats("GREATER_EQUAL", (1, 9), (1, 9), result=(1, 9), kind="bool"),
    "equal": floats("EQUAL", (1, 9), (1, 9), result=(1, 9), kind="bool"),
    "batch_matmul": floats("BATCH_MATMUL", (1, 2, 3, 4), (1, 2, 4, 5), result=(1, 2, 3, 5)),
    "batch_matmul turned": floats("BATCH_MATMUL", (1, 3, 4), (1, 5, 4), result=(1, 3, 5), table="BatchMatMulOptions",
                                  adjY=True),
    "cast": floats("CAST", (1, 9), result=(1, 9), table="CastOptions", kind="i32"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_floats(tmp_path, name):
    program = assert_as_tflm(tmp_path, written(FLOATS[name]), close=2e-6)
    assert program.numerics == "float"
    assert not any(v.op.startswith("tfl_") for v in program.stages[0].graph.values)


# -- integers ----------------------------------------------------------------------------------------------------------


def integers(code: str, dtype: str, result, *, zero=3, into=(0.05, -7), axis=None, **options) -> Build:
    """A reduction or product of quantized integers."""

    def build(s: Subgraph) -> None:
        given = Quant(0.1, zero if dtype == "i8" else 0)
        shapes = [(1, 3, 4), (1, 5, 4)] if code == "BATCH_MATMUL" else [(1, 3, 4)]
        s.inputs = [s.tensor(f"x{i}", shape, dtype, given) for i, shape in enumerate(shapes)]
        s.outputs = [s.tensor("y", result, dtype, Quant(into[0], into[1] if dtype == "i8" else 0))]
        extra = [] if axis is None else [s.ints("axis", axis)]
        table = "BatchMatMulOptions" if code == "BATCH_MATMUL" else "ReducerOptions"
        s.op(code, [*s.inputs, *extra], s.outputs, table, **options)

    return build


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_integer_reductions_and_products(tmp_path, dtype):
    assert_as_tflm(tmp_path, written(integers("SUM", dtype, (1, 3), axis=[2], into=(0.21, -7))))
    assert_as_tflm(tmp_path, written(integers("SUM", dtype, (1,), axis=[1, 2], into=(0.3, 11))))
    assert_as_tflm(tmp_path, written(integers("BATCH_MATMUL", dtype, (1, 3, 5), adjY=True, into=(5.0, 9))))


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_integer_means(tmp_path, dtype):
    for count, into in ((2, 0.1), (7, 0.03), (64, 0.1), (1000, 0.017), (3, 2.5)):

        def build(s: Subgraph, count=count, into=into) -> None:
            given, made = (Quant(0.1, 5), Quant(into, -9)) if dtype == "i8" else (Quant(0.1), Quant(into))
            s.inputs, s.outputs = [s.tensor("x", (1, count, 4), dtype, given)], [s.tensor("y", (1, 4), dtype, made)]
            s.op("MEAN", [*s.inputs, s.ints("axis", [1])], s.outputs, "ReducerOptions")

        assert_as_tflm(tmp_path, written(build))


# -- floats and integers -----------------------------------------------------------------------------------------------


def island(s: Subgraph) -> None:
    """Integers, a float EXP between them, integers again."""
    x, wide = s.tensor("x", (1, 6), "i8", Quant(0.02, 5)), s.tensor("wide", (1, 6), "f32")
    made, y = s.tensor("made", (1, 6), "f32"), s.tensor("y", (1, 6), "i8", Quant(0.07, -100))
    s.inputs, s.outputs = [x], [y]
    s.op("DEQUANTIZE", [x], [wide])
    s.op("EXP", [wide], [made])
    s.op("QUANTIZE", [made], [y])


def test_a_float_island_keeps_its_floats(tmp_path):
    program = assert_as_tflm(tmp_path, written(island))
    assert program.numerics == "tflite"
    assert [v.op for v in program.stages[0].graph.values] == ["tfl_to_float", "exp", "tfl_from_float"]


# -- variables ---------------------------------------------------------------------------------------------------------


def counting(order: str, *, first: int | None, zero: int = -128) -> bytes:
    """x joined to a variable by MAXIMUM; ``order``: whether it is read before or after it is assigned."""
    model = Model()
    s, scale = model.subgraph("main"), Quant(0.1, zero)
    x, y = s.tensor("x", (1, 4), "i8", scale), s.tensor("y", (1, 4), "i8", scale)
    kept, following = s.tensor("kept", (1, 4), "i8", scale), s.tensor("following", (1, 4), "i8", scale)
    s.inputs, s.outputs = [x], [y]

    def handle(g: Subgraph) -> int:
        made = g.tensor("handle", (1,), "resource")
        g.op("VAR_HANDLE", [], [made], "VarHandleOptions", container="", sharedName="v")
        return made

    if first is not None:
        init = model.subgraph("init")
        value = init.tensor("first", (1, 4), "i8", scale, np.full((1, 4), first, np.int8))
        init.op("ASSIGN_VARIABLE", [handle(init), value], [])
        s.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    variable = handle(s)
    s.op("READ_VARIABLE", [variable], [kept])
    s.op("MAXIMUM", [kept, x], [following])
    if order == "assigned":
        s.op("ASSIGN_VARIABLE", [variable, following], [])
        s.op("READ_VARIABLE", [variable], [y])
    else:
        s.op("READ_VARIABLE", [variable], [y])
        s.op("ASSIGN_VARIABLE", [variable, following], [])
    return model.finish()


@pytest.mark.parametrize("order", ["assigned", "read"])
@pytest.mark.parametrize("first", [None, -100, 0])
def test_variables_and_the_order_of_reads(tmp_path, order, first):
    program = assert_as_tflm(tmp_path, counting(order, first=first), steps=6)
    (state,) = program.stages[0].graph.states
    assert state.name == "v"


def test_uint8_ends_are_i8_with_the_zero_point_moved(tmp_path):
    def build(s: Subgraph) -> None:
        x, y = s.tensor("x", (1, 5), "uint8", Quant(0.1, 130)), s.tensor("y", (1, 5), "uint8", Quant(0.2, 7))
        inner = s.tensor("inner", (1, 5), "i8", Quant(0.1, 2))
        s.inputs, s.outputs = [x], [y]
        s.op("QUANTIZE", [x], [inner])
        s.op("QUANTIZE", [inner], [y])

    program = assert_as_tflm(tmp_path, written(build), uint8=("x", "y"))
    assert program.meta["uint8"] == ["x", "y"]
    assert program.inputs["x"].type == TensorType((5,), "i8", Quant(float(np.float32(0.1)), 2))


# -- our own files -----------------------------------------------------------------------------------------------------

#: Numerics and options of the quantizer, and how many families have to come back.
MODES = {
    "i16": ("tflite", {}, 32),
    "i8": ("tflite", {"quantize_tflite": {"activation_dtype": "i8"}}, 32),
    "float": ("float", {}, 33),
}


@pytest.mark.parametrize("mode", MODES)
def test_files_that_we_wrote_read_back(tmp_path, mode):
    """Every family that compiles: the imported step has the bits of the one that was written (floats but for 1e-5), and
    so it has when it was written and read again. The loop of a random generator, WHILE, is taken apart.
    """
    numerics, options, least = MODES[mode]
    came_back = 0
    for case in CASES.values():
        data = arrange(dict(case.inputs), case.program)
        data = data if case.lengths is None else replace(data, lengths=np.asarray(case.lengths))
        try:
            program = run_passes(case.program, pipeline("tflite", numerics, data=data, **options))
            files = [stage_model(s.graph, s.name, start=list(s.state_from)) for s in program.stages]
        except NeurodeployError:
            continue  # what can't be written: test_tflite.py
        for stage, file in zip(program.stages, files, strict=True):
            found = loaded(tmp_path, file)
            assert found.numerics == numerics
            assert_same_steps(stage, found)
            ready = run_passes(found, pipeline("tflite", numerics, quantized=numerics == "tflite"))
            assert_same_steps(stage, loaded(tmp_path, stage_model(ready.stages[0].graph, "again")))
        came_back += 1
    assert came_back >= least


def assert_same_steps(stage, found: Program, batch: int = 3, steps: int = 10) -> None:
    wanted, got = StepInterpreter(stage.graph), StepInterpreter(found.stages[0].graph)
    rng, everyone = np.random.default_rng(0), np.ones(batch, bool)
    types = {s.name: s.type for s in stage.graph.states}
    init = {n: drawn(rng, types[n], batch) for n in stage.state_from}
    wanted.reset(batch, init)
    got.reset(batch, {})
    for k in range(steps):
        x = {n: drawn(rng, t, batch) for n, t in stage.graph.inputs.items()}
        first = [np.full(batch, k == 0)] if init else []
        fed = dict(zip(found.inputs, [*x.values(), *init.values(), *first], strict=True))
        for name, (a, b) in zip(
            stage.graph.outputs, zip(wanted.step(x, everyone).values(), got.step(fed, everyone).values(), strict=False),
            strict=True,
        ):  # fmt: skip
            assert a.dtype == b.dtype
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, b.reshape(a.shape), rtol=1e-5, atol=1e-5, err_msg=f"{name}, step {k}")
            else:
                np.testing.assert_array_equal(a, b.reshape(a.shape), err_msg=f"{name}, step {k}")


def drawn(rng, type_: TensorType, batch: int) -> np.ndarray:
    if type_.dtype == "i32":
        return rng.integers(0, 4, (batch, *type_.shape)).astype(np.int32)
    return numbers(rng, type_.dtype, (batch, *type_.shape))
