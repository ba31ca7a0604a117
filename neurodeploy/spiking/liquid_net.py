"""The liquid: a reservoir's units as integrate-and-fire neurons, and its weights as their synapses.

Where ``r`` is a neuron's rate in spikes a tick, low-pass filtered with the reservoir's leak, a unit's state is::

    pairs    h = A (r+ - r-)         two neurons a unit, for its positive and its negative part
    single   h = lo + (hi - lo) r    one neuron a unit, which fires at a middle rate at rest if f has two signs

A neuron without leak, threshold 1 and soft reset fires at the rate of its input cut off at 0 and 1. So it gets its
unit's activation as a line, ``f(z) ~ c + g z``, cut off at the activation's own range, in parts of that range::

    pairs    +-(c + g z) / A         single   (c + g z - lo) / (hi - lo)         z = W x + U h + b

Synapses keep ``(1 - leak)^(1 / ticks)`` a tick, so that a synaptic current is ``U h`` itself, and the spikes' trace is
the unit's state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.spiking.net import Projection, SpikingNet, make
from neurodeploy.spiking.reservoir import ADVICE, Observed, Reservoir

CODES = ("pairs", "single")
TRACES = ("state", "count", "both")
#: Synapses average spikes over at least half a frame, however fast the reservoir forgets: leak 1 - exp(-2).
MOST_LEAK = 1.0 - float(np.exp(-2.0))
#: Membranes stay between these, in thresholds: so a saturated neuron doesn't fire on, a silenced one wakes up soon.
FLOOR, CEILING = 0.0, 2.0
#: Part of a unit's activations that its range leaves out at each end.
OUTSIDE = 0.001


@dataclass(frozen=True)
class Constants:
    """What is fitted. ``ticks`` a frame; ``gain``: the line's slope, in parts of the best line's; ``membrane``: what is
    kept of a membrane a tick; ``rates``: full rate stands for the ``"unit"``'s own largest activation, or for
    the largest of all (``"common"``)."""

    ticks: int
    gain: float = 1.0
    membrane: float = 1.0
    rates: str = "unit"


@dataclass(frozen=True)
class Synapses:
    """How spikes are passed on. ``excitatory``: share of neurons that only excite, the others only inhibit (Dale's
    law); None: weights of both signs. Time constants in frames; None: the reservoir's. ``delay`` in ticks."""

    excitatory: float | None = None
    excitatory_tau: float | None = None
    inhibitory_tau: float | None = None
    delay: int = 1

    @property
    def split(self) -> bool:
        """Whether excitation and inhibition are projections of their own."""
        return any(v is not None for v in (self.excitatory, self.excitatory_tau, self.inhibitory_tau))


@dataclass(frozen=True)
class Code:
    """Neuron k stands for ``unit[k]``: it gets ``drive[k] z + offset[k]`` and its filtered rate adds ``value[k]`` to
    the unit's state, beside ``level`` [units]."""

    unit: np.ndarray
    drive: np.ndarray
    offset: np.ndarray
    value: np.ndarray
    level: np.ndarray


@dataclass(frozen=True)
class Wiring:
    """The network's neurons in order: which of the code's each is (``neuron`` [N], -1 for one that always fires),
    ``weights`` [N, N] from filtered rates to input currents, constant currents ``bias`` [N], and populations."""

    neuron: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    populations: tuple[tuple[str, int], ...]


def codes_of(reservoir: Reservoir) -> tuple[str, ...]:
    """The codes that an activation has: pairs need one with two signs and f(0) = 0.

    Raises :class:`UnsupportedError` for an activation that doesn't grow with its input.
    """
    grid = np.linspace(-8.0, 8.0, 65)[:, None] * np.ones(reservoir.units)
    f = reservoir.layer.f(grid)
    if (np.diff(f, axis=0) < -1e-5).any() or (np.ptp(f, axis=0) < 1e-6).any():
        raise UnsupportedError(
            "the activation doesn't grow with its input; a neuron's rate does.",
            place=f"%{reservoir.layer.value} ({reservoir.layer.words})", hint=ADVICE,
        )  # fmt: skip
    low, high = f.min(), f.max()
    signed = low < -0.1 * high and np.abs(f[32]).max() < 0.05 * high
    return CODES if signed else ("single",)


def two_signs(reservoir: Reservoir) -> bool:
    """Whether the activation is negative anywhere."""
    return bool((reservoir.layer.f(np.full((1, reservoir.units), -8.0)) < -1e-6).any())


def always_on(reservoir: Reservoir, code: str) -> bool:
    """Whether a liquid has one more neuron, which fires every tick: single neurons of a state below zero at rest."""
    return code == "single" and two_signs(reservoir) and len(np.unique(reservoir.leak)) == 1


def size_of(reservoir: Reservoir, code: str) -> int:
    """Neurons of a liquid."""
    return 2 * reservoir.units if code == "pairs" else reservoir.units + always_on(reservoir, code)


def code_of(reservoir: Reservoir, observed: Observed, code: str, constants: Constants) -> Code:
    """The code fitted to the units' activations on training data."""
    n, a = reservoir.units, observed.a
    if code == "pairs":
        high = np.quantile(np.abs(a), 1 - OUTSIDE, axis=0)
        low = -high
    else:
        low, high = np.quantile(a, OUTSIDE, axis=0), np.quantile(a, 1 - OUTSIDE, axis=0)
        low = low if two_signs(reservoir) else np.zeros(n)
    if constants.rates == "common":
        low, high = np.full(n, low.min()), np.full(n, high.max())
    high = np.maximum(high, low + 1e-3 * max(1e-6, float(np.ptp(a))))
    c, g = cut_line(observed.z, a, low, high)
    g = g * constants.gain
    if code == "single":
        span = high - low
        return Code(np.arange(n), g / span, (c - low) / span, span, low)
    half = np.concatenate([g, -g]), np.concatenate([c, -c]), np.concatenate([high, -high])
    size = np.abs(half[2])
    return Code(np.tile(np.arange(n), 2), half[0] / size, half[1] / size, half[2], np.zeros(n))


def cut_line(z: np.ndarray, a: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``c, g`` [n] of the lines through a (z) [rows, n] whose cut ``min(max(c + g z, low), high)`` fits best: least
    squares on the rows that aren't cut, until these stay the same."""
    inside, c, g = np.ones(z.shape, bool), a.mean(axis=0), np.zeros(z.shape[1])
    for _ in range(20):
        count = inside.sum(axis=0)
        total = np.maximum(count, 1)
        mean_z, mean_a = (z * inside).sum(axis=0) / total, (a * inside).sum(axis=0) / total
        spread = (((z - mean_z) * inside) ** 2).sum(axis=0)
        fits = (count > 1) & (spread > 1e-12)
        g = np.where(fits, ((z - mean_z) * (a - mean_a) * inside).sum(axis=0) / np.where(fits, spread, 1.0), g)
        c = np.where(fits, mean_a - g * mean_z, c)
        line = c + g * z
        again = (line > low) & (line < high)
        if np.array_equal(again, inside):
            break
        inside = again
    return c, g


def kept(leak: np.ndarray, ticks: int) -> np.ndarray:
    """What synapses keep a tick."""
    return (1.0 - np.minimum(leak, MOST_LEAK)) ** (1.0 / ticks)


def wiring_of(reservoir: Reservoir, code: Code) -> Wiring:
    """The reservoir's own weights. What single neurons' level adds comes from one more neuron that fires every tick,
    so that it rises with the synapses' time constant, as the states do."""
    U = reservoir.U[code.unit]
    weights = code.drive[:, None] * U[:, code.unit] * code.value
    level = code.drive * (U @ code.level)
    n = len(code.unit)
    bias = code.drive * reservoir.bias[code.unit] + code.offset
    names = [("positive", n // 2), ("negative", n // 2)] if n > reservoir.units else [("units", n)]
    if not always_on(reservoir, "pairs" if n > reservoir.units else "single"):
        return Wiring(np.arange(n), weights, bias + level, tuple(names))
    wide = np.zeros((n + 1, n + 1))
    wide[:n, :n], wide[:n, n] = weights, level
    return Wiring(np.r_[np.arange(n), -1], wide, np.r_[bias, 2.0], (*names, ("always on", 1)))


def build(
    reservoir: Reservoir, code: Code, wiring: Wiring, constants: Constants, synapses: Synapses, largest_input: float,
    dt_s: float,
) -> SpikingNet:  # fmt: skip
    """The liquid without readout. Raises :class:`UnsupportedError` where sums can't be exact."""
    own = wiring.neuron
    W_in = np.where(own[:, None] < 0, 0.0, (code.drive[:, None] * reservoir.W[code.unit])[own])
    keep = kept(np.where(own < 0, reservoir.leak[0], reservoir.leak[code.unit][own]), constants.ticks)
    return make(
        ticks=constants.ticks, dt_s=dt_s, beta=constants.membrane, threshold=1.0, start=0.5, floor=FLOOR,
        ceiling=CEILING, W_in=W_in, bias=wiring.bias, largest_input=largest_input,
        projections=_projections(wiring.weights, keep, synapses, constants.ticks), keep=keep,
        populations=wiring.populations,
    )  # fmt: skip


def _projections(weights: np.ndarray, keep: np.ndarray, synapses: Synapses, ticks: int) -> list[Projection]:
    """One for each time constant: a current's synapses share it."""
    if not synapses.split:
        return [
            Projection(f"leak_{i}" if len(np.unique(keep)) > 1 else "recurrent", weights * (keep == k) * (1 - k), k,
                       synapses.delay)
            for i, k in enumerate(np.unique(keep))
        ]  # fmt: skip
    out = []
    for name, sign, tau in (("excitatory", 1, synapses.excitatory_tau), ("inhibitory", -1, synapses.inhibitory_tau)):
        part = np.where(weights * sign > 0, weights, 0.0)
        own = keep if tau is None else np.full_like(keep, np.exp(-1.0 / (tau * ticks)))
        values = np.unique(own)
        out += [
            Projection(name if len(values) == 1 else f"{name}_{i}", part * (own == k) * (1 - k), k, synapses.delay)
            for i, k in enumerate(values)
        ]  # fmt: skip
    return out
