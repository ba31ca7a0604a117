"""Rules for whole numbers and tables: they stay integers without a scale, beside the quantized real numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import Quant
from neurodeploy.passes.tflite.scales import Form
from neurodeploy.passes.tflite.stage import Rule, StageQuantizer

BOOL, I32 = Form("bool"), Form("i32")
#: From here on a power of two is beyond every int16.
BEYOND_I16 = 16


def _plain(q: StageQuantizer, value: Value) -> None:
    """The same op on the same integers."""
    q.emit(value.op, [q.plain(a) for a in value.args], Form(value.tensor.dtype), value.name, **value.attrs)


def _whole(q: StageQuantizer, stem: str, data: int, dtype: str = "i32") -> str:
    return q.param(stem, np.array(data), Form(dtype))


# -- tables ------------------------------------------------------------------------------------------------------------


def _table(q: StageQuantizer, value: Value) -> None:
    """gather and put: the table (and what is put into it) in the form of its class."""
    target = q.form(value.name)
    table, index, *row = value.args
    args = [q.at(table, target), q.plain(index), *(q.at(r, target) for r in row)]
    q.emit(value.op, args, target, value.name, **value.attrs)


def _row(q: StageQuantizer, value: Value) -> None:
    """A row's zeros are integers: where a real 0 is another one, the row is gathered and 0 chosen outside."""
    target = q.form(value.name)
    if target.quant is None or target.quant.zero_point == 0:
        _table(q, value)
        return
    table, index = q.at(value.args[0], target), q.plain(value.args[1])
    held, last = q.held(index), q.types[table].shape[0] - 1
    inside = q.emit("max", [index, _whole(q, "first", 0, held.dtype)], held, q.fresh(f"{value.name}_from"))
    inside = q.emit("min", [inside, _whole(q, "last", last, held.dtype)], held, q.fresh(f"{value.name}_to"))
    there = q.emit("eq", [index, inside], BOOL, q.fresh(f"{value.name}_there"))
    found = q.emit("gather", [table, inside], target, q.fresh(f"{value.name}_row"), axis=0)
    q.emit("select", [there, found, q.param("zero", np.zeros(()), target)], target, value.name)


def _argmax(q: StageQuantizer, value: Value) -> None:
    q.emit("argmax", [value.args[0]], I32, value.name, **value.attrs)


def _random(q: StageQuantizer, value: Value) -> None:
    """15 random bits."""
    if value.tensor.dtype != "f32":
        _plain(q, value)
        return
    attrs = {**value.attrs, "dtype": "i16"}
    q.finish("random", [q.plain(value.args[0])], Form("i16", Quant(2.0**-15)), value.name, **attrs)


# -- between whole and real --------------------------------------------------------------------------------------------


def _cast(q: StageQuantizer, value: Value) -> None:
    (x,), to, target = value.args, value.tensor.dtype, q.form(value.name)
    source = q.source[x].dtype
    if "f32" not in (source, to):
        _plain(q, value)
    elif source == to:
        q.emit("reshape", [q.at(x, target)], target, value.name, shape=list(value.tensor.shape))
    elif to == "bool":
        q.emit("ne", [x, q.param("zero", np.zeros(()), q.held(x))], BOOL, value.name)
    elif source == "bool":
        one, zero = (q.param(stem, np.array(data), target) for stem, data in (("one", 1.0), ("zero", 0.0)))
        q.emit("select", [q.plain(x), one, zero], target, value.name)
    elif to == "f32":
        _real(q, value, target)
    else:
        _integer(q, value, x)


def _real(q: StageQuantizer, value: Value, target: Form) -> None:
    """An int16 of scale 1, or of the power of two that reaches as far as the form of the value does."""
    x, name, reach = q.plain(value.args[0]), value.name, target.scale * (32767 if target.dtype == "i16" else 255)
    step = 2 ** max(math.ceil(math.log2(reach / 32767)), 0)
    if step > 1:
        x = q.emit("div", [x, _whole(q, "step", step)], I32, q.fresh(f"{name}_steps"))
    form = Form("i16", Quant(float(step)))
    if form == target:
        q.emit("cast", [x], form, name, to="i16")
    else:
        q.rescale(q.emit("cast", [x], form, q.fresh(f"{name}_whole"), to="i16"), target, name)


class _Steps:
    """A real number as int32 steps of a power of two, on which whole numbers stand exactly: what is one to within half
    a step of its own scale is that one. ``bits``: log2 of the steps in 1, 0 where one step is at least that."""

    def __init__(self, q: StageQuantizer, value: Value) -> None:
        self.q, self.name = q, value.name
        x = value.args[0]
        self.exponent = math.ceil(math.log2(q.held(x).scale))
        self.bits = min(max(-self.exponent, 0), BEYOND_I16)
        self.steps = q.at(x, Form("i16", Quant(2.0**self.exponent)))
        self.whole = self("cast", self.steps, to="i32")

    def __call__(self, op: str, *args: str | int, form: Form = I32, **attrs: str) -> str:
        """A value of that op; numbers become constants."""
        names = [a if isinstance(a, str) else _whole(self.q, "steps", a) for a in args]
        return self.q.emit(op, names, form, self.q.fresh(f"{self.name}_part"), **attrs)

    def floor(self, v: str) -> str:
        """The whole numbers below steps of more than ``-2^16``. ``div`` rounds: half of the divisor is taken off."""
        one = 1 << self.bits
        up = max(1 << BEYOND_I16, one)
        lowered = self("relu", self("sub", self("add", v, up), one >> 1))
        return self("sub", self("div", lowered, one), up // one)


def _integer(q: StageQuantizer, value: Value, x: str) -> None:
    """Cut towards zero, in int32."""
    part, dtype = _Steps(q, value), Form(value.tensor.dtype)
    if part.bits == 0:
        shift = min(part.exponent, 30)
        most = (2**31 - 1) >> shift
        cut = part("mul", part("min", part("max", part.whole, -most), most), 1 << shift)
    else:
        size = part.floor(part("abs", part.whole))
        cut = part("select", part("lt", part.whole, 0, form=BOOL), part("neg", size), size)
    q.emit("cast", [cut], dtype, value.name, to=dtype.dtype)


def _nearest(q: StageQuantizer, value: Value) -> None:
    """floor, and round with halves to the even number: in int32 (TFLM's FLOOR and ROUND take float32 alone)."""
    part, target = _Steps(q, value), q.form(value.name)
    if part.bits == 0:
        whole = part.steps
    else:
        half = 1 << (part.bits - 1) if value.op == "round" else 0
        raised = part("add", part.whole, half)
        n = part.floor(raised)
        if value.op == "round":
            exact = part("eq", part("mul", n, 1 << part.bits), raised, form=BOOL)
            odd = part("ne", part("mul", part("div", n, 2), 2), n, form=BOOL)
            n = part("sub", n, part("cast", part("min", exact, odd, form=BOOL), to="i32"))
        whole = part("cast", n, form=Form("i16", Quant(1.0)), to="i16")
    if q.held(whole) == target:
        q.emit("reshape", [whole], target, value.name, shape=list(value.tensor.shape))
    else:
        q.rescale(whole, target, value.name)


_PLAIN = ("add", "sub", "mul", "div", "neg", "abs", "relu", "sqrt", "matmul", "sum", "reduce_max", "argmax")
_ANY: Mapping[str, Rule] = {"gather": _table, "put": _table, "row": _row, "random": _random, "cast": _cast}


def with_whole(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Rules that also take whole numbers: arithmetic whose last argument is no real number stays as it is."""

    def either(real: Rule) -> Rule:
        def rewrite(q: StageQuantizer, value: Value) -> None:
            (real if q.source[value.args[-1]].dtype == "f32" else _plain)(q, value)

        return rewrite

    def by_table(narrow: Rule) -> Rule:
        def rewrite(q: StageQuantizer, value: Value) -> None:
            forms = {q.held(value.args[0]).dtype, q.form(value.name).dtype}
            (narrow if forms == {"i8"} else _nearest)(q, value)

        return rewrite

    full = {**rules, "argmax": _argmax, **{name: by_table(rules[name]) for name in ("floor", "round")}}
    return {**full, **{name: either(full[name]) for name in _PLAIN}, **_ANY}
