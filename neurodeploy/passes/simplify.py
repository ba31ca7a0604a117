"""Fold constants, remove identities, share equal values, drop what nothing needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import NeurodeployError
from neurodeploy.ir.graph import Graph, Param, Program, Value, prune
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.types import TensorType, Type
from neurodeploy.passes.expand import expand_graph
from neurodeploy.passes.rewrite import Names, evaluate, rebuild, resolve

#: Ops whose result is an argument, merely seen otherwise: folding them does not make a second copy worth having.
_GROWING = frozenset({"broadcast", "gather", "concat"})
_SCALAR_OPS = frozenset({"const", "random"})


@dataclass(frozen=True)
class Simplify:
    """Make a program smaller without changing what it computes, bit for bit.

    Values of params and constants alone become params or constants (``slice(%W)``, ``transpose(%W)``), unless the data
    would grow by more than ``growth`` elements. ``x * 1``, ``x + 0``, ``x / 1`` and moves that change nothing go, equal
    values and params are shared, calls with at most one value inside are inlined, dead code is dropped.
    """

    growth: int = 4096

    def __call__(self, program: Program) -> Program:
        return program.map_graphs(self.graph)

    def graph(self, graph: Graph) -> Graph:
        """One graph, to a fixed point (every round removes a value at least)."""
        while True:
            before = (len(graph.values), len(graph.params))
            graph = prune(_shared(self._folded(_inlined(graph))))
            if (len(graph.values), len(graph.params)) == before:
                return graph

    def _folded(self, graph: Graph) -> Graph:
        """Constants folded and identities removed."""
        params = dict(graph.params)
        types = graph.types()
        known: dict[str, Param] = dict(params)
        renamed: dict[str, str] = {}
        values: list[Value] = []
        names = Names(types)
        for value in graph.values:
            value = replace(value, args=tuple(resolve(renamed, a) for a in value.args))
            same = _identity(value, types, known)
            if same is not None:
                renamed[value.name] = same
                continue
            folded = self._constant(value, known)
            if folded is None:
                values.append(value)
                continue
            known[value.name] = folded
            if value.op == "const":
                values.append(value)
            elif folded.type.shape == () and folded.type.quant is None:
                values.append(_as_const(value, folded))
            else:
                kept = names.fresh(_stem(value)) if value.args and value.args[0] in params else value.name
                if kept != value.name:
                    renamed[value.name] = kept
                known[kept], params[kept], types[kept] = folded, folded, folded.type
        return rebuild(graph, values, params, renamed)

    def _constant(self, value: Value, known: Mapping[str, Param]) -> Param | None:
        """The value as a param if it depends on constants only."""
        if value.op in _SCALAR_OPS - {"const"} or any(a not in known for a in value.args):
            return None
        if not isinstance(value.type, TensorType) or value.op == "get":
            return None
        args = [known[a] for a in value.args]
        size = value.type.size
        if value.op in _GROWING and size > sum(a.type.size for a in args) + self.growth:
            return None
        try:
            return evaluate(value, args)
        except NeurodeployError:
            return None  # it fails at run time too, and says there what failed


def _stem(value: Value) -> str:
    """A name that says what was made of a param: ``W.0_64`` for rows 0 to 63 of ``W``."""
    source = value.args[0]
    if value.op == "slice":
        return f"{source}.{value.attrs.get('start', 0)}_{value.attrs.get('stop', 'end')}"
    return f"{source}.{value.op}"


def _as_const(value: Value, data: Param) -> Value:
    """A scalar as a ``const`` in the graph itself."""
    number = data.data.item()
    return Value(value.name, "const", (), {"value": number, "dtype": data.type.dtype}, data.type)


def _inlined(graph: Graph) -> Graph:
    """Calls whose body holds at most one value, opened."""
    keep = {v.op for v in graph.values if v.body is not None and len(v.body.values) > 1}
    trivial = any(v.body is not None and v.op not in keep for v in graph.values)
    return expand_graph(graph, tuple(keep)) if trivial else graph


def _identity(value: Value, types: Mapping[str, Type], known: Mapping[str, Param]) -> str | None:
    """The argument that the value equals, or None."""
    args: tuple[str, ...] = value.args
    if not args or types.get(args[0]) is None:
        return None
    first = args[0]
    unchanged = types[first] == value.type
    match value.op:
        case "select" if args[1] == args[2] and types[args[1]] == value.type:
            return args[1]
        case "reshape" | "broadcast" | "cast" if unchanged:
            return first
        case "transpose" if unchanged and list(value.attrs["perm"]) == sorted(value.attrs["perm"]):
            return first
        case "concat" if args == (first,) and unchanged:
            return first
        case "slice" if unchanged:
            _, start, stop, step = slice_bounds(value.attrs, value.tensor.shape)
            return first if start == 0 and step == 1 and stop >= 1 else None
        case "mul":
            return _neutral(value, types, known, 1, (0, 1))
        case "add":
            return _neutral(value, types, known, 0, (0, 1))
        case "sub":
            return _neutral(value, types, known, 0, (1,))
        case "div":
            return _neutral(value, types, known, 1, (1,))
    return None


def _neutral(
    value: Value, types: Mapping[str, Type], known: Mapping[str, Param], number: int, places: tuple[int, ...]
) -> str | None:
    """The other argument where one is constant and neutral and the type stays."""
    for place in places:
        constant = known.get(value.args[place])
        other = value.args[1 - place]
        if constant is not None and types.get(other) == value.type and bool(np.all(constant.data == number)):
            return other
    return None


def _shared(graph: Graph) -> Graph:
    """Equal params and equal values, each kept once."""
    renamed: dict[str, str] = {}
    params: dict[str, Param] = {}
    seen: dict[Any, str] = {}
    inits = {s.init for s in graph.states}
    for name, param in graph.params.items():
        key = (str(param.type), param.data.tobytes(), name in inits)
        if key in seen:
            renamed[name] = seen[key]
        else:
            seen[key] = name
            params[name] = param
    found: dict[Any, str] = {}
    values: list[Value] = []
    for value in graph.values:
        value = replace(value, args=tuple(resolve(renamed, a) for a in value.args))
        key = (value.op, value.args, json.dumps(value.attrs, sort_keys=True), str(value.type))
        if value.body is None and key in found:
            renamed[value.name] = found[key]
            continue
        if value.body is None:
            found[key] = value.name
        values.append(value)
    return rebuild(graph, values, params, renamed)
