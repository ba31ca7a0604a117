"""Ising problems and max-cut: conversions, exact optima, instances with a known largest cut, noise that helps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.crossbar.associative.ising import anneal, cooling, field_scale, maxcut, sweeps_to_solution
from neurodeploy.crossbar.associative.ising_problems import (
    Ising,
    best_cut,
    bipartite,
    complete,
    cut,
    from_qubo,
    graph,
    ground,
    ising,
    maxcut_ising,
    petersen,
    random_graph,
    random_regular,
    ring,
    to_qubo,
)
from neurodeploy.errors import DataError, NeurodeployError, UnsupportedError, UsageError
from neurodeploy.hardware import Crossbar

IDEAL, PCM = hardware.find("ideal-128", Crossbar), hardware.find("pcm-128", Crossbar)


def states(n: int) -> np.ndarray:
    """All states, ``[2^n, n]``."""
    return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))


def problem(n: int, seed: int, density: float = 1.0) -> Ising:
    rng = np.random.default_rng(seed)
    J = rng.normal(size=(n, n)) * (rng.random((n, n)) < density)
    return ising(J, rng.normal(size=n), float(rng.normal()))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_a_qubo_and_its_ising_problem_agree_on_every_state(n: int, seed: int):
    rng = np.random.default_rng(seed)
    Q, constant = rng.normal(size=(n, n)), float(rng.normal())
    found = from_qubo(Q, constant)
    s = states(n)
    x = (s + 1) / 2
    wanted = ((x @ Q) * x).sum(axis=1) + constant
    assert np.allclose(found.energy(s), wanted)
    back, rest = to_qubo(found)
    assert np.allclose(back, (Q + Q.T) / 2)
    assert rest == pytest.approx(constant)
    assert np.array_equal(found.J, found.J.T)
    assert not np.diag(found.J).any()


def test_an_ising_problem_is_made_symmetric_without_changing_its_energy():
    J = np.array([[2.0, 1.0], [0.0, -1.0]])
    s = states(2)
    assert np.allclose(ising(J, [1.0, 2.0]).energy(s), -0.5 * ((s @ J.T) * s).sum(axis=1) - s @ [1.0, 2.0])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 1.0]))
def test_elimination_finds_the_ground_state(n: int, seed: int, density: float):
    given_ = problem(n, seed, density)
    lowest, state = ground(given_)
    assert lowest == pytest.approx(given_.energy(states(n)).min())
    assert given_.energy(state) == pytest.approx(lowest)


@pytest.mark.parametrize("seed", range(3))
def test_a_cut_is_minus_the_energy(seed: int):
    A = random_graph(9, 0.5, seed)
    s = states(9)
    by_edges = [sum(A[i, j] for i in range(9) for j in range(i) if row[i] != row[j]) for row in s]
    assert np.allclose(cut(A, s), by_edges)
    assert np.allclose(maxcut_ising(A).energy(s), -cut(A, s))
    assert best_cut(A)[0] == max(by_edges)


KNOWN = [
    *((f"K{n}", complete(n), n * n // 4) for n in (2, 3, 8, 13)),
    ("K4,7", bipartite(4, 7), 28), ("C9", ring(9), 8), ("C12", ring(12), 12), ("Petersen", petersen(), 12),
    ("K3 of -1", -complete(3), 0),
    # a square with one heavy diagonal: cut that, and the heavier side at each of the other two corners
    ("weights", graph([(0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 0, 4), (0, 2, 9)]), 9 + 2 + 4),
]  # fmt: skip


@pytest.mark.parametrize(("weights", "largest"), [k[1:] for k in KNOWN], ids=[k[0] for k in KNOWN])
@pytest.mark.parametrize("target", [IDEAL, PCM], ids=["ideal", "pcm"])
def test_instances_of_known_optimum_reach_it(weights: np.ndarray, largest: float, target: Crossbar):
    assert best_cut(weights)[0] == largest
    found = maxcut(weights, target, runs=20, sweeps=60)
    assert found.best == largest
    assert cut(weights, found.sides) == largest
    assert (found.cuts <= largest).all()


def test_noise_finds_cuts_that_descent_does_not():
    A = random_regular(60, 3, 1)
    largest = best_cut(A)[0]
    descent = maxcut(A, PCM, runs=60, sweeps=150, noise=0.0, chips=2)
    cooled = maxcut(A, PCM, runs=60, sweeps=150, chips=2)
    share = [(found.first(-largest) >= 0).mean() for found in (descent, cooled)]
    assert share[0] < 0.05
    assert share[1] > 0.2
    assert cooled.best == largest
    assert np.isinf(sweeps_to_solution(descent.first(-largest - 1), 150))


def test_the_noise_of_the_devices_alone_helps_the_more_the_lower_they_conduct():
    A = random_graph(30, 0.5, 1)
    largest = best_cut(A)[0]

    def share(**options: Any) -> float:
        found = anneal(maxcut_ising(A), PCM, runs=60, chips=3, sweeps=60, **options)
        return float((found.first(-largest) >= 0).mean())

    assert share() + 0.1 < share(read_noise="fresh")
    assert share(read_noise="fresh") + 0.1 < share(read_noise="fresh", conductance=0.1)
    assert share(conductance=0.1) < 0.3, "it is not the devices' errors that help"


def test_self_coupling_below_0_unsettles():
    A = random_graph(30, 0.5, 1)
    largest, scale = best_cut(A)[0], field_scale(maxcut_ising(A))
    options = {"runs": 60, "sweeps": 60}
    plain = maxcut(A, IDEAL, hold=0.0, **options)
    unsettled = maxcut(A, IDEAL, hold=np.linspace(-0.5 * scale, -0.25 * scale, 60), **options)
    rates = [(found.first(-largest) >= 0).mean() for found in (plain, unsettled)]
    assert rates[0] + 0.2 < rates[1]


def test_fields_of_spins_lie_on_the_array_too():
    given_ = problem(10, 4)
    found = anneal(given_, IDEAL, runs=30, temperature=cooling(3.0, 0.1, 80), sweeps=80)
    lowest, state = ground(given_)
    assert found.energy.min() == pytest.approx(lowest)
    at = np.unravel_index(found.energy.argmin(), found.energy.shape)
    assert np.array_equal(found.states[at], state)
    assert np.allclose(found.trace.min(axis=0), found.energy)


def test_runs_are_the_same_beside_any_other_chips():
    A = random_graph(16, 0.5, 0)
    both, one = (maxcut(A, PCM, chips=chips, runs=5, sweeps=10) for chips in ([0, 3], [3]))
    assert np.array_equal(both.trace[:, 1:], one.trace)
    assert np.array_equal(both.states[1:], one.states)
    assert both.decisions.tolist() == [[160] * 5] * 2


def test_sweeps_to_solution():
    first = np.array([[3, -1], [-1, 20]])
    assert sweeps_to_solution(first, 10) == pytest.approx(10 * np.log(0.01) / np.log(0.75))
    assert sweeps_to_solution(np.array([1, 2]), 10) == 10.0


BAD: list[tuple[str, Callable[[], Any], type[NeurodeployError], str]] = [
    ("not symmetric", lambda: maxcut(np.triu(complete(3)), IDEAL), DataError, "isn't symmetric"),
    ("not square", lambda: maxcut(np.ones((2, 3)), IDEAL), DataError, "needed numbers"),
    ("nan", lambda: maxcut(np.full((2, 2), np.nan), IDEAL), DataError, "'graph' holds NaN"),
    ("no edges", lambda: maxcut([], IDEAL), DataError, "the graph has no edges"),
    ("no edges in it", lambda: maxcut(np.zeros((3, 3)), IDEAL), DataError, "the graph has no edges"),
    ("loop", lambda: maxcut([(1, 1)], IDEAL), DataError, "from a vertex to itself"),
    ("edge", lambda: maxcut([(0, 1, 2, 3)], IDEAL), DataError, "is no edge"),
    ("vertex", lambda: maxcut([(0, -1)], IDEAL), DataError, "is no edge"),
    ("weight", lambda: maxcut([(0, 1, "a")], IDEAL), DataError, "is no edge"),
    ("not edges", lambda: maxcut([1, 2], IDEAL), DataError, "is no edge"),
    ("runs", lambda: maxcut(ring(4), IDEAL, runs=0), UsageError, "runs is 0"),
    ("sweeps", lambda: maxcut(ring(4), IDEAL, sweeps=-1), UsageError, "-1 sweeps"),
    ("temperature", lambda: maxcut(ring(4), IDEAL, temperature=-1.0), UsageError, "'temperature' is -1.0"),
    ("cooling", lambda: cooling(1.0, 2.0, 5), UsageError, "cooling from 1.0 to 2.0"),
    ("J", lambda: ising(np.ones((1, 2))), DataError, "'J' is"),
    ("h", lambda: ising(np.ones((2, 2)), [1.0]), DataError, "'h' is"),
    ("Q", lambda: from_qubo([[np.inf]]), DataError, "'Q' holds NaN or infinity"),
    ("too wide", lambda: best_cut(complete(40)), UnsupportedError, "40 variables need tables of 40 at once"),
    ("density", lambda: random_graph(5, 0.0, 0), UsageError, "density 0.0"),
    ("degree", lambda: random_regular(5, 3, 0), UsageError, "no graph of 5 vertices has degree 3"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_wrong_is_said(call: Callable[[], Any], kind: type[NeurodeployError], message: str):
    with pytest.raises(kind, match=message):
        call()
