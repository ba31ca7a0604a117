"""TFLite's operators along axes: sums, means, extremes, SOFTMAX."""

from __future__ import annotations

import math
from collections.abc import Mapping

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_forms import fixed_result, scaled
from neurodeploy.importers.tflite_ops_shape import cut
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


def _folded(op: str) -> Rule:
    """MIN, ANY and ALL: halves of what is left against each other; of integers as they are."""

    def rule(call: Call) -> None:
        axes, x = _reduced(call)
        if call.quantized:
            scaled(call, 0)
        for axis in reversed(axes):
            while (size := x.shape[axis]) > 1:
                half = size // 2
                parts = [cut(call, x, axis, 0, half), cut(call, x, axis, size - half, size)]
                y = call.emit(op, *parts, quant=x.type.quant)
                middle = [cut(call, x, axis, half, half + 1)] * (size % 2)
                x = call.emit("concat", y, *middle, quant=x.type.quant, axis=axis) if middle else y
            x = call.shaped(x, (*x.shape[:axis], *x.shape[axis + 1 :]))
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


def _argmin(call: Call) -> None:
    """The first of the least: the first of the greatest of what is negated, which int8 and int16 may leave."""
    shape = call.tensor().shape
    axis = call.axis(call.integers(1)[0], len(shape))
    dropped = call.batched(shape) and axis > 0
    x = call.x() if dropped else call.whole()
    if x.type.dtype == "i32":
        raise UnsupportedError("takes i32, whose least number has no opposite.", hint="Cast to float32 first.")
    wide = call.emit("cast", x, to="i32") if x.type.dtype != "f32" else x
    opposite = (
        call.emit("neg", wide)
        if wide.type.dtype == "f32"
        else call.emit("sub", call.step.builder.const(0, "i32"), wide)
    )
    found = call.emit("argmax", opposite, axis=axis - dropped)
    call.put("cast", found, to=call.step.type_of(call.result()).dtype)


def _log_softmax(call: Call) -> None:
    x = call.x()
    axis = len(x.shape) - 1
    below = call.emit("sub", x, _kept(call, call.emit("reduce_max", x, axis=axis)))
    total = call.emit("log", call.emit("sum", call.emit("exp", below), axis=axis))
    call.put("sub", below, _kept(call, total))


def _kept(call: Call, x: Sym) -> Sym:
    """A reduced value with its last axis back, of size 1."""
    return call.shaped(x, (*x.shape, 1))


def _l2_normalization(call: Call) -> None:
    """Along the last axis; a length below 1e-6 counts as that (``reference/l2normalization.h``)."""
    if call.act:
        raise UnsupportedError("has a fused activation, which TFLite Micro doesn't know.")
    x = call.x()
    length = call.emit("sqrt", call.emit("sum", call.emit("mul", x, x), axis=len(x.shape) - 1))
    call.put("div", x, _kept(call, call.emit("max", length, 1e-6)))


RULES: Mapping[str, Rule] = {
    "SOFTMAX": _softmax,
    "SUM": _sum,
    "MEAN": _mean,
    "REDUCE_MAX": _reduce("reduce_max"),
    "REDUCE_PROD": _reduce("prod"),
    "REDUCE_MIN": _folded("min"),
    "REDUCE_ANY": _folded("max"),
    "REDUCE_ALL": _folded("min"),
    "ARG_MAX": _argmax,
    "ARG_MIN": _argmin,
    "LOG_SOFTMAX": _log_softmax,
    "L2_NORMALIZATION": _l2_normalization,
}
#: Those that also compute on quantized integers.
ON_INTEGERS = ("SOFTMAX", "SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "ARG_MAX", "ARG_MIN")
