"""TFLite's products of matrices: FULLY_CONNECTED and BATCH_MATMUL."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.tflite_forms import acted, bias_of, checked_act, scaled
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.build import Sym


def _fully_connected(call: Call) -> None:
    if call.options["weights_format"]:
        raise UnsupportedError("has shuffled weights.")
    x, (rows, columns) = call.x(), call.constant(1).shape
    if x.type.size % columns:
        raise IRError(f"takes {x.type} and weights of {columns} columns")
    count = x.type.size // columns
    x = call.shaped(x, (columns,) if count == 1 else (count, columns))
    if not call.quantized:
        turned = call.step.builder.param("weights", np.ascontiguousarray(call.real(1).T))
        y = call.emit("matmul", x, turned)
        acted(call, call.emit("add", y, call.param(2)) if call.has(2) else y)
        return
    scaled(call, 0, 1)
    attrs = checked_act(call) | ({"weight_bits": 4} if call.tensor(1).kind == "INT4" else {})
    bias = bias_of(call, rows)
    call.put("tfl_fully_connected", x, call.param(1), *bias, **attrs)


def _batch_matmul(call: Call) -> None:
    """``x @ y`` over the last two axes; the leading ones must be equal, or of size 1 in one of both."""
    x, y = call.whole(0), call.whole(1)
    if call.quantized:
        scaled(call, 0, 1)
        kinds = [call.tensor(i).kind for i in range(2)]
        if kinds[0] != kinds[1]:
            raise UnsupportedError(
                f"multiplies {kinds[0]} by {kinds[1]}; needed both int8 or both int16.",
                hint="Keep the product in floats, or make it a FULLY_CONNECTED: that takes int8 weights at int16.",
            )
        if any(len(call.tensor(i).scale) > 1 for i in range(2)):
            raise UnsupportedError("multiplies matrices with a scale for each channel; needed one scale for each.")
        x, y = (_turned(call, v) if call.options[key] else v for v, key in ((x, "adj_x"), (y, "adj_y")))
        call.put("tfl_batch_matmul", x, y)
        return
    lead = "abcdefgh"[: len(call.result().shape) - 2]
    left, right = (lead[len(lead) - (len(v.shape) - 2) :] for v in (x, y))
    if any(n != m for n, m in zip(x.shape[-3::-1], y.shape[-3::-1], strict=False)):
        raise UnsupportedError(f"multiplies {list(x.shape)} by {list(y.shape)}; needed equal leading axes.")
    first, second = "zx" if call.options["adj_x"] else "xz", "yz" if call.options["adj_y"] else "zy"
    call.give(call.emit("einsum", x, y, eq=f"{left}{first},{right}{second}->{lead}xy"))


def _turned(call: Call, x: Sym) -> Sym:
    """The last two axes swapped."""
    rank = len(x.shape)
    return call.emit("transpose", x, quant=x.type.quant, perm=[*range(rank - 2), rank - 1, rank - 2])


RULES: Mapping[str, Rule] = {"FULLY_CONNECTED": _fully_connected, "BATCH_MATMUL": _batch_matmul}
