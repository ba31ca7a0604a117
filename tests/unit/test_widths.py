"""Widths of tensors by name: what the quantizer makes of them, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.passes import make, parse, print_pass
from neurodeploy.passes import run as run_passes
from neurodeploy.passes.quantize import Quantize
from neurodeploy.passes.quantize_rounding import compensated, part_of
from tests.families import CASES
from tests.strategies import as_program


def elman(inputs: int = 5, units: int = 24, seed: int = 0) -> tuple[Program, Data]:
    """``h' = tanh(W x + U h + b)``, ``y = V h'``, on correlated inputs."""
    r = np.random.default_rng(seed)
    b = Builder()
    x, h = b.input("x", [inputs]), b.state("h", [units])
    W, U = r.normal(size=(units, inputs)), r.normal(size=(units, units)) / units**0.5
    z = b.param("W", W) @ x + b.param("U", U) @ h + b.param("b", r.normal(size=units) / 4)
    b.next(h, new := b("tanh", z))
    b.output("y", b.param("V", r.normal(size=(3, units)) / units**0.5) @ new)
    mix = r.normal(size=(inputs, inputs))
    return as_program(b, "elman"), Data({"x": (r.normal(size=(12, 15, inputs)) @ mix / 2).astype(np.float32)})


def quantized(program: Program, data: Data, **options: object) -> Program:
    (calibrate,) = parse("calibrate", data)
    return run_passes(program, (calibrate, Quantize(data=data, **options)))  # type: ignore[arg-type]


def error(program: Program, integer: Program, data: Data) -> float:
    """rmse of the first output over its range."""
    real = real_outputs(program, run(program, data.inputs, data.lengths))
    found = real_outputs(integer, run(integer, data.inputs, data.lengths))
    name = next(iter(real))
    gap = real[name].astype(np.float64) - found[name]
    return float(np.sqrt((gap**2).mean()) / np.ptp(real[name]))


def greatest(program: Program, name: str) -> int:
    (data,) = [p.data for s in program.stages for n, p in s.graph.params.items() if n == name]
    return int(np.abs(data.astype(int)).max())


def dtypes(program: Program) -> dict[str, str]:
    graph = program.stages[0].graph
    return {n: p.type.dtype for n, p in graph.params.items()} | {s.name: s.type.dtype for s in graph.states}


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_a_named_weight_has_its_bits_and_no_other(bits: int):
    program, data = elman()
    integer = quantized(program, data, weights={"V": bits}, rounding="nearest")
    assert (greatest(integer, "V"), greatest(integer, "U")) == (2 ** (bits - 1) - 1, 127)


def test_weights_of_one_sum_may_differ():
    program, data = elman()
    integer = quantized(program, data, weights={"U": 4, "W": 8})
    assert (greatest(integer, "U"), greatest(integer, "W")) == (7, 127)
    affines = [v for v in integer.stages[0].graph.values if v.op == "affine"]
    assert [len(v.args) for v in affines] == [3, 3, 3]  # stored apart: one accumulator each for W, U and V
    assert error(program, integer, data) < error(program, quantized(program, data, weight_bits=4), data)


def test_two_few_bit_widths_share_an_accumulator():
    program, data = elman()
    integer = quantized(program, data, weights={"U": 4, "W": 3})
    assert [len(v.args) for v in integer.stages[0].graph.values if v.op == "affine"] == [5, 3]
    assert greatest(integer, "W") <= 3 < greatest(integer, "U") <= 7


def test_sixteen_bit_weights_take_what_the_accumulator_is_proved_to_hold():
    program, data = elman(units=40)
    integer = quantized(program, data, weight_bits=16)
    assert dtypes(integer)["U"] == "i16"
    assert error(program, integer, data) < error(program, quantized(program, data), data) / 10
    note = next(w for w in integer.meta["warnings"] if "'main.U'" in w)
    used = 1 + np.array([int(row.max()).bit_length() for row in np.abs(integer.stages[0].graph.params["U"].data)])
    assert f"of 16 bits {used.min()} to {used.max()} are used" in note
    assert 10 <= used.min() <= used.max() < 16
    worst = np.full((1, 15, 5), 1e6, np.float32)
    for sign in (1, -1):
        run(integer, {"x": sign * worst})  # NumericsError if a sum leaves 32 bits


@pytest.mark.parametrize(("columns", "parts"), [(500, 1), (900, 2)])
def test_sixteen_bit_weights_that_would_get_fewer_than_eight_are_split(columns: int, parts: int):
    b = Builder()
    x = b.input("x", [columns])
    b.output("y", b.param("W", np.where(np.arange(2 * columns).reshape(2, columns) % 2, 1.0, -1.0)) @ x)
    program = as_program(b, "wide")
    data = Data({"x": np.random.default_rng(0).uniform(-1, 1, (4, 3, columns)).astype(np.float32)})
    integer = quantized(program, data, weight_bits=16)
    affines = [v for v in integer.stages[0].graph.values if v.op == "affine"]
    weights = [integer.stages[0].graph.params[v.args[0]].data for v in affines]
    assert len(weights) == parts
    assert min(int(np.abs(w.astype(int)).max()) for w in weights) > 127


def test_states_and_activations_by_name():
    program, data = elman()
    integer = quantized(program, data, states={"h": "i8"}, activations={"main.x": "i8"})
    assert dtypes(integer)["h"] == "i8"
    assert integer.inputs["x"].type.dtype == "i8"
    assert integer.output_types()["y"].dtype == "i16"


def test_a_tensor_named_with_its_stage_is_that_stages_alone():
    case = CASES["stacked_bidirectional"]
    data = Data(case.inputs, case.lengths)
    (calibrate,) = parse("calibrate", data)
    calibrated = calibrate(case.program)
    names: dict[str, list[str]] = {}
    for stage in Quantize()(calibrated).stages:
        for name, param in stage.graph.params.items():
            if param.type.quant is not None and param.type.quant.axis == 0:
                names.setdefault(name, []).append(stage.name)
    name, stages = next((n, s) for n, s in names.items() if len(s) > 1)

    def narrow(option: str) -> set[str]:
        integer = Quantize(weights={option: 4}, rounding="nearest")(calibrated)
        having = [s for s in integer.stages if name in s.graph.params]
        return {s.name for s in having if np.abs(s.graph.params[name].data.astype(int)).max() <= 7}

    assert narrow(name) >= set(stages)
    assert narrow(f"{stages[0]}.{name}") == {stages[0]}


@pytest.mark.parametrize(("options", "message"), [
    ({"weights": {"UU": 4}}, "option 'weights': names 'UU', which is none of the network's; needed a tensor of it. "
                             "Did you mean 'U'?"),
    ({"weights": {"mian.U": 4}}, "Did you mean 'main.U'?"),
    ({"weights": {"b": 4}}, "names 'b'"),
    ({"weights": {"U": 9}}, "option 'weights': gives 'U' 9; needed 2 to 8 bits, or 16."),
    ({"weights": {"U": True}}, "gives 'U' True"),
    ({"states": {"g": "i8"}}, "option 'states': names 'g', which is none of the network's; needed a tensor of it. "
                              "Known: h."),
    ({"states": {"h": "i4"}}, "gives 'h' 'i4'; needed i8 or i16."),
    ({"activations": {"U": "i8"}}, "option 'activations': names 'U'"),
    ({"weight_bits": 12}, "weight_bits is 12; needed 2 to 8, or 16."),
    ({"rounding": "up"}, "rounding is 'up'; needed compensated or nearest."),
])  # fmt: skip
def test_what_is_not_there_is_refused_by_name(options: dict, message: str):
    program, data = elman()
    with pytest.raises(UsageError) as caught:
        quantized(program, data, **options)
    assert message in str(caught.value)


def test_few_bits_without_samples_are_refused_unless_rounded_to_the_nearest():
    program, data = elman()
    (calibrate,) = parse("calibrate", data)
    calibrated = calibrate(program)
    with pytest.raises(UsageError, match="rounded against samples.*rounding=nearest"):
        Quantize(weight_bits=4)(calibrated)
    assert greatest(Quantize(weight_bits=4, rounding="nearest")(calibrated), "U") == 7


@pytest.mark.parametrize("options", [
    {}, {"weight_bits": 4}, {"weights": {"U.0_64": 4, "fc_W": 16}, "states": {"h": "i8"}},
    {"activations": {"x": "i8"}, "rounding": "nearest", "state_dtype": "i8"},
])  # fmt: skip
def test_a_pass_prints_as_it_is_parsed(options: dict):
    step = make("quantize", options)
    assert parse(print_pass(step)) == (step,)
    assert (print_pass(step) == "quantize") == (not options)


# -- rounding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_compensated_weights_lose_less(bits: int, seed: int):
    program, data = elman(seed=seed)
    fresh = Data({"x": elman(seed=seed)[1].inputs["x"][::-1] * np.float32(0.9)})
    nearest = quantized(program, data, weight_bits=bits, rounding="nearest")
    found = quantized(program, data, weight_bits=bits)
    assert error(program, found, data) < 0.65 * error(program, nearest, data)
    assert error(program, found, fresh) < 0.65 * error(program, nearest, fresh)


def random_rows(sparse: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights, steps, bias and the moments of vectors that move together."""
    r = np.random.default_rng(3)
    weights = r.normal(size=(6, 16)) * (r.random((6, 16)) >= sparse)
    v = np.concatenate([r.normal(size=(500, 16)) @ r.normal(size=(16, 16)), np.ones((500, 1))], axis=1)
    steps = np.repeat(np.abs(weights).max(axis=1, keepdims=True) / 7, 16, axis=1)
    return weights, steps, r.normal(size=6), v.T @ v / 500


def squared(weights: np.ndarray, bias: np.ndarray, whole: np.ndarray, steps: np.ndarray, offset, moment) -> np.ndarray:
    gap = np.concatenate([weights - whole * steps, (bias - offset)[:, None]], axis=1)
    return np.einsum("rk,kl,rl->r", gap, moment, gap)


def test_no_row_is_rounded_worse_than_to_the_nearest():
    weights, steps, bias, moment = random_rows()
    whole, share, offset = compensated(weights, steps, np.full(16, 7), bias, moment, np.zeros(6))
    nearest = np.clip(np.rint(weights / steps), -7, 7)
    ours = squared(weights, bias, whole, steps * share[:, None], offset, moment)
    theirs = squared(weights, bias, nearest, steps, bias, moment)
    assert np.all(ours < theirs)
    assert ours.sum() < 0.6 * theirs.sum()
    assert np.abs(whole).max() <= 7
    assert np.any(share < 1)


def test_a_weight_of_zero_stays_zero():
    weights, steps, bias, moment = random_rows(sparse=0.6)
    whole, _, _ = compensated(weights, steps, np.full(16, 7), bias, moment, np.zeros(6))
    assert (weights == 0).any()
    assert not whole[weights == 0].any()


def test_a_share_is_never_below_what_the_bias_needs():
    weights, steps, bias, moment = random_rows()
    _, share, _ = compensated(weights, steps, np.full(16, 7), bias, moment, np.full(6, 0.95))
    assert share.min() >= 0.95


def test_moments_of_a_part_keep_the_one():
    moment = np.arange(36.0).reshape(6, 6)
    np.testing.assert_array_equal(part_of(moment, [2, 3], [1]), moment[np.ix_([2, 3, 4, 5], [2, 3, 4, 5])])


def test_parts_larger_than_their_sum_do_not_saturate():
    """Two products of 60 whose difference stays below 10: each part is added whole, not cut to the sum's range."""
    r = np.random.default_rng(0)
    b = Builder()
    one, other = b.input("one", [4]), b.input("other", [4])
    weights = r.uniform(1, 4, size=(3, 4))
    b.output("y", b.param("A", weights) @ one - b.param("B", 1.001 * weights) @ other)
    program = as_program(b, "apart")
    x = r.uniform(2, 4, size=(6, 5, 4))
    data = Data({"one": x.astype(np.float32), "other": (x + r.normal(size=x.shape) / 2).astype(np.float32)})
    given = {"weights": {"A": 8, "B": 4}, "rounding": "nearest"}
    wide = error(program, quantized(program, data, **given), data)
    assert error(program, quantized(program, data, activations={"other": "i8"}, **given), data) < 1.5 * wide < 0.1
