"""SVDF: the composite's body equals the wheel's kernel on every bit, and so does our C."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy import compile
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Graph, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.tflite.fixed_point import multiply_32, quantize_multiplier
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from tests.tflite_random import TARGET, TOPS, assert_bits, every_integer, f32, program_of, random_weights, scale

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")


def svdf_step(seed: int, k: int, units: int, rank: int, memory: int, dtype: str) -> Graph:
    """An SVDF with random weights and scales."""
    rng, b, top, filters = np.random.default_rng(seed), Builder(), TOPS[dtype], units * rank
    x = b.input("x", TensorType((k,), "i8", Quant(f32(rng.uniform(1, 4) / 127), int(rng.integers(-60, 60)))))
    line = b.state("line", TensorType((memory, filters), dtype, Quant(f32(rng.uniform(2, 6) / top))))
    most = 127 if dtype == "i8" else 600
    weights = TensorType((filters, memory), dtype, Quant(f32(rng.uniform(0.5, 2) / most / np.sqrt(memory))))
    step = f32(scale(line.type) * scale(weights))
    params = [
        b.param("features", random_weights(rng, "i8", filters, k)),
        b.param("time", Param(weights, rng.integers(-most, most + 1, weights.shape).astype(weights.numpy))),
        b.param(
            "bias",
            Param(TensorType((units,), "i32", Quant(step)), np.rint(rng.normal(0, 0.3, units) / step).astype("i4")),
        ),
    ]
    out = f32(rng.uniform(2, 4) / 127)
    y, moved = b.call("tflite_svdf", x, line, *params, rank=rank, scale=out, zero_point=int(rng.integers(-30, 30)))
    b.next(line, moved)
    b.output("y", y)
    return b.graph()


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize(("k", "units", "rank", "memory"), [(13, 5, 3, 3), (10, 7, 2, 11), (1, 2, 1, 1), (20, 8, 1, 9)])
def test_svdf_on_random_weights_and_scales(k, units, rank, memory, dtype):
    graph = svdf_step(k + rank, k, units, rank, memory, dtype)
    assert_bits(program_of(graph), {"x": every_integer(k, graph.inputs["x"])})


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize(("k", "units", "rank", "memory"), [(13, 5, 3, 3), (20, 8, 1, 9)])
def test_our_c_computes_svdf(k, units, rank, memory, dtype):
    from neurodeploy.backends.c_toolchain import toolchains

    if not toolchains("host"):
        pytest.skip("no C compiler is installed")
    program = program_of(svdf_step(k + rank, k, units, rank, memory, dtype))
    x = every_integer(k, program.inputs["x"].type)
    found = compile(program, "host").run(x)
    np.testing.assert_array_equal(found, compile(program, "host").run(x, on="golden"))
    assert len(np.unique(found)) > 20


def test_svdf_multiplies_by_scales_in_double():
    """Biases chosen so that a multiplier made in float32 rounds otherwise; the source says float, the wheel double."""
    rng = np.random.default_rng(1)
    line, weight, out = (f32(s) for s in (*rng.uniform(1e-4, 3e-4, 2), rng.uniform(0.01, 0.03)))
    step = out / (line * weight)
    many = np.rint((rng.integers(-128, 128, 1_000_000) + 0.5) * step + rng.uniform(-2, 2, 1_000_000)).astype(np.int64)
    single = np.float64(np.float32(line) * np.float32(weight) / np.float32(out))
    odd = many[multiply_32(many, *quantize_multiplier(single)) != multiply_32(many, *quantize_multiplier(1 / step))]
    odd = odd[np.abs(odd) < 127 * step][:200].astype(np.int32)
    assert len(odd) > 10
    b, units = Builder(), len(odd)
    x = b.input("x", TensorType((1,), "i8", Quant(0.01)))
    state = b.state("line", TensorType((1, units), "i16", Quant(line)))
    features = b.param("features", Param(TensorType((units, 1), "i8", Quant(0.01)), np.zeros((units, 1), np.int8)))
    time = b.param("time", Param(TensorType((units, 1), "i16", Quant(weight)), np.zeros((units, 1), np.int16)))
    bias = b.param("bias", Param(TensorType((units,), "i32", Quant(f32(line * weight))), odd))
    y, moved = b.call("tflite_svdf", x, state, features, time, bias, scale=out)
    b.next(state, moved)
    b.output("y", y)
    program, zeros = program_of(b.graph()), {"x": np.zeros((1, 1, 1), np.int8)}
    from neurodeploy.backends import backend, runner

    found = runner("tflm").run(backend("tflite").compile(program, TARGET), zeros).outputs["y"]
    np.testing.assert_array_equal(found, interpret.run(program, zeros).outputs["y"])


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "relu_n1_to_1", "tanh"])
def test_svdf_in_float(activation):
    from neurodeploy.backends import backend, runner

    rng, b = np.random.default_rng(2), Builder()
    x, line = b.input("x", (6,)), b.state("line", (5, 8))
    params = [b.param(n, rng.normal(size=s).astype("f4")) for n, s in (("f", (8, 6)), ("t", (8, 5)), ("b", (4,)))]
    y, moved = b.call("tflite_svdf", x, line, *params, rank=2, activation=activation)
    b.next(line, moved)
    b.output("y", y)
    graph = b.graph()
    inputs = {"x": rng.normal(size=(2, 30, 6)).astype("f4")}
    stage = Stage("main", graph, inputs_from={"x": Ref("x")})
    program = verify(Program("svdf", {"x": ProgramInput(TensorType((6,)))}, (stage,), {"y": Ref("y", "main")}))
    golden = interpret.run(program, inputs).outputs["y"]
    found = runner("tflm").run(backend("tflite").compile(program, TARGET), inputs).outputs["y"]
    np.testing.assert_allclose(found, golden, atol=2e-5)
    assert np.ptp(golden) > 0.5
