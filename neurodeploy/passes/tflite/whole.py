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


def _integer(q: StageQuantizer, value: Value, x: str) -> None:
    """Cut towards zero, in int32. The scale becomes a power of two, on which whole numbers stand exactly: a real number
    that is one to within half a step is that one. ``div`` rounds, so half of the divisor is taken off first."""
    name, dtype = value.name, Form(value.tensor.dtype)
    exponent = math.ceil(math.log2(q.held(x).scale))
    steps = q.at(x, Form("i16", Quant(2.0**exponent)))

    def part(op: str, args: list[str], form: Form = I32, **attrs: str) -> str:
        return q.emit(op, args, form, q.fresh(f"{name}_part"), **attrs)

    v = part("cast", [steps], to="i32")
    if exponent >= 0:
        most = (2**31 - 1) >> exponent
        v = part("min", [part("max", [v, _whole(q, "least", -most)]), _whole(q, "most", most)])
        cut = part("mul", [v, _whole(q, "step", 1 << min(exponent, 30))])
    else:
        bits = min(-exponent, BEYOND_I16)
        above = part("relu", [part("sub", [part("abs", [v]), _whole(q, "half", 1 << (bits - 1))])])
        size = part("div", [above, _whole(q, "step", 1 << bits)])
        below = part("lt", [v, _whole(q, "zero", 0)], BOOL)
        cut = part("select", [below, part("neg", [size]), size])
    q.emit("cast", [cut], dtype, name, to=dtype.dtype)


_PLAIN = ("add", "sub", "mul", "div", "neg", "abs", "relu", "sqrt", "matmul", "sum", "reduce_max", "argmax")
_ANY: Mapping[str, Rule] = {"gather": _table, "put": _table, "row": _row, "random": _random, "cast": _cast}


def with_whole(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Rules that also take whole numbers: arithmetic whose last argument is no real number stays as it is."""

    def either(real: Rule) -> Rule:
        def rewrite(q: StageQuantizer, value: Value) -> None:
            (real if q.source[value.args[-1]].dtype == "f32" else _plain)(q, value)

        return rewrite

    full = {**rules, "argmax": _argmax}
    return {**full, **{name: either(full[name]) for name in _PLAIN}, **_ANY}
