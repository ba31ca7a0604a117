"""The liquid as a program of the IR, so that the golden model says what it must compute, tick by tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from neurodeploy.spiking.liquid import DECAY_BITS, Liquid


def input_type(liquid: Liquid) -> TensorType:
    """The quantized type of the liquid's input."""
    return TensorType((liquid.W_in.shape[1],), "i16", Quant(liquid.in_scale))


def program_of(
    liquid: Liquid, source: Program, stage: str, input_name: str, output: str, meta: Mapping[str, Any]
) -> Program:
    """The program with the source's names for input, stage and output, in whole numbers."""
    graph = Builder()
    old = source.stage(stage)
    inner = next(name for name, ref in old.inputs_from.items() if ref.stage is None and ref.name == input_name)
    x = graph.input(inner, input_type(liquid))
    v, current, trace = (graph.state(name, (liquid.neurons,), dtype="i32") for name in ("v", "current", "trace"))
    step = _Ticks(graph, liquid, x)
    state = (v, current, trace)
    for _ in range(liquid.ticks):
        state = step(*state)
    for symbol, new in zip((v, current, trace), state, strict=True):
        graph.next(symbol, new)
    weighted = graph("matmul", graph.param("readout", liquid.readout), state[2])
    scores = graph("add", weighted, graph.param("readout_bias", liquid.readout_bias), quant=Quant(liquid.out_scale))
    graph.output(output, scores)
    made = Stage(stage, graph.graph(), Drive("forward"), {inner: old.inputs_from[inner]})
    inputs = {input_name: ProgramInput(input_type(liquid), source.inputs[input_name].kind)}
    return verify(replace(source, inputs=inputs, stages=(made,), numerics="native", meta={**source.meta, **meta}))


class _Ticks:
    """Appends one tick to a graph."""

    def __init__(self, graph: Builder, liquid: Liquid, x: Sym) -> None:
        self.b, self.liquid = graph, liquid
        total = graph("add", graph("matmul", graph.param("W_in", liquid.W_in), x), graph.param("bias", liquid.bias))
        mult = graph.param("in_mult", liquid.in_mult)
        units = graph("requantize", total, mult, pre=liquid.in_pre, to="i32")
        self.J = self.both(units)
        self.W = graph.param("W", liquid.W)

    def both(self, units: Sym) -> Sym:
        """A value of every unit as one of every neuron."""
        return self.b("concat", units, -units, axis=0) if self.liquid.signed else units

    def decay(self, x: Sym, kept: int) -> Sym:
        """``round(x kept / 2^15)``."""
        if kept == 1 << DECAY_BITS:
            return x
        mult = self.b.const(kept << (31 - DECAY_BITS), "i32")
        return self.b("requantize", x, mult, pre=1, to="i32")

    def __call__(self, v: Sym, current: Sym, trace: Sym) -> tuple[Sym, Sym, Sym]:
        b, q = self.b, self.liquid
        threshold, zero = b.const(q.threshold, "i32"), b.const(0, "i32")
        current = self.decay(current, q.synapse)
        v = self.decay(v, q.membrane) + current + self.J
        v = b("max", b("min", v, b.const(2 * q.threshold, "i32")), b.const(-q.threshold, "i32"))
        trace = self.decay(trace, q.synapse)
        quiet = b("lt", v, threshold)
        spikes = b("select", quiet, zero, b.const(1, "i32"))
        half = len(q.bias)
        sent = spikes.slice(0, half) - spikes.slice(half, 2 * half) if q.signed else spikes
        push = self.both(self.W @ sent)
        after = v - threshold * spikes
        return after, current + push, trace + b.const(q.trace_step, "i32") * spikes
