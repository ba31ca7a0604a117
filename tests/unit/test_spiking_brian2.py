"""Generated Brian2 scripts: equal to the network's definition, readable, run by themselves, kept by their content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy.spiking.brian2_run import Brian2
from neurodeploy.spiking.brian2_script import net_script
from neurodeploy.spiking.net import SpikingNet, simulate
from tests.unit.test_net import CHANGES, random_net

pytest.importorskip("brian2")


def _data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(-1500, 1500, (6, 9, 5))  # beyond the limit too
    return x, np.arange(9) < np.array([9, 4, 1, 0, 9, 2])[:, None]


def _same(net: SpikingNet, brian2: Brian2, seed: int = 0) -> None:
    x, active = _data(seed)
    wanted, found = simulate(net, x, active, raster=True), brian2(net, x, active, raster=True)
    assert wanted.counts.sum() > 100
    assert np.array_equal(found.counts, wanted.counts)
    assert np.array_equal(found.raster, wanted.raster)
    assert np.array_equal(found.traces[active], wanted.traces[active])


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: "_".join(c) or "plain")
def test_brian2_is_the_definition_spike_for_spike(changes):
    _same(random_net(3, **changes), Brian2("numpy"))


def test_renaming_changes_nothing():
    """Brian2 orders what shares a slot by name unless told otherwise: names that sort the other way round."""
    net = random_net(5)
    fast, slow = net.projections
    renamed = replace(
        net, projections=(replace(fast, name="z last"), replace(slow, name="0 first")),
        populations=tuple((f"{'zyx'[i]}_{name}", a, b) for i, (name, a, b) in enumerate(net.populations)),
    )  # fmt: skip
    assert net_script(net, "net.npz") != net_script(renamed, "net.npz")
    _same(net, Brian2("numpy"), 1)
    _same(renamed, Brian2("numpy"), 1)
