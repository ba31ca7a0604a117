"""Hopfield and bidirectional associative memories recalled by a memristor array itself.

A neuron i drives a word line with its state, +1 or -1 as a voltage of either sign, and its comparator takes the sign of
the current of its own pair of bit lines::

    field_i = sum_j W_ij s_j - theta_i,    s_i' = sign(field_i + hold s_i + noise), a tie keeps s_i

A field below 1e-12 of the largest ``sum_j |W_ij|`` counts as a tie: it is rounding. W are the weights as the drawn
chip's devices act now, theta a reference that doesn't age. Orders of updates:

``synchronous``   all units at once (what the program ``hopfield`` driven ``until`` does); may end in a cycle of two
``asynchronous``  one unit at a time, every sweep in a new random order; with symmetric weights the energy only falls
``stochastic``    the same, and the decision is noisy: logistic noise of a temperature T, so that unit i becomes +1 with
                  probability ``1 / (1 + exp(-2 field_i / T))`` (Glauber, J. Math. Phys. 4, 294, 1963), or Gaussian
                  noise on the current

The energy of the memory is that of the weights that were meant, ``E = -1/2 s^T W s + theta s`` (Hopfield, PNAS 79,
2554, 1982). On a real chip ``W_ij`` and ``W_ji`` are different devices: nothing makes that energy fall, and updates
that raised it are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.crossbar.associative.cells import Written, chip_numbers, draws, target_of
from neurodeploy.crossbar.associative.programs import bam_program, hopfield_program, matrix, signs, vector
from neurodeploy.errors import UnsupportedError, UsageError, nearest
from neurodeploy.hardware import Crossbar
from neurodeploy.ir.graph import Program

Array = np.ndarray
ORDERS = ("synchronous", "asynchronous", "stochastic")
READS = ("held", "fresh")
PLACE = "associative memory"


@dataclass(frozen=True)
class Recall:
    """Recall of cues on chips; the first axes are always ``[chips, cues]``.

    ``states [.., units]``: where it ended, -1 and 1. ``energy``: there. ``sweeps``: how many changed something.
    ``converged``: the state is one that the array keeps. ``cycles``: it ended in a cycle of two states. ``rises``:
    updates that raised the energy (0 is promised for asynchronous updates of exact symmetric weights; not counted in
    synchronous recall, None there). ``decisions``: a comparator's decisions. ``reads``: reads of the array: one a
    decision where units move one at a time, one a sweep where all move at once. ``trace [sweeps + 1, ..]``: energy at
    the start and after every sweep; ``lowest [.., units]``: the state among these with the lowest energy.
    """

    states: Array
    energy: Array
    sweeps: Array
    converged: Array
    cycles: Array
    rises: Array | None
    decisions: Array
    reads: Array
    trace: Array
    lowest: Array


class HopfieldArray:
    """A Hopfield network on the arrays of some chips.

    ``weights [n, n]`` (``W[i, j]`` from unit j to unit i), ``thresholds [n]``; ``target``: a crossbar or its name;
    ``chips``: how many, or their numbers; a chip is the same whatever others stand beside it. ``stuck``: shares of
    devices stuck at g_max and at g_min. ``offset``: standard deviation of the comparators' offsets, in currents of a
    device at full conductance, drawn once for a chip. ``read_noise``: ``"held"`` for the time of a recall, as 1/f
    noise is; or ``"fresh"`` at every read, the other end (white). ``conductance``: what the largest weight takes of
    the devices' range; less makes a memory noisier where devices of low conductance are. ``seconds`` since the first
    read: see :meth:`age`. Raises :class:`DataError` for weights that aren't finite and square, :class:`UsageError` for
    the other arguments, :class:`TargetError` for an unknown target.
    """

    def __init__(
        self, weights: Any, target: str | Crossbar, *, thresholds: Any = None, chips: int | Sequence[int] = 1,
        seed: int = 0, stuck: Sequence[float] = (0.0, 0.0), offset: float = 0.0, read_noise: str = "held",
        conductance: float = 1.0, seconds: float = 0.0,
    ) -> None:  # fmt: skip
        _one_of(read_noise, READS, "read_noise")
        if not 0 <= offset < np.inf:
            raise UsageError(f"the comparators' offset is {offset}; needed 0 or more.", place=PLACE)
        self.weights = matrix(weights)
        n = len(self.weights)
        self.thresholds = np.zeros(n) if thresholds is None else vector(thresholds, "thresholds", n)
        self.chips, self.seed, self.read_noise = chip_numbers(chips), seed, read_noise
        self._written = Written(
            hopfield_program(self.weights), "W", target_of(target, stuck), self.chips, seed, "output",
            fresh=read_noise == "fresh", conductance=conductance,
        )  # fmt: skip
        drawn = np.stack([draws(seed, chip, "offset").standard_normal(n) for chip in self.chips])
        self.tie = 1e-12 * float(np.abs(self.weights).sum(axis=1).max())
        self._offsets = offset * drawn * self._written.largest
        self.age(seconds)

    @classmethod
    def of(cls, program: Program, target: str | Crossbar, **options: Any) -> HopfieldArray:
        """The network of a program: one cell ``hopfield``, driven ``until`` it stands, from a static cue.

        ``options`` are those of the class but ``thresholds``. Raises :class:`UnsupportedError` for other programs.
        """
        from neurodeploy.spiking.hopfield import find

        try:
            found = find(program)
        except UnsupportedError as error:
            raise UnsupportedError(error.message, place=error.place, hint="Give weights and thresholds.") from error
        return cls(found.W, target, thresholds=found.theta, **options)

    def age(self, seconds: float) -> HopfieldArray:
        """Let the chips be ``seconds`` older than at their first read; returns itself. Raises :class:`UsageError`."""
        if not 0 <= seconds < np.inf:
            raise UsageError(f"the age is {seconds} s; needed 0 or more.", place=PLACE)
        self.acting = self._written.age(seconds)
        self.read_sd = self._written.read_sd(seconds)
        return self

    def energy(self, states: Array) -> Array:
        """``-1/2 s^T W s + theta s`` of states ``[..., n]`` under the weights that were meant."""
        return -0.5 * ((states @ self.weights.T) * states).sum(axis=-1) + states @ self.thresholds

    def recall(
        self, cues: Any, *, order: str = "asynchronous", sweeps: int = 100, temperature: Any = None, noise: Any = None,
        hold: Any = 0.0,
    ) -> Recall:  # fmt: skip
        """Recall cues ``[cues, n]`` (or ``[chips, cues, n]``) of -1 and 1 on every chip.

        A sweep updates each unit once; there are at most ``sweeps``. ``temperature`` (Glauber) and ``noise`` (standard
        deviation of Gaussian noise), in the weights' unit, and ``hold``, a unit's coupling to itself, are numbers or
        schedules, one number a sweep. Raises :class:`UsageError` for an unknown order, a negative number, or noise
        without order ``stochastic``; :class:`DataError` for cues of other values or widths.
        """
        _one_of(order, ORDERS, "order")
        if not isinstance(sweeps, int | np.integer) or sweeps < 0:
            raise UsageError(f"sweeps is {sweeps!r}; needed a whole number, 0 or more.", place=PLACE)
        if order != "stochastic" and (temperature is not None or noise is not None):
            raise UsageError(
                f"order '{order}' takes no temperature and no noise.", place=PLACE, hint="stochastic does."
            )
        if order == "stochastic" and temperature is None and noise is None and not self.read_sd.any():
            raise UsageError(
                "order 'stochastic' has no noise: give a temperature, noise, or a target with fresh read noise.",
                place=PLACE,
            )
        scales = _Schedules(
            schedule(temperature, "temperature", sweeps), schedule(noise, "noise", sweeps),
            schedule(hold, "hold", sweeps, negative=True),
        )  # fmt: skip
        states = self._cues(cues)
        if order == "synchronous":
            return self._at_once(states, sweeps, scales)
        return _OneByOne(self, states, scales, settles=order == "asynchronous").run(sweeps)

    def keeps(self, states: Array) -> Array:
        """Whether the array keeps each of ``states [chips, cues, n]``, fresh noise left out: ``[chips, cues]``."""
        return (_decide(self.fields(states), states, self.tie) == states).all(axis=-1)

    def fields(self, states: Array) -> Array:
        """Fields ``[chips, cues, n]`` of states of that shape, fresh noise left out."""
        return np.matmul(states, self.acting) - (self.thresholds - self._offsets)[:, None]

    def _cues(self, cues: Any) -> Array:
        given, chips, n = np.asarray(cues), len(self.chips), len(self.weights)
        if given.ndim == 3 and given.shape[0] == chips:
            return signs(given.reshape(-1, given.shape[-1]), "cues", n).reshape(given.shape)
        return np.repeat(signs(given, "cues", n)[None], chips, axis=0)

    def _at_once(self, states: Array, sweeps: int, scales: _Schedules) -> Recall:
        """Synchronous updates. What stands, or swings between two states, is no longer computed: its end is known."""
        n = states.shape[-1]
        noisy = self.read_sd.any()
        rngs = [draws(self.seed, chip, "reads") for chip in self.chips] if noisy else []
        moving = np.ones(states.shape[:2], bool)
        cycles, used = np.zeros_like(moving), np.zeros(states.shape[:2], np.int64)
        before, seen = states.copy(), _Seen(states, self.energy(states))
        steady = scales.steady  # a schedule may end a cycle
        for step in range(sweeps):
            if not moving.any():
                seen.add(states, seen.trace[-1])
                continue
            fields = self.fields(states) + scales.hold[step] * states
            if noisy:
                fields += np.stack([rng.standard_normal(states.shape[1:]) for rng in rngs]) * self.read_sd[:, None]
            new = _decide(fields, states, self.tie)
            changed = moving & (new != states).any(axis=-1)
            used += changed
            back = moving & changed & (new == before).all(axis=-1) & (step > 0) & steady & (not noisy)
            cycles |= back
            even = (sweeps - 1 - step) % 2 == 0  # where a cycle of two stands after the last step
            ends = np.where(back[..., None] & (not even), states, new)
            before, states = states, np.where(moving[..., None], ends, states)
            moving &= ~back & (changed | (not steady))
            seen.add(states, self.energy(states))
        reads = np.where(cycles, sweeps, np.minimum(used + 1, sweeps))
        used = np.where(cycles, sweeps, used)
        return Recall(
            states, self.energy(states), used, self.keeps(states), cycles, None, reads * n, reads,
            np.stack(seen.trace), seen.lowest,
        )  # fmt: skip


class _Seen:
    """Energies at the start and after every sweep, and the state of the lowest, the first of equals."""

    def __init__(self, states: Array, energy: Array) -> None:
        self.trace, self.lowest, self.least = [energy], states.copy(), energy.copy()

    def add(self, states: Array, energy: Array) -> None:
        self.trace.append(energy)
        better = energy < self.least
        self.least = np.where(better, energy, self.least)
        self.lowest = np.where(better[..., None], states, self.lowest)


@dataclass(frozen=True)
class _Schedules:
    """Temperature, Gaussian noise and self-coupling of every sweep."""

    temperature: Array
    noise: Array
    hold: Array

    @property
    def steady(self) -> bool:
        """Whether nothing changes from sweep to sweep."""
        return all(len(set(a.tolist())) <= 1 for a in (self.temperature, self.noise, self.hold))


class _OneByOne:
    """Updates of one unit at a time, many recalls side by side.

    Fields are kept up to date: a decision looks at one number, and only a flip, ``n`` additions, changes them.
    """

    def __init__(self, array: HopfieldArray, states: Array, scales: _Schedules, settles: bool) -> None:
        self.array, self.scales, self.shape = array, scales, states.shape
        self.settles = settles and scales.steady
        chips, cues, n = states.shape
        self.rows = np.arange(chips * cues)
        self.chip = np.repeat(np.arange(chips), cues)
        self.s = states.reshape(-1, n).copy()
        self.meant = (array.weights + array.weights.T) / 2
        self.rngs = [draws(array.seed, chip, "order") for chip in array.chips]
        self.rises = np.zeros(len(self.rows), np.int64)
        self.moving = np.ones(len(self.rows), bool)

    def run(self, sweeps: int) -> Recall:
        """All sweeps, or until each recall has had one in which nothing changed: that ends it."""
        used, done = np.zeros(len(self.rows), np.int64), sweeps
        seen = _Seen(self.s, self._energy(self._slopes()))
        for sweep in range(sweeps):
            changed, energy = self._sweep(sweep)
            used += changed
            seen.add(self.s, energy)
            if self.settles:
                self.moving &= changed
                if not self.moving.any():
                    done = sweep + 1
                    break
        n = self.shape[-1]
        states = self.s.reshape(self.shape)
        looked = np.minimum(used + 1, done) if self.settles else np.full_like(used, done)
        trace = np.stack(seen.trace + [seen.trace[-1]] * (sweeps - done)).reshape(-1, *self.shape[:2])
        flat = (used, self.rises, looked * n)
        used, rises, decisions = (a.reshape(self.shape[:2]) for a in flat)
        return Recall(
            states, trace[-1].copy(), used, self.array.keeps(states), np.zeros(self.shape[:2], bool), rises,
            decisions, decisions.copy(), trace, seen.lowest.reshape(self.shape),
        )  # fmt: skip

    def _slopes(self) -> Array:
        """Fields of the weights that were meant, without a unit's own: a flip of unit i changes the energy by
        ``2 s_i slope_i``."""
        fields = np.matmul(self.s.reshape(self.shape), self.meant).reshape(self.s.shape)
        return fields - self.array.thresholds - np.diag(self.meant) * self.s

    def _energy(self, slopes: Array) -> Array:
        own = np.trace(self.meant) - (self.s * self.array.thresholds).sum(axis=1)
        return -0.5 * ((self.s * slopes).sum(axis=1) + own)

    def _sweep(self, sweep: int) -> tuple[Array, Array]:
        """Each unit once, in an order of each recall's own; returns which recalls changed, and their energies."""
        order, noise = self._drawn(sweep)
        fields = self.array.fields(self.s.reshape(self.shape)).reshape(self.s.shape)  # anew: rounding doesn't pile up
        slopes = self._slopes()
        hold = self.scales.hold[sweep]
        changed = np.zeros(len(self.rows), bool)
        for k in range(self.s.shape[1]):
            unit = order[:, k]
            s = self.s[self.rows, unit]
            drive = fields[self.rows, unit] + hold * s
            if noise is not None:
                drive += noise[:, k]
            flips = np.flatnonzero((drive * s < -self.array.tie) & self.moving)
            if len(flips):
                moved, change = unit[flips], -2 * s[flips]
                self.rises[flips] += slopes[flips, moved] * s[flips] > self.array.tie
                self.s[flips, moved] *= -1
                fields[flips] += change[:, None] * self.array.acting[self.chip[flips], moved]
                slopes[flips] += change[:, None] * self.meant[moved]
                slopes[flips, moved] -= change * self.meant[moved, moved]
                changed[flips] = True
        return changed, self._energy(slopes)

    def _drawn(self, sweep: int) -> tuple[Array, Array | None]:
        """Orders ``[recalls, n]`` and, unless there is none, the noise of every decision."""
        _, cues, n = self.shape
        heat, gauss = self.scales.temperature[sweep], self.scales.noise[sweep]
        deviations = np.sqrt(self.array.read_sd**2 + gauss**2)
        orders, noises = [], []
        for rng, sd in zip(self.rngs, deviations, strict=True):
            order = rng.random((cues, n)).argsort(axis=1)
            orders.append(order)
            noise = np.zeros((cues, n))
            if heat > 0:
                noise += rng.logistic(scale=heat / 2, size=(cues, n))
            if sd.any():
                noise += rng.standard_normal((cues, n)) * sd[order]
            noises.append(noise)
        quiet = heat == 0 and not deviations.any()
        return np.concatenate(orders), None if quiet else np.concatenate(noises)


class BamArray:
    """Kosko's bidirectional memory on the arrays of some chips: ``y = sign(W x)``, ``x' = sign(W^T y)``.

    ``weights [m, n]`` from n units x to m units y. ``both_ways``: one array, read from its word lines to its bit lines
    and back; else ``W`` and ``W^T`` lie on arrays of their own, as the compiled program has them. Read both ways, x
    and y meet the *same* devices: ``E = -y^T W x`` of the weights as they act falls on any chip (comparators without
    offset, read noise held). Other arguments, and errors, are those of :class:`HopfieldArray`.
    """

    def __init__(
        self, weights: Any, target: str | Crossbar, *, chips: int | Sequence[int] = 1, seed: int = 0,
        stuck: Sequence[float] = (0.0, 0.0), both_ways: bool = True, seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self.weights, self.chips = matrix(weights, square=False), chip_numbers(chips)
        program, crossbar = bam_program(self.weights), target_of(target, stuck)
        scaling = "matrix" if both_ways else "output"
        self._there = Written(program, "W", crossbar, self.chips, seed, scaling)
        self._back = None if both_ways else Written(program, "WT", crossbar, self.chips, seed, scaling)
        self.age(seconds)

    def age(self, seconds: float) -> BamArray:
        """As :meth:`HopfieldArray.age`."""
        if not 0 <= seconds < np.inf:
            raise UsageError(f"the age is {seconds} s; needed 0 or more.", place=PLACE)
        self.to_y = self._there.age(seconds)  # [chips, n, m]
        back = self._back
        self.to_x = self.to_y.transpose(0, 2, 1) if back is None else back.age(seconds)
        return self

    def recall(self, cues: Any, *, steps: int = 50) -> BamRecall:
        """Recall from cues ``[cues, n]`` of x, until x stands, at most ``steps`` times there and back; a tie of y is
        1, as in the program. Raises :class:`DataError`, :class:`UsageError`.
        """
        if not isinstance(steps, int | np.integer) or steps < 1:
            raise UsageError(f"steps is {steps!r}; needed a whole number, 1 or more.", place=PLACE)
        x = np.repeat(signs(cues, "cues", self.weights.shape[1])[None], len(self.chips), axis=0)
        used, moving = np.zeros(x.shape[:2], np.int64), np.ones(x.shape[:2], bool)
        y, acting = np.ones((*x.shape[:2], len(self.weights))), []
        for _ in range(steps):
            y = np.where(moving[..., None], _decide(np.matmul(x, self.to_y), np.ones_like(y)), y)
            acting.append(-(np.matmul(x, self.to_y) * y).sum(axis=-1))
            new = np.where(moving[..., None], _decide(np.matmul(y, self.to_x), x), x)
            acting.append(-(np.matmul(y, self.to_x) * new).sum(axis=-1))
            used += moving
            moving &= (new != x).any(axis=-1)
            x = new
            if not moving.any():
                break
        energy = -((x @ self.weights.T) * y).sum(axis=-1)
        return BamRecall(x, y, energy, used, ~moving, np.stack(acting))


@dataclass(frozen=True)
class BamRecall:
    """Recall of pairs on chips: ``x [chips, cues, n]``, ``y [chips, cues, m]``, their energy ``-y^T W x``, how many
    times there and back, whether x stood at the end, and ``acting``: the energy of the weights as they act after every
    half step."""

    x: Array
    y: Array
    energy: Array
    steps: Array
    converged: Array
    acting: Array


def schedule(values: Any, name: str, sweeps: int, *, negative: bool = False) -> Array:
    """``values``, one number or one a sweep (None: 0), as ``[sweeps]``. Raises :class:`UsageError`."""
    found = np.asarray(0.0 if values is None else values)
    fits = found.dtype.kind in "fiu" and found.shape in ((), (sweeps,)) and np.isfinite(found).all()
    if not fits or (not negative and (found < 0).any()):
        what = "a finite number" if negative else "a number, 0 or more,"
        raise UsageError(f"'{name}' is {values!r}; needed {what} or {sweeps} of them, one a sweep.", place=PLACE)
    return np.broadcast_to(found.astype(np.float64), (sweeps,))


def _decide(fields: Array, states: Array, tie: float = 0.0) -> Array:
    return np.where(fields > tie, 1.0, np.where(fields < -tie, -1.0, states))


def _one_of(value: str, known: Sequence[str], name: str) -> None:
    if value not in known:
        raise UsageError(f"there is no {name} '{value}'.", place=PLACE, hint=nearest(str(value), known))
