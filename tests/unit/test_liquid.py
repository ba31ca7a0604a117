"""Liquid-state machines: a reservoir as spiking neurons, what is fitted to it, and the readout's cross-validation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.data import Data
from neurodeploy.errors import DataError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.spiking import convert, liquid_fit, liquid_net, liquid_spectrum, reservoir
from neurodeploy.spiking.convert import Conversion
from neurodeploy.spiking.liquid_dale import dale
from neurodeploy.spiking.liquid_net import Constants, Synapses
from neurodeploy.spiking.liquid_readout import FOLDS, Ridge, Task, best_penalty, cross_validated, task_of
from tests.differential.spiking_cases import layer, random_data, random_layer
from tests.families import CASES as FAMILIES

LSM = hardware.find("brian2-lsm", hardware.Neuromorphic)
QUICK = {"ticks": 4, "gain": 1.0, "membrane": 1.0}


def converted(program: Program, data: Data | None = None, options: Mapping[str, Any] = QUICK) -> Conversion:
    data = random_data(1, samples=60, classes=2) if data is None else data
    return convert.convert("liquid-state-machine", program, LSM, data, lambda _: None, options)


def liquid_of(program: Program, x: np.ndarray, constants: Constants, synapses: Synapses, kind: str = "pairs"):
    """A liquid, without readout, of a program on data that all run; and what the reservoir did on them."""
    found = reservoir.find(program)
    active = np.ones(x.shape[:2], bool)
    observed = reservoir.observe(found, x.astype(np.float64), active)
    code = liquid_net.code_of(found, observed, kind, constants)
    wiring = liquid_net.wiring_of(found, code)
    net = liquid_net.build(found, code, wiring, constants, synapses, float(np.abs(x).max()), 1e-3)
    return found, code, wiring, net, observed


# -- the network -------------------------------------------------------------------------------------------------------

CASES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "pairs": ({}, {}),
    "single": ({}, {"neurons": 7}),
    "relu": ({"activation": "relu"}, {"delay": 1}),
    "sigmoid": ({"activation": "sigmoid"}, {}),
    "leaks": ({"leak": np.array([0.2, 0.2, 0.2, 0.6, 0.6, 0.6])}, {"delay": 3}),
    "elman": ({"cell": "elman"}, {"membrane": 0.9}),
    "split": ({}, {"excitatory_tau": 0.7, "inhibitory_tau": 3}),
    "dale": ({}, {"excitatory": 0.75, "inhibitory_tau": 2.0}),
    "dale and single": ({}, {"excitatory": 0.5, "neurons": 7, "traces": "count"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_golden_program_is_the_network(case):
    """Two independent forms of the dynamics, the network's simulation and the IR, agree on every score."""
    changes, options = CASES[case]
    made = converted(random_layer(4, **changes), options={**QUICK, **options})
    assert made.net is not None
    data = random_data(2)
    assert data.lengths is not None
    active = np.arange(data.inputs["x"].shape[1]) < data.lengths[:, None]
    activity = liquid_fit.run(made.net, data.inputs["x"], active)
    scores = made.net.scores(activity.traces)[np.arange(len(active)), data.lengths - 1]
    assert activity.counts.sum() > 0 and np.ptp(scores) > 0
    np.testing.assert_array_equal(interpret.run(made.program, data.inputs, data.lengths).outputs["y"], scores)


@pytest.mark.parametrize("kind", ["pairs", "single"])
def test_traces_follow_the_reservoirs_states(kind):
    """The conversion itself: with more ticks a frame traces come closer to the unit's state."""
    program, data = random_layer(5, units=20, last=False), random_data(6, samples=30, steps=20)
    x = data.inputs["x"]
    active = np.ones(x.shape[:2], bool)
    errors = []
    for ticks in (2, 8, 32):
        _, code, wiring, net, observed = liquid_of(program, x, Constants(ticks), Synapses(delay=ticks // 2), kind)
        activity = liquid_fit.run(net, x, active)
        states = liquid_spectrum.decoded(reservoir.find(program), code, wiring, net, activity)[active]
        errors.append(float(np.sqrt(np.mean((states - observed.h) ** 2)) / observed.h.std()))
        assert np.corrcoef(states.ravel(), observed.h.ravel())[0, 1] > 0.9
    # What is left at the end is the difference between tanh and its cut line.
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2] and errors[2] < 0.12


def test_the_cut_line_of_relu_is_relu():
    z = np.random.default_rng(0).normal(size=(500, 3))
    a = np.maximum(0.2 + 1.3 * z, 0)
    c, g = liquid_net.cut_line(z, a, np.zeros(3), np.full(3, 10.0))
    np.testing.assert_allclose(c, 0.2, atol=1e-6)
    np.testing.assert_allclose(g, 1.3, atol=1e-6)


def test_half_a_frames_delay_follows_best():
    """A reservoir's frame takes the state before it: spikes of the frame so far must wait."""
    program, data = random_layer(7, units=20, leak=0.6, last=False), random_data(8, samples=30, steps=20)
    x = data.inputs["x"]
    active = np.ones(x.shape[:2], bool)
    errors = {}
    for delay in (1, 4, 8):
        found, code, wiring, net, observed = liquid_of(program, x, Constants(8), Synapses(delay=delay))
        states = liquid_spectrum.decoded(found, code, wiring, net, liquid_fit.run(net, x, active))[active]
        errors[delay] = float(np.sqrt(np.mean((states - observed.h) ** 2)))
    assert errors[4] < 0.9 * errors[1] and errors[4] < 0.9 * errors[8]


# -- Dale's law and time constants -------------------------------------------------------------------------------------


def test_dales_law_holds_and_says_its_cost():
    made = converted(random_layer(4, units=20), options={**QUICK, "excitatory": 0.8})
    assert made.net is not None
    assert made.net.populations == (("excitatory", 0, 32), ("inhibitory", 32, 40))
    excitatory, inhibitory = made.net.projections
    assert (excitatory.weights >= 0).all() and (inhibitory.weights <= 0).all()
    assert not excitatory.weights[:, 32:].any() and not inhibitory.weights[:, :32].any()
    assert excitatory.weights.any() and inhibitory.weights.any()
    cost = {figure.name: figure for figure in made.figures}["Dale's law"]
    assert cost.unit == "%" and cost.value is not None and 0 < cost.value < 100


def test_dales_weights_are_the_best_of_their_signs():
    """The conditions of Karush, Kuhn and Tucker: no weight can move either way that its sign allows, and gain."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(300, 3))  # neurons that share what they say can stand in for each other
    W, rates = rng.normal(size=(12, 12)), np.maximum(factors @ rng.normal(0, 0.3, (3, 12)) + 0.2, 0)
    found = dale(W, rates, 0.75)
    assert found.excites.sum() == 9
    moving = rates - rates.mean(axis=0)
    gram = moving.T @ moving / len(rates)
    slope = (found.weights - W) @ gram + 0.01 * np.trace(gram) / 12 * found.weights
    signs = np.where(found.excites, 1, -1)
    assert (found.weights * signs >= 0).all() and (slope * signs > -1e-4).all()
    assert np.abs(slope[found.weights != 0]).max() < 1e-4
    lost = rates @ (found.weights - W).T + found.offset
    assert abs(lost.mean()) < 1e-9
    assert found.error == pytest.approx(np.sqrt((lost**2).mean() / (moving @ W.T).var(axis=0).mean()), rel=1e-6)
    cut = np.where(W * signs > 0, W, 0)
    assert found.error < 0.8 * np.sqrt(((moving @ (cut - W).T) ** 2).mean() / (moving @ W.T).var(axis=0).mean())


def test_time_constants_of_their_own():
    made = converted(random_layer(4), options={**QUICK, "excitatory_tau": 0.5, "inhibitory_tau": 2})
    plain = converted(random_layer(4))
    assert made.net is not None and plain.net is not None
    for projection, tau in zip(made.net.projections, (0.5, 2.0), strict=True):
        np.testing.assert_allclose(projection.alpha, np.exp(-1 / (4 * tau)), rtol=1e-6)
    steady = [sum(p.weights / (1 - p.alpha) for p in net.projections) for net in (made.net, plain.net)]
    np.testing.assert_allclose(steady[0], steady[1], atol=1e-5)  # a steady rate's current stays


# -- the readout -------------------------------------------------------------------------------------------------------


def test_ridge_regression_solves_its_equations():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 5)) * [1, 10, 0.1, 3, 0] + 2, rng.normal(size=(40, 2)) + 7
    w, c = Ridge.of(features, targets).weights(0.5)
    assert not w[:, 4].any()
    spread = features.std(axis=0)
    residual = features @ w.T + c - targets
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-12)
    common = np.sqrt((spread**2).mean())
    gradient = (features / common).T @ residual / 40 + 0.5 * (w * common).T
    np.testing.assert_allclose(gradient[:4], 0, atol=1e-12)


def test_cross_validation_leaves_whole_samples_out():
    """Random labels and a feature that tells samples apart: only what has seen a sample could know its label."""
    rng = np.random.default_rng(3)
    where = np.ones((40, 6), bool)
    own = rng.normal(size=(40, 60))
    features = np.repeat(own, 6, axis=0) + 0.01 * rng.normal(size=(240, 60))
    classes = np.repeat(rng.permutation(40) % 2, 6)
    task = Task(where, np.eye(2)[classes], classes)
    w, c = Ridge.of(features, task.targets).weights(1e-6)
    assert ((features @ w.T + c).argmax(axis=1) == classes).mean() == 1
    assert cross_validated(features, task).max() < 0.1


def test_cross_validation_equals_refitting_by_hand():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(30, 4))
    targets = features @ rng.normal(size=(4, 2)) + rng.normal(size=(30, 2))
    task = Task(np.ones((30, 1), bool), targets, None)
    penalty = 10.0
    predicted = np.zeros_like(targets)
    for k in range(FOLDS):
        out = np.arange(30) % FOLDS == k
        mean, spread = features[~out].mean(axis=0), np.sqrt((features[~out].std(axis=0) ** 2).mean())
        a = (features[~out] - mean) / spread
        centre = targets[~out].mean(axis=0)
        w = np.linalg.solve(a.T @ a + len(a) * penalty * np.eye(4), a.T @ (targets[~out] - centre))
        predicted[out] = (features[out] - mean) / spread @ w + centre
    wanted = 1 - np.sqrt(((predicted - targets) ** 2).mean() / targets.var())
    assert cross_validated(features, task)[14] == pytest.approx(wanted, rel=1e-9)


def test_of_penalties_that_do_as_well_the_largest_is_taken():
    assert best_penalty(np.r_[0.2, 0.9, 0.897, 0.899, 0.8, np.zeros(12)])[0] == pytest.approx(10**-4.5)


def test_the_readouts_task():
    active = np.arange(4) < np.array([2, 4])[:, None]
    teacher = np.zeros((2, 4, 3))
    labels = task_of(np.array([2, 0]), teacher, active, 3, series=True)
    np.testing.assert_array_equal(labels.where.nonzero()[1], [1, 3])
    np.testing.assert_array_equal(labels.targets, np.eye(3)[[2, 0]])
    own = task_of(None, teacher, active, 3, series=True)
    assert own.targets.shape == (6, 3) and own.classes is None
    part = own.part(np.array([1]))
    assert part.targets.shape == (4, 3) and part.samples.tolist() == [0] * 4
    with pytest.raises(DataError, match=r"labels run 0..3; the network has 3 outputs"):
        task_of(np.array([3, 0]), teacher, active, 3, series=True)
    with pytest.raises(DataError, match=r"targets have shape \[2, 3\]; needed \[2, 4, 3\]"):
        task_of(np.zeros((2, 3)), teacher, active, 3, series=True)
    with pytest.raises(DataError, match="a sample has no steps"):
        task_of(None, teacher, active & False, 3, series=True)


def test_without_labels_the_readout_learns_the_networks_outputs():
    made = converted(random_layer(11, units=20, last=False), random_data(12, samples=60, steps=20))
    fit = made.layout["fit"]
    assert fit["labels"] == "the network's own outputs" and fit["metric"] == "1 - NRMSE" and fit["score"] > 0.75
    assert fit["traces"] == "state"  # counts would grow for ever in a stream


# -- the search --------------------------------------------------------------------------------------------------------


def test_the_fewest_spikes_of_what_scores_as_well():
    made = converted(random_layer(4, units=10), random_data(5, samples=40, classes=2), {"ticks": 2})
    fit = made.layout["fit"]
    assert len(fit["tried"]) == 12 and fit["delay"] == 1  # half a frame
    assert converted(random_layer(4)).layout["fit"]["delay"] == 2
    good = [t for t in fit["tried"] if t["score"] >= max(t["score"] for t in fit["tried"]) - 0.005]
    least = min(good, key=lambda t: t["spikes"])
    assert (fit["gain"], fit["membrane"], fit["ticks"]) == (least["gain"], least["membrane"], 2)
    assert fit["spikes"] == pytest.approx(least["spikes"])


def test_what_the_report_draws():
    """A stretch of the reservoir's spectrum is the liquid's, where units are as good as linear."""
    program = random_layer(13, units=12, leak=0.2, last=False)
    x = 0.05 * random_data(14, samples=40, steps=30).inputs["x"]
    found, code, wiring, net, observed = liquid_of(program, x, Constants(16, rates="unit"), Synapses(delay=8))
    active = np.ones(x.shape[:2], bool)
    arrays = liquid_spectrum.compare(
        found, code, wiring, net, observed, liquid_fit.run(net, x, active), active
    )  # fmt: skip
    with np.load(io.BytesIO(liquid_spectrum.to_bytes(arrays))) as file:
        assert set(file.files) == set(arrays)
    assert len(arrays["liquid_eigenvalues"]) == len(arrays["reservoir_eigenvalues"]) == 12
    assert arrays["rates"].shape == (24,) and 0 < arrays["rates"].max() <= 1
    np.testing.assert_allclose(arrays["reservoir_mean"], observed.h.mean(axis=0))
    own = arrays["reservoir_eigenvalues"]
    nearest = np.abs(arrays["liquid_eigenvalues"][:, None] - own).min(axis=1)
    assert nearest.max() < 0.15 and np.abs(own).max() == pytest.approx(
        np.abs(arrays["liquid_eigenvalues"]).max(), abs=0.05
    )


@pytest.mark.parametrize("delay", [1, 3])
def test_eigenvalues_of_two_equal_projections_are_those_of_one(delay):
    """Two ways to them: roots for each eigenvalue of the weights, and the whole linear system."""
    program, x = random_layer(13, units=5, last=False), random_data(14, samples=20).inputs["x"]
    found, code, wiring, net, observed = liquid_of(program, x, Constants(3), Synapses(delay=delay))
    tau = -1 / np.log(0.7)
    split = liquid_net.build(found, code, wiring, Constants(3), Synapses(None, tau, tau, delay), 4.0, 1e-3)
    assert len(net.projections) == 1 and len(split.projections) == 2
    one, two = (liquid_spectrum._liquid_eigenvalues(code, wiring, n, observed, 5) for n in (net, split))
    np.testing.assert_allclose(np.sort(np.abs(one)), np.sort(np.abs(two)), atol=1e-3)


# -- options, warnings, refusals ---------------------------------------------------------------------------------------

WRONG = {
    "ticks": ({"ticks": 0}, "ticks is 0; needed a whole number from 1 to 64"),
    "delay": ({"delay": 1.5}, "delay is 1.5; needed a whole number from 1 to 64 ticks"),
    "excitatory": ({"excitatory": 1.0}, "excitatory is 1.0; needed 0.05 to 0.95"),
    "word": ({"gain": "much"}, "gain is 'much'; needed 0.1 to 10"),
    "traces": ({"traces": "all"}, "traces is 'all'; needed state, count, both"),
    "neurons": ({"neurons": 6}, "neurons is 6; a reservoir of 6 units makes 7 or 12. Train a reservoir of 3 units"),
    "unknown": ({"tick": 4}, "has no option 'tick'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_options_out_of_range(case):
    options, message = WRONG[case]
    with pytest.raises(UsageError, match=message):
        converted(random_layer(0), options={**QUICK, **options})


def test_a_stream_has_no_counts():
    with pytest.raises(UsageError, match="traces is 'count'; needed state, as every step has an output"):
        converted(random_layer(0, last=False), options={**QUICK, "traces": "count"})


def _abs_net() -> Program:
    b = Builder()
    x, h = b.input("x", (3,)), b.state("h", (3,))
    a = b("abs", b.param("W", np.eye(3, dtype=np.float32)) @ x + h, name="a")
    b.next(h, h * b.const(0.5) + a * b.const(0.5))
    b.output("y", a)
    stage = Stage("rnn", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), {"y": Ref("y", "rnn", "last")})


REFUSED = {
    "gru": (lambda: FAMILIES["gru_reset_after"].program, r"\(mul\): it multiplies two changing values"),
    "falls": (lambda: _abs_net(), r"%a \(abs\): the activation doesn't grow with its input"),
    "init": (lambda: random_layer(0, state_init=np.ones(6)), "it starts elsewhere than at zero"),
    "leaks": (lambda: random_layer(0, leak=np.linspace(0.1, 0.6, 6)), "6 different leaks; needed at most 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    make, message = REFUSED[case]
    with pytest.raises(UnsupportedError, match=message):
        converted(make(), random_data(0, inputs=2 if case == "gru" else 3, classes=2))


def test_too_few_samples_to_fit():
    with pytest.raises(DataError, match="9 samples; needed at least 10"):
        converted(random_layer(0), random_data(0, samples=9, classes=2))


def _biased(bias: float, activation: str) -> Program:
    rng = np.random.default_rng(0)
    return layer(0.01 * rng.normal(size=(4, 3)), np.eye(4) * 0.1, np.full(4, bias), 0.5, rng.normal(size=(2, 4)),
                 np.zeros(2), activation=activation)  # fmt: skip


def test_silence_saturation_and_few_samples_are_said():
    silent = converted(_biased(-5.0, "relu"))
    assert "none of its neurons ever fires" in silent.warnings[0]
    full = converted(_biased(5.0, "tanh"))
    assert "50 % of the neurons never fire" in full.warnings[0]
    assert "50 % of the neurons fire in at least 95 % of all ticks" in full.warnings[1]
    few = converted(random_layer(0, units=20), random_data(0, samples=20, classes=2))
    assert few.warnings[-1].startswith("20 samples for a readout of 40 neurons")
    assert converted(random_layer(0), random_data(0, samples=60, classes=2)).warnings == ()
