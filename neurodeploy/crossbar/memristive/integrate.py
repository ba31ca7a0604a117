"""Integration of memristive networks in time, with memories that stop at 0 and 1.

Dormand and Prince's pair of orders 5 and 4 (Journal of Computational and Applied Mathematics 6, 19-26, 1980), the step
controlled for each sample by its own error, all samples of a batch at once. A unit at a border whose rate leads outward
is held there, and let go when its rate turns inward. A step that would carry a free unit across a border is taken again
up to the moment of crossing (the root of the step's cubic Hermite interpolant), because the rate jumps there; one in
which a unit is let go, up to that moment, because the rate has a kink there. Outside
of 0..1, where only stages of such steps come, resistances are those of the border.

Every sample has its own steps, so neither the batch nor its order changes a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.memristive import Network
from neurodeploy.errors import DataError, NumericsError

Array = np.ndarray
#: Sources at times [n] -> voltages [n, edges]; or constant, [edges] or [batch, edges].
Drive = Array | Callable[[Array], Array]

_C = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
_A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_FIFTH = np.array([*_A[6], 0.0])
_FOURTH = np.array([5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40])
#: A unit this part of the tolerance from a border that it moves to is at it.
_SNAP = 0.1


@dataclass(frozen=True)
class Run:
    """``w`` [times, ..., edges] at ``times`` [times], and for each sample the steps taken, the steps taken back (too
    inaccurate, or over a border) and how often a unit came to a border."""

    times: Array
    w: Array
    steps: Array
    repeated: Array
    arrivals: Array


def integrate(
    network: Network, w0: Array, drive: Drive, times: Array | Sequence[float], *, tolerance: float = 1e-8,
    longest_step: float = math.inf, most_steps: int = 100_000,
) -> Run:  # fmt: skip
    """The memories ``w0`` [..., edges] (at time 0) under a drive, at increasing ``times`` in seconds.

    ``tolerance`` bounds a step's estimated error in w; ``longest_step`` in seconds is needed where the drive is a
    function, since a pulse between a step's stages goes unseen. Raises :class:`DataError` for values out of range, and
    :class:`NumericsError` where a sample needs more than ``most_steps`` steps or its drive isn't finite.
    """
    w0, times = np.asarray(w0, np.float64), np.atleast_1d(np.asarray(times, np.float64))
    _check(network, w0, drive, times, tolerance, longest_step)
    state = _State.start(network, w0.reshape(-1, network.units), drive, tolerance, longest_step)
    made = []
    for stop in times:
        state.advance(float(stop), most_steps)
        made.append(state.w.copy())
    shape = w0.shape
    counts = (c.reshape(shape[:-1]) for c in (state.steps, state.repeated, state.arrivals))
    return Run(times, np.array(made).reshape(len(times), *shape), *counts)


def _check(network: Network, w0: Array, drive: Drive, times: Array, tolerance: float, longest: float) -> None:
    place = "memristive network"
    if not longest > 0 or (callable(drive) and math.isinf(longest)):
        raise DataError(
            f"longest_step is {longest}; needed a number above 0, and a finite one where the drive is a function.",
            place=place, hint="Give the length of its shortest pulse.",
        )  # fmt: skip
    if w0.shape[-1:] != (network.units,):
        raise DataError(f"w0 has shape {list(w0.shape)}; needed [..., {network.units}], one an edge.", place=place)
    if not ((w0 >= 0) & (w0 <= 1)).all():  # NaN is neither
        raise DataError("w0 holds values that aren't in 0..1.", place=place)
    if not (np.isfinite(times).all() and (np.diff(times, prepend=0.0) >= 0).all()):
        raise DataError("times aren't finite, not below 0 and increasing.", place=place)
    if not 1e-14 <= tolerance <= 0.1:
        raise DataError(f"tolerance is {tolerance}; needed 1e-14 to 0.1.", place=place)
    if not callable(drive):
        S = np.asarray(drive, np.float64)
        if not np.isfinite(S).all():
            raise DataError("the sources hold values that aren't finite.", place=place)
        try:
            fits = np.broadcast_shapes(S.shape, w0.shape) == w0.shape
        except ValueError:
            fits = False
        if not fits or S.shape[-1:] != (network.units,):
            raise DataError(f"sources have shape {list(S.shape)}; needed that of w0 {list(w0.shape)}.", place=place)


@dataclass
class _State:
    """All samples as they stand, each at its own time: the step that its error allows, and one that a crossing does."""

    network: Network
    source: Callable[[Array, Array], Array]
    tolerance: float
    longest: float
    w: Array
    t: Array
    h: Array
    cap: Array
    steps: Array
    repeated: Array
    arrivals: Array

    @classmethod
    def start(cls, network: Network, w: Array, drive: Drive, tolerance: float, longest: float) -> _State:
        if callable(drive):

            def source(which: Array, t: Array) -> Array:
                S = np.asarray(drive(t), np.float64)
                if S.shape != (len(t), network.units) or not np.isfinite(S).all():
                    raise NumericsError(
                        f"sources at t = {t.min():g}..{t.max():g} s have shape {list(S.shape)} or values that aren't "
                        f"finite; needed [{len(t)}, {network.units}].", place="memristive network",
                    )  # fmt: skip
                return S
        else:
            held = np.broadcast_to(np.asarray(drive, np.float64).reshape(-1, network.units), w.shape)

            def source(which: Array, t: Array) -> Array:
                return held[which]

        n = len(w)
        h, cap = np.full(n, longest), np.full(n, math.inf)
        return cls(network, source, tolerance, longest, w.copy(), np.zeros(n), h, cap,
                   *(np.zeros(n, np.int64) for _ in range(3)))  # fmt: skip

    def advance(self, stop: float, most_steps: int) -> None:
        """All samples to time ``stop``."""
        while True:
            going = np.flatnonzero(self.t < stop)
            if not len(going):
                return
            slow = going[self.steps[going] + self.repeated[going] >= most_steps]
            if len(slow):
                raise NumericsError(
                    f"sample {slow[0]} is at t = {self.t[slow[0]]:g} of {stop:g} s after {most_steps} steps.",
                    place="memristive network", hint="Raise tolerance or most_steps, or weaken the sources.",
                )  # fmt: skip
            self._step(going, stop)

    def _step(self, which: Array, stop: float) -> None:
        """One attempted step of the samples ``which``."""
        w, t = self.w[which], self.t[which]
        first = self.network.rate(w, self.source(which, t))
        snap = _SNAP * self.tolerance
        low, high = (w <= snap) & (first < 0), (w >= 1 - snap) & (first > 0)
        before, w = w, np.where(low, 0.0, np.where(high, 1.0, w))
        k = [_held(first, w, low, high)]
        fastest = np.maximum(np.abs(k[0]).max(1), 1e-300)
        wanted, left = np.minimum(self.h[which], 0.1 / fastest), stop - t
        h = np.minimum(np.minimum(wanted, self.cap[which]), left)
        raw = first
        for c, a in zip(_C[1:], _A[1:], strict=True):
            stage = w + h[:, None] * sum(ai * ki for ai, ki in zip(a, k, strict=True))
            raw = self.network.rate(np.clip(stage, 0.0, 1.0), self.source(which, t + c * h))
            k.append(_held(raw, stage, low, high))
        new = w + h[:, None] * sum(b * ki for b, ki in zip(_FIFTH, k, strict=True))
        error = np.abs(h[:, None] * sum(b * ki for b, ki in zip(_FIFTH - _FOURTH, k, strict=True)))
        ratio = error.max(1) / self.tolerance
        exact = ratio <= 1
        border = (w <= 0) | (w >= 1)  # what starts at a border crosses none: if it ends outside, it has come back to it
        fraction = np.minimum(
            _crossing(w, np.where(border, w, new), k[0] * h[:, None], k[-1] * h[:, None], snap),
            _release(first * h[:, None], raw * h[:, None], low, high, snap),
        )
        crosses = fraction < 1
        taken = exact & ~crosses
        better = h * np.clip(0.9 * np.maximum(ratio, 1e-10) ** -0.2, 0.2, 5.0)
        better = np.where(exact, better, np.minimum(better, np.maximum(fraction, 0.1) * h))
        # A step that was cut short for an output time or a crossing says nothing against the longer one.
        better = np.where(exact & (crosses | (h < wanted)), np.maximum(wanted, better), better)
        self.h[which] = np.minimum(better, self.longest)
        self.cap[which] = np.where(exact & crosses, fraction * h, math.inf)
        new = np.where(taken[:, None], np.clip(new, 0.0, 1.0), w)
        self.arrivals[which] += (((new <= 0) & (before > 0)) | ((new >= 1) & (before < 1))).sum(1)
        self.w[which] = new
        last = taken & (h >= left)
        self.t[which] = np.where(last, stop, t + np.where(taken, h, 0.0))
        self.steps[which] += taken
        self.repeated[which] += ~taken


def _held(rate: Array, w: Array, low: Array, high: Array) -> Array:
    """Rates, where units held at a border can only move inward."""
    rate = np.where(low & (w <= 0), np.maximum(rate, 0.0), rate)
    return np.where(high & (w >= 1), np.minimum(rate, 0.0), rate)


def _crossing(a: Array, b: Array, da: Array, db: Array, snap: float) -> Array:
    """Which part of its step each sample can go [n] until a unit leaves 0..1, be it for a moment: the first root of the
    cubic through values ``a``, ``b`` and slopes ``da``, ``db`` of the ends; 1 where none leaves."""
    part = np.ones(len(a))
    turns = np.where(da * db < 0, da / np.where(da == db, 1.0, da - db), 1.0)
    ends = np.where((b < 0) | (b > 1), 1.0, turns)  # where it is furthest out: at the end, or about where it turns
    furthest = _cubic(ends, a, b, da, db)
    sample, unit = np.nonzero((furthest < -snap) | (furthest > 1 + snap))
    if not len(sample):
        return part
    y0, y1, d0, d1 = (of[sample, unit] for of in (a, b, da, db))
    under = furthest[sample, unit] < 0
    near, far = np.zeros(len(sample)), ends[sample, unit]
    for _ in range(50):
        x = (near + far) / 2
        y = _cubic(x, y0, y1, d0, d1)
        inside = np.where(under, y > 0, y < 1)
        near, far = np.where(inside, x, near), np.where(inside, far, x)
    np.minimum.at(part, sample, far)
    return part


def _release(first: Array, last: Array, low: Array, high: Array, snap: float) -> Array:
    """Which part of its step each sample can go [n] until a held unit's rate turns inward, by the line between its
    values at both ends (times the step); 1 where none turns, or so early that stopping there changes nothing."""
    turns = (low & (last > 0)) | (high & (last < 0))
    part = np.where(turns, first / np.where(turns, first - last, 1.0), 1.0)
    return np.where(np.abs(first) * part > snap, part, 1.0).min(axis=1)


def _cubic(x: Array, a: Array, b: Array, da: Array, db: Array) -> Array:
    """The cubic with values a, b and slopes da, db at 0 and 1."""
    return a + x * (da + x * (3 * (b - a) - 2 * da - db + x * (2 * (a - b) + da + db)))


def settled(network: Network, w: Array, S: Array, rate: float = 0.0) -> Array:
    """Whether no unit of a sample moves any more: all that are free change by at most ``rate`` a second."""
    f = network.rate(w, S)
    f = np.where((w <= 0) & (f < 0) | (w >= 1) & (f > 0), 0.0, f)
    return np.abs(f).max(-1) <= rate
