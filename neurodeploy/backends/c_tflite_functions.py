"""BATCH_MATMUL, SUM, MEAN and SOFTMAX, and the ways from floats and to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neurodeploy.backends.c_rounding import I32
from neurodeploy.backends.c_tflite_lower import Lowering, single
from neurodeploy.backends.c_tflite_products import Rescale
from neurodeploy.ir.graph import Value
from neurodeploy.ir.op import axis_of
from neurodeploy.ir.tflite.convolutions import mean_multiplier
from neurodeploy.ir.tflite.fixed_point import quantize_multiplier, scale_of, zero_of
from neurodeploy.ir.tflite.functions import SOFTMAX_SPAN, batch_matmul_factor, exponentials, int16_table
from neurodeploy.ir.types import TensorType, int_range


def _batch_matmul(q: Lowering, value: Value) -> None:
    a, b = (q.type(x) for x in value.args)
    into = value.tensor
    reach = a.shape[-1] * max(abs(x - zero_of(a)) for x in q.known[value.args[0]])
    reach *= max(abs(x - zero_of(b)) for x in q.known[value.args[1]])
    dtype = "i32" if reach < 1 << 31 or into.dtype == "i8" else "i64"  # the kernel of int8 sums in 32 bits
    attrs = {"zeros": (zero_of(a), zero_of(b))}
    total = q.emit("zero_matmul", value.args, TensorType(into.shape, dtype), attrs)
    if dtype == "i32":
        q.known[total] = (max(-reach, I32[0]), min(reach, I32[1]))
    mult, shift = (np.reshape(f, (1,)) for f in quantize_multiplier(batch_matmul_factor(a, b, into)))
    rescale = Rescale(mult, shift, into, None, value.name)
    if into.dtype == "i8":
        rescale.by_32(q, total)
    else:
        rescale.by_64(q, total, reach)


def _sum(q: Lowering, value: Value) -> None:
    type_ = q.type(value.args[0])
    total = _total(q, value, axis_of(value.attrs, type_.shape), value.attrs)
    factor = np.float64(scale_of(type_)) / np.float64(scale_of(value.tensor))
    q.result(total, single(factor), value.tensor, None, value.name)


def _mean(q: Lowering, value: Value) -> None:
    type_ = q.type(value.args[0])
    axis = len(type_.shape) - 1
    total = _total(q, value, axis, {"axis": axis})
    q.result(total, mean_multiplier(type_, value.tensor), value.tensor, None, value.name)


def _total(q: Lowering, value: Value, axis: int, attrs: Mapping[str, Any]) -> str:
    """The sum along an axis, less the zero points."""
    (x,), wide = value.args, TensorType(value.tensor.shape, "i32")
    count, zero = q.type(x).shape[axis], zero_of(q.type(x))
    total = q.emit("sum", [x], wide, attrs)
    low, high = q.known[x]
    q.known[total] = (count * low, count * high)
    return q.emit("add", [total, q.constant(-count * zero)], wide) if zero else total


def _from_float(q: Lowering, value: Value) -> None:
    scale = q.constant(scale_of(value.tensor).reshape(()), "f32")
    attrs = {"zero": zero_of(value.tensor), "clamp": int_range(value.tensor.dtype)}
    q.emit("from_float", [*value.args, scale], value.tensor, attrs, value.name)


def _to_float(q: Lowering, value: Value) -> None:
    """One rounding: the integer is exact in float32."""
    (x,), into = value.args, value.tensor
    scale = q.constant(scale_of(q.type(x)).reshape(()), "f32")
    real = q.emit("cast", [q.centred(x)], TensorType(into.shape, "f32"), {"to": "f32"})
    q.emit("mul", [real, scale], into, {}, value.name)


def _softmax(q: Lowering, value: Value) -> None:
    (x,), type_ = value.args, q.type(value.args[0])
    if type_.dtype == "i8":
        table = q.constant(exponentials(-np.arange(256, dtype=np.int64), type_))
        op = "softmax_i8" if value.tensor.dtype == "i8" else "softmax_i8_i16"
        q.emit(op, [x, table], value.tensor, {}, value.name)
        return
    rise = int16_table(np.exp, SOFTMAX_SPAN / 65535, 32767, 2 / 65535)
    inverses = int16_table(lambda v: 1 / (1 + v), 1 / 65535, -32768, 2 / 65535)
    factor = single(float(scale_of(type_)) / (SOFTMAX_SPAN / 65535))
    args = [x, q.constant(rise, "i16"), q.constant(inverses, "i16")]
    q.emit("softmax_i16", args, value.tensor, {"factor": factor}, value.name)


RULES: Mapping[str, Callable[[Lowering, Value], None]] = {
    "tfl_batch_matmul": _batch_matmul,
    "tfl_sum": _sum,
    "tfl_mean": _mean,
    "tfl_from_float": _from_float,
    "tfl_to_float": _to_float,
    "tfl_softmax": _softmax,
}
