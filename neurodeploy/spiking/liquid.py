"""Liquid-state machine: a reservoir's units as integrate-and-fire neurons in whole numbers, and what they compute.

Unit i of the reservoir becomes neuron i and, where its activation has two signs, neuron n + i for the negative part.
A frame (one step of the network) lasts ``ticks`` ticks. In each tick, with ``round(x) = floor(x + 1/2)``::

    I  <- round(I synapse / 2^15)                       synaptic current
    v  <- clip(round(v membrane / 2^15) + I + J, -threshold, 2 threshold)
    q  <- round(q synapse / 2^15)                       trace of the neuron's own spikes, for the readout
    neurons with v >= threshold spike:  I_i += W_ij for every spike of j;  v <- v - threshold;  q <- q + trace_step

J is the frame's input current, ``round(W_in x + b)``; neuron n + i gets -J_i, and spikes of n + j count negative.
With ``synapse = (1 - leak)^(1/ticks)`` the trace follows the reservoir's leaky state, which is the conversion: a unit's
rate is its activation, cut off at -1 and 1, and its trace is its state. (A soft reset keeps the rate's rounding error
in v; the clip keeps a saturated neuron from firing on.) All numbers are integers below 2^31, so that sums don't depend
on their order and every simulator agrees exactly.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.fixed import multiplier

UNIT_BITS = 14
DECAY_BITS = 15
TRACE_BITS = 14
CURRENT_LIMIT = 1 << 29


@dataclass(frozen=True)
class Constants:
    """What is fitted: ticks a frame, threshold in units of the activation, part of v kept a tick, ridge penalty."""

    ticks: int
    threshold: float
    membrane: float
    ridge: float


@dataclass(frozen=True)
class Liquid:
    """A liquid in whole numbers.

    ``W_in`` [n, inputs] and ``bias`` [n] give the input current in steps of which ``in_mult``, ``in_pre`` make
    membrane steps (a ``requantize``); ``W`` [n, n]; ``signed``: two neurons a unit. ``readout`` [outputs, neurons]
    and ``readout_bias`` [outputs] act on the traces and give scores in steps of ``out_scale``; ``in_scale`` is the
    input's. Empty readout: not fitted yet.
    """

    ticks: int
    threshold: int
    membrane: int
    synapse: int
    trace_step: int
    signed: bool
    W_in: np.ndarray
    bias: np.ndarray
    in_mult: int
    in_pre: int
    in_scale: float
    W: np.ndarray
    readout: np.ndarray
    readout_bias: np.ndarray
    out_scale: float

    @property
    def neurons(self) -> int:
        """Neurons: one or two a unit."""
        return len(self.bias) * (2 if self.signed else 1)

    @property
    def weights(self) -> np.ndarray:
        """Weights of all neurons, ``[to, from]``."""
        return np.block([[self.W, -self.W], [-self.W, self.W]]) if self.signed else self.W

    @property
    def trace_limit(self) -> int:
        """The largest value that a trace can reach: it stays where ``q (1 - d) <= step + 1/2``."""
        return trace_limit(self.trace_step, self.synapse)

    def current(self, x: np.ndarray) -> np.ndarray:
        """Input currents J ``[..., neurons]`` of quantized inputs ``[..., inputs]``."""
        total = x.astype(np.int64) @ self.W_in.T.astype(np.int64) + self.bias
        units = ((total << self.in_pre) * self.in_mult + (1 << 31)) >> 32
        return np.concatenate([units, -units], axis=-1) if self.signed else units

    def to_bytes(self) -> bytes:
        """As ``.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{f.name: np.asarray(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Liquid:
        """Read what :meth:`to_bytes` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{key: arrays[key] if arrays[key].ndim else arrays[key].item() for key in arrays.files})


def trace_limit(step: int, synapse: int) -> int:
    """Upper bound of a trace that gets ``step`` every tick and keeps ``synapse / 2^15`` of itself."""
    keep = synapse / (1 << DECAY_BITS)
    return int(np.ceil((step + 0.5) / (1 - keep))) + 1


def decay(x: np.ndarray, kept: int) -> np.ndarray:
    """``round(x kept / 2^15)`` of int64."""
    return (x * kept + (1 << (DECAY_BITS - 1))) >> DECAY_BITS


@dataclass(frozen=True)
class Activity:
    """``traces`` [batch, frames, neurons] after each frame; ``spikes`` [batch, frames, neurons] counted in it;
    ``first`` [batch] spikes in the very first tick."""

    traces: np.ndarray
    spikes: np.ndarray
    first: np.ndarray


def simulate(liquid: Liquid, x: np.ndarray, active: np.ndarray) -> Activity:
    """The dynamics in NumPy: quantized inputs ``[batch, frames, inputs]``, which frames run ``[batch, frames]``.

    The reference that Brian2 and the golden model must equal; also what the constants are fitted with.
    """
    batch, frames = active.shape
    n = liquid.neurons
    half = len(liquid.bias)
    J = liquid.current(x)
    weights = liquid.W.T.astype(np.float64)  # sums stay below 2^53: exact in BLAS
    v, current, trace = (np.zeros((batch, n), np.int64) for _ in range(3))
    traces, spikes = np.zeros((batch, frames, n), np.int64), np.zeros((batch, frames, n), np.int64)
    first = np.zeros(batch, np.int64)
    for t in range(frames):
        on = active[:, t, None]
        for tick in range(liquid.ticks):
            current = decay(current, liquid.synapse)
            v = decay(v, liquid.membrane) + current + J[:, t]
            v = np.clip(v, -liquid.threshold, 2 * liquid.threshold)
            trace = decay(trace, liquid.synapse)
            fired = (v >= liquid.threshold) & on
            sent = fired[:, :half] - fired[:, half:].astype(np.int64) if liquid.signed else fired
            push = (sent.astype(np.float64) @ weights).astype(np.int64)
            current = current + (np.concatenate([push, -push], axis=1) if liquid.signed else push)
            v = v - liquid.threshold * fired
            trace = trace + liquid.trace_step * fired
            spikes[:, t] += fired
            if t == 0 and tick == 0:
                first = fired.sum(axis=1)
        traces[:, t] = trace
    return Activity(traces, spikes, first)


def _check_range(largest: float) -> None:
    if not largest < CURRENT_LIMIT:
        raise UnsupportedError(
            f"the largest current is {largest:.3g} membrane steps; needed below {CURRENT_LIMIT}.",
            place="brian2",
            hint="Its weights or inputs are far out of the activation's range: normalise the inputs.",
        )


def build(
    W: np.ndarray, U: np.ndarray, bias: np.ndarray, leak: float, in_scale: float, amplitude: float, signed: bool,
    constants: Constants,
) -> Liquid:  # fmt: skip
    """The reservoir ``h' = (1 - leak) h + leak f(W x + U h + bias)`` as a liquid without readout.

    A spike in every tick stands for ``|f| = amplitude``; ``in_scale``: real input = integer times scale.
    """
    unit = 1 << UNIT_BITS
    keep = (1.0 - leak) ** (1.0 / constants.ticks)
    synapse = int(round(keep * (1 << DECAY_BITS)))
    step = (1 << UNIT_BITS) / amplitude
    # Largest input weights for which an accumulator of 32 bits can't overflow, whatever the input.
    top = np.abs(W * in_scale) @ np.full(W.shape[1], 32768.0) + np.abs(bias)
    fine = float((2.0**31 - 2**17) / top.max() if top.max() > 0 else 1.0)
    widest = np.abs(W * in_scale).max() * fine
    fine *= min(1.0, 32767.0 / widest) if widest > 0 else 1.0
    _check_range(max(top.max(), np.abs(U).sum(axis=1).max() * amplitude) * step)
    mult, pre = multiplier(step / fine)
    return Liquid(
        ticks=constants.ticks,
        threshold=max(1, round(constants.threshold * unit)),
        membrane=int(round(constants.membrane * (1 << DECAY_BITS))),
        synapse=synapse,
        trace_step=max(1, round((1 - keep) * (1 << TRACE_BITS))),
        signed=signed,
        W_in=np.rint(W * in_scale * fine).astype(np.int16),
        bias=np.rint(bias * fine).astype(np.int32),
        in_mult=mult,
        in_pre=pre,
        in_scale=in_scale,
        W=np.rint(U * (1 - keep) * amplitude * step).astype(np.int32),
        readout=np.zeros((0, 0), np.int16),
        readout_bias=np.zeros(0, np.int32),
        out_scale=1.0,
    )
