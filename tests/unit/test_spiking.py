"""Spiking networks without a simulator: what is found in a program, and what is refused."""

import sys

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends.brian2 import Brian2Backend
from neurodeploy.backends.snntorch import SnnTorchBackend, SnnTorchRunner
from neurodeploy.errors import MissingExtraError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.spiking import network
from tests.differential.spiking_cases import random_data, random_layer

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
