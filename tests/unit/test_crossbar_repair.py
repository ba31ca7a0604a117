"""Repair of drawn chips: columns by least squares, readouts by ridge regression on the chip's own states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import compiler, hardware
from neurodeploy.compiler import Built
from neurodeploy.crossbar import repair
from neurodeploy.crossbar.costs.prices import Prices
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.monte_carlo import plan, run_task
from neurodeploy.crossbar.repair import readouts as repair_readout
from neurodeploy.crossbar.simulate import Chips, run_chips
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import DataError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from tests.families import CASES

PCM, IDEAL = hardware.find("pcm-128", Crossbar), hardware.find("ideal-128", Crossbar)
UNITS, INPUTS, OUTPUTS, YEAR = 12, 3, 4, 31_536_000.0
RNG = np.random.default_rng(11)
X = RNG.normal(size=(40, 7, INPUTS)).astype(np.float32)
LENGTHS = RNG.integers(2, 8, len(X))
DATA, TEST = Data({"x": X[:30]}, LENGTHS[:30]), Data({"x": X[30:]}, LENGTHS[30:])


def reservoir(kind: str = "last") -> Program:
    """A leaky reservoir with a readout of its last state, of every state, or with a mean over the steps' readouts."""
    w, b = np.random.default_rng(5).normal, Builder()
    x, h = b.input("x", (INPUTS,)), b.state("h", (UNITS,))
    new = h * 0.5 + b("tanh", b.param("W", w(size=(UNITS, INPUTS))) @ x + b.param("U", w(size=(UNITS, UNITS)) / 4) @ h)
    b.next(h, new)
    y: Sym = b.param("V", w(size=(OUTPUTS, UNITS))) @ new + b.param("c", w(size=OUTPUTS))
    if kind == "mean":
        total, steps = b.state("total", (OUTPUTS,)), b.state("steps", ())
        sums, count = total + y, steps + 1.0
        b.next(total, sums)
        b.next(steps, count)
        y = sums / count
    b.output("y", y)
    b.output("h", new)
    at = "series" if kind == "series" else "last"
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s", at), "h": Ref("h", "s", at)})


def small(base: Crossbar, rows: int = 8, columns: int = 16) -> Crossbar:
    return base.model_copy(update={"array": base.array.model_copy(update={"rows": rows, "columns": columns})})


def built(target: Crossbar, kind: str = "last") -> Built:
    return compiler.compile(reservoir(kind), target, DATA)


def chips_of(made: Built, count: int, samples: int) -> Chips:
    target, matrices = described(made.artifact)
    return Chips(made.program, matrices, target, range(count), samples, 0)


def named(made: Built, weight: str) -> str:
    """The value of the matrix that holds a weight of the network."""
    (found,) = (m for m in made.artifact.manifest["layout"]["matrices"] if weight in {p["weight"] for p in m["parts"]})
    return found["value"]


# -------------------------------------------------------------------------------------------------------- columns


def test_columns_that_are_off_by_a_factor_are_put_right():
    made = built(small(IDEAL))
    chips, exact = chips_of(made, 3, 5), chips_of(made, 3, 5)
    rng = np.random.default_rng(0)
    wrong = {}
    for value, analog in chips.analog["s"].items():
        for k, block in enumerate(analog.blocks):
            wrong[value, k] = rng.uniform(0.3, 2.0, (3, 1, analog.matrix.outputs))
            block.folded = (block.folded * wrong[value, k]).astype(np.float32)
    assert max(len(a.blocks) for a in chips.analog["s"].values()) == 2  # a matrix on several arrays is among them
    repair.columns(chips, made.program, DATA)
    for value, analog in chips.analog["s"].items():
        x = RNG.normal(size=(5, analog.matrix.inputs)).astype(np.float32)
        weights = tiles.weights(made.program, analog.matrix)
        for k, block in enumerate(analog.blocks):
            assert block.gain is not None and block.shift is not None
            held = np.abs(weights[:, slice(*block.inputs)]).sum(axis=1) > 0
            np.testing.assert_allclose(block.gain[..., held] * wrong[value, k][..., held], 1.0, rtol=1e-4)
            np.testing.assert_allclose(block.shift, 0.0, atol=1e-5)
        mine, theirs = (repair.read(a, x) for a in (analog, exact.analog["s"][value]))
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


def test_least_squares_find_factor_and_term_and_leave_a_dead_column_its_factor():
    z = RNG.normal(size=(50, 3))
    a, b = np.array([[[2.0, -0.5, 1.0]], [[0.1, 3.0, 1.0]]]), np.array([[[0.3, 0.0, -1.0]], [[-2.0, 1.0, 0.0]]])
    y = (z - b) / a
    y[:, :, 2] = 0.25
    gain, shift = repair.fit(y, z)
    np.testing.assert_allclose(gain[..., :2], a[..., :2], atol=1e-12)
    np.testing.assert_allclose(shift[..., :2], b[..., :2], atol=1e-12)
    np.testing.assert_allclose(gain[..., 2], 1.0)
    np.testing.assert_allclose(shift[..., 2], z[:, 2].mean() - 0.25)


def test_columns_do_better_than_one_drift_gain_a_tile():
    made = built(PCM)
    _, matrices = described(made.artifact)
    weights = {m.value: tiles.weights(made.program, m).astype(np.float64) for m in matrices}

    def error(chips: Chips) -> float:
        seen = repair.measured(made.program, TEST)
        pairs = [(repair.read(chips.analog["s"][v], x), x @ weights[v].T) for (_, v), x in seen.items()]
        return float(np.sqrt(np.mean([np.mean((y - z) ** 2) for y, z in pairs])))

    chips = chips_of(made, 6, 1)
    chips.age(YEAR)
    before = error(chips)
    repair.columns(chips, made.program, DATA)
    assert error(chips) < 0.9 * before
    chips.age(YEAR)
    assert error(chips) == before  # ageing forgets the repair


def test_columns_of_an_integer_program_are_put_right_to_a_unit():
    made = compiler.compile(reservoir(), IDEAL, DATA, numerics="native")
    chips = chips_of(made, 2, 1)
    for analog in chips.analog["s"].values():
        for block in analog.blocks:
            block.folded = block.folded * np.linspace(0.4, 1.7, block.folded.shape[-1])
    repair.columns(chips, made.program, DATA)
    for (_, value), x in repair.measured(made.program, TEST).items():
        analog = chips.analog["s"][value]
        assert x.dtype.kind == "i"
        exact = x.astype(np.int64) @ tiles.weights(made.program, analog.matrix).astype(np.int64).T
        found = repair.read(analog, x)
        assert found.dtype.kind == "i" and np.abs(found - exact).max() <= 1


def test_a_matrix_of_vectors_is_read_as_many_at_a_time_as_it_takes():
    b, w = Builder(), np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    for side in ("left", "right"):
        b = Builder()
        x = b.input("x", (4, 3) if side == "left" else (3, 4))
        b.output("y", b.param("W", w) @ x if side == "left" else x @ b.param("W", w.T.copy()))
        stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
        program = Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s")})
        data = RNG.normal(size=(4, 2, *x.shape)).astype(np.float32)
        made = compiler.compile(program, IDEAL, data)
        vectors = RNG.normal(size=(7, 4)).astype(np.float32)
        (analog,) = chips_of(made, 2, 9).analog["s"].values()
        np.testing.assert_allclose(repair.read(analog, vectors), np.stack([vectors @ w.T] * 2), atol=1e-5)
        assert analog.samples == 9


# ------------------------------------------------------------------------------------------------------- readouts


@pytest.mark.parametrize("kind", ["last", "series", "mean"])
def test_a_readout_refitted_on_a_chip_is_the_ridge_solution_for_its_states(kind: str):
    made = built(PCM, kind)
    (found,) = repair_readout.prepare(made.program, DATA)
    assert found.value == named(made, "V") and found.last == (kind == "last")
    chips = chips_of(made, 2, DATA.samples)
    chips.age(YEAR)
    states = _states(made, chips, kind)
    repair.readout(chips, made.program, DATA)
    refitted = chips.analog["s"][found.value]
    assert isinstance(refitted, repair_readout.RefittedReadout)
    ((_, weights, terms),) = refitted.parts
    V = reservoir().stages[0].graph.params["V"].data.astype(np.float64)
    for chip in range(2):
        s, z = states[chip], found.wanted
        solutions = [_closed_form(s, z, V, penalty) for penalty in repair_readout.PENALTIES]
        W, shift = min(solutions, key=lambda solution: _left_out(s, z, V, solution[2]))[:2]
        np.testing.assert_allclose(weights[chip], W.T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(terms[chip, 0], shift, rtol=1e-4, atol=1e-5)


def _states(made: Built, chips: Chips, kind: str) -> np.ndarray:
    """The states that count, ``[chips, rows, units]``, from the network's own output 'h'."""
    every = replace(made.program, outputs={"h": Ref("h", "s", "last" if kind == "last" else "series")})
    trace, _ = run_chips(every, chips, DATA.inputs, DATA.lengths)
    h = trace.outputs["h"].reshape(2, DATA.samples, -1, UNITS).astype(np.float64)
    if kind == "last":
        return h[:, :, 0]
    there = np.arange(h.shape[2]) < np.asarray(DATA.lengths)[:, None]
    return h[:, there]


def _closed_form(s: np.ndarray, z: np.ndarray, V: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, float]:
    mean, wanted = s.mean(axis=0), z.mean(axis=0)
    c, left = s - mean, (z - wanted) - (s - mean) @ V.T
    normal = c.T @ c + penalty * np.mean(c**2) * len(s) * np.eye(s.shape[1])
    W = V + np.linalg.solve(normal, c.T @ left).T
    return W, wanted - W @ mean, penalty


def _left_out(s: np.ndarray, z: np.ndarray, V: np.ndarray, penalty: float) -> float:
    """Leave-one-out error by leaving them out, the penalty's absolute size kept."""
    unit = np.mean((s - s.mean(axis=0)) ** 2) * len(s)
    total = 0.0
    for out in range(len(s)):
        kept = np.arange(len(s)) != out
        c = s[kept] - s[kept].mean(axis=0)
        left = (z[kept] - z[kept].mean(axis=0)) - c @ V.T
        W = V + np.linalg.solve(c.T @ c + penalty * unit * np.eye(s.shape[1]), c.T @ left).T
        guess = W @ (s[out] - s[kept].mean(axis=0)) + z[kept].mean(axis=0)
        total += float(((guess - z[out]) ** 2).sum())
    return total


def test_the_penalty_is_that_with_the_smallest_leave_one_out_error():
    chosen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        s, V = rng.normal(size=(9, 5)), rng.normal(size=(2, 5))
        z = s @ (V + 0.3 * rng.normal(size=(2, 5))).T + rng.normal(size=(9, 2)) * 0.4
        errors = [_left_out(s, z, V, penalty) for penalty in repair_readout.PENALTIES]
        best = repair_readout.PENALTIES[int(np.argmin(errors))]
        W, shift = repair_readout.ridge(s, z, V)
        np.testing.assert_allclose(W, _closed_form(s, z, V, best)[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(shift, z.mean(axis=0) - W @ s.mean(axis=0))
        chosen.add(best)
    assert len(chosen) > 2  # a choice there was


def test_on_ideal_chips_a_refit_changes_nothing():
    made = built(IDEAL)
    golden = interpret.run(made.program, TEST.inputs, TEST.lengths)
    for kind in ("columns", "readout", "both"):
        trace = CrossbarRunner().run(
            made.artifact, dict(TEST.inputs), TEST.lengths, chips=2, times=(0,), repair=kind, repair_data=DATA
        )
        np.testing.assert_allclose(trace.chip_outputs["y"][0, 1], golden.outputs["y"], atol=1e-4)


def test_both_bring_an_old_chip_nearer_than_either_and_either_nearer_than_none():
    made = built(PCM)
    golden = interpret.run(made.program, TEST.inputs, TEST.lengths).outputs["y"]

    def error(kind: str) -> float:
        trace = CrossbarRunner().run(
            made.artifact, dict(TEST.inputs), TEST.lengths, chips=8, times=(YEAR,), repair=kind, repair_data=DATA
        )
        return float(np.sqrt(np.mean((trace.chip_outputs["y"] - golden) ** 2)))

    none, columns, readout, both = (error(kind) for kind in repair.KINDS)
    assert both < columns < none and both < readout < none


def test_a_refitted_readout_converts_nothing_and_is_counted_as_digital():
    made = built(PCM)
    plain, fixed = (
        CrossbarRunner().run(
            made.artifact, dict(TEST.inputs), TEST.lengths, chips=2, times=(0,), repair=kind, repair_data=DATA
        )
        for kind in ("none", "readout")
    )
    steps = np.asarray(TEST.lengths)
    saved = plain.counters["adc_conversions"] - fixed.counters["adc_conversions"]
    np.testing.assert_array_equal(saved, OUTPUTS * steps)
    np.testing.assert_array_equal(plain.counters["dac_conversions"] - fixed.counters["dac_conversions"], UNITS * steps)
    record = fixed.record["repair"]
    assert record["digital_macs_per_step"] == OUTPUTS * UNITS and record["columns"] == {}
    assert record["readouts"][f"s.{named(made, 'V')}"] == {"place": "digital", "weights": [OUTPUTS, UNITS]}
    assert plain.record["repair"] is None
    before, after = ({f["name"]: f["value"] for f in run.record["figures"]} for run in (plain, fixed))
    each = Prices(PCM, hardware.find_technology(PCM.technologies[0]))
    add, multiply = (each.operation(kind, "f32").range for kind in ("additions", "multiplications"))
    assert add is not None and multiply is not None
    macs, scaled = OUTPUTS * UNITS * (add[0] + multiply[0]), OUTPUTS * multiply[0]  # codes are no longer scaled
    rise = after["energy.digital.low"] - before["energy.digital.low"]
    assert rise == pytest.approx(1e12 * float(steps.mean()) * (macs - scaled))
    assert after["latency.high"] > before["latency.high"]


def test_columns_cost_an_addition_for_each_result():
    made = built(PCM)
    plain, fixed = (
        CrossbarRunner().run(
            made.artifact, dict(TEST.inputs), TEST.lengths, chips=1, times=(0,), repair=kind, repair_data=DATA
        )
        for kind in ("none", "columns")
    )
    before, after = ({f["name"]: f["value"] for f in run.record["figures"]} for run in (plain, fixed))
    add = Prices(PCM, hardware.find_technology(PCM.technologies[0])).operation("additions", "f32").range
    assert add is not None
    wanted = 1e12 * add[0] * float(np.asarray(TEST.lengths).mean()) * (UNITS + OUTPUTS)
    assert after["energy.digital.low"] - before["energy.digital.low"] == pytest.approx(wanted)
    assert after["energy.adc.low"] == before["energy.adc.low"]
    kinds = [run.record["drift_compensation"] for run in (plain, fixed)]
    assert kinds == ["global, per tile", "none"]  # columns take its place


def two_readouts(second: int) -> Program:
    """Two linear outputs of one state, which lie in one matrix; ``second`` puts the other through a product more."""
    w, b = np.random.default_rng(5).normal, Builder()
    x, h = b.input("x", (INPUTS,)), b.state("h", (UNITS,))
    new = h * 0.5 + b("tanh", b.param("W", w(size=(UNITS, INPUTS))) @ x)
    b.next(h, new)
    b.output("y", b.param("V", w(size=(OUTPUTS, UNITS))) @ new)
    z: Sym = b.param("Q", w(size=(3, UNITS))) @ new
    b.output("z", b.param("R", w(size=(3, 3))) @ b("tanh", z) if second else z)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    outputs = {name: Ref(name, "s", "last") for name in ("y", "z")}
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), outputs)


def test_two_readouts_of_one_matrix_are_both_refitted():
    made = compiler.compile(two_readouts(0), PCM, DATA)
    golden = interpret.run(made.program, TEST.inputs, TEST.lengths).outputs

    def traced(kind: str):
        return CrossbarRunner().run(
            made.artifact, dict(TEST.inputs), TEST.lengths, chips=4, times=(0, YEAR), repair=kind, repair_data=DATA
        )

    plain, fixed = traced("none"), traced("readout")
    for name in ("y", "z"):
        before, after = (np.abs(t.chip_outputs[name][1] - golden[name]).mean() for t in (plain, fixed))
        assert after < 0.8 * before
    place = f"s.{named(made, 'V')}"
    assert set(fixed.record["repair"]["readouts"]) == {f"{place}[0:4]", f"{place}[4:7]"}
    assert fixed.record["repair"]["digital_macs_per_step"] == 7 * UNITS
    assert not fixed.reads["s", named(made, "V")].any()


def test_a_matrix_that_is_refitted_in_part_is_still_read_in_every_serial_cycle():
    serial = PCM.model_copy(update={"dac": PCM.dac.model_copy(update={"serial_bits": 2})})
    made = compiler.compile(two_readouts(1), serial, DATA)
    fixed = CrossbarRunner().run(
        made.artifact, dict(TEST.inputs), TEST.lengths, chips=2, times=(0,), repair="readout", repair_data=DATA
    )
    assert len(fixed.record["repair"]["readouts"]) == 2
    np.testing.assert_array_equal(fixed.reads["s", named(made, "V")], 4 * np.asarray(TEST.lengths))
    plain = CrossbarRunner().run(made.artifact, dict(TEST.inputs), TEST.lengths, chips=1, times=(0,))
    digital = [
        next(f["value"] for f in run.record["figures"] if f["name"] == "energy.digital.low") for run in (plain, fixed)
    ]
    assert digital[1] > digital[0]


def test_a_repaired_chip_is_the_same_whatever_is_repaired_beside_it():
    made = built(PCM)
    fixed = repair.prepare("both", made.program, DATA)
    (task,) = plan(
        made.artifact, TEST.samples, 5, ages=(0.0, YEAR), seed=3, compensate=True, states=False, repair=fixed
    )
    every = run_task(made.artifact, dict(TEST.inputs), TEST.lengths, task)
    alone = run_task(made.artifact, dict(TEST.inputs), TEST.lengths, replace(task, chips=(3,), ages=(YEAR,)))
    np.testing.assert_array_equal(every.outputs[1]["y"][3], alone.outputs[0]["y"][0])


def test_many_samples_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(repair, "SAMPLES", 10)
    data = replace(DATA, labels=np.arange(30))
    fixed = repair.prepare("readout", built(IDEAL).program, data)
    assert fixed is not None and fixed.data.samples == 10
    np.testing.assert_array_equal(fixed.data.inputs["x"], X[0:30:3])
    np.testing.assert_array_equal(fixed.data.lengths, LENGTHS[0:30:3])  # type: ignore[arg-type]
    assert fixed.readouts[0].wanted.shape == (10, OUTPUTS)


# --------------------------------------------------------------------------------------------------- what can't be


def test_what_cannot_be_repaired_is_said():
    made = built(IDEAL)
    with pytest.raises(UsageError, match="there is no repair 'column'. Did you mean 'columns'"):
        repair.prepare("column", made.program, DATA)
    with pytest.raises(DataError, match="measures chips on calibration data; none given.*--repair-data"):
        repair.prepare("both", made.program, None)
    native = compiler.compile(reservoir(), IDEAL, DATA, numerics="native").program
    with pytest.raises(UnsupportedError, match="numerics are 'native'; readouts are refitted in float programs"):
        repair.prepare("readout", native, DATA)
    assert repair.prepare("none", native, None) is None


@pytest.mark.parametrize(
    ("family", "why"),
    [("gru_reset_after", "comes through"), ("hopfield", "driven 'until'"), ("encoder_decoder", "driven 'generate'")],
)
def test_a_network_without_a_readout_is_refused(family: str, why: str):
    case = CASES[family]
    data = Data(case.inputs, case.lengths)
    tiled = compiler.compile(case.program, IDEAL, data).program
    if family == "gru_reset_after":
        (stage,) = tiled.stages
        tiled = replace(tiled, outputs={"h": Ref(next(n for n, v in stage.graph.outputs.items()), stage.name)})
        stage = replace(stage, graph=replace(stage.graph, outputs={"h": stage.graph.states[0].next}))
        tiled = replace(tiled, stages=(stage,), outputs={"h": Ref("h", stage.name)})
    with pytest.raises(UnsupportedError, match=f"no readout that can be refitted: .*{why}"):
        repair.prepare("readout", tiled, data)
