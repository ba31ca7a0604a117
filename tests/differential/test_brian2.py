"""Brian2 against the golden model: a trained reservoir as a liquid, every bit of every step."""

import numpy as np
import pytest

pytest.importorskip("brian2", reason="brian2 isn't installed (extra 'spiking')")

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends import spiking
from neurodeploy.backends.brian2 import Brian2Backend, Brian2Runner
from neurodeploy.data import Data
from neurodeploy.ir import interpret, text
from neurodeploy.report import metrics
from neurodeploy.spiking import liquid_fit
from tests.differential.spiking_cases import random_data, random_layer, vowels, vowels_esn

TARGET = hardware.find("brian2-lsm", hardware.Neuromorphic)
QUICK = {"ticks": 4, "gain": 1.4, "membrane": 1.0}


@pytest.fixture(scope="module")
def built() -> Artifact:
    return Brian2Backend().compile(vowels_esn(), TARGET, data=vowels("train"), **QUICK)


@pytest.fixture(scope="module")
def test_set() -> Data:
    return vowels("test")


@pytest.fixture(scope="module")
def trace(built, test_set):
    return Brian2Runner().run(built, dict(test_set.inputs), test_set.lengths, codegen="numpy")


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


def test_spikes_equal_the_definitions(built, test_set, trace):
    net = spiking.net_of(built)
    assert net is not None
    active = np.arange(test_set.inputs["x"].shape[1]) < test_set.lengths[:, None]  # type: ignore[index]
    activity = liquid_fit.run(net, test_set.inputs["x"], active)
    np.testing.assert_array_equal(trace.counters["spikes"], activity.counts.sum(axis=2))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_small_liquids(activation):
    """Lengths from 1 to all, a score every step, Dale's law with two time constants."""
    data = random_data(33, samples=14)
    program = random_layer(32, activation=activation, last=False)
    artifact = Brian2Backend().compile(program, TARGET, data=data, **QUICK, excitatory=0.75, inhibitory_tau=1.5)
    trace = Brian2Runner().run(artifact, dict(data.inputs), data.lengths, codegen="numpy")
    np.testing.assert_array_equal(trace.outputs["y"], _golden(artifact, data).outputs["y"])
    assert trace.counters["spikes"].sum() > 0
