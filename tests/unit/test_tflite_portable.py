"""Quantized for every version of TFLite Micro: multipliers computed in float32 or in double give the same results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurodeploy.data import arrange
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.tflite.fixed_point import quantize_multiplier
from neurodeploy.ir.types import TensorType
from neurodeploy.passes import pipeline, run
from neurodeploy.passes.tflite import portable
from neurodeploy.passes.tflite.quantize import QuantizeTFLite
from neurodeploy.passes.tflite.scales import even, step
from tests.families import CASES

WIDTHS: dict[str, dict[str, Any]] = {
    "int16x8": {},
    "int8": {"activation_dtype": "i8"},
    "mixed": {"activation_dtype": "i8", "state_dtype": "i16"},
    "int16x8, one scale": {"per_channel": False},
    "int8, weights of 4 bits": {"activation_dtype": "i8", "weight_bits": 4},
}
SINGLE = ("tfl_sub", "tfl_relu", "tfl_fully_connected")


def scales(type_: TensorType) -> np.ndarray:
    assert type_.quant is not None
    return type_.quant.array


def fragile(program: Program) -> tuple[int, list[str]]:
    """How many operators have multipliers of float32 somewhere, and those whose results depend on it."""
    count, found = 0, []
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op not in SINGLE:
                continue
            args = [stage.graph.tensor(a) for a in value.args]
            if value.op == "tfl_fully_connected" and scales(args[1]).size > 1:
                continue
            count += 1
            if value.op != "tfl_fully_connected" and value.tensor.dtype == "i8":
                differs = portable.differs(value.op, args, value.tensor)  # every argument that there is
            else:
                single, double = (np.array(portable.factors(value.op, args, value.tensor, real))
                                  for real in (np.float32, np.float64))  # fmt: skip
                differs = not np.array_equal(quantize_multiplier(single), quantize_multiplier(double))
            found += [f"{stage.name}: {value}"] if differs else []
    return count, found


@pytest.mark.parametrize("width", WIDTHS)
def test_families(width):
    count = 0
    for case in CASES.values():
        data = arrange(dict(case.inputs), case.program)
        data = data if case.lengths is None else replace(data, lengths=np.asarray(case.lengths))
        made = run(case.program, pipeline("tflite", "tflite", data=data, quantize_tflite=WIDTHS[width]))
        more, found = fragile(made)
        assert not found, case.name
        assert not [w for w in made.meta.get("warnings", []) if "float32" in w]
        count += more
    assert count > 30


def quantized(b: Builder, ranges: dict[str, list[float]], **options: Any) -> Program:
    graph = b.graph()
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, Drive(), {name: Ref(name) for name in inputs})
    program = Program("net", inputs, (stage,), {"y": Ref("y", "main")}, meta={"ranges": {"main": ranges}})
    return QuantizeTFLite(**options)(program)


def made(b: Builder, ranges: dict[str, list[float]]) -> tuple[list[str], dict[str, float]]:
    """The operators, and every value's scale."""
    graph = quantized(b, ranges).stages[0].graph
    found = {name: float(scales(graph.tensor(name))) for name in ("x", "z", "sub") if name in graph.types()}
    return [value.op for value in graph.values], found


def test_a_difference_is_on_powers_of_two_but_for_its_finer_argument():
    b = Builder()
    b.output("y", b("sub", b.input("x", [3]), b.input("z", [3]), name="sub"))
    ops, found = made(b, {"x": [-5, 5], "z": [-1, 1], "sub": [-6, 6]})
    assert ops == ["tfl_sub"]
    assert found["x"] == even(5 * 1.1 / 32767) and found["sub"] == even(6 * 1.1 / 32767)
    assert found["z"] == step(1.1 / 32767) != even(1.1 / 32767)


def test_a_constant_is_added_as_its_negative():
    b = Builder()
    b.output("y", b("sub", b.input("x", [3]), b.param("c", np.array([1.0, 2.0, -4.0])), name="sub"))
    ops, found = made(b, {"x": [-5, 5], "sub": [-9, 9]})
    assert ops == ["tfl_add"]
    assert found["x"] == step(5 * 1.1 / 32767)


def test_what_moving_scales_does_not_help_is_told(monkeypatch):
    monkeypatch.setattr(portable, "differs", lambda *_: True)
    b = Builder()
    b.output("y", b("sub", b.input("x", [3]), b.input("z", [3]), name="sub"))
    found = quantized(b, {"x": [-5, 5], "z": [-1, 1], "sub": [-6, 6]}, activation_dtype="i8")
    (warning,) = found.meta["warnings"]
    assert warning.startswith("'sub' of main (tfl_sub) may be a step off in versions of TFLite Micro")
