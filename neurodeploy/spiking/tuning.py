"""Neurons that stand for a unit's activation f: where they work, what they measurably do, and how f is read from them.

A unit's neurons cut the range of ``z``, its activation's argument, into pieces: each integrates ``gain (sign z -
offset)`` spikes a frame. An integrate-and-fire neuron with threshold 1 and a subtracting reset fires just that often,
never less than 0 and never more than once a tick. So it is a line between two corners, and

    f(z)  =  sum_k decoder_k rate_k(z)

is piecewise linear: one neuron for relu; a pair, one for each sign of z, for tanh; more of them for a closer fit (a
*thermometer*: saturated pieces at full rate, one at work, the rest silent).

The corners are placed where the squared error, weighted by how often z is there on the calibration data, is least.
Rates are then *measured*: the target's own neuron runs on constant inputs, with its reset, limits, leak and ticks.
Decoders are least squares on these rates (Eliasmith and Anderson, Neural Engineering, 2003, chapter 2, there with
rates from a formula).

The file ``tuning.npz`` holds, for g points of z, u units and n neurons: ``z`` [g, u]; ``weight`` [g, u], how often z is
there (sums to 1); ``rates`` [g, n], spikes a frame; ``f`` [g, u], wanted; ``decoded`` [g, u]; ``error`` [u], the
weighted root mean square of their difference; ``unit``, ``sign``, ``gain``, ``offset``, ``decoder`` [n].
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.spiking.net import make, simulate

#: Points of z at which curves are measured, and frames that a point runs (rates are exact to one spike in these).
POINTS, FRAMES = 81, 32
#: Corners that a piece may end at.
CORNERS = 20
#: Part of the calibration data that lies inside a unit's range, in %.
RANGE = 99.9
#: Ridge on decoders, relative to the curves' power; keeps a neuron that hardly ever works from a wild decoder.
RIDGE = 1e-4

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Side:
    """The part of an activation that neurons of one sign carry: it starts at ``zero`` (of sign z), rises to ``top`` in
    absolute value within ``reach`` (of sign z, over all units), and levels off there or doesn't (``levels``).
    ``fixed``: it starts just there, because f changes its sign or stays at 0 before."""

    sign: int
    zero: float
    reach: float
    top: float
    levels: bool
    fixed: bool


@dataclass(frozen=True)
class Code:
    """The neurons of all units, arrays [n]: ``unit``, ``sign`` (+1, -1), ``gain`` (spikes a frame for 1 of z),
    ``offset`` (of sign z, where firing starts), ``decoder`` (what one spike a frame stands for)."""

    unit: np.ndarray
    sign: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    decoder: np.ndarray

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.unit)


@dataclass(frozen=True)
class Integrator:
    """The neuron that the target has: ``beta``, ``reset``, and how far beyond one spike its membrane remembers
    (``margin``; None: no limits). Thresholds are 1."""

    ticks: int
    reset: str
    beta: float
    margin: float | None

    @property
    def start(self) -> float:
        """The membrane at rest: half a spike, which rounds where 0 would cut (a reset to zero starts at zero)."""
        return 0.5 if self.reset == "subtract" else 0.0

    @property
    def floor(self) -> float:
        """The membrane's lower limit."""
        return -np.inf if self.margin is None else self.start - self.margin

    @property
    def ceiling(self) -> float:
        """Its upper limit, before a spike takes 1 away."""
        return np.inf if self.margin is None else 1.5 + self.margin

    @property
    def bias(self) -> float:
        """What a tick must add so that a leaky membrane rests at ``start``."""
        return (1.0 - self.beta) * self.start


@dataclass(frozen=True)
class Curves:
    """Measured curves; see the module for the arrays."""

    z: np.ndarray
    weight: np.ndarray
    rates: np.ndarray
    f: np.ndarray
    decoded: np.ndarray
    error: np.ndarray

    def to_bytes(self, code: Code) -> bytes:
        """As ``tuning.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self), **vars(code))  # type: ignore[arg-type]
        return buffer.getvalue()


def sides(f: Function, z: np.ndarray, place: str) -> tuple[Side, ...]:
    """The sides of an activation on the range of ``z`` (any shape).

    Raises :class:`UnsupportedError` for one that falls or jumps somewhere: no sum of a few rates follows it.
    """
    low, high = np.percentile(z, [100 - RANGE, RANGE])
    little = max(1e-3, 0.02 * max(abs(low), abs(high)))  # both signs are looked at, whatever the data do
    grid = np.linspace(min(low, -little), max(high, little), 4001)
    values = f(grid)
    span = float(np.ptp(values))
    steps = np.diff(values)
    if (steps < -1e-4 * span).any() or (steps > 0.2 * span).any():
        raise UnsupportedError(
            f"its activation {'jumps' if (steps > 0.2 * span).any() else 'falls'} within {low:.3g}..{high:.3g}; needed "
            "one that rises steadily, as rates do.",
            place=place,
            hint="Use a target of the method sigma-delta, which takes any activation.",
        )
    far = 1e4 * max(abs(low), abs(high), 1.0)
    ends = f(np.array([-2 * far, -far, far, 2 * far]))
    signed = bool(values[0] < -1e-3 * span)
    small = values <= (0.0 if signed else values[0] + 5e-3 * span)
    zero = float(grid[np.nonzero(small)[0][-1]]) if small.any() else float(grid[0])
    zero = 0.0 if abs(zero) <= 2 * (grid[1] - grid[0]) else zero
    flat = bool(np.ptp(values[grid <= zero]) < 1e-6) if not signed and (grid <= zero).any() else signed
    found = [Side(1, zero, float(grid[-1]), float(abs(values[-1])), bool(abs(ends[3] - ends[2]) < 1e-3 * far), flat)]
    if signed:
        found.append(Side(-1, -zero, -float(grid[0]), float(abs(values[0])), bool(abs(ends[1] - ends[0]) < 1e-3 * far),
                          True))  # fmt: skip
    return tuple(side for side in found if side.reach > side.zero)


def grid_of(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of z [g, u] over each unit's range and how often z is there [g, u], from samples [rows, u]."""
    low, high = np.percentile(z, [100 - RANGE, RANGE], axis=0)
    high = np.maximum(high, low + 1e-3)
    points = np.linspace(low, high, POINTS)
    at = np.clip(np.rint((z - low) / (high - low) * (POINTS - 1)), 0, POINTS - 1).astype(int)
    counts = np.stack([np.bincount(column, minlength=POINTS) for column in at.T], axis=1).astype(float)
    counts = (counts + 1e-3 * len(z) / POINTS) / (len(z) * 1.001)
    return points, counts


def place(
    f: Function, found: tuple[Side, ...], z: np.ndarray, weight: np.ndarray, *, ticks: int, spikes: float, pieces: int,
    scaling: str = "unit",
) -> Code:  # fmt: skip
    """The neurons of units with points ``z`` and weights [g, u]; decoders are those of ideal lines.

    ``pieces`` neurons a side. Where f levels off, a piece is at full rate, one spike a tick, from its upper corner on;
    elsewhere gains give ``spikes`` a frame at the end of the unit's range (``scaling`` "unit") or of all units' range
    ("layer", "kim"). A side that a unit never visits gets no neurons.
    """
    rows: list[tuple[int, int, float, float, float]] = []
    for unit, side in itertools.product(range(z.shape[1]), found):
        reach = side.sign * (z[-1, unit] if side.sign > 0 else z[0, unit])
        if reach <= side.zero:
            continue
        x, w, wanted = side.sign * z[:, unit], weight[:, unit], side.sign * f(z[:, unit])
        wanted = np.maximum(wanted, 0.0)
        if side.levels:
            corners, decoders = _levels(side, f, x, w, wanted, pieces)
            gains = ticks / np.diff(corners)
        else:
            corners, decoders = _open(side, x, w, wanted, reach, pieces)
            span = (side.reach if scaling in ("layer", "kim") else reach) - corners[0]
            gains = np.full(len(corners), spikes / span)
        rows += [(unit, side.sign, gain, corner, side.sign * decoder / gain)
                 for gain, corner, decoder in zip(gains, corners, decoders, strict=False)]  # fmt: skip
    if not rows:
        raise UnsupportedError(
            "its activations are zero on all calibration data; there is nothing to fire for.",
            place="calibration data",
            hint="Give samples like those that the network was trained on.",
        )
    unit, sign, gain, offset, decoder = (np.array(column) for column in zip(*rows, strict=True))
    return Code(unit, sign, gain, offset, decoder)


def _levels(
    side: Side, f: Function, x: np.ndarray, w: np.ndarray, wanted: np.ndarray, pieces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Corners [pieces + 1] and slopes [pieces] of clipped lines. Of what fits equally well, the widest whose levels
    don't add up to more than f reaches: a unit that hardly moves needs no more spikes than another for its step."""
    ends = np.linspace(side.zero, side.reach, 400)
    near = ends[np.abs(f(side.sign * ends)) <= 0.99 * side.top]
    last = float(near[-1]) if len(near) else side.reach
    candidates = np.linspace(side.zero, last, CORNERS if pieces < 3 else CORNERS // 2 + 1)
    first = [(0,)] if side.fixed else [(i,) for i in range(len(candidates) - pieces)]
    combos = np.array([(*a, *more) for a in first
                       for more in itertools.combinations(range(a[0] + 1, len(candidates)), pieces)])  # fmt: skip
    corners = candidates[combos]
    low, width = corners[:, None, :-1], np.diff(corners)[:, None]
    basis = np.clip((x[None, :, None] - low) / width, 0.0, 1.0)
    levels, error = _least_squares(basis, w, wanted)
    bad = (levels < 0).any(axis=1) | (levels.sum(axis=1) > 1.05 * side.top)
    error = np.where(bad, np.inf, error)
    if not np.isfinite(error).any():
        best = len(error) - 1
    else:
        good = error <= error.min() * 1.01 + 1e-4 * side.top
        best = int(np.argmax(np.where(good, corners[:, -1], -np.inf)))
    return corners[best], np.maximum(levels[best], 0.0) / np.diff(corners[best])


def _open(
    side: Side, x: np.ndarray, w: np.ndarray, wanted: np.ndarray, reach: float, pieces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Corners and slopes [pieces] of lines that don't end."""
    if pieces == 1 and side.fixed:
        basis = np.maximum(x - side.zero, 0.0)[None, :, None]
        slopes, _ = _least_squares(basis, w, wanted)
        return np.array([side.zero]), slopes[0]
    candidates = np.linspace(side.zero, reach, CORNERS, endpoint=False)
    combos = np.array(list(itertools.combinations(range(CORNERS), pieces)))
    combos = combos[combos[:, 0] == 0] if side.fixed else combos
    corners = candidates[combos]
    slopes, error = _least_squares(np.maximum(x[None, :, None] - corners[:, None], 0.0), w, wanted)
    best = int(np.argmin(error))
    return corners[best], slopes[best]


def _least_squares(basis: np.ndarray, w: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors [c, k] and weighted root mean square errors [c] for each basis [c, g, k]."""
    weighted = basis * w[:, None]
    gram = np.einsum("cgk,cgl->ckl", weighted, basis)
    size = gram.trace(axis1=1, axis2=2)[:, None, None] / basis.shape[2]
    gram = gram + np.eye(basis.shape[2]) * (RIDGE * size + 1e-12)
    factors = np.linalg.solve(gram, np.einsum("cgk,g->ck", weighted, wanted)[..., None])[..., 0]
    error = np.einsum("cgk,ck->cg", basis, factors) - wanted
    return factors, np.sqrt(error**2 @ w)


def measure(code: Code, integrator: Integrator, z: np.ndarray) -> np.ndarray:
    """Spikes a frame [g, n] of each neuron at constant z [g, u], run on the target's own neuron.

    The first frame isn't counted: it has the membrane's way from its start.
    """
    largest = np.maximum(np.abs(z).max(axis=0), 1e-9)[code.unit]
    ticks, gain = integrator.ticks, code.gain / integrator.ticks
    n = code.neurons
    net = make(
        ticks=ticks, dt_s=1.0, beta=integrator.beta, threshold=1.0, start=integrator.start, reset=integrator.reset,
        floor=integrator.floor, ceiling=integrator.ceiling, W_in=np.eye(n) * (gain * code.sign * largest)[:, None],
        bias=integrator.bias - gain * code.offset, largest_input=1.0, projections=[], keep=0.0,
        populations=[("neurons", n)],
    )  # fmt: skip
    x = np.rint(z[:, code.unit] / largest / net.in_scale).astype(np.int64)
    counts = simulate(net, np.repeat(x[:, None], FRAMES + 1, axis=1), np.ones((len(z), FRAMES + 1), bool)).counts
    return counts[:, 1:].mean(axis=1)


def decode(
    code: Code, rates: np.ndarray, z: np.ndarray, weight: np.ndarray, f: Function, *, common: bool = False
) -> tuple[Code, Curves]:
    """The code with decoders by least squares on measured rates, and its curves. ``common``: one decoder for all."""
    wanted = f(z)
    decoder, decoded = np.zeros(code.neurons), np.zeros_like(z)
    if common:
        column, share = rates.T.reshape(1, -1, 1), weight.T[code.unit].ravel()
        factors, _ = _least_squares(column, share, wanted.T[code.unit].ravel())
        decoder[:] = factors[0, 0]
        np.add.at(decoded.T, code.unit, rates.T * factors[0, 0])
        return _finished(code, rates, z, weight, wanted, decoder, decoded)
    for unit in range(z.shape[1]):
        mine = np.nonzero(code.unit == unit)[0]
        if len(mine):
            factors, _ = _least_squares(rates[None, :, mine], weight[:, unit], wanted[:, unit])
            decoder[mine] = factors[0]
            decoded[:, unit] = rates[:, mine] @ factors[0]
    return _finished(code, rates, z, weight, wanted, decoder, decoded)


def _finished(
    code: Code, rates: np.ndarray, z: np.ndarray, weight: np.ndarray, wanted: np.ndarray, decoder: np.ndarray,
    decoded: np.ndarray,
) -> tuple[Code, Curves]:  # fmt: skip
    error = np.sqrt(((decoded - wanted) ** 2 * weight).sum(axis=0))
    return replace(code, decoder=decoder), Curves(z, weight, rates, wanted, decoded, error)


def shifted(code: Code, by: int) -> Code:
    """The code of a layer whose first unit is unit ``by`` of the network."""
    return replace(code, unit=code.unit + by)


def joined(codes: Sequence[Code]) -> Code:
    """Codes of layers as one."""
    return Code(*(np.concatenate([getattr(code, f.name) for code in codes]) for f in fields(Code)))
