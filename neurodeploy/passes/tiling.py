"""Tiling: every matrix product with constant weights becomes a composite ``crossbar``, to be put onto analog tiles.

Composites are inlined first, so that a gate's matrix is seen wherever it hides. Then each ``matmul`` of a constant (a
param, or slices, concatenations, ... of params) with a value becomes ``crossbar(weight, x)``: its body is that very
``matmul``, so the program means what it meant, and its attributes say which weights lie where. Products that take the
same vector under the same guards are stacked along the outputs: they share the vector's converters, and one physical
read gives all of them. Sums of products are joined over their concatenated vectors where that saves conversions
(:mod:`neurodeploy.passes.tiling_plan`): ``W x + U h`` is ``crossbar([W U], concat(x, h))``. Integer sums are joined only
where no partial sum can leave its dtype, so every bit stays. Everything else stays digital: elementwise ops, ``einsum``,
products of two values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.descriptions_crossbar import Array
from neurodeploy.errors import TargetError, UnsupportedError, UsageError, nearest
from neurodeploy.ir.graph import Graph, Param, Program, Value, guards, prune
from neurodeploy.ir.ops import infer
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.ir.verify import verify
from neurodeploy.passes.expand import expand_graph
from neurodeploy.passes.rewrite import Names
from neurodeploy.passes.tiling_plan import Grid, Group, plan
from neurodeploy.passes.tiling_products import ONE, Addition, Constants, Product, Sum, additions, bias, products

OP = "crossbar"
JOINS = ("auto", "never")
BIASES = ("digital", "array")
_ROWS = re.compile(r"(.+?)(?:\[(\d+):(\d+)\]|\.(\d+)_(\d+))")


@dataclass(frozen=True)
class Tiling:
    """Program -> program in which products with constant weights are ``crossbar`` composites.

    ``rows``, ``columns``, ``encoding`` and ``slices`` are the array's, by which conversions are counted.
    ``join``: ``auto`` joins sums of products where that saves conversions, ``never`` keeps each product's vector apart.
    ``bias``: ``array`` holds a constant that is added to a product on the array, on a word line that is always 1.
    Raises :class:`TargetError` for an array too small, :class:`UnsupportedError` for other numerics than float and
    native, biases of integers on the array, or if there is nothing to map, :class:`UsageError` for an unknown option.
    """

    rows: int = 128
    columns: int = 128
    join: str = "auto"
    bias: str = "digital"
    encoding: str = "differential"
    slices: int = 1

    @classmethod
    def of(cls, array: Array, join: str = "auto", bias: str = "digital") -> Tiling:
        """The pass for a target's arrays."""
        return cls(array.rows, array.columns, join, bias, array.encoding, array.slices)

    @property
    def outputs(self) -> int:
        """Outputs that fit beside each other on one array."""
        return outputs_that_fit(self.columns, self.encoding, self.slices)

    def __call__(self, program: Program) -> Program:
        self._check(program)
        tiled = verify(program.map_graphs(self._graph))
        if not any(value.op == OP for stage in tiled.stages for value in stage.graph.values):
            raise UnsupportedError(
                "has no matrix product with constant weights; a crossbar would have nothing to hold.",
                place=program.name,
                hint="Choose another target.",
            )
        return tiled

    def _check(self, program: Program) -> None:
        for name, given, known in (("join", self.join, JOINS), ("bias", self.bias, BIASES)):
            if given not in known:
                raise UsageError(f"'{name}' can't be '{given}'.", place="tiling", hint=nearest(given, known))
        if self.rows < 1 or self.outputs < 1:
            each, reference = lines(self.encoding, self.slices)
            why = "a pair of devices on two bit lines" if (each, reference) == (2, 0) else f"{each} devices"
            column = ", and a reference column" if reference else ""
            raise TargetError(
                f"a tile of {self.rows} x {self.columns} holds no weight; needed at least 1 row and {each + reference} "
                f"columns (a weight is {why}{column}).",
                place="tiling",
            )
        if program.numerics not in ("float", "native"):
            raise UnsupportedError(
                f"its numerics are '{program.numerics}'; crossbars take float or native.",
                place=program.name,
                hint="Compile the float model, or quantize it to native.",
            )
        if self.bias == "array" and program.numerics == "native":
            raise UnsupportedError(
                "its biases are integers of 32 bits; a device holds those of a float model only.",
                place=program.name,
                hint="Keep them digital (bias=digital), or compile with float numerics.",
            )

    def _graph(self, graph: Graph) -> Graph:
        graph = expand_graph(graph, keep=(OP,))
        constant = Constants(graph)
        found = products(graph, constant, guards(graph))
        trees = additions(graph, found)
        single = {name: Sum((product,)) for name, product in found.items()}
        if self.bias == "array":
            single.update(_biased(graph, constant, trees))
        candidates = [_options(graph, constant, tree, single) for tree in trees] if self.join == "auto" else []
        grid = Grid(self.rows, self.outputs, self.slices, blocks=self.encoding != "offset" and self.join == "auto")
        groups = plan(list(single.values()), candidates, grid)
        return _Rewriting(graph, groups, trees).graph()


def lines(encoding: str, slices: int) -> tuple[int, int]:
    """Bit lines that each output takes, and those that a tile takes besides."""
    return (2 if encoding == "differential" else 1) * slices, 1 if encoding == "offset" else 0


def outputs_that_fit(columns: int, encoding: str, slices: int) -> int:
    """Outputs that fit beside each other on an array of so many bit lines."""
    each, reference = lines(encoding, slices)
    return (columns - reference) // each


def _biased(graph: Graph, constant: Constants, trees: list[Addition]) -> dict[str, Sum]:
    """The first product of each addition with the first constant that is added to it."""
    table = {}
    for tree in trees:
        first = tree.products[0]
        held = [b for leaf in tree.leaves if (b := bias(graph, constant, leaf, first)) is not None]
        if held:
            table[first.name] = Sum((first, held[0]))
    return table


def _options(graph: Graph, constant: Constants, tree: Addition, single: Mapping[str, Sum]) -> list[Sum]:
    """The sums that the products of an addition can become: all of them, or those that are ready together."""
    by_level: dict[int, list[str]] = {}
    for product in tree.products:
        by_level.setdefault(product.level, []).append(product.name)
    options = [[p.name for p in tree.products], *(by_level.values() if len(by_level) > 1 else ())]
    sums = [Sum(tuple(p for name in names for p in single[name].products)) for names in options if len(names) > 1]
    return [s for s in sums if _exact(graph, constant, tree, s)]


def _exact(graph: Graph, constant: Constants, tree: Addition, joined: Sum) -> bool:
    """Whether joining keeps every bit of integers: no partial sum of theirs can leave its dtype, in any order.

    Floats are added in another order; they differ by rounding.
    """
    type_ = tree.root.tensor
    if not type_.is_int:
        return True
    if {p.name for p in joined.products} == set(tree.leaves):
        return True  # the very same sums
    known = {p.name: p for p in tree.products}
    total = 0
    for leaf in tree.leaves:
        if leaf in known:
            total += int(known[leaf].bound().max())
        elif constant.is_constant(leaf):
            total += int(np.abs(constant.param(leaf).data.astype(np.int64)).max(initial=0))
        else:
            total -= int_range(graph.tensor(leaf).dtype)[0]
    return total <= int_range(type_.dtype)[1]


class _Rewriting:
    """Puts the groups' composites into a graph, in the place of their products and of additions that they hold."""

    def __init__(self, original: Graph, groups: list[Group], trees: list[Addition]) -> None:
        self.original, self.groups = original, groups
        self.names = Names(original.types())
        self.params = dict(original.params)
        self.values = {v.name: v for v in original.values}
        self.made: list[Value] = []
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
        kept = [v for v in self.original.values if v.name not in self.gone] + self.made
        values = _ordered(self.original, self.params, kept)
        return prune(replace(self.original, params=self.params, values=values))

    def _replace(self, tree: Addition, held: list[Sum]) -> None:
        """Find the inner addition that is a sum itself; else add what is left anew, from left to right."""
        nodes = {frozenset(leaves): node for node, leaves in _nodes(tree, self.values)}
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
        total = terms[0]
        for i, term in enumerate(terms[1:], 2):
            types = [kinds.get(n) or self.original.tensor(n) for n in (total, term)]
            last = i == len(terms)
            name = tree.root.name if last else self.names.fresh(f"{tree.root.name}.part")
            kinds[name] = type_ if last else infer("add", types, {})
            self.made.append(Value(name, "add", (total, term), {}, kinds[name]))
            total = name

    def _add(self, group: Group) -> None:
        """The values of one group: its vector, the composite, and the rows that are each sum."""
        results = [self.results.get(s) or (s.products[0].name, s.products[0].type) for s in group.sums]
        self.gone.update(p.name for s in group.sums for p in s.products if p.input != ONE)
        first = group.sums[0].products[0]
        weight, parts = _weight(group, results)
        x, x_type, segments = self._vector(group, results[0][0])
        body = _body(TensorType(weight.shape, first.weight_dtype), x_type, first.side)
        (type_,) = body.output_types().values()
        alone = len(results) == 1 and results[0][1].shape == type_.shape
        name = results[0][0] if alone else self.names.fresh(f"{results[0][0]}.stack")
        weight_name = self.names.fresh(f"{name}.weight")
        self.params[weight_name] = Param(TensorType(weight.shape, first.weight_dtype), np.array(weight, order="C"))
        attrs = {"side": first.side, "segments": segments, "parts": parts}
        self.made.append(Value(name, OP, (weight_name, x), attrs, results[0][1] if alone else type_, body))
        if alone:
            return
        start = 0
        for one, (result, kind) in zip(group.sums, results, strict=True):
            cut = {"axis": 0, "start": start, "stop": start + one.outputs}
            start += one.outputs
            row = type_.with_(shape=(one.outputs,))
            if kind.shape == row.shape:
                self.made.append(Value(result, "slice", (name,), cut, kind))
            else:  # a dot product with a weight vector: one output, a scalar
                inner = self.names.fresh(f"{result}.row")
                self.made.append(Value(inner, "slice", (name,), cut, row))
                self.made.append(Value(result, "reshape", (inner,), {"shape": list(kind.shape)}, kind))

    def _vector(self, group: Group, name: str) -> tuple[str, TensorType, list[dict[str, object]]]:
        """What drives a group: a value of the graph or the concatenation of several, and where each of them lies."""
        if any(vector.input == ONE for vector in group.vectors) and not self.one:
            self.one = self.names.fresh(ONE)
            self.made.append(Value(self.one, "const", (), {"value": [1.0], "dtype": "f32"}, TensorType((1,))))
        names = [self.one if vector.input == ONE else vector.input for vector in group.vectors]
        types = [vector.input_type for vector in group.vectors]
        segments: list[dict[str, object]] = []
        start = 0
        for source, size in (pieces for n, v in zip(names, group.vectors, strict=True) for pieces in self._pieces(n, v)):
            segments.append({"value": source, "start": start, "stop": start + size})
            start += size
        if len(names) == 1:
            return names[0], types[0], segments
        x = self.names.fresh(f"{name}.vector")
        type_ = infer("concat", types, {"axis": 0})
        self.made.append(Value(x, "concat", tuple(names), {"axis": 0}, type_))
        return x, type_, segments

    def _pieces(self, name: str, vector: Product) -> list[tuple[str, int]]:
        """The values that a vector is concatenated of, and their sizes: each has a range of its own."""
        value = self.values.get(name)
        if value is None or value.op != "concat" or not vector.single:
            return [(name, vector.inputs)]
        return [(arg, self.original.tensor(arg).size) for arg in value.args]


def _nodes(tree: Addition, values: Mapping[str, Value]) -> list[tuple[Value, list[str]]]:
    """Every addition of a tree and the leaves below it."""
    found: list[tuple[Value, list[str]]] = []

    def below(value: Value) -> list[str]:
        leaves: list[str] = []
        for arg in value.args:
            leaves += [arg] if arg in tree.leaves else below(values[arg])
        found.append((value, leaves))
        return leaves

    below(tree.root)
    return found


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


#: cell -> position of its input and recurrent weights among its arguments, and the gates stacked along their rows.
GATES: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "lstm": ((3, 4), ("i", "f", "g", "o")),
    "gru": ((2, 3), ("r", "z", "n")),
}


def origin(source: Graph, weight: str) -> str:
    """What a tiled part's weight is in the network's own names: ``W[0:64] (r, z)`` for ``W.0_64`` or ``W[0:64]``.

    ``source`` is the stage's graph before its weights were cut (``simplify`` names rows 0 to 63 of ``W`` ``W.0_64``).
    What can't be traced to one of its params stays as it is.
    """
    match = None if weight in source.params else _ROWS.fullmatch(weight)
    name = match[1] if match else weight
    if name not in source.params:
        return weight
    rows = source.params[name].type.shape[0]
    start, stop = (int(match[2] or match[4]), int(match[3] or match[5])) if match else (0, rows)
    label = f"{name}[{start}:{stop}]" if match else name
    for value in source.values:
        positions, gates = GATES.get(value.op, ((), ()))
        if any(value.args[i] == name for i in positions):
            units = rows // len(gates)
            return f"{label} ({', '.join(gates[start // units : -(-stop // units)])})"
    return label


def digital(program: Program) -> dict[str, int]:
    """Ops of a tiled program that stay digital, and how many values of each a step has over all stages."""
    counts: dict[str, int] = {}
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op not in (OP, "const"):
                counts[value.op] = counts.get(value.op, 0) + 1
    return dict(sorted(counts.items()))
