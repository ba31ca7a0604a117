"""Tiling: every matrix product with constant weights becomes a composite ``crossbar``, to be put onto analog tiles.

Composites are inlined first, so that a gate's matrix is seen wherever it hides. Then each ``matmul`` of a constant (a
param, or slices, concatenations, ... of params) with a value becomes ``crossbar(weight, x)``: its body is that very
``matmul``, so the program means what it meant, and its attributes say how the matrix is split. Products that take the
same vector under the same guards are stacked along the outputs: they share the vector's converters, and one physical
read gives all of them. Everything else stays digital: elementwise ops, ``einsum``, products of two values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from neurodeploy.errors import TargetError, UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Program, Value, guards, prune
from neurodeploy.ir.ops import OPS, infer
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify
from neurodeploy.passes.expand import expand_graph
from neurodeploy.passes.rewrite import Names, evaluate

OP = "crossbar"
_ROWS = re.compile(r"(.+?)(?:\[(\d+):(\d+)\]|\.(\d+)_(\d+))")


@dataclass(frozen=True)
class Tiling:
    """Program -> program in which products with constant weights are ``crossbar`` composites.

    ``rows``: inputs of a tile; ``columns``: its bit lines, two an output (g+ and g-). Raises :class:`TargetError` for a
    tile too small, :class:`UnsupportedError` for other numerics than float and native, or if there is nothing to map.
    """

    rows: int = 128
    columns: int = 128

    def __call__(self, program: Program) -> Program:
        if self.rows < 1 or self.columns < 2:
            raise TargetError(
                f"a tile of {self.rows} x {self.columns} holds no weight; needed at least 1 row and 2 columns "
                "(a weight is a pair of devices on two bit lines).",
                place="tiling",
            )
        if program.numerics not in ("float", "native"):
            raise UnsupportedError(
                f"its numerics are '{program.numerics}'; crossbars take float or native.",
                place=program.name,
                hint="Compile the float model, or quantize it to native.",
            )
        tiled = verify(program.map_graphs(self._graph))
        if not any(value.op == OP for stage in tiled.stages for value in stage.graph.values):
            raise UnsupportedError(
                "has no matrix product with constant weights; a crossbar would have nothing to hold.",
                place=program.name,
                hint="Choose another target.",
            )
        return tiled

    def _graph(self, graph: Graph) -> Graph:
        graph = expand_graph(graph, keep=(OP,))
        constant = _Constants(graph)
        conditions = guards(graph)
        groups: dict[object, list[_Product]] = {}
        for value in graph.values:
            product = _product(graph, value, constant)
            if product is not None:
                groups.setdefault(product.key(conditions[value.name]), []).append(product)
        firsts = {members[0].value.name: members for members in groups.values()}
        names = Names(graph.types())
        params = dict(graph.params)
        made: dict[str, list[Value]] = {}
        for name, members in firsts.items():
            made[name], (key, weight) = self._mapped(members, names)
            params[key] = weight
            made.update({m.value.name: [] for m in members[1:]})
        values = [new for value in graph.values for new in made.get(value.name, [value])]
        return prune(replace(graph, params=params, values=_ordered(graph, params, values)))

    def _mapped(self, members: list[_Product], names: Names) -> tuple[list[Value], tuple[str, Param]]:
        """The values of one group, and its stacked weight."""
        first = members[0]
        stacked = first.weight if len(members) == 1 else np.concatenate([m.weight for m in members])
        alone = len(members) == 1 and first.value.tensor.shape == first.result_shape
        name = first.value.name if alone else names.fresh(f"{first.value.name}.stack")
        weight_name = names.fresh(f"{name}.weight")
        weight = Param(TensorType(stacked.shape, first.weight_dtype), np.array(stacked, order="C"))
        outputs = stacked.shape[0] if first.side == "left" else stacked.shape[1]
        parts = []
        start = 0
        for member in members:
            stop = start + (member.weight.shape[0] if first.side == "left" else outputs)
            parts.append({"value": member.value.name, "weight": member.label, "outputs": [start, stop]})
            start = stop
        attrs = {"side": first.side, "rows": self.rows, "columns": self.columns, "parts": parts}
        body = _body(weight.type, first.input_type, first.side)
        (result,) = body.output_types().values()
        kept = first.value.tensor if alone else result
        mapped = Value(name, OP, (weight_name, first.input), attrs, kept, body)
        if alone:
            return [mapped], (weight_name, weight)
        values = [mapped]
        for member, part in zip(members, parts, strict=True):
            cut = {"axis": 0, "start": part["outputs"][0], "stop": part["outputs"][1]}
            type_ = member.value.tensor
            row = result.with_(shape=(cut["stop"] - cut["start"],))
            if type_.shape == row.shape:
                values.append(Value(member.value.name, "slice", (name,), cut, type_))
            else:  # a dot product with a weight vector: one output, a scalar
                inner = names.fresh(f"{member.value.name}.row")
                values.append(Value(inner, "slice", (name,), cut, row))
                values.append(Value(member.value.name, "reshape", (inner,), {"shape": list(type_.shape)}, type_))
        return values, (weight_name, weight)


@dataclass(frozen=True)
class _Product:
    """A matmul of constant weights and one value. Weights multiplying vectors stand as ``[outputs, inputs]``."""

    value: Value
    input: str
    input_type: TensorType
    weight: np.ndarray
    weight_dtype: str
    side: str
    label: str

    @property
    def result_shape(self) -> tuple[int, ...]:
        return _body(TensorType(self.weight.shape, self.weight_dtype), self.input_type, self.side).tensor("y").shape

    def key(self, conditions: tuple[str, ...]) -> object:
        """Products of one key are stacked; a matrix of vectors is mapped on its own."""
        alone = self.value.name if len(self.input_type.shape) != 1 else ""
        return self.input, conditions, self.weight_dtype, self.value.tensor.dtype, alone


def _product(graph: Graph, value: Value, constant: _Constants) -> _Product | None:
    if value.op != "matmul" or value.body is not None:
        return None
    left, right = (constant.is_constant(a) for a in value.args)
    if left == right:
        return None
    weight_name, input_ = value.args if left else reversed(value.args)
    weight, x = constant.param(weight_name).data, graph.tensor(input_)
    if not np.isfinite(weight).all():
        raise UnsupportedError("its weights hold NaN or infinity.", place=f"%{value.name}", hint="Train it again.")
    side = "left" if left else "right"
    if len(x.shape) == 1:  # one vector: stand the weights as [outputs, inputs]
        weight = weight[None] if weight.ndim == 1 else (weight if left else weight.T)
        side = "left"
    elif weight.ndim == 1:
        return None  # a weight vector times a matrix of values: kept digital
    return _Product(
        value, input_, x, weight, graph.tensor(weight_name).dtype, side, constant.label(weight_name)
    )  # fmt: skip


def _body(weight: TensorType, x: TensorType, side: str) -> Graph:
    args, types = (("W", "x"), (weight, x)) if side == "left" else (("x", "W"), (x, weight))
    result = infer("matmul", types, {})
    return Graph({"W": weight, "x": x}, {}, (), (Value("y", "matmul", args, {}, result),), {"y": "y"})


@dataclass
class _Constants:
    """Which values depend on params and consts only, what they are, and which params they come from."""

    graph: Graph
    known: dict[str, Param] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {v.name: v for v in self.graph.values}
        self.constants = set(self.graph.params)
        for value in self.graph.values:
            if value.op in OPS and value.op != "random" and all(a in self.constants for a in value.args):
                self.constants.add(value.name)

    def is_constant(self, name: str) -> bool:
        return name in self.constants

    def param(self, name: str) -> Param:
        """Its data, computed by the golden model."""
        if name in self.graph.params:
            return self.graph.params[name]
        if name not in self.known:
            value = self.values[name]
            self.known[name] = evaluate(value, [self.param(a) for a in value.args])
        return self.known[name]

    def label(self, name: str) -> str:
        """``W`` for a param, ``W[32:64]`` for rows of it, else the names that it is made of."""
        if name in self.graph.params:
            return name
        value = self.values[name]
        if value.op == "slice" and value.attrs.get("axis", 0) == 0 and value.attrs.get("step", 1) == 1:
            stop = value.attrs.get("stop", self.graph.tensor(value.args[0]).shape[0])
            return f"{self.label(value.args[0])}[{value.attrs.get('start', 0)}:{stop}]"
        if value.op == "const":
            return name
        return f"{value.op}({', '.join(self.label(a) for a in value.args)})"


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
