"""A spiking network as a program of the IR, tick by tick: the golden model of what every simulator must compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive, Param, Program, ProgramInput, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from neurodeploy.spiking.net import INPUT_LIMIT, SpikingNet


def input_type(net: SpikingNet) -> TensorType:
    """The quantized type of the network's input."""
    return TensorType((net.W_in.shape[1],), "i16", Quant(net.in_scale))


def program_of(
    net: SpikingNet, source: Program, stage: str, input_name: str, output: str, meta: Mapping[str, Any]
) -> Program:
    """The network under the source's names for input, stage and output.

    States: ``mem``, ``trace``, each projection's ``syn_<name>`` and the spikes of the last ticks, all f32[n].
    """
    b = Builder()
    old = source.stage(stage)
    inner = next(name for name, ref in old.inputs_from.items() if ref.stage is None and ref.name == input_name)
    x = b.input(inner, input_type(net))
    tick = _Tick(b, net, x)
    for _ in range(net.ticks):
        tick()
    tick.close()
    whole = b("cast", b("round", tick.trace * b.const(2.0**net.trace_bits)), to="i16")
    scores = b("matmul", b.param("readout", net.readout), whole)
    b.output(output, b("add", scores, b.param("readout_bias", net.readout_bias), quant=Quant(net.out_scale)))
    made = Stage(stage, b.graph(), Drive("forward"), {inner: old.inputs_from[inner]})
    inputs = {input_name: ProgramInput(input_type(net), source.inputs[input_name].kind)}
    ref = source.outputs[next(iter(source.outputs))]
    outputs = {output: replace(ref, stage=stage, name=output)}
    return verify(replace(source, inputs=inputs, stages=(made,), outputs=outputs, numerics="native",
                          meta={**source.meta, **meta}))  # fmt: skip


class _Tick:
    """Appends ticks to a graph."""

    def __init__(self, b: Builder, net: SpikingNet, x: Sym) -> None:
        self.b, self.net = b, net
        n = (net.neurons,)
        cut = b("max", b("min", x, b.const(INPUT_LIMIT, "i16")), b.const(-INPUT_LIMIT, "i16"))
        real = b("cast", cut, to="f32") * b.const(net.in_scale)
        self.J = b("matmul", b.param("W_in", net.W_in), real) + b.param("bias", net.bias)
        self.weights = [b.param(f"W_{p.name}", p.weights) for p in net.projections]
        self.alphas = [b.param(f"alpha_{p.name}", p.alpha) for p in net.projections]
        self.beta, self.keep, self.threshold = (
            b.param(name, getattr(net, name)) for name in ("beta", "keep", "threshold")
        )
        self.limits = [b.param(name, getattr(net, name)) for name in ("floor", "ceiling")] if net.limited else []
        self.mem = self._state("mem", Param.of(net.start))
        self.trace = self._state("trace")
        self.syn = [self._state(f"syn_{p.name}") for p in net.projections]
        longest = max([p.delay for p in net.projections], default=1)
        self.history = [self._state(f"spikes_{age}") for age in range(longest, 0, -1)]
        self.states = [self.mem, self.trace, *self.syn, *self.history]
        self.zero, self.one = b("broadcast", b.const(0.0), shape=list(n)), b("broadcast", b.const(1.0), shape=list(n))

    def _state(self, name: str, init: Param | None = None) -> Sym:
        return self.b.state(name, (self.net.neurons,), init=None if init is None else init.data)

    def __call__(self) -> None:
        b, net = self.b, self.net
        self.syn = [
            alpha * syn + weights @ self.history[-p.delay]
            for p, alpha, syn, weights in zip(net.projections, self.alphas, self.syn, self.weights, strict=True)
        ]
        if net.input_to == "synapse":
            self.syn[0] = self.syn[0] + self.J
        mem = self.beta * self.mem
        if self.syn:
            total = self.syn[0]
            for more in self.syn[1:]:
                total = total + more
            mem = mem + total
        if net.input_to == "membrane":
            mem = mem + self.J
        if self.limits:
            mem = b("min", b("max", mem, self.limits[0]), self.limits[1])
        fires = b("lt", self.threshold, mem)
        spikes = b("select", fires, self.one, self.zero)
        self.mem = mem - self.threshold * spikes if net.reset == "subtract" else b("select", fires, self.zero, mem)
        self.trace = self.keep * self.trace + spikes
        self.history = [*self.history[1:], spikes]

    def close(self) -> None:
        """Give every state its next value."""
        for state, new in zip(self.states, [self.mem, self.trace, *self.syn, *self.history], strict=True):
            self.b.next(state, new)
