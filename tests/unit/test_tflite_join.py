"""Sums of products that become one product for TFLite's int16 kernels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from neurodeploy.data import arrange
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program
from neurodeploy.ir.verify import verify
from neurodeploy.passes import pipeline, run
from neurodeploy.passes.tflite.join import joined
from tests.families.case import one_stage

ROWS = 24


def cell(gain: float | np.ndarray = 1.0, *, inputs: int = 5, more: int = 0, reads: str = "", feed: float = 1.0):
    """A cell ``tanh(W x + U h (+ V y) + b)`` in random weights, W times ``gain``; inputs of size ``feed``."""
    rng, b = np.random.default_rng(2), Builder()

    def weights(columns: int) -> np.ndarray:
        return rng.choice([-1.0, 1.0], (ROWS, columns)) * rng.uniform(0.8, 1, (ROWS, columns)) / 4

    x, h = b.input("x", [inputs]), b.state("h", [ROWS])
    into = b.param("W", weights(inputs) * gain) @ x
    total = into + b.param("U", weights(ROWS)) @ h
    if more:
        y = b.state("y", [more])
        total = total + b.param("V", weights(more)) @ y
        b.next(y, b.param("R", rng.normal(size=(more, ROWS)) / 9) @ h)
    new = b("tanh", total + b.param("b", rng.normal(size=ROWS) / 4))
    b.next(h, new)
    b.output("out", new)
    if reads:
        b.output("too", {"product": into, "sum": total}[reads])
    program = stage(b)
    return program, {"x": (feed * rng.uniform(-1, 1, (4, 20, inputs))).astype(np.float32)}


def stage(b: Builder) -> Program:
    graph = b.graph()
    return one_stage("net", graph, inputs=graph.inputs, outputs={name: f"main.{name}" for name in graph.outputs})


def calibrated(program: Program, inputs) -> Program:
    *before, _ = pipeline("tflite", "tflite", data=arrange(inputs, program))
    return run(program, before)


def ops(program: Program) -> Counter[str]:
    return Counter(value.op for value in program.stages[0].graph.values)


@pytest.mark.parametrize(("gain", "more", "reads"), [(1.0, 0, ""), (6.0, 0, ""), (0.2, 7, ""), (1.0, 7, "sum")])
def test_one_product_takes_all_vectors_and_gives_the_same_values(gain, more, reads):
    program, inputs = cell(gain, more=more, reads=reads)
    before = calibrated(program, inputs)
    made = verify(joined(before))
    assert ops(made)["matmul"] == ops(before)["matmul"] - (2 if more else 1)
    assert ops(made)["concat"] == 1
    (vector,) = (v for v in made.stages[0].graph.values if v.op == "concat")
    ranges = made.meta["ranges"]["main"]
    scaled = [a for a in vector.args if a not in ("x", "h", "y")]
    assert len(scaled) >= (gain != 1.0)
    assert all(ranges[name] == ranges[vector.name] for name in scaled)  # made on its scale
    for name, array in interpret.run(program, inputs).outputs.items():
        np.testing.assert_allclose(interpret.run(made, inputs).outputs[name], array, atol=2e-6)
    graph = made.stages[0].graph
    assert set(graph.types()) - set(graph.params) <= set(ranges)


def test_many_vectors_are_joined_without_trying_every_choice_of_their_factors():
    rng, b, count = np.random.default_rng(3), Builder(), 14  # 7^13 choices
    given = {f"x{i}": rng.uniform(-1, 1, (2, 5, 3)).astype(np.float32) for i in range(count)}
    total = b.param("c", rng.normal(size=ROWS))
    for i, name in enumerate(given):
        weights = rng.choice([-1.0, 1.0], (ROWS, 3)) * rng.uniform(0.8, 1, (ROWS, 3)) * 2.0 ** (i % 5 - 2)
        total = total + b.param(f"W{i}", weights) @ b.input(name, [3])
    b.output("out", b("tanh", total))
    before = calibrated(stage(b), given)
    made = verify(joined(before))
    assert (ops(before)["matmul"], ops(made)["matmul"]) == (count, 1)
    for name, array in interpret.run(before, given).outputs.items():
        np.testing.assert_allclose(interpret.run(made, given).outputs[name], array, atol=2e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"reads": "product"},  # what another reads is needed by itself
        {"gain": np.geomspace(0.02, 8, ROWS)[:, None]},  # rows that differ would lose their weights
        {"gain": 200.0},  # h would fill next to nothing of the common range
        {"inputs": 60},  # bringing the inputs to it would cost more than is saved
    ],
)
def test_what_would_lose_accuracy_or_time_stays(given):
    before = calibrated(*cell(**given))
    assert ops(joined(before)) == ops(before)


def test_vectors_are_joined_once_for_all_their_products():
    b = Builder()
    rng = np.random.default_rng(0)
    x, h = b.input("x", [4]), b.state("h", [8])
    sums = [b.param(f"W{i}", rng.uniform(0.9, 1, (8, 4))) @ x + b.param(f"U{i}", rng.uniform(0.9, 1, (8, 8))) @ h
            for i in range(2)]  # fmt: skip
    new = b("tanh", sums[0]) * b("sigmoid", sums[1])
    b.next(h, new)
    b.output("y", new)
    program = stage(b)
    made = joined(calibrated(program, {"x": rng.normal(size=(2, 9, 4)).astype(np.float32)}))
    assert (ops(made)["matmul"], ops(made)["concat"]) == (2, 1)


def test_eight_bits_are_left_apart():
    """Two vectors on one scale of 8 bits would lose too much."""
    program, inputs = cell()
    narrow = [
        {"activation_dtype": "i8"},
        {"state_dtype": "i8"},
        {"states": {"h": "i8"}},
        {"weights": {"U": 8}},
        {"prefer": "size"},
    ]
    for given, products in ({}, 1), *((given, 2) for given in narrow):
        made = run(program, pipeline("tflite", "tflite", data=arrange(inputs, program), quantize_tflite=given))
        assert ops(made)["tfl_fully_connected"] == products, given


def test_a_product_that_is_named_stays_one():
    program, inputs = cell()
    data = arrange(inputs, program)
    (name,) = (v.name for v in calibrated(program, inputs).stages[0].graph.values if v.op == "matmul" and "W" in v.args)
    for named, products in (({}, 1), ({name: "i16"}, 2)):
        made = run(program, pipeline("tflite", "tflite", data=data, quantize_tflite={"activations": named}))
        assert ops(made)["tfl_fully_connected"] == products
