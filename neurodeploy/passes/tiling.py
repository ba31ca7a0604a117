"""Tiling: every matrix product with constant weights becomes a composite ``crossbar``, to be put onto analog tiles.

Composites are inlined first, so that a gate's matrix is seen wherever it hides. Then each ``matmul`` of a constant (a
param, or slices, concatenations, ... of params) with a value becomes ``crossbar(weight, x)``: its body is that very
``matmul``, so the program means what it meant, and its attributes say which weights lie where. Products that take the
same vector under the same guards are stacked along the outputs: they share the vector's converters, and one physical
read gives all of them. Sums of products are joined over their concatenated vectors where that saves conversions
(:mod:`neurodeploy.passes.tiling_plan`): ``W x + U h`` is ``crossbar([W U], concat(x, h))``. Integer sums are joined
only where no partial sum can leave its dtype, so every bit stays. Everything else stays digital: elementwise ops,
``einsum``, products of two values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurodeploy.descriptions_crossbar import Array
from neurodeploy.errors import TargetError, UnsupportedError, UsageError, nearest
from neurodeploy.ir.graph import Graph, Program, guards
from neurodeploy.ir.types import int_range
from neurodeploy.ir.verify import verify
from neurodeploy.passes.expand import expand_graph
from neurodeploy.passes.tiling_plan import Grid, plan
from neurodeploy.passes.tiling_products import Addition, Constants, Sum, additions, bias, inner_sums, products
from neurodeploy.passes.tiling_rewrite import OP, rewritten

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
            why = "a pair of devices on two bit lines" if (each, reference) == (2, 0) else f"{each} bit lines wide"
            column = ", beside a reference column" if reference else ""
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
        return rewritten(graph, groups, trees)


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
    names = {p.name for p in joined.products}
    if any(names == set(leaves) for _, leaves in inner_sums(tree, constant.values)):
        return True  # the program adds just these
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
