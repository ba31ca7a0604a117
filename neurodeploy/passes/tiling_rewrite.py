"""Rewrites a graph for a plan: the composites of its groups in the place of their products and additions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from neurodeploy.ir.graph import Graph, Param, Value, prune
from neurodeploy.ir.ops import OPS, infer
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.rewrite import Names
from neurodeploy.passes.tiling_plan import Group
from neurodeploy.passes.tiling_products import ONE, Addition, Product, Sum, inner_sums

OP = "crossbar"


def rewritten(graph: Graph, groups: list[Group], trees: list[Addition]) -> Graph:
    """The graph with one ``crossbar`` for each group; sums of several products are found in ``trees``."""
    return _Rewriting(graph, groups, trees).graph()


class _Rewriting:
    """Puts the groups' composites into a graph, in the place of their products and of additions that they hold."""

    def __init__(self, original: Graph, groups: list[Group], trees: list[Addition]) -> None:
        self.original, self.groups = original, groups
        self.names = Names(original.types())
        self.params = dict(original.params)
        self.values = {v.name: v for v in original.values}
        self.made: dict[str, list[Value]] = {}  # old value -> those in its place
        self.results: dict[Sum, tuple[str, TensorType]] = {}
        self.gone: set[str] = set()
        self.one = ""
        joined = [s for group in groups for s in group.sums if len(s.products) > 1]
        for tree in trees:
            held = [s for s in joined if s.products[0].name in tree.leaves]
            if held:
                self._replace(tree, held)

    def graph(self) -> Graph:
        """The graph rewritten."""
        for group in self.groups:
            self._add(group)
        values: list[Value] = []
        for value in self.original.values:
            values += self.made.get(value.name, [])
            values += [] if value.name in self.gone else [value]
        ordered = _ordered(self.original, self.params, values)
        return prune(replace(self.original, params=self.params, values=ordered))

    def _replace(self, tree: Addition, held: list[Sum]) -> None:
        """Find the inner addition that is a sum itself; else add what is left anew, from left to right."""
        nodes = {frozenset(leaves): node for node, leaves in inner_sums(tree, self.values)}
        found = [nodes.get(frozenset(p.name for p in s.products)) for s in held]
        if all(node is not None for node in found):
            for one, node in zip(held, found, strict=True):
                if node is not None:
                    self.results[one] = node.name, node.tensor
                    inside = {p.name for p in one.products}
                    self.gone.update(n.name for leaves, n in nodes.items() if leaves <= inside)
            return
        first, type_ = held[0].products[0], tree.root.tensor
        kinds: dict[str, TensorType] = {}
        place: dict[str, str] = {}
        for one in held:
            name = self.names.fresh(f"{one.products[0].name}.sum")
            self.results[one] = name, first.type
            kinds[name] = first.type
            place.update({p.name: name if i == 0 else "" for i, p in enumerate(one.products)})
        terms = [place.get(leaf, leaf) for leaf in tree.leaves]
        terms = [t for t in terms if t]
        self.gone.update(node.name for node in nodes.values())
        made, total = self.made.setdefault(tree.root.name, []), terms[0]
        for i, term in enumerate(terms[1:], 2):
            types = [kinds.get(n) or self.original.tensor(n) for n in (total, term)]
            last = i == len(terms)
            name = tree.root.name if last else self.names.fresh(f"{tree.root.name}.part")
            kinds[name] = type_ if last else _inferred("add", types)
            made.append(Value(name, "add", (total, term), {}, kinds[name]))
            total = name

    def _add(self, group: Group) -> None:
        """The values of one group: its vector, the composite, and the rows that are each sum."""
        results = [self.results.get(s) or (s.products[0].name, s.products[0].type) for s in group.sums]
        held = [p.name for s in group.sums for p in s.products if p.input != ONE]
        self.gone.update(held)
        made = self.made.setdefault(next(name for name in self.values if name in held), [])
        first = group.sums[0].products[0]
        weight, parts = _weight(group, results)
        x, x_type, segments = self._vector(group, results[0][0], made)
        body = _body(TensorType(weight.shape, first.weight_dtype), x_type, first.side)
        (type_,) = body.output_types().values()
        alone = len(results) == 1 and results[0][1].shape == type_.shape
        name = results[0][0] if alone else self.names.fresh(f"{results[0][0]}.stack")
        weight_name = self.names.fresh(f"{name}.weight")
        self.params[weight_name] = Param(TensorType(weight.shape, first.weight_dtype), np.array(weight, order="C"))
        attrs = {"side": first.side, "segments": segments, "parts": parts}
        made.append(Value(name, OP, (weight_name, x), attrs, results[0][1] if alone else type_, body))
        if alone:
            return
        start = 0
        for one, (result, kind) in zip(group.sums, results, strict=True):
            cut = {"axis": 0, "start": start, "stop": start + one.outputs}
            start += one.outputs
            row = type_.with_(shape=(one.outputs,))
            if kind.shape == row.shape:
                made.append(Value(result, "slice", (name,), cut, kind))
            else:  # a dot product with a weight vector: one output, a scalar
                inner = self.names.fresh(f"{result}.row")
                made.append(Value(inner, "slice", (name,), cut, row))
                made.append(Value(result, "reshape", (inner,), {"shape": list(kind.shape)}, kind))

    def _vector(self, group: Group, name: str, made: list[Value]) -> tuple[str, TensorType, list[dict[str, object]]]:
        """What drives a group: a value of the graph or the concatenation of several, and where each of them lies."""
        if any(vector.input == ONE for vector in group.vectors) and not self.one:
            self.one = self.names.fresh(ONE)
            made.append(Value(self.one, "const", (), {"value": [1.0], "dtype": "f32"}, TensorType((1,))))
        names = [self.one if vector.input == ONE else vector.input for vector in group.vectors]
        types = [vector.input_type for vector in group.vectors]
        segments: list[dict[str, object]] = []
        start = 0
        for source, size in (
            pieces for n, v in zip(names, group.vectors, strict=True) for pieces in self._pieces(n, v)
        ):
            segments.append({"value": source, "start": start, "stop": start + size})
            start += size
        if len(names) == 1:
            return names[0], types[0], segments
        x = self.names.fresh(f"{name}.vector")
        type_ = _inferred("concat", types)
        made.append(Value(x, "concat", tuple(names), {"axis": 0}, type_))
        return x, type_, segments

    def _pieces(self, name: str, vector: Product) -> list[tuple[str, int]]:
        """The values that a vector is concatenated of, and their sizes: each has a range of its own."""
        value = self.values.get(name)
        if value is None or value.op != "concat" or not vector.single:
            return [(name, vector.inputs)]
        return [(arg, self.original.tensor(arg).size) for arg in value.args]


def _weight(group: Group, results: list[tuple[str, TensorType]]) -> tuple[np.ndarray, list[dict[str, object]]]:
    """The group's weights in one array, and which part of it is what."""
    first = group.sums[0].products[0]
    names = {one: name for one, (name, _) in zip(group.sums, results, strict=True)}
    held = group.rectangles()
    if first.side == "right":
        whole = first.weight
    else:
        shape = max(o[1] for *_, (_, o) in held), max(i[1] for *_, (i, _) in held)
        whole = np.zeros(shape, first.weight.dtype)
        for _, product, (inputs, outputs) in held:
            whole[slice(*outputs), slice(*inputs)] = product.weight
    return whole, [
        {"value": names[one], "weight": product.label, "outputs": list(outputs), "inputs": list(inputs)}
        for one, product, (inputs, outputs) in held
    ]


def _inferred(op: str, types: list[TensorType]) -> TensorType:
    return OPS[op].infer(types, {})


def _body(weight: TensorType, x: TensorType, side: str) -> Graph:
    args, types = (("W", "x"), (weight, x)) if side == "left" else (("x", "W"), (x, weight))
    result = infer("matmul", types, {})
    return Graph({"W": weight, "x": x}, {}, (), (Value("y", "matmul", args, {}, result),), {"y": "y"})


def _ordered(graph: Graph, params: Mapping[str, Param], values: list[Value]) -> tuple[Value, ...]:
    """Values in an order in which arguments come first: a stack's slices may be read before their old place."""
    done = {*graph.inputs, *params, *(s.name for s in graph.states)}
    table = {v.name: v for v in values}
    ordered: list[Value] = []
    for value in values:
        pending = [value]
        while pending:
            now = pending[-1]
            missing = [a for a in now.args if a not in done]
            if now.name in done or not missing:
                pending.pop()
                if now.name not in done:
                    done.add(now.name)
                    ordered.append(now)
            else:
                pending.extend(table[a] for a in missing)
    return tuple(ordered)
