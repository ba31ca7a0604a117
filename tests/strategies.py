"""Random step graphs for property tests: float ones to quantize, integer ones with bounds known to hold.

``float_cases()`` and ``integer_cases()`` draw a :class:`Case`: a program of one forward stage and inputs for it. The
shape of the graph is drawn by hypothesis, so that a failing case shrinks; numbers come from a drawn seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType, int_range

BATCH, STEPS = 3, 5


@dataclass(frozen=True, eq=False)
class Case:
    """A program and inputs for it: input -> ``[BATCH, STEPS, ...]``, and the steps of each sample."""

    program: Program
    inputs: dict[str, np.ndarray]
    lengths: np.ndarray

    def __repr__(self) -> str:
        from neurodeploy.ir.text import print_program

        return f"Case(\n{print_program(self.program)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows a failing case."""
        printer.text(repr(self))


def as_program(b: Builder, name: str, numerics: str = "float") -> Program:
    """A program of one forward stage that takes what the graph takes and gives what it gives."""
    graph = b.graph()
    inputs = {n: ProgramInput(t) for n, t in graph.inputs.items()}
    stage = Stage("main", graph, Drive(), {n: Ref(n) for n in inputs})
    return Program(name, inputs, (stage,), {n: Ref(n, "main") for n in graph.outputs}, numerics)


# -- float -------------------------------------------------------------------------------------------------------------

FLOAT_OPS = (
    "add", "sub", "mul", "scale", "vector", "dense", "dense", "tanh", "sigmoid", "relu", "abs", "neg", "min", "clip",
    "slice", "concat", "select", "sum", "mean", "reshape", "softsign", "exp", "gate", "softmax", "dot",
)  # fmt: skip


@st.composite
def float_cases(draw: st.DrawFn, max_ops: int = 12) -> Case:
    """A random float step graph: products with weights, gates, elementwise ops, moves, one to three states, a guard."""
    r = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    b = Builder()
    size = draw(st.integers(1, 6))
    known = [b.input("x", [size])]
    states = [b.state(f"s{i}", [draw(st.integers(1, 6))]) for i in range(draw(st.integers(1, 3)))]
    known += states
    for op in draw(st.lists(st.sampled_from(FLOAT_OPS), min_size=1, max_size=max_ops)):
        pick = known[draw(st.integers(0, len(known) - 1))]
        other = known[draw(st.integers(0, len(known) - 1))]
        known.append(_float_value(b, r, op, pick, other))
    when = None
    if draw(st.booleans()):
        when = b("lt", b("sum", known[draw(st.integers(0, len(known) - 1))], axis=0), b.const(0.3))
    for i, state in enumerate(states):
        source = known[draw(st.integers(0, len(known) - 1))]
        new = b("tanh", _dense(b, r, source, state.shape[0]) + _dense(b, r, state, state.shape[0]))
        if draw(st.booleans()):
            leak = float(np.float32(r.uniform(0.05, 1.0)))
            new = state + leak * (new - state)
        b.next(state, new, when if i == 0 else None)
    b.output("y", known[-1])
    b.output("s", known[draw(st.integers(1, len(states)))])
    x = r.normal(size=(BATCH, STEPS, size)).astype(np.float32)
    return Case(as_program(b, "random_float"), {"x": x}, r.integers(1, STEPS + 1, BATCH))


def _dense(b: Builder, r: np.random.Generator, x: Sym, rows: int) -> Sym:
    weight = b.param("W", (r.normal(size=(rows, x.shape[0])) / np.sqrt(x.shape[0])).astype(np.float32))
    return weight @ x + b.param("bias", (0.3 * r.normal(size=rows)).astype(np.float32))


def _matched(b: Builder, r: np.random.Generator, x: Sym, y: Sym) -> Sym:
    """``y`` in x's size, by a slice or a product with weights."""
    if y.shape == x.shape:
        return y
    return y.slice(0, x.shape[0]) if y.shape[0] > x.shape[0] else _dense(b, r, y, x.shape[0])


def _float_value(b: Builder, r: np.random.Generator, op: str, x: Sym, y: Sym) -> Sym:
    n = x.shape[0]
    if op in ("add", "sub", "mul", "min"):
        return b(op, x, _matched(b, r, x, y))
    if op in ("tanh", "sigmoid", "relu", "abs", "neg"):
        return b(op, x)
    if op == "scale":
        return float(np.float32(r.normal())) * x
    if op == "vector":
        return x * b.param("v", r.normal(size=n).astype(np.float32))
    if op == "dense":
        return _dense(b, r, x, int(r.integers(1, 7)))
    if op == "clip":
        return b("max", b("min", x, b.const(0.75)), b.const(-0.5))
    if op == "slice":
        start = int(r.integers(0, n))
        return x.slice(start, int(r.integers(start + 1, n + 1)))
    if op == "concat":
        return b("concat", x, y, axis=0) if n + y.shape[0] <= 12 else x
    if op == "select":
        other = _matched(b, r, x, y)
        return b("select", x < other, other, 0.5 * x)
    if op == "sum":
        return b("sum", x, axis=0, keepdims=True)
    if op == "mean":
        return x - (1.0 / n) * b("sum", x, axis=0, keepdims=True)
    if op == "reshape":
        square = b("reshape", x, shape=[1, n])
        return b("reshape", b("transpose", square, perm=[1, 0]), shape=[n])
    if op == "softsign":
        return x / (1.0 + b("abs", x))
    if op == "exp":
        return b("exp", b("min", x, b.const(0.0)))
    if op == "softmax":
        return b("softmax", x, axis=0)
    if op == "dot":
        return b("reshape", x @ _matched(b, r, x, y), shape=[1])
    z = b("sigmoid", _dense(b, r, y, n))
    return (1.0 - z) * b("tanh", x) + z * x


# -- integer -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounded:
    """An integer value and bounds that hold for it."""

    sym: Sym
    lo: int
    hi: int

    @property
    def size(self) -> int:
        return max(abs(self.lo), abs(self.hi))


INTEGER_OPS = (
    "add", "sub", "mul", "div", "min", "max", "neg", "abs", "relu", "sqrt", "requantize", "rows", "lut", "cast",
    "select", "slice", "concat", "matmul", "affine", "affine2", "einsum", "outer", "sum", "reduce_max", "argmax",
    "gather", "transpose", "row", "put", "shift", "random", "broadcast",
)  # fmt: skip


@st.composite
def integer_cases(draw: st.DrawFn, max_ops: int = 14, ops: Sequence[str] = INTEGER_OPS) -> Case:
    """A random integer step graph of ``native`` ops, or of some of them, in which nothing can leave its dtype."""
    r = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    b = Builder()
    maker = _Integers(b, r)
    size = draw(st.integers(1, 9))
    maker.add(b.input("x", [size], "i16"), *int_range("i16"))
    index = Bounded(b.input("k", [], "i32"), -(2**31), 2**31 - 1)
    maker.index = index
    states = []
    for i in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(["i8", "i16", "i16", "i32"]))
        rows = draw(st.integers(1, 9))
        init = r.integers(*int_range(dtype), rows, endpoint=True) if draw(st.booleans()) else None
        states.append(b.state(f"s{i}", [rows], init, dtype))
        maker.add(states[-1], *int_range(dtype))
    table = b.state("table", [4, size], dtype="i16")
    maker.table = Bounded(table, *int_range("i16"))
    for op in draw(st.lists(st.sampled_from(ops), min_size=1, max_size=max_ops)):
        maker.value(op, draw(st.integers(0, len(maker.known) - 1)), draw(st.integers(0, len(maker.known) - 1)))
    when = None
    if draw(st.booleans()):
        source = maker.vector(maker.known[draw(st.integers(0, len(maker.known) - 1))])
        when = b("lt", b("reduce_max", source.sym, axis=0), b.const(int(r.integers(-99, 9999)), dtype="i32"))
    for i, state in enumerate(states):
        source = maker.sized(maker.known[draw(st.integers(0, len(maker.known) - 1))], state.shape[0])
        b.next(state, b("cast", source.sym, to=state.type.dtype), when if i == 0 else None)
    b.next(table, maker.table.sym, when)
    b.output("y", maker.known[-1].sym)
    b.output("s0", states[0])
    x = r.integers(-(2**15), 2**15, (BATCH, STEPS, size)).astype(np.int16)
    x[0] = r.choice([-32768, 32767, 0], x[0].shape)
    k = r.integers(-2, 7, (BATCH, STEPS)).astype(np.int32)
    return Case(as_program(b, "random_integer", "native"), {"x": x, "k": k}, r.integers(1, STEPS + 1, BATCH))


class _Integers:
    """Grows an integer graph; every value's bounds are computed from its arguments'."""

    index: Bounded
    table: Bounded

    def __init__(self, b: Builder, r: np.random.Generator) -> None:
        self.b, self.r = b, r
        self.known: list[Bounded] = []

    def add(self, sym: Sym, lo: int, hi: int) -> Bounded:
        """Remember a value."""
        low, high = int_range(sym.type.dtype)
        assert low <= lo <= hi <= high, (sym.name, lo, hi, sym.type)
        self.known.append(Bounded(sym, lo, hi))
        return self.known[-1]

    def vector(self, v: Bounded) -> Bounded:
        """As a vector."""
        return v if len(v.sym.shape) == 1 else Bounded(self.b("reshape", v.sym, shape=[v.sym.type.size]), v.lo, v.hi)

    def sized(self, v: Bounded, n: int) -> Bounded:
        """As a vector of n, cut or repeated."""
        v = self.vector(v)
        parts = [v.sym] * -(-n // v.sym.shape[0])
        whole = self.b("concat", *parts, axis=0) if len(parts) > 1 else v.sym
        return Bounded(whole.slice(0, n) if whole.shape[0] > n else whole, v.lo, v.hi)

    def narrow(self, v: Bounded, dtype: str = "i16") -> Bounded:
        """Saturated to a dtype."""
        if v.sym.type.dtype == dtype:
            return v
        low, high = int_range(dtype)
        clipped = (min(max(v.lo, low), high), min(max(v.hi, low), high))
        return Bounded(self.b("cast", v.sym, to=dtype), *clipped)

    def value(self, op: str, i: int, j: int) -> None:
        """One more value of that op from known ones, narrowed first where it could overflow."""
        x, y = self.vector(self.known[i]), self.vector(self.known[j])
        made = getattr(self, f"_{op}", None)
        if made is not None:
            made(x, self.sized(y, x.sym.shape[0]))
        elif op in ("add", "sub"):
            self._plus(op, x, self.sized(y, x.sym.shape[0]))
        elif op in ("min", "max"):
            a, c = self.narrow(x), self.narrow(self.sized(y, x.sym.shape[0]))
            choose = min if op == "min" else max
            self.add(self.b(op, a.sym, c.sym), choose(a.lo, c.lo), choose(a.hi, c.hi))

    def _plus(self, op: str, x: Bounded, y: Bounded) -> None:
        if x.size + y.size >= 2**31:
            x, y = self.narrow(x), self.narrow(y)
        lo, hi = (x.lo + y.lo, x.hi + y.hi) if op == "add" else (x.lo - y.hi, x.hi - y.lo)
        self.add(self.b(op, x.sym, y.sym), lo, hi)

    def _mul(self, x: Bounded, y: Bounded) -> None:
        if x.size * y.size >= 2**31:
            x, y = self.narrow(x), self.narrow(y)
        ends = [a * c for a in (x.lo, x.hi) for c in (y.lo, y.hi)]
        self.add(self.b("mul", x.sym, y.sym), min(ends), max(ends))

    def _div(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("div", x.sym, y.sym), *int_range("i32"))

    def _neg(self, x: Bounded, y: Bounded) -> None:
        x = self.narrow(x) if x.lo == -(2**31) else x
        self.add(self.b("neg", x.sym), -x.hi, -x.lo)

    def _abs(self, x: Bounded, y: Bounded) -> None:
        x = self.narrow(x) if x.lo == -(2**31) else x
        self.add(self.b("abs", x.sym), 0, x.size)

    def _relu(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("relu", x.sym), max(x.lo, 0), max(x.hi, 0))

    def _sqrt(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("sqrt", x.sym), 0, 46341)

    def _requantize(self, x: Bounded, y: Bounded) -> None:
        to = str(self.r.choice(["i8", "i16", "i32"]))
        room = 31 - max(x.lo, x.hi, -x.lo - 1, 0).bit_length()
        pre = int(self.r.integers(0, max(min(room, 15), 0) + 1))
        mult = self.b.const(int(self.r.integers(0, 2**31) >> int(self.r.integers(0, 20))), dtype="i32")
        self.add(self.b("requantize", x.sym, mult, pre=pre, to=to), *int_range(to))

    def _rows(self, x: Bounded, y: Bounded) -> None:
        mult = self.b.param("mult", self.r.integers(0, 2**31, x.sym.shape[0]).astype(np.int32))
        self.add(self.b("requantize", x.sym, mult, pre=0, to="i16"), *int_range("i16"))

    def _lut(self, x: Bounded, y: Bounded) -> None:
        table = self.r.integers(-(2**15), 2**15, 513).astype(np.int16)
        data = Param(TensorType((513,), "i16"), table)
        self.add(self.b("lut", self.narrow(x).sym, self.b.param("table_of", data)), int(table.min()), int(table.max()))

    def _cast(self, x: Bounded, y: Bounded) -> None:
        made = self.narrow(x, str(self.r.choice(["i8", "i16", "i32"])))
        self.add(made.sym, made.lo, made.hi)

    def _select(self, x: Bounded, y: Bounded) -> None:
        a, c = self.narrow(x), self.narrow(y)
        test = self.b(str(self.r.choice(["lt", "eq", "ne"])), x.sym, y.sym)
        self.add(self.b("select", test, a.sym, c.sym), min(a.lo, c.lo), max(a.hi, c.hi))

    def _slice(self, x: Bounded, y: Bounded) -> None:
        n = x.sym.shape[0]
        start = int(self.r.integers(0, n))
        stop = int(self.r.integers(start + 1, n + 1))
        self.add(x.sym.slice(start, stop, step=int(self.r.integers(1, 3))), x.lo, x.hi)

    def _concat(self, x: Bounded, y: Bounded) -> None:
        if x.sym.shape[0] <= 12:
            a, c = self.narrow(x), self.narrow(y)
            self.add(self.b("concat", a.sym, c.sym, axis=0), min(a.lo, c.lo), max(a.hi, c.hi))

    def _weights(self, rows: int, columns: int) -> tuple[Sym, np.ndarray]:
        data = self.r.integers(-127, 128, (rows, columns)).astype(np.int8)
        return self.b.param("W", Param(TensorType(data.shape, "i8"), data)), data

    def _matmul(self, x: Bounded, y: Bounded) -> None:
        x = self.narrow(x)
        weight, data = self._weights(int(self.r.integers(1, 10)), x.sym.shape[0])
        size = int(np.abs(data.astype(np.int64)).sum(axis=1).max()) * x.size
        self.add(weight @ x.sym, -size, size)

    def _affine(self, x: Bounded, y: Bounded, pairs: int = 1) -> None:
        rows = int(self.r.integers(1, 10))
        args: list[Sym] = []
        size = 2**24
        for v in (x, y)[:pairs]:
            v = self.narrow(v, str(self.r.choice(["i8", "i16"])))
            weight, data = self._weights(rows, v.sym.shape[0])
            args += [weight, v.sym]
            size += int(np.abs(data.astype(np.int64)).sum(axis=1).max()) * v.size
        bias = self.b.param("bias", self.r.integers(-(2**24), 2**24, rows, endpoint=True).astype(np.int32))
        (made,) = self.b.call("affine", *args, bias)
        self.add(made, -size, size)

    def _affine2(self, x: Bounded, y: Bounded) -> None:
        self._affine(x, y, 2)

    def _einsum(self, x: Bounded, y: Bounded) -> None:
        x = self.narrow(x)
        data = self.r.integers(-127, 128, (3, x.sym.shape[0], 2)).astype(np.int8)
        weight = self.b.param("T", Param(TensorType(data.shape, "i8"), data))
        size = int(np.abs(data.astype(np.int64)).sum(axis=1).max()) * x.size
        made = self.b("einsum", weight, x.sym, eq="ajb,j->ba")
        self.add(self.b("reshape", made, shape=[6]), -size, size)

    def _outer(self, x: Bounded, y: Bounded) -> None:
        if x.sym.shape[0] <= 4:
            x, y = self.narrow(x), self.narrow(y)
            made = self.b("einsum", x.sym, y.sym, eq="i,j->ij")
            self.add(self.b("reshape", made, shape=[x.sym.shape[0] ** 2]), -x.size * y.size, x.size * y.size)

    def _wide(self, x: Bounded) -> Bounded:
        return self.narrow(x) if x.size * x.sym.shape[0] >= 2**31 else x

    def _sum(self, x: Bounded, y: Bounded) -> None:
        x = self._wide(x)
        n = x.sym.shape[0]
        self.add(self.b("sum", x.sym, axis=0, keepdims=True), x.lo * n, x.hi * n)

    def _reduce_max(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("reduce_max", x.sym, axis=0, keepdims=True), x.lo, x.hi)

    def _argmax(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("argmax", x.sym, axis=0, keepdims=True), 0, x.sym.shape[0] - 1)

    def _gather(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("gather", x.sym, self.narrow(y, "i32").sym, axis=0), x.lo, x.hi)

    def _transpose(self, x: Bounded, y: Bounded) -> None:
        n = x.sym.shape[0]
        rows = 2 if n % 2 == 0 else 1
        turned = self.b("transpose", self.b("reshape", x.sym, shape=[rows, n // rows]), perm=[1, 0])
        self.add(self.b("reshape", turned, shape=[n]), x.lo, x.hi)

    def _broadcast(self, x: Bounded, y: Bounded) -> None:
        if x.sym.shape[0] <= 4:
            wide = self.b("broadcast", x.sym, shape=[2, x.sym.shape[0]])
            self.add(self.b("reshape", wide, shape=[2 * x.sym.shape[0]]), x.lo, x.hi)

    def _row(self, x: Bounded, y: Bounded) -> None:
        self.add(self.b("row", self.table.sym, self.index.sym), min(self.table.lo, 0), max(self.table.hi, 0))

    def _put(self, x: Bounded, y: Bounded) -> None:
        entry = self.narrow(self.sized(x, self.table.sym.shape[1]))
        self.table = Bounded(self.b("put", self.table.sym, self.index.sym, entry.sym), *int_range("i16"))

    def _shift(self, x: Bounded, y: Bounded) -> None:
        entry = self.narrow(self.sized(x, self.table.sym.shape[1]))
        self.table = Bounded(self.b("shift", self.table.sym, entry.sym), *int_range("i16"))

    def _random(self, x: Bounded, y: Bounded) -> None:
        seed = int(self.r.integers(0, 2**31))
        self.add(self.b("random", self.index.sym, seed=seed, shape=[3], dtype="i16"), 0, 32767)
