"""IR drop: currents of crosspoint arrays against Kirchhoff's laws, in floats and in exact fractions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import errors
from neurodeploy.crossbar import wires as ir_drop
from tests.unit.wire_circuits import crosspoint, exact, made, sparse

pytest.importorskip("numba", reason="numba (the extra 'crossbar') is not installed")

ENDS = [
    made(),
    made(row_ohm=1000.0, column_ohm=0.1),
    made(driver_ohm=100.0, sense_ohm=30.0),
    made(driver_ohm=10.0, driven="both ends"),
    made(sense_ohm=10.0, sensed="both ends"),
    made(driven="both ends", sensed="both ends"),
]
OHMS = [1e-3, 1.0, 1e3]


def drawn(shape, seed=0, low=1e-6, high=1e-4):
    return np.random.default_rng(seed).uniform(low, high, shape)


def error(found, expected):
    """The largest relative error of an entry."""
    assert (expected > 0).all()
    return np.abs(found / expected - 1).max()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (6, 1), (33, 20), (20, 45), (65, 64)])
@pytest.mark.parametrize("wires", ENDS)
def test_currents_are_those_of_nodal_analysis(shape, wires):
    pytest.importorskip("scipy")
    g = drawn(shape)
    assert error(ir_drop.effective(g, wires), sparse(crosspoint(g, wires))) < 1e-11


@pytest.mark.parametrize("row_ohm", OHMS)
@pytest.mark.parametrize("column_ohm", OHMS)
@pytest.mark.parametrize("both", [False, True])
def test_every_entry_is_right_to_a_few_roundings(row_ohm, column_ohm, both):
    """Six decades of conductance, shorts and missing cells in one array, against fractions."""
    random = np.random.default_rng(1)
    g = 10 ** random.uniform(-9, -3, (3, 5))
    g[1, 2] = g[0, 3] = 10.0
    g[2, :3] = g[:, 4] = 0.0
    ends = {"driven": "both ends", "sensed": "both ends"} if both else {}
    wires = made(row_ohm=row_ohm, column_ohm=column_ohm, driver_ohm=3.0, **ends)
    found, expected = ir_drop.effective(g, wires), exact(crosspoint(g, wires))
    assert (found[:, 4] == 0).all() and (expected[:, 4] == 0).all()
    assert error(found[:, :4], expected[:, :4]) < 3e-14


@pytest.mark.parametrize("ohms", [(0.0, 2.0), (2.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("end", [0.0, 5.0])
def test_a_line_may_have_no_resistance(ohms, end):
    g = drawn((3, 3))
    g[0, 0] = 10.0
    wires = made(row_ohm=ohms[0], column_ohm=ohms[1], driver_ohm=end, driven="both ends")
    assert error(ir_drop.effective(g, wires), exact(crosspoint(g, wires))) < 3e-14


def test_perfect_wires_leave_the_cells_as_they_are():
    g = drawn((70, 40))
    g[5, 5] = 10.0
    assert error(ir_drop.effective(g, made(row_ohm=0.0, column_ohm=0.0)), g) < 1e-13
    assert error(ir_drop.effective(drawn((70, 40)), made(row_ohm=1e-12, column_ohm=1e-12)), drawn((70, 40))) < 1e-9


def test_one_cell_is_a_series_of_resistors():
    wires = made(row_ohm=2.0, column_ohm=3.0, driver_ohm=5.0, sense_ohm=7.0)
    assert ir_drop.effective(np.array([[0.1]]), wires)[0, 0] == pytest.approx(1 / 27, rel=1e-15)


arrays = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.sampled_from(ENDS))


@given(arrays, st.integers(1, 40))
@settings(max_examples=25)
def test_what_holds_for_every_network(array, more):
    """Passive, reciprocal, monotonic in every cell, and blind to what lies beyond its last cells."""
    rows, columns, seed, wires = array
    g = 10 ** np.random.default_rng(seed).uniform(-7, -3, (rows, columns))
    found = ir_drop.effective(g, wires)
    assert (found > 0).all()
    ends = 2 if wires.driven == "both ends" else 1
    assert (found.sum(axis=1) <= ends / (wires.row_ohm + wires.driver_ohm)).all()
    assert (found.sum(axis=1) <= g.sum()).all() and found.sum() <= g.sum() * (1 + 1e-12)
    turned = made(
        row_ohm=wires.column_ohm,
        column_ohm=wires.row_ohm,
        driver_ohm=wires.sense_ohm,
        sense_ohm=wires.driver_ohm,
        driven=wires.sensed,
        sensed=wires.driven,
    )
    assert error(ir_drop.effective(g.T, turned).T, found) < 1e-12
    g[-1, -1] *= 2
    assert ir_drop.effective(g, wires).sum() > found.sum() * (1 - 1e-13)
    g[-1, -1] /= 2
    if wires.sensed == wires.driven == "one end":
        padded = np.zeros((rows + more, columns + more))
        padded[:rows, :columns] = g
        wide = ir_drop.effective(padded, wires)
        assert error(wide[:rows, :columns], found) < 1e-12
        assert (wide[rows:] == 0).all() and (wide[:, columns:] == 0).all()


def test_many_arrays_are_each_what_they_are_alone():
    g = drawn((2, 3, 40, 33))
    every = ir_drop.effective(g, made())
    assert every.shape == g.shape
    assert (every[1, 2] == ir_drop.effective(g[1, 2], made())).all()
    strided = np.asfortranarray(g[1, 2])
    assert (ir_drop.effective(strided, made()) == every[1, 2]).all()


@pytest.mark.parametrize("wires", [*ENDS, made(row_ohm=0.0, column_ohm=0.0), made(row_ohm=1e-3, column_ohm=1e3)])
@pytest.mark.parametrize("few", [True, False])
def test_vectors_give_what_the_matrix_gives(wires, few):
    g, v = drawn((40, 50)), drawn((3 if few else ir_drop.FEW + 1, 40), 2, -1.0, 1.0)
    expected = v @ ir_drop.effective(g, wires)
    assert np.abs(ir_drop.solve(g, wires, v) - expected).max() < 1e-12 * np.abs(expected).max()


def test_conjugate_gradients_need_few_steps():
    """Steepest descent, or directions that aren't conjugate, would get there too: in several times the steps."""
    from neurodeploy.crossbar.wires.lines import solve_lines

    g, nothing = drawn((60, 60)), np.empty((0, 0))
    for ohm, most in ((1.0, 4), (1e3, 36)):
        ends = ir_drop.Ends.of(g, made(row_ohm=ohm, column_ohm=ohm))
        given = (g, ends.row, ends.column, np.ones(60), nothing, nothing, nothing)
        *_, steps, left = solve_lines(*given, 1e-14, 1000)
        assert 0 < steps <= most and left < 1e-14


def test_an_array_of_shorts_is_solved_all_the_same():
    """More steps than conjugate gradients are given: the matrix takes over."""
    g, v = np.full((60, 60), 10.0), drawn((1, 60), 2, 0.1, 1.0)
    expected = v @ ir_drop.effective(g, made())
    assert error(ir_drop.solve(g, made(), v), expected) < 1e-12


@pytest.mark.parametrize("wires", ENDS)
def test_voltages_obey_kirchhoff(wires):
    """What flows into a node flows out of it; where it ends is what the amplifiers see."""
    g, v = drawn((2, 12, 9)), drawn((3, 12), 3, -1.0, 1.0)
    word, bit = ir_drop.voltages(g, wires, v)
    assert word.shape == bit.shape == (2, 3, 12, 9)
    across = g[:, None] * (word - bit)
    into = np.diff(word, axis=-1) / wires.row_ohm
    along = np.diff(bit, axis=-2) / wires.column_ohm
    drive, sense = 1 / (wires.row_ohm + wires.driver_ohm), 1 / (wires.column_ohm + wires.sense_ohm)
    left = -across
    left[..., :-1] += into
    left[..., 1:] -= into
    left[..., 0] += drive * (v - word[..., 0])
    if wires.driven == "both ends":
        left[..., -1] += drive * (v - word[..., -1])
    below = across.copy()
    below[..., :-1, :] += along
    below[..., 1:, :] -= along
    below[..., 0, :] -= sense * bit[..., 0, :]
    if wires.sensed == "both ends":
        below[..., -1, :] -= sense * bit[..., -1, :]
    assert max(np.abs(left).max(), np.abs(below).max()) < 1e-12
    out = across.sum(axis=-2)
    assert np.abs(ir_drop.solve(g, wires, v) - out).max() < 1e-12 * np.abs(out).max()


def test_sensitivities_are_derivatives():
    g, v, wires = drawn((9, 7)), drawn((2, 9), 4, 0.0, 1.0), made(driver_ohm=50.0, sensed="both ends")
    slopes = ir_drop.sensitivity(g, wires, v, 3)
    for i, k in [(0, 0), (8, 3), (4, 6)]:
        change = np.zeros_like(g)
        change[i, k] = 1e-4 * g[i, k]
        ahead, behind = ir_drop.effective(g + change, wires), ir_drop.effective(g - change, wires)
        assert slopes[:, i, k] == pytest.approx((v @ (ahead - behind))[:, 3] / (2 * change[i, k]), rel=1e-6)
    change = drawn(g.shape, 5, -1e-6, 1e-6)
    first = ir_drop.first_order(g, wires, v, change)
    assert first[:, 3] == pytest.approx((slopes * change).sum(axis=(1, 2)), rel=1e-10)


def test_what_first_order_leaves_out_is_of_second_order():
    g, v, wires = drawn((30, 30)), drawn((1, 30), 6, 0.0, 1.0), made(row_ohm=20.0)
    change = 0.05 * g * np.random.default_rng(7).standard_normal(g.shape)

    def missed(scale):
        exactly = ir_drop.solve(g + scale * change, wires, v) - ir_drop.solve(g, wires, v)
        return np.linalg.norm(ir_drop.first_order(g, wires, v, scale * change) - exactly)

    assert missed(1.0) / missed(0.5) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("wires", [made(), made(row_ohm=2.0, column_ohm=3.0)])
def test_badcrossbar_agrees(wires):
    """It senses at the last row's end: our rows are its rows turned over."""
    badcrossbar = pytest.importorskip("badcrossbar", reason="badcrossbar is not installed")
    g, v = drawn((20, 30)), drawn((4, 20), 8, 0.1, 1.0)
    other = badcrossbar.compute(
        v[:, ::-1].T, 1 / g[::-1], r_i_word_line=wires.row_ohm, r_i_bit_line=wires.column_ohm
    ).currents.output
    assert error(ir_drop.solve(g, wires, v), other) < 1e-11


def test_kernels_are_compiled_once():
    """Arrays that may not be written to, of another order or type, don't compile anything anew."""
    from neurodeploy.crossbar.wires import lines as wires_solve
    from neurodeploy.crossbar.wires import merge as wires_merge

    g, v = drawn((40, 33)), drawn((2, 40))
    fixed = g.copy()
    fixed.flags.writeable = v.flags.writeable = False
    for cells in (g, fixed, np.asfortranarray(g), g.astype(np.float32)):
        ir_drop.effective(cells, made())
        ir_drop.solve(cells, made(), v)
        ir_drop.voltages(cells, made(), v)
    ir_drop.solve(np.stack([g, g]), made(), np.ones((9, 40)))
    assert len(wires_merge.tile.signatures) == len(wires_merge.merge.signatures) == 1
    assert len(wires_solve.solve_lines.signatures) == 1


def test_kernels_run_where_no_cache_may_be_written(monkeypatch):
    import numba

    from neurodeploy.crossbar.wires.jit import jit

    real = numba.njit

    def without_a_place(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    def twice(x):
        return 2.0 * x

    with monkeypatch.context() as patch:
        patch.setattr(numba, "njit", without_a_place)
        kernel = jit(twice)
    assert kernel(3.0) == 6.0


def test_wrong_arrays_are_refused():
    g, v = drawn((3, 4)), np.ones((1, 3))
    for bad in (-1e-6, np.nan, np.inf):
        wrong = g.copy()
        wrong[1, 1] = bad
        with pytest.raises(errors.DataError, match="1 of 12 conductances are negative or not finite"):
            ir_drop.effective(wrong, made())
    with pytest.raises(errors.DataError, match=r"shape \(3,\); needed \[..., rows, columns\]"):
        ir_drop.effective(g[:, 0], made())
    with pytest.raises(errors.DataError, match=r"shape \(1, 4\); needed \[..., n, 3\]"):
        ir_drop.solve(g, made(), np.ones((1, 4)))
    with pytest.raises(errors.DataError, match="not finite; needed volts"):
        ir_drop.solve(g, made(), v * np.nan)
    with pytest.raises(errors.DataError, match="don't go together"):
        ir_drop.solve(np.stack([g, g]), made(), np.ones((3, 1, 3)))
    with pytest.raises(errors.DataError, match="no bit line 4; needed one of 0 to 3"):
        ir_drop.sensitivity(g, made(), v, 4)
    with pytest.raises(errors.DataError, match=r"shape \(4, 3\); needed \(3, 4\)"):
        ir_drop.first_order(g, made(), v, g.T)


def test_voltages_that_do_not_converge_are_an_error(monkeypatch):
    monkeypatch.setattr(ir_drop, "_STEPS", 0)
    with pytest.raises(errors.UnsupportedError, match="don't converge: after 0 steps"):
        ir_drop.voltages(drawn((40, 40)), made(row_ohm=1e3), np.ones((1, 40)))


def test_without_numba_the_error_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "neurodeploy.crossbar.wires.merge", raising=False)
    monkeypatch.delattr(ir_drop, "merge", raising=False)
    with pytest.raises(errors.MissingExtraError, match=r"neurodeploy\[crossbar\]"):
        ir_drop.effective(drawn((3, 4)), made())
