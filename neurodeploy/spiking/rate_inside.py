"""Continuous-time cells as neurons: the synapses' filter is the state, in front of the activation.

::

    y' = y + leak (W x + U f(y - theta) + b - y)

A neuron's synaptic current is its unit's y times its gain: input, bias and spikes all enter through the synapse, which
keeps ``(1 - leak)^(1 / ticks)`` a tick, each receiver its own. What must not be filtered, the thresholds theta and the
corners of the pieces, comes from one **clock** neuron that fires every tick, through synapses without memory.

No trace is y, since y is the filter of others' spikes and of the input. So each unit has a pair of **relays** more:
neurons with no synapses onto others, one for each sign of y, whose own rates tell y to the readout.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.hardware import Neuromorphic
from neurodeploy.spiking import tuning
from neurodeploy.spiking.net import Projection, make
from neurodeploy.spiking.rate_net import TRACE_LEAK, Built, Knobs, alpha_of, delays, populations
from neurodeploy.spiking.tuning import Code
from neurodeploy.spiking.units import Units


def relays(states: np.ndarray, knobs: Knobs, target: Neuromorphic) -> Code:
    """Pairs of neurons that tell the states [rows, units]: a spike every tick at the end of a unit's range."""

    def line(y: np.ndarray) -> np.ndarray:
        return y

    points, weight = tuning.grid_of(states)
    found = tuning.sides(line, states, "state")
    code = tuning.place(line, found, points, weight, ticks=knobs.ticks, spikes=float(knobs.ticks), pieces=1)
    rates = tuning.measure(code, knobs.integrator(target), points)
    return tuning.decode(code, rates, points, weight, line)[0]


def build(
    units: Units, code: Code, relay: Code, knobs: Knobs, target: Neuromorphic, largest_input: float, dt_s: float
) -> Built:
    """The network of neurons for a ctrnn cell: those of ``code``, then the relays, then the clock."""
    ticks, integrator = knobs.ticks, knobs.integrator(target)
    every = tuning.joined([code, relay])
    n, working = every.neurons, code.neurons
    unit, pull = every.unit, every.gain * every.sign / ticks
    alpha = alpha_of(units.leak, ticks)[unit]
    theta = np.concatenate([units.theta[code.unit], np.zeros(relay.neurons)])
    direct = -pull * theta - every.gain * every.offset / ticks + integrator.bias
    needed = bool(np.abs(direct).max() > 1e-9)
    total = n + needed
    rows = np.zeros((total, total))
    rows[:n, :working] = (pull * (1.0 - alpha))[:, None] * units.U[np.ix_(unit, code.unit)] * code.decoder * ticks
    limit = target.neuron.max_delay_ticks if target.neuron else 1
    lags = np.minimum(delays(np.append(unit, 0)[:total], float(np.median(units.leak)), ticks, knobs.delay), limit)
    full_alpha = np.append(alpha, 0.0)[:total]
    projections = [
        Projection(f"delay{lag}", rows * (lags == lag), full_alpha, int(lag)) for lag in np.unique(lags[:working])
    ]
    W_in = np.zeros((total, units.W.shape[1]))
    W_in[:n] = (pull * (1.0 - alpha))[:, None] * units.W[unit]
    bias = np.zeros(total)
    bias[:n] = pull * (1.0 - alpha) * units.bias[unit]
    start, threshold = np.full(total, integrator.start), np.ones(total)
    beta, floor, ceiling = (np.full(total, v) for v in (integrator.beta, integrator.floor, integrator.ceiling))
    names = [*populations(units, code), ("relays", relay.neurons)]
    if needed:
        clock = np.zeros((total, total))
        clock[:n, n] = direct
        projections.append(Projection("clock", clock, 0.0, 1))
        start[:n] += direct  # the clock's first spike arrives in the second tick
        bias[n], threshold[n], start[n], beta[n] = 1.0, 0.5, 0.0, 0.0
        names.append(("clock", 1))
    keep = np.full(total, float(alpha_of(np.asarray(TRACE_LEAK), ticks)))
    net = make(
        ticks=ticks, dt_s=dt_s, beta=beta, threshold=threshold, start=start, reset=integrator.reset, floor=floor,
        ceiling=ceiling, W_in=W_in, bias=bias, largest_input=largest_input, projections=projections, keep=keep,
        populations=names, input_to="synapse",
    )  # fmt: skip
    reader = np.zeros((total, units.size))
    reader[working:n][np.arange(relay.neurons), relay.unit] = relay.decoder * ticks * (1.0 - keep[working:n])
    return Built(net, reader)
