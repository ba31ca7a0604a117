"""Quantization: close to float on calibrated inputs, inside its integers on any, and honest where it can't be either."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.interpret import StepInterpreter, run
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.text import param_data, parse_program, print_program
from neurodeploy.ir.types import TensorType
from neurodeploy.passes import parse
from neurodeploy.passes import run as run_passes
from neurodeploy.passes.quantize_checks import lost_updates
from neurodeploy.passes.quantize_ops import RULES
from neurodeploy.passes.quantize_plan import i16_scale
from neurodeploy.passes.quantize_values import Emitter, Fixed
from neurodeploy.passes.sensitivity import sensitivity
from tests.families import CASES
from tests.strategies import Case, as_program, float_cases

#: Families that have an op without an integer form, and the op that the refusal names.
REFUSED = {"dnc": "prod", "memristive_network": "solve"}
#: rmse over the output's range. Weights of 8 bits are what it is made of; the integer arithmetic adds next to nothing.
TOLERANCE = 0.005


def quantized(program: Program, data: Data, options: str = "", calibrate: str = "") -> Program:
    return run_passes(program, parse(f"simplify,calibrate{{{calibrate}}},quantize{{{options}}},simplify", data))


def error(program: Program, integer: Program, data: Data) -> float:
    """The largest rmse over range of any output."""
    real = real_outputs(program, run(program, data.inputs, data.lengths))
    found = real_outputs(integer, run(integer, data.inputs, data.lengths))
    worst = 0.0
    for name, array in real.items():
        assert found[name].shape == array.shape
        a, b = array.astype(np.float64), found[name].astype(np.float64)
        worst = max(worst, float(np.sqrt(np.mean((a - b) ** 2))) / max(float(np.ptp(a)), float(np.abs(a).max()), 1e-9))
    return worst


@pytest.mark.parametrize("name", [n for n in CASES if n not in REFUSED])
def test_every_family_stays_close_to_float(name: str):
    case = CASES[name]
    data = Data(case.inputs, case.lengths)
    integer = quantized(case.program, data)
    assert integer.numerics == "native"
    assert error(case.program, integer, data) < TOLERANCE
    types = [v.type for s in integer.stages for v in s.graph.values]
    assert not any("f32" in str(t) for t in types), "a float is left"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_has_no_integer_form_is_refused_by_name(name: str):
    case = CASES[name]
    with pytest.raises(UnsupportedError, match=rf"\({REFUSED[name]}\).*--numerics float"):
        quantized(case.program, Data(case.inputs, case.lengths))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(float_cases())
def test_random_graphs_track_float_and_never_overflow(case: Case):
    data = Data(case.inputs, case.lengths)
    integer = quantized(case.program, data)
    assert error(case.program, integer, data) < 0.02
    assert parse_program(print_program(integer), param_data(integer)) == integer
    r = np.random.default_rng(0)
    for wild in (1e3 * case.inputs["x"], 1e6 * r.choice([-1.0, 1.0], case.inputs["x"].shape)):
        run(integer, {"x": wild.astype(np.float32)}, case.lengths)  # NumericsError if an integer leaves its type


def test_every_op_has_an_integer_rule_or_is_known_to_have_none():
    native = {"requantize", "lut", "quantize", "dequantize", "const", "get"}
    rewritten = {"softmax"}
    refused = {"floor", "round", "prod", "solve"}
    plain = {n for n in OPS if not n.startswith("tfl")}
    assert plain - native - rewritten - refused == set(RULES)


def leaky(leak: float, units: int = 40) -> tuple[Program, Data]:
    """A reservoir on slow inputs, whose states wander over their whole range."""
    r = np.random.default_rng(1)
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [units], init=np.full(units, 0.9))
    weights = [r.normal(size=(units, 2)), 0.9 * r.normal(size=(units, units)) / units**0.5, 0.1 * r.normal(size=units)]
    (new,) = b.call("leaky", x, h, *(b.param(n, w) for n, w in zip("WUb", weights, strict=True)),
                    b.param("leak", np.float32(leak)))  # fmt: skip
    b.next(h, new)
    b.output("y", new)
    t = np.arange(600) * leak / 4
    wave = np.stack([np.sin(t), np.cos(0.7 * t)], -1)[None].astype(np.float32)
    return as_program(b, "leaky"), Data({"x": wave})


@pytest.mark.parametrize(("leak", "dtype", "stalls"), [
    (0.3, "i16", False), (0.01, "i16", False), (0.3, "i8", False), (0.01, "i8", True), (0.00002, "i16", True),
])  # fmt: skip
def test_a_slow_state_is_warned_of(leak: float, dtype: str, stalls: bool):
    program, data = leaky(leak)
    integer = quantized(program, data, f"state_dtype={dtype}")
    warnings = [w for w in integer.meta.get("warnings", []) if "stalls" in w]
    assert bool(warnings) == stalls
    assert not stalls or (f"'main.h' ({dtype}" in warnings[0] and "% of its updates" in warnings[0])


def test_the_warned_share_is_what_the_integer_program_loses():
    program, data = leaky(0.01)
    integer = quantized(program, data, "state_dtype=i8")
    (warning,) = [w for w in integer.meta["warnings"] if "stalls" in w]
    said = float(warning.split("stalls: ")[1].split(" %")[0]) / 100
    states = {"float": run(program, data.inputs, states=True), "int": run(integer, data.inputs, states=True)}
    still = float(np.mean(np.diff(states["int"].states["main.h"].astype(int), axis=1) == 0))
    assert np.mean(np.diff(states["float"].states["main.h"], axis=1) == 0) < 0.01
    assert abs(still - said) < 0.15


def test_lost_updates_reads_quantiles():
    sizes = [2.0**k for k in range(-10, 1)]
    assert lost_updates(sizes, 2.0**-10) == 0
    assert lost_updates(sizes, 2.0**-4) == pytest.approx(0.5)
    assert lost_updates(sizes, 8.0) == 1.0


def test_nine_hundred_columns_are_split_where_one_accumulator_could_overflow():
    b = Builder()
    x = b.input("x", [900])
    weight = np.where(np.arange(1800).reshape(2, 900) % 2, 1.0, -1.0)
    b.output("y", b.param("W", weight) @ x + b.param("b", np.array([0.5, -0.5])))
    program = as_program(b, "wide")
    r = np.random.default_rng(0)
    data = Data({"x": r.uniform(-1, 1, (4, 3, 900)).astype(np.float32)})
    integer = quantized(program, data)
    assert sum(v.op == "affine" for v in integer.stages[0].graph.values) == 2
    assert error(program, integer, data) < TOLERANCE
    worst = np.where(weight[0] > 0, 32767, -32768).astype(np.int16)
    run(integer, {"x": np.stack([worst, -1 - worst])[None]})


def test_a_bias_larger_than_the_products_keeps_its_accumulator_inside():
    b = Builder()
    x = b.input("x", [2])
    b.output("y", b.param("W", np.full((2, 2), 1e-7)) @ x + b.param("b", np.array([3.0, -2.0])))
    program = as_program(b, "bias")
    data = Data({"x": np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)})
    found = real_outputs(integer := quantized(program, data), run(integer, data.inputs))["y"]
    assert np.allclose(found, [3.0, -2.0], atol=2e-4)


def test_weights_of_a_small_product_keep_their_levels():
    """Inputs 30 times the state's range must not leave the recurrent weights a handful of levels."""
    r = np.random.default_rng(0)
    b = Builder()
    x, h = b.input("x", [4]), b.state("h", [24])
    z = b.param("W", r.normal(size=(24, 4))) @ x + b.param("U", r.normal(size=(24, 24)) / 24**0.5) @ h
    b.next(h, new := b("tanh", z))
    b.output("y", new)
    program = as_program(b, "loud")
    integer = quantized(program, Data({"x": 30 * r.uniform(-1, 1, (4, 9, 4)).astype(np.float32)}))
    weights = next(p.data for n, p in integer.stages[0].graph.params.items() if n.startswith("U"))
    assert np.median(np.abs(weights.astype(int)).max(axis=1)) >= 40


@pytest.mark.parametrize(("top", "scale"), [
    (0.0, 2.0**-15), (1.0, 2.0**-15), (0.99, 2.0**-15), (1.01, 2.0**-14), (3.9, 2.0**-13), (5.0, 2.0**-12), (1e5, 4.0),
])  # fmt: skip
def test_scales_are_the_smallest_power_of_two_that_fits(top: float, scale: float):
    assert i16_scale(top) == scale


def test_an_input_of_exactly_one_is_exact():
    assert i16_scale(1.0, exact=True) == 2.0**-14


def test_interfaces_between_stages_share_their_types():
    f, g = Builder(), Builder()
    x, h = f.input("x", [3]), f.state("h", [3])
    f.next(h, new := 0.5 * h + x)
    f.output("y", new)
    a, s = g.input("a", [3]), g.state("s", [3])
    g.next(s, moved := s + 3.0 * a)
    g.output("z", moved)
    program = Program(
        "two",
        {"x": ProgramInput(x.type)},
        (
            Stage("f", f.graph(), Drive(), {"x": Ref("x")}),
            Stage("g", g.graph(), Drive("reverse"), {"a": Ref("y", "f")}, {"s": Ref("h", "f", "final")}),
        ),
        {"z": Ref("z", "g")},
    )
    data = Data({"x": np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)})
    integer = quantized(program, data)  # verified: a mismatch would raise IRError
    assert integer.stages[1].graph.inputs["a"] == integer.ref_type(Ref("y", "f"))
    assert error(program, integer, data) < 1e-3


@pytest.mark.parametrize("options", ["weight_bits=4", "activation_dtype=i8", "state_dtype=i8"])
def test_fewer_bits_are_an_option(options: str):
    case = CASES["gru_reset_after"]
    data = Data(case.inputs, case.lengths)
    integer = quantized(case.program, data, options)
    assert TOLERANCE / 50 < error(case.program, integer, data) < 0.05
    if options == "weight_bits=4":
        weights = [p.data for p in integer.stages[0].graph.params.values() if p.type.dtype == "i8"]
        assert max(int(np.abs(w).max()) for w in weights) == 7


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_other_calibrations_quantize_too(method: str):
    case = CASES["lstm"]
    data = Data(case.inputs, case.lengths)
    assert error(case.program, quantized(case.program, data, calibrate=f"method={method}"), data) < 0.02


def test_what_calibration_never_met_is_warned_of():
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [2])
    never = b("lt", b.const(1e9), b("sum", x, axis=0))
    b.next(h, b("tanh", 3.0 * x) + 2.0 * h, never)
    b.output("y", h)
    program = as_program(b, "never")
    integer = quantized(program, Data({"x": np.ones((1, 2, 2), np.float32)}))
    assert any("never met" in w for w in integer.meta["warnings"])


def test_sensitivity_ranks_the_tensor_that_was_spoilt_first():
    """A weight with an outlier in every row, on an input that is always 0, loses its levels: it must stand on top."""
    r = np.random.default_rng(0)
    b = Builder()
    x, h = b.input("x", [4]), b.state("h", [8])
    silent, spoilt = r.normal(size=(8, 4)), r.normal(size=(8, 8)) / 8
    silent[0], spoilt[:, 0] = 0.0, 40.0
    b.next(h, new := 0.5 * h + b("tanh", b.param("W", silent) @ x))
    b.output("y", b.param("V", spoilt) @ new)
    data = Data({"x": r.normal(size=(6, 8, 4)).astype(np.float32)})
    table = sensitivity(as_program(b, "spoilt"), data)
    assert (table.rows[0].kind, table.rows[0].tensor) == ("weight", "main.V")
    assert table.rows[0].rmse_others < table.rmse_all / 5
    assert {row.kind for row in table.rows} >= {"weight", "state", "input", "activation"}
    assert table.accuracy_float is None


@pytest.mark.parametrize("options", ["", "state_dtype=i8", "activation_dtype=i8"])
def test_values_that_are_always_zero_quantize(options: str):
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [2])
    b.next(h, h - h)
    b.output("y", b.param("W", np.ones((2, 2))) @ (x - x) + b.param("V", np.ones((2, 2))) @ h)
    program = as_program(b, "zero")
    data = Data({"x": np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)})
    assert error(program, quantized(program, data, options), data) == 0


def elman(W: np.ndarray, U: np.ndarray, bias: np.ndarray, *, activation: str = "tanh", scale: float = 1.0) -> tuple:
    """An Elman net's program and calibration data ``[4, 12, inputs]`` of that size."""
    b = Builder()
    x, h = b.input("x", (W.shape[1],)), b.state("h", (len(W),))
    params = [b.param(n, a.astype(np.float32)) for n, a in (("W", W), ("U", U), ("b", bias))]
    (new,) = b.call("elman", x, h, *params, activation=activation)
    b.next(h, new)
    b.output("y", new)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("net", {"x": ProgramInput(TensorType((W.shape[1],)))}, (stage,), {"y": Ref("y", "main")})
    data = np.random.default_rng(4).normal(size=(4, 12, W.shape[1])) * scale
    return program, Data({"x": data.astype(np.float32)})


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-3, 1e3, 1e10])
def test_inputs_of_any_unit_quantize_alike(size: float):
    """Amperes or nanoamperes: the scale of an input follows its range however small or large."""
    rng = np.random.default_rng(3)
    program, data = elman(rng.normal(size=(6, 4)) / size, rng.normal(size=(6, 6)) * 0.3, np.zeros(6), scale=size)
    assert error(program, quantized(program, data), data) < 0.01


def test_rows_whose_scales_lie_far_apart_share_one_rescale():
    """Rows of nothing but a bias have accumulators near 2^29 at a tiny scale, beside rows that need a shift up."""
    rng = np.random.default_rng(5)
    W, U, bias = rng.normal(size=(12, 4)), np.zeros((12, 12)), np.full(12, 1e-7)
    W[::2] *= 1e-22
    W[1] *= 3e4
    program, data = elman(W, U, bias, activation="tanh")
    integer = quantized(program, data)
    wild = {"x": np.full((1, 3, 4), 1e6, np.float32)}
    run(integer, wild)
    assert error(program, integer, data) < 0.02


@pytest.mark.parametrize(("dtype", "scale", "low", "high"), [
    ("i32", 2.0**65, -(2**29), -(2**29)),  # all of it beyond the limit that it is cut to
    ("i32", np.array([1e30, 1e-30, 1.0]), np.array([-5, -(2**30), 7]), np.array([5, 2**30, 7])),
    ("i16", np.array([1e9, 1.0, 1e-9]), np.full(3, -32768), np.full(3, 32767)),
])  # fmt: skip
def test_a_rescale_keeps_its_bounds_in_order(dtype: str, scale, low, high):
    b = Builder()
    e = Emitter(b)
    made = e.rescale(Fixed(b.input("x", (3,), dtype), scale, low, high, 1.0), 0.5, "i16")
    assert -32768 <= made.lo <= made.hi <= 32767
    b.output("y", made.sym)
    ends = np.stack([np.broadcast_to(low, 3), np.broadcast_to(high, 3)])
    engine = StepInterpreter(b.graph())
    engine.reset(2, {})
    found = engine.step({"x": ends.astype({"i16": np.int16, "i32": np.int32}[dtype])}, np.ones(2, bool))["y"]
    real = np.stack([np.broadcast_to(end * scale, 3) for end in (low, high)]) / 0.5
    np.testing.assert_allclose(found, np.clip(real, -32768, 32767), atol=1)


def test_zeros_align_with_what_is_far_finer():
    b = Builder()
    e = Emitter(b)
    zeros, fine = (
        Fixed(b.input("z", (2,), "i32"), 2.0**10, 0, 0, 1.0),
        Fixed(b.input("x", (2,), "i16"), 2.0**-40, -9, 9, 1.0),
    )
    one, other = e.align(zeros, fine, 2.0**-40)
    assert one.scale == other.scale
    assert all(abs(v.attrs["value"]) < 2**31 for v in b.graph().values if v.op == "const")
