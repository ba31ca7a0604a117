"""Rates with matched time constants: what units are found, what their neurons measurably do, what a choice costs."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import data, hardware
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.spiking import layers, rate, rate_net, rate_search, tuning
from neurodeploy.spiking.net import simulate
from neurodeploy.spiking.tuning import Integrator
from tests.differential.spiking_cases import random_data, random_layer
from tests.families import CASES

LIF = hardware.find("brian2-lif", hardware.Neuromorphic)
FOUND = ["elman_tanh", "elman_relu", "fully_recurrent", "indrnn", "echo_state", "echo_state_slow", "ctrnn_euler",
         "ctrnn_exponential", "mtrnn", "multilayer_perceptron"]  # fmt: skip


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0)


def samples(name: str) -> tuple:
    """A family's program and its data, twice."""
    case = CASES[name]
    x = np.tile(case.inputs["x"], (2, 1, 1))
    return case.program, data.arrange({"x": x}, case.program)


@pytest.mark.parametrize("name", FOUND)
def test_units_compute_what_the_network_does(name):
    program, given = samples(name)
    units = layers.find(program)
    _, states = units.run(given.inputs["x"])
    golden = interpret.run(program, given.inputs).series[f"{units.stage}.{units.output}"]
    assert np.abs(units.scores(states) - golden).max() < 1e-5


#: Its units are found, but its activation is a jump.
JUMPS = "spiking"


@pytest.mark.parametrize("name", sorted(set(CASES) - {*FOUND, JUMPS}))
def test_others_are_refused_by_name_with_a_remedy(name):
    with pytest.raises(UnsupportedError) as caught:
        layers.find(CASES[name].program)
    assert caught.value.place and caught.value.place.startswith(name) and caught.value.hint


def test_an_activation_that_jumps_is_refused():
    program, given = samples(JUMPS)
    with pytest.raises(UnsupportedError, match=r"spiking/main: \w+: its activation (jumps|falls)") as caught:
        rate.convert(program, LIF, given, lambda _: None, ticks=4)
    assert "sigma-delta" in caught.value.hint


def test_input_and_output_maps_are_folded_in():
    project = np.random.default_rng(0).normal(size=(3, 3))
    program = random_layer(0, normalise=([0.5, -1.0, 2.0], [0.5, 2.0, 4.0]), project=project, last=False)
    units, given = layers.find(program), random_data(1)
    _, states = units.run(given.inputs["x"])
    outputs = interpret.run(program, given.inputs).outputs["y"]
    np.testing.assert_allclose(units.scores(states), outputs, atol=2e-5)


def test_a_cell_written_in_pytorch_is_found():
    """Primitives, traced; no composite says that it is a leaky cell."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import neurodeploy

    class Cell(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.rec, self.out = torch.nn.Linear(3, 5), torch.nn.Linear(5, 5), torch.nn.Linear(5, 2)

        def forward(self, x, h):
            h = h + 0.2 * (torch.tanh(self.inp(x) + self.rec(h)) - h)
            return self.out(h), h

    torch.manual_seed(0)
    program = neurodeploy.load(Cell(), (torch.zeros(1, 3), torch.zeros(1, 5)), states={"h": 1})
    units = layers.find(program)
    np.testing.assert_allclose(units.leak, np.full(5, 0.2), rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(4, 9, 3)).astype(np.float32)
    (name,) = program.inputs
    golden = next(iter(interpret.run(program, {name: x}).outputs.values()))
    assert np.abs(units.scores(units.run(x)[1]) - golden).max() < 1e-5


@pytest.mark.parametrize("ticks", [8, 16])
def test_an_integrate_and_fire_neuron_is_a_relu(ticks):
    """Rates in spikes a frame, exact to one spike in the frames measured; never more than one spike a tick."""
    z = np.linspace(-2, 2, 41)[:, None]
    side = tuning.sides(relu, z, "test")
    code = tuning.place(relu, side, z, np.full_like(z, 1 / 41), ticks=ticks, spikes=4.0, pieces=1)
    assert code.neurons == 1
    rates = tuning.measure(code, Integrator(ticks, "subtract", 1.0, None), z)
    wanted = np.minimum(code.gain * relu(code.sign * z - code.offset), ticks)
    assert np.abs(rates - wanted).max() <= 1.01 / tuning.FRAMES
    decoded = tuning.decode(code, rates, z, np.full_like(z, 1 / 41), relu)[1]
    assert decoded.error.max() < 0.01


def test_more_pieces_follow_tanh_closer():
    z = np.linspace(-3, 3, 81)[:, None]
    weight = np.full_like(z, 1 / 81)
    errors = []
    for pieces in (1, 2, 3):
        code = tuning.place(np.tanh, tuning.sides(np.tanh, z, "test"), z, weight, ticks=16, spikes=16.0, pieces=pieces)
        assert code.neurons == 2 * pieces
        rates = tuning.measure(code, Integrator(16, "subtract", 1.0, 0.25), z)
        errors.append(float(tuning.decode(code, rates, z, weight, np.tanh)[1].error.max()))
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2] and errors[2] < 0.02


@pytest.mark.parametrize("f", [np.sin, lambda z: -np.tanh(z)], ids=["sine", "falling"])
def test_what_no_sum_of_a_few_rates_follows_is_refused(f):
    with pytest.raises(UnsupportedError, match="here"):
        tuning.sides(f, np.linspace(-4, 4, 50)[:, None], "here")


@pytest.mark.parametrize("leak", [0.05, 0.3, 1.0])
def test_a_spike_lags_as_the_networks_own_step_does(leak):
    """The mean lag of the synapse's kernel and that of a step held for a frame, by summing both kernels."""
    ticks = 12
    alpha = float(rate_net.alpha_of(np.asarray(leak), ticks))
    k = np.arange(20000)
    synapse = (alpha**k * k).sum() / (alpha**k).sum() + rate_net.matched_delay(leak, ticks)
    held = ticks * ((leak * (1 - leak) ** k) * (k + 1)).sum()
    assert abs(synapse - held) < 1e-3


@pytest.mark.parametrize("name", ["echo_state", "ctrnn_euler"])
def test_the_state_error_falls_with_time(name):
    program, given = samples(name)
    errors = []
    for ticks in (4, 16, 64):
        made = rate.convert(program, LIF, given, lambda _: None, ticks=ticks, pieces=2, margin=1.0, delay="matched")
        errors.append(made.layout["chosen"]["state_error"])
    assert errors[0] > 1.5 * errors[2], errors


@pytest.mark.parametrize("name", ["echo_state", "ctrnn_euler", "multilayer_perceptron"])
def test_the_program_is_what_the_neurons_do(name):
    program, given = samples(name)
    made = rate.convert(program, LIF, given, lambda _: None, ticks=4)
    assert made.net is not None
    trace = interpret.run(made.program, given.inputs)
    x = np.rint(given.inputs["x"] / made.net.in_scale).astype(np.int64)
    activity = simulate(made.net, x, np.ones(x.shape[:2], bool))
    stage = made.program.stages[0]
    (out,) = stage.graph.outputs
    assert np.array_equal(trace.series[f"{stage.name}.{out}"], made.net.scores(activity.traces))
    assert activity.spikes > 5


def test_the_choice_is_the_cheapest_that_loses_little_enough():
    program, given = samples("echo_state")
    strict, lax = (rate.convert(program, LIF, given, lambda _: None, max_loss=m).layout for m in (0.2, 5.0))
    assert lax["chosen"]["spikes"] < strict["chosen"]["spikes"]
    assert strict["chosen"]["loss"] <= 0.2 and lax["chosen"]["loss"] <= 5.0
    assert len(strict["tried"]) >= len(lax["tried"]) > 0


def test_tuning_curves_are_kept():
    program, given = samples("echo_state")
    made = rate.convert(program, LIF, given, lambda _: None, ticks=8)
    with np.load(io.BytesIO(made.files["tuning.npz"])) as arrays:
        assert {"z", "weight", "rates", "f", "decoded", "error", "unit", "decoder"} <= set(arrays.files)
        assert np.abs(np.tanh(arrays["z"]) - arrays["f"]).max() < 1e-5


@pytest.mark.parametrize(
    "options,words",
    [({"ticks": 0}, "ticks is 0"), ({"pieces": 4}, "pieces is 4"), ({"readout": "mine"}, "readout is 'mine'"),
     ({"max_loss": -1}, "max_loss is -1"), ({"scaling": "own"}, "scaling is 'own'"), ({"beta": 2.0}, "beta is 2.0")],
)  # fmt: skip
def test_wrong_knobs(options, words):
    program, given = samples("echo_state")
    with pytest.raises(UsageError, match=words):
        rate.convert(program, LIF, given, lambda _: None, **options)


def test_a_silent_network_is_refused():
    program, given = samples("elman_relu")
    (stage,) = program.stages
    params = {
        n: replace(p, data=p.data * (1 if n in "Vc" else 0.01) - (n == "b")) for n, p in stage.graph.params.items()
    }
    quiet = replace(program, stages=(replace(stage, graph=replace(stage.graph, params=params)),))
    with pytest.raises(UnsupportedError, match="activations are zero on all calibration data"):
        rate.convert(quiet, LIF, given, lambda _: None, ticks=4)


def test_leaks_share_time_constants_where_they_are_many():
    leak = np.linspace(0.05, 0.6, 24)
    which, classes = rate_net.grouped(leak)
    assert len(classes) == rate_net.CLASSES and np.bincount(which).tolist() == [3] * rate_net.CLASSES
    assert np.abs(np.log(classes[which] / leak)).max() < 0.5
    which, classes = rate_net.grouped(np.repeat([0.3, 0.1], 5))
    np.testing.assert_array_equal(classes[which], np.repeat([0.3, 0.1], 5))
    program = random_layer(0, units=12, leak=np.linspace(0.1, 0.5, 12))
    made = rate.convert(program, LIF, random_data(1), lambda _: None, ticks=4)
    assert any(w.startswith("12 different leaks share 8 time constants") for w in made.warnings)


@pytest.mark.parametrize("kind,mean", [("matched", None), ("early", 8.0), ("none", 1.0)])
def test_delays_have_the_wanted_mean(kind, mean):
    lags = rate_net.delays(np.arange(1000), 0.2, 16, kind)
    assert np.ptp(lags) <= 1 and lags.min() >= 1
    assert abs(lags.mean() - (rate_net.matched_delay(0.2, 16) if mean is None else mean)) < 2e-3


def test_every_knob_shows_in_the_network():
    program, given = samples("echo_state")
    made = rate.convert(program, LIF, given, lambda _: None, ticks=6, pieces=2, margin=0.5, delay="none")
    net = made.net
    assert net is not None and net.ticks == 6 and made.layout["delays"] == [1]
    assert (net.floor == 0.0).all() and (net.ceiling == 2.0).all() and (net.start == 0.5).all()
    np.testing.assert_allclose(net.keep**6, 1 - layers.find(program).leak[0], rtol=1e-5)


def test_a_target_without_limits_forgets_by_its_leak():
    program, given = samples("echo_state")
    assert LIF.neuron is not None
    plain = LIF.model_copy(update={"neuron": LIF.neuron.model_copy(update={"limits": False, "max_delay_ticks": 1})})
    made = rate.convert(program, plain, given, lambda _: None, ticks=8)
    assert made.net is not None and not made.net.limited and (made.net.beta < 1).all()
    assert made.layout["delays"] == [1]
    with pytest.raises(UsageError, match="margin is 0.5; needed none"):
        rate.convert(program, plain, given, lambda _: None, margin=0.5)


def test_warnings_have_their_figures():
    """Rates cut at one spike a tick; units that never fire; a loss that no setting keeps to."""
    program, given = samples("elman_relu")
    made = rate.convert(program, LIF, given, lambda _: None, ticks=2, spikes=12.0, max_loss=0.0)
    words = " | ".join(made.warnings)
    assert "% of the neurons' steps have a spike in every tick" in words
    assert "no setting loses surely at most 0 on the calibration data" in words
    made = rate.convert(program, LIF, given, lambda _: None, ticks=2, spikes=0.05)
    assert "the network is silent" in " | ".join(made.warnings)
    made = rate.convert(program, LIF, given, lambda _: None, ticks=4, spikes=0.2)
    assert "units never spike on the calibration data" in " | ".join(made.warnings)


def test_kims_scaling_is_one_neuron_a_unit_and_one_scale():
    program, given = samples("elman_relu")
    made = rate.convert(program, LIF, given, lambda _: None, scaling="kim", ticks=8)
    assert made.net is not None
    with np.load(io.BytesIO(made.files["tuning.npz"])) as arrays:
        assert len(set(arrays["unit"].tolist())) == made.net.neurons and np.ptp(arrays["decoder"]) == 0
    assert made.net.reset == "zero" and not made.net.limited and (made.net.beta < 1).all()
    tanh, given = samples("echo_state")
    with pytest.raises(UnsupportedError, match="its activation has two signs"):
        rate.convert(tanh, LIF, given, lambda _: None, scaling="kim")


def test_the_refitted_readout_is_judged_out_of_fold():
    """A refit on pure noise must not seem better than none."""
    rng = np.random.default_rng(0)
    program, _ = samples("echo_state")
    units = layers.find(program)
    x = rng.normal(size=(20, 5, units.W.shape[1])).astype(np.float32)
    task = rate_search.task_of(units, x, None, None, False)
    noise = rng.normal(size=task.states[task.read].shape)
    _, outputs, *_ = rate_search.refit(units, noise, task)
    assert task.loss(outputs)[0] > 80
    exact = task.states[task.read]
    _, outputs, V, c = rate_search.refit(units, exact, task)
    assert task.loss(outputs)[0] < 1e-6 and np.abs(V - units.V).max() < 1e-6 and np.abs(c - units.c).max() < 1e-6


def test_a_lucky_setting_is_not_taken_for_a_good_one():
    """Of 100 samples, 3 lost and 3 won: a loss of 0, give or take 2.45."""
    program, _ = samples("echo_state")
    units = layers.find(program)
    wanted = np.zeros((100, len(units.c)))
    wanted[:, 0] = 1
    labels = np.zeros(100, int)
    labels[:3] = 1
    read = np.ones((100, 1), bool)
    task = rate_search.Task(read[..., None], read, read, read, read, wanted, labels)
    loss, error = task.loss(np.where(np.arange(100)[:, None] < 6, np.eye(wanted.shape[1])[1], wanted))
    assert loss == 0.0 and abs(error - np.sqrt(6)) < 1e-9
