"""Rules for elementwise arithmetic and the functions that TFLM has as ops of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.tflite.tables import RESULTS
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes.tflite.products import summed
from neurodeploy.passes.tflite.scales import COARSEST, TABLES, Form, even
from neurodeploy.passes.tflite.stage import UPSCALE, WIDENING, Rule, StageQuantizer

#: How much finer MUL's result may be than the product of its arguments' scales: its int32 overflows beyond.
FINEST_PRODUCT = {"i8": 1 << 14, "i16": 0.999}


def _sub(q: StageQuantizer, value: Value) -> None:
    """SUB, at 16 bits of powers of two; an ADD of the negative where what it takes off is constant."""
    left, right = value.args
    target = q.in_dtype(value.name, q.computed(value))
    if right in q.known:
        summed(q, "tfl_add", q.operand(left, target.dtype), constant(q, right, -q.known[right], target.dtype),
               value.name, target)  # fmt: skip
        return
    args = [q.operand(a, target.dtype) for a in value.args]
    while target.dtype == "i16":
        coarse = max((0, 1), key=lambda i: q.held(args[i]).scale)
        if (scale := q.held(args[coarse]).scale) == even(scale):
            break
        # 8 bits that were widened as they are have room for a finer step
        finer = WIDENING if q.held(value.args[coarse]).dtype == "i8" else 1
        args[coarse] = q.at(value.args[coarse], Form("i16", Quant(even(scale / finer))))
    summed(q, "tfl_sub", args[0], args[1], value.name, target)


def multiplies(q: StageQuantizer, args: Sequence[str], result: TensorType) -> bool:
    """Whether a MUL can be as fine as that."""
    return mul_factor(q.types[args[0]], q.types[args[1]], result) < FINEST_PRODUCT[result.dtype]


def multiplied(q: StageQuantizer, left: str, right: str, name: str) -> None:
    """A MUL of two in the dtype of its form; where it can't be as fine as that, it is made coarser first."""
    target = q.in_dtype(name, q.types[left].dtype)
    worst = mul_factor(q.types[left], q.types[right], target.of(())) / FINEST_PRODUCT[target.dtype]
    made_in = target if worst < 1 else target.at(target.scale * worst * 1.01)
    q.finish("tfl_mul", [left, right], made_in, name)


def _mul(q: StageQuantizer, value: Value) -> None:
    left, right = q.operands(value)
    multiplied(q, left, right, value.name)


def constant(q: StageQuantizer, stem: str, data: Any, dtype: str) -> str:
    """A new constant as an operand in that dtype."""
    name = q.fresh(stem)
    q.known[name] = np.asarray(data, np.float64)
    return q.operand(name, dtype)


def _div(q: StageQuantizer, value: Value) -> None:
    x, divisor = value.args
    if divisor not in q.known or not np.all(q.known[divisor]):
        raise UnsupportedError(
            "divides by a computed value (or by 0); DIV has no int16 kernel in TFLite Micro.",
            place=q.place(value.name),
            hint="Choose a C target.",
        )
    dtype = q.form(value.name).dtype
    inverse = constant(q, f"{divisor}_inverse", 1 / q.known[divisor].astype(np.float64), dtype)
    multiplied(q, q.operand(x, dtype), inverse, value.name)


def _neg(q: StageQuantizer, value: Value) -> None:
    (x,) = q.operands(value)
    multiplied(q, x, constant(q, "minus_one", -1.0, q.form(value.name).dtype), value.name)


def _abs(q: StageQuantizer, value: Value) -> None:
    target = q.form(value.name)
    if target.dtype == "i8":  # a zero point at one end would leave no room for the other sign
        low, high = q.span(value.args[0])
        target = q.span_form(-max(-low, high), max(-low, high), "i8")
    x = q.at(value.args[0], target)
    minus = q.emit("tfl_mul", [x, constant(q, "minus_one", -1.0, target.dtype)], target, q.fresh(f"{value.name}_minus"))
    q.finish("max", [x, minus], target, value.name)


def _table(q: StageQuantizer, value: Value) -> None:
    """The table; at i16 its kernel multiplies by 12288 times the scale in int32: a coarse input is saturated first."""
    dtype = q.form(value.name).dtype if q.scales.widths.tables == "i8" else "i16"
    x = q.operand(value.args[0], dtype)
    if dtype == "i16" and q.held(x).scale > 1:
        x = q.at(x, Form("i16", Quant(2.0**COARSEST)))
    q.finish(TABLES[value.op], [x], Form(dtype, RESULTS[value.op, dtype]), value.name)


def _relu(q: StageQuantizer, value: Value) -> None:
    (x,) = q.operands(value)
    target = q.in_dtype(value.name, q.held(x).dtype)
    finest = q.held(x).scale / (1 << UPSCALE[target.dtype])
    q.finish("tfl_relu", [x], target if target.scale > finest else target.at(finest), value.name)


RULES: Mapping[str, Rule] = {
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "abs": _abs,
    "tanh": _table,
    "sigmoid": _table,
    "relu": _relu,
}
