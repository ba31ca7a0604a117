"""Sums of products as one product: ``W x + U h`` becomes ``[W/a, U] [a x, h]``.

TFLite has one FULLY_CONNECTED for that, in place of one for each vector and an ADD. On a Cortex-M4F a row of an int16
FULLY_CONNECTED costs some 80 instructions beside its products, an element of ADD 90, and one that is brought to the
common scale 50. The factor ``a`` makes the weights of ``W / a`` about as large as those of ``U``, since they share
their scales. Then what it costs is that both vectors have one scale, which 16 bits have room for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.ir.graph import Graph, Param, Program, Stage, Value, prune
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.rewrite import Names, rebuild
from neurodeploy.passes.tflite.scales import constants

#: By how much the variance of the weights' rounding may grow.
SHARE = 0.5
#: The least share of the common range that each vector must fill.
FILLS = 1 / 32
#: So many elements of the vectors, at most, for each row of the sum: what is saved per row against what they cost.
COLUMNS = 2
#: Factors that are tried about the ratio of the weights, in half powers of two.
OFFSETS = range(-3, 4)

Ranges = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class _Product:
    """``name = weights @ vector``: weights ``[rows, columns]``, and the greatest size of the vector's elements."""

    name: str
    vector: str
    weights: np.ndarray
    reach: float

    @property
    def tops(self) -> np.ndarray:
        return np.abs(self.weights).max(axis=1)

    @property
    def power(self) -> float:
        """The mean square of the vector, were it spread evenly over its range."""
        return self.weights.shape[1] * self.reach**2 / 3


def joined(program: Program) -> Program:
    """The calibrated float program with such sums as products of concatenated vectors, where that costs little."""
    ranges: dict[str, dict[str, Any]] = {k: dict(v) for k, v in program.meta.get("ranges", {}).items()}
    stages = tuple(replace(s, graph=_Joiner(s, ranges.get(s.name, {})).graph()) for s in program.stages)
    return replace(program, stages=stages, meta={**program.meta, "ranges": ranges})


class _Joiner:
    """One stage's graph on its way; ``ranges`` gets those of new values."""

    def __init__(self, stage: Stage, ranges: dict[str, Any]) -> None:
        self.old, self.ranges = stage.graph, ranges
        self.known, self.made = constants(self.old), {value.name: value for value in self.old.values}
        self.uses = Counter(arg for value in self.old.values for arg in value.args)
        self.uses.update([*self.old.outputs.values(), *(n for s in self.old.states for n in (s.next, s.when) if n)])
        self.names, self.params = Names(self.old.types()), dict(self.old.params)
        self.vectors: dict[tuple[tuple[str, float], ...], str] = {}

    def graph(self) -> Graph:
        values: list[Value] = []
        inner = {a for v in self.old.values if v.op == "add" for a in self._leaves(v)[1]}
        for value in self.old.values:
            found = None if value.name in inner or value.op != "add" else self._sum(value)
            values.extend([value] if found is None else found)
        return prune(rebuild(self.old, values, self.params, {}))

    def _leaves(self, value: Value) -> tuple[list[str], list[str]]:
        """What a tree of sums of one shape adds up, and the inner sums, which nothing else reads."""
        leaves, inner = [], []
        for arg in value.args:
            source = self.made.get(arg)
            if source is not None and self.uses[arg] == 1 and source.op == "add" and source.tensor == value.tensor:
                more, below = self._leaves(source)
                leaves, inner = [*leaves, *more], [*inner, arg, *below]
            else:
                leaves.append(arg)
        return leaves, inner

    def _product(self, name: str, rows: TensorType) -> _Product | None:
        value = self.made.get(name)
        if value is None or value.op != "matmul" or self.uses[name] != 1 or value.tensor != rows or name in self.known:
            return None
        for vector, weights in (value.args, value.args[::-1]):
            type_ = self.old.types()[vector]
            if weights in self.known and vector in self.ranges and isinstance(type_, TensorType):
                data = np.asarray(self.known[weights], np.float64)
                if len(type_.shape) == 1 and data.ndim == 2 and type_.dtype == "f32":
                    low, high = self.ranges[vector]
                    return _Product(name, vector, data if weights == value.args[0] else data.T, max(-low, high))
        return None

    def _sum(self, value: Value) -> list[Value] | None:
        """The values in place of a sum of products; None where it stays."""
        if value.tensor.dtype != "f32" or len(value.tensor.shape) != 1 or value.name in self.known:
            return None
        leaves, _ = self._leaves(value)
        products = [p for p in (self._product(leaf, value.tensor) for leaf in leaves) if p is not None]
        by = _factors(products) if len({p.vector for p in products}) == len(products) > 1 else None
        if by is None:
            return None
        vector, made = self._vector(products, by)
        weights = np.concatenate([p.weights / f for p, f in zip(products, by, strict=True)], axis=1)
        stem = "_".join(dict.fromkeys(a for p in products for a in self.made[p.name].args if a in self.known))
        self.params[matrix := self.names.fresh(stem)] = Param(
            TensorType(weights.shape, "f32"), weights.astype(np.float32)
        )
        rest = [leaf for leaf in leaves if leaf not in {p.name for p in products}]
        total = self.names.fresh(f"{value.name}.joined") if rest else value.name
        made.append(Value(total, "matmul", (matrix, vector), {}, value.type))
        self.ranges[total] = [sum(self.ranges[p.name][side] for p in products) for side in (0, 1)]
        for i, leaf in enumerate(rest):
            name = value.name if i == len(rest) - 1 else self.names.fresh(f"{value.name}.part")
            made.append(Value(name, "add", (total, leaf), {}, value.type))
            if name != value.name:
                self.ranges[name] = self._plus(total, leaf)
            total = name
        return made

    def _plus(self, left: str, right: str) -> list[float]:
        def span(name: str) -> Sequence[float]:
            if name in self.known:
                return float(np.min(self.known[name])), float(np.max(self.known[name]))
            return self.ranges[name]

        return [float(a + b) for a, b in zip(span(left), span(right), strict=True)]

    def _vector(self, products: Sequence[_Product], by: Sequence[float]) -> tuple[str, list[Value]]:
        """The vectors, each times its factor, in one, and the values that make it. All have its range, so its scale."""
        key = tuple((p.vector, f) for p, f in zip(products, by, strict=True))
        if key in self.vectors:
            return self.vectors[key], []
        ends = [np.multiply(self.ranges[name], factor) for name, factor in key]
        span = [float(min(e[0] for e in ends)), float(max(e[1] for e in ends))]
        made, parts = list[Value](), list[str]()
        for name, factor in key:
            type_ = self.old.tensor(name)
            if factor != 1:
                # as long as the vector: MUL takes three times as long where it broadcasts
                self.params[number := self.names.fresh(f"{name}_factor")] = Param(
                    type_, np.full(type_.shape, factor, np.float32)
                )
                made.append(Value(self.names.fresh(f"{name}.scaled"), "mul", (name, number), {}, type_))
                self.ranges[name := made[-1].name] = span
            parts.append(name)
        size = sum(p.weights.shape[1] for p in products)
        whole = self.names.fresh(".".join(["both" if len(key) == 2 else "all", *(n for n, _ in key)]))
        made.append(Value(whole, "concat", tuple(parts), {"axis": 0}, TensorType((size,), "f32")))
        self.ranges[whole] = span
        self.vectors[key] = whole
        return whole, made


def _factors(products: Sequence[_Product]) -> list[float] | None:
    """A factor for each vector, 1 for the longest, so that the weights' rounding adds least noise; None where it still
    costs too much, or too much time."""
    rows, columns = len(products[0].weights), sum(p.weights.shape[1] for p in products)
    sizes = [float(np.sqrt(np.mean(p.tops**2))) for p in products]
    if columns > COLUMNS * rows or min(sizes) <= 0 or min(p.reach for p in products) <= 0:
        return None
    longest = max(range(len(products)), key=lambda i: products[i].weights.shape[1])
    middle = [0 if i == longest else round(2 * math.log2(size / sizes[longest])) for i, size in enumerate(sizes)]
    halves, before = middle, None
    while halves != before:  # one vector after another: the ways to choose all at once grow with a power
        before = halves
        for i in (i for i in range(len(products)) if i != longest):
            tried = ([*halves[:i], middle[i] + offset, *halves[i + 1 :]] for offset in OFFSETS)
            halves = min(tried, key=lambda h: _noise(products, _powers(h)))
    best = _powers(halves)
    reaches = [p.reach * f for p, f in zip(products, best, strict=True)]
    apart = sum(np.sum(p.tops**2) * p.power for p in products)
    fits = min(reaches) >= FILLS * max(reaches) and _noise(products, best) <= (1 + SHARE) * apart
    return best if fits else None


def _powers(halves: Sequence[int]) -> list[float]:
    return [2.0 ** (h / 2) for h in halves]


def _noise(products: Sequence[_Product], by: Sequence[float]) -> float:
    """The variance of a sum whose weights are rounded on common scales, in units that don't depend on the factors."""
    tops = np.max([p.tops / f for p, f in zip(products, by, strict=True)], axis=0)
    return float(np.sum(tops**2) * sum(f**2 * p.power for p, f in zip(products, by, strict=True)))
