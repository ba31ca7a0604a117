"""What makes ``.tflite`` files smaller before they are written: blends, and products that share their scales."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from neurodeploy.data import arrange
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.verify import verify
from neurodeploy.passes import pipeline, run
from neurodeploy.passes.tflite.blend import BlendTFLite


def one_stage(b: Builder) -> Program:
    graph = b.graph()
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, inputs_from={name: Ref(name) for name in inputs})
    return Program("net", inputs, (stage,), {name: Ref(name, "main") for name in graph.outputs})


def blend(order: int = 0, *, whole: float = 1.0, leak: bool = False) -> Program:
    """A state that a gate blends with its input, its terms and factors in one of four orders."""
    b = Builder()
    x, z, h = b.input("x", [3]), b("sigmoid", b.input("z", [3])), b.state("h", [3])
    rest = whole - z
    first = rest * x if order % 2 else x * rest
    second = z * h if order // 2 else h * z
    new = first + second if order else second + first
    b.next(h, new)
    b.output("y", new)
    if leak:
        b.output("rest", rest)
    return one_stage(b)


def ops(program: Program) -> Counter[str]:
    return Counter(value.op for value in program.stages[0].graph.values)


@pytest.mark.parametrize("order", range(4))
def test_a_blend_has_one_product_and_the_same_values(order):
    program = blend(order)
    made = verify(BlendTFLite()(program))
    assert (ops(program)["mul"], ops(made)["mul"], ops(made)["sub"], ops(made)["add"]) == (2, 1, 1, 1)
    rng = np.random.default_rng(0)
    feed = {name: rng.normal(size=(2, 9, 3)).astype(np.float32) for name in ("x", "z")}
    np.testing.assert_allclose(interpret.run(made, feed).outputs["y"], interpret.run(program, feed).outputs["y"],
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("odd", [{"whole": 2.0}, {"leak": True}])
def test_what_is_no_blend_or_needed_elsewhere_stays(odd):
    program = blend(**odd)
    assert ops(BlendTFLite()(program)) == ops(program)


def leaky(share: float | np.ndarray, also: bool = False) -> Program:
    b = Builder()
    x, h = b.input("x", [3]), b.state("h", [3])
    away = b("tanh", x) - h
    new = h + away * b.param("share", np.asarray(share))
    b.next(h, new)
    b.output("y", new)
    if also:
        b.output("away", away)
    return one_stage(b)


@pytest.mark.parametrize("share", [0.3, np.array([0.1, 0.5, 0.9])])
def test_a_constant_blend_has_two_products_and_no_difference(share):
    program = leaky(share)
    made = verify(BlendTFLite()(program))
    assert (ops(made)["mul"], ops(made)["sub"], ops(made)["add"]) == (2, 0, 1)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)}
    np.testing.assert_allclose(interpret.run(made, feed).outputs["y"], interpret.run(program, feed).outputs["y"],
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("program", [leaky(0.05), leaky(0.97), leaky(1.5), leaky(0.3, also=True)])
def test_a_slow_leak_or_a_difference_needed_elsewhere_stays(program):
    """Of a slow leak's two products the roundings would add up over as many steps as it remembers."""
    assert ops(BlendTFLite()(program)) == ops(program)


def scales(weights: float, dtype: str) -> list[tuple[float, ...]]:
    """The scales of an Elman cell's two weights, the input's so many times as great as the state's."""
    rng, b = np.random.default_rng(0), Builder()
    x, h = b.input("x", [8]), b.state("h", [16])
    into = b.param("W", weights * rng.uniform(-1, 1, (16, 8)) / 4) @ x
    new = b("tanh", into + b.param("U", rng.uniform(-1, 1, (16, 16)) / 4) @ h)
    b.next(h, new)
    b.output("y", new)
    program = one_stage(b)
    data = arrange({"x": rng.normal(size=(4, 30, 8)).astype(np.float32)}, program)
    made = run(
        program,
        pipeline("tflite", "tflite", data=data, quantize_tflite={"activation_dtype": dtype, "per_channel": True}),
    )
    params = made.stages[0].graph.params.values()
    return [p.type.quant.scale for p in params if p.type.dtype == "i8" and len(p.type.shape) == 2 and p.type.quant]  # type: ignore[misc]


def test_products_share_scales_where_that_adds_little_noise():
    one, other = scales(1.0, "i8")
    assert one == other and len(one) == 16 and len(set(one)) > 8
    for weights in (20.0, 0.05):
        one, other = scales(weights, "i8")
        assert one != other
