"""Spiking networks without a simulator: what is found in a program, the liquid's and sigma-delta's whole numbers."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.backends.brian2 import Brian2Backend, Brian2Runner
from neurodeploy.backends.snntorch import SnnTorchBackend, SnnTorchRunner
from neurodeploy.errors import DataError, MissingExtraError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.report import metrics
from neurodeploy.spiking import liquid_fit, liquid_program, network, sigma_delta
from neurodeploy.spiking.liquid import Constants, Liquid, build, decay, simulate, trace_limit
from tests.differential.spiking_cases import layer, random_data, random_layer

LSM = hardware.find("brian2-lsm")
SIGMA = hardware.find("snntorch-sigma-delta")

# -- what is found -----------------------------------------------------------------------------------------------------


def test_input_and_output_maps_are_folded_into_the_layer():
    project = np.random.default_rng(0).normal(size=(3, 3))
    program = random_layer(0, normalise=([0.5, -1.0, 2.0], [0.5, 2.0, 4.0]), project=project, last=False)
    found = network.find(program, "test")
    data = random_data(1)
    x = data.inputs["x"].astype(np.float64)
    h = np.zeros((len(x), found.units))
    for t in range(x.shape[1]):
        h = h + found.leak * (found.f(x[:, t] @ found.W.T + h @ found.U.T + found.bias) - h)
        y = h @ found.V.T + found.c
        outputs = interpret.run(program, data.inputs).outputs["y"][:, t]
        np.testing.assert_allclose(y, outputs, atol=2e-5)


@pytest.mark.parametrize("cell,leak", [("elman", 1.0), ("leaky", 0.3)])
def test_both_cells_are_found(cell, leak):
    found = network.find(random_layer(2, cell=cell, leak=leak), "test")
    assert (found.cell, found.state, found.input, found.output) == (cell, "h", "x", "y")
    np.testing.assert_allclose(found.leak, np.full(6, leak), rtol=1e-6)


def _gru() -> Program:
    b = Builder()
    x, h = b.input("x", (2,)), b.state("h", (3,))
    shapes = {"W": (9, 2), "U": (9, 3), "bias": (9,), "u": (3,)}
    (new,) = b.call("gru", x, h, *(b.param(n, np.zeros(s, np.float32)) for n, s in shapes.items()))
    b.next(h, new)
    b.output("y", new)
    stage = Stage("rnn", b.graph(), inputs_from={"x": Ref("x")})
    return Program("g", {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), {"y": Ref("y", "rnn")})


def _two_stages() -> Program:
    one = random_layer(0, outputs=3, last=False)
    (first,) = one.stages
    second = Stage("top", first.graph, inputs_from={"x": Ref("y", "rnn")})
    return Program("two", one.inputs, (first, second), {"y": Ref("y", "top")})


REFUSED = {
    "gru": (_gru, "g/rnn: %gru (gru): its gates multiply two changing values, which neurons that add up spikes can't; "
            "needed leaky or elman. Train a leaky or Elman network, or compile this one for a board, tflm or a crossbar."),
    "two": (_two_stages, "two: stage 'top': test converts a single recurrent layer; this network has 2 stages. "
            "Use a network of one layer, or a board target."),
    "reverse": (lambda: random_layer(0, drive=Drive("reverse")),
                "net/rnn: the drive is 'reverse'; spikes run forward in time. Use a board target."),
    "softmax": (lambda: random_layer(0, tail="softmax"),
                "net/rnn: %softmax (softmax): is not an affine map of the new state; the readout must be one. "
                "Leave out a softmax at the end: the largest score is the same without it."),
    "init": (lambda: random_layer(0, state_init=np.ones(6)),
             "net/rnn: state %h: test starts every state at zero and updates it each step; this one starts elsewhere. "
             "Use a board target."),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    make, message = REFUSED[case]
    with pytest.raises(UnsupportedError) as caught:
        network.find(make(), "test")
    assert str(caught.value) == message


def test_brian2_refuses_what_has_no_rate_code():
    data = random_data(3, classes=2)
    with pytest.raises(UnsupportedError, match="leaks 0.1..0.6; needed one for all units"):
        Brian2Backend().compile(random_layer(0, leak=np.linspace(0.1, 0.6, 6)), LSM, data=data)
    with pytest.raises(
        UnsupportedError, match="activation 'sigmoid' has no rate code here; needed tanh, softsign, relu"
    ):
        Brian2Backend().compile(random_layer(0, activation="sigmoid"), LSM, data=data)


@pytest.mark.parametrize("backend,target", [(Brian2Backend, LSM), (SnnTorchBackend, SIGMA)])
def test_wrong_requests(backend, target):
    with pytest.raises(UsageError, match="Give sample inputs"):
        backend().compile(random_layer(0), target)
    with pytest.raises(UsageError, match="has no option 'speed'"):
        backend().compile(random_layer(0), target, data=random_data(0), speed=9)


@pytest.mark.parametrize(
    "runner,backend,target,package",
    [(Brian2Runner, Brian2Backend, LSM, "brian2"), (SnnTorchRunner, SnnTorchBackend, SIGMA, "snntorch")],
)
def test_a_missing_simulator_names_the_extra(monkeypatch, runner, backend, target, package):
    artifact = backend().compile(random_layer(0), target, data=random_data(0, classes=2))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'neurodeploy\[spiking\]'"):
        runner().run(artifact, random_data(1).inputs)


# -- the liquid --------------------------------------------------------------------------------------------------------


def _liquid(seed: int, constants: Constants, activation: str = "tanh", units: int = 6) -> tuple[Liquid, Program]:
    program = random_layer(seed, activation=activation, units=units, last=False)
    found = network.find(program, "test")
    bare = build(found.W, found.U, found.bias, found.leak[0], 3 / 32767, 1.0, activation != "relu", constants)
    weights = np.random.default_rng(seed).normal(0, 1, (bare.neurons + 1, 2))
    return liquid_fit.with_readout(bare, weights), program


@settings(max_examples=15)
@given(
    st.integers(0, 99), st.integers(1, 5), st.sampled_from([0.5, 1.0, 1.4]), st.sampled_from([1.0, 0.8]), st.booleans()
)
def test_the_golden_model_is_the_liquid(seed, ticks, threshold, membrane, signed):
    """Two independent forms of the dynamics, NumPy and the IR, agree on every trace and score."""
    liquid, source = _liquid(seed, Constants(ticks, threshold, membrane, 0.1), "tanh" if signed else "relu")
    program = liquid_program.program_of(liquid, source, "rnn", "x", "y", {})
    data = random_data(seed)
    steps = data.inputs["x"].shape[1]
    assert data.lengths is not None
    active = np.arange(steps) < data.lengths[:, None]
    trace = interpret.run(program, data.inputs, data.lengths, states=True)
    activity = simulate(liquid, quantize(data.inputs["x"], liquid_program.input_type(liquid)), active)
    np.testing.assert_array_equal(trace.states["rnn.trace"][active], activity.traces[active])
    scores = activity.traces @ liquid.readout.T.astype(np.int64) + liquid.readout_bias
    np.testing.assert_array_equal(trace.outputs["y"][active], scores[active])
    assert activity.spikes.sum() > 0 and not activity.spikes[~active].any()


def test_traces_follow_the_reservoirs_states():
    """The conversion itself: with more ticks a frame a pair's traces come closer to the unit's state."""
    program = random_layer(5, units=20, last=False)
    found = network.find(program, "test")
    data = random_data(6, samples=30, steps=20)
    scale = 5 / 32767
    states = interpret.run(program, data.inputs, states=True).states["rnn.h"]
    active = np.ones(states.shape[:2], bool)
    errors = []
    for ticks in (2, 8, 32):
        liquid = build(found.W, found.U, found.bias, found.leak[0], scale, 1.0, True, Constants(ticks, 1.0, 1.0, 0.0))
        x = quantize(data.inputs["x"], liquid_program.input_type(liquid))
        traces = simulate(liquid, x, active).traces / (1 << 14)
        converted = traces[..., :20] - traces[..., 20:]
        errors.append(np.sqrt(np.mean((converted - states) ** 2)))
        assert np.corrcoef(converted.ravel(), states.ravel())[0, 1] > 0.9
    # What is left at the end is the difference between tanh and its cut-off line.
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.25 * states.std() + 0.1


@given(st.integers(1, 20000), st.integers(0, 32700))
def test_traces_stay_below_their_limit(step, synapse):
    trace, limit = np.zeros((), np.int64), trace_limit(step, synapse)
    for _ in range(400):
        trace = np.asarray(decay(trace, synapse) + step)
    assert trace <= limit


@pytest.mark.parametrize("units", [3, 60])
@pytest.mark.parametrize("ticks", [1, 8])
def test_no_input_overflows_the_liquid(ticks, units):
    """The largest inputs, signed as each unit's weights are; the interpreter raises if a number leaves 32 bits."""
    liquid, source = _liquid(7, Constants(ticks, 1.0, 1.0, 0.1), units=units)
    program = liquid_program.program_of(liquid, source, "rnn", "x", "y", {})
    x = np.sign(liquid.W_in * np.sign(liquid.bias)[:, None]).astype(np.float32) * 1e9
    interpret.run(program, {"x": np.repeat(x[:, None], 12, axis=1)})
    for weights, bias, largest in (
        (liquid.W_in, liquid.bias, 32768),
        (liquid.readout, liquid.readout_bias, liquid.trace_limit),
    ):
        top = np.abs(weights.astype(np.int64)).sum(axis=1) * largest + np.abs(bias.astype(np.int64))
        assert top.max() < 2**31


def test_the_readout_survives_its_rounding():
    """Scores in whole numbers equal the regression's to 1e-3 of their size."""
    liquid, _ = _liquid(8, Constants(4, 1.0, 1.0, 0.1))
    weights = np.random.default_rng(8).normal(0, 1, (liquid.neurons + 1, 2))
    traces = np.random.default_rng(9).integers(0, liquid.trace_limit, (50, liquid.neurons))
    real = traces / (1 << 14) @ weights[:-1] + weights[-1]
    whole = (traces @ liquid.readout.T.astype(np.int64) + liquid.readout_bias) * liquid.out_scale
    np.testing.assert_allclose(whole, real, atol=1e-3 * np.abs(real).max())


def test_ridge_regression_solves_its_equations():
    rng = np.random.default_rng(0)
    features, targets = np.c_[rng.normal(size=(40, 5)), np.ones(40)], rng.normal(size=(40, 2)) + 7
    weights = liquid_fit.ridge_regression(features, targets, 0.5)
    gradient = features.T @ (features @ weights - targets) + np.r_[np.full(5, 0.5), 0.0][:, None] * weights
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_readouts_task():
    active = np.arange(4) < np.array([2, 4])[:, None]
    teacher = np.zeros((2, 4, 3))
    labels = liquid_fit.task_of(np.array([2, 0]), teacher, active, 3, series=True)
    np.testing.assert_array_equal(labels.where.nonzero()[1], [1, 3])
    np.testing.assert_array_equal(labels.targets, np.eye(3)[[2, 0]])
    own = liquid_fit.task_of(None, teacher, active, 3, series=True)
    assert own.targets.shape == (6, 3) and own.classes is None
    with pytest.raises(DataError, match=r"labels run 0..3; the network has 3 outputs"):
        liquid_fit.task_of(np.array([3, 0]), teacher, active, 3, series=True)
    with pytest.raises(DataError, match=r"targets have shape \[2, 3\]; needed \[2, 4, 3\]"):
        liquid_fit.task_of(np.zeros((2, 3)), teacher, active, 3, series=True)
    with pytest.raises(DataError, match="a sample has no steps"):
        liquid_fit.task_of(None, teacher, active & False, 3, series=True)


def test_too_few_samples_to_fit():
    with pytest.raises(DataError, match="9 samples; needed at least 10"):
        Brian2Backend().compile(random_layer(0), LSM, data=random_data(0, samples=9, classes=2))


@pytest.mark.parametrize("backend,target", [(Brian2Backend, LSM), (SnnTorchBackend, SIGMA)])
def test_compiling_twice_gives_the_same_bytes(backend, target):
    once, twice = (backend().compile(random_layer(0), target, data=random_data(0, classes=2)) for _ in range(2))
    assert once.files == twice.files and once.manifest == twice.manifest


def test_without_labels_the_readout_learns_the_networks_outputs():
    program = random_layer(11, units=20, last=False)
    artifact = Brian2Backend().compile(program, LSM, data=random_data(12, samples=60, steps=20))
    fit = artifact.manifest["layout"]["fit"]
    assert fit["labels"] == "the network's own outputs" and fit["metric"] == "1 - NRMSE" and fit["score"] > 0.6


# -- sigma-delta -------------------------------------------------------------------------------------------------------


def _sigma(program: Program, levels: int) -> tuple[sigma_delta.SigmaDelta, Program]:
    found = network.find(program, "test")
    data = random_data(20, samples=40)
    trace = interpret.run(program, data.inputs, states=True)
    active = np.ones(data.inputs["x"].shape[:2], bool)
    ranges = sigma_delta.ranges_of(found, data.inputs["x"], trace.states["rnn.h"], active)
    made = sigma_delta.build(found, ranges, levels)
    return made, sigma_delta.program_of(made, program, found, {})


LEAKS = {"receiver": 0.3, "unit": np.linspace(0.1, 0.9, 6), "none": 1.0}


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", ["hard_sigmoid", 0.2, 0.5]])
@pytest.mark.parametrize("where", LEAKS)
def test_more_levels_come_closer_to_the_network(where, activation):
    program = random_layer(21, leak=LEAKS[where], activation=activation, last=False)
    data = random_data(22, samples=40)
    plain = interpret.run(program, data.inputs).outputs["y"]
    errors = []
    for levels in (4, 16, 64):
        made, compiled = _sigma(program, levels)
        assert made.leak_at == where
        outputs = real_outputs(compiled, interpret.run(compiled, data.inputs))["y"]
        errors.append(metrics.nrmse(outputs, plain))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 0.05


@pytest.mark.parametrize("units", [6, 200])
@pytest.mark.parametrize("where", LEAKS)
def test_no_input_overflows_sigma_delta(where, units):
    """Sums of levels stay below 2^31, and leaky ones so that their doubled differences do."""
    leak = np.linspace(0.1, 0.9, units) if where == "unit" else LEAKS[where]
    rng = np.random.default_rng(0)
    U, V = np.where(rng.random((units, units)) < 0.5, 0.1, -0.1), rng.normal(size=(2, units))
    program = layer(rng.normal(size=(units, 3)), U, np.zeros(units), leak, V, np.ones(2))
    made, compiled = _sigma(program, 64)
    x = np.sign(made.W[:8]).astype(np.float32) * 1e9
    interpret.run(compiled, {"x": np.repeat(x[:, None], 12, axis=1)})
    limit = 2**28 if where == "receiver" else 2**31
    for weights, bias, largest, room in (
        (made.W, made.bias, 32768, 2**31),
        (made.U, np.zeros(units), 128, limit),
        (made.V, made.c, 128, limit),
    ):
        top = np.abs(weights.astype(np.int64)).sum(axis=1) * largest + np.abs(bias.astype(np.int64))
        assert top.max() < room


def test_levels_are_the_fewest_that_keep_the_outputs():
    artifact = SnnTorchBackend().compile(random_layer(24), SIGMA, data=random_data(25, samples=40))
    layout = artifact.manifest["layout"]
    assert layout["levels"] == layout["tried"][-1]["levels"] and len(layout["tried"]) > 1
    assert [entry["kept"] for entry in layout["tried"]] == [False] * (len(layout["tried"]) - 1) + [True]
    assert all((entry["nrmse"] <= 0.1) == entry["kept"] for entry in layout["tried"])
    asked = SnnTorchBackend().compile(random_layer(24), SIGMA, data=random_data(25), levels=3)
    assert asked.manifest["layout"]["levels"] == 3
    with pytest.raises(UsageError, match="levels is 65; needed 1 to 64"):
        SnnTorchBackend().compile(random_layer(24), SIGMA, data=random_data(25), levels=65)


def test_inputs_far_out_of_range_are_refused():
    huge = layer(np.full((4, 3), 1e8), np.eye(4), np.zeros(4), 0.5, np.ones((2, 4)), np.zeros(2))
    for backend, target in ((Brian2Backend, LSM), (SnnTorchBackend, SIGMA)):
        with pytest.raises(UnsupportedError, match="normalise the inputs"):
            backend().compile(huge, target, data=random_data(0, classes=2))
