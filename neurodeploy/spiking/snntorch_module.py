"""A spiking network as a ``torch.nn.Module`` of snnTorch's neurons; importing this needs torch and snntorch.

Weights are ``torch.nn.Linear``; what leaks and fires is snnTorch's: ``Synaptic`` where there is one synaptic current
and inputs enter the membrane, else a ``Leaky`` for each current and one for the membrane. The reset is written here,
behind them (``reset_mechanism="none"``), as snnTorch 1.0's own give other spikes: with ``reset_delay=True`` the leak
acts before the reset; with False, a membrane that stays above threshold is reset again before it fires, and
``RSynaptic`` doesn't reset at once at all. ``RLeaky`` and ``RSynaptic`` also add inputs before recurrent spikes, so
their sums are rounded otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import snntorch
import torch
from torch import Tensor, nn

from neurodeploy.spiking.net import SpikingNet


@dataclass(frozen=True)
class State:
    """Tensors ``[batch, neurons]``: synaptic currents, membrane, trace, and the spikes of the last ticks."""

    syn: list[Tensor]
    mem: Tensor
    trace: Tensor
    history: list[Tensor]

    def where(self, on: Tensor, held: State) -> State:
        """This state for the samples that are ``on`` [batch, 1], ``held`` for the others."""
        syn = [torch.where(on, new, old) for new, old in zip(self.syn, held.syn, strict=True)]
        history = [torch.where(on, new, old) for new, old in zip(self.history, held.history, strict=True)]
        return State(syn, torch.where(on, self.mem, held.mem), torch.where(on, self.trace, held.trace), history)


class SpikingModule(nn.Module):
    """The network of ``net``, to run and to train: ``current`` (input), ``synapses`` (recurrent), ``readout``.

    ``spike_grad``: a surrogate gradient of ``snntorch.surrogate``, by default snnTorch's (arctangent). Resets are
    detached, as snnTorch's are.
    """

    threshold: Tensor
    start: Tensor
    floor: Tensor
    ceiling: Tensor
    keep: Tensor

    def __init__(self, net: SpikingNet, spike_grad: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        n, outputs = net.neurons, len(net.readout)
        self.ticks, self.reset, self.limited = net.ticks, net.reset, net.limited
        self.to_synapse = net.input_to == "synapse"
        self.delays = [p.delay for p in net.projections]
        for name in ("threshold", "start", "floor", "ceiling", "keep"):
            self.register_buffer(name, torch.tensor(getattr(net, name)))
        self.current = _linear(net.W_in, net.bias)
        self.synapses = nn.ModuleList(_linear(p.weights) for p in net.projections)
        alphas = [torch.tensor(np.broadcast_to(p.alpha, n).copy()) for p in net.projections]
        beta = torch.tensor(net.beta)
        own: dict[str, Any] = {"spike_grad": spike_grad, "reset_mechanism": "none"}
        fires = {**own, "threshold": self.threshold}
        self.filters = nn.ModuleList()
        if len(alphas) == 1 and not self.to_synapse:
            self.neurons = snntorch.Synaptic(alphas[0], beta, **fires)
        else:
            self.filters.extend(snntorch.Leaky(alpha, **own) for alpha in alphas)
            self.neurons = snntorch.Leaky(beta, **fires)
        scale = net.out_scale * 2.0**net.trace_bits
        self.readout = _linear(net.readout * scale, net.readout_bias * net.out_scale) if outputs else None
        for neuron in (*self.filters, self.neurons):
            snntorch.SpikingNeuron.instances.remove(neuron)  # kept there for ever otherwise, for init_hidden

    def forward(
        self, x: Tensor, active: Tensor | None = None, *, record: Callable[[int, Tensor], None] | None = None
    ) -> Tensor:
        """Traces ``[batch, frames, neurons]`` of real inputs ``[batch, frames, inputs]`` on their grid.

        ``active`` bool[batch, frames]: which frames run; ``record(tick, spikes)`` is called in every tick.
        """
        J, state, traces = self.current(x), self.begin(len(x)), []
        for t in range(x.shape[1]):
            on = None if active is None else active[:, t, None]
            held = state
            for tick in range(self.ticks):
                state = self.tick(J[:, t], state)
                if record is not None:
                    spikes = state.history[-1]
                    record(t * self.ticks + tick, spikes if on is None else spikes * on)
            if on is not None:
                state = state.where(on, held)
            traces.append(state.trace)
        return torch.stack(traces, 1) if traces else x.new_zeros(len(x), 0, len(self.start))

    def begin(self, batch: int) -> State:
        """The state before the first frame."""
        zeros = self.start.new_zeros(batch, len(self.start))
        history = [zeros] * max(self.delays, default=1)
        return State([zeros] * len(self.delays), self.start.expand_as(zeros), zeros, history)

    def tick(self, J: Tensor, state: State) -> State:
        """One tick with input currents J ``[batch, neurons]``."""
        arrived = [w(state.history[-delay]) for w, delay in zip(self.synapses, self.delays, strict=True)]
        if isinstance(self.neurons, snntorch.Synaptic):
            _, current, mem = self.neurons(arrived[0], state.syn[0], state.mem)
            syn = [current]
        else:
            syn = [leak(a, old)[1] for leak, a, old in zip(self.filters, arrived, state.syn, strict=True)]
            if self.to_synapse:
                syn[0] = syn[0] + J
            _, mem = self.neurons(sum(syn[1:], syn[0]) if syn else torch.zeros_like(J), state.mem)
        if not self.to_synapse:
            mem = mem + J
        if self.limited:
            mem = torch.minimum(torch.maximum(mem, self.floor), self.ceiling)
        spikes = self.neurons.fire(mem)
        fired = spikes.detach()
        mem = mem - self.threshold * fired if self.reset == "subtract" else mem.masked_fill(fired > 0, 0.0)
        return State(syn, mem, self.keep * state.trace + spikes, [*state.history[1:], spikes])


def _linear(weight: np.ndarray, bias: np.ndarray | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer
