"""Written in what TFLite Micro has: einsum, prod, and softmax along an axis that isn't the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Program, Value
from neurodeploy.ir.ops import infer
from neurodeploy.ir.ops_math import einsum_terms
from neurodeploy.ir.types import TensorType, Type
from neurodeploy.passes.rewrite import Names, rebuild


@dataclass(frozen=True)
class DecomposeTFLite:
    """Write what TFLite Micro has no operator for in primitives that it has.

    ``einsum`` becomes products two by two, those of computed values first and constants last: a matmul where the two
    share letters that end there, else a broadcast product and a sum. ``prod`` becomes a tree of products. ``softmax``
    is turned to the last axis, and what is written as ``exp(x) / sum(exp(x))`` is one too: in integers its parts would
    need a wide range that the quotient doesn't. Values stay what they were up to float rounding, and keep their names.
    Raises :class:`UnsupportedError` for an einsum that takes a diagonal.
    """

    def __call__(self, program: Program) -> Program:
        return program.map_graphs(lambda graph: _Decomposer(graph).graph())


@dataclass
class _Decomposer:
    """One graph being rewritten, value by value."""

    old: Graph
    values: list[Value] = field(default_factory=list)
    types: dict[str, Type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types = self.old.types()
        self.names = Names(self.types)
        self.made = {value.name: value for value in self.old.values}
        self.constant = set(self.old.params)

    def graph(self) -> Graph:
        for value in self.old.values:
            rule = _RULES.get(value.op)
            if rule is None:
                self.values.append(value)
            else:
                rule(self, value)
            if all(a in self.constant for a in value.args):
                self.constant.add(value.name)
        return rebuild(self.old, self.values, self.old.params, {})

    def shape(self, name: str) -> tuple[int, ...]:
        found = self.types[name]
        return found.shape if isinstance(found, TensorType) else ()

    def emit(self, op: str, args: Sequence[str], stem: str, *, name: str | None = None, **attrs: Any) -> str:
        name = name or self.names.fresh(f"{stem}.{op}")
        self.types[name] = infer(op, [self.types[a] for a in args], attrs)
        self.values.append(Value(name, op, tuple(args), attrs, self.types[name]))
        return name

    def shaped(self, source: str, shape: Sequence[int], stem: str, name: str | None = None) -> str:
        """In that shape; with ``name`` always a value of its own."""
        if name is None and self.shape(source) == tuple(shape):
            return source
        return self.emit("reshape", [source], stem, name=name, shape=list(shape))

    def turned(self, source: str, perm: Sequence[int], stem: str, name: str | None = None) -> str:
        """With its axes in that order; with ``name`` always a value of its own."""
        if name is None and list(perm) == sorted(perm):
            return source
        return self.emit("transpose", [source], stem, name=name, perm=list(perm))


@dataclass(frozen=True)
class _Term:
    """A factor of an einsum: its letters, one per axis, and the value."""

    letters: str
    name: str


def _einsum(d: _Decomposer, value: Value) -> None:
    equation, terms, out = einsum_terms(value.attrs, len(value.args))
    if any(len(set(term)) < len(term) for term in terms):
        raise UnsupportedError(
            f"einsum '{equation}' takes a diagonal, which TFLite Micro can't.",
            place=f"%{value.name}",
            hint="Multiply by an identity matrix and sum, or choose a C target.",
        )
    left = [_Term(term, name) for term, name in zip(terms, value.args, strict=True)]
    while len(left) > 1:
        a, b = _next_pair(d, left, out)
        left = [t for t in left if t is not a and t is not b]
        kept = {*out, *"".join(t.letters for t in left)}
        left.append(_product(d, _summed(d, a, {*b.letters, *kept}, value.name),
                             _summed(d, b, {*a.letters, *kept}, value.name), kept, value.name))  # fmt: skip
    last = _summed(d, left[0], set(out), value.name)
    d.turned(last.name, [last.letters.index(letter) for letter in out], value.name, value.name)


def _next_pair(d: _Decomposer, left: list[_Term], out: str) -> tuple[_Term, _Term]:
    """The two that are multiplied next: computed ones before constants, then those with the smallest product."""
    sizes = {letter: n for t in left for letter, n in zip(t.letters, d.shape(t.name), strict=True)}

    def cost(pair: tuple[_Term, _Term]) -> tuple[int, int]:
        rest = {*out, *"".join(t.letters for t in left if t not in pair)}
        made = {*pair[0].letters, *pair[1].letters} & rest
        return sum(t.name in d.constant for t in pair) % 2, math.prod(sizes[letter] for letter in made)

    pairs = [(a, b) for i, a in enumerate(left) for b in left[i + 1 :]]
    return min(pairs, key=cost)


def _summed(d: _Decomposer, term: _Term, kept: Iterable[str], stem: str) -> _Term:
    """Without the letters that nothing else needs."""
    for letter in term.letters:
        if letter not in kept:
            axis = term.letters.index(letter)
            term = _Term(term.letters.replace(letter, ""), d.emit("sum", [term.name], stem, axis=axis))
    return term


def _product(d: _Decomposer, a: _Term, b: _Term, kept: set[str], stem: str) -> _Term:
    sizes = dict(zip(a.letters + b.letters, d.shape(a.name) + d.shape(b.name), strict=True))
    both = [letter for letter in a.letters if letter in b.letters and letter in kept]
    inner = [letter for letter in a.letters if letter in b.letters and letter not in kept]
    rows = [letter for letter in a.letters if letter not in b.letters]
    columns = [letter for letter in b.letters if letter not in a.letters]

    def count(letters: Iterable[str]) -> int:
        return math.prod(sizes[letter] for letter in letters)

    def arranged(term: _Term, order: list[str], shape: Sequence[int]) -> str:
        turned = d.turned(term.name, [term.letters.index(letter) for letter in order], stem)
        return d.shaped(turned, shape, stem)

    made = [*both, *rows, *columns]
    shape = [sizes[letter] for letter in made]
    if inner and not both:
        left = arranged(a, [*rows, *inner], [*([count(rows)] if rows else []), count(inner)])
        right = arranged(b, [*inner, *columns], [count(inner), *([count(columns)] if columns else [])])
        found = d.emit("matmul", [left, right], stem)
    else:
        lead, tail = ([count(group)] if group else [] for group in (both, inner))
        high, wide = ([count(group)] if group else [] for group in (rows, columns))
        left = arranged(a, [*both, *rows, *inner], [*lead, *high, *(1 for _ in wide), *tail])
        right = arranged(b, [*both, *columns, *inner], [*lead, *(1 for _ in high), *wide, *tail])
        found = d.emit("mul", [left, right], stem)
        if inner:
            found = d.emit("sum", [found], stem, axis=len(d.shape(found)) - 1)
    return _Term("".join(made), d.shaped(found, shape, stem))


def _prod(d: _Decomposer, value: Value) -> None:
    """Halves multiplied with each other until one element is left; an odd one goes along to the next round."""
    source = value.args[0]
    axis = value.attrs.get("axis", 0) % len(d.shape(source))

    def part(start: int, stop: int) -> str:
        return d.emit("slice", [source], value.name, axis=axis, start=start, stop=stop)

    while (size := d.shape(source)[axis]) > 1:
        half = size // 2
        product = d.emit("mul", [part(0, half), part(half, 2 * half)], value.name)
        source = d.emit("concat", [product, part(2 * half, size)], value.name, axis=axis) if size % 2 else product
    d.shaped(source, value.tensor.shape, value.name, value.name)


def _softmax(d: _Decomposer, value: Value) -> None:
    """Along the last axis; along another one turned there and back."""
    shape = value.tensor.shape
    axis, last = value.attrs.get("axis", 0) % len(shape), len(shape) - 1
    if axis == last:
        d.values.append(value)
        return
    perm = list(range(len(shape)))
    perm[axis], perm[last] = last, axis
    made = d.emit("softmax", [d.turned(value.args[0], perm, value.name)], value.name, axis=last)
    d.turned(made, perm, value.name, value.name)


def _normalised(d: _Decomposer, value: Value) -> tuple[str, int] | None:
    """``x`` and the axis where the value is ``exp(x) / sum(exp(x))``."""
    shares, total = (d.made.get(a) for a in value.args)
    if shares is None or total is None or shares.op != "exp" or total.op != "sum" or total.args != (shares.name,):
        return None
    rank = len(shares.tensor.shape)
    if rank > 1 and not total.attrs.get("keepdims"):
        return None
    return shares.args[0], total.attrs.get("axis", 0) % rank


def _div(d: _Decomposer, value: Value) -> None:
    found = _normalised(d, value)
    if found is None:
        d.values.append(value)
        return
    source, axis = found
    _softmax(d, replace(value, op="softmax", args=(source,), attrs={"axis": axis}))


_RULES: Mapping[str, Callable[[_Decomposer, Value], None]] = {
    "einsum": _einsum,
    "prod": _prod,
    "softmax": _softmax,
    "div": _div,
}
