"""Fine-tuning by surrogate gradients: better on held-out samples, on its grid, and kept only where it is better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Figure
from neurodeploy.data import Data
from neurodeploy.errors import DataError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.spiking.convert import Conversion, convert
from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate, with_readout
from neurodeploy.spiking.net_program import program_of
from tests.differential.spiking_cases import random_data, random_layer

pytest.importorskip("snntorch")

from neurodeploy.spiking import fine_tune

N, INPUTS, FRAMES = 24, 4, 6


def network() -> SpikingNet:
    """A random sparse network with a random readout: as good as chance."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.3, (N, N)) * (rng.random((N, N)) < 0.3)
    net = make(
        ticks=3, dt_s=1e-3, beta=0.9, threshold=rng.uniform(0.5, 1, N), W_in=rng.normal(0, 0.5, (N, INPUTS)),
        bias=rng.normal(0.1, 0.1, N), largest_input=3.0, projections=[Projection("recurrent", weights, 0.5)], keep=0.9,
        populations=[("all", N)],
    )  # fmt: skip
    return with_readout(net, rng.normal(0, 0.1, (3, N)), np.zeros(3))


def samples(seed: int, count: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes, each a direction in the inputs, with noise; of different lengths."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    real = np.eye(3, INPUTS)[labels][:, None] * 1.5 + rng.normal(0, 0.6, (count, FRAMES, INPUTS))
    return np.rint(real / network().in_scale), rng.integers(3, FRAMES + 1, count), labels


def accuracy(net: SpikingNet, x: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> float:
    traces = simulate(net, x, np.arange(FRAMES) < lengths[:, None]).traces
    return float(np.mean(net.scores(traces[np.arange(len(x)), lengths - 1]).argmax(1) == labels))


@pytest.fixture(scope="module")
def tuned() -> fine_tune.Tuned:
    return fine_tune.fine_tune(network(), *samples(1), epochs=8, seed=0, lr=0.03)


def test_it_learns_what_it_was_not_trained_on(tuned: fine_tune.Tuned) -> None:
    net, unseen = network(), samples(2)
    assert tuned.kept and tuned.best.accuracy > tuned.before.accuracy
    assert accuracy(net, *unseen) < 0.6
    assert accuracy(tuned.net, *unseen) > 0.9


def test_the_network_stays_a_spiking_network_on_its_grid(tuned: fine_tune.Tuned) -> None:
    before, after = network(), tuned.net
    for name in ("beta", "threshold", "keep", "start", "floor", "ceiling"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    old, new = before.projections[0].weights, after.projections[0].weights
    assert not np.array_equal(new, old) and not (new[old == 0]).any()
    assert after.in_scale == before.in_scale
    steps = [w / np.min(np.abs(w[w != 0])) for w in (after.W_in, new)]
    assert all(np.abs(w).sum(axis=1).max() < 2**24 for w in steps)
    assert np.array_equal(SpikingNet.from_bytes(after.to_bytes()).readout, after.readout)


def test_held_out_samples_are_a_part_of_every_class_and_the_same_for_a_seed() -> None:
    labels = np.array([0] * 50 + [1] * 10 + [2] * 3)
    held, trained = fine_tune.split(labels, 0.2, np.random.default_rng(4))
    np.testing.assert_array_equal(np.bincount(labels[held]), [10, 2, 1])
    np.testing.assert_array_equal(np.sort(np.concatenate([held, trained])), np.arange(63))
    again, _ = fine_tune.split(labels, 0.2, np.random.default_rng(4))
    np.testing.assert_array_equal(held, again)


def test_a_network_that_gets_no_better_is_left_as_it_was() -> None:
    x, lengths, _ = samples(1)
    labels = np.random.default_rng(3).integers(0, 3, len(x))  # nothing to learn
    net = network()
    given = fine_tune.fine_tune(net, x, lengths, labels, epochs=1, lr=1e-9)
    assert not given.kept or given.best.loss < given.before.loss
    assert given.kept or given.net is net


def made() -> tuple[Conversion, Data]:
    """A conversion whose network is :func:`network`."""
    net, source = network(), random_layer(0, inputs=INPUTS, outputs=3)
    program = program_of(net, source, "rnn", "x", "y", {"spiking": {"method": "rate"}})
    x, lengths, labels = samples(1)
    figures = (Figure("loss", 1.0, "points", "simulated", "calibration"),)
    return Conversion(program, net, {"method": "rate"}, ("bad",), figures), Data(
        {"x": x * net.in_scale}, lengths, labels
    )


def test_a_conversion_keeps_its_program_and_says_what_was_kept() -> None:
    given, data = made()
    after = fine_tune.tune(given, data, 4)
    report = after.layout["fine_tune"]
    assert report["kept"] and report["after"] > report["before"]
    assert (report["trained"], report["held_out"]) == (72, 18)
    assert [entry["epoch"] for entry in report["epochs"]] == [0, 1, 2, 3, 4]
    assert after.warnings == ("before fine-tuning: bad",)
    assert [(figure.name, figure.source) for figure in after.figures] == [
        ("loss", "calibration; before fine-tuning"),
        *((f"fine_tuning.{when}", "accuracy of 18 held-out samples, seed 0") for when in ("before", "after")),
    ]
    assert after.net is not None and after.program.meta["spiking"] == {"method": "rate"}
    x, lengths, _ = samples(2)
    golden = interpret.run(after.program, {"x": x * after.net.in_scale}, lengths)
    wanted = after.net.scores(simulate(after.net, x, np.arange(FRAMES) < lengths[:, None]).traces)
    np.testing.assert_array_equal(golden.outputs["y"], wanted[np.arange(len(x)), lengths - 1])


def test_what_cannot_be_trained_is_refused() -> None:
    given, data = made()
    with pytest.raises(DataError, match="needs one class for every sample"):
        fine_tune.tune(given, replace(data, labels=None), 3)
    with pytest.raises(DataError, match=r"'y' runs 0\.\.3; the network has 3 classes"):
        fine_tune.tune(given, replace(data, labels=np.arange(90) % 4), 3)
    with pytest.raises(DataError, match="class 2 has 1 sample; needed"):
        fine_tune.tune(given, replace(data, labels=np.array([0] * 45 + [1] * 44 + [2])), 3)
    with pytest.raises(UnsupportedError, match="this conversion gives sigma-delta steps"):
        fine_tune.tune(replace(given, net=None), data, 3)
    with pytest.raises(UsageError, match="epochs of at least 1"):
        fine_tune.tune(given, data, 0)


def test_the_option_is_one_of_snntorch_targets() -> None:
    source, data = random_layer(0, activation="relu"), random_data(0, classes=2, samples=30)
    options = {"ticks": 1, "fine_tune": 1, "max_loss": 100.0}
    given = convert("rate", source, hardware.find("snntorch-lif", hardware.Neuromorphic), data, lambda _: None, options)
    assert given.layout["fine_tune"]["held_out"] == 6
    with pytest.raises(UsageError, match="has no option 'fine_tune'"):
        convert("rate", source, hardware.find("brian2-lif", hardware.Neuromorphic), data, lambda _: None, options)
