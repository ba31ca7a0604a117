"""NIR files: every dialect run by the simulator that it is for, read back, and what it can't say refused by name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nir", reason="nir isn't installed")

from neurodeploy.errors import MissingExtraError, UnsupportedError
from neurodeploy.spiking import nir_run, nir_write
from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate

NEEDS = {"nir": "nir", "norse": "norse", "spikingjelly": "spikingjelly", "snntorch": "snntorch"}


def net_of(seed: int, n: int = 18, inputs: int = 4, recurrent: bool = True, **changes) -> SpikingNet:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.3, (n, n)) * recurrent
    given = {
        "ticks": 4, "dt_s": 1e-3, "beta": 0.9, "threshold": 1.0, "W_in": rng.normal(0, 0.5, (n, inputs)),
        "bias": rng.normal(0.1, 0.1, n), "largest_input": 2.0, "projections": [Projection("tau", weights, 0.8)],
        "keep": 0.9, "populations": [("units", n)], "reset": "zero", "readout": rng.normal(size=(3, n)),
    }  # fmt: skip
    return make(**{**given, **changes})


def compare(net: SpikingNet, dialect: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rasters of the definition and of the file's simulator."""
    pytest.importorskip(NEEDS[dialect], reason=f"{NEEDS[dialect]} isn't installed")
    rng = np.random.default_rng(seed)
    x = rng.integers(-1200, 1200, (4, 25, net.W_in.shape[1]))
    active = np.arange(25) < np.array([25, 9, 1, 25])[:, None]
    ours = simulate(net, x, active, raster=True)
    theirs = nir_run.simulate(net, nir_write.to_bytes(net, dialect, "test"), dialect, x, active, raster=True)
    assert ours.raster is not None and theirs.raster is not None and ours.raster.sum() > 300
    assert np.array_equal(ours.raster, theirs.raster), (
        f"{dialect}: {(ours.raster != theirs.raster).sum()} of {ours.raster.sum()} spikes differ"
    )
    assert np.array_equal(ours.traces, theirs.traces) and np.array_equal(ours.counts, theirs.counts)
    return ours.raster, theirs.raster


CASES = {
    "plain": {},
    "integrator": {"beta": 1.0},
    "input to the synapse": {"input_to": "synapse"},
    "no memory in synapses": {"projections_alpha": 0.0},
    "started at half": {"start": 0.5},
    "started at half, input to the synapse": {"start": 0.5, "input_to": "synapse"},
}


@pytest.mark.parametrize("dialect", ["nir", "norse", "spikingjelly"])
@pytest.mark.parametrize("case", CASES)
def test_recurrent_spikes_equal_ours(case, dialect):
    changes = dict(CASES[case])
    alpha = changes.pop("projections_alpha", 0.8)
    rng = np.random.default_rng(7)
    compare(net_of(1, projections=[Projection("tau", rng.normal(0, 0.3, (18, 18)), alpha)], **changes), dialect)


@pytest.mark.parametrize("changes", [{}, {"beta": 1.0}, {"input_to": "synapse"}, {"start": 0.4}], ids=str)
def test_feed_forward_spikes_in_snntorch_equal_ours(changes):
    compare(net_of(2, recurrent=False, dt_s=1e-4, **changes), "snntorch")


def test_plain_says_more():
    """Several time constants and delays; thresholds and membranes that differ."""
    rng = np.random.default_rng(3)
    projections = [
        Projection("fast", rng.normal(0, 0.3, (18, 18)), 0.3),
        Projection("slow", rng.normal(0, 0.2, (18, 18)), 0.9, 5),
    ]
    net = net_of(
        3, projections=projections, beta=rng.uniform(0.8, 1, 18), threshold=rng.uniform(0.7, 1.2, 18), start=0.1
    )
    compare(net, "nir")


REFUSED = {
    "limits": ({"floor": -1.0}, "nir", "NIR has no limits of the membrane"),
    "subtract": ({"reset": "subtract"}, "nir", "NIR's reset puts the membrane to a value"),
    "thresholds": ({"threshold": np.linspace(0.5, 1, 18)}, "norse", "thresholds differ"),
    "membranes": ({"beta": np.linspace(0.5, 1, 18)}, "spikingjelly", "membrane time constants differ"),
    "recurrence": ({}, "snntorch", "fails on recurrent graphs"),
    "delay": ({"projections": [Projection("late", np.eye(18), 0.5, 3)]}, "norse", "projection 'late' has 3 ticks"),
    "two": ({"projections": [Projection("a", np.eye(18), 0.5), Projection("b", np.eye(18), 0.7)]}, "norse", "a, b"),
    "alpha": ({"projections": [Projection("a", np.eye(18), np.linspace(0, 0.9, 18))]}, "norse", "synaptic time const"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_dialect_cannot_say_is_refused_by_name(case):
    changes, dialect, words = REFUSED[case]
    with pytest.raises(UnsupportedError, match=words) as caught:
        nir_write.to_bytes(net_of(4, **changes), dialect, "the place")
    assert caught.value.place == "the place" and caught.value.hint


def test_a_missing_consumer_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "norse", None)
    monkeypatch.setitem(sys.modules, "norse.torch", None)
    net = net_of(5)
    with pytest.raises(MissingExtraError, match="norse"):
        nir_run.run(nir_write.to_bytes(net, "norse", "test"), "norse", 1e-3, np.zeros((1, 2, 5), np.float32))


def test_metadata_say_how_to_feed_it(tmp_path):
    import nir

    path = tmp_path / "net.nir"
    path.write_bytes(nir_write.to_bytes(net_of(6, start=0.5), "norse", "test"))
    metadata = nir.read(path).metadata
    assert float(metadata["dt"]) == 1e-3 and int(metadata["ticks_per_frame"]) == 4
    assert "difference c(t) - 0.8" in str(metadata["input"]) and "first tick" in str(metadata["input"])


def test_where_a_simulator_rounds_elsewhere_no_bits_are_promised():
    fed_as_it_is = net_of(7, input_to="synapse")
    assert nir_write.rounds(fed_as_it_is, "norse") and not nir_write.rounds(fed_as_it_is, "spikingjelly")
    assert nir_write.rounds(net_of(7), "spikingjelly") and not nir_write.rounds(net_of(7), "nir")
