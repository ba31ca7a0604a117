"""DIV, FLOOR_DIV and FLOOR_MOD, of floats and of int32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_forms import acted
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.build import Sym


def _div(call: Call) -> None:
    a, b = call.x(0), call.x(1)
    if a.type.dtype == "f32":
        acted(call, call.emit("div", a, b))
        return
    if call.act:
        raise UnsupportedError("has a fused activation on integers without a scale.")
    call.give(_cut(call, a, b))


def _cut(call: Call, a: Sym, b: Sym) -> Sym:
    """A quotient cut towards zero: a is brought nearer to zero by half of b, then divided to the nearest.

    Halves go away from zero, so an a of k b, which is then k - 1/2 or a little more, gives k, and one less gives k - 1.
    """
    zero, one = (call.step.builder.const(v, "i32") for v in (0, 1))
    divisor = call.step.array_or_none(call.operator.inputs[1])
    if divisor is not None:
        half = call.step.builder.param(
            "half", (-(np.abs(divisor.astype(np.int64)) // 2)).astype(np.int32).reshape(b.shape)
        )
    else:  # less than 0, where the least integer has its size too
        size = call.emit("sub", call.emit("min", b, zero), call.emit("max", b, zero))
        half = call.emit("div", call.emit("add", size, one), call.step.builder.const(2, "i32"))
    above, below = call.emit("add", call.emit("max", a, zero), half), call.emit("sub", call.emit("min", a, zero), half)
    nearer = call.emit("select", call.emit("lt", a, zero), below, zero)
    return call.emit("div", call.emit("select", call.emit("lt", zero, a), above, nearer), b)


def _floored(call: Call, a: Sym, b: Sym) -> tuple[Sym, Sym]:
    """Quotient towards minus infinity, and the remainder, which has the divisor's sign."""
    if a.type.dtype == "f32":
        return _floored_floats(call, a, b)
    zero, one = (call.step.builder.const(v, "i32") for v in (0, 1))
    quotient = _cut(call, a, b)
    rest = call.emit("sub", a, call.emit("mul", quotient, b))
    below = call.emit("min", call.emit("lt", rest, zero), call.emit("lt", zero, b))
    other = call.emit("max", below, call.emit("min", call.emit("lt", zero, rest), call.emit("lt", b, zero)))
    quotient = call.emit("sub", quotient, call.emit("select", other, one, zero))
    return quotient, call.emit("add", rest, call.emit("select", other, b, zero))


def _floored_floats(call: Call, a: Sym, b: Sym) -> tuple[Sym, Sym]:
    """Quotient and remainder of floats, exact up to quotients of 2^24, as TFLite's division in double and ``fmod`` are.

    A quotient just below a whole number may round to it; then the remainder has the wrong sign and both are corrected.
    The remainder needs the product's rounding error: Dekker, "A floating-point technique for extending the available
    precision", Numerische Mathematik 18 (1971), of halves that 4097 splits off.
    """
    zero, one = (call.step.builder.const(v, "f32") for v in (0.0, 1.0))
    quotient = call.emit("floor", call.emit("div", a, b))
    product = call.emit("mul", quotient, b)
    (high, low), (top, rest) = _halves(call, quotient), _halves(call, b)
    error = call.emit("sub", call.emit("mul", high, top), product)
    for left, right in ((high, rest), (low, top), (low, rest)):
        error = call.emit("add", error, call.emit("mul", left, right))
    left = call.emit("sub", call.emit("sub", a, product), error)
    below = call.emit("min", call.emit("lt", left, zero), call.emit("lt", zero, b))
    above = call.emit("min", call.emit("lt", zero, left), call.emit("lt", b, zero))
    other = call.emit("max", below, above)
    quotient = call.emit("sub", quotient, call.emit("select", other, one, zero))
    return quotient, call.emit("add", left, call.emit("select", other, b, zero))


def _halves(call: Call, x: Sym) -> tuple[Sym, Sym]:
    """x as a sum of two numbers of 12 bits."""
    wide = call.emit("mul", x, call.step.builder.const(4097.0, "f32"))
    high = call.emit("sub", wide, call.emit("sub", wide, x))
    return high, call.emit("sub", x, high)


def _floor_div(call: Call) -> None:
    call.give(_floored(call, call.x(0), call.x(1))[0])


def _floor_mod(call: Call) -> None:
    call.give(_floored(call, call.x(0), call.x(1))[1])


RULES: Mapping[str, Rule] = {"DIV": _div, "FLOOR_DIV": _floor_div, "FLOOR_MOD": _floor_mod}
