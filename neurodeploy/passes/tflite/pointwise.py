"""Rules for elementwise arithmetic and the functions that TFLM has as ops of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.types import Quant
from neurodeploy.passes.tflite.products import added
from neurodeploy.passes.tflite.scales import COARSEST, TABLE_SCALE, TABLES, Form
from neurodeploy.passes.tflite.stage import UPSCALE, Rule, StageQuantizer


def _sub(q: StageQuantizer, value: Value) -> None:
    left, right = (q.operand(a) for a in value.args)
    added(q, "tfl_sub", left, right, value.name, q.form(value.name))


def multiplied(q: StageQuantizer, left: str, right: str, name: str) -> None:
    """A MUL; its result is no finer than the product of its arguments' scales."""
    target = q.form(name)
    worst = mul_factor(q.types[left], q.types[right], target.of(()))
    made_in = target if worst < 0.999 else target.at(target.scale * worst * 1.01)
    q.finish("tfl_mul", [left, right], made_in, name)


def _mul(q: StageQuantizer, value: Value) -> None:
    left, right = (q.operand(a) for a in value.args)
    multiplied(q, left, right, value.name)


def constant(q: StageQuantizer, stem: str, data: Any) -> str:
    name = q.fresh(stem)
    q.known[name] = np.asarray(data, np.float64)
    return q.operand(name)


def _div(q: StageQuantizer, value: Value) -> None:
    x, divisor = value.args
    if divisor not in q.known or not np.all(q.known[divisor]):
        raise UnsupportedError(
            "divides by a computed value (or by 0); DIV has no int16 kernel in TFLite Micro.",
            place=q.place(value.name),
            hint="Choose a C target.",
        )
    multiplied(q, x, constant(q, f"{divisor}_inverse", 1 / q.known[divisor].astype(np.float64)), value.name)


def _neg(q: StageQuantizer, value: Value) -> None:
    multiplied(q, value.args[0], constant(q, "minus_one", -1.0), value.name)


def _abs(q: StageQuantizer, value: Value) -> None:
    target = q.form(value.name)
    x = q.at(value.args[0], target)
    minus = q.emit("tfl_mul", [x, constant(q, "minus_one", -1.0)], target, q.fresh(f"{value.name}_minus"))
    q.emit("max", [x, minus], target, value.name)


def _table(q: StageQuantizer, value: Value) -> None:
    """The table; its kernel multiplies by 12288 times the scale in int32, so a coarse input is saturated first."""
    x = value.args[0]
    if q.form(x).scale > 1:
        x = q.at(x, Form("i16", Quant(2.0**COARSEST)))
    q.finish(TABLES[value.op], [x], Form("i16", Quant(TABLE_SCALE)), value.name)


def _relu(q: StageQuantizer, value: Value) -> None:
    target, finest = q.form(value.name), q.held(value.args[0]).scale / (1 << UPSCALE)
    q.finish("tfl_relu", [value.args[0]], target if target.scale > finest else target.at(finest), value.name)


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
