"""TFLite's operators along axes: sums, means, extremes, SOFTMAX."""

from __future__ import annotations

import math
from collections.abc import Mapping

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_forms import fixed_result, scaled
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.build import Sym
from neurodeploy.ir.types import Quant

#: How far an int16 SOFTMAX's scale may be from the kernel's (``softmax_common.cc``, ``CalculateSoftmaxParams``).
SOFTMAX_NEAR = 1e-3


def _softmax(call: Call) -> None:
    beta = call.options["beta"]
    if call.quantized:
        scaled(call, 0)
        widened = (call.tensor().kind, call.result().kind) == ("INT8", "INT16")
        if call.tensor().kind != call.result().kind and not widened:
            raise UnsupportedError(f"gives {call.result().kind} of {call.tensor().kind}; needed one type.")
        fixed_result(
            call, Quant(1 / 256, -128), Quant(1 / 65536, -32768) if widened else Quant(1 / 32768), SOFTMAX_NEAR
        )
        if beta != 1:
            raise UnsupportedError(f"has beta {beta:g}; needed 1.")
        call.put("tfl_softmax", call.x(), **({"to": "i16"} if widened else {}))
    else:
        x = call.x()
        call.put("softmax", x if beta == 1 else call.emit("mul", x, beta), axis=max(len(x.shape) - 1, 0))


def reduced_axes(call: Call) -> list[int]:
    """The axes of input 1, counted from the front of input 0's tensor, in order."""
    return sorted({call.axis(a, len(call.tensor().shape)) for a in call.integers(1)})


def _reduce(op: str) -> Rule:
    def rule(call: Call) -> None:
        axes, x = _reduced(call)
        for axis in reversed(axes):
            x = call.emit(op, x, axis=axis, quant=x.type.quant if op == "reduce_max" else None)
        call.give(x)

    return rule


def _reduced(call: Call) -> tuple[list[int], Sym]:
    """The axes that are reduced, and the value on whose shape they count."""
    shape, axes = call.tensor().shape, reduced_axes(call)
    dropped = call.batched(shape) and 0 not in axes
    return [axis - dropped for axis in axes], call.x() if dropped else call.whole()


def _sum(call: Call) -> None:
    """Of integers: the sum over several axes is one over their product; the kernel rescales once."""
    axes, x = _reduced(call)
    if not call.quantized:
        _reduce("sum")(call)
        return
    scaled(call, 0)
    call.put("tfl_sum", joined_axes(call, x, axes), axis=-1)


def joined_axes(call: Call, x: Sym, axes: list[int]) -> Sym:
    """The value with those axes behind all others, as one."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    order = [*kept, *axes]
    if order != sorted(order):
        x = call.emit("transpose", x, quant=x.type.quant, perm=order)
    return call.shaped(x, (*x.shape[: len(kept)], math.prod(x.shape[len(kept) :])))


def _mean(call: Call) -> None:
    axes, x = _reduced(call)
    if call.quantized:
        scaled(call, 0)
        call.put("tfl_mean", joined_axes(call, x, axes))
        return
    count = math.prod(x.shape[axis] for axis in axes)
    for axis in reversed(axes):
        x = call.emit("sum", x, axis=axis)
    call.give(call.emit("mul", x, 1 / count))


def _argmax(call: Call) -> None:
    shape = call.tensor().shape
    axis = call.axis(call.integers(1)[0], len(shape))
    dropped = call.batched(shape) and axis > 0
    found = call.emit("argmax", call.x() if dropped else call.whole(), axis=axis - dropped)
    call.put("cast", found, to=call.step.type_of(call.result()).dtype)


RULES: Mapping[str, Rule] = {
    "SOFTMAX": _softmax,
    "SUM": _sum,
    "MEAN": _mean,
    "REDUCE_MAX": _reduce("reduce_max"),
    "REDUCE_PROD": _reduce("prod"),
    "ARG_MAX": _argmax,
}
#: Those that also compute on quantized integers.
ON_INTEGERS = ("SOFTMAX", "SUM", "MEAN", "REDUCE_MAX", "ARG_MAX")
