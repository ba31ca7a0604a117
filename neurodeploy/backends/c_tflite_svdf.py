"""SVDF's sum over time as products of elements and sums of 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from neurodeploy.backends.c_rounding import I32
from neurodeploy.backends.c_tflite_lower import Lowering, single
from neurodeploy.backends.c_tflite_products import constant_weights
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.types import TensorType


def _svdf_time(q: Lowering, value: Value) -> None:
    """Every filter's row over time, then the filters of a unit, and the bias."""
    line, weights, bias = value.args
    data, given = constant_weights(q, value), q.data(bias)
    if given is None:
        raise UnsupportedError(f"{value.op} adds a bias that is computed.", place=f"%{value.name}")
    (filters, memory), rank = data.shape, value.attrs.get("rank", 1)
    most = max(map(abs, q.known[line]))
    reach = int((np.abs(data).sum(1).reshape(-1, rank).sum(1) * most + np.abs(given)).max(initial=0))
    if reach > I32[1]:
        raise UnsupportedError(
            f"sums over {memory} steps and {rank} filters up to {reach}; TFLite's 32 bits hold {I32[1]}.",
            place=f"%{value.name}",
            hint="Scale its weights down.",
        )
    rows = q.constant(data.T, q.type(weights).dtype)
    total = q.emit("mul", [line, rows], TensorType((memory, filters), "i32"))
    total = q.emit("sum", [total], TensorType((filters,), "i32"), {"axis": 0})
    if rank > 1:
        total = q.reshaped(total, (filters // rank, rank))
        total = q.emit("sum", [total], TensorType((filters // rank,), "i32"), {"axis": 1})
    total = q.emit("add", [total, q.constant(given)], TensorType(value.tensor.shape, "i32"))
    q.known[total] = -reach, reach
    factor = mul_factor(q.type(line), q.type(weights), value.tensor)
    q.result(total, single(factor), value.tensor, None, value.name)


RULES: Mapping[str, Callable[[Lowering, Value], None]] = {"tfl_svdf_time": _svdf_time}
