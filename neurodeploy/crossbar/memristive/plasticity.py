"""Spike-timing-dependent plasticity on a crossbar of memristive devices, by pulses in time slots.

The scheme is Snider's (NANOARCH 2008, 85-92; SciDAC Review, 2008): pulses of different widths, in slots that all
neurons share, so that a device changes where pulses coincide and what it would have to remember of both spikes is kept
by the neurons. Its parameters, the neurons and the experiment beside it are ours: ``docs/crossbar/memristive.md`` says
what follows the publications. A frame has three slots:

- *talk*: inputs that spike drive their rows for the whole slot, neurons hold their columns at ground and integrate;
- *up*: inputs pulse +1 for a width that has decayed since their last spike, neurons that fire now pulse -1 for the
  whole slot: 2 across the device while both last;
- *down*: neurons pulse +1 for a width that has decayed since their last spike, inputs that spike now pulse -1 for the
  whole slot: -2 while both last.

Voltages count in half pulses, time in slots and frames: a device is described by how much faster it changes under two
half pulses than under one. Its state w in 0..1 follows ::

    dw/dt = rate sinh(sharp V) (1 - w)    V > 0
    dw/dt = rate sinh(sharp V) w          V < 0
    G = off + (1 - off) w

So no rule of plasticity stands anywhere: the curve over the spikes' distance is what pulses leave in the device, and a
single pulse (half selected) leaves something too, ``2 cosh(sharp)`` times slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import DataError

Array = np.ndarray


@dataclass(frozen=True)
class Synapse:
    """A device: its change a slot under two half pulses (``step``, of what is left to its limit, so that a whole slot
    leaves ``exp(-step)`` of that), ``sharp`` and the conductance ``off`` of w = 0 in parts of that of w = 1."""

    step: float = 0.05
    sharp: float = 5.0
    off: float = 0.05

    def __post_init__(self) -> None:
        for name, low, high in (("step", 0.0, 10.0), ("sharp", 0.0, 50.0), ("off", -1e-300, 1.0)):
            if not low < getattr(self, name) < high:
                raise DataError(
                    f"{name} is {getattr(self, name)}; needed {max(low, 0):g} to {high:g}.", place="synapse"
                )

    def speed(self, volts: float) -> float:
        """Share of what is left that changes in a slot, to first order, by the device's voltage in half pulses."""
        return self.step * float(np.sinh(self.sharp * volts) / np.sinh(2 * self.sharp))


@dataclass(frozen=True)
class Pulses:
    """Time constants in frames of the widths, ``tau_up`` (inputs) and ``tau_down`` (neurons), the widest pulses in
    slots, and the clock ticks of a slot, to which widths are rounded."""

    tau_up: float = 2.0
    tau_down: float = 20.0
    widest_up: float = 1.0
    widest_down: float = 0.4
    ticks: int = 64

    def __post_init__(self) -> None:
        widths = (self.widest_up, self.widest_down)
        if not all(0 <= w <= 1 for w in widths) or not min(self.tau_up, self.tau_down) > 0 or self.ticks < 1:
            raise DataError(
                f"{self}; needed time constants above 0, widths in 0..1 slots and 1 tick or more.", place="pulses"
            )

    def width(self, trace: Array, widest: float) -> Array:
        """Pulse widths in slots of traces in 0..1."""
        return np.rint(trace * widest * self.ticks) / self.ticks


class Synapses:
    """Devices ``w`` [chips, inputs, neurons] of one kind. ``speed_spread``, ``conductance_spread``: standard deviations
    of the logarithms of each device's two speeds, and of its conductance. ``stuck``: share that never changes, half of
    it off, half on."""

    def __init__(
        self, synapse: Synapse, w: Array, *, speed_spread: float = 0.0, conductance_spread: float = 0.0,
        stuck: float = 0.0, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        if w.ndim != 3 or not ((w >= 0) & (w <= 1)).all():
            raise DataError(
                f"w has shape {list(w.shape)} or values that aren't in 0..1; needed [chips, inputs, neurons].",
                place="crossbar of synapses",
            )
        for name, value, most in (
            ("speed_spread", speed_spread, 3), ("conductance_spread", conductance_spread, 3), ("stuck", stuck, 1),
        ):  # fmt: skip
            if not 0 <= value <= most:
                raise DataError(f"{name} is {value}; needed 0 to {most}.", place="crossbar of synapses")
        rng = np.random.default_rng(0) if rng is None else rng
        self.synapse = synapse
        self.up, self.down = (np.exp(speed_spread * rng.normal(size=w.shape)) for _ in range(2))
        self.scale = np.exp(conductance_spread * rng.normal(size=w.shape))
        faulty = rng.random(w.shape)
        self.moves = faulty >= stuck
        self.w = np.where(self.moves, w, (faulty < stuck / 2).astype(float))

    @property
    def conductance(self) -> Array:
        """In parts of a nominal device's at w = 1."""
        return self.scale * (self.synapse.off + (1 - self.synapse.off) * self.w)

    def pulse(self, row: float, row_width: Array, column: float, column_width: Array) -> None:
        """Pulses that begin together: ``row`` half pulses for ``row_width`` [chips, inputs] slots on the rows,
        ``column`` for ``column_width`` [chips, neurons] on the columns. A device sees the difference."""
        rows, columns = row_width[:, :, None], column_width[:, None, :]
        both = np.minimum(rows, columns)
        self._change(row - column, both)
        self._change(row, rows - both)
        self._change(-column, columns - both)

    def _change(self, volts: float, slots: Array) -> None:
        speed = self.synapse.speed(volts)
        if speed == 0 or not slots.any():
            return
        kept = np.exp(-abs(speed) * (self.up if speed > 0 else self.down) * slots)
        new = 1 - (1 - self.w) * kept if speed > 0 else self.w * kept
        self.w = np.where(self.moves, new, self.w)


@dataclass(frozen=True)
class Neurons:
    """Leaky integrators of their columns' charge, which keep the share ``keep`` of it a frame; that furthest above its
    threshold fires and empties all. A threshold rises by ``rise`` as its neuron fires, so that none wins always; of
    what it is above ``threshold`` it keeps the share ``hold`` a frame."""

    keep: float = 0.7
    threshold: float = 2.0
    rise: float = 0.03
    hold: float = 0.999


class Layer:
    """A crossbar, its inputs' and neurons' traces, potentials and thresholds: :meth:`frame` runs one frame."""

    def __init__(self, devices: Synapses, pulses: Pulses, neurons: Neurons) -> None:
        chips, inputs, count = devices.w.shape
        self.devices, self.pulses, self.neurons = devices, pulses, neurons
        self.sent, self.fired = np.zeros((chips, inputs)), np.zeros((chips, count))
        self.charge, self.threshold = np.zeros((chips, count)), np.full((chips, count), neurons.threshold)

    def frame(self, spikes: Array, *, learn: bool = True, force: Array | None = None) -> Array:
        """One frame with input ``spikes`` [chips, inputs]: who fired [chips, neurons]; ``force`` fires if given."""
        spikes = spikes.astype(np.float64)
        p, n = self.pulses, self.neurons
        whole = np.zeros_like(self.charge)
        self.charge = n.keep * self.charge + (spikes[:, None, :] @ self.devices.conductance)[:, 0]
        fires = self._winners() if force is None else np.asarray(force, bool)
        self.sent = np.maximum(self.sent * np.exp(-1 / p.tau_up), spikes)
        self.fired = self.fired * np.exp(-1 / p.tau_down)
        if learn:
            self.devices.pulse(1.0, spikes, 0.0, whole)
            self.devices.pulse(1.0, p.width(self.sent, p.widest_up), -1.0, fires.astype(float))
            self.devices.pulse(-1.0, spikes, 1.0, p.width(self.fired, p.widest_down))
            self.threshold = n.threshold + n.hold * (self.threshold - n.threshold) + n.rise * fires
        self.fired = np.maximum(self.fired, fires)
        self.charge = np.where(fires.any(axis=1, keepdims=True), 0.0, self.charge)
        return fires

    def _winners(self) -> Array:
        over = self.charge - self.threshold
        first = over.argmax(axis=1)
        fires = np.zeros(over.shape, bool)
        rows = np.arange(len(over))
        fires[rows, first] = over[rows, first] > 0
        return fires


def window(synapse: Synapse, pulses: Pulses, delays: Array, w0: float = 0.5) -> Array:
    """What one pair of spikes changes in a device at ``w0``, by ``delays`` in frames: of the neuron's spike after the
    input's. The device sees every frame from before the first spike until widths have decayed."""
    delays = np.asarray(delays)
    if delays.ndim != 1 or not np.issubdtype(delays.dtype, np.integer):
        raise DataError("delays are whole numbers of frames [n].", place="STDP window")
    chips = len(delays)
    layer = Layer(Synapses(synapse, np.full((chips, 1, 1), w0)), pulses, Neurons())
    first = int(np.abs(delays).max(initial=0))
    silent = int(10 * max(pulses.tau_up, pulses.tau_down))
    for frame in range(2 * first + silent + 1):
        layer.frame((np.full((chips, 1), frame) == first), force=np.equal(frame, first + delays)[:, None])
    return layer.devices.w[:, 0, 0] - w0


def without_coincidence(synapse: Synapse, pulses: Pulses, w0: float = 0.5) -> float:
    """What a pair of spikes changes that are so far apart that their pulses never meet."""
    apart = int(20 * max(pulses.tau_up, pulses.tau_down))
    return float(window(synapse, pulses, np.array([apart]), w0)[0])
