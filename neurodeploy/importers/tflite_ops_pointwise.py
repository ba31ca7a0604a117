"""TFLite's operators of single elements: on quantized integers the dialect's primitives, on floats plain ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_forms import acted, checked_act, fixed_result, scaled
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.tflite.tables import RESULTS


def _binary(plain: str, dialect: str) -> Rule:
    def rule(call: Call) -> None:
        if call.quantized:
            scaled(call, 0, 1)
            call.put(dialect, call.x(0), call.x(1), **checked_act(call))
        else:
            acted(call, call.emit(plain, call.x(0), call.x(1)))

    return rule


def _unary(plain: str, dialect: str | None = None) -> Rule:
    def rule(call: Call) -> None:
        if call.quantized and dialect is not None:
            scaled(call, 0)
            call.put(dialect, call.x())
        else:
            call.put(plain, call.x())

    return rule


def _table(plain: str, dialect: str) -> Rule:
    """LOGISTIC and TANH, whose integers have a form of their own: the int8 kernels don't look at the scale in the file.

    LOGISTIC asks for its zero point (``LogisticPrepare``); TANH goes by none.
    """

    def rule(call: Call) -> None:
        if not call.quantized:
            call.put(plain, call.x())
            return
        scaled(call, 0)
        result = call.result()
        wanted = RESULTS[plain, "i8" if result.kind == "INT8" else "i16"]
        odd = result.kind == "INT8" and (plain == "tanh" or result.zero_point[0] == wanted.zero_point)
        if not odd:
            fixed_result(call, wanted, wanted)
        call.put(dialect, call.x())

    return rule


def _relu6(call: Call) -> None:
    if call.quantized:
        scaled(call, 0)
        call.put("tfl_relu6", call.x())
    else:
        call.put("min", call.emit("relu", call.x()), 6.0)


def _move_extremes(op: str) -> Rule:
    """MAXIMUM and MINIMUM: of integers as they are."""

    def rule(call: Call) -> None:
        call.put(op, call.x(0), call.x(1))

    return rule


def _quantize(call: Call) -> None:
    """Another scale or width; from floats the border of an integer part."""
    source, target = call.x(), call.step.type_of(call.result())
    if source.type.dtype == "f32":
        call.put("tfl_from_float", source, to=target.dtype)
    elif source.type == target:
        call.give(source)
    else:
        call.put("tfl_quantize", source, to=target.dtype)


def _dequantize(call: Call) -> None:
    x = call.x()
    if x.type.dtype == "f32":  # a constant float16
        call.give(x)
    else:
        call.put("tfl_to_float", x)


def _leaky_relu(call: Call) -> None:
    if call.quantized:
        scaled(call, 0)
        call.put("tfl_leaky_relu", call.x(), alpha=call.options["alpha"])
        return
    x = call.x()
    call.put("select", call.emit("lt", x, 0.0), call.emit("mul", x, call.options["alpha"]), x)


def _prelu(call: Call) -> None:
    x = call.x()
    if call.quantized:
        scaled(call, 0, 1)
        call.put("tfl_prelu", x, call.x(1))
        return
    call.put("select", call.emit("lt", x, 0.0), call.emit("mul", x, call.x(1)), x)


def _hard_swish(call: Call) -> None:
    if call.quantized:
        _of_i8(call, "tfl_hard_swish")
        return
    x = call.x()
    gate = call.emit("min", call.emit("relu", x + 3.0), 6.0)
    call.put("mul", call.emit("mul", x, gate), 1 / 6)


def _of_i8(call: Call, op: str) -> None:
    """An operator that TFLite Micro has for int8 alone."""
    scaled(call, 0)
    if (call.tensor().kind, call.result().kind) != ("INT8", "INT8"):
        raise UnsupportedError(f"computes with {call.tensor().kind}; on integers needed int8.")
    call.put(op, call.x())


def _elu(call: Call) -> None:
    if call.quantized:
        _of_i8(call, "tfl_elu")
        return
    x = call.x()
    below = call.emit("sub", call.emit("exp", call.emit("min", x, 0.0)), 1.0)
    call.put("select", call.emit("lt", x, 0.0), below, x)


def _clamped(low: float, high: float) -> Rule:
    def rule(call: Call) -> None:
        call.put("min", call.emit("max", call.x(), low), high)

    return rule


def _ceil(call: Call) -> None:
    call.put("neg", call.emit("floor", call.emit("neg", call.x())))


def _sign(call: Call) -> None:
    """1, -1, or 0 itself."""
    x = call.x()
    above = call.emit("select", call.emit("lt", 0.0, x), call.emit("add", call.emit("mul", x, 0.0), 1.0), x)
    call.put("select", call.emit("lt", x, 0.0), call.emit("add", call.emit("mul", x, 0.0), -1.0), above)


def _add_n(call: Call) -> None:
    if call.quantized:
        raise UnsupportedError("adds integers; needed floats.", hint="Use ADD.")
    total = call.x(0)
    for i in range(1, len(call)):
        total = call.emit("add", total, call.x(i))
    call.give(total)


#: Constant exponents that POW may have.
_ROOTS = {0.5: ("sqrt",), -0.5: ("sqrt", "inverse"), -1.0: ("inverse",)}
MOST_FACTORS = 8


def _pow(call: Call) -> None:
    """Constant powers: whole ones up to 8, square roots, inverses."""
    powers = np.unique(call.constant(1))
    if len(powers) != 1 or not (powers[0] in _ROOTS or powers[0] in range(1, MOST_FACTORS + 1)):
        raise UnsupportedError(
            f"raises to {powers.tolist()[:4]}; needed one of 1 to {MOST_FACTORS}, 0.5, -0.5 or -1.",
            hint="Write it with EXP and LOG.",
        )
    x = made = call.x()
    for _ in range(int(powers[0]) - 1):
        made = call.emit("mul", made, x)
    for step in _ROOTS.get(float(powers[0]), ()):
        made = call.emit("div", 1.0, made) if step == "inverse" else call.emit(step, made)
    call.give(made)


def _rsqrt(call: Call) -> None:
    call.put("div", 1.0, call.emit("sqrt", call.x()))


def _square(call: Call) -> None:
    call.put("mul", call.x(), call.x())


def _squared_difference(call: Call) -> None:
    difference = call.emit("sub", call.x(0), call.x(1))
    call.put("mul", difference, difference)


RULES: Mapping[str, Rule] = {
    "ADD": _binary("add", "tfl_add"),
    "SUB": _binary("sub", "tfl_sub"),
    "MUL": _binary("mul", "tfl_mul"),
    "MAXIMUM": _move_extremes("max"),
    "MINIMUM": _move_extremes("min"),
    "RELU": _unary("relu", "tfl_relu"),
    "RELU6": _relu6,
    "LOGISTIC": _table("sigmoid", "tfl_logistic"),
    "TANH": _table("tanh", "tfl_tanh"),
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "HARD_SWISH": _hard_swish,
    "ELU": _elu,
    **{code: _unary(code.lower()) for code in ("ABS", "EXP", "FLOOR", "LOG", "NEG", "ROUND", "SQRT")},
    "RELU_N1_TO_1": _clamped(-1.0, 1.0),
    "RELU_0_TO_1": _clamped(0.0, 1.0),
    "CEIL": _ceil,
    "SIGN": _sign,
    "ADD_N": _add_n,
    "POW": _pow,
    "RSQRT": _rsqrt,
    "SQUARE": _square,
    "SQUARED_DIFFERENCE": _squared_difference,
    "DEQUANTIZE": _dequantize,
}
#: Of quantized integers alone.
QUANTIZE: Mapping[str, Rule] = {"QUANTIZE": _quantize}
#: Those of RULES that also compute on quantized integers.
ON_INTEGERS = (
    "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "LOGISTIC", "TANH", "LEAKY_RELU", "PRELU",
    "HARD_SWISH", "ELU", "DEQUANTIZE",
)  # fmt: skip
