"""Streaming convolutions as delay lines, which C moves in place.

A converter writes the window of a streaming convolution as ``window = concat(state, new)`` and cuts its newest part
back into the state. Here the state holds the whole window: ``window = shift(state, new)``, and that is what it becomes.
The window's oldest entry is never read before it is shifted out, so the results stay the same; a step needs no copy of
the window beside the state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.ir.graph import Graph, Param, Program, State, Value, prune
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.passes.rewrite import Names


@dataclass(frozen=True)
class DelayLines:
    """Make delay lines of states that one new entry a step is joined to."""

    def __call__(self, program: Program) -> Program:
        fed = {(s.name, state) for s in program.stages for state in s.state_from}
        fed |= {(r.stage, r.name) for s in program.stages for r in (*s.inputs_from.values(), *s.state_from.values())}
        fed |= {(r.stage, r.name) for r in program.outputs.values()}  # a state that another reads keeps its shape
        stages = []
        for stage in program.stages:
            graph = stage.graph
            for state in graph.states:
                if (stage.name, state.name) not in fed:
                    graph = _as_line(graph, state)
            stages.append(replace(stage, graph=graph))
        return replace(program, stages=tuple(stages))


def _as_line(graph: Graph, state: State) -> Graph:
    """The graph with one state as a delay line, or as it is where the state isn't used like one."""
    uses = graph.uses().get(state.name, [])
    made = {value.name: value for value in graph.values}
    kept = made.get(state.next)
    if len(uses) != 1 or state.when is not None or state.name in graph.outputs.values() or not state.type.shape:
        return graph
    window, length = uses[0], state.type.shape[0]
    joins = window.op == "concat" and len(window.args) == 2 and window.attrs.get("axis", 0) == 0
    if not joins or window.args[0] != state.name or kept is None or kept.op != "slice" or kept.args != (window.name,):
        return graph
    new, type_ = window.args[1], window.tensor
    if slice_bounds(kept.attrs, type_.shape) != (0, 1, length + 1, 1) or type_.quant != state.type.quant:
        return graph
    names = Names(graph.types())
    entry = Value(names.fresh(f"{window.name}_entry"), "reshape", (new,), {"shape": list(type_.shape[1:])},
                  type_.with_(shape=type_.shape[1:], quant=graph.tensor(new).quant))  # fmt: skip
    moved = replace(window, op="shift", args=(state.name, entry.name), attrs={})
    params, init = dict(graph.params), state.init
    if init is not None:
        data = graph.params[init].data
        init = names.fresh(f"{state.name}_line")
        params[init] = Param(type_, np.concatenate([data[:1], data]))
    line = replace(state, type=type_, next=window.name, init=init)
    values: list[Value] = []
    for value in graph.values:
        values += [entry, moved] if value is window else [value]
    states = tuple(line if s.name == state.name else s for s in graph.states)
    return prune(replace(graph, params=params, states=states, values=tuple(values)))
