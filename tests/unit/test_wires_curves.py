"""IR drop where currents aren't linear in the inputs: cells with curves, columns whose transistors the inputs switch."""

import numpy as np
import pytest

from neurodeploy import errors
from neurodeploy.crossbar import wires as ir_drop
from neurodeploy.crossbar.wires.nonlinear import solve_nonlinear
from tests.unit.wire_circuits import exact, gated, made

pytest.importorskip("numba", reason="numba (the extra 'crossbar') is not installed")


def drawn(shape, seed=0, low=1e-6, high=1e-4):
    return np.random.default_rng(seed).uniform(low, high, shape)


# -------------------------------------------------------------------------------------------------------- curves


def test_one_cell_meets_its_load_line():
    """``v - R I(x) = x`` for one cell in series with all wires."""
    g, square, cube = 1e-3, 2e-4, 5e-3
    wires = made(row_ohm=200.0, column_ohm=100.0, driver_ohm=50.0)
    for volts in (0.5, -1.0, 2.0):
        (current,) = solve_nonlinear(np.array([[g]]), wires, np.array([[volts]]), square, cube)[0]
        x = volts - 350.0 * current
        assert g * x + square * x**2 + cube * x**3 == pytest.approx(current, rel=1e-11)


@pytest.mark.parametrize("ends", [{}, {"driven": "both ends", "sensed": "both ends", "sense_ohm": 40.0}])
def test_currents_obey_every_equation_of_the_circuit(ends):
    """SciPy's root finder on all nodes' equations, from the linear solution on."""
    optimize = pytest.importorskip("scipy.optimize")
    rows, columns = 5, 4
    g, v, wires = drawn((rows, columns), 1, 1e-4, 1e-3), drawn((2, rows), 2, -1.0, 1.0), made(row_ohm=30.0, **ends)
    random = np.random.default_rng(3)
    square, cube = 0.2 * g * random.standard_normal(g.shape), 2 * g * random.random(g.shape)
    drive, sense = 1 / (wires.row_ohm + wires.driver_ohm), 1 / (wires.column_ohm + wires.sense_ohm)

    def left(unknown, inputs):
        word, bit = unknown.reshape(2, rows, columns)
        x = word - bit
        cell = g * x + square * x**2 + cube * x**3
        at_word, at_bit = -cell, cell.copy()
        along = np.diff(word, axis=1) / wires.row_ohm
        at_word[:, :-1] += along
        at_word[:, 1:] -= along
        along = np.diff(bit, axis=0) / wires.column_ohm
        at_bit[:-1] += along
        at_bit[1:] -= along
        for end in (0, -1)[: 2 if ends else 1]:
            at_word[:, end] += drive * (inputs - word[:, end])
            at_bit[end] -= sense * bit[end]
        return np.concatenate([at_word.ravel(), at_bit.ravel()])

    found = solve_nonlinear(g, wires, v, square, cube)
    for inputs, currents in zip(v, found, strict=True):
        start = np.concatenate([part[0].ravel() for part in ir_drop.voltages(g, wires, inputs[None])])
        solved = optimize.root(left, start, args=(inputs,), tol=1e-14)
        bit = solved.x.reshape(2, rows, columns)[1]
        expected = sense * (bit[0] + (bit[-1] if ends else 0.0))
        assert np.abs(currents - expected).max() < 1e-9 * np.abs(expected).max()
        assert np.abs(currents - inputs @ ir_drop.effective(g, wires)).max() > 0.01 * np.abs(expected).max()


def test_straight_curves_are_the_linear_array():
    g, v = drawn((20, 30)), drawn((2, 20), 1, 0.1, 1.0)
    assert solve_nonlinear(g, made(), v) == pytest.approx(ir_drop.solve(g, made(), v), rel=1e-12)


def test_steep_curves_converge():
    """A cell's cubic part ten thousand times its linear one: the currents still add up to what the inputs feed in."""
    g, v = drawn((16, 16)), np.ones((1, 16))
    found = solve_nonlinear(g, made(), v, cube=1e4 * g)
    stronger = solve_nonlinear(g, made(), v, cube=2e4 * g)
    assert (stronger > found).all() and (found > ir_drop.solve(g, made(), v)).all()
    assert found.sum() < 16.0  # 1 V on 16 wires of an ohm can't give more


def test_steps_are_newtons():
    """Errors square from step to step; with slopes that are not the curves' own, four would be too few."""
    g, v = drawn((16, 16)), np.ones((1, 16))
    wires = made(row_ohm=10.0)
    exactly = solve_nonlinear(g, wires, v, cube=g, most=4)
    assert solve_nonlinear(g, wires, v, cube=g, most=2, tolerance=1e-2) == pytest.approx(exactly, rel=1e-2)
    with pytest.raises(errors.NeurodeployError, match="after 2 steps"):
        solve_nonlinear(g, wires, v, cube=g, most=2, tolerance=1e-3)


def test_curves_that_can_not_be_solved_are_errors():
    g, v = drawn((4, 4)), np.ones((1, 4))
    with pytest.raises(errors.NeurodeployError, match=r"16 cells falls while their voltage rises, the first at 1 V"):
        solve_nonlinear(g, made(), v, cube=-g)
    with pytest.raises(errors.NeurodeployError, match=r"after 2 steps Kirchhoff's law is missed by .* needed 1e-12"):
        solve_nonlinear(g, made(row_ohm=1e3), v, cube=1e3 * g, most=2)
    with pytest.raises(errors.DataError, match=r"'cube' has the shape \(3,\) and 0 values that are not finite"):
        solve_nonlinear(g, made(), v, cube=np.ones(3))
    with pytest.raises(errors.DataError, match="'square' has the shape .* and 1 values that are not finite"):
        solve_nonlinear(g, made(), v, square=np.nan)
    with pytest.raises(errors.DataError, match=r"inputs \(4,\)"):
        solve_nonlinear(g, made(), v[0])
    with pytest.raises(errors.UnsupportedError, match="'solve_nonlinear' drives word lines"):
        solve_nonlinear(g, made(topology="gated"), v)


# --------------------------------------------------------------------------------------------------------- gated


@pytest.mark.parametrize("driven", ["one end", "both ends"])
@pytest.mark.parametrize("sensed", ["one end", "both ends"])
@pytest.mark.parametrize("ohms", [(2.0, 5.0, 70.0), (500.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_gated_columns_are_ladders(driven, sensed, ohms):
    g, on = drawn((6, 3), 4), np.random.default_rng(5).random((4, 6)) < 0.6
    g[0, 0], g[2] = 10.0, 0.0
    wires = made(
        topology="gated",
        row_ohm=9.0,
        column_ohm=ohms[0],
        driver_ohm=ohms[1],
        sense_ohm=ohms[2],
        driven=driven,
        sensed=sensed,
    )
    found = ir_drop.gated(g, wires, on)
    expected = np.array([[exact(gated(g, wires, row, j))[0, 0] for j in range(3)] for row in on])
    assert found == pytest.approx(expected, rel=1e-13)


def test_gated_currents_do_not_add_up():
    """Which is why there is no matrix: two inputs together give less than one and the other."""
    g, wires = np.full((40, 1), 1e-3), made(topology="gated", column_ohm=10.0)
    one, other = np.arange(40) < 20, np.arange(40) >= 20
    currents = ir_drop.gated(g, wires, np.array([one, other, one | other]))[:, 0]
    assert currents[2] < 0.8 * (currents[0] + currents[1])
    assert ir_drop.gated(g, wires, np.zeros((1, 40), bool))[0, 0] == 0.0


def test_many_gated_arrays():
    g, on = drawn((2, 12, 5)), np.random.default_rng(6).random((3, 12)) < 0.5
    wires = made(topology="gated")
    found = ir_drop.gated(g, wires, on)
    assert found.shape == (2, 3, 5)
    assert (found[1, 2] == ir_drop.gated(g[1], wires, on[2:])[0]).all()


def test_topologies_are_not_mixed_up():
    g, v = drawn((3, 4)), np.ones((1, 3))
    switched = made(topology="gated")
    for call in (
        lambda: ir_drop.effective(g, switched),
        lambda: ir_drop.solve(g, switched, v),
        lambda: ir_drop.voltages(g, switched, v),
    ):
        with pytest.raises(errors.UnsupportedError, match="a cell's current depends on which other inputs are on"):
            call()
    with pytest.raises(errors.UnsupportedError, match="crosspoint"):
        ir_drop.gated(g, made(), v > 0)
    with pytest.raises(errors.DataError, match="the inputs are float64; needed bool"):
        ir_drop.gated(g, switched, v)
