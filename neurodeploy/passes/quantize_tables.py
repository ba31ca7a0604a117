"""Functions of one value as tables, square roots and quotients of integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.ir.fixed import divide, isqrt, lut_table
from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import int_range
from neurodeploy.passes.quantize_plan import GATE_SCALE, GATE_SCALES, UNIT_SCALE, i16_scale
from neurodeploy.passes.quantize_values import I32_MAX, Const, Fixed

if TYPE_CHECKING:
    from neurodeploy.passes.quantize_lower import Lowering


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "log": np.log,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
}


def _gate(z: Lowering, value: Value) -> Fixed:
    """tanh by its table, from +-8 at 2^-12 to Q0.15; sigmoid by the same table at half its argument, +-16 at 2^-11."""
    half = value.op == "sigmoid"
    x = z.e.rescale(z.fixed(value.args[0]), GATE_SCALES[value.op], "i16")
    table = lut_table(np.tanh, GATE_SCALE, UNIT_SCALE)
    attrs = {"half": True} if half else {}
    return z.e.lut(x.sym, table, "tanh_table", UNIT_SCALE, UNIT_SCALE, value.name, **attrs)


def _table(z: Lowering, value: Value) -> Fixed:
    """Another function: a table over the calibrated range of its argument, shifted to its middle."""
    source = z.fixed(value.args[0])
    low, high = z.range_of(value.args[0])
    middle = (low + high) / 2 if abs(low + high) > 0.5 * (high - low) else 0.0
    scale = i16_scale(max(high - middle, middle - low))
    x = source
    if middle:
        from neurodeploy.passes.quantize_ops import add

        wide = z.e.single(source) if source.rows else source
        x = add(z, wide, Const(np.asarray(middle)), -1, scale, f"{value.name}.centred")
    x = z.e.rescale(x, scale, "i16")
    function = FUNCTIONS[value.op]
    want = z.want(value)
    table = lut_table(lambda t: function(t + middle), scale, want)
    return z.e.lut(x.sym, table, f"{value.name}.table", want, want, value.name)


def _sqrt(z: Lowering, value: Value) -> Fixed:
    """``isqrt`` of the value shifted up to 30 bits or so: scale s becomes sqrt(s)."""
    x = z.e.single(z.fixed(value.args[0]))
    room = max(int(math.log2(I32_MAX / max(x.size, 1))), 0)
    if room:
        x = z.e.shifted(x, 1 << room)
    hi = int(isqrt(np.asarray(max(int(x.hi), 0))))
    lo = int(isqrt(np.asarray(max(int(x.lo), 0))))
    return z.e.emit("sqrt", (x.sym,), math.sqrt(float(x.scale)), lo, hi, z.want(value), value.name)


def _div(z: Lowering, value: Value) -> Fixed:
    """``a / b``: the numerator shifted up as far as it goes, then a rounded integer quotient."""
    y = z.e.single(z.fixed(value.args[1]))
    found = z.env[value.args[0]]
    if isinstance(found, Const):
        scale = 2.0 ** math.ceil(math.log2(max(found.top, 1e-30) / 2.0**30))
        x = z.e.constant(found, scale, "i32", f"{value.name}.const", scale)
    else:
        x = z.e.narrow(z.fixed(value.args[0]))
        room = max(int(math.log2(I32_MAX / max(x.size, 1))), 0)
        if room:
            x = z.e.shifted(x, 1 << room)
    # A divisor with all its bits would leave the quotient none: it gets those that the result's scale asks for.
    needed = 2.0 ** math.floor(math.log2(2 * float(x.scale) / z.want(value)))
    if float(y.scale) < needed:
        while not z.e.reaches(y, needed):
            needed *= 2
        y = z.e.rescale(y, needed, "i32")
    scale = float(x.scale) / float(y.scale)
    if int(y.lo) <= 0 <= int(y.hi):
        # A divisor of 0 gives the extreme of i32.
        lo, hi = int_range("i32")
        if int(x.lo) >= 0 and int(y.lo) >= 0:
            lo = 0
    else:
        ends = [int(divide(np.asarray(p), np.asarray(q))) for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
        lo, hi = min(ends), max(ends)
    return z.e.emit("div", (x.sym, y.sym), scale, lo, hi, z.want(value), value.name)


def table_rules() -> dict[str, Any]:
    """Op -> rule."""
    return {
        "sigmoid": _gate,
        "tanh": _gate,
        "exp": _table,
        "log": _table,
        "softplus": _table,
        "sqrt": _sqrt,
        "div": _div,
    }
