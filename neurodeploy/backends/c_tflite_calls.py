"""The C of what no elementwise loop says: wide sums, products of computed values, SOFTMAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neurodeploy.backends.c_ops import STORED, WRAPS
from neurodeploy.ir.graph import Value
from neurodeploy.passes.fuse import Call

if TYPE_CHECKING:
    from neurodeploy.backends.c_emit_step import StepWriter

INDICES = "ijklmn"


def _wide_sums(w: StepWriter, value: Value, action: Call) -> None:
    w.headers.add("nd_tflite.h")
    w.target(value)
    rows, columns = value.attrs["rows"], value.attrs["columns"]
    pointers = ", ".join(w.pointer(a) for a in value.args)
    w.line(f"nd_tfl_sums({pointers}, {rows}, {columns}, {w.pointer(value.name)});")


def _zero_matmul(w: StepWriter, value: Value, action: Call) -> None:
    """``[..., m, k]`` times ``[..., k, n]``, each less its zero point."""
    shape, depth = value.tensor.shape, w.type(value.args[0]).shape[-1]
    names = list(INDICES[: len(shape)])
    *lead, m, n = names
    w.loops(shape, names)
    acc = WRAPS[value.tensor.dtype]
    w.line(f"{acc} acc = 0;")
    w.open(f"for (int32_t q = 0; q < {depth}; ++q)")
    factors = []
    for arg, axes, zero in zip(value.args, ((m, "q"), ("q", n)), value.attrs["zeros"], strict=True):
        view = w.fused.views[arg].broadcast((*shape[:-2], *w.type(arg).shape[-2:]))
        text = w.element(view, [*lead, *axes])
        factors.append(f"({text} - {zero})" if zero > 0 else f"({text} + {-zero})" if zero else text)
    w.line(f"acc += ({acc})({factors[0]} * {factors[1]});")
    w.close()
    w.target(value)
    w.line(f"{w.at(value.name, names)} = ({STORED[value.tensor.dtype]})acc;")
    for _ in shape:
        w.close()


def _softmax(w: StepWriter, value: Value, action: Call) -> None:
    """Row by row along the last axis."""
    w.headers.add("nd_tfl_softmax.h")
    w.target(value)
    count = value.tensor.shape[-1]
    pointers = ", ".join(w.pointer(a) for a in value.args)
    more = "".join(f", {n}" for n in value.attrs.get("factor", ()))
    w.line(
        f"nd_tfl_{value.op}({pointers}{more}, {value.tensor.size // max(count, 1)}, {count}, {w.pointer(value.name)});"
    )


#: Calls that read all of their arguments through pointers.
CONTIGUOUS = frozenset({"wide_sums", "softmax_i8", "softmax_i16"})

CALLS: Mapping[str, Callable[[StepWriter, Value, Call], None]] = {
    "wide_sums": _wide_sums,
    "zero_matmul": _zero_matmul,
    "softmax_i8": _softmax,
    "softmax_i16": _softmax,
}
