"""A spiking network from snnTorch's neurons equals the definition, bit for bit, and can be trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy.errors import UnsupportedError
from neurodeploy.spiking import snntorch_net
from neurodeploy.spiking.net import simulate, with_readout
from tests.unit.spiking_nets import random_inputs, random_net

pytest.importorskip("snntorch")
torch = pytest.importorskip("torch")


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_definition(seed: int) -> None:
    net = random_net(seed)
    x, active = random_inputs(net, seed)
    wanted = simulate(net, x, active, raster=True)
    given = snntorch_net.simulate(net, x, active, raster=True)
    np.testing.assert_array_equal(given.traces, wanted.traces)
    np.testing.assert_array_equal(given.counts, wanted.counts)
    np.testing.assert_array_equal(given.raster, wanted.raster)


def test_both_ways_to_build_it_are_drawn() -> None:
    """The random networks hold snnTorch's Synaptic as well as its Leaky behind filters."""
    kinds = {type(snntorch_net.module_of(random_net(seed)).neurons).__name__ for seed in range(20)}
    assert kinds == {"Synaptic", "Leaky"}


def test_running_it_leaves_torch_as_it_was() -> None:
    import snntorch

    net = random_net(0)
    before = torch.get_num_threads(), len(snntorch.SpikingNeuron.instances)
    torch.set_float32_matmul_precision("medium")
    try:
        snntorch_net.simulate(net, *random_inputs(net, 0))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (torch.get_num_threads(), len(snntorch.SpikingNeuron.instances)) == before


def test_the_readout_gives_the_scores_as_real_numbers() -> None:
    net = random_net(3)
    rng = np.random.default_rng(0)
    net = with_readout(net, rng.normal(0, 1, (3, net.neurons)), rng.normal(0, 1, 3))
    x, active = random_inputs(net, 3)
    traces = simulate(net, x, active).traces
    whole = np.rint(traces * 2.0**net.trace_bits) / 2.0**net.trace_bits  # as the scores take them
    readout = snntorch_net.module_of(net).readout
    assert readout is not None
    with torch.no_grad():
        given = readout(torch.from_numpy(whole.astype(np.float32))).numpy()
    np.testing.assert_allclose(given, net.scores(traces) * net.out_scale, atol=1e-4)
    assert np.abs(given).max() > 1


def test_gradients_reach_every_weight_through_time() -> None:
    net = next(net for net in map(random_net, range(20)) if len(net.projections) == 2)
    x, active = random_inputs(net, 5)
    module = snntorch_net.module_of(net)
    traces = module(torch.tensor(x * net.in_scale, dtype=torch.float32), torch.tensor(active))
    traces[:, -1].square().sum().backward()
    for name, weights in module.named_parameters():
        assert weights.grad is not None and bool(weights.grad.isfinite().all()) and bool(weights.grad.any()), name


def test_a_leak_beyond_one_is_refused_by_name() -> None:
    net = random_net(0)
    with pytest.raises(UnsupportedError, match=r"beta of the membranes runs from .* to 1\.5; snnTorch's neurons keep"):
        snntorch_net.module_of(replace(net, beta=np.full(net.neurons, 1.5, np.float32)))
