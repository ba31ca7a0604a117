"""Brian2 against the golden model and against NumPy: a trained reservoir as a liquid, every bit of every step."""

from importlib import import_module
from importlib.metadata import version

import numpy as np
import pytest

pytest.importorskip("brian2", reason="brian2 isn't installed (extra 'spiking')")

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.brian2 import LIQUID, Brian2Backend, Brian2Runner
from neurodeploy.data import Data
from neurodeploy.ir import interpret, text
from neurodeploy.ir.fixed import quantize
from neurodeploy.report import metrics
from neurodeploy.spiking import brian2_network, liquid_fit, liquid_program
from neurodeploy.spiking.liquid import Liquid, simulate
from tests.differential.spiking_cases import random_data, random_layer, vowels, vowels_esn

TARGET = hardware.find("brian2-lsm")


@pytest.fixture(scope="module")
def built() -> Artifact:
    return Brian2Backend().compile(vowels_esn(), TARGET, data=vowels("train"))


@pytest.fixture(scope="module")
def test_set() -> Data:
    return vowels("test")


@pytest.fixture(scope="module")
def trace(built, test_set):
    return Brian2Runner().run(built, dict(test_set.inputs), test_set.lengths)


def _golden(artifact: Artifact, data: Data):
    return interpret.run(text.from_files(artifact.files, "program"), data.inputs, data.lengths)


def test_every_step_of_the_whole_test_set_equals_the_golden_model(built, test_set, trace):
    golden = _golden(built, test_set)
    np.testing.assert_array_equal(trace.series["rnn.y"], golden.series["rnn.y"])
    np.testing.assert_array_equal(trace.outputs["y"], golden.outputs["y"])


def test_accuracy_is_kept(test_set, trace):
    """A point is 3.7 of the 370 samples."""
    plain = interpret.run(vowels_esn(), test_set.inputs, test_set.lengths)
    assert metrics.accuracy(plain.outputs["y"], test_set.labels) > 0.98  # type: ignore[arg-type]
    assert metrics.accuracy(trace.outputs["y"], test_set.labels) > 0.975  # type: ignore[arg-type]


def test_spikes_and_their_counts_equal_numpys(built, test_set, trace):
    liquid = Liquid.from_bytes(built.files[LIQUID])
    x = quantize(test_set.inputs["x"], liquid_program.input_type(liquid))
    active = np.arange(x.shape[1]) < test_set.lengths[:, None]  # type: ignore[index]
    activity = simulate(liquid, x, active)
    np.testing.assert_array_equal(trace.counters["spikes"], activity.spikes.sum(axis=2))
    figures = {figure.name: figure for figure in trace.record["figures"]}
    total = activity.spikes.sum()
    fanout = np.count_nonzero(liquid.weights, axis=0)
    assert figures["spikes"].value == round(total / 370, 1)
    assert figures["SynapticOperations.Effective_ACs"].value == round(float((activity.spikes @ fanout).sum()) / 370, 1)
    assert figures["MembraneUpdates"].value == round(liquid.neurons + float(total - activity.first.sum()) / 370, 1)
    assert {figure.how for name, figure in figures.items() if not name.startswith("energy")} == {"simulated"}
    assert trace.record["version"] == version("brian2") and trace.record["dt"] == 1e-3


def test_one_tick_a_frame_counts_as_neurobench_does(monkeypatch):
    """With a tick a frame the spikes are binary arrays, which NeuroBench's definitions take as they are."""
    for name, choice in (("TICKS", (1,)), ("THRESHOLDS", (0.5,)), ("MEMBRANES", (1.0,))):
        monkeypatch.setattr(liquid_fit, name, choice)
    data = random_data(31, samples=12)
    artifact = Brian2Backend().compile(random_layer(30, last=False), TARGET, data=data)
    full = Data(data.inputs)
    trace = Brian2Runner().run(artifact, dict(full.inputs))
    liquid = Liquid.from_bytes(artifact.files[LIQUID])
    x = quantize(full.inputs["x"], liquid_program.input_type(liquid))
    activity = simulate(liquid, x, np.ones(x.shape[:2], bool))
    recurrent = metrics.synaptic_operations([(activity.spikes, liquid.weights)])
    dense_rest = x.shape[1] * (liquid.W_in.size + liquid.readout.size)
    figures = {figure.name: figure.value for figure in trace.record["figures"]}
    assert figures["SynapticOperations.Effective_ACs"] == pytest.approx(recurrent["Effective_ACs"], abs=0.05)
    assert figures["SynapticOperations.Dense"] == recurrent["Dense"] + dense_rest
    assert activity.first.sum() > 0
    updates = liquid.neurons + (activity.spikes.sum() - activity.first.sum()) / len(x)
    assert figures["MembraneUpdates"] == pytest.approx(updates, abs=0.05)
    assert figures["ActivationSparsity"] == pytest.approx(metrics.activation_sparsity([activity.spikes]), abs=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_small_liquids_in_blocks_of_any_size(monkeypatch, activation):
    """Lengths from 1 to all, a score every step; how samples share a network changes nothing."""
    data = random_data(33, samples=14)
    program = random_layer(32, activation=activation, last=False)
    artifact = Brian2Backend().compile(program, TARGET, data=data)
    golden = _golden(artifact, data).outputs["y"]
    for chunk in (5, 128):
        monkeypatch.setattr(brian2_network, "CHUNK", chunk)
        trace = Brian2Runner().run(artifact, dict(data.inputs), data.lengths)
        np.testing.assert_array_equal(trace.outputs["y"], golden)
        assert trace.counters["spikes"].sum() > 0


def test_brian2s_preferences_are_left_as_they_were(built, test_set):
    codegen = import_module("brian2").prefs.codegen
    before, codegen.target = codegen.target, "cython"
    try:
        few = test_set.first(2)
        Brian2Runner().run(built, dict(few.inputs), few.lengths)
        assert codegen.target == "cython"
    finally:
        codegen.target = before
