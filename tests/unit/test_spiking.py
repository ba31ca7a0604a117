"""Spiking networks without a simulator: what is found in a program, sigma-delta's whole numbers."""

import sys

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends.brian2 import Brian2Backend
from neurodeploy.backends.snntorch import SnnTorchBackend, SnnTorchRunner
from neurodeploy.errors import MissingExtraError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.report import metrics
from neurodeploy.spiking import network, sigma_delta
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


@pytest.mark.parametrize("backend,target", [(Brian2Backend, LSM), (SnnTorchBackend, SIGMA)])
def test_wrong_requests(backend, target):
    with pytest.raises(UsageError, match="sample inputs"):
        backend().compile(random_layer(0), target)
    with pytest.raises(UsageError, match="has no option 'speed'"):
        backend().compile(random_layer(0), target, data=random_data(0), speed=9)


def test_a_missing_simulator_names_the_extra(monkeypatch):
    artifact = SnnTorchBackend().compile(random_layer(0), SIGMA, data=random_data(0, classes=2))
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'neurodeploy\[spiking\]'"):
        SnnTorchRunner().run(artifact, random_data(1).inputs)


@pytest.mark.parametrize("backend,target", [(Brian2Backend, LSM), (SnnTorchBackend, SIGMA)])
def test_compiling_twice_gives_the_same_bytes(backend, target):
    once, twice = (backend().compile(random_layer(0), target, data=random_data(0, classes=2)) for _ in range(2))
    assert once.files == twice.files and once.manifest == twice.manifest


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
    with pytest.raises(UnsupportedError, match="normalise the inputs"):
        SnnTorchBackend().compile(huge, SIGMA, data=random_data(0, classes=2))
