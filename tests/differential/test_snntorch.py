"""snnTorch against the golden model: sigma-delta step programs agree on every bit, of any family and drive."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.metadata import version

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch isn't installed (extra 'spiking')")
pytest.importorskip("snntorch", reason="snntorch isn't installed (extra 'spiking')")

import neurodeploy
from neurodeploy import hardware, passes
from neurodeploy.artifact import Trace
from neurodeploy.backends.snntorch import SnnTorchBackend, SnnTorchRunner
from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.graph import Program
from neurodeploy.passes.spiking import SigmaDelta
from neurodeploy.report import metrics
from neurodeploy.spiking import snntorch_step, step_events
from neurodeploy.validate import validate
from tests.differential.spiking_cases import EXAMPLES, random_data, random_layer, vowels, vowels_esn
from tests.families import CASES
from tests.step_graphs import random_inputs, sent_programs

TARGET = hardware.find("snntorch-sigma-delta", hardware.Neuromorphic)


def _equal(trace: Trace, golden: Trace) -> None:
    assert set(trace.states) == set(golden.states)
    for found, wanted in ((trace.series, golden.series), (trace.states, golden.states)):
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
            assert found[name].dtype == array.dtype


def _both(program: Program, inputs: dict, lengths: np.ndarray | None) -> None:
    golden = interpret.run(program, inputs, lengths, states=True)
    trace, changes = snntorch_step.run(program, inputs, lengths, states=True)
    _equal(trace, golden)
    _, wanted = step_events.run(program, inputs, lengths, compiled=False)
    assert set(changes) == set(wanted)
    for name, found in changes.items():
        np.testing.assert_array_equal(found, wanted[name], err_msg=name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.integer])
def test_every_family_equals_the_golden_model(name):
    case = CASES[name]
    data = Data(case.inputs, case.lengths)
    native = passes.run(case.program, passes.pipeline("c", "native", data=data, quantize={"weight_bits": 16}))
    for levels in (1, 16, 1000):
        program = passes.run(native, (SigmaDelta(levels=levels, data=data, inputs=levels == 16),))
        _both(program, dict(data.inputs), data.lengths)


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_random_graphs_equal_the_golden_model(start):
    """All integer ops, inputs over their whole range."""
    ran = 0
    for seed, program in sent_programs(range(start, start + 20)):
        _both(program, random_inputs(program, seed + 1000), None)
        ran += 1
    assert ran >= 12


@pytest.mark.parametrize("network", ["gru", "esn"])
def test_the_whole_test_set_equals_the_golden_model_and_keeps_its_accuracy(network):
    source = vowels_esn() if network == "esn" else neurodeploy.load(EXAMPLES / "models" / "vowels_gru.onnx")
    built = neurodeploy.compile(source, TARGET, vowels("train"))
    run = validate(built, replace(vowels("test"), sha256="0" * 64)).run
    (agreement,) = run.agreement
    assert agreement.holds and agreement.compared == agreement.bit_exact == 5687
    assert run.accuracy is not None and run.accuracy.deployed is not None and run.accuracy.float_ is not None
    assert run.accuracy.float_.value - run.accuracy.deployed.value <= 0.005
    assert run.versions["snntorch"] == version("snntorch")


def test_inputs_beyond_the_calibrations_saturate_alike():
    artifact = SnnTorchBackend().compile(random_layer(47, activation="relu"), TARGET, data=random_data(48), levels=64)
    data = random_data(49)
    x = {"x": data.inputs["x"] * 50}
    trace = SnnTorchRunner().run(artifact, x, data.lengths, states=True)
    program = text.from_files(artifact.files, "program")
    _equal(trace, interpret.run(program, x, data.lengths, states=True))


def test_events_are_counted_as_neurobench_does():
    """A state's events are its next value's, a step later: spikes once, synaptic operations of both."""
    data = random_data(50)
    artifact = SnnTorchBackend().compile(random_layer(51, last=False), TARGET, data=data, levels=4)
    trace = SnnTorchRunner().run(artifact, dict(data.inputs), data.lengths)
    program = text.from_files(artifact.files, "program")
    golden = interpret.run(program, data.inputs, data.lengths, states=True)
    assert data.lengths is not None
    levels = golden.states["rnn.h.level"].astype(np.int64)
    active = np.arange(levels.shape[1]) < data.lengths[:, None]
    events = np.diff(levels, axis=1, prepend=0) * active[..., None]
    np.testing.assert_array_equal(trace.counters["spikes"], np.count_nonzero(events, axis=2))
    params = program.stages[0].graph.params
    later = np.concatenate([np.zeros_like(events[:, :1]), events[:, :-1]], axis=1) * active[..., None]
    (recurrent,) = [p.data for name, p in params.items() if p.type.shape == (6, 6)]
    (readout,) = [p.data for name, p in params.items() if p.type.shape == (2, 6)]
    counts = metrics.synaptic_operations([(later, recurrent), (events, readout)])
    figures = {figure.name: figure.value for figure in trace.record["figures"]}
    assert figures["spikes"] == round(metrics.spike_count([events]) / len(events), 1)
    given = figures["SynapticOperations.Effective_MACs"] + figures["SynapticOperations.Effective_ACs"]
    inputs = float(data.lengths.mean()) * sum(
        np.count_nonzero(p.data) for p in params.values() if p.type.shape == (6, 3)
    )
    wanted = counts["Effective_MACs"] + counts["Effective_ACs"] + inputs
    assert given == pytest.approx(wanted, abs=0.11)


def test_the_neuron_is_snntorchs():
    """It is a SpikingNeuron, and snnTorch's list of neurons and torch's threads are as before."""
    snntorch, torch = import_module("snntorch"), import_module("torch")
    from neurodeploy.spiking.snntorch_step_module import SigmaDeltaNeuron

    assert issubclass(SigmaDeltaNeuron, snntorch.SpikingNeuron)
    artifact = SnnTorchBackend().compile(random_layer(52), TARGET, data=random_data(53), levels=2)
    known, threads = list(snntorch.SpikingNeuron.instances), torch.get_num_threads()
    SnnTorchRunner().run(artifact, dict(random_data(54).inputs), threads=2)
    assert [id(n) for n in snntorch.SpikingNeuron.instances] == [id(n) for n in known]
    assert torch.get_num_threads() == threads


def test_what_has_no_exact_form_is_refused_by_name():
    program = random_layer(1, last=False)
    program = replace(program, meta={"spiking": {"sent": {"rnn": []}}})
    with pytest.raises(UnsupportedError, match=r"net/rnn: %leaky \(leaky\) has no form in whole numbers"):
        snntorch_step.run(program, dict(random_data(1).inputs))


def test_wrong_requests():
    artifact = SnnTorchBackend().compile(random_layer(52), TARGET, data=random_data(53), levels=2)
    with pytest.raises(UsageError, match="the runner 'snntorch' has no option 'speed'"):
        SnnTorchRunner().run(artifact, dict(random_data(54).inputs), speed=1)
    with pytest.raises(UsageError, match="threads is 0"):
        SnnTorchRunner().run(artifact, dict(random_data(54).inputs), threads=0)


def test_networks_of_neurons_run_too():
    """A build that holds a network of neurons goes to snnTorch's own neurons."""
    data = random_data(60, samples=30, classes=2)
    built = neurodeploy.compile(random_layer(61), "snntorch-lif", data, ticks=8, spikes=4.0)
    run = validate(built, replace(data, sha256="0" * 64)).run
    assert run.agreement[0].holds and run.agreement[0].bit_exact == run.agreement[0].compared > 0
