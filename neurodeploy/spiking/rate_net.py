"""A spiking network whose synapses have the time constants of the network that it stands for.

A frame is a step. With ``alpha = (1 - leak)^(1 / ticks)`` a synapse keeps ``1 - leak`` a frame, as the unit does. So
the filtered spikes of a unit's neurons, each spike worth ``ticks (1 - alpha) decoder``, are its state h::

    h  =  sum_k decoder_k ticks (1 - alpha) (alpha-filtered spikes of k),        z = W x + U h + b exactly,

and nothing errs but f (pieces of lines) and the spikes' grain. In a ctrnn cell the filter is the receiver's: its
synapses sum ``W x + U f(z) + b`` and the synaptic current is the state y.

**Delay.** A trained net's step holds h for the whole step; spikes would reach their receivers within it, too early by
half a frame. Seen from the middle of one frame, the net's kernel ``leak (1 - leak)^k`` after k + 1 frames has the mean
lag ``ticks / leak``, the synapse ``delay + alpha / (1 - alpha)``. So ::

    delay = ticks / leak - alpha / (1 - alpha)        (half a frame for small leaks, one frame for leak = 1)

makes the first moments equal: the error of what remains is second order in how far the state moves in a frame. It is
no whole number: with ``delay`` "matched", units take the two whole delays around it in turn, so that their mean is
right; with "early" all take the lower one, so that no frame's spikes miss the next frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.hardware import Neuromorphic
from neurodeploy.spiking.net import Projection, SpikingNet, make, with_readout
from neurodeploy.spiking.tuning import Code, Integrator
from neurodeploy.spiking.units import Units

#: Largest leak that the readout's filter follows: with leak 1 it would hold the last tick alone.
TRACE_LEAK = 0.9
#: Most time constants that synapses of one network have.
CLASSES = 8
DELAYS = ("matched", "early", "none")
SCALINGS = ("unit", "layer", "kim")


@dataclass(frozen=True)
class Knobs:
    """What sets accuracy and cost: ``ticks`` a frame; ``spikes`` a frame at the end of a unit's range where f doesn't
    level off; ``pieces``, neurons for each sign of z; ``margin``, how many spikes beyond one a membrane remembers
    (None: no limits), ``beta``, what it keeps a tick; ``delay``: ``"matched"``, ``"early"`` or ``"none"``;
    ``scaling``."""

    ticks: int
    spikes: float
    pieces: int = 1
    margin: float | None = 0.25
    beta: float = 1.0
    delay: str = "matched"
    scaling: str = "unit"

    def integrator(self, target: Neuromorphic) -> Integrator:
        """The target's neuron with these knobs (scaling "kim": reset to zero, as there)."""
        reset = "zero" if self.scaling == "kim" else reset_of(target)
        return Integrator(self.ticks, reset, self.beta, self.margin)


def reset_of(target: Neuromorphic) -> str:
    """The target's reset; ``"subtract"`` where it doesn't say."""
    return target.neuron.reset if target.neuron else "subtract"


def alpha_of(leak: np.ndarray, ticks: int) -> np.ndarray:
    """What a synapse keeps a tick, so that it keeps 1 - leak a frame."""
    return np.maximum(1.0 - leak, 0.0) ** (1.0 / ticks)


def matched_delay(leak: float, ticks: int) -> float:
    """Ticks of delay with which a spike's mean lag is that of the network's step; see the module."""
    alpha = float(alpha_of(np.asarray(leak), ticks))
    return ticks / leak - alpha / (1.0 - alpha)


def delays(unit: np.ndarray, leak: float, ticks: int, kind: str) -> np.ndarray:
    """Ticks of delay [n] for the spikes of neurons of these units, at least 1."""
    if kind == "none":
        return np.ones(len(unit), int)
    wanted = matched_delay(leak, ticks)
    whole = int(np.floor(wanted + 1e-6))
    part = 0.0 if kind == "early" else max(wanted - whole, 0.0)
    late = np.floor((unit + 1) * part + 1e-9) > np.floor(unit * part + 1e-9)
    return np.maximum(whole + late, 1)


def keep_of(units: Units, ticks: int) -> np.ndarray:
    """What a unit's readout trace keeps a tick."""
    return alpha_of(np.minimum(units.leak, TRACE_LEAK), ticks)


@dataclass(frozen=True)
class Built:
    """A network of neurons, not read out yet, and ``reader`` [neurons, units]: ``traces @ reader`` are the states."""

    net: SpikingNet
    reader: np.ndarray


def build(
    units: Units, code: Code, knobs: Knobs, target: Neuromorphic, largest_input: float, dt_s: float
) -> Built:  # fmt: skip
    """The network of neurons for cells whose state is behind f."""
    ticks, integrator = knobs.ticks, knobs.integrator(target)
    alpha = alpha_of(units.leak, ticks)
    pull = code.gain * code.sign / ticks  # membrane, a tick, for 1 of z
    spike = code.decoder * (1.0 - alpha[code.unit]) * ticks  # of a state, for one spike
    weights = pull[:, None] * units.U[np.ix_(code.unit, code.unit)] * spike
    limit = target.neuron.max_delay_ticks if target.neuron else 1
    leak_of, classes = grouped(units.leak)
    projections = []
    for group, leak in enumerate(classes):
        mine = leak_of[code.unit] == group
        lags = np.minimum(delays(code.unit, float(leak), ticks, knobs.delay), limit)
        for lag in np.unique(lags[mine]):
            projections.append(Projection(f"tau{group}_delay{lag}", weights * (mine & (lags == lag)),
                                          float(alpha_of(leak, ticks)), int(lag)))  # fmt: skip
    keep = keep_of(units, ticks)[code.unit]
    net = make(
        ticks=ticks, dt_s=dt_s, beta=integrator.beta, threshold=1.0, start=integrator.start, reset=integrator.reset,
        floor=integrator.floor, ceiling=integrator.ceiling, W_in=pull[:, None] * units.W[code.unit],
        bias=pull * (units.bias - units.theta)[code.unit] - code.gain * code.offset / ticks + integrator.bias,
        largest_input=largest_input, projections=projections, keep=keep, populations=populations(units, code),
    )  # fmt: skip
    reader = np.zeros((code.neurons, units.size))
    reader[np.arange(code.neurons), code.unit] = code.decoder * ticks * (1.0 - keep)
    return Built(net, reader)


def grouped(leak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which class of time constants each unit's synapses have [n], and the classes' leaks: all where they are few,
    else :data:`CLASSES` of them, equally many units in each, at their geometric mean."""
    values, which = np.unique(leak, return_inverse=True)
    if len(values) <= CLASSES:
        return which, values
    which = np.empty(len(leak), int)
    which[np.argsort(leak, kind="stable")] = np.arange(len(leak)) * CLASSES // len(leak)
    return which, np.array([np.exp(np.log(leak[which == k]).mean()) for k in range(CLASSES)])


def populations(units: Units, code: Code) -> list[tuple[str, int]]:
    """Layers with their numbers of neurons."""
    return [(name, int(((code.unit >= a) & (code.unit < b)).sum())) for name, a, b, _ in units.layers]


def read_out(built: Built, V: np.ndarray, c: np.ndarray) -> SpikingNet:
    """The network with readout ``V`` [outputs, units] and ``c`` of states."""
    return with_readout(built.net, V @ built.reader.T, c)
