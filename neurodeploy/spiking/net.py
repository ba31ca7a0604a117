"""A spiking network: integrate-and-fire neurons on a clock of ticks, and what they compute.

A *frame* is one step of the network it was made of and lasts ``ticks`` ticks. In every tick, for all neurons at once::

    syn_p <- alpha_p syn_p + W_p s(t - delay_p)      every projection p has its own synaptic current, on each neuron
    mem   <- beta mem + (syn_0 + syn_1 + ...) + J    J: the frame's input current (or it enters syn_0: input_to)
    mem   <- min(max(mem, floor), ceiling)           only where there are limits
    s(t)  <- 1 if mem > threshold else 0
    mem   <- mem - threshold s(t)                    reset "subtract"; "zero": mem <- 0 where s(t)
    trace <- keep trace + s(t)                       filtered spikes, which the readout takes

This is the discrete current-based leaky integrate-and-fire neuron of snnTorch (``Synaptic``), Norse and NIR
(``CubaLIF``). ``beta = 1`` is an integrator without leak, ``alpha = 0`` a synapse without memory.

**Everything is float32, and exact.** Inputs, weights, biases and spikes lie on dyadic grids, and every sum of them is
below 2^24 grid steps, whatever spikes: so no sum is ever rounded, and its order doesn't matter. What remains is
elementwise, in the order written above, each operation rounded once. A simulator that computes in IEEE float32 without
contracting ``a b + c`` gives the same bits. Scores are whole numbers: ``round(trace 2^trace_bits)`` times ``readout``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from neurodeploy.errors import UnsupportedError

#: Grid steps that float32 adds exactly.
EXACT = 2.0**24
#: Largest input in grid steps: 10 bits and a sign.
INPUT_LIMIT = 1023
RESETS = ("subtract", "zero")
INPUTS_TO = ("membrane", "synapse")

Vector = np.ndarray | float


@dataclass(frozen=True)
class Projection:
    """Synapses that share a time constant: ``weights`` f32[n, n] (``[to, from]``), ``alpha`` f32[n] (the part of its
    synaptic current that a neuron keeps a tick) and ``delay`` in ticks, at least 1: a spike arrives that much later."""

    name: str
    weights: np.ndarray
    alpha: np.ndarray | float
    delay: int = 1


@dataclass(frozen=True)
class SpikingNet:
    """One network of ``n`` neurons; arrays are float32 unless said otherwise.

    ``ticks`` a frame, ``dt_s`` seconds a tick. ``beta``, ``threshold``, ``start`` (the membrane at rest; threshold / 2
    rounds where 0 would cut), ``floor``, ``ceiling`` (infinite for none), ``keep``: ``[n]``. ``W_in`` [n, inputs] and
    ``bias`` [n] give ``J = W_in x + bias``, where real x = ``in_scale`` (a power of two) times a whole number of at
    most 10 bits. ``readout`` i16[outputs, n] and ``readout_bias`` i32[outputs] give scores in steps of ``out_scale``.
    ``populations``: (name, first neuron, one past its last), which cover all neurons in order.
    """

    ticks: int
    dt_s: float
    beta: np.ndarray
    threshold: np.ndarray
    start: np.ndarray
    reset: str
    floor: np.ndarray
    ceiling: np.ndarray
    W_in: np.ndarray
    bias: np.ndarray
    in_scale: float
    input_to: str
    projections: tuple[Projection, ...]
    keep: np.ndarray
    trace_bits: int
    readout: np.ndarray
    readout_bias: np.ndarray
    out_scale: float
    populations: tuple[tuple[str, int, int], ...]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(self.beta)

    @property
    def limited(self) -> bool:
        """Whether any membrane has limits."""
        return bool(np.isfinite(self.floor).any() or np.isfinite(self.ceiling).any())

    @property
    def synapses(self) -> int:
        """Non-zero recurrent weights."""
        return sum(int(np.count_nonzero(p.weights)) for p in self.projections)

    def current(self, x: np.ndarray) -> np.ndarray:
        """Input currents J f32 ``[..., n]`` of quantized inputs ``[..., inputs]`` (whole numbers, cut at 10 bits)."""
        real = np.clip(x, -INPUT_LIMIT, INPUT_LIMIT).astype(np.float64) * self.in_scale
        return (real @ self.W_in.T.astype(np.float64) + self.bias).astype(np.float32)

    def scores(self, trace: np.ndarray) -> np.ndarray:
        """Scores i32 ``[..., outputs]`` of traces f32 ``[..., n]``."""
        whole = np.rint(np.minimum(trace.astype(np.float64) * 2.0**self.trace_bits, 32767)).astype(np.int64)
        return (whole @ self.readout.T.astype(np.int64) + self.readout_bias).astype(np.int32)

    def to_bytes(self) -> bytes:
        """As ``.npz``."""
        arrays = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.name not in _NESTED}
        for i, p in enumerate(self.projections):
            post, pre = np.nonzero(p.weights)
            arrays |= {f"p{i}_name": np.asarray(p.name), f"p{i}_alpha": p.alpha, f"p{i}_delay": np.asarray(p.delay),
                       f"p{i}_post": post.astype(np.int32), f"p{i}_pre": pre.astype(np.int32),
                       f"p{i}_w": p.weights[post, pre]}  # fmt: skip
        arrays["population_names"] = np.array([name for name, *_ in self.populations])
        arrays["population_ends"] = np.array([stop for *_, stop in self.populations], np.int32)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SpikingNet:
        """Read what :meth:`to_bytes` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        plain = {f.name: arrays[f.name] for f in fields(cls) if f.name not in _NESTED}
        n = len(plain["beta"])
        projections = []
        for i in range(sum(key.endswith("_delay") for key in arrays)):
            weights = np.zeros((n, n), np.float32)
            weights[arrays[f"p{i}_post"], arrays[f"p{i}_pre"]] = arrays[f"p{i}_w"]
            projections.append(
                Projection(str(arrays[f"p{i}_name"]), weights, arrays[f"p{i}_alpha"], int(arrays[f"p{i}_delay"]))
            )
        ends = arrays["population_ends"].tolist()
        names = [str(name) for name in arrays["population_names"]]
        populations = tuple(zip(names, [0, *ends[:-1]], ends, strict=True))
        scalars = {key: array.item() if array.ndim == 0 else array for key, array in plain.items()}
        return cls(**scalars, projections=tuple(projections), populations=populations)


_NESTED = ("projections", "populations")


@dataclass(frozen=True)
class Activity:
    """What a run gave. ``traces`` f32[batch, frames, n] after each frame's last tick; ``counts`` i32[batch, frames, n]:
    spikes in each frame; ``raster``: if asked for, bool[batch, frames * ticks, n]. Frames that don't run hold the
    network still and have no spikes."""

    traces: np.ndarray
    counts: np.ndarray
    raster: np.ndarray | None = None

    @property
    def spikes(self) -> float:
        """Mean spikes of a sample."""
        return float(self.counts.sum()) / max(1, len(self.counts))


def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray, *, raster: bool = False) -> Activity:
    """The definition, in NumPy: quantized inputs ``[batch, frames, inputs]``, which frames run ``[batch, frames]``.

    A sample's frames run without a gap from its first. Every simulator must give the same spikes and traces.
    """
    batch, frames = active.shape
    n, f32 = net.neurons, np.float32
    J = net.current(x)
    weights = [p.weights.T.astype(np.float64) for p in net.projections]
    mem = np.broadcast_to(net.start, (batch, n)).copy()
    trace = np.zeros((batch, n), f32)
    syn = [np.zeros((batch, n), f32) for _ in net.projections]
    history = [np.zeros((batch, n), f32)] * max([p.delay for p in net.projections], default=1)
    traces, counts = np.zeros((batch, frames, n), f32), np.zeros((batch, frames, n), np.int32)
    fired_at = np.zeros((batch, frames * net.ticks, n), bool) if raster else None
    for t in range(frames):
        on = active[:, t, None]
        held = (mem, trace, syn, history)
        for tick in range(net.ticks):
            syn = [p.alpha * c + (history[-p.delay].astype(np.float64) @ w).astype(f32)
                   for p, c, w in zip(net.projections, syn, weights, strict=True)]  # fmt: skip
            if net.input_to == "synapse":
                syn[0] = syn[0] + J[:, t]
            mem = net.beta * mem
            if syn:
                total = syn[0]
                for more in syn[1:]:
                    total = total + more
                mem = mem + total
            if net.input_to == "membrane":
                mem = mem + J[:, t]
            if net.limited:
                mem = np.minimum(np.maximum(mem, net.floor), net.ceiling)
            spikes = ((mem > net.threshold) & on).astype(f32)
            mem = mem - net.threshold * spikes if net.reset == "subtract" else np.where(spikes > 0, f32(0), mem)
            trace = net.keep * trace + spikes
            history = [*history[1:], spikes]
            counts[:, t] += spikes.astype(np.int32)
            if fired_at is not None:
                fired_at[:, t * net.ticks + tick] = spikes > 0
        if not on.all():
            mem, trace = np.where(on, mem, held[0]), np.where(on, trace, held[1])
            syn = [np.where(on, new, old) for new, old in zip(syn, held[2], strict=True)]
            history = [np.where(on, new, old) for new, old in zip(history, held[3], strict=True)]
        traces[:, t] = trace
    return Activity(traces, counts, fired_at)


def grid(array: np.ndarray, step: float) -> np.ndarray:
    """Float32, rounded to whole steps of a power of two."""
    return (np.rint(np.asarray(array, np.float64) / step) * step).astype(np.float32)


def step_for(*terms: tuple[np.ndarray, float]) -> float:
    """The finest power of two on which ``sum |w| largest`` stays exact, row by row: terms (weights ``[n, any]``,
    the largest number of *grid steps 1* that multiplies them). Raises :class:`UnsupportedError` for infinite ones."""
    top = sum(np.abs(w).sum(axis=-1) * largest for w, largest in terms)
    entries = sum(w.shape[-1] * largest for w, largest in terms)
    reach = float(np.max(top, initial=0.0))
    if not np.isfinite(reach):
        raise UnsupportedError("a weight is not finite.", place="spiking network", hint="Check the network's weights.")
    room = EXACT - entries  # each weight may round up by half a step
    if room <= EXACT / 2:
        raise UnsupportedError(
            f"a neuron has {entries:.0f} input steps; float32 adds up to {EXACT / 2:.0f} of them exactly.",
            place="spiking network",
            hint="Use a smaller network.",
        )  # fmt: skip
    return float(2.0 ** np.ceil(np.log2(max(reach, 2.0**-100) / room)))


def make(
    *, ticks: int, dt_s: float, beta: Vector, threshold: Vector, W_in: np.ndarray, bias: np.ndarray,
    largest_input: float, projections: Sequence[Projection], keep: Vector,
    populations: Sequence[tuple[str, int]], start: Vector | None = None, reset: str = "subtract",
    floor: Vector | None = None, ceiling: Vector | None = None, input_to: str = "membrane",
    readout: np.ndarray | None = None, readout_bias: np.ndarray | None = None,
) -> SpikingNet:  # fmt: skip
    """A network from real numbers: everything put on its grid.

    ``largest_input``: the largest \\|x\\|; ``populations``: (name, size); ``readout`` [outputs, n] acts on traces.
    Raises :class:`UnsupportedError` where sums can't be exact.
    """
    n = len(bias)
    in_scale = float(2.0 ** np.ceil(np.log2(max(largest_input, 2.0**-60) / INPUT_LIMIT)))
    in_step = step_for((W_in * 1.0, float(INPUT_LIMIT)), (np.asarray(bias)[:, None] / in_scale, 1.0))
    weighted = [replace(p, weights=grid(p.weights, step_for((p.weights, 1.0))), alpha=_vector(p.alpha, n))
                for p in projections]  # fmt: skip
    rows = np.cumsum([0, *(size for _, size in populations)]).tolist()
    if rows[-1] != n:
        raise ValueError(f"populations have {rows[-1]} neurons, the network {n}")
    made = SpikingNet(
        ticks=ticks, dt_s=dt_s, beta=_vector(beta, n), threshold=_vector(threshold, n),
        start=_vector(0.0 if start is None else start, n), reset=reset,
        floor=_vector(-np.inf if floor is None else floor, n),
        ceiling=_vector(np.inf if ceiling is None else ceiling, n),
        W_in=grid(W_in, in_step), bias=grid(bias, in_step * in_scale), in_scale=in_scale, input_to=input_to,
        projections=tuple(weighted), keep=_vector(keep, n), trace_bits=0,
        readout=np.zeros((0, n), np.int16), readout_bias=np.zeros(0, np.int32), out_scale=1.0,
        populations=tuple((name, a, b) for (name, _), a, b in zip(populations, rows[:-1], rows[1:], strict=True)),
    )  # fmt: skip
    if readout is None:
        return made
    return with_readout(made, readout, np.zeros(len(readout)) if readout_bias is None else readout_bias)


def with_readout(net: SpikingNet, readout: np.ndarray, bias: np.ndarray) -> SpikingNet:
    """The network with a readout [outputs, n] and bias [outputs] of real numbers that act on traces, in whole numbers:
    the finest scale whose accumulator of 32 bits can't overflow."""
    largest = float(np.max(trace_limit(net)))
    bits = int(np.floor(np.log2(32767 / largest)))
    slope = readout / 2.0**bits
    top = float((np.abs(slope).sum(axis=1) * 32767 + np.abs(bias)).max(initial=0.0))
    room = 2.0**31 - 1 - (net.neurons + 1) * 32767
    scale = max(top / room, float(np.abs(slope).max(initial=0.0)) / 32767, 1e-30)
    return replace(
        net, trace_bits=bits, readout=np.rint(slope / scale).astype(np.int16),
        readout_bias=np.rint(bias / scale).astype(np.int32), out_scale=float(np.float32(scale)),
    )  # fmt: skip


def trace_limit(net: SpikingNet, frames: int = 512) -> np.ndarray:
    """The largest trace [n]: a spike every tick for ever, or for ``frames`` frames where a trace forgets nothing."""
    keep = net.keep.astype(np.float64)
    most = float(frames * net.ticks)
    return np.minimum(1.0 / np.maximum(1.0 - keep, 1.0 / most), most) + 1e-3


def _vector(value: Vector, n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, np.float32), (n,)).copy()
