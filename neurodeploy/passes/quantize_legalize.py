"""Float rewrites that put a program into the forms that have integer rules; the real values stay the same.

``x @ W`` becomes ``W^T @ x``; ``W @ concat(a, b)`` a sum of two products, so that a and b keep their own scales;
an ``einsum`` of a weight and values a product of the weight with an outer product; ``softmax`` and division by a
constant the ops that they consist of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Graph, Param, Value
from neurodeploy.ir.ops_math import einsum_terms
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.rewrite import Names

Ranges = dict[str, list[float]]


class Legalizer:
    """One stage's graph; ``ranges`` learns those of the values that are added."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Any]) -> None:
        self.graph, self.ranges = graph, dict(ranges)
        self.b = Builder()
        self.consts: dict[str, np.ndarray] = {name: p.data for name, p in graph.params.items() if p.type.dtype == "f32"}
        self.made = {value.name: value for value in graph.values}
        self.new = Names(graph.types()).fresh

    def run(self) -> tuple[Graph, Ranges]:
        """The graph in legal form, and the ranges of all its values."""
        b, graph = self.b, self.graph
        for name, type_ in graph.inputs.items():
            b.input(name, type_)
        for name, param in graph.params.items():
            b.param(name, param)
        for state in graph.states:
            b.state(state.name, state.type, Sym(state.init, b) if state.init else None)
        for value in graph.values:
            if value.op == "const" and value.tensor.dtype == "f32":
                self.consts[value.name] = np.asarray(value.attrs["value"], np.float32)
            rule = _RULES.get(value.op)
            if rule is None or value.tensor.dtype != "f32" or not rule(self, value):
                b.add_value(value)
        for state in graph.states:
            b.next(Sym(state.name, b), Sym(state.next, b), Sym(state.when, b) if state.when else None)
        for out, name in graph.outputs.items():
            b.output(out, Sym(name, b))
        return b.graph(), self.ranges

    def sym(self, name: str) -> Sym:
        return Sym(name, self.b)

    def weight(self, stem: str, data: np.ndarray) -> Sym:
        """A new param that holds rearranged weights."""
        made = self.b.param(self.new(stem), Param(TensorType(data.shape), np.array(data, np.float32, order="C")))
        self.consts[made.name] = data
        return made

    def top(self, name: str) -> float:
        """Largest magnitude of a value or constant."""
        if name in self.consts:
            data = self.consts[name]
            return float(np.max(np.abs(data))) if data.size else 0.0
        low, high = self.ranges.get(name, (-1.0, 1.0))
        return max(abs(low), abs(high))

    def note(self, made: Sym, low: float, high: float) -> Sym:
        """A new value and its range."""
        self.ranges[made.name] = [float(low), float(high)]
        return made


def _matmul(z: Legalizer, value: Value) -> bool:
    left, right = value.args
    types = z.b.types
    if right in z.consts and left not in z.consts and len(types[left].shape) == 1:  # type: ignore[union-attr]
        weight = z.consts[right]
        turned = z.weight(f"{right}.T", weight.T if weight.ndim == 2 else weight[None])
        if weight.ndim == 1:
            product = _sum_of_products(z, turned, left, z.new(f"{value.name}.row"))
            z.note(product, *z.ranges.get(value.name, (-1, 1)))
            z.b("reshape", product, name=value.name, shape=[])
            return True
        _sum_of_products(z, turned, left, value.name)
        return True
    if left in z.consts and z.consts[left].ndim == 1 and len(types[right].shape) == 1:  # type: ignore[union-attr]
        product = _sum_of_products(z, z.weight(f"{left}.row", z.consts[left][None]), right, z.new(f"{value.name}.row"))
        z.note(product, *z.ranges.get(value.name, (-1, 1)))
        z.b("reshape", product, name=value.name, shape=[])
        return True
    if left in z.consts and z.consts[left].ndim == 2 and len(types[right].shape) == 1:  # type: ignore[union-attr]
        source = z.made.get(right)
        if source is not None and source.op == "concat" and len(source.args) > 1:
            _sum_of_products(z, z.sym(left), right, value.name)
            return True
    return False


def _sum_of_products(z: Legalizer, weight: Sym, x: str, name: str) -> Sym:
    """``weight @ x``, part by part where x is a concat of vectors."""
    source = z.made.get(x)
    if source is None or source.op != "concat" or len(source.args) == 1:
        return z.b("matmul", weight, z.sym(x), name=name)
    data = z.consts[weight.name]
    start, total = 0, None
    for i, part in enumerate(source.args):
        size = z.sym(part).shape[0]
        piece = z.weight(f"{weight.name}.{start}_{start + size}", data[:, start : start + size])
        last = i == len(source.args) - 1
        product = z.b("matmul", piece, z.sym(part), name=z.new(f"{name}.part"))
        bound = float(np.abs(data[:, start : start + size]).sum(axis=1).max()) * z.top(part)
        z.note(product, -bound, bound)
        if total is None:
            total = product
        else:
            total = z.b("add", total, product, name=name if last else z.new(f"{name}.sum"))
            if not last:
                z.note(total, *z.ranges.get(name, (-bound, bound)))
        start += size
    return total  # type: ignore[return-value]


def _einsum(z: Legalizer, value: Value) -> bool:
    _, terms, out = einsum_terms(value.attrs, len(value.args))
    weights = [i for i, arg in enumerate(value.args) if arg in z.consts]
    if len(weights) != 1 or any(len(set(t)) != len(t) for t in terms):
        return False
    others = [i for i in range(len(value.args)) if i != weights[0]]
    weight, term = z.consts[value.args[weights[0]]], terms[weights[0]]
    letters = "".join(dict.fromkeys("".join(terms[i] for i in others)))
    summed = "".join(c for c in letters if c not in out)
    if set(summed) != set(letters) or set(term) != set(out + summed) or len(out) != 1:
        return False
    vector, product = z.sym(value.args[others[0]]), terms[others[0]]
    for i in others[1:]:
        merged = "".join(dict.fromkeys(product + terms[i]))
        bound = z.top(vector.name) * z.top(value.args[i])
        vector = z.b(
            "einsum",
            vector,
            z.sym(value.args[i]),
            name=z.new(f"{value.name}.outer"),
            eq=f"{product},{terms[i]}->{merged}",
        )
        z.note(vector, -bound, bound)
        product = merged
    order = [term.index(c) for c in out + product]
    matrix = weight.transpose(order).reshape(weight.shape[term.index(out)], -1)
    flat = vector
    if len(product) != 1:
        flat = z.note(
            z.b("reshape", vector, name=z.new(f"{value.name}.flat"), shape=[matrix.shape[1]]),
            *z.ranges.get(vector.name, (-1, 1)),
        )
    z.b("matmul", z.weight(f"{value.args[weights[0]]}.flat", matrix), flat, name=value.name)
    return True


#: What e^d is taken for: d in [-16, 0]; beyond it is below 2^-23 of the largest term.
SOFTMAX_DEPTH = 16.0


def _softmax(z: Legalizer, value: Value) -> bool:
    b, x, axis = z.b, z.sym(value.args[0]), value.attrs.get("axis", 0)
    low, high = z.ranges.get(x.name, (-1.0, 1.0))
    top = z.note(b("reduce_max", x, axis=axis, keepdims=True, name=z.new(f"{value.name}.max")), low, high)
    depth = z.note(b("sub", x, top, name=z.new(f"{value.name}.depth")), -SOFTMAX_DEPTH, 0.0)
    e = z.note(b("exp", depth, name=z.new(f"{value.name}.exp")), 0.0, 1.0)
    count = x.shape[axis]
    total = z.note(b("sum", e, axis=axis, keepdims=True, name=z.new(f"{value.name}.sum")), 0.0, float(count))
    b("div", e, total, name=value.name)
    z.ranges.setdefault(value.name, [0.0, 1.0])
    return True


def _div(z: Legalizer, value: Value) -> bool:
    left, right = value.args
    if right not in z.consts or left in z.consts or not np.all(z.consts[right]):
        return False
    inverse = z.consts[right].astype(np.float64) ** -1
    factor = (
        z.weight(f"{right}.inverse", inverse)
        if inverse.ndim
        else z.b.const(float(inverse), name=z.new(f"{right}.inverse"))
    )
    z.consts[factor.name] = inverse
    z.b("mul", z.sym(left), factor, name=value.name)
    return True


_RULES: Mapping[str, Callable[[Legalizer, Value], bool]] = {
    "matmul": _matmul,
    "einsum": _einsum,
    "softmax": _softmax,
    "div": _div,
}
