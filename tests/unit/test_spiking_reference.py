"""The compiled reference equals the definition, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.artifact import Artifact
from neurodeploy.compiler import Built, compile
from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir import text
from neurodeploy.spiking.net import make, simulate, with_readout
from neurodeploy.spiking.net_program import program_of
from tests.differential.spiking_cases import random_data, random_layer
from tests.unit.spiking_nets import random_inputs, random_net

pytest.importorskip("numba")

from neurodeploy.spiking import reference


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_definition(seed: int) -> None:
    net = random_net(seed)
    x, active = random_inputs(net, seed)
    wanted = simulate(net, x, active, raster=True)
    given = reference.simulate(net, x, active, raster=True, threads=1 + seed % 3)
    np.testing.assert_array_equal(given.traces, wanted.traces)
    np.testing.assert_array_equal(given.counts, wanted.counts)
    np.testing.assert_array_equal(given.raster, wanted.raster)
    assert seed != 0 or wanted.spikes > 0


def test_a_product_is_rounded_before_it_is_added_to() -> None:
    """beta mem - J is 0; a fused multiply-add, rounded once, gives 2^-35 and a spike."""
    beta, start = 1 - 2.0**-23, 1 - 2.0**-12
    J = -float(np.float32(beta * start))
    assert beta * start + J == 2.0**-35
    net = make(ticks=1, dt_s=1e-3, beta=beta, threshold=0.0, start=start, W_in=np.zeros((1, 1)), bias=np.full(1, J),
               largest_input=1.0, projections=[], keep=1.0, populations=[("all", 1)])  # fmt: skip
    assert net.bias[0] == J
    assert reference.simulate(net, np.zeros((1, 1, 1)), np.ones((1, 1), bool)).spikes == 0


def built(seed: int) -> Built:
    """A build of a random network with a readout, as a spiking backend makes it."""
    net = random_net(seed)
    rng = np.random.default_rng(seed)
    net = with_readout(net, rng.normal(0, 1, (3, net.neurons)), rng.normal(0, 1, 3))
    source = random_layer(0, inputs=net.W_in.shape[1], outputs=3)
    program = program_of(net, source, "rnn", "x", "y", {})
    files = {**text.to_files(program, "program"), **text.to_files(source, "source"), "net.npz": net.to_bytes()}
    return Built(Artifact("net", "brian2", "brian2-lsm", files, {"name": "net", "equality": "exact"}))


@pytest.mark.parametrize("seed", range(4))
def test_the_runner_equals_the_golden_model(seed: int) -> None:
    made = built(seed)
    x = np.random.default_rng(seed).normal(0, 1, (5, 7, *made.program.inputs["x"].type.shape)).astype(np.float32)
    result = made.validate(Data({"x": x}, np.array([7, 3, 1, 5, 6])), on="reference", threads=2)
    (agreement,) = result.run.agreement
    assert (agreement.bit_exact, agreement.compared) == (22, 22)


def test_the_runner_refuses_what_it_cannot_run() -> None:
    made = built(0)
    with pytest.raises(UsageError, match="threads is 0; needed 1 or more"):
        made.run(np.zeros((1, 1, 3)), on="reference", threads=0)
    del made.artifact.files["net.npz"]
    with pytest.raises(UsageError, match="holds no spiking network"):
        made.run(np.zeros((1, 1, 3)), on="reference")


def test_the_runner_runs_sigma_delta_programs_and_counts_their_events() -> None:
    source, data = random_layer(0), random_data(0)
    made = compile(source, "snntorch-sigma-delta", data, levels=8)
    result = made.validate(data, on="reference")
    (agreement,) = result.run.agreement
    assert agreement.bit_exact == agreement.compared == int(np.sum(data.lengths if data.lengths is not None else 0))
    figures = {figure.name: figure.value for figure in result.run.figures}
    assert figures["spikes"] == round(float(result.trace.counters["spikes"].sum(axis=1).mean()), 1) > 0
