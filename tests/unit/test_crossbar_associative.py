"""Hopfield and bidirectional memories recalled by the array: closed cases, capacity, energies, chips, messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import compiler, hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.associative import BamArray, HopfieldArray, Recall
from neurodeploy.crossbar.associative.cells import draws
from neurodeploy.crossbar.associative.programs import (
    bam_program,
    hebb,
    hopfield_program,
    pairs,
    pseudo_inverse,
    stored,
    storkey,
)
from neurodeploy.crossbar.associative.study import Setting, crossing, curve, point
from neurodeploy.crossbar.effects import ALL
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.errors import DataError, NeurodeployError, TargetError, UnsupportedError, UsageError
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret, text

IDEAL, PCM = hardware.find("ideal-128", Crossbar), hardware.find("pcm-128", Crossbar)
DAY = 86400.0


def patterns(count: int, n: int, seed: int = 0) -> np.ndarray:
    return 2.0 * np.random.default_rng(seed).integers(0, 2, (count, n)) - 1


def flipped(x: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(x.shape) < share, -x, x)


# two orthogonal patterns: the field of a unit is n/n = 1 times its sign for each, so one step recalls any cue nearer to
# one of them than n/4 units
TWO = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [1, -1, 1, -1, 1, -1, 1, -1]], dtype=float)


@pytest.mark.parametrize("order", ["synchronous", "asynchronous"])
def test_two_orthogonal_patterns_come_back_from_one_wrong_unit_in_one_sweep(order: str):
    for pattern in TWO:
        cues = np.where(np.eye(8, dtype=bool), -pattern, pattern)
        found = HopfieldArray(hebb(TWO), IDEAL).recall(cues, order=order)
        assert (found.states == pattern).all()
        assert (found.sweeps == 1).all()
        assert (found.reads == (2 if order == "synchronous" else 16)).all(), "one sweep that changes, one that doesn't"
        assert (found.decisions == 16).all()
        assert found.converged.all()
        # E = -(n - P)/2 at a pattern of orthogonal ones: 1/n (n - 1 - P + 1) a unit
        assert found.energy == pytest.approx(np.full((1, 8), -3.0))


def test_two_units_that_inhibit_each_other_swing_all_at_once_and_settle_one_by_one():
    array = HopfieldArray([[0, -1], [-1, 0]], IDEAL)
    for sweeps in (4, 5):
        found = array.recall([[1, 1], [1, -1]], order="synchronous", sweeps=sweeps)
        assert found.cycles.tolist() == [[True, False]]
        assert found.converged.tolist() == [[False, True]]
        assert (found.states[0, 0] == (1 if sweeps == 4 else -1)).all(), "the state of the last step"
        assert found.reads.tolist() == [[sweeps, 1]]
    settled = array.recall([[1, 1]], order="asynchronous")
    assert settled.converged.all()
    assert settled.states[0, 0].sum() == 0
    assert settled.trace[[0, 1, -1], 0, 0].tolist() == [1.0, -1.0, -1.0]


def test_a_tie_keeps_the_old_state_and_a_threshold_shifts_it():
    idle = np.zeros((2, 2))
    idle[0, 1] = idle[1, 0] = 1.0
    array = HopfieldArray(idle, IDEAL, thresholds=[1.0, -1.0])  # fields: s_1 - 1 and s_0 + 1
    found = array.recall([[-1, 1], [1, 1], [1, -1]], order="synchronous")
    assert found.states[0].tolist() == [[-1, 1], [1, 1], [-1, 1]]


def test_rules_by_hand():
    x = np.array([[1, 1, -1], [1, -1, 1]], dtype=float)
    assert np.allclose(hebb(x) * 3, [[0, 0, 0], [0, 0, -2], [0, -2, 0]])
    # Storkey: W = (0 1 -1; 1 0 -1; -1 -1 0)/3 after one pattern; the second adds x_i x_j - x_i h_ji - h_ij x_j
    W = np.array([[0, 1, -1], [1, 0, -1], [-1, -1, 0]]) / 3
    after = W.copy()
    for i in range(3):
        for j in range(3):
            if i != j:
                h_ij = sum(W[i, k] * x[1, k] for k in range(3) if k not in (i, j))
                h_ji = sum(W[j, k] * x[1, k] for k in range(3) if k not in (i, j))
                after[i, j] += (x[1, i] * x[1, j] - x[1, i] * h_ji - h_ij * x[1, j]) / 3
    assert np.allclose(storkey(x), after)
    many = patterns(20, 40)
    kept = (many @ pseudo_inverse(many)) * many
    assert (kept > 0).all(), "linearly independent patterns are fixed points"
    assert not (many @ hebb(many) * many > 0).all(), "and this many are too many for Hebb"
    y = patterns(2, 4)
    assert np.allclose(pairs(x, y), (np.outer(y[0], x[0]) + np.outer(y[1], x[1])) / 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10_000))
def test_the_energy_only_falls_one_by_one_with_exact_symmetric_weights(n: int, seed: int):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, n)).astype(np.float32).astype(float)  # any diagonal of 0 or more holds
    W = W + W.T
    np.fill_diagonal(W, np.abs(np.diag(W)) * (seed % 2))
    array = HopfieldArray(W, IDEAL, thresholds=rng.normal(size=n))
    found = array.recall(patterns(6, n, seed), sweeps=200)
    assert (np.diff(found.trace, axis=0) <= 1e-9).all()
    assert (found.rises == 0).all()
    assert found.converged.all()
    assert np.allclose(found.energy, array.energy(found.states))


def test_devices_that_are_off_break_the_symmetry_and_raise_the_energy():
    stored_ = patterns(12, 60)
    array = HopfieldArray(stored(stored_), PCM, chips=8)
    assert not np.allclose(array.acting, array.acting.transpose(0, 2, 1))
    found = array.recall(flipped(stored_, 0.25), sweeps=100)
    assert found.rises is not None
    assert found.rises.sum() > 0


@pytest.mark.parametrize("seed", range(3))
def test_synchronous_recall_is_the_program_driven_until_it_stands(seed: int):
    n = 64
    x = patterns(14, n, seed)
    W = stored(x)  # sixty-fourths: exact in float32
    cues = flipped(np.repeat(x, 6, axis=0), 0.3, seed)
    for sweeps in (1, 2, 25, 26):
        program = hopfield_program(W, max_steps=sweeps)
        wanted = interpret.run(program, {"cue": cues.astype(np.float32)}).outputs["s"]
        found = HopfieldArray(W, IDEAL).recall(cues, order="synchronous", sweeps=sweeps)
        assert np.array_equal(found.states[0], wanted)
    assert found.cycles.any(), "none of these cues ends in a cycle: the parity wasn't tested"


@pytest.mark.parametrize("both_ways", [True, False])
def test_a_pair_memory_is_its_program(both_ways: bool):
    x, y = patterns(9, 32), patterns(9, 24, 5)
    W = pairs(x, y)
    cues = flipped(np.repeat(x, 4, axis=0), 0.2)
    wanted = interpret.run(bam_program(W), {"cue": cues.astype(np.float32)}).outputs
    found = BamArray(W, IDEAL, both_ways=both_ways).recall(cues)
    assert np.array_equal(found.x[0], wanted["x"])
    assert np.array_equal(found.y[0], wanted["y"])
    assert (found.energy == -((found.x @ W.T) * found.y).sum(axis=-1)).all()


def test_read_both_ways_the_energy_of_any_chip_falls():
    x, y = patterns(25, 60), patterns(25, 50, 5)
    cues = flipped(np.repeat(x, 3, axis=0), 0.25)

    def rises(both_ways: bool) -> int:
        array = BamArray(pairs(x, y), PCM, chips=6, both_ways=both_ways, seconds=DAY)
        return int((np.diff(array.recall(cues).acting, axis=0) > 1e-9).sum())

    assert rises(both_ways=True) == 0
    assert rises(both_ways=False) > 0


def test_the_compiled_program_recalls_on_chips(tmp_path):
    x = patterns(3, 60)
    program = hopfield_program(stored(x))
    for name, data in text.to_files(program, "memory").items():
        (tmp_path / name).write_bytes(data)
    read = text.load(tmp_path / "memory.nd")
    cues = {"cue": flipped(x, 0.1).astype(np.float32)}
    built = compiler.compile(read, "pcm-128", calibration=cues)
    assert (np.asarray(built.run(cues)) == x).mean() > 0.95


def test_a_program_of_one_hopfield_cell_is_taken_as_it_is():
    theta = np.array([0.5, -0.5, 0.0, 0.0, 1.5, 0.0, 0.0, 0.0])
    array = HopfieldArray.of(hopfield_program(hebb(TWO), theta), IDEAL, chips=2)
    assert np.array_equal(array.weights, hebb(TWO))
    assert np.array_equal(array.thresholds, theta)
    with pytest.raises(UnsupportedError, match="one cell 'hopfield' .* Give weights and thresholds"):
        HopfieldArray.of(bam_program(pairs(TWO, TWO)), IDEAL)


def test_a_chips_synchronous_recall_is_its_compiled_program_without_converters():
    x = patterns(8, 64)
    W, cues = stored(x), flipped(np.repeat(x, 3, axis=0), 0.25).astype(np.float32)
    built = CrossbarBackend().compile(hopfield_program(W), PCM, data=Data({"cue": cues}))
    array = HopfieldArray(W, PCM, chips=3, seed=2, seconds=DAY)
    found = array.recall(cues, order="synchronous", sweeps=50)

    def run(effects: frozenset[str]) -> np.ndarray:
        inputs, options = {"cue": cues}, {"chips": 3, "times": [DAY], "seed": 2, "compensate": False}
        return CrossbarRunner().run(built, inputs, effects=effects, **options).chip_outputs["s"][0]

    assert np.array_equal(run(ALL - {"dac", "adc"}), found.states)
    assert not np.array_equal(run(ALL), found.states), "8-bit converters decide all as comparators do"


@pytest.mark.parametrize("name", hardware.names("crossbar"))
def test_every_target_recalls_a_day_old_or_says_why_not(name: str):
    x, target = patterns(3, 30), hardware.find(name, Crossbar)
    if target.wires is not None:
        pytest.importorskip("numba")
    if target.array.slice_bits is not None:
        with pytest.raises(UnsupportedError, match=f"{name}: weights in slices are put together digitally"):
            HopfieldArray(stored(x), name)
        return
    assert (HopfieldArray(stored(x), name, chips=2, seconds=DAY).recall(flipped(x, 0.05)).states == x).all()


def test_the_ideal_array_holds_what_theory_says():
    """Amit, Gutfreund and Sompolinsky 1985: overlaps stay near 1 below 0.138 n, and fall apart above, the faster the
    larger the network is."""

    def overlap(load: float, units: int) -> float:
        setting = Setting(units=units, load=load, flipped=0.0, cues=25)
        return float(np.mean([point(setting, IDEAL, chips=1, seed=s).overlap for s in range(3)]))

    assert overlap(0.1, 100) > 0.99
    assert overlap(0.1, 300) > 0.99
    assert overlap(0.138, 300) > 0.93
    assert overlap(0.24, 300) < 0.55
    assert overlap(0.24, 100) > overlap(0.24, 300) + 0.1


def test_better_rules_hold_more():
    rates = {
        rule: point(Setting(load=0.3, flipped=0.05, rule=rule), IDEAL, chips=1).recalled[0]
        for rule in ("hebb", "storkey", "pseudo-inverse")
    }
    assert rates["hebb"] < 0.3
    assert rates["storkey"] > 0.9
    assert rates["pseudo-inverse"] > 0.9


def test_a_chip_is_the_same_beside_any_others():
    x = patterns(8, 70)
    cues = flipped(x, 0.3)

    def run(chips: Any, **options: Any) -> Recall:
        array = HopfieldArray(stored(x), PCM, chips=chips, seed=3, offset=0.05, read_noise="fresh", seconds=DAY)
        return array.recall(cues, sweeps=8, **options)

    for options in ({}, {"order": "synchronous"}, {"order": "stochastic", "temperature": 0.3}):
        every, one = run([2, 0, 1], **options), run([1], **options)
        assert np.array_equal(every.states[2:], one.states)
        assert np.array_equal(every.trace[:, 2:], one.trace)
    assert not np.array_equal(run([0]).trace, run([1]).trace)


def test_one_by_one_is_a_plain_loop_over_units():
    """Against sums written out, with weights that are far from symmetric, offsets, and noise at every read."""
    cues = patterns(40, 20)
    W = np.random.default_rng(3).normal(size=(20, 20)) + 3 * hebb(patterns(2, 20, 7))
    array = HopfieldArray(W, PCM, chips=2, seed=4, offset=0.1, read_noise="fresh", conductance=0.1)
    found = array.recall(cues, sweeps=6)
    for chip in range(2):
        rng, states = draws(4, chip, "order"), cues.copy()
        moving = np.ones(len(cues), bool)
        for _ in range(6):
            orders = rng.random(cues.shape).argsort(axis=1)
            noise = rng.standard_normal(cues.shape)
            for cue in np.flatnonzero(moving):
                before = states[cue].copy()
                for unit, z in zip(orders[cue], noise[cue], strict=True):
                    field = states[cue] @ array.acting[chip][:, unit] + array._offsets[chip, unit]
                    states[cue, unit] = np.sign(field + z * array.read_sd[chip, unit])
                moving[cue] = (states[cue] != before).any()
        assert np.array_equal(found.states[chip], states)
    assert len({tuple(row) for row in array._offsets}) == 2, "chips share their comparators"


def test_stuck_devices_do_as_much_harm_as_there_are():
    points = curve("stuck_on", [0.0, 0.2], PCM, setting=Setting(cues=20, load=0.08), chips=4)
    assert points[0].recalled.min() > 0.9
    assert points[1].recalled.max() < 0.8
    whole = HopfieldArray(hebb(TWO), IDEAL, stuck=(1.0, 0.0))
    assert np.allclose(whole.acting, 0), "both devices of every pair at g_max"


def test_comparators_have_offsets_of_their_own():
    x = patterns(4, 64)
    off = HopfieldArray(stored(x), IDEAL, offset=0.5, chips=3)
    fields = off.fields(np.repeat(x[None], 3, axis=0)) - HopfieldArray(stored(x), IDEAL).fields(x[None])
    assert np.ptp(fields, axis=1).max() < 1e-12, "an offset doesn't depend on the state"
    largest = np.abs(stored(x)).max(axis=0)
    assert (fields[:, 0] / largest).std() == pytest.approx(0.5, rel=0.2)


def test_fresh_read_noise_has_the_devices_deviation():
    W = np.zeros((2, 2))
    W[0, 1] = W[1, 0] = 1.0
    quiet = PCM.model_copy(update={"device": PCM.device.model_copy(update={"programming": None, "drift": None})})
    array = HopfieldArray(W, quiet, read_noise="fresh", seconds=100.0)
    # Nandakumar 2019: g Q sqrt(ln((t + t_r)/(2 t_r))), Q = 0.0088 at g_max and 0 S below; the pair's other is at 0
    assert array.read_sd[0, 0] == pytest.approx(0.0088 * np.sqrt(np.log((100 + 250e-9) / 500e-9)), rel=1e-6)
    held = HopfieldArray(W, quiet, chips=400, seconds=100.0)
    assert held.acting[:, 0, 1].std() == pytest.approx(array.read_sd[0, 0], rel=0.1)
    assert not held.read_sd.any()


def test_stochastic_recall_is_glauber_dynamics():
    """Two coupled units at temperature T agree with probability 1 / (1 + exp(-2 w / T)), Boltzmann's."""
    w, T = 0.7, 1.3
    array = HopfieldArray([[0, w], [w, 0]], IDEAL)
    found = array.recall(np.ones((4000, 2)), order="stochastic", temperature=T, sweeps=12)
    agree = (found.states[0, :, 0] == found.states[0, :, 1]).mean()
    assert agree == pytest.approx(1 / (1 + np.exp(-2 * w / T)), abs=0.025)
    assert (found.decisions == 24).all()


def test_crossing_is_between_points():
    assert crossing([1, 2, 4], [1.0, 0.9, 0.1], 0.5) == pytest.approx(3.0)
    assert np.isnan(crossing([1, 2], [1.0, 0.9], 0.5))


GOOD = hebb(TWO)
BAD: list[tuple[str, Callable[[], Any], type[NeurodeployError], str]] = [
    ("not square", lambda: HopfieldArray(np.zeros((2, 3)), IDEAL), DataError, r"'weights' is float64\[2, 3\]; needed"),
    ("nan", lambda: HopfieldArray([[0, np.nan], [0, 0]], IDEAL), DataError, "'weights' holds NaN or infinity."),
    ("empty", lambda: HopfieldArray(np.zeros((0, 0)), IDEAL), DataError, r"needed numbers \[n, n\]"),
    ("text", lambda: HopfieldArray([["a"]], IDEAL), DataError, "needed numbers"),
    ("thresholds", lambda: HopfieldArray(GOOD, IDEAL, thresholds=[1.0]), DataError, "'thresholds' is .* needed 8"),
    ("target", lambda: HopfieldArray(GOOD, "pcm-129"), TargetError, "pcm-12"),
    ("chips", lambda: HopfieldArray(GOOD, IDEAL, chips=0), UsageError, "chips are 0"),
    ("same chips", lambda: HopfieldArray(GOOD, IDEAL, chips=[1, 1]), UsageError, "all different"),
    ("age", lambda: HopfieldArray(GOOD, IDEAL, seconds=-1.0), UsageError, "the age is -1.0 s"),
    ("offset", lambda: HopfieldArray(GOOD, IDEAL, offset=-0.1), UsageError, "offset is -0.1"),
    ("reads", lambda: HopfieldArray(GOOD, IDEAL, read_noise="new"), UsageError, "no read_noise 'new'"),
    ("cues", lambda: HopfieldArray(GOOD, IDEAL).recall(np.zeros((1, 8))), DataError, "other values than -1 and 1"),
    ("width", lambda: HopfieldArray(GOOD, IDEAL).recall(np.ones((1, 7))), DataError, "'cues' has 7 units a row"),
    ("sweeps", lambda: HopfieldArray(GOOD, IDEAL).recall(TWO, sweeps=-1), UsageError, "sweeps is -1"),
    ("order", lambda: HopfieldArray(GOOD, IDEAL).recall(TWO, order="async"), UsageError, "Did you mean 'asynchronous'"),
    ("heat", lambda: HopfieldArray(GOOD, IDEAL).recall(TWO, temperature=1), UsageError, "takes no temperature"),
    ("cold", lambda: HopfieldArray(GOOD, IDEAL).recall(TWO, order="stochastic"), UsageError, "has no noise"),
    ("schedule", lambda: HopfieldArray(GOOD, IDEAL).recall(TWO, order="stochastic", noise=[1, 2, 3], sweeps=2),
     UsageError, "'noise' is .* needed a number, 0 or more, or 2 of them"),
    ("patterns", lambda: stored(np.array([[1, 0]])), DataError, "'patterns' holds other values"),
    ("no patterns", lambda: stored(np.zeros((0, 4))), DataError, "needed numbers"),
    ("rule", lambda: stored(TWO, "heb"), UsageError, "Did you mean 'hebb'"),
    ("pairs", lambda: pairs(TWO, TWO[:1]), DataError, "2 patterns x and 1 patterns y"),
    ("bam steps", lambda: BamArray(GOOD, IDEAL).recall(TWO, steps=0), UsageError, "steps is 0"),
    ("conductance", lambda: HopfieldArray(GOOD, IDEAL, conductance=0.0), UsageError, "conductance is 0.0"),
    ("stuck", lambda: HopfieldArray(GOOD, IDEAL, stuck=(0.9, 0.2)), UsageError, "shares of stuck devices"),
    ("field", lambda: curve("loads", [0.1], IDEAL), UsageError, "Did you mean 'load'"),
    ("load", lambda: point(Setting(load=0.0), IDEAL), UsageError, "0 patterns"),
    ("memory", lambda: point(Setting(memory="ham"), IDEAL), UsageError, "no memory 'ham'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_wrong_is_said(call: Callable[[], Any], kind: type[NeurodeployError], message: str):
    with pytest.raises(kind, match=message):
        call()
