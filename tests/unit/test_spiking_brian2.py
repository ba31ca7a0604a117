"""Generated Brian2 scripts of networks of neurons: equal to the definition, readable, run by themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.errors import NumericsError
from neurodeploy.spiking.brian2_run import Brian2, find_compiler
from neurodeploy.spiking.brian2_script import net_script
from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate
from tests.unit.test_net import random_net

pytest.importorskip("brian2")

#: Every feature in few networks, as each is a process of its own; two projections with delays are renamed below.
CHANGES = [
    {"reset": "zero", "floor": -0.5, "ceiling": 1.7},
    {"input_to": "synapse", "keep": 1.0},
    {"projections": []},
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURODEPLOY_CACHE", str(tmp_path / "cache"))


def _data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(-1500, 1500, (6, 9, 5))  # beyond the limit too
    return x, np.arange(9) < np.array([9, 4, 1, 0, 9, 2])[:, None]


def _same(net: SpikingNet, brian2: Brian2, x: np.ndarray, active: np.ndarray) -> None:
    wanted, found = simulate(net, x, active, raster=True), brian2(net, x, active, raster=True)
    assert wanted.counts.sum() > 100
    assert np.array_equal(found.counts, wanted.counts)
    assert np.array_equal(found.raster, wanted.raster)  # type: ignore[arg-type]
    assert np.array_equal(found.traces[active], wanted.traces[active])


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: "_".join(c))
def test_brian2_is_the_definition_spike_for_spike(changes):
    _same(random_net(3, **changes), Brian2("numpy"), *_data())


def test_renaming_changes_nothing():
    """Brian2 orders what shares a slot by name unless told otherwise: names that sort the other way round."""
    net = random_net(5)
    fast, slow = net.projections
    renamed = replace(
        net, projections=(replace(fast, name="z last"), replace(slow, name="0 first")),
        populations=tuple((f"{'zyx'[i]}_{name}", a, b) for i, (name, a, b) in enumerate(net.populations)),
    )  # fmt: skip
    script = net_script(renamed, "net.npz")
    assert "z_last = b2.Synapses(" in script and "arrived_z_last" in script and "syn_fast" not in script
    _same(renamed, Brian2("numpy"), *_data(1))


def test_names_of_brian2_and_python_are_left_to_them():
    net = random_net(5)
    for names in (("neurons", "class"), ("", "3"), ("syn", "syn"), ('"""', "new\nline")):
        projections = tuple(replace(p, name=name) for p, name in zip(net.projections, names, strict=True))
        script = net_script(replace(net, projections=projections), "net.npz", 'a "title" \\ of """ mine')
        compile(script, "network.py", "exec")


def test_the_script_says_that_a_compiler_is_missing(tmp_path):
    net = random_net(5)
    (tmp_path / "net.npz").write_bytes(net.to_bytes())
    (tmp_path / "network.py").write_text(net_script(net, "net.npz"))
    done = subprocess.run(
        [sys.executable, "network.py", "--build", "built"], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": str(tmp_path), "CXX": "no-such-compiler -m64"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "no-such-compiler isn't installed: install a C++ compiler and make, or give --codegen numpy"
    )


@pytest.mark.slow
def test_a_thousand_neurons_agree_for_a_second():
    rng = np.random.default_rng(0)
    n = 1000
    weights = rng.normal(0, 0.12, (n, n)) * (rng.random((n, n)) < 0.1)
    net = make(
        ticks=20, dt_s=1e-3, beta=0.95, threshold=1.0, W_in=rng.normal(0, 0.05, (n, 3)), bias=rng.normal(0.04, 0.02, n),
        largest_input=3.0, projections=[Projection("recurrent", weights, 0.8)], keep=0.98, populations=[("all", n)],
    )  # fmt: skip
    x = rng.integers(-1000, 1000, (1, 50, 3))
    _same(net, Brian2("numpy"), x, np.ones((1, 50), bool))


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")
def test_compiled_it_is_the_definition_and_runs_without_brian2(tmp_path, monkeypatch):
    net = random_net(3, floor=-0.5, ceiling=1.7)
    brian2 = Brian2("cpp")
    _same(net, brian2, *_data())
    assert brian2.run.build_seconds is not None and "-ffp-contract=off" in brian2.run.engine
    # A module that can't be imported in Brian2's place: what was compiled doesn't need it.
    (tmp_path / "brian2.py").write_text("raise ImportError('not needed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _same(net, brian2, *_data(2))
    assert brian2.run.build_seconds is None


def test_a_network_that_diverges_is_an_error():
    net = make(
        ticks=30, dt_s=1e-3, beta=8.0, threshold=1.0, W_in=np.ones((2, 1)), bias=np.zeros(2), largest_input=1.0,
        projections=[], keep=0.5, populations=[("all", 2)],
    )  # fmt: skip
    with pytest.raises(NumericsError, match="diverged: a membrane is infinite"):
        Brian2("numpy")(net, np.full((1, 4, 1), 9), np.ones((1, 4), bool))


def test_the_script_runs_by_itself(tmp_path):
    """In an empty folder, in a process that doesn't know neurodeploy, from real inputs."""
    net = random_net(7)
    rng = np.random.default_rng(1)
    x, lengths = rng.normal(0, 1, (5, 6, 5)).astype(np.float32), np.array([6, 1, 4, 6, 3])
    (tmp_path / "net.npz").write_bytes(net.to_bytes())
    (tmp_path / "network.py").write_text(net_script(net, "net.npz"))
    np.savez(tmp_path / "in.npz", x=x, lengths=lengths)
    (tmp_path / "neurodeploy.py").write_text("raise ImportError('not needed')")
    done = subprocess.run(
        [sys.executable, "network.py", "in.npz", "out.npz", "--codegen", "numpy"], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    whole = np.floor(x * np.float32(1 / net.in_scale) + np.float32(0.5)).astype(int)
    active = np.arange(6) < lengths[:, None]
    wanted = simulate(net, whole, active)
    with np.load(tmp_path / "out.npz") as found:
        assert np.array_equal(found["scores"][active], net.scores(wanted.traces)[active])
        assert len(found["spike_tick"]) == wanted.counts.sum()
    assert f"5 samples, {wanted.spikes:.1f} spikes each" in done.stdout and "a: 10 neurons" in done.stdout
    assert Path(tmp_path / "out.npz").exists()
