"""Finds what can lie on an array: products of constant weights with a value, and sums of such products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Value
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.passes.rewrite import evaluate

#: The input of a bias on the array: a word line that is always 1.
ONE = "one"


@dataclass(frozen=True, eq=False)
class Product:
    """Constant weights times one value. Weights multiplying vectors stand as ``[outputs, inputs]``.

    ``name`` and ``type`` are those of its result, ``input`` names what it multiplies; ``order`` is the input's place in
    the graph, ``level`` how many products must be read before it is ready. ``key``: what products of one matrix share.
    """

    name: str
    type: TensorType
    input: str
    input_type: TensorType
    weight: np.ndarray
    weight_dtype: str
    side: str
    label: str
    order: int
    level: int
    key: object

    @property
    def inputs(self) -> int:
        """Word lines that it needs."""
        return self.weight.shape[1 if self.side == "left" else 0]

    @property
    def outputs(self) -> int:
        """Results of one vector."""
        return self.weight.shape[0 if self.side == "left" else 1]

    @property
    def single(self) -> bool:
        """Whether it multiplies one vector (rather than each vector of a matrix)."""
        return len(self.input_type.shape) == 1

    def bound(self) -> np.ndarray:
        """The largest magnitude that each output can have, for integers, ``[outputs]``."""
        largest = -int_range(self.input_type.dtype)[0]
        return np.abs(self.weight.astype(np.int64)).sum(axis=1) * largest


@dataclass(frozen=True, eq=False)
class Sum:
    """Products of one output range whose results are added: one matrix over all their vectors."""

    products: tuple[Product, ...]

    @property
    def outputs(self) -> int:
        """Results of one vector."""
        return self.products[0].outputs

    @property
    def level(self) -> int:
        """How many products must be read one after another before all its inputs are ready."""
        return max(p.level for p in self.products)

    @property
    def key(self) -> object:
        """What sums of one matrix share."""
        return self.products[0].key


@dataclass(frozen=True)
class Addition:
    """A tree of ``add`` values, each used by the next one only: its root and what it adds, from left to right.

    ``products``: those leaves that can be joined, products of different vectors that nothing else uses.
    """

    root: Value
    leaves: tuple[str, ...]
    products: tuple[Product, ...]


@dataclass
class Constants:
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


def products(graph: Graph, constant: Constants, conditions: dict[str, tuple[str, ...]]) -> dict[str, Product]:
    """Name -> every product of the graph, in its order. Raises :class:`UnsupportedError` for weights with NaN."""
    order = {name: i for i, name in enumerate(graph.types())}
    level: dict[str, int] = {}
    found: dict[str, Product] = {}
    for value in graph.values:
        level[value.name] = max((level.get(a, 0) for a in value.args), default=0)
        product = _product(graph, value, constant, order, level[value.name], conditions[value.name])
        if product is not None:
            found[value.name] = product
            level[value.name] += 1
    return found


def _product(
    graph: Graph, value: Value, constant: Constants, order: dict[str, int], level: int, conditions: tuple[str, ...]
) -> Product | None:
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
    dtype = graph.tensor(weight_name).dtype
    alone = value.name if len(x.shape) != 1 else ""  # a matrix of vectors is mapped on its own
    key = (conditions, dtype, value.tensor.dtype, x.dtype, alone)
    return Product(
        value.name, value.tensor, input_, x, weight, dtype, side, constant.label(weight_name), order[input_], level, key
    )  # fmt: skip


def bias(graph: Graph, constant: Constants, name: str, first: Product) -> Product | None:
    """A constant that is added to a product, as the product of a word line that is always 1; None for no such thing."""
    if not constant.is_constant(name) or graph.tensor(name).shape != first.type.shape:
        return None
    weight = constant.param(name).data.reshape(-1, 1)
    if not np.isfinite(weight).all():
        raise UnsupportedError("holds NaN or infinity.", place=f"%{name}", hint="Train it again.")
    one = TensorType((1,), first.input_type.dtype)
    label, last = constant.label(name), len(graph.types())
    return Product(name, first.type, ONE, one, weight, first.weight_dtype, "left", label, last, 0, first.key)


def additions(graph: Graph, found: dict[str, Product]) -> list[Addition]:
    """The additions that hold at least one product of a vector, in the graph's order."""
    values = {v.name: v for v in graph.values}
    uses = dict.fromkeys(graph.types(), 0)
    for name in [a for v in graph.values for a in v.args] + list(graph.outputs.values()):
        uses[name] += 1
    for state in graph.states:
        for name in (state.next, state.init, state.when):
            if name:
                uses[name] += 1

    def inner(name: str, root: Value) -> bool:
        value = values.get(name)
        return value is not None and value.op == "add" and uses[name] == 1 and value.tensor.same_data(root.tensor)

    def leaves(root: Value) -> tuple[str, ...]:
        pending, done = list(reversed(root.args)), []
        while pending:
            name = pending.pop()
            if inner(name, root):
                pending.extend(reversed(values[name].args))
            else:
                done.append(name)
        return tuple(done)

    def joinable(root: Value, names: tuple[str, ...]) -> tuple[Product, ...]:
        kept: dict[str, Product] = {}
        for product in (found[n] for n in names if n in found and uses[n] == 1):
            alike = not kept or next(iter(kept.values())).key == product.key
            if product.single and product.type.same_data(root.tensor) and alike:
                kept.setdefault(product.input, product)
        return tuple(kept.values())

    below = {a for v in graph.values if v.op == "add" for a in v.args if inner(a, v)}
    roots = [v for v in graph.values if v.op == "add" and v.name not in below]
    every = [Addition(root, names, joinable(root, names)) for root in roots for names in [leaves(root)]]
    return [a for a in every if a.products]


def inner_sums(tree: Addition, values: Mapping[str, Value]) -> list[tuple[Value, list[str]]]:
    """Every addition of a tree, its root included, and the leaves below it."""
    order = [tree.root]
    for value in order:  # grows while it is read: parents before children
        order += [values[arg] for arg in value.args if arg not in tree.leaves]
    below: dict[str, list[str]] = {}
    for value in reversed(order):
        below[value.name] = [leaf for arg in value.args for leaf in below.get(arg, [arg])]
    return [(value, below[value.name]) for value in order]
