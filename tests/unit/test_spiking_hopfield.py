"""Hopfield networks as attractor networks: what goes on firing is the recalled pattern."""

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends import spiking
from neurodeploy.compiler import Built
from neurodeploy.data import Data
from neurodeploy.descriptions_neuromorphic import Neuron
from neurodeploy.errors import DataError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.spiking import hopfield
from neurodeploy.spiking.hopfield import PERIOD, Hopfield
from neurodeploy.spiking.net import simulate
from neurodeploy.spiking.net_program import input_type
from neurodeploy.validate import validate
from tests.differential.spiking_cases import random_layer
from tests.families import CASES

TARGET = hardware.find("brian2-attractor", hardware.Neuromorphic)


def quiet(_: str) -> None:
    """No progress."""


def program_of(
    W: np.ndarray, theta: np.ndarray | None = None, drive: Drive | None = None, flip: float = 1.0
) -> Program:
    """Recall from a static cue, ``flip`` times it."""
    n = len(W)
    b = Builder()
    probe, s, begun = b.input("probe", (n,)), b.state("s", (n,)), b.state("begun", ())
    now = b("select", b("eq", begun, b.const(0.0)), probe * b.const(flip), s)
    theta = np.zeros(n) if theta is None else theta
    weights = [b.param(name, array.astype(np.float32)) for name, array in (("W", W), ("theta", theta))]
    new, stable = b.call("hopfield", now, *weights)
    b.next(s, new)
    b.next(begun, b.const(1.0))
    b.output("s", new)
    b.output("stable", stable)
    run = drive or Drive("until", predicate="stable", max_steps=50)
    stage = Stage("main", b.graph(), run, {"probe": Ref("probe")})
    inputs = {"probe": ProgramInput(TensorType((n,)), "static")}
    return Program("memory", inputs, (stage,), {"s": Ref("s", "main", "last")})


def stored(n: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random patterns ``[count, n]`` and their Hebbian weights."""
    patterns = np.sign(np.random.default_rng(seed).normal(size=(count, n)))
    W = patterns.T @ patterns / n
    np.fill_diagonal(W, 0)
    return patterns, W


def noisy(patterns: np.ndarray, share: float, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``each`` cues of every pattern with a share of units flipped, and the pattern of each cue."""
    goals = np.repeat(patterns, each, axis=0)
    flips = np.random.default_rng(seed).random(goals.shape) < share
    return np.where(flips, -goals, goals).astype(np.float32), goals


def test_the_program_equals_the_network():
    patterns, W = stored(20, 2, 0)
    cues, _ = noisy(patterns, 0.1, 4, 1)
    made = hopfield.convert(program_of(W), TARGET, Data({"probe": cues}), quiet, ticks=24)
    assert made.net is not None
    activity = hopfield.run(made.net, cues)
    trace = interpret.run(made.program, {"probe": cues}, states=True)
    assert activity.spikes > 100
    assert np.array_equal(trace.outputs["s"], made.net.scores(activity.traces)[:, 0])
    assert np.array_equal(trace.states["main.trace"], activity.traces)
    assert np.array_equal(quantize(cues, input_type(made.net)) * made.net.in_scale, cues)


def test_recalls_what_the_binary_network_recalls():
    patterns, W = stored(60, 3, 2)
    cues, goals = noisy(patterns, 0.2, 10, 3)
    found = Hopfield(W, np.zeros(60), "main", "probe", "s")
    recalled, settled = found.recall(cues)
    assert settled.all() and np.array_equal(recalled, goals)
    made = hopfield.convert(program_of(W), TARGET, Data({"probe": cues}), quiet)
    assert made.net is not None and made.warnings == ()
    assert made.layout["tried"][0] == {"ticks": 50, "spikes": pytest.approx(829, abs=60), "rmse": 0.0}
    assert made.layout["ticks"] == 50  # the fewest of three that are alike
    other, others = noisy(patterns, 0.2, 10, 4)
    signs = np.sign(made.net.scores(hopfield.run(made.net, other).traces)[:, 0])
    assert np.array_equal(signs, others)


def test_the_pattern_fires_on_and_silences_its_rivals():
    patterns, W = stored(60, 3, 2)
    cues, goals = noisy(patterns, 0.2, 2, 3)
    made = hopfield.convert(program_of(W), TARGET, Data({"probe": cues}), quiet, ticks=400)
    assert made.net is not None
    raster = hopfield.run(made.net, cues, raster=True).raster
    assert raster is not None
    late = raster[:, 200:].mean(axis=1)
    winners = np.concatenate([goals > 0, goals < 0], axis=1)
    assert (late[:, :120][winners] >= 0.8 / PERIOD).all() and (late[:, :120][winners] <= 1 / PERIOD).all()
    assert not late[:, :120][~winners].any()
    cue_spikes = raster[:, :, 120:].sum(axis=1)  # one volley
    assert np.array_equal(cue_spikes, np.concatenate([cues > 0, cues < 0], axis=1))
    scores = made.net.scores(hopfield.run(made.net, cues).traces)[:, 0] * made.net.out_scale
    assert np.abs(np.abs(scores) - 1).max() < 0.25


def test_a_unit_without_field_keeps_its_cue():
    patterns, W = stored(40, 2, 5)
    W[7] = W[:, 7] = 0
    cues, goals = noisy(patterns, 0.1, 3, 6)
    made = hopfield.convert(program_of(W), TARGET, Data({"probe": cues}), quiet, ticks=200)
    assert made.net is not None
    signs = np.sign(made.net.scores(hopfield.run(made.net, cues).traces)[:, 0])
    assert np.array_equal(signs[:, 7], cues[:, 7])
    assert np.array_equal(np.delete(signs, 7, axis=1), np.delete(goals, 7, axis=1))


def test_thresholds_push_units():
    patterns, W = stored(40, 2, 5)
    theta = np.zeros(40)
    theta[3], theta[4] = 5.0, -5.0
    cues, _ = noisy(patterns, 0.05, 4, 6)
    found = Hopfield(W, theta, "main", "probe", "s")
    made = hopfield.convert(program_of(W, theta), TARGET, Data({"probe": cues}), quiet)
    assert made.net is not None
    signs = np.sign(made.net.scores(hopfield.run(made.net, cues).traces)[:, 0])
    assert (signs[:, 3] == -1).all() and (signs[:, 4] == 1).all()
    assert np.array_equal(signs, found.recall(cues)[0])


def test_the_family_of_the_tests_converts_and_runs_as_a_build():
    case = CASES["hopfield"]
    artifact, _ = spiking.build("brian2", case.program, TARGET, Data(dict(case.inputs)), None, quiet, {})
    record = validate(Built(artifact), Data(dict(case.inputs)), on="golden")
    signs = np.sign(record.outputs["s"])
    assert np.array_equal(signs, interpret.run(case.program, case.inputs).outputs["s"])
    activity = record.run.activity
    assert activity is not None and [p.name for p in activity.populations] == ["plus", "minus", "cue plus", "cue minus"]
    assert activity.frames == 1 and len(activity.populations[2].events) == 16


def test_what_the_binary_network_cant_promise_is_warned_of():
    patterns, W = stored(40, 2, 5)
    cues, _ = noisy(patterns, 0.1, 4, 6)
    lopsided = W + np.random.default_rng(0).normal(0, 0.01, W.shape)
    made = hopfield.convert(program_of(lopsided), TARGET, Data({"probe": cues}), quiet, ticks=50)
    assert made.warnings == ("its weights are not symmetric: no energy falls, so activity may never settle",)
    random = np.sign(np.random.default_rng(0).normal(size=(20, 16))).astype(np.float32)
    found = hopfield.convert(CASES["hopfield"].program, TARGET, Data({"probe": random}), quiet, ticks=200)
    assert found.warnings == (
        "6 of 20 cues lead the binary network into a cycle, not to a fixed point",
        "2 of 20 cues die out: no neuron fires in the last 8 ticks",
    )


CUES = np.ones((2, 4))
UNIT = np.ones((4, 4)) - np.eye(4)


@pytest.mark.parametrize(
    ("program", "cues", "options", "error", "message"),
    [
        (lambda: random_layer(0), CUES, {}, UnsupportedError, "net: an attractor network is made of one cell 'hopfield' driven "
         "'until' it is stable; found 0 of them in 1 stages, driven 'forward'."),
        (lambda: program_of(UNIT, drive=Drive("forward")), CUES, {}, UnsupportedError, "found 1 of them in 1 stages, driven 'forward'"),
        (lambda: program_of(UNIT, flip=-1.0), CUES, {}, UnsupportedError, "memory/main: %hopfield: doesn't compute s' = sign"),
        (lambda: replace(program_of(UNIT), outputs={"s": Ref("s", "main")}), CUES, {}, UnsupportedError, "needed one static input"),
        (lambda: program_of(0 * UNIT), CUES, {}, UnsupportedError, "2 of 2 cues lead to a fixed point, with fields of 0"),
        (lambda: program_of(UNIT), CUES * 0.5, {}, DataError, "cues hold other values than -1 and 1"),
        (lambda: program_of(UNIT), CUES, {"ticks": 7}, UsageError, "ticks is 7; needed 8 to 10000"),
    ],
)  # fmt: skip
def test_what_isnt_one_is_refused(program, cues, options, error, message):
    with pytest.raises(error) as caught:
        hopfield.convert(program(), TARGET, Data({"probe": cues.astype(np.float32)}), quiet, **options)
    assert message in str(caught.value)


def test_data_and_limits_are_needed():
    with pytest.raises(UsageError, match="needed sample inputs"):
        hopfield.convert(program_of(UNIT), TARGET, None, quiet)
    plain = TARGET.model_copy(update={"neuron": Neuron(reset="subtract", source="made up")})
    with pytest.raises(UnsupportedError, match="no lower limit or no soft reset"):
        hopfield.convert(program_of(UNIT), plain, Data({"probe": CUES.astype(np.float32)}), quiet)


def test_a_run_states_its_costs():
    patterns, W = stored(20, 2, 0)
    cues, _ = noisy(patterns, 0.1, 4, 1)
    artifact, made = spiking.build("brian2", program_of(W), TARGET, Data({"probe": cues}), None, quiet, {"ticks": 24})
    assert made.net is not None
    trace, engine = spiking.run_net(artifact, made.net, {"probe": cues}, None, simulate)
    figures = {f.name: f.value for f in spiking.net_figures(artifact, made.net, trace, engine, "NumPy")}
    activity = hopfield.run(made.net, cues)
    assert figures["spikes"] == round(activity.spikes, 1) and figures["NeuronUpdates"] == 24 * 80
    fan_out = sum(np.count_nonzero(p.weights, axis=0) for p in made.net.projections)
    assert figures["SynapticOperations.Effective_ACs"] == round(float((activity.counts @ fan_out).mean()), 1)
