"""Delay lines that a graph writes as a concat: ``concat(state, newest)``, whose last rows are the next state.

The state's field has room for the newest rows behind the old ones, so that whoever reads the concat reads the state's
memory; at the end of the step the last rows move to the front. Nothing is copied to scratch and back.
"""

from __future__ import annotations

from dataclasses import replace

from neurodeploy.ir.graph import Graph, State, Value
from neurodeploy.ir.ops_shape import slice_bounds


def rings_in_place(graph: Graph) -> Graph:
    """The graph with such concats as ``extend``, an op of this backend."""
    made = {value.name: value for value in graph.values}
    found = {concat.name for state in graph.states if (concat := _ring(state, made, graph)) is not None}
    values = tuple(replace(v, op="extend", attrs={}) if v.name in found else v for v in graph.values)
    return replace(graph, values=values)


def _ring(state: State, made: dict[str, Value], graph: Graph) -> Value | None:
    """The concat that a state's next rows are the end of, if nothing but rows moves."""
    last = made.get(state.next)
    concat = made.get(last.args[0]) if last is not None and last.op == "slice" else None
    if state.when is not None or last is None or concat is None or concat.op != "concat":
        return None
    shape = concat.tensor.shape
    axis, _, stop, step = slice_bounds(last.attrs, shape)
    in_rows = axis == 0 and concat.attrs.get("axis", 0) % len(shape) == 0 and step == 1 and stop == shape[0]
    dtypes = {concat.tensor.dtype, state.type.dtype, *(graph.tensor(a).dtype for a in concat.args)}
    whole = last.tensor.shape == state.type.shape and len(state.type.shape) > 1 and len(dtypes) == 1
    first = concat.args[0] == state.name and state.name not in concat.args[1:]
    return concat if in_rows and whole and first else None
