"""The simulator against plain loops over devices: currents, curves, pieces of inputs, converters with errors, noise."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar import converters
from neurodeploy.crossbar.costs.latency import rounds
from neurodeploy.crossbar.devices.formulas import BOLTZMANN, nonlinear_coefficients
from neurodeploy.crossbar.effects import ALL, EFFECTS, only, present
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.simulate import Chips
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner, seconds_of
from neurodeploy.descriptions_crossbar import ConverterErrors, Crossbar, Read, Wires
from neurodeploy.descriptions_devices import Nonlinear, Stuck, ThermalNoise
from neurodeploy.errors import NumericsError, TargetError, UsageError
from neurodeploy.ir import text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from tests.unit.test_crossbar import gru, product, samples

IDEAL, PCM = hardware.find("ideal-128", Crossbar), hardware.find("pcm-128", Crossbar)
compile_, run = CrossbarBackend().compile, CrossbarRunner().run
READ = Read(volts=0.2, pulse_s=1e-7, source="test")
CURVED = Nonlinear(
    a2=(2e-6,), a3=(3e-5,), fitted_min_siemens=1e-6, fitted_max_siemens=1e-4, max_volts=1.0, source="test"
)


def target(base: Crossbar = PCM, **tables: Any) -> Crossbar:
    """A target with tables replaced, by dotted key: ``target(array={...}, adc={...}, device={...}, read=READ)``."""
    for key, value in tables.items():
        if isinstance(value, dict):
            value = getattr(base, key).model_copy(update=value)
        base = base.model_copy(update={key: value})
    return base


def one_matrix(made: Crossbar, weight: np.ndarray, x: np.ndarray, chips: int = 2) -> tuple[Chips, Any, np.ndarray]:
    """A product on a target; its chips, its matrix and what it gives for ``x``: ``[chips, samples, outputs]``."""
    built = compile_(product(weight), made, data=Data({"x": x[:, None]}))
    described_, matrices = described(built)
    program = text.from_files(built.files, "program")
    drawn = Chips(program, matrices, described_, range(chips), len(x), 5)
    (analog,) = drawn.analog["s"].values()
    y = analog([x, np.tile(x, (chips, 1))])  # the weights are the chips' own, whatever stands first
    return drawn, analog, y.reshape(chips, len(x), -1)


ENCODINGS = (
    {},
    {"encoding": "offset"},
    {"encoding": "one-sided"},
    {"weight_bits": 8, "slice_bits": 3},
    {"encoding": "offset", "weight_bits": 6, "slice_bits": 2},
    {"encoding": "one-sided", "weight_bits": 8, "slice_bits": 2},
)


@pytest.mark.parametrize("array", ENCODINGS, ids=lambda a: "-".join(map(str, a.values())) or "differential")
@pytest.mark.parametrize("curve", [None, CURVED], ids=["ohmic", "curved"])
def test_a_product_is_the_sum_of_its_devices_currents(array: dict[str, Any], curve: Nonlinear | None):
    """Currents of every device, added line by line, subtracted and scaled as the encoding says."""
    made = target(
        array={"rows": 16, "columns": 60, **array}, read=READ, device={"nonlinear": curve, "g_min_siemens": 1e-6},
        dac={"bits": 9}, adc={"bits": 24, "full_scale_siemens": 1e-3},
    )  # fmt: skip
    weight, x = samples((7, 20)), samples((5, 20), 4)
    chips, analog, found = one_matrix(made, weight, x)
    matrix = analog.matrix
    full = matrix.segments[0][2]
    volts = READ.volts * np.rint(x / full * 255) / 255
    span = made.device.g_max_siemens - made.device.g_min_siemens
    wanted = np.zeros_like(found, dtype=np.float64)
    for state in analog.tiles:
        physical = chips.arrays[state.tile.array]
        g = physical.cells.at(0.0, lambda purpose, p=physical: p._normals(purpose, 0.0))
        a2, a3 = nonlinear_coefficients(made.device, g)
        rows = np.arange(state.tile.row, state.tile.row + state.tile.inputs[1] - state.tile.inputs[0])
        plus, minus = matrix.lines(state.tile)
        for chip in range(2):
            for n in range(5):
                v = volts[n, slice(*state.tile.inputs)]
                line = np.zeros(g.shape[2])
                for r, u in zip(rows, v, strict=True):
                    line += g[chip, r] * u + a2[chip, r] * u**2 + a3[chip, r] * u**3
                for s in range(matrix.slices):
                    for j, output in enumerate(range(*state.tile.outputs)):
                        current = line[plus[s, j]] - (0.0 if minus is None else line[minus[s, j]])
                        relative = current / READ.volts / span
                        if minus is None:
                            base = made.device.g_min_siemens / span
                            relative -= (v / READ.volts).sum() * (state.held.constant[s] + base)
                        scale = state.tile.weight_max[j] * state.held.factor[s] * full
                        wanted[chip, n, output] += relative * scale
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())
    exact = x @ weight.T
    assert 1e-3 < np.abs(wanted - exact).max() / np.abs(exact).max() < 2, "the devices have no errors"


@pytest.mark.parametrize("serial", [1, 2, 3, 8])
def test_inputs_in_pieces_give_the_same_product(serial: int):
    weight, x = samples((7, 20)), samples((5, 20), 4)
    whole = one_matrix(target(adc={"bits": None}), weight, x)[2]
    pieces = one_matrix(target(adc={"bits": None}, dac={"serial_bits": serial}), weight, x)[2]
    np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())


def test_every_piece_is_converted():
    """Each read of a bit-serial input has its own rounding: more reads, other results, and counted so."""
    weight, x = samples((7, 20)), samples((5, 20), 4)
    made = target(adc={"bits": 6}, dac={"serial_bits": 1})
    whole, pieces = one_matrix(target(adc={"bits": 6}), weight, x)[2], one_matrix(made, weight, x)[2]
    assert not np.array_equal(whole, pieces)
    figures = {
        f["name"]: f["value"] for f in compile_(product(weight), made, data=Data({"x": x[:, None]})).manifest["figures"]
    }
    assert (figures["dac_conversions"], figures["adc_conversions"]) == (20 * 8, 7 * 8)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("serial", [1, 2, 3])
def test_pieces_of_a_code_add_up_to_it(bits: int, serial: int):
    m = converters.levels(bits)
    codes = np.arange(-m, m + 1).astype(np.float32)
    pieces = converters.digits(codes, bits, serial)
    assert len(pieces) == -(-bits // serial)
    assert np.array_equal(sum(piece * weight for piece, weight in pieces), codes)
    assert all(0 <= p.min() and p.max() < 2**serial for p, _ in pieces[:-1])


# ------------------------------------------------------------------------------------------------------ converters


def plain_code(x: Any, levels: np.ndarray, architecture: str) -> int:
    """One conversion, step by step: a ramp stops at the first level above x, a SAR goes from the highest bit down."""
    m = len(levels) // 2
    if architecture == "ramp":
        for u in range(1, 2 * m + 1):
            if x < levels[u] - 0.5:
                return u - 1 - m
        return m
    u = 0
    for bit in reversed(range((2 * m).bit_length())):
        trial = u + (1 << bit)
        if trial <= 2 * m and x >= levels[trial] - 0.5:
            u = trial
    return u - m


@pytest.mark.parametrize("architecture", ["sar", "ramp"])
@pytest.mark.parametrize(("dnl", "inl", "offset"), [(0, 0, 0), (0.3, 0, 0), (0.2, 2.5, 1.0), (1.5, 0, 0.3)])
def test_conversions_with_errors_are_those_of_the_circuit(architecture: str, dnl: float, inl: float, offset: float):
    errors = ConverterErrors(architecture=architecture, dnl_lsb=dnl, inl_lsb=inl, offset_lsb=offset, source="test")  # type: ignore[arg-type]
    levels = converters.draw_levels(errors, 6, 10, np.random.default_rng(0), shared_ramp=True)
    levels = levels.reshape(2, 5, -1).astype(np.float32)
    x = (np.random.default_rng(1).normal(size=(2, 40, 5)) * 20).astype(np.float32)
    codes, outside = converters.Comparators(levels, architecture).codes(x)
    for c, n, k in np.ndindex(x.shape):
        assert codes[c, n, k] == plain_code(x[c, n, k], levels[c, k], architecture), (x[c, n, k], levels[c, k])
    assert outside is not None and np.array_equal(outside, np.abs(x) > 31.5)
    ideal = np.array_equal(codes, np.clip(np.rint(x), -31, 31))
    assert ideal == (dnl == inl == offset == 0)


def test_a_sars_largest_step_errs_as_much_as_it_says():
    """At the middle, where all bits change; a ramp's steps err alike and its sum is pinned at both ends."""
    kinds = {}
    for architecture in ("sar", "ramp"):
        errors = ConverterErrors(architecture=architecture, dnl_lsb=0.4, source="test")  # type: ignore[arg-type]
        levels = converters.draw_levels(errors, 8, 4000, np.random.default_rng(0), shared_ramp=False)
        assert np.allclose(levels[:, [0, -1]], [-127, 127])
        kinds[architecture] = (np.diff(levels, axis=1) - 1).std(axis=0)
    assert kinds["sar"].argmax() == 127 and kinds["sar"][127] == pytest.approx(0.4, rel=0.05)
    assert kinds["ramp"] == pytest.approx(np.full(254, 0.4), rel=0.1)
    bow = ConverterErrors(inl_lsb=2.0, source="test")
    assert (converters.draw_levels(bow, 8, 1, np.random.default_rng(0), False) - np.arange(-127, 128)).max() == (
        pytest.approx(2.0, rel=1e-3)
    )


def test_every_piece_of_an_input_out_of_range_counts():
    """An input that is clipped is clipped in each of its serial conversions, so the share stays what it was."""
    weight, x = samples((7, 20)), samples((5, 20), 4)
    shares = []
    for serial in (None, 2):
        built = compile_(product(weight), target(dac={"serial_bits": serial}), data=Data({"x": x[:, None]}))
        found = run(built, {"x": 2 * x[:, None]}, chips=1, times=["t0"], effects=["dac"])
        shares.append(float(found.saturation["dac"][0, 0]))
    assert 0 < shares[0] == pytest.approx(shares[1])


def test_columns_that_share_a_converter_share_its_errors():
    """Four bit lines are two pairs, as the costs count the rounds of a converter."""
    made = target(adc={"errors": ConverterErrors(offset_lsb=3.0, source="test"), "columns_per_adc": 4})
    _, analog, _ = one_matrix(made, samples((12, 20)), samples((5, 20), 4))
    levels = analog._levels(made.adc.errors, 8, (0, 20), "adc")
    assert levels.shape == (2, 12, 255)
    for start in range(0, 12, 2):
        assert np.array_equal(levels[0, start], levels[0, start + 1])
    drawn = {float(levels[c, k, 0]) for c in range(2) for k in range(12)}
    assert len(drawn) == 12, "converters or chips are alike"
    (tile,) = analog.matrix.tiles
    assert rounds(analog.matrix, tile, 4) == 2


@pytest.mark.parametrize("scale", [0.0, 1e-30])
def test_converters_without_a_range_give_nothing_whatever_their_offsets(scale: float):
    """A slice without digits, or inputs that calibration never saw: the range is 0, and so is every code's value."""
    made = target(adc={"errors": ConverterErrors(offset_lsb=9.0, noise_lsb=1.0, source="test")})
    _, analog, found = one_matrix(made, np.float32(scale) * samples((12, 20)), np.float32(scale) * samples((5, 20), 4))
    assert max(analog.blocks[0].full_scale) <= scale
    assert not found.any()
    _, _, found = one_matrix(made, samples((12, 20)), samples((5, 20), 4))
    assert found.any()


# ------------------------------------------------------------------------------------------------------------ noise


def test_thermal_noise_has_the_variance_of_nyquist():
    """One output with known conductance: 4 k T G / (2 t) over the read voltage, fresh at every read."""
    hot = ThermalNoise(temperature_kelvin=300.0, source="test")
    quiet = {"programming": None, "drift": None, "read_noise": None, "thermal_noise": hot}
    made = target(device=quiet, read=READ, dac={"bits": None}, adc={"bits": None})
    weight = np.array([[0.5, -1.0]], np.float32)
    x = np.tile(np.array([[1.0, 2.0]], np.float32), (20000, 1))
    _, _, found = one_matrix(made, weight, x, chips=1)
    conductance = (0.5 + 1.0) * 25e-6
    ampere = np.sqrt(4 * BOLTZMANN * 300.0 * conductance / (2 * READ.pulse_s))
    sd = ampere / (READ.volts * 25e-6) * 2.0  # full drive is 2, full conductance a weight of 1
    assert found.std() == pytest.approx(sd, rel=0.02)
    assert found.mean() == pytest.approx(-1.5, abs=5 * sd / np.sqrt(20000))


def test_a_converters_noise_is_in_its_own_steps():
    made = target(PCM, device={"programming": None, "drift": None, "read_noise": None},
                  adc={"bits": 12, "errors": ConverterErrors(noise_lsb=8.0, source="test")})  # fmt: skip
    x = np.tile(samples((1, 6)), (8000, 1))
    _, analog, found = one_matrix(made, samples((3, 6)), x, chips=1)
    lsb = analog.blocks[0].full_scale / 2047
    inside = np.abs(found.mean(axis=(0, 1))) < 0.9 * analog.blocks[0].full_scale
    assert inside.any()
    assert (found.std(axis=(0, 1)) / lsb)[inside] == pytest.approx(np.full(inside.sum(), 8.0), rel=0.05)


# ------------------------------------------------------------------------------------------------ effects and tasks


def test_effects_are_switched_by_name():
    made = target(device={"stuck": Stuck(on_share=0.1, off_share=0.1, source="test")})
    assert present(made) == {"programming", "drift", "read noise", "stuck", "dac", "adc"}
    assert present(only(made, ())) == frozenset()
    for effect in present(made):
        assert present(only(made, {effect})) == {effect}
        assert effect not in present(only(made, ALL - {effect}))
    with pytest.raises(UsageError, match="there is no effect 'wire'. Did you mean 'wires'?"):
        only(made, {"wire"})
    assert set(EFFECTS) == ALL


def test_without_effects_chips_are_exact_and_with_one_they_are_not():
    data = {"x": samples((8, 5, 4))}
    built = compile_(gru(), PCM, data=Data(data))
    exact = run(built, data, chips=2, times=[0], effects=())
    golden = run(compile_(gru(), IDEAL), data, chips=1, times=[0])
    np.testing.assert_allclose(exact.chip_outputs["y"][0, 1], golden.chip_outputs["y"][0, 0], atol=1e-5)
    assert exact.record["effects"] == [] and "without" in exact.record["where"]
    for effect in ("programming", "dac", "adc", "read noise"):
        trace = run(built, data, chips=1, times=["1d"], effects=[effect])
        assert np.abs(trace.outputs["y"] - golden.outputs["y"]).max() > 1e-4, effect


def test_tasks_may_be_spread_over_processes():
    data = {"x": samples((8, 5, 4))}
    built = compile_(gru(), PCM, data=Data(data))
    here = run(built, data, chips=6, times=["0s", "1d"])
    with ProcessPoolExecutor(2) as pool:
        there = run(built, data, chips=6, times=["0s", "1d"], spread=pool.map)
    assert np.array_equal(here.chip_outputs["y"], there.chip_outputs["y"])
    assert here.record == there.record


@pytest.mark.parametrize(
    ("age", "seconds"), [("0s", 0), ("1h", 3600), ("1d", 86400), ("2.5min", 150), ("1y", 31536000), ("1year", 31536000)]
)
def test_ages_are_read(age: str, seconds: float):
    assert seconds_of(age) == seconds


@pytest.mark.parametrize("age", ["", "1", "3q", "-1s", "1e99y", "nan"])
def test_what_is_no_age_is_named(age: str):
    with pytest.raises(UsageError, match="crossbar: .*(no time|too far)"):
        seconds_of(age)


# ------------------------------------------------------------------------------------------------------------- wires


LINES = Wires(row_ohm=20.0, column_ohm=30.0, driver_ohm=5.0, sense_ohm=7.0, source="test")


@pytest.mark.parametrize("array", ENCODINGS[:4], ids=lambda a: "-".join(map(str, a.values())) or "differential")
def test_ir_drop_in_a_product_is_that_of_its_arrays(array: dict[str, Any]):
    """Devices without errors on resistive lines: what nodal analysis gives for the array's voltages, converted back."""
    pytest.importorskip("numba")
    pytest.importorskip("scipy")
    quiet = {"programming": None, "drift": None, "read_noise": None, "g_min_siemens": 1e-6}
    made = target(array={"rows": 16, "columns": 60, **array}, device=quiet, wires=LINES, adc={"bits": None})
    weight, x = samples((7, 20)), samples((5, 20), 4)
    chips, analog, found = one_matrix(made, weight, x, chips=1)
    full = analog.matrix.segments[0][2]
    drive = np.rint(x / full * 127) / 127
    span = made.device.g_max_siemens - made.device.g_min_siemens
    wanted = np.zeros((5, 7))
    for state in analog.tiles:
        physical = chips.arrays[state.tile.array]
        volts = np.zeros((5, physical.goal.shape[0]))
        rows = slice(state.tile.row, state.tile.row + state.tile.inputs[1] - state.tile.inputs[0])
        volts[:, rows] = drive[:, slice(*state.tile.inputs)]
        line = nodal_currents(physical.ideal, LINES, volts)
        plus, minus = analog.matrix.lines(state.tile)
        for s in range(analog.matrix.slices):
            relative = (line[:, plus[s]] - (0.0 if minus is None else line[:, minus[s]])) / span
            if minus is None:
                base = state.held.constant[s] + made.device.g_min_siemens / span
                relative = relative - base * volts.sum(axis=1, keepdims=True)
            wanted[:, slice(*state.tile.outputs)] += relative * state.unit[s] * full
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert np.abs(wanted - x @ weight.T).max() > 0.01 * np.abs(wanted).max(), "the lines have no resistance"


def test_curved_devices_on_resistive_lines_are_solved_and_meet_both_limits():
    """Without curvature they give the matrix's product, on ideal lines the curve's; with both, neither."""
    pytest.importorskip("numba")
    quiet = {"programming": None, "drift": None, "read_noise": None}
    straight = Nonlinear(
        a2=(0.0,), a3=(0.0,), fitted_min_siemens=1e-6, fitted_max_siemens=1e-4, max_volts=1.0, source="test"
    )
    none = Wires(row_ohm=0.0, column_ohm=0.0, source="test")
    weight, x = samples((7, 20)), samples((5, 20), 4)

    def product_of(curve: Nonlinear | None, lines: Wires | None) -> np.ndarray:
        made = target(device={**quiet, "nonlinear": curve}, read=READ, wires=lines, adc={"bits": None})
        return one_matrix(made, weight, x, chips=1)[2]

    near = {"rtol": 1e-4, "atol": 1e-4 * np.abs(product_of(None, None)).max()}
    np.testing.assert_allclose(product_of(straight, LINES), product_of(None, LINES), **near)
    np.testing.assert_allclose(product_of(CURVED, none), product_of(CURVED, None), **near)
    both = product_of(CURVED, LINES)
    for other in (product_of(None, LINES), product_of(CURVED, None)):
        assert np.abs(both - other).max() > 10 * near["atol"]


def test_gated_lines_are_columns_of_their_own():
    """Inputs one bit at a time switch cells on; on lines without resistance that is the product itself."""
    pytest.importorskip("numba")
    quiet = {"programming": None, "drift": None, "read_noise": None}
    weight, x = samples((7, 20)), samples((5, 20), 4)

    def gated(row_ohm: float, column_ohm: float) -> Wires:
        return Wires(row_ohm=row_ohm, column_ohm=column_ohm, topology="gated", source="test")

    def product_of(lines: Wires | None) -> np.ndarray:
        made = target(device=quiet, wires=lines, adc={"bits": None}, dac={"serial_bits": 1})
        return one_matrix(made, weight, x, chips=1)[2]

    plain = product_of(None)
    near = {"rtol": 1e-4, "atol": 1e-4 * np.abs(plain).max()}
    np.testing.assert_allclose(product_of(gated(0.0, 0.0)), plain, **near)
    drop = product_of(gated(1e6, 50.0))
    assert 0.001 < np.abs(drop - plain).max() / np.abs(plain).max() < 0.5, "word lines carry no current"
    with pytest.raises(TargetError, match="inputs are on or off; 'dac.serial_bits' is None, needed 1"):
        compile_(product(weight), target(wires=gated(0.0, 1.0)), data=Data({"x": x[:, None]}))
    with pytest.raises(TargetError, match="'dac.errors' are those of voltages"):
        wrong = {"serial_bits": 1, "errors": ConverterErrors(offset_lsb=1.0, source="test")}
        compile_(product(weight), target(wires=gated(0.0, 1.0), dac=wrong), data=Data({"x": x[:, None]}))


def test_gated_lines_alone_are_still_driven_by_bits():
    """Without the effect "dac" there would be no bits, and every input that isn't 0 would be fully on."""
    pytest.importorskip("numba")
    wires = Wires(row_ohm=0.0, column_ohm=0.0, topology="gated", source="test")
    made = target(wires=wires, dac={"serial_bits": 1})
    weight, x = samples((7, 20)), samples((5, 20), 4)
    built = compile_(product(weight), made, data=Data({"x": x[:, None]}))
    found = run(built, {"x": x[:, None]}, chips=1, times=["t0"], effects=["wires"])
    (outputs,) = found.chip_outputs.values()
    wanted = x @ weight.T
    np.testing.assert_allclose(outputs[0, 0].reshape(wanted.shape), wanted, atol=0.02 * np.abs(wanted).max())


def nodal_currents(g: np.ndarray, wires: Wires, volts: np.ndarray) -> np.ndarray:
    """Kirchhoff's laws for every node, one dense system: currents into the amplifiers, ``[n, columns]``."""
    rows, columns = g.shape
    nodes = 2 * rows * columns
    matrix, right = np.zeros((nodes, nodes)), np.zeros((nodes, len(volts)))

    def node(bit: bool, r: int, c: int) -> int:
        return (rows * columns if bit else 0) + r * columns + c

    def join(a: int, b: int | None, siemens: float, source: np.ndarray | float = 0.0) -> None:
        matrix[a, a] += siemens
        if b is None:
            right[a] += siemens * source
        else:
            matrix[b, b] += siemens
            matrix[a, b] -= siemens
            matrix[b, a] -= siemens

    for r in range(rows):
        join(node(False, r, 0), None, 1 / (wires.row_ohm + wires.driver_ohm), volts[:, r])
        for c in range(columns):
            join(node(False, r, c), node(True, r, c), g[r, c])
            if c + 1 < columns:
                join(node(False, r, c), node(False, r, c + 1), 1 / wires.row_ohm)
            if r + 1 < rows:
                join(node(True, r, c), node(True, r + 1, c), 1 / wires.column_ohm)
    end = 1 / (wires.column_ohm + wires.sense_ohm)
    for c in range(columns):
        join(node(True, 0, c), None, end)
    found = np.linalg.solve(matrix, right)
    return np.stack([found[node(True, 0, c)] * end for c in range(columns)], axis=1)


_HASHED = """
import hashlib, numpy as np
from tests.unit.test_crossbar_simulate import *
weight, x = samples((150, 300)), samples((64, 300), 4)
made = target(adc={"errors": ConverterErrors(noise_lsb=0.5, dnl_lsb=0.2, source="test")})
print(hashlib.sha256(one_matrix(made, weight, x)[2].tobytes()).hexdigest())
"""


def test_results_are_the_same_at_any_number_of_threads():
    found = set()
    for threads in ("1", "3"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", _HASHED], env=environment, capture_output=True, text=True, check=True
        )  # fmt: skip
        found.add(ran.stdout)
    assert len(found) == 1 and len(found.pop().strip()) == 64


def test_a_chip_that_leaves_the_integers_says_why():
    """Sums proven to fit need not fit with a chip's errors."""
    b = Builder()
    x = b.input("x", (514,), "i16")
    b.output("y", b("matmul", b.param("W", np.full((4, 514), 127, np.int8)), x) + b.const(8_500_000, "i32"))
    program = Program("near", {"x": ProgramInput(x.type)}, (Stage("s", b.graph(), inputs_from={"x": Ref("x")}),),
                      {"y": Ref("y", "s")}, "native")  # fmt: skip
    data = {"x": np.full((2, 1, 514), 32767, np.int16)}
    made = target(array={"encoding": "one-sided"}, dac={"bits": None}, adc={"bits": None})
    built = compile_(program, made, data=Data(data))
    run(built, data, chips=1, times=[0], effects=())
    with pytest.raises(NumericsError, match=r"%.*an integer result .* errors take a sum out .* chips 0 to 9.*float"):
        run(built, data, chips=10, times=[0])
