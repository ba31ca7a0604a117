"""snnTorch against the golden model: sigma-delta neurons equal the network with quantized levels on every bit."""

from importlib import import_module
from importlib.metadata import version

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch isn't installed (extra 'spiking')")
pytest.importorskip("snntorch", reason="snntorch isn't installed (extra 'spiking')")

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.snntorch import LAYER, SnnTorchBackend, SnnTorchRunner
from neurodeploy.data import Data
from neurodeploy.ir import interpret, text
from neurodeploy.report import metrics
from neurodeploy.spiking.sigma_delta import SigmaDelta
from neurodeploy.spiking.snntorch_network import neuron_class
from tests.differential.spiking_cases import random_data, random_layer, vowels, vowels_esn

TARGET = hardware.find("snntorch-sigma-delta")
LEAKS = {"receiver": 0.3, "unit": np.linspace(0.1, 0.9, 6), "none": 1.0}


def _both(artifact: Artifact, data: Data):
    trace = SnnTorchRunner().run(artifact, dict(data.inputs), data.lengths, states=True)
    program = text.from_files(artifact.files, "program")
    return trace, interpret.run(program, data.inputs, data.lengths, states=True)


def _equal(trace, golden):
    np.testing.assert_array_equal(trace.series["rnn.y"], golden.series["rnn.y"])
    assert set(trace.states) == set(golden.states) and "rnn.h_level" in golden.states
    for name, states in golden.states.items():
        np.testing.assert_array_equal(trace.states[name], states, err_msg=name)


def test_the_whole_test_set_equals_the_golden_model_and_keeps_its_accuracy():
    artifact = SnnTorchBackend().compile(vowels_esn(), TARGET, data=vowels("train"))
    data = vowels("test")
    trace, golden = _both(artifact, data)
    _equal(trace, golden)
    plain = interpret.run(vowels_esn(), data.inputs, data.lengths)
    lost = metrics.accuracy(plain.outputs["y"], data.labels) - metrics.accuracy(trace.outputs["y"], data.labels)  # type: ignore[arg-type]
    assert lost <= 0.005
    assert trace.record["version"] == version("snntorch")


@pytest.mark.parametrize("levels", [1, 8, 64])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("where", LEAKS)
def test_small_layers_wherever_the_leak_is(where, activation, levels):
    program = random_layer(41, leak=LEAKS[where], activation=activation, last=False)
    artifact = SnnTorchBackend().compile(program, TARGET, data=random_data(42), levels=levels)
    assert artifact.manifest["layout"]["leak_at"] == where
    _equal(*_both(artifact, random_data(43)))


def test_elman_is_a_leak_of_one():
    artifact = SnnTorchBackend().compile(random_layer(44, cell="elman"), TARGET, data=random_data(45))
    assert artifact.manifest["layout"]["leak_at"] == "none"
    _equal(*_both(artifact, random_data(46)))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_inputs_beyond_the_calibrations_saturate_alike(activation):
    program = random_layer(47, activation=activation)
    artifact = SnnTorchBackend().compile(program, TARGET, data=random_data(48), levels=64)
    data = random_data(49)
    _equal(*_both(artifact, Data({"x": data.inputs["x"] * 50}, data.lengths)))


def test_events_are_counted_as_neurobench_does():
    data = random_data(50)
    artifact = SnnTorchBackend().compile(random_layer(51, last=False), TARGET, data=data, levels=4)
    trace, golden = _both(artifact, data)
    layer = SigmaDelta.from_bytes(artifact.files[LAYER])
    levels = golden.states["rnn.h_level"].astype(np.int64)
    events = np.diff(levels, axis=1, prepend=0)
    np.testing.assert_array_equal(trace.counters["spikes"], np.count_nonzero(events, axis=2))
    counts = metrics.synaptic_operations([(events, layer.U), (events, layer.V)])
    assert data.lengths is not None and data.lengths.min() < events.shape[1]
    steps = float(data.lengths.mean())
    figures = {figure.name: figure.value for figure in trace.record["figures"]}
    assert figures["spikes"] == round(metrics.spike_count([events]) / len(events), 1)
    dense = counts["Dense"] * steps / events.shape[1] + steps * layer.W.size
    assert figures["SynapticOperations.Dense"] == pytest.approx(dense, abs=0.05)
    macs = counts["Effective_MACs"] + steps * np.count_nonzero(layer.W)
    assert figures["SynapticOperations.Effective_MACs"] == pytest.approx(macs, abs=0.05)
    assert figures["SynapticOperations.Effective_ACs"] == pytest.approx(counts["Effective_ACs"], abs=0.05)
    before = np.concatenate([np.zeros_like(levels[:, :1]), levels[:, :-1]], axis=1)
    residue = np.zeros_like(levels, dtype=float) + 0.25  # what a level doesn't hold; any constant will do
    updates = metrics.membrane_updates(residue + levels - before, residue)
    assert figures["MembraneUpdates"] == pytest.approx(updates, abs=0.05)


def test_the_neuron_is_snntorchs():
    """It is a SpikingNeuron, and snnTorch's list of neurons doesn't grow with every run."""
    snntorch = import_module("snntorch")
    assert issubclass(neuron_class(), snntorch.SpikingNeuron)
    artifact = SnnTorchBackend().compile(random_layer(52), TARGET, data=random_data(53), levels=2)
    known = list(snntorch.SpikingNeuron.instances)
    SnnTorchRunner().run(artifact, dict(random_data(54).inputs))
    assert [id(n) for n in snntorch.SpikingNeuron.instances] == [id(n) for n in known]
