"""The spiking network: its definition, its grids, its program in the IR, its file."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.spiking.net import INPUT_LIMIT, Projection, SpikingNet, make, simulate
from neurodeploy.spiking.net_program import program_of


def random_net(seed: int, n: int = 23, inputs: int = 5, **changes) -> SpikingNet:
    """A lively random network with two projections."""
    rng = np.random.default_rng(seed)

    def sparse():
        return rng.normal(0, 0.5, (n, n)) * (rng.random((n, n)) < 0.3)

    given = {
        "ticks": 3, "dt_s": 1e-3, "beta": rng.uniform(0.8, 1.0, n), "threshold": rng.uniform(0.5, 1.5, n),
        "W_in": rng.normal(0, 0.5, (n, inputs)), "bias": rng.normal(0, 0.1, n), "largest_input": 3.0,
        "projections": [Projection("fast", sparse(), rng.uniform(0, 0.5, n)),
                        Projection("slow", sparse(), rng.uniform(0.5, 0.9, n), 4)],
        "keep": rng.uniform(0.7, 0.95, n), "populations": [("a", 10), ("b", n - 10)], "start": 0.25,
        "readout": rng.normal(0, 1, (4, n)), "readout_bias": rng.normal(0, 1, 4),
    }  # fmt: skip
    return make(**{**given, **changes})


def blank(inputs: int) -> Program:
    """A program whose names the network's takes over."""
    b = Builder()
    x = b.input("x", (inputs,))
    b.output("y", x)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    return Program("blank", {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), {"y": Ref("y", "main")})


CHANGES = [
    {}, {"reset": "zero"}, {"input_to": "synapse"}, {"floor": -0.5, "ceiling": 1.7}, {"projections": []}, {"keep": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: "_".join(c) or "plain")
def test_program_equals_definition(changes):
    net = random_net(3, **changes)
    rng = np.random.default_rng(0)
    x = rng.integers(-1500, 1500, (6, 9, 5))  # beyond the limit too
    lengths = np.array([9, 4, 1, 7, 9, 2])
    active = np.arange(9) < lengths[:, None]
    activity = simulate(net, x, active, raster=True)
    assert activity.counts.sum() > 100
    assert activity.raster is not None
    assert np.array_equal(activity.raster.reshape(6, 9, 3, -1).sum(axis=2), activity.counts)
    program = program_of(net, blank(5), "main", "x", "y", {})
    trace = interpret.run(program, {"x": x.astype(np.float32) * np.float32(net.in_scale)}, lengths, states=True)
    ran = active[..., None] & np.ones(net.neurons, bool)
    assert np.array_equal(trace.states["main.trace"][ran], activity.traces[ran])
    assert np.array_equal(trace.outputs["y"][active], net.scores(activity.traces)[active])


def test_sums_are_exact_in_any_order():
    net = random_net(1, n=40)
    rng = np.random.default_rng(1)
    spikes = (rng.random((50, 40)) < 0.5).astype(np.float32)
    for p in net.projections:
        exact = spikes.astype(np.float64) @ p.weights.T.astype(np.float64)
        order = rng.permutation(40)
        total = np.zeros((50, 40), np.float32)
        for j in order:
            total = total + spikes[:, j, None] * p.weights[:, j]
        assert np.array_equal(total, exact)
    x = rng.integers(-INPUT_LIMIT, INPUT_LIMIT + 1, (50, 5))
    single = (x.astype(np.float32) * np.float32(net.in_scale)) @ net.W_in.T + net.bias
    assert np.array_equal(single, net.current(x))


def test_grid_costs_little():
    rng = np.random.default_rng(2)
    W, W_in = rng.normal(size=(64, 64)), rng.normal(size=(64, 12))
    net = make(ticks=4, dt_s=1e-3, beta=1.0 * np.ones(64), threshold=1.0, W_in=W_in, bias=np.zeros(64), largest_input=5.0,
               projections=[Projection("U", W, 0.5)], keep=0.9, populations=[("units", 64)])  # fmt: skip
    assert np.abs(net.projections[0].weights - W).max() < 1e-5
    assert np.abs(net.W_in - W_in).max() < 0.01


def test_file_round_trip():
    net = random_net(4)
    again = SpikingNet.from_bytes(net.to_bytes())
    assert again.populations == net.populations and again.ticks == net.ticks and again.reset == net.reset
    for a, b in zip(again.projections, net.projections, strict=True):
        assert (a.name, a.delay) == (b.name, b.delay) and np.array_equal(a.weights, b.weights)
        assert np.array_equal(a.alpha, b.alpha)
    x, active = np.full((2, 4, 5), 300), np.ones((2, 4), bool)
    assert np.array_equal(simulate(net, x, active).traces, simulate(again, x, active).traces)
    assert isinstance(again.trace_bits, int) and again.readout.dtype == np.int16


def test_a_membrane_at_its_threshold_does_not_fire_yet():
    """Strictly above: an input of a quarter reaches 1 in the fourth tick and fires in the fifth."""
    net = make(ticks=1, dt_s=1e-3, beta=1.0, threshold=1.0, W_in=np.eye(1), bias=np.zeros(1), largest_input=1.0,
               projections=[], keep=1.0, populations=[("one", 1)])  # fmt: skip
    x = np.full((1, 6, 1), round(0.25 / net.in_scale))
    assert simulate(net, x, np.ones((1, 6), bool)).counts.ravel().tolist() == [0, 0, 0, 0, 1, 0]
