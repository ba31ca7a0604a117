"""Tiling, tile maps, converters' ranges, counts, chips and messages of the crossbar backend."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import compiler, hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.cli.crossbar import run_options
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.simulate import Chips
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import TIMES, CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar, Device
from neurodeploy.errors import NeurodeployError, TargetError, UnsupportedError, UsageError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.tiling import OP, Tiling, digital

PCM, IDEAL = hardware.find("pcm-128", Crossbar), hardware.find("ideal-128", Crossbar)
compile_, run = CrossbarBackend().compile, CrossbarRunner().run


def program_of(b: Builder, inputs: dict[str, TensorType], outputs: dict[str, str] | None = None) -> Program:
    stage = Stage("s", b.graph(), inputs_from={name: Ref(name) for name in inputs})
    refs = {name: Ref.parse(ref) for name, ref in (outputs or {"y": "s.y"}).items()}
    return Program("net", {name: ProgramInput(t) for name, t in inputs.items()}, (stage,), refs)


def product(weight: np.ndarray) -> Program:
    """One matrix, driven by 'x': ``y = W x``."""
    b = Builder()
    x = b.input("x", (weight.shape[1],))
    b.output("y", b.param("W", weight) @ x)
    return program_of(b, {"x": x.type})


def gru(units: int = 6, inputs: int = 4, seed: int = 0) -> Program:
    w = np.random.default_rng(seed).normal
    b = Builder()
    x, h = b.input("x", (inputs,)), b.state("h", (units,))
    params = [("W", (3 * units, inputs)), ("U", (3 * units, units)), ("b", (3 * units,)), ("u", (units,))]
    (new,) = b.call("gru", x, h, *(b.param(n, w(size=s) * 0.4) for n, s in params))
    b.next(h, new)
    (y,) = b.call("affine", b.param("V", w(size=(3, units))), new, b.param("c", w(size=3)))
    b.output("y", y)
    return program_of(b, {"x": x.type}, {"y": "s.y@last"})


def small(rows: int, columns: int, base: Crossbar = IDEAL) -> Crossbar:
    return base.model_copy(update={"array": base.array.model_copy(update={"rows": rows, "columns": columns})})


def with_device(target: Crossbar, **tables: Any) -> Crossbar:
    device: Device = target.device.model_copy(update=tables)
    return target.model_copy(update={"device": device})


SILENT = with_device(PCM, programming=None, drift=None, read_noise=None)


def samples(shape: tuple[int, ...], seed: int = 3, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------- tiling


def test_a_grus_products_are_stacked_by_the_vector_that_they_take():
    tiled = Tiling(join="never")(gru())
    (graph,) = [stage.graph for stage in tiled.stages]
    held = {v.args[1]: v for v in graph.values if v.op == OP}
    assert {name: v.tensor.shape for name, v in held.items()} == {"x": (18,), "h": (18,), "gru": (3,)}
    assert [part["weight"] for part in held["x"].attrs["parts"]] == ["W[0:12]", "W[12:18]"]
    assert [part["outputs"] for part in held["h"].attrs["parts"]] == [[0, 12], [12, 18]]
    part = {"value": held["gru"].name, "weight": "V", "outputs": [0, 3], "inputs": [0, 6]}
    assert held["gru"].attrs["parts"] == [part]
    assert digital(tiled) == {"add": 7, "mul": 3, "sigmoid": 1, "slice": 8, "sub": 1, "tanh": 1}
    assert not any(v.op == "matmul" for v in graph.values)
    assert Tiling(join="never")(tiled) == tiled, "tiling a tiled program changes it"
    assert text.from_files(text.to_files(tiled, "p"), "p") == tiled


@pytest.mark.parametrize("numerics", ["float", "native"])
def test_the_tile_map_names_weights_and_gates_as_the_network_does(numerics: str):
    """Though other passes have cut the weights into anonymous pieces before."""
    built = compiler.compile(gru(), IDEAL, Data({"x": samples((8, 5, 4))}), numerics=numerics).artifact
    found = {part["weight"] for m in built.manifest["layout"]["matrices"] for part in m["parts"]}
    assert found == {"W[0:12] (r, z)", "W[12:18] (n)", "U[0:12] (r, z)", "U[12:18] (n)", "V"}
    direct = compile_(gru(), IDEAL)
    assert found == {part["weight"] for m in direct.manifest["layout"]["matrices"] for part in m["parts"]}


def test_products_under_other_guards_are_not_stacked():
    b = Builder()
    x, on = b.input("x", (3,)), b.input("on", (), "bool")
    h = b.state("h", (2,))
    b.next(h, b("tanh", b.param("W", samples((2, 3))) @ x), when=on)
    b.output("y", b.param("V", samples((2, 3))) @ x)
    tiled = Tiling()(program_of(b, {"x": x.type, "on": on.type}))
    assert [v.op for v in tiled.stages[0].graph.values].count(OP) == 2


def test_every_form_of_product_keeps_its_meaning():
    """Matrix times vector and vector times matrix, matrix times matrix from both sides, weight vector times vector."""
    b = Builder()
    x = b.input("x", (3, 4))
    row = b("reshape", x.slice(0, 1), shape=[4])
    b.output("a", b.param("A", samples((5, 4))) @ row)
    b.output("b", row @ b.param("B", samples((4, 6))))
    b.output("c", b.param("C", samples((2, 3))) @ x)
    b.output("d", x @ b.param("D", samples((4, 7))))
    b.output("e", b.param("E", samples((4,))) @ row)
    b.output("f", b("einsum", b.param("F", samples((4, 4, 2))), row, row, eq="ijk,i,j->k"))
    program = program_of(b, {"x": x.type}, {name: f"s.{name}" for name in "abcdef"})
    data = {"x": samples((6, 2, 3, 4), 5)}
    built = compile_(program, small(2, 4))
    tiled = text.from_files(built.files, "program")
    assert [v.op for v in tiled.stages[0].graph.values if v.op in (OP, "matmul", "einsum")] == [OP, OP, OP, "einsum"]
    golden, inside = interpret.run(program, data), interpret.run(tiled, data)
    analog = run(built, data, chips=2, times=["t0"])
    for name in "abcdef":
        np.testing.assert_allclose(inside.outputs[name], golden.outputs[name], atol=1e-5)
        np.testing.assert_allclose(analog.outputs[name], golden.outputs[name], atol=1e-5)
    # a, b and e: 4 inputs, 12 outputs; c: 3 inputs, 2 outputs, 4 vectors; d: 4 inputs, 7 outputs, 3 vectors
    conversions = {f["name"]: f["value"] for f in built.manifest["figures"]}
    assert conversions["dac_conversions"] == 4 * 6 + 4 * 3 * 1 + 3 * 4 * 4
    assert conversions["adc_conversions"] == 2 * 12 + 4 * 2 * 2 + 3 * 2 * 7


# ------------------------------------------------------------------------------------------------------------ tiles


@settings(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(2, 60), st.integers(0, 99))
def test_tiles_cover_every_weight_once_and_ideal_ones_give_the_product(
    outputs: int, inputs: int, rows: int, columns: int, seed: int
):
    weight = samples((outputs, inputs), seed)
    built = compile_(product(weight), small(rows, columns))
    (matrix,) = tiles.matrices(text.from_files(built.files, "program"), small(rows, columns))
    covered = np.zeros((outputs, inputs), int)
    for tile in matrix.tiles:
        covered[slice(*tile.outputs), slice(*tile.inputs)] += 1
        assert tile.inputs[1] - tile.inputs[0] <= rows
        assert 2 * (tile.outputs[1] - tile.outputs[0]) <= columns
    assert (covered == 1).all()
    assert [t.array for t in matrix.tiles] == list(range(len(matrix.tiles)))
    x = samples((3, 1, inputs), seed + 1)
    found = run(built, {"x": x}, chips=1, times=[0]).outputs["y"]
    np.testing.assert_allclose(found[:, 0], x[:, 0] @ weight.T, atol=2e-5 * inputs)
    row_blocks, column_blocks = -(-inputs // rows), -(-outputs // (columns // 2))
    figures = {f["name"]: f for f in built.manifest["figures"]}
    assert figures["tiles"]["value"] == row_blocks * column_blocks
    assert figures["devices"]["value"] == 2 * outputs * inputs
    assert figures["dac_conversions"]["value"] == inputs * column_blocks
    assert figures["adc_conversions"]["value"] == outputs * row_blocks


def test_the_published_tile_splits_200_by_130():
    built = compile_(product(samples((130, 200))), IDEAL)
    (matrix,) = built.manifest["layout"]["matrices"]
    spans = [(tuple(t["inputs"]), tuple(t["outputs"])) for t in matrix["tiles"]]
    assert spans == [
        ((0, 128), (0, 64)), ((0, 128), (64, 128)), ((0, 128), (128, 130)),
        ((128, 200), (0, 64)), ((128, 200), (64, 128)), ((128, 200), (128, 130)),
    ]  # fmt: skip
    share = next(f["value"] for f in built.manifest["figures"] if f["name"] == "utilisation")
    assert share == pytest.approx(100 * 2 * 130 * 200 / (6 * 128 * 128))


@pytest.mark.parametrize("scaling", ["tile", "output"])
def test_the_largest_weight_has_full_conductance(scaling: str):
    weight = samples((100, 200))
    weight[64:, :] *= 0.01
    weight[3, 128:] = 0.0
    program = Tiling()(product(weight))
    (matrix,) = tiles.matrices(program, PCM, scaling)
    chips = Chips(program, [matrix], PCM, range(1), 1, 0)
    (state,) = [s for s in chips.analog["s"][matrix.value].tiles if s.tile.inputs[0] == 128 and s.tile.outputs[0] == 0]
    for tile in matrix.tiles:
        part = np.stack(
            [chips.arrays[tile.array].ideal[:, lines[0]] for lines in matrix.lines(tile) if lines is not None]
        )
        each = part.max(axis=(0, 1)) if scaling == "output" else part.max(keepdims=True).ravel()
        held = np.array(tile.weight_max) > 0 if scaling == "output" else [True]
        np.testing.assert_allclose(each[held], 25e-6, rtol=1e-12)
        assert np.minimum(part[0], part[1]).max() == 0.0, "both devices of a pair are above g_min"
        if scaling == "output" and tile.inputs[0] == 128 and tile.outputs[0] == 0:
            assert tile.weight_max[3] == 0.0
            assert (state.weights(1)[..., 3] == 0).all(), "an output without weights hears noise"


# ------------------------------------------------------------------------------------------- converters in their place


@pytest.mark.parametrize("scaling", ["tile", "output"])
def test_converters_round_inputs_partial_sums_and_nothing_else(scaling: str):
    """Against loops written from the description: each tile's currents are rounded in its own range, then added."""
    weight, x = samples((70, 300), 1), samples((40, 1, 300), 2)
    built = compile_(product(weight), SILENT, data=Data({"x": x}), percentile=95.0, scaling=scaling)
    full = np.abs(x).max()
    driven = np.rint(x[:, 0].astype(np.float64) / (full / 127)).clip(-127, 127) * (full / 127)
    expected = np.zeros((40, 70))
    clipped = 0
    for rows in ((0, 128), (128, 256), (256, 300)):
        for columns in ((0, 64), (64, 70)):
            block = weight[slice(*columns), slice(*rows)].astype(np.float64)
            largest = np.abs(block).max(axis=1 if scaling == "output" else None)
            currents = driven[:, slice(*rows)] @ block.T / largest
            step = np.percentile(np.abs(currents), 95.0, method="higher") / 127
            codes = np.rint(currents / step)
            clipped += int((np.abs(codes) > 127).sum())
            expected[:, slice(*columns)] += codes.clip(-127, 127) * step * largest
    trace = run(built, {"x": x}, chips=1, times=[0])
    error = np.abs(trace.outputs["y"][:, 0] - expected)
    assert np.median(error) < 1e-5
    assert (error > 1e-3).mean() < 0.002, "more than a rare float32 tie differs"
    assert trace.saturation["adc"][0, 0] == pytest.approx(clipped / (40 * 70 * 3), rel=0.02)
    assert trace.saturation["dac"][0, 0] == 0


@pytest.mark.parametrize("outputs", [3, 100])
def test_saturated_inputs_are_counted(outputs: int):
    x = np.ones((4, 1, 8), np.float32)
    built = compile_(product(samples((outputs, 8))), SILENT, data=Data({"x": x}))
    trace = run(built, {"x": x * np.array([1, 1, 2, 3], np.float32)[:, None, None]}, chips=2, times=[0])
    assert trace.saturation["dac"].tolist() == [[0.5, 0.5]]


def test_only_steps_that_run_are_counted():
    """Ended samples and false guards need no conversion."""
    b = Builder()
    x, h, on = b.input("x", (3,)), b.state("h", (2,)), b.input("on", (), "bool")
    b.next(h, b("tanh", b.param("W", samples((2, 3))) @ x), when=on)
    b.output("y", h * 1.0)
    program = program_of(b, {"x": x.type, "on": on.type})
    gate = np.array([[1, 0, 0, 1], [1, 1, 1, 1]], bool)
    inputs, lengths = {"x": samples((2, 4, 3)), "on": gate}, np.array([4, 2])
    built = compile_(program, PCM, data=Data(inputs))
    trace = run(built, inputs, lengths, chips=3, times=[0])
    assert trace.counters["dac_conversions"].tolist() == [6, 6]
    assert trace.counters["adc_conversions"].tolist() == [4, 4]


def test_known_ranges_stand_in_for_data_and_a_warning_says_what_it_costs():
    program = replace(product(samples((3, 8))), meta={"ranges": {"s": {"x": [-2.0, 1.5]}}})
    built = compile_(program, PCM)
    (matrix,) = built.manifest["layout"]["matrices"]
    assert list(matrix["segments"]) == [(0, 8, 2.0)]
    size = np.abs(samples((3, 8)).astype(np.float64))
    largest = 2.0 * (size.sum(axis=1) / size.max(axis=1)).max()
    assert matrix["tiles"][0]["adc_range"] == pytest.approx((largest,))
    assert "expect poor accuracy" in built.manifest["warnings"][0]


# ------------------------------------------------------------------------------------------------------------ chips


def built_gru(target: Crossbar = PCM) -> tuple[Artifact, dict[str, np.ndarray]]:
    data = {"x": samples((8, 5, 4))}
    return compile_(gru(), target, data=Data(data)), data


def test_a_chip_is_the_same_whatever_else_is_simulated():
    built, data = built_gru()
    few = run(built, data, chips=2, times=["1day"], seed=3)
    many = run(built, data, chips=5, times=["t0", "1h", "1day"], seed=3)
    assert np.array_equal(few.chip_outputs["y"][0], many.chip_outputs["y"][2][:2])
    assert many.chip_outputs["y"].shape == (3, 5, 8, 3)
    assert np.array_equal(many.outputs["y"], many.chip_outputs["y"][0, 0])


def test_blocks_of_chips_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch):
    built, data = built_gru()
    whole = run(built, data, chips=5, times=[0, 100.0])
    monkeypatch.setattr("neurodeploy.crossbar.monte_carlo._ROWS_AT_ONCE", 16)
    parts = run(built, data, chips=5, times=[0, 100.0])
    assert np.array_equal(whole.chip_outputs["y"], parts.chip_outputs["y"])
    assert np.array_equal(whole.saturation["adc"], parts.saturation["adc"])


def acting(program: Program, target: Crossbar, chips: int, seed: int = 0) -> np.ndarray:
    """Weights of the only matrix as they act at the first read, ``[chips, inputs, outputs]``."""
    (matrix,) = tiles.matrices(program, target)
    held = Chips(program, [matrix], target, range(chips), 1, seed).analog["s"][matrix.value]
    return np.concatenate([block.effective for block in held.blocks], axis=1)


def test_chips_and_seeds_are_independent():
    weight = samples((60, 60))
    program = Tiling()(product(weight))
    errors = [(acting(program, PCM, 2, seed) - weight.T).reshape(2, -1) for seed in (0, 1)]
    table = np.corrcoef(np.concatenate(errors))
    assert np.abs(table - np.eye(4)).max() < 0.06  # 3,600 weights: three standard errors are 0.05
    assert table[0, 0] == pytest.approx(1.0)


def test_weights_scatter_as_the_formula_says_over_many_chips():
    """Two devices of 6.25 and 0 uS: their variances add, in units of weight; a clipped device has less."""
    weight = np.array([[0.25, 1.0]], np.float32)
    program = Tiling()(product(weight))
    found = acting(program, with_device(PCM, read_noise=None, drift=None), 4000)[:, 0, 0]
    sd = 0.26348 + 1.9650 * 0.25 - 1.1731 * 0.0625
    zero = 0.26348**2 * (0.5 - 1 / (2 * np.pi))  # variance of max(0, z): a device meant to be 0
    assert found.mean() == pytest.approx(0.25 - 0.26348 / np.sqrt(2 * np.pi) / 25, abs=3e-3)
    assert found.std() == pytest.approx(np.sqrt(sd**2 + zero) / 25, rel=0.04)


def test_drift_shrinks_the_product_and_compensation_restores_it():
    """Without spread every device decays alike: the factor is known, and one gain undoes it."""
    drift = PCM.device.drift
    assert drift is not None
    same = {"nu_mean_min": 0.06, "nu_mean_max": 0.06, "nu_sd_min": 0.0, "nu_sd_max": 0.0}
    target = with_device(SILENT, drift=drift.model_copy(update=same))
    target = target.model_copy(update={"adc": IDEAL.adc, "dac": IDEAL.dac})
    weight, x = samples((80, 150)), samples((5, 1, 150))
    built = compile_(product(weight), target)
    exact = x[:, 0] @ weight.T
    for compensate, factor in ((False, (31536020 / 20) ** -0.06), (True, 1.0)):
        found = run(built, {"x": x}, chips=1, times=["1year"], compensate=compensate).outputs["y"][:, 0]
        np.testing.assert_allclose(found, exact * factor, atol=1e-4)


def test_noise_hurts_more_as_time_passes():
    built, data = built_gru()
    golden = interpret.run(gru(), data).outputs["y"]
    trace = run(built, data, chips=20)
    errors = np.sqrt(((trace.chip_outputs["y"] - golden) ** 2).mean(axis=(1, 2, 3))) / golden.std()
    assert 0.01 < errors[0] < 0.3
    assert (np.diff(errors) > 0).all()
    assert trace.times == tuple(TIMES.values())


def test_scores_are_means_and_deviations_over_chips():
    built, data = built_gru()
    trace = run(built, data, chips=4, times=[0, 3600])
    trace.chip_outputs["y"][...] = np.arange(4.0)[None, :, None, None]
    found = trace.over_chips(lambda outputs: float(outputs["y"].mean()))
    deviation = np.std([0, 1, 2, 3], ddof=1)
    assert found["score"] == {"value": 1.5, "sd": deviation, "n": 4, "over": "chips"}
    drift = found["drift"][1]
    assert {k: drift[k] for k in ("seconds", "mean", "sd", "chips")} == {
        "seconds": 3600.0, "mean": 1.5, "sd": deviation, "chips": 4,
    }  # fmt: skip
    assert (drift["median"], drift["low"], drift["high"]) == pytest.approx((1.5, 0.15, 2.85))


# ------------------------------------------------------------------------------------------------- figures and record


def test_figures_without_a_source_are_unknown():
    built, _ = built_gru(IDEAL)
    figures = {f["name"]: f for f in built.manifest["figures"]}
    for name in ("energy", "energy.adc", "energy.dac", "energy.array", "area", "area.array", "latency"):
        assert (figures[name]["value"], figures[name]["how"]) == (None, "unknown")
    built, _ = built_gru(PCM)
    figures = {f["name"]: f["value"] for f in built.manifest["figures"]}
    assert {name for name, value in figures.items() if value is None} == {"programming_pulses", "programming_energy"}
    assert figures["energy.adc.high"] == pytest.approx(0.555 * figures["adc_conversions"])
    assert figures["area.array.low"] == pytest.approx(figures["tiles"] * 128 * 128 * 0.0232)


def test_the_record_says_what_was_simulated_and_what_was_not(tmp_path: Any):
    built, data = built_gru()
    trace = run(Artifact.load(built.save(tmp_path / "b")), data, chips=3, times=["1h"], seed=4, compensate=False)
    assert (trace.record["seeds"], trace.record["chips"], trace.record["times_s"]) == ([4], 3, [3600.0])
    assert trace.record["drift_compensation"] == "none"
    assert "IR drop along word and bit lines" in trace.record["not_modelled"]
    assert built.manifest["not_modelled"] == trace.record["not_modelled"]
    assert {f["unit"] for f in trace.record["figures"] if f["name"].endswith("conversions")} == {
        "conversions/inference"
    }
    json.dumps(trace.record)


def test_states_are_those_of_the_first_chip():
    built, data = built_gru(IDEAL)
    golden = interpret.run(gru(), data, states=True)
    trace = run(built, data, chips=3, times=[0], states=True)
    np.testing.assert_allclose(trace.states["s.h"], golden.states["s.h"], atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- messages


def _no_weights() -> Program:
    b = Builder()
    x = b.input("x", (3,))
    b.output("y", b("tanh", x))
    return program_of(b, {"x": x.type})


def _not_a_number() -> Program:
    return product(np.array([[1.0, np.nan]]))


BAD: list[tuple[str, Any, type[NeurodeployError], str]] = [
    ("a tile of one column", lambda: compile_(gru(), small(128, 1)), TargetError,
     "tiling: a tile of 128 x 1 holds no weight; needed at least 1 row and 2 columns (a weight is a pair of devices on "
     "two bit lines)."),
    ("a board", lambda: compile_(gru(), hardware.find("host")), TargetError,
     "host: is of kind 'board'; the crossbar backend needs a crossbar. Use pcm-128 or ideal-128."),
    ("other numerics", lambda: compile_(replace(gru(), numerics="tflite"), IDEAL), UnsupportedError,
     "net: its numerics are 'tflite'; crossbars take float or native. Compile the float model, or quantize it to "
     "native."),
    ("no weights", lambda: compile_(_no_weights(), IDEAL), UnsupportedError,
     "net: has no matrix product with constant weights; a crossbar would have nothing to hold. Choose another target."),
    ("NaN", lambda: compile_(_not_a_number(), IDEAL), UnsupportedError,
     "%matmul: its weights hold NaN or infinity. Train it again."),
    ("no data", lambda: compile_(gru(), PCM), UsageError,
     "pcm-128: its converters need a range for %x (stage 's'); no calibration data given. Give data to calibrate on: "
     "--data FILE.npz."),
    ("percentile", lambda: compile_(gru(), PCM, percentile=0.0), UsageError,
     "crossbar: the percentile is 0.0; needed more than 0, at most 100."),
    ("scaling", lambda: compile_(gru(), PCM, scaling="outputs"), UsageError,
     "crossbar: there is no scaling 'outputs'. Did you mean 'output'?"),
    ("no chips", lambda: run(built_gru()[0], {}, chips=0), UsageError,
     "crossbar: 0 chips asked for; needed at least 1."),
    ("a time", lambda: run(built_gru()[0], {}, times=["1yaer"]), UsageError,
     "crossbar: '1yaer' is no time. Did you mean '1year'?"),
    ("before t0", lambda: run(built_gru()[0], {}, times=[-1.0]), UsageError,
     "crossbar: the time -1.0 s lies before the first read or too far after it."),
    ("another's build", lambda: run(replace(built_gru()[0], backend="c"), {}), UsageError,
     "net: is a build for 'c'; the runner 'crossbar' needs one for 'crossbar'. "
     "Leave out --on: it then runs on its own target."),
]  # fmt: skip


@pytest.mark.parametrize(("do", "kind", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_cant_be_done_is_one_clear_line(do: Any, kind: type[NeurodeployError], message: str):
    with pytest.raises(kind) as error:
        do()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            {"sweep": ["adc_bits=4"], "effects": "adc"},
            "--sweep takes chips as the target describes them, without --eff",
        ),
        ({"attribute": True, "stuck_map": "maps.npz"}, "--attribute takes chips .* without --stuck-map"),
        ({"repair_data": "calib.npz"}, "--repair-data is for --repair; none is asked for"),
    ],
)
def test_options_that_would_do_nothing_are_refused(stated: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message), run_options(stated, "crossbar", gru()):
        pass
