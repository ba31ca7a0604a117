"""Inline the bodies of composites: what is left is primitives and the composites that a backend runs natively."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neurodeploy.ir.graph import Graph, Program, Value
from neurodeploy.ir.types import TupleType
from neurodeploy.passes.rewrite import Names, rebuild, resolve


@dataclass(frozen=True)
class Expand:
    """Inline every composite that is not in ``keep``; every value stays the same, bit for bit.

    Inner values are named after the call (``gru.sigmoid``); the results keep the names that the call and its ``get``
    values had, so that what refers to them by name goes on to do so.
    """

    keep: tuple[str, ...] = ()

    def __call__(self, program: Program) -> Program:
        return program.map_graphs(lambda graph: expand_graph(graph, self.keep))


def expand_graph(graph: Graph, keep: tuple[str, ...] = ()) -> Graph:
    """One graph with its composites inlined, theirs too."""
    while any(_opens(value, keep) for value in graph.values):
        graph = _expand_once(graph, keep)
    return graph


def _opens(value: Value, keep: tuple[str, ...]) -> bool:
    return value.body is not None and value.op not in keep


def _expand_once(graph: Graph, keep: tuple[str, ...]) -> Graph:
    results = _result_names(graph, keep)
    names = Names(graph.types())
    renamed: dict[str, str] = {}
    values: list[Value] = []
    for value in graph.values:
        if value.op == "get" and value.args[0] in results:
            continue
        value = replace(value, args=tuple(resolve(renamed, a) for a in value.args))
        if value.name in results:
            values += _inline(value, results[value.name], names, renamed)
        else:
            values.append(value)
    return rebuild(graph, values, graph.params, renamed)


def _result_names(graph: Graph, keep: tuple[str, ...]) -> dict[str, dict[int, list[str]]]:
    """Composite -> result index -> the names by which the graph knows that result."""
    table: dict[str, dict[int, list[str]]] = {
        v.name: {} if isinstance(v.type, TupleType) else {0: [v.name]} for v in graph.values if _opens(v, keep)
    }
    for value in graph.values:
        if value.op == "get" and value.args[0] in table:
            table[value.args[0]].setdefault(value.attrs["index"], []).append(value.name)
    return table


def _inline(call: Value, results: Mapping[int, list[str]], names: Names, renamed: dict[str, str]) -> list[Value]:
    """The body's values under new names; ``renamed`` learns what the call's results are now."""
    body = call.body
    if body is None:
        return [call]
    inner = dict(zip(body.inputs, call.args, strict=True))
    made = {value.name for value in body.values}
    chosen: dict[str, str] = {}
    for index, out in enumerate(body.outputs.values()):
        for known in results.get(index, []):
            if out in made and out not in chosen:
                chosen[out] = known
    values = []
    for value in body.values:
        new = chosen.get(value.name) or names.fresh(f"{call.name}.{value.name}")
        values.append(replace(value, name=new, args=tuple(inner[a] for a in value.args)))
        inner[value.name] = new
    for index, out in enumerate(body.outputs.values()):
        for known in results.get(index, []):
            if inner[out] != known:
                renamed[known] = inner[out]
    return values
