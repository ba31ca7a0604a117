"""The passes before quantization: pipelines as text, simplify, expand, calibrate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings

from neurodeploy.data import Data
from neurodeploy.errors import DataError, IRError, UsageError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run as interpret
from neurodeploy.passes import PASSES, PIPELINES, parse, pipeline, run
from neurodeploy.passes.calibrate import Calibrate, expanded
from neurodeploy.passes.expand import Expand
from neurodeploy.passes.pipeline import name_of, pass_class
from neurodeploy.passes.quantize import Quantize
from neurodeploy.passes.simplify import Simplify
from tests.families import CASES
from tests.strategies import Case, as_program, float_cases, integer_cases


def same(one: Program, other: Program, inputs: object, lengths: object) -> bool:
    """Whether two programs give the same bits."""
    a, b = (interpret(p, inputs, lengths) for p in (one, other))  # type: ignore[arg-type]
    return all(np.array_equal(array, b.outputs[name], equal_nan=True) for name, array in a.outputs.items())


# -- pipelines ---------------------------------------------------------------------------------------------------------


def test_every_pass_of_the_registry_exists_and_is_a_frozen_dataclass():
    for name in PASSES:
        kind = pass_class(name)
        assert kind.__dataclass_params__.frozen, name
        assert name_of(kind()) == name


def test_every_pipeline_names_known_passes():
    assert PIPELINES
    for names in PIPELINES.values():
        assert set(names) <= set(PASSES)


def test_a_pipeline_is_read_from_text():
    found = parse("simplify{growth=7},calibrate{method=percentile, percentile=99},quantize{state_dtype=i8}")
    assert found == (Simplify(7), Calibrate("percentile", 99.0), Quantize(state_dtype="i8"))
    assert parse('expand{keep=["gru", "affine"]}') == (Expand(("gru", "affine")),)


def test_a_backends_pipeline_gets_data_and_options():
    data = Data({"x": np.zeros((1, 1, 1))})
    found = pipeline("c", "native", data=data, method="mse", quantize={"weight_bits": 4})
    assert next(p for p in found if isinstance(p, Calibrate)).data is data
    assert next(p for p in found if isinstance(p, Calibrate)).method == "mse"
    assert Quantize(weight_bits=4) in found
    with pytest.raises(UsageError, match="no pipeline for 'brian2' with 'tflite'"):
        pipeline("brian2", "tflite")


def test_a_pass_that_breaks_the_rules_is_named():
    @dataclass(frozen=True)
    class Breaks:
        def __call__(self, program: Program) -> Program:
            return program.map_graphs(lambda g: replace(g, outputs={"y": "nowhere"}))

    with pytest.raises(IRError, match="after pass 'Breaks'"):
        run(CASES["elman_tanh"].program, [Breaks()])


def test_progress_and_observers_see_every_pass():
    case = CASES["elman_tanh"]
    lines: list[str] = []
    seen: list[str] = []
    data = Data(case.inputs, case.lengths)
    run(case.program, pipeline("c", "native", data=data), observe=lambda n, p: seen.append(n), progress=lines.append)
    assert seen == list(PIPELINES["c", "native"])
    assert any("calibrating" in line and "of 5 samples" in line for line in lines)


# -- simplify and expand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_simplify_and_expand_preserve_every_bit_of_every_family(name: str):
    case = CASES[name]
    assert same(case.program, Expand()(case.program), case.inputs, case.lengths)
    simple = expanded(case.program)
    assert same(case.program, simple, case.inputs, case.lengths)
    assert expanded(simple) == simple
    assert all(v.body is None for s in simple.stages for v in s.graph.values)


@settings(max_examples=40)
@given(float_cases())
def test_simplify_preserves_random_float_graphs(case: Case):
    assert same(case.program, Simplify()(case.program), case.inputs, case.lengths)


@settings(max_examples=40)
@given(integer_cases())
def test_simplify_and_expand_preserve_random_integer_graphs(case: Case):
    assert same(case.program, expanded(case.program), case.inputs, case.lengths)


def test_a_composite_that_is_kept_is_not_opened():
    graph = Expand(keep=("gru",))(CASES["gru_reset_after"].program).stages[0].graph
    assert [v.op for v in graph.values if v.body is not None] == ["gru"]


def test_folded_weights_are_named_after_what_they_were():
    graph = expanded(CASES["gru_reset_after"].program).stages[0].graph
    assert any(name.startswith("W.0_") for name in graph.params)


def test_a_broadcast_that_would_grow_is_left():
    b = Builder()
    b.output("y", b.input("x", [100, 100]) + b("broadcast", b.param("w", np.arange(100.0)), shape=[100, 100]))
    program = as_program(b, "grow")
    assert [v.op for v in Simplify(growth=100)(program).stages[0].graph.values] == ["broadcast", "add"]
    assert [v.op for v in Simplify(growth=10000)(program).stages[0].graph.values] == ["add"]


# -- calibrate ---------------------------------------------------------------------------------------------------------


def scaled(factor: float = 1.0) -> Program:
    b = Builder()
    b.output("y", factor * b.input("x", [1]))
    return as_program(b, "scaled")


def test_ranges_are_least_and_greatest_and_ended_samples_do_not_count():
    x = np.array([[[1.0], [2.0], [-100.0]], [[-3.0], [50.0], [50.0]]], np.float32)
    meta = Calibrate(data=Data({"x": x}, np.array([2, 1]), sha256="abc"))(scaled(2.0)).meta
    assert meta["ranges"]["main"]["x"] == [-3.0, 2.0]
    assert meta["ranges"]["main"]["mul"] == [-6.0, 4.0]
    assert meta["calibration"] == {"method": "minmax", "samples": 2, "sha256": "abc"}


def test_ranges_do_not_depend_on_the_batch():
    r = np.random.default_rng(0)
    data = Data({"x": r.normal(size=(7, 5, 1)).astype(np.float32)})
    for method in ("minmax", "percentile", "mse"):
        one = Calibrate(method, data=data, batch=3)(scaled()).meta
        assert one == Calibrate(method, data=data, batch=100)(scaled()).meta


def test_percentile_drops_an_outlier_and_mse_keeps_a_flat_range():
    x = np.random.default_rng(0).normal(size=(100, 100, 1)).astype(np.float32)
    x[0, 0] = 1000.0
    found = {}
    for method in ("minmax", "percentile"):
        calibrate = Calibrate(method, percentile=99.0, data=Data({"x": x}))
        found[method] = calibrate(scaled(2.0)).meta["ranges"]["main"]["x"]
    assert found["minmax"][1] == 1000.0
    # 99 % of a normal distribution lie within 2.576; the histogram's bins are a quarter wide.
    assert 2.3 < found["percentile"][1] < 3.1 and -3.1 < found["percentile"][0] < -2.3
    flat = np.linspace(-1, 1, 10000, dtype=np.float32).reshape(100, 100, 1)
    low, high = Calibrate("mse", bits=4, data=Data({"x": flat}))(scaled(2.0)).meta["ranges"]["main"]["x"]
    assert 0.9 < high <= 1.0 and -1.0 <= low < -0.9


def test_a_guarded_value_counts_only_where_its_guard_holds():
    case = CASES["clockwork"]
    program = Calibrate(data=Data(case.inputs, case.lengths))(case.program)
    assert set(program.meta["ranges"]) == {s.name for s in program.stages}
    b = Builder()
    x, h = b.input("x", [1]), b.state("h", [1])
    small = b("lt", b("reshape", x, shape=[]), b.const(1.0))
    b.next(h, square := x * x, small)
    b.output("y", h)
    data = Data({"x": np.array([[[0.5], [30.0], [-0.9]]], np.float32)})
    ranges = Calibrate(data=data)(as_program(b, "guarded")).meta["ranges"]["main"]
    assert ranges[square.name][1] == pytest.approx(0.81) and ranges["x"] == [-0.8999999761581421, 30.0]


def test_sizes_of_updates_are_those_of_the_state():
    b = Builder()
    x, h = b.input("x", [1]), b.state("h", [1])
    b.next(h, h + x)
    b.output("y", h)
    data = Data({"x": np.full((1, 8, 1), 0.25, np.float32)})
    sizes = Calibrate(data=data)(as_program(b, "steps")).meta["updates"]["main"]["h"]
    assert all(abs(np.log2(s / 0.25)) <= 0.25 for s in sizes)


def test_calibration_without_data_or_with_nan_is_refused():
    with pytest.raises(UsageError, match="calibration needs sample inputs"):
        Calibrate()(scaled())
    with pytest.raises(DataError, match="NaN or infinity"):
        Calibrate(data=Data({"x": np.full((1, 1, 1), np.nan, np.float32)}))(scaled())
