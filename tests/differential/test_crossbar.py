"""Every family on ideal tiles equals the golden model; integer networks do so on every bit; PCM stays near it."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy import compiler, hardware
from neurodeploy.artifact import Trace
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.manifest import described
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.fixed import lut_table
from neurodeploy.ir.graph import Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.report.agreement import agreement
from tests.families import CASES

IDEAL, PCM = hardware.find("ideal-128", Crossbar), hardware.find("pcm-128", Crossbar)
compile_, run = CrossbarBackend().compile, CrossbarRunner().run


def test_what_is_promised():
    accepts = CrossbarBackend().accepts
    assert (accepts(IDEAL).equality, accepts(PCM).equality) == ("close(1e-5)", "statistical(0.05)")
    for program, target, equality in (
        (integer_network(), IDEAL, "exact"),
        (CASES["elman_tanh"].program, IDEAL, "close(1e-5)"),
        (integer_network(), PCM, "statistical(0.05)"),
    ):
        assert compile_(program, target).manifest["equality"] == equality


@pytest.mark.parametrize(("bits", "equality"), [(None, "exact"), (8, "exact"), (7, "statistical(0.05)")])
def test_a_grid_with_room_for_whole_weights_is_exact(bits: int | None, equality: str):
    """Weights of the network go up to 127; 7 bits with a sign hold 63."""
    target = IDEAL.model_copy(update={"array": IDEAL.array.model_copy(update={"weight_bits": bits})})
    program = integer_network(40, 10)
    built = compile_(program, target)
    assert built.manifest["equality"] == equality
    data = {"x": np.random.default_rng(0).integers(-32767, 32768, (5, 9, 10)).astype(np.int16)}
    same = np.array_equal(run(built, data, chips=1, times=[0]).outputs["y"], interpret.run(program, data).outputs["y"])
    assert same == (equality == "exact")


def test_the_families_are_there():
    assert len(CASES) >= 15


@pytest.mark.parametrize("name", CASES)
def test_ideal_tiles_give_what_the_golden_model_gives(name: str):
    """Within float32 rounding: partial sums of tiles and stacked products are added in another order."""
    case = CASES[name]
    golden = interpret.run(case.program, case.inputs, case.lengths)
    trace = run(compile_(case.program, IDEAL), case.inputs, case.lengths, chips=2, times=["t0", "1year"])
    for output, expected in golden.outputs.items():
        assert trace.outputs[output].dtype == expected.dtype
        np.testing.assert_allclose(trace.outputs[output], expected, atol=1e-6, rtol=1e-6)
        every = trace.chip_outputs[output]
        assert every.shape == (2, 2, *expected.shape)
        np.testing.assert_allclose(every, np.broadcast_to(expected, every.shape), atol=1e-6, rtol=1e-6)
    for stage, steps in golden.steps.items():
        assert np.array_equal(trace.steps[stage], steps)


def integer_network(units: int = 150, inputs: int = 20) -> Program:
    """An Elman network in native numerics, larger than a tile: i8 weights, i16 states, a table for tanh."""
    rng = np.random.default_rng(1)
    quant = Quant(1 / 32768)
    b = Builder()
    x, h = b.input("x", (inputs,), "i16", quant), b.state("h", TensorType((units,), "i16", quant))
    total = b("matmul", b.param("W", rng.integers(-127, 128, (units, inputs)).astype(np.int8)), x)
    total = total + b("matmul", b.param("U", rng.integers(-127, 128, (units, units)).astype(np.int8)), h)
    mult = b.param("m", np.full(units, 1 << 20, np.int32))
    table = b.param("tanh", Param(TensorType((513,), "i16"), lut_table(np.tanh, 4 / 32768, 1 / 32768)))
    new = b("lut", b("requantize", total, mult, to="i16", pre=0), table, quant=quant)
    b.next(h, new)
    b.output("y", b("matmul", b.param("V", rng.integers(-127, 128, (5, units)).astype(np.int8)), new))
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("int", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s")}, "native")


def test_an_integer_network_on_ideal_tiles_is_exact_on_every_bit():
    program = integer_network()
    data = {"x": np.random.default_rng(0).integers(-32768, 32768, (7, 12, 20)).astype(np.int16)}
    lengths = np.array([12, 1, 5, 12, 7, 3, 9])
    built = compile_(program, IDEAL)
    assert built.manifest["equality"] == "exact"
    assert (
        next(f["value"] for f in built.manifest["figures"] if f["name"] == "tiles") == 6
    )  # [W U] is 170 x 150; V shares
    golden = interpret.run(program, data, lengths, states=True)
    assert len(np.unique(golden.states["s.h"])) > 1000, "the network does not move"
    trace = run(built, data, lengths, chips=3, times=["t0", "1year"], states=True)
    found = agreement(trace, golden, against="golden", equality="exact")
    assert found.holds and found.bit_exact == found.compared == lengths.sum()
    assert np.array_equal(trace.states["s.h"], golden.states["s.h"])
    every = trace.chip_outputs["y"]
    assert np.array_equal(every, np.broadcast_to(golden.outputs["y"], every.shape))


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.integer and case.program.numerics == "float"])
def test_quantized_families_on_ideal_tiles_are_exact_on_every_bit(name: str):
    """What the quantizer makes of every family; its own golden model is the reference, before tiling."""
    case = CASES[name]
    data = Data(case.inputs, case.lengths)
    plain = compiler.prepare(case.program, "crossbar", "native", data, progress=lambda _: None)
    golden = interpret.run(plain, case.inputs, case.lengths, states=True)
    trace = run(compile_(plain, IDEAL, source=case.program), case.inputs, case.lengths, chips=2, times=[0], states=True)
    for expected, found in ((golden.outputs, trace.outputs), (golden.states, trace.states)):
        assert expected.keys() == found.keys()
        for key, array in expected.items():
            assert np.array_equal(array, found[key]), key


def test_converters_as_wide_as_the_integers_are_exact_too():
    """A 16-bit input converter over +-32767 has steps of one; a step below one half of the sums changes none."""
    program = integer_network(40, 10)
    wide = IDEAL.model_copy(
        update={
            "dac": IDEAL.dac.model_copy(update={"bits": 16}),
            "adc": IDEAL.adc.model_copy(update={"bits": None}),
        }
    )
    data = {"x": np.random.default_rng(0).integers(-32767, 32768, (5, 9, 10)).astype(np.int16)}
    trace = run(compile_(program, wide), data, chips=2, times=[0])
    assert np.array_equal(trace.outputs["y"], interpret.run(program, data).outputs["y"])
    narrow = wide.model_copy(update={"dac": IDEAL.dac.model_copy(update={"bits": 15})})
    other = run(compile_(program, narrow), data, chips=2, times=[0])
    assert not np.array_equal(other.outputs["y"], trace.outputs["y"])


@pytest.mark.parametrize("serial", [None, 1, 5])
def test_codes_to_spare_make_finer_steps_not_weaker_drives(serial: int | None):
    """24 bits for 16-bit inputs: the same bits as with 16, and the lines' range is that of the inputs, not of codes."""
    program = integer_network(40, 10)
    data = {"x": np.random.default_rng(0).integers(-32767, 32768, (5, 9, 10)).astype(np.int16)}
    dac = IDEAL.dac.model_copy(update={"bits": 24, "serial_bits": serial})
    built = compile_(program, IDEAL.model_copy(update={"dac": dac}), data=Data(data))
    _, matrices = described(built)
    assert {round(full or 0) for m in matrices for *_, full in m.segments} == {32768}
    golden = interpret.run(program, data)
    assert np.array_equal(run(built, data, chips=1, times=[0]).outputs["y"], golden.outputs["y"])


WIDE = [
    {"encoding": "differential"},
    {"encoding": "differential", "weight_bits": 8, "slice_bits": 2},
    {"encoding": "offset", "weight_bits": 8, "slice_bits": 3},
    {"encoding": "one-sided", "weight_bits": 8, "slice_bits": 2},
]


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.integer and case.program.numerics == "float"])
def test_wide_converters_around_exact_levels_keep_every_bit(name: str):
    """Real converters, 16 and 32 bits: whole inputs have whole steps, and what a sum is rounded to rounds back to it."""
    case = CASES[name]
    data = Data(case.inputs, case.lengths)
    plain = compiler.prepare(case.program, "crossbar", "native", data, progress=lambda _: None)
    golden = interpret.run(plain, case.inputs, case.lengths)
    for array in WIDE:
        tables = {"array": array, "dac": {"bits": 16}, "adc": {"bits": 32}}
        target = IDEAL.model_copy(update={k: getattr(IDEAL, k).model_copy(update=v) for k, v in tables.items()})
        built = compile_(plain, target, source=case.program, data=data, percentile=100.0)
        trace = run(built, case.inputs, case.lengths, chips=1, times=[0])
        for key, expected in golden.outputs.items():
            assert np.array_equal(trace.outputs[key], expected), (array, key)


def _relative(trace: Trace, golden: Trace) -> float:
    """Root mean square error over the golden outputs' standard deviation."""
    y, wanted = trace.outputs["y"].astype(np.float64), golden.outputs["y"].astype(np.float64)
    return float(np.sqrt(((y - wanted) ** 2).mean()) / wanted.std())


def test_an_integer_network_runs_on_pcm():
    program = integer_network(40, 10)
    data = {"x": np.random.default_rng(0).integers(-9000, 9000, (30, 9, 10)).astype(np.int16)}
    built = compile_(program, PCM, data=Data(data))
    trace = run(built, data, chips=2, times=[0])
    assert trace.outputs["y"].dtype == np.int32
    assert 0.01 < _relative(trace, interpret.run(program, data)) < 0.5


@pytest.mark.parametrize("name", [n for n in ("gru_reset_after", "lstm", "elman_tanh", "echo_state") if n in CASES])
def test_pcm_stays_near_the_golden_model(name: str):
    case = CASES[name]
    built = compile_(case.program, PCM, data=Data(case.inputs, case.lengths))
    golden = interpret.run(case.program, case.inputs, case.lengths)
    trace = run(built, case.inputs, case.lengths, chips=8, times=[0])
    expected = golden.outputs["last"].astype(np.float64)
    error = trace.chip_outputs["last"][0] - expected
    assert 0.005 < np.sqrt((error**2).mean()) / expected.std() < 0.4
    assert np.abs(error.mean(axis=0)).max() < np.abs(error).max(), "all chips err alike"
