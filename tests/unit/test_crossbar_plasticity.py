"""Plasticity by pulses: what a device does, the window that pulses leave in it, and receptive fields that organise."""

import numpy as np
import pytest

from neurodeploy.crossbar.memristive.plasticity import (
    Layer,
    Neurons,
    Pulses,
    Synapse,
    Synapses,
    window,
    without_coincidence,
)
from neurodeploy.crossbar.memristive.plasticity_bars import bars, experiment
from neurodeploy.errors import DataError


def device(w=0.5, **options):
    return Synapses(Synapse(**options), np.full((1, 1, 1), w))


def test_a_device_follows_its_equation():
    one, slots = np.ones((1, 1)), 0.6
    for volts in (2.0, -2.0, 1.0):
        d = device(w=0.3, step=0.4, sharp=1.5)
        d.pulse(volts / 2, slots * one, -volts / 2, slots * one)
        w, n = 0.3, 20_000
        for _ in range(n):  # Euler's steps of dw/dt = step sinh(sharp V)/sinh(2 sharp) times what is left
            speed = 0.4 * np.sinh(1.5 * volts) / np.sinh(3.0)
            w += slots / n * speed * ((1 - w) if volts > 0 else w)
        assert d.w[0, 0, 0] == pytest.approx(w, abs=2e-6)


def test_two_half_pulses_act_where_they_overlap_and_one_acts_little():
    half, whole, none = np.full((1, 1), 0.5), np.ones((1, 1)), np.zeros((1, 1))
    both, once = device(sharp=5.0), device(sharp=5.0)
    both.pulse(1.0, half, -1.0, whole)
    once.pulse(1.0, whole, 0.0, none)
    overlap = 0.5 * (1 - np.exp(-0.05 * 0.5))  # half a slot of both, then half a slot of one
    alone = 0.05 * np.sinh(5.0) / np.sinh(10.0)
    assert both.w[0, 0, 0] - 0.5 == pytest.approx(overlap + 0.5 * alone * 0.5, rel=1e-3)
    assert once.w[0, 0, 0] - 0.5 == pytest.approx(0.5 * (1 - np.exp(-alone)), rel=1e-12)
    assert Synapse(sharp=5.0).speed(2) / Synapse(sharp=5.0).speed(1) == pytest.approx(2 * np.cosh(5.0))


@pytest.mark.parametrize(("up", "down"), [(5.0, 10.0), (3.0, 3.0)])
def test_the_window_is_exponential_with_the_neurons_time_constants(up, down):
    synapse, pulses = Synapse(sharp=6.0), Pulses(up, down, 1.0, 0.5, ticks=1024)
    delays = np.arange(-12, 13)
    change = window(synapse, pulses, delays) - without_coincidence(synapse, pulses)
    after, before = delays > 0, delays < 0
    assert (change[after] > 0).all() and (change[before] < 0).all()
    slope, size = np.polyfit(delays[after], np.log(change[after]), 1)
    assert -1 / slope == pytest.approx(up, rel=0.02)
    assert np.exp(size) == pytest.approx(0.5 * 0.05, rel=0.05)  # what is left, times the step
    slope, size = np.polyfit(delays[before], np.log(-change[before]), 1)
    assert 1 / slope == pytest.approx(down, rel=0.02)
    assert np.exp(size) == pytest.approx(0.5 * 0.05 * 0.5, rel=0.05)


def test_without_a_sharp_device_single_pulses_drown_the_window():
    pulses = Pulses(5.0, 5.0, 1.0, 1.0)
    share = {}
    for sharp in (1.0, 6.0):
        synapse = Synapse(sharp=sharp)
        share[sharp] = abs(without_coincidence(synapse, pulses)) / np.abs(window(synapse, pulses, np.array([1]))).max()
    assert share[1.0] > 0.5 and share[6.0] < 0.01


def test_widths_are_whole_ticks():
    pulses = Pulses(5.0, 5.0, 1.0, 0.5, ticks=4)
    assert pulses.width(np.array([1.0, 0.9, 0.5, 0.1, 0.0]), 1.0).tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    changes = window(Synapse(sharp=6.0), pulses, np.arange(1, 15))
    assert len(np.unique(np.round(changes, 6))) <= 5


def test_spread_and_stuck_devices():
    rng = np.random.default_rng(0)
    made = Synapses(
        Synapse(), np.full((1, 200, 100), 0.5), speed_spread=0.3, conductance_spread=0.2, stuck=0.1, rng=rng
    )
    held = ~made.moves
    assert 0.09 < held.mean() < 0.11 and 0.45 < made.w[held].mean() < 0.55 and np.isin(made.w[held], (0, 1)).all()
    before = made.w.copy()
    made.pulse(1.0, np.ones((1, 200)), -1.0, np.ones((1, 100)))
    assert np.array_equal(made.w[held], before[held]) and (made.w[~held] > before[~held]).all()
    moved = np.log(-np.log(2 * (1 - made.w[~held])))  # the logarithm of each device's own speed
    assert np.std(moved) == pytest.approx(0.3, abs=0.01)
    assert np.std(np.log(made.scale)) == pytest.approx(0.2, abs=0.01)


def test_the_winner_takes_all_and_its_threshold_rises():
    w = np.zeros((1, 3, 2))
    w[0, :, 1] = 1.0
    layer = Layer(Synapses(Synapse(), w), Pulses(), Neurons(keep=1.0, threshold=2.5, rise=0.25, hold=1.0))
    assert layer.frame(np.array([[1, 1, 0]])).tolist() == [[False, False]]
    assert layer.charge[0, 1] > 1.9
    assert layer.frame(np.array([[0, 1, 1]])).tolist() == [[False, True]]
    assert layer.charge.tolist() == [[0, 0]] and layer.threshold.tolist() == [[2.5, 2.75]]
    before = layer.devices.w.copy()
    layer.frame(np.array([[1, 1, 1]]), learn=False)
    assert np.array_equal(before, layer.devices.w) and layer.threshold.tolist() == [[2.5, 2.75]]


def test_bars():
    shapes = bars(3).reshape(6, 3, 3)
    assert all(shape.sum() == 3 for shape in shapes)
    assert shapes[1, 1].all() and shapes[5, :, 2].all()


def test_receptive_fields_organise_and_need_sharp_devices():
    untrained = experiment([0, 1], shown=0)
    trained = experiment([0, 1], shown=400)
    flat = experiment([0, 1], shown=400, synapse=Synapse(sharp=1.0))
    assert (trained.correct.mean(axis=1) > untrained.correct.mean(axis=1) + 0.25).all()
    assert (trained.covered >= 9).all()
    assert (flat.correct.mean(axis=1) < trained.correct.mean(axis=1) - 0.25).all()


def test_a_chip_is_its_seed():
    both = experiment([3, 4], size=3, shown=50, speed_spread=0.3, conductance_spread=0.3, stuck=0.05)
    alone = experiment([4], size=3, shown=50, speed_spread=0.3, conductance_spread=0.3, stuck=0.05)
    assert np.array_equal(both.w[1], alone.w[0]) and np.array_equal(both.correct[1], alone.correct[0])
    assert not np.array_equal(both.w[0], both.w[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Synapse(step=0.0), "step is 0.0"),
        (lambda: Synapse(sharp=-1.0), "sharp is -1.0"),
        (lambda: Synapse(off=1.0), "off is 1.0"),
        (lambda: Synapse(step=float("nan")), "step is nan"),
        (lambda: Pulses(tau_up=0.0), "time constants above 0"),
        (lambda: Pulses(widest_down=1.5), r"widths in 0..1"),
        (lambda: Synapses(Synapse(), np.full((1, 2, 2), 1.5)), r"aren't in 0..1"),
        (lambda: Synapses(Synapse(), np.zeros((2, 2))), r"needed \[chips, inputs, neurons\]"),
        (lambda: Synapses(Synapse(), np.zeros((1, 2, 2)), stuck=1.5), "stuck is 1.5"),
        (lambda: Synapses(Synapse(), np.zeros((1, 2, 2)), speed_spread=-0.1), "speed_spread is -0.1"),
        (lambda: window(Synapse(), Pulses(), np.array([0.5])), "whole numbers of frames"),
        (lambda: bars(1), "size is 1"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(DataError, match=message):
        make()
