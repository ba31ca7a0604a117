"""The integer rule of every op that has one: arguments with scales and bounds in, a result with both out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import Quant, int_range
from neurodeploy.passes.quantize_plan import i16_scale
from neurodeploy.passes.quantize_products import product_rules
from neurodeploy.passes.quantize_tables import table_rules
from neurodeploy.passes.quantize_values import I32_MAX, Const, Fixed, Plain

if TYPE_CHECKING:
    from neurodeploy.passes.quantize_lower import Lowered, Lowering

Rule = Callable[["Lowering", Value], Any]
#: An operand of an elementwise product: 16 bits, and one more for a difference of two.
_FACTOR_MAX = 2**16


# -- add, sub ----------------------------------------------------------------------------------------------------------


def add(z: Lowering, a: Fixed, b: Lowered, sign: int, want: float, name: str) -> Fixed:
    """``a + sign b``."""
    op = "add" if sign > 0 else "sub"
    if isinstance(b, Const):
        constant = _constant_like(z, b, a, f"{name}.const")
        if constant is not None:
            return _combine(z, op, a, constant, want, name)
        scale = 2.0 ** math.ceil(math.log2(max(b.top, 1e-30) / 2.0**29))
        b = z.e.constant(b, scale, "i32", f"{name}.const", want)
    if isinstance(b, Plain):
        z.refuse(Value(name, op, (), {}, b.sym.type), "a whole number can't be added to a real")
        return a
    one, other = z.e.align(replace(a, want=min(a.want, want) if not a.rows else a.want), b, want)
    return _combine(z, op, one, other, want, name)


def _combine(z: Lowering, op: str, a: Fixed, b: Fixed, want: float, name: str) -> Fixed:
    """The sum or difference of two at one scale."""
    b_lo, b_hi = (b.lo, b.hi) if op == "add" else (-b.hi, -b.lo)
    return z.e.emit(op, (a.sym, b.sym), a.scale, a.lo + b_lo, a.hi + b_hi, want, name)


def _constant_like(z: Lowering, const: Const, x: Fixed, stem: str, rounding: Any = np.rint) -> Fixed | None:
    """A constant at x's scale, if i32 holds it and the sum."""
    if x.rows and const.data.shape not in ((), (len(x.scale),)):  # type: ignore[arg-type]
        return None
    if x.finest <= 0 or const.top / x.finest + x.size > I32_MAX:
        return None
    data = np.broadcast_to(const.data, x.shape) if x.rows else const.data
    return z.e.constant(Const(np.asarray(data)), x.scale, "i32", stem, x.want, rounding)


def _add(z: Lowering, value: Value) -> Fixed:
    a, b = (z.env[n] for n in value.args)
    if isinstance(a, Const):
        a, b = b, a
    return add(z, _fixed(z, a, value), b, 1, z.want(value), value.name)


def _sub(z: Lowering, value: Value) -> Fixed:
    a, b = (z.env[n] for n in value.args)
    want = z.want(value)
    if isinstance(a, Const):
        x = _fixed(z, b, value)
        constant = _constant_like(z, a, x, f"{value.name}.const")
        if constant is not None:
            return _combine(z, "sub", constant, x, want, value.name)
        a = z.fixed(value.args[0])
    return add(z, _fixed(z, a, value), b, -1, want, value.name)


def _fixed(z: Lowering, found: Lowered, value: Value) -> Fixed:
    if isinstance(found, Fixed):
        return found
    z.refuse(value, "a whole number stands where a real is needed; cast it")
    raise AssertionError  # refuse has raised


# -- mul, neg, abs, relu -----------------------------------------------------------------------------------------------


def _mul(z: Lowering, value: Value) -> Fixed:
    a, b = (z.env[n] for n in value.args)
    want = z.want(value)
    if isinstance(a, Const):
        a, b = b, a
    x = _fixed(z, a, value)
    if isinstance(b, Const):
        scaled = _scaled(z, x, b, value, want)
        if scaled is not None:
            return scaled
        y = z.fixed(value.args[0] if isinstance(z.env[value.args[0]], Const) else value.args[1])
    else:
        y = _fixed(z, b, value)
    square = value.args[0] == value.args[1]
    x, y = (v if v.size <= _FACTOR_MAX and not v.rows else z.e.narrow(v) for v in (x, y))
    while x.size * y.size > I32_MAX:
        wide = x if x.size >= y.size else y
        cut = _cut(z, wide)
        x, y = (cut if v is wide else v for v in (x, y))
    corners = [int(p) * int(q) for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
    low = 0 if square else min(corners)
    return z.e.emit("mul", (x.sym, y.sym), x.scale * y.scale, low, max(corners), want, value.name)


def _cut(z: Lowering, x: Fixed) -> Fixed:
    """A factor that is too wide for the product, in 16 bits that saturate."""
    if x.dtype == "i32":
        return z.e.rescale(x, max(x.want, float(x.scale)), "i16")
    return z.e.rescale(x, float(x.scale) * 2, "i16")


def _scaled(z: Lowering, x: Fixed, const: Const, value: Value, want: float) -> Fixed | None:
    """A product with a constant that is only another scale: no multiplication at all."""
    number = const.uniform
    if number is not None and value.tensor.shape == x.shape and number != 0:
        scaled = replace(x.times(abs(number)), want=want)
        return scaled if number > 0 else _negated(z, scaled, value.name)
    positive = bool(np.all(const.data > 0))
    if positive and const.data.shape == x.shape and len(x.shape) == 1 and number is None:
        return replace(x.times(const.data), want=want)
    return None


def _negated(z: Lowering, x: Fixed, name: str) -> Fixed:
    return z.e.emit("neg", (x.sym,), x.scale, -x.hi, -x.lo, x.want, name)


def _neg(z: Lowering, value: Value) -> Fixed:
    return replace(_negated(z, z.fixed(value.args[0]), value.name), want=z.want(value))


def _abs(z: Lowering, value: Value) -> Fixed:
    x = z.fixed(value.args[0])
    high = np.maximum(np.abs(x.lo), np.abs(x.hi))
    low = np.maximum(np.maximum(x.lo, -np.asarray(x.hi)), 0)
    lo, hi = (low, high) if x.rows else (int(low), int(high))
    return z.e.emit("abs", (x.sym,), x.scale, lo, hi, z.want(value), value.name)


def _relu(z: Lowering, value: Value) -> Fixed:
    x = z.fixed(value.args[0])
    lo, hi = np.maximum(x.lo, 0), np.maximum(x.hi, 0)
    if not x.rows:
        lo, hi = int(lo), int(hi)
    return z.e.emit("relu", (x.sym,), x.scale, lo, hi, z.want(value), value.name)


# -- choosing and comparing --------------------------------------------------------------------------------------------


def _alike(z: Lowering, names: tuple[str, str], want: float, name: str) -> tuple[Fixed, Fixed]:
    """Two values at one scale and in one dtype, each where it was if that can be."""
    a, b = (z.env[n] for n in names)
    if isinstance(a, Const) and isinstance(b, Const):
        return z.e.constant(a, want, "i16", name, want), z.e.constant(b, want, "i16", name, want)
    if isinstance(a, Const) or isinstance(b, Const):
        const, x = (a, z.e.single(z.fixed(names[1]))) if isinstance(a, Const) else (b, z.e.single(z.fixed(names[0])))
        if not isinstance(const, Const):
            raise TypeError("unreachable")
        y = z.e.constant(const, float(x.scale), x.dtype, f"{name}.const", want)
        return (y, x) if isinstance(a, Const) else (x, y)
    x, y = z.e.single(z.fixed(names[0])), z.e.single(z.fixed(names[1]))
    if x.dtype == y.dtype and abs(float(x.scale) / float(y.scale) - 1) < 1e-12:
        return x, y
    if x.dtype in ("i8", "i16") and y.dtype in ("i8", "i16"):
        scale = max(float(x.scale), float(y.scale))
        return z.e.rescale(x, scale, "i16"), z.e.rescale(y, scale, "i16")
    return z.e.rescale(x, want, "i16"), z.e.rescale(y, want, "i16")


def _extreme(op: str) -> Rule:
    def rule(z: Lowering, value: Value) -> Fixed | Plain:
        a, b = _alike(z, value.args, z.want(value), value.name)  # type: ignore[arg-type]
        choose = min if op == "min" else max
        lo, hi = choose(int(np.min(a.lo)), int(np.min(b.lo))), choose(int(np.max(a.hi)), int(np.max(b.hi)))
        return z.e.emit(op, (a.sym, b.sym), a.scale, lo, hi, z.want(value), value.name)

    return rule


def _select(z: Lowering, value: Value) -> Fixed:
    condition = z.plain(value.args[0])
    a, b = _alike(z, value.args[1:], z.want(value), value.name)  # type: ignore[arg-type]
    lo, hi = min(int(a.lo), int(b.lo)), max(int(a.hi), int(b.hi))
    return z.e.emit("select", (condition, a.sym, b.sym), a.scale, lo, hi, z.want(value), value.name)


def _compare(op: str) -> Rule:
    def rule(z: Lowering, value: Value) -> Plain:
        a, b = (z.env[n] for n in value.args)
        if isinstance(a, Const) or isinstance(b, Const):
            const, x = (a, z.fixed(value.args[1])) if isinstance(a, Const) else (b, z.fixed(value.args[0]))
            # x s < c  <=>  x < ceil(c / s);  c < x s  <=>  floor(c / s) < x: exact whatever c.
            rounding = np.rint if op != "lt" else (np.floor if isinstance(a, Const) else np.ceil)
            other = _constant_like(z, const, x, f"{value.name}.const", rounding) if isinstance(const, Const) else None
            if other is None:
                x = z.e.single(x)
                other = z.e.constant(const, float(x.scale), "i32", f"{value.name}.const", x.want, rounding)  # type: ignore[arg-type]
            pair = (other, x) if isinstance(a, Const) else (x, other)
        else:
            x, y = (z.e.single(z.fixed(n)) for n in value.args)
            goal = min(x.want, y.want)
            pair = (x, y) if abs(float(x.scale) / float(y.scale) - 1) < 1e-12 else z.e.align(x, y, goal)
        return Plain(z.b(op, pair[0].sym, pair[1].sym, name=value.name))

    return rule


# -- moves -------------------------------------------------------------------------------------------------------------


def _move(z: Lowering, value: Value) -> Fixed:
    """slice, reshape, transpose, broadcast: the integers move, the scale stays."""
    x = z.fixed(value.args[0])
    if x.rows:
        axis = value.attrs.get("axis", 0) % len(x.shape)
        if value.op == "slice" and axis == 0:
            part = slice(value.attrs["start"], value.attrs["stop"], value.attrs.get("step", 1))
            scale, lo, hi = x.scale[part], x.lo[part], x.hi[part]  # type: ignore[index]
            if x.dtype in ("i8", "i16") and np.all(scale == scale[0]):  # rows that were narrowed to scales of their own
                scale, lo, hi = float(scale[0]), int(lo.min()), int(hi.max())
            quant = None if isinstance(scale, np.ndarray) else Quant(scale)
            sym = z.b("slice", x.sym, name=value.name, quant=quant, **value.attrs)
            return Fixed(sym, scale, lo, hi, z.want(value))
        x = z.e.rescale(x, z.want(value), "i16")
    return z.e.emit(value.op, (x.sym,), x.scale, x.lo, x.hi, z.want(value), value.name, **value.attrs)


def _concat(z: Lowering, value: Value) -> Fixed:
    want = z.want(value)
    found = [z.env[n] for n in value.args]
    scales = {(float(f.scale), f.dtype) for f in found if isinstance(f, Fixed) and not f.rows}
    ready = len(scales) == 1 and all(isinstance(f, Fixed) and not f.rows for f in found)
    scale, dtype = scales.pop() if ready else (want, "i16")
    if dtype == "i32":
        scale, dtype = want, "i16"
    parts = [
        z.e.constant(f, scale, dtype, n, want) if isinstance(f, Const) else z.e.rescale(z.fixed(n), scale, dtype)
        for n, f in zip(value.args, found, strict=True)
    ]
    lo, hi = min(int(p.lo) for p in parts), max(int(p.hi) for p in parts)
    return z.e.emit("concat", tuple(p.sym for p in parts), scale, lo, hi, want, value.name, **value.attrs)


def _gather(z: Lowering, value: Value) -> Fixed:
    """``gather`` and ``row``: an element of a table. A constant table is kept in 8 bits, or as many as it is given."""
    table = z.env[value.args[0]]
    index = z.plain(value.args[1])
    if isinstance(table, Const):
        bits = z.widths.table_bits(z.stage.name, value.args[0])
        scale = (table.top or 1.0) / (2 ** (bits - 1) - 1)
        data = z.e.constant(table, scale, "i8" if bits <= 8 else "i16", value.args[0], z.want(value))
    else:
        data = z.e.single(z.fixed(value.args[0]))
    lo, hi = int(np.min(data.lo)), int(np.max(data.hi))
    if value.op == "row":
        lo, hi = min(lo, 0), max(hi, 0)
    return z.e.emit(value.op, (data.sym, index), data.scale, lo, hi, z.want(value), value.name, **value.attrs)


def _store(z: Lowering, value: Value) -> Fixed:
    """``put`` and ``shift``: a table or delay line takes a new entry at its own scale."""
    table = z.e.narrow(z.fixed(value.args[0]))
    entry = z.env[value.args[-1]]
    scale = float(table.scale)
    if isinstance(entry, Const):
        new = z.e.constant(entry, scale, table.dtype, value.args[-1], table.want)
    else:
        new = z.e.rescale(z.fixed(value.args[-1]), scale, table.dtype)
    index = (z.plain(value.args[1]),) if value.op == "put" else ()
    args = (table.sym, *index, new.sym)
    low, high = int_range(table.dtype)
    return z.e.emit(value.op, args, scale, low, high, table.want, value.name, **value.attrs)


# -- between reals and whole numbers -----------------------------------------------------------------------------------


def _cast(z: Lowering, value: Value) -> Lowered:
    source = z.env[value.args[0]]
    to = value.attrs["to"]
    if isinstance(source, Plain) and to == "f32":
        low, high = (0, 1) if source.sym.type.dtype == "bool" else int_range(source.sym.type.dtype)
        if source.sym.type.dtype == "bool":
            return z.e.emit("cast", (source.sym,), 1.0, 0, 1, z.want(value), value.name, to="i16")
        if source.sym.type.dtype == "i64":
            z.refuse(value, "a cast of i64")
        return Fixed(source.sym, 1.0, low, high, z.want(value))
    if isinstance(source, Fixed) and to == "f32":
        return source
    if isinstance(source, Fixed) and to == "bool":
        zero = z.b.const(0, dtype="i32")
        return Plain(z.b("ne", source.sym, zero, name=value.name))
    z.refuse(value, f"a cast of reals to {to} has no integer form")
    return source


def _random(z: Lowering, value: Value) -> Fixed:
    attrs = {**value.attrs, "dtype": "i16"}
    return z.e.emit("random", (z.plain(value.args[0]),), 2.0**-15, 0, 32767, i16_scale(1.0), value.name, **attrs)


RULES: Mapping[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "neg": _neg,
    "abs": _abs,
    "relu": _relu,
    "min": _extreme("min"),
    "max": _extreme("max"),
    "select": _select,
    "lt": _compare("lt"),
    "eq": _compare("eq"),
    "ne": _compare("ne"),
    "slice": _move,
    "reshape": _move,
    "transpose": _move,
    "broadcast": _move,
    "concat": _concat,
    "gather": _gather,
    "row": _gather,
    "put": _store,
    "shift": _store,
    "cast": _cast,
    "random": _random,
    **product_rules(),
    **table_rules(),
}
