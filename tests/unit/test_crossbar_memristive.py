"""Memristive networks: the equation against circuits solved by Kirchhoff's laws, closed forms, and other integrators."""

import numpy as np
import pytest

from neurodeploy.crossbar.memristive import Network, circuit, one_mesh
from neurodeploy.crossbar.memristive.integrate import integrate, settled
from neurodeploy.errors import DataError, NumericsError


def random_circuit(nodes, edges, seed=0):
    """A ring with chords in random directions."""
    rng = np.random.default_rng(seed)
    pairs = [(i, (i + 1) % nodes) for i in range(nodes)]
    while len(pairs) < edges:
        a, b = rng.integers(0, nodes, 2).tolist()
        if a != b:
            pairs.append((a, b))
    return circuit(pairs)


TWO_PARTS = circuit([("a", "b"), ("b", "c"), ("c", "a"), (1, 2), (1, 2), (2, 3), (4, 4)])
CIRCUITS = {
    "few loops": random_circuit(12, 15),
    "many loops": random_circuit(6, 30),
    "three parts, parallel edges, a bridge, a self-loop": TWO_PARTS,
}


@pytest.mark.parametrize("c", CIRCUITS.values(), ids=CIRCUITS)
def test_projector(c):
    omega = c.omega
    assert np.abs(omega @ omega - omega).max() < 2e-15
    assert np.abs(omega - omega.T).max() < 1e-16
    assert np.abs(omega - c.omega_by_cuts).max() < 3e-15
    A = c.cycles
    assert np.abs(omega - A.T @ np.linalg.inv(A @ A.T) @ A).max() < 1e-13
    assert not (c.incidence @ A.T).any()  # what flows round a loop arrives nowhere
    rank = len(c.edges) - len(c.nodes) + c.parts
    assert c.loops == rank == np.linalg.matrix_rank(omega) and round(np.trace(omega)) == rank


def test_parts_are_found_and_a_bridge_carries_nothing():
    assert (TWO_PARTS.parts, TWO_PARTS.loops) == (3, 3)
    assert not TWO_PARTS.omega[5].any() and TWO_PARTS.omega[6, 6] == 1
    assert np.abs(TWO_PARTS.omega[:3, :3] - 1 / 3).max() < 1e-15


@pytest.mark.parametrize("c", CIRCUITS.values(), ids=CIRCUITS)
@pytest.mark.parametrize("xi", [-0.9, 0.0, 9.0, 1e3])
def test_right_hand_side_is_kirchhoffs(c, xi):
    rng = np.random.default_rng(1)
    network = Network(c, alpha=0.3, beta=2.0, xi=xi, r_on_ohms=50.0)
    w, S = rng.random((4, network.units)), rng.normal(size=(4, network.units))
    for way in ("loops", "nodes"):
        flow = network.flow(w, S, by=way)
        for i in range(4):
            formula = np.linalg.inv(np.eye(network.units) + xi * c.omega @ np.diag(w[i])) @ c.omega @ S[i]
            assert np.abs(flow[i] - formula).max() < 1e-12
            voltages, currents = network.kirchhoff(w[i], S[i])
            assert np.abs(flow[i] - network.r_on_ohms * currents).max() < 3e-14
            dropped = network.r_on_ohms * (1 + xi * w[i]) * currents  # Ohm: what the source and both nodes leave
            assert np.abs(dropped - S[i] + c.incidence.T @ voltages).max() < 3e-14
            assert np.abs(c.incidence @ currents).max() < 1e-15
    assert np.allclose(network.rate(w, S), 0.3 * w - network.flow(w, S) / 2.0, atol=1e-15)


@pytest.mark.parametrize(
    ("w0", "s", "stop"),
    [(np.full(5, 0.3), 1.0, 0.5), (np.full(5, 0.3), -0.4, 0.5), (np.array([0.2, 0.3, 0.25, 0.5, 0.4]), 1.0, 0.6)],
    ids=["off", "on", "unequal"],
)
@pytest.mark.parametrize("xi", [0.0, 9.0])
def test_one_mesh_has_a_closed_form(w0, s, stop, xi):
    ring = circuit([(i, (i + 1) % 5) for i in range(5)])
    network = Network(ring, alpha=0.0, beta=2.0, xi=xi)
    S = -s + np.array([0.5, -0.5, 0.0, 0.2, -0.2])  # only their mean acts
    times = np.linspace(0, stop, 6)
    run = integrate(network, w0, S, times, tolerance=1e-12)
    exact = one_mesh(w0, s, times, beta=2.0, xi=xi)
    assert np.abs(run.w.mean(axis=1) - exact).max() < 1e-13
    assert np.abs((run.w - run.w.mean(axis=1, keepdims=True)) - (w0 - w0.mean())).max() < 1e-14


def test_one_mesh_ends_at_a_border():
    with pytest.raises(DataError, match="reached a border by t = 3 s"):
        one_mesh(np.full(3, 0.5), 0.25, np.array([1.0, 3.0]), beta=1.0, xi=0.0)
    with pytest.raises(DataError, match="reached a border"):
        one_mesh(np.full(3, 0.5), -1.0, np.array([50.0]), beta=1.0, xi=9.0)


def test_integration_agrees_with_scipy_where_units_come_to_borders_and_leave():
    scipy = pytest.importorskip("scipy.integrate", reason="SciPy isn't installed (pip: neurodeploy[crossbar])")
    network = Network(random_circuit(5, 9), alpha=0.4, beta=1.0, xi=12.0)
    rng = np.random.default_rng(3)
    w0, S, other = rng.random(9), 3 * rng.normal(size=9), rng.normal(size=9)

    def drive(t):
        return np.sin(2 * np.asarray(t))[..., None] * S + np.cos(0.7 * np.asarray(t))[..., None] * other

    times = np.linspace(0, 6, 25)
    run = integrate(network, w0, drive, times, tolerance=1e-10, longest_step=0.1)

    def rate(t, w):
        f = network.rate(np.clip(w, 0, 1), drive(t))
        return np.where((w <= 0) & (f < 0) | (w >= 1) & (f > 0), 0.0, f)

    # The border's jump costs the other integrator steps; small ones make it right without events.
    found = scipy.solve_ivp(rate, (0, 6), w0, "RK45", times, rtol=1e-9, atol=1e-9, max_step=2e-3)
    assert np.abs(np.clip(found.y.T, 0, 1) - run.w).max() < 2e-5
    assert run.arrivals > 5 and (run.w[1:] < 1).any(axis=0).all()
    left = [(run.w[:-1, i] == 1) & (run.w[1:, i] < 1) for i in range(9)]
    assert any(l.any() for l in left), "no unit left its border: the test doesn't test that"


@pytest.mark.parametrize("over", [1e-2, 1e-4, -1e-4])
def test_a_unit_that_only_just_reaches_a_border_is_stopped_there(over):
    """One mesh of equal resistances: dw/dt = sin(t) / 2.5, so w would peak at w0 + 0.8; what is cut off stays missing."""
    ring = Network(circuit([(0, 1), (1, 0)]), alpha=0.0, beta=2.5, xi=0.0)
    w0 = np.full(2, 1 + over - 2 / 2.5)
    times = np.array([1.0, 3.5, 5.0])
    for tolerance in (1e-4, 1e-6, 1e-9):
        run = integrate(ring, w0, lambda t: -np.sin(t)[:, None] * np.ones(2), times,
                        tolerance=tolerance, longest_step=1.0)  # fmt: skip
        exact = w0[0] + (1 - np.cos(times)) / 2.5 - np.array([0, max(over, 0), max(over, 0)])
        assert np.abs(run.w - exact[:, None]).max() < 4 * tolerance
        assert run.arrivals == (2 if over > 0 else 0)


def test_units_held_at_a_border_turn_without_stopping_the_integration():
    """Sources whose network holds units at 1 and lets them go again: no crossing is looked for where a unit starts."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        network = Network(random_circuit(7, 16, seed), alpha=0.5, beta=1.0, xi=5.0)
        run = integrate(
            network, rng.random((30, 16)), 2.5 * rng.normal(size=(30, 16)), [6.0], tolerance=1e-6, most_steps=500
        )
        assert (run.steps + run.repeated).max() < 500


def test_tolerance_bounds_the_error_and_costs_steps():
    network = Network(random_circuit(6, 12), alpha=0.3, beta=1.0, xi=20.0)
    rng = np.random.default_rng(0)
    w0, S = rng.random((20, 12)), 3 * rng.normal(size=(20, 12))
    exact = integrate(network, w0, S, [0.5, 2.0], tolerance=1e-13)
    errors, steps = [], []
    for tolerance in (1e-4, 1e-6, 1e-8):
        run = integrate(network, w0, S, [0.5, 2.0], tolerance=tolerance)
        errors.append(np.abs(run.w - exact.w).max() / tolerance)
        steps.append(run.steps.mean())
    assert max(errors) < 300 and steps[0] < steps[1] < steps[2]
    assert ((exact.w == 0) | (exact.w == 1)).any() and ((exact.w >= 0) & (exact.w <= 1)).all()


def test_a_sample_is_the_same_in_any_batch(monkeypatch):
    network = Network(random_circuit(6, 12), alpha=0.3, beta=1.0, xi=20.0)
    rng = np.random.default_rng(0)
    w0, S = rng.random((7, 12)), 3 * rng.normal(size=(7, 12))
    whole = integrate(network, w0, S, [0.5, 2.0]).w
    assert np.array_equal(whole[:, 4], integrate(network, w0[4], S[4], [0.5, 2.0]).w)
    assert np.array_equal(whole[:, ::-1], integrate(network, w0[::-1], S[::-1], [0.5, 2.0]).w)
    monkeypatch.setattr("neurodeploy.crossbar.memristive.PIECE", 100)
    assert np.array_equal(whole, integrate(network, w0, S, [0.5, 2.0]).w)


def test_lyapunov_never_rises_while_no_unit_is_held_off():
    rng = np.random.default_rng(5)
    rises, at_zero = {True: -np.inf, False: -np.inf}, 0
    for alpha in (0.3, -0.3):
        network = Network(random_circuit(6, 12), alpha=alpha, beta=1.0, xi=20.0)
        w0, S = rng.random((20, 12)), 3 * rng.normal(size=(20, 12))
        run = integrate(network, w0, S, np.linspace(0, 5, 51), tolerance=1e-8)
        change = np.diff(network.lyapunov(run.w, S), axis=0)
        off, on = np.any(run.w == 1, axis=-1), np.any(run.w == 0, axis=-1)
        held = np.logical_or(off[1:], off[:-1])
        for which in rises:
            rises[which] = max(rises[which], change[held == which].max(initial=-np.inf))
        at_zero += int((on[1:] & ~held).sum())
    assert rises[False] < 1e-7 and at_zero > 100  # units held at 0 don't matter, and there are some
    assert rises[True] > 1e-3  # the module's text says that this happens


def test_lyapunov_falls_at_the_rate_of_the_text():
    rng = np.random.default_rng(7)
    network = Network(CIRCUITS["many loops"], alpha=0.3, beta=1.5, xi=8.0)
    w, S = rng.uniform(0.1, 0.9, network.units), rng.normal(size=network.units)
    f, W = network.rate(w, S), np.diag(w)
    M = W + network.xi * W @ network.circuit.omega @ W
    h = 1e-6
    slope = (network.lyapunov(w + h * f, S) - network.lyapunov(w - h * f, S)) / (2 * h)
    assert slope == pytest.approx(-f @ M @ f, rel=1e-7)


def test_settled():
    ring = circuit([(0, 1), (1, 2), (2, 0)])
    network = Network(ring, alpha=0.0, beta=1.0, xi=9.0)
    S = np.array([1.0, 1.0, 1.0])
    w = integrate(network, np.full(3, 0.5), S, [100.0]).w[0]
    assert not w.any() and settled(network, w, S) and not settled(network, np.full(3, 0.5), S)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: circuit([]), "no edges"),
        (lambda: circuit([(0, 1, 2)]), r"edge \(0, 1, 2\); needed pairs"),  # pyright: ignore[reportArgumentType]
        (lambda: circuit([(0, 1), (1, 2), (3, 4)]), "hold no loop, so Omega is 0"),
        (lambda: Network(TWO_PARTS, 0.1, 0.0, 9.0), "beta is 0.0; needed a number above 0"),
        (lambda: Network(TWO_PARTS, 0.1, 1.0, -1.0), "xi is -1.0; needed a number above -1"),
        (lambda: Network(TWO_PARTS, np.nan, 1.0, 9.0), "alpha is nan; needed a finite number"),
        (lambda: Network(TWO_PARTS, 0.1, 1.0, np.inf), "xi is inf"),
        (lambda: Network(TWO_PARTS, 0.1, 1.0, 9.0, r_on_ohms=-5.0), "r_on_ohms is -5.0"),
    ],
)
def test_bad_networks(make, message):
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w0": np.full(3, 0.5)}, r"w0 has shape \[3\]; needed \[..., 7\]"),
        ({"w0": np.full(7, 1.5)}, r"aren't in 0..1"),
        ({"w0": np.full(7, np.nan)}, r"aren't in 0..1"),
        ({"drive": np.full(7, np.nan)}, "sources hold values that aren't finite"),
        ({"drive": np.zeros((2, 7))}, "sources have shape"),
        ({"times": [1.0, 0.5]}, "increasing"),
        ({"times": [-1.0]}, "not below 0"),
        ({"drive": lambda t: np.ones((len(t), 7))}, "longest_step is inf"),
        ({"longest_step": 0.0}, "longest_step is 0.0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
    ],
)
def test_bad_runs(changed, message):
    given = {"w0": np.full(7, 0.5), "drive": np.ones(7), "times": [1.0], **changed}
    with pytest.raises(DataError, match=message):
        integrate(Network(TWO_PARTS, 0.1, 1.0, 9.0), **given)


def test_integration_that_does_not_end_is_an_error():
    network = Network(TWO_PARTS, 0.1, 1.0, 9.0)
    with pytest.raises(NumericsError, match="sample 0 is at t = .* of 1e\\+06 s after 200 steps"):
        integrate(
            network, np.full(7, 0.5), lambda t: np.sin(t)[:, None] * np.ones(7), [1e6], longest_step=1.0, most_steps=200
        )
    with pytest.raises(NumericsError, match="aren't finite"):
        integrate(network, np.full(7, 0.5), lambda t: np.full((len(t), 7), np.nan), [1.0], longest_step=1.0)
