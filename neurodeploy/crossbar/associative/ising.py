"""Low energies of Ising problems, and large cuts, found by a noisy Hopfield network on a memristor array.

The couplings lie on the array, the spins are its neurons, updated one at a time. Without noise they run into the
nearest local minimum. What lets them leave it again:

- ``temperature``: logistic noise at the decision, cooled: Glauber dynamics, simulated annealing (Kirkpatrick, Gelatt
  and Vecchi, Science 220, 671, 1983);
- ``noise``: Gaussian noise on the current, as an amplifier adds it, annealed;
- ``read_noise="fresh"``: the noise of the devices themselves, drawn anew at every read. Where devices of low
  conductance are the noisier, ``conductance`` sets how much of it there is: the share of the range that the largest
  coupling takes;
- ``hold`` below 0: a neuron's coupling to itself that unsettles it, taken back step by step. With it, updates one by
  one no longer end in a fixed point (a diagonal of 0 or more is what promises that: Goles and Martinez, Neural and
  Automata Networks, 1990), and their random order moves the network even without noise.

Cai et al., "Power-efficient combinatorial optimization using intrinsic noise in memristor Hopfield neural networks",
Nature Electronics 3, 409 (2020), solve max-cut so: the noise comes from the array and its devices, and a feedback
amplifies or damps it (their abstract). What stands here is a simplification, made without their details: ``hold`` is
one number a sweep, the same for all neurons; noise of different reads is independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.crossbar.associative import HopfieldArray
from neurodeploy.crossbar.associative.cells import chip_numbers, draws
from neurodeploy.crossbar.associative.ising_problems import Ising, cut, graph, maxcut_ising
from neurodeploy.errors import UsageError
from neurodeploy.hardware import Crossbar

Array = np.ndarray
PLACE = "annealing"


@dataclass(frozen=True)
class Annealing:
    """What ``runs`` runs on each chip found; the first axes are ``[chips, runs]``.

    ``states [.., n]``: the best seen after a sweep, ``energy``: its energy. ``final``: the energy at the end. ``trace
    [sweeps + 1, ..]``: energy at the start and after every sweep. ``decisions``: a comparator's decisions, each of
    which reads the array once.
    """

    states: Array
    energy: Array
    final: Array
    trace: Array
    decisions: Array

    def first(self, energy: float) -> Array:
        """Sweeps until a run first had ``energy`` or less (to rounding), -1 where it never did: ``[chips, runs]``."""
        there = self.trace <= energy + 1e-9 * max(1.0, abs(energy))
        return np.where(there.any(axis=0), there.argmax(axis=0), -1)


@dataclass(frozen=True)
class MaxCut(Annealing):
    """An :class:`Annealing` of a graph: ``cuts [chips, runs]``, the best of each run; ``best``, the best of all, and
    ``sides [n]``, -1 and 1, that has it."""

    cuts: Array
    best: float
    sides: Array


def cooling(start: float, stop: float, sweeps: int) -> Array:
    """A schedule that falls geometrically from ``start`` to ``stop``, one number a sweep. Raises
    :class:`UsageError`."""
    if not (0 < stop <= start < math.inf) or sweeps < 0:
        raise UsageError(
            f"cooling from {start} to {stop} in {sweeps} sweeps; needed numbers above 0 that fall.", place=PLACE
        )
    return np.geomspace(start, stop, sweeps)


def field_scale(problem: Ising) -> float:
    """Root mean square of a spin's field in a random state: a natural unit of noise and temperature."""
    return float(np.sqrt(((problem.J**2).sum(axis=1) + problem.h**2).mean()))


def anneal(
    problem: Ising, target: str | Crossbar, *, chips: int | Sequence[int] = 1, runs: int = 100, sweeps: int = 100,
    temperature: Any = None, noise: Any = None, hold: Any = 0.0, read_noise: str = "held", seed: int = 0,
    stuck: Sequence[float] = (0.0, 0.0), offset: float = 0.0, conductance: float = 1.0, seconds: float = 0.0,
) -> Annealing:  # fmt: skip
    """Run an Ising problem from ``runs`` random states on every chip.

    ``temperature``, ``noise``, ``hold``: numbers or schedules (see the module; :func:`cooling`), in the unit of ``J``;
    without any noise, plain descent. Fields ``h`` are couplings to one more spin, and so lie on the array too. Other
    arguments, and errors, are those of :class:`HopfieldArray` and :meth:`HopfieldArray.recall`.
    """
    if not isinstance(runs, int | np.integer) or runs < 1:
        raise UsageError(f"runs is {runs!r}; needed a whole number, 1 or more.", place=PLACE)
    n, extra = len(problem.h), int(problem.h.any())
    J = problem.J
    if extra:
        J = np.block([[J, problem.h[:, None]], [problem.h[None], np.zeros((1, 1))]])
    array = HopfieldArray(
        J, target, chips=chips, seed=seed, stuck=stuck, offset=offset, read_noise=read_noise, conductance=conductance,
        seconds=seconds,
    )  # fmt: skip
    starts = np.stack([draws(seed, c, "start").integers(0, 2, (runs, len(J))) for c in chip_numbers(chips)])
    heat = {"temperature": temperature, "noise": noise}
    if not array.read_sd.any() and not any(np.any(v) for v in heat.values() if v is not None):
        found = array.recall(2 * starts - 1, sweeps=sweeps, hold=hold)
    else:
        found = array.recall(2 * starts - 1, order="stochastic", sweeps=sweeps, hold=hold, **heat)
    best = found.lowest[..., :n] * found.lowest[..., n:] if extra else found.lowest
    trace = found.trace + problem.constant
    return Annealing(best, problem.energy(best), trace[-1], trace, found.decisions)


def maxcut(weights: Any, target: str | Crossbar, **options: Any) -> MaxCut:
    """Large cuts of a graph (a symmetric matrix of weights, or edges ``(i, j[, weight])``).

    ``options`` are those of :func:`anneal`; without ``temperature``, ``noise``, ``hold`` and ``read_noise`` the network
    cools from 0.6 to 0.3 of the scale of its fields. Raises :class:`DataError` for what is no graph.
    """
    A = graph(weights)
    problem = maxcut_ising(A)
    if not options.keys() & {"temperature", "noise", "hold", "read_noise"}:
        scale = field_scale(problem)
        options["temperature"] = cooling(0.6 * scale, 0.3 * scale, options.get("sweeps", 100))
    found = anneal(problem, target, **options)
    cuts = cut(A, found.states)
    at = np.unravel_index(cuts.argmax(), cuts.shape)
    return MaxCut(**vars(found), cuts=cuts, best=float(cuts[at]), sides=found.states[at])


def sweeps_to_solution(first: Array, sweeps: int, certainty: float = 0.99) -> float:
    """Sweeps to have the solution once with ``certainty``, restarting after ``sweeps``: the usual time-to-solution.

    ``sweeps ln(1 - certainty) / ln(1 - p)``, at least ``sweeps``; p is the share of runs with ``0 <= first <= sweeps``
    (:meth:`Annealing.first`). Infinite where none got there (Ronnow et al., Science 345, 420, 2014).
    """
    p = float(np.mean((first >= 0) & (first <= sweeps)))
    if p == 0:
        return math.inf
    return sweeps * (1.0 if p >= certainty else math.log(1 - certainty) / math.log(1 - p))
