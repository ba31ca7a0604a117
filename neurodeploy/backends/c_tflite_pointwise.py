"""Elementwise ops of the TFLite dialect as multiplications, shifts and look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from neurodeploy.backends.c_tflite_lower import Lowering, single
from neurodeploy.backends.c_tflite_ops import CURVES
from neurodeploy.backends.c_tflite_sums import weighted_sum
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.comparisons import RAISED, levels
from neurodeploy.ir.tflite.fixed_point import multiply_32, nearest_step, offset, scale_of, zero_of
from neurodeploy.ir.tflite.pointwise import ADD_SHIFT, add_factors, mul_factor
from neurodeploy.ir.tflite.tables import table_input
from neurodeploy.ir.types import TensorType, int_range


def _sum(q: Lowering, value: Value) -> None:
    if weighted_sum(q, value):
        return
    into = value.tensor
    left = ADD_SHIFT[into.dtype]
    *factors, last = map(single, add_factors(q.type(value.args[0]), q.type(value.args[1]), into))
    parts = []
    for arg, factor in zip(value.args, factors, strict=True):
        data = q.params[arg].data if arg in q.params else None
        if data is None:
            parts.append(q.scaled(q.centred(arg), factor, left))
        else:
            parts.append(q.constant(multiply_32(offset(data, q.type(arg)) << left, *map(np.array, factor))))
    total = q.emit("add" if value.op == "tfl_add" else "sub", parts, TensorType(into.shape, "i32"))
    q.result(total, last, into, value.attrs.get("act"), value.name)


def _mul(q: Lowering, value: Value) -> None:
    a, b = map(q.centred, value.args)
    product = q.emit("mul", [a, b], TensorType(value.tensor.shape, "i32"))
    factor = mul_factor(q.type(value.args[0]), q.type(value.args[1]), value.tensor)
    q.result(product, single(factor), value.tensor, value.attrs.get("act"), value.name)


def _quantize(q: Lowering, value: Value) -> None:
    (x,) = value.args
    factor = np.float64(scale_of(q.type(x))) / np.float64(scale_of(value.tensor))
    q.result(q.centred(x), single(factor), value.tensor, "relu" if value.op == "tfl_relu" else None, value.name)


def _add_saturating(q: Lowering, value: Value) -> None:
    total = q.emit("add", value.args, TensorType(value.tensor.shape, "i32"))
    q.offset(total, value.tensor, None, value.name)


def _lookup(q: Lowering, value: Value) -> None:
    q.emit("table", value.args, value.tensor, {}, value.name)


def _parts(q: Lowering, x: str) -> tuple[str, str]:
    """What of an integer, less its zero point, is negative, and what is positive."""
    wide, centred, nought = TensorType(q.type(x).shape, "i32"), q.centred(x), q.constant(0)
    return q.emit("min", [centred, nought], wide), q.emit("max", [centred, nought], wide)


def _leaky(q: Lowering, value: Value) -> None:
    """One of both parts is 0, and so is its rescale."""
    x, into = value.args[0], value.tensor
    alpha = np.float64(np.float32(value.attrs.get("alpha", 0.0)))
    scale, result = np.float64(scale_of(q.type(x))), np.float64(scale_of(into))
    below, above = _parts(q, x)
    parts = [q.scaled(above, single(scale / result)), q.scaled(below, single(abs(scale * alpha / result)))]
    total = q.emit("sub" if alpha < 0 else "add", parts, TensorType(into.shape, "i32"))
    q.offset(total, into, None, value.name)


def _prelu(q: Lowering, value: Value) -> None:
    (x, alpha), into = value.args, value.tensor
    wide = TensorType(into.shape, "i32")
    factor = np.float64(scale_of(q.type(x))) / np.float64(scale_of(into))
    steep = np.float64(scale_of(q.type(x))) * np.float64(scale_of(q.type(alpha))) / np.float64(scale_of(into))
    below, above = _parts(q, x)
    below = q.emit("mul", [below, q.centred(alpha)], wide)
    total = q.emit("add", [q.scaled(above, single(factor)), q.scaled(below, single(steep))], wide)
    q.offset(total, into, None, value.name)


def _compare(q: Lowering, value: Value) -> None:
    """Both sides on the kernel's own scale; a constant's side is one."""
    parts = []
    for arg in value.args:
        type_ = q.type(arg)
        if arg in q.params:
            parts.append(q.constant(levels(q.params[arg].data, type_)))
        else:
            parts.append(q.scaled(q.centred(arg), single(np.float64(scale_of(type_))), RAISED))
    q.emit("lt" if value.op == "tfl_less" else "eq", parts, value.tensor, {}, value.name)


def _relu6(q: Lowering, value: Value) -> None:
    type_ = q.type(value.args[0])
    low, high = int_range(type_.dtype)
    clamp = zero_of(type_), min(max(nearest_step(6.0, type_), low), high)
    q.emit("offset", value.args, value.tensor, {"zero": 0, "clamp": clamp}, value.name)


def _curve(most: int) -> Callable[[Lowering, Value], None]:
    def rule(q: Lowering, value: Value) -> None:
        factor, shift = table_input(scale_of(q.type(value.args[0])), most)
        reach = max(abs(end) for end in q.known[value.args[0]]) * factor >> shift
        attrs = {"factor": factor, "shift": shift, "wide": reach >= 255 << CURVES[value.op]}
        q.emit(value.op, value.args, value.tensor, attrs, value.name)

    return rule


RULES: Mapping[str, Callable[[Lowering, Value], None]] = {
    "tfl_add": _sum,
    "tfl_sub": _sum,
    "tfl_add_saturating": _add_saturating,
    "tfl_mul": _mul,
    "tfl_mul_narrow": _mul,
    "tfl_relu": _quantize,
    "tfl_relu6": _relu6,
    "tfl_leaky_relu": _leaky,
    "tfl_prelu": _prelu,
    "tfl_quantize": _quantize,
    "tfl_less": _compare,
    "tfl_equal": _compare,
    "tfl_logistic": _curve(0),
    "tfl_tanh": _curve(1),
    "tfl_lookup": _lookup,
}
