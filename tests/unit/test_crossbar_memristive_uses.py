"""What memristive networks are used for: as reservoirs, whose program is the same network, and as relaxers of a QUBO."""

import numpy as np
import pytest

from neurodeploy.crossbar.memristive import Network, circuit
from neurodeploy.crossbar.memristive.integrate import integrate
from neurodeploy.crossbar.memristive.qubo import Qubo, qubo, relax
from neurodeploy.crossbar.memristive.reservoir import Reservoir, last
from neurodeploy.errors import DataError
from neurodeploy.ir import interpret
from neurodeploy.ir.text import param_data, parse_program, print_program
from neurodeploy.spiking.liquid_readout import Ridge
from tests.unit.test_crossbar_memristive import random_circuit

OPTIONS = {"alpha": -0.2, "beta": 1.0, "xi": 9.0, "scale": 1.0, "bias": 0.5}


def reservoir(seed=0, dt=0.2, inputs=3):
    return Reservoir.random(8, 14, inputs, seed, dt=dt, **OPTIONS)


def inputs(seed=0, batch=5, steps=12, width=3):
    return np.random.default_rng(seed).normal(size=(batch, steps, width)).astype(np.float32)


def test_euler_states_are_the_programs_bit_for_bit():
    made, x, lengths = reservoir(), inputs(), np.array([12, 3, 7, 1, 12])
    states = made.states(x, lengths, exact=False)
    rng = np.random.default_rng(1)
    W_out, b_out = rng.normal(size=(4, 14)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    program = made.program("memristive", W_out, b_out)
    trace = interpret.run(program, {"x": x}, lengths)
    assert np.array_equal(trace.outputs["y"], last(states, lengths) @ W_out.T + b_out)
    series = interpret.run(
        made.program("memristive", np.eye(14, dtype=np.float32), np.zeros(14), output="series"), {"x": x}
    )
    assert np.array_equal(series.outputs["y"], made.states(x, exact=False))
    assert states.dtype == np.float32 and np.unique(states).size > 300
    again = parse_program(print_program(program), param_data(program))
    assert np.array_equal(interpret.run(again, {"x": x}, lengths).outputs["y"], trace.outputs["y"])


def test_euler_steps_approach_the_exact_states_in_proportion_to_their_length():
    x = inputs()
    errors = []
    for parts in (2, 4, 8):
        fine = reservoir(dt=0.2 / parts)
        held = np.repeat(x, parts, axis=1)
        errors.append(np.abs(fine.states(held, exact=False)[:, parts - 1 :: parts] - reservoir(dt=0.2).states(x)).max())
    assert 0.01 < errors[0] < 0.1
    assert 1.6 < errors[0] / errors[1] < 2.6 and 1.6 < errors[1] / errors[2] < 2.6


def test_states_are_one_integration_and_hold_after_a_sample_ends():
    made, x = reservoir(), inputs(batch=2, steps=4)
    states = made.states(x, np.array([4, 2]), tolerance=1e-9)
    w = made.w0
    for t in range(4):
        w = integrate(made.network, w, made.W_in @ x[0, t] + made.bias, [made.dt], tolerance=1e-9).w[0]
        assert np.abs(states[0, t] - w).max() < 1e-14
    assert np.array_equal(states[1, 1], states[1, 3])


def test_a_readout_of_memories_recalls_what_the_inputs_alone_cannot():
    x = np.random.default_rng(2).uniform(-1, 1, (4, 400, 1)).astype(np.float32)
    goal = np.roll(x[..., 0], 2, axis=1)[:, 50:].reshape(-1, 1)  # the input two steps ago
    made = Reservoir.random(20, 40, 1, 0, alpha=-2.0, beta=1.0, xi=9.0, scale=0.3, bias=4.0, dt=0.3)
    states = made.states(x, exact=False)[:, 50:]
    train, test = slice(0, 1050), slice(1050, None)

    def unexplained(features):
        w, c = Ridge.of(features[train], goal[train]).weights(1e-6)
        return float(((features[test] @ w.T + c - goal[test]) ** 2).mean() / goal[test].var())

    assert unexplained(x[:, 50:].reshape(-1, 1).astype(np.float64)) > 0.97
    assert unexplained(states.reshape(-1, 40).astype(np.float64)) < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reservoir(dt=0.0), "dt is 0.0"),
        (lambda: Reservoir(reservoir().network, np.zeros((3, 2)), np.zeros(14), np.zeros(14), 0.1), "W_in has shape"),
        (lambda: Reservoir(reservoir().network, np.zeros((14, 2)), np.zeros(14), np.full(14, 2.0), 0.1), "w0 isn't"),
        (lambda: Reservoir.random(8, 7, 1, 0, dt=0.1, **OPTIONS), "8 nodes, 7 edges"),
        (lambda: reservoir().states(inputs(width=4)), "inputs have shape"),
        (lambda: reservoir().states(np.full((1, 2, 3), np.nan)), "aren't finite"),
        (lambda: reservoir().program("m", np.zeros((2, 3)), np.zeros(2)), "W_out has shape"),
        (lambda: reservoir().program("m", np.zeros((2, 14)), np.zeros(2), output="first"), "output is 'first'"),
    ],
)
def test_bad_reservoirs(make, message):
    with pytest.raises(DataError, match=message):
        make()


def relaxer(seed=0, units=10, xi=5.0):
    network = Network(random_circuit(5, units, seed), alpha=0.5, beta=1.0, xi=xi)
    return network, 0.3 * xi * np.random.default_rng(seed).normal(size=units)


def test_the_qubo_is_lyapunovs_function_at_every_corner():
    network, S = relaxer()
    found = qubo(network, S)
    corners = ((np.arange(1 << 10)[:, None] >> np.arange(10)) & 1).astype(np.float64)
    assert np.abs(found.value(corners) - network.lyapunov(corners, S)).max() < 1e-14
    assert np.abs(found.quadratic + network.alpha * network.xi / 4 * network.circuit.omega_by_cuts).max() < 1e-15
    corner, least = found.best()
    values = found.value(corners)
    assert least == values.min() and np.array_equal(corner, corners[values.argmin()])


def test_best_looks_at_all_corners_where_there_are_more_than_a_block():
    rng = np.random.default_rng(4)
    wanted = np.ones(16)
    J = np.diag(np.full(16, 1e-3)) + 0.0
    assert np.array_equal(Qubo(-rng.random(16) - 0.01, J).best()[0], wanted)
    with pytest.raises(DataError, match="23 units have 2\\^23 corners"):
        Qubo(np.zeros(23), np.zeros((23, 23))).best()


def test_descent_ends_where_no_flip_helps():
    network, S = relaxer(3)
    found = qubo(network, S)
    starts = np.random.default_rng(0).integers(0, 2, (20, 10)).astype(float)
    ends = found.descend(starts)
    assert (found.value(ends) <= found.value(starts)).all() and not np.array_equal(ends, starts)
    for i in range(10):
        flipped = ends.copy()
        flipped[:, i] = 1 - flipped[:, i]
        assert (found.value(flipped) >= found.value(ends) - 1e-12).all()


def test_relaxation_comes_to_rest_below_random_corners():
    for seed in range(3):
        network, S = relaxer(seed)
        found, run = qubo(network, S), relax(network, S, 20, seed)
        assert run.settled.all() and np.isin(run.corners, (0, 1)).all()
        rates = network.rate(run.corners, S)
        assert (np.where(run.corners == 1, -rates, rates) <= 0).all()  # each corner keeps itself
        rounded = np.rint(np.random.default_rng(seed).random((20, 10)))
        assert found.value(run.corners).mean() < found.value(rounded).mean() - 0.5
        assert np.array_equal(run.corners, relax(network, S, 20, seed).corners)


def test_bad_relaxations():
    network, S = relaxer()
    with pytest.raises(DataError, match="alpha is 0.0; needed a number above 0"):
        relax(Network(network.circuit, 0.0, 1.0, 5.0), S, 5, 0)
    with pytest.raises(DataError, match="0 starts"):
        relax(network, S, 0, 0)
    cut = relax(network, S, 5, 0, most_seconds=0.01)
    assert not cut.settled.any() and cut.seconds == pytest.approx(0.01)


def test_a_circuit_is_needed():
    with pytest.raises(DataError, match="hold no loop"):
        circuit([(0, 1), (1, 2)])
