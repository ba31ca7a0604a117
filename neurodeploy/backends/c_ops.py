"""C expressions of elementwise ops, on arguments that are registers or literals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.backends import c_tflite_ops
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import TensorType, int_range

#: dtype -> type in memory, type in a register.
STORED = {"f32": "float", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t", "bool": "uint8_t"}
HELD = {"f32": "float", "i8": "int32_t", "i16": "int32_t", "i32": "int32_t", "i64": "int64_t", "bool": "int32_t"}
#: Types in which sums wrap.
WRAPS = {"i32": "uint32_t", "i64": "uint64_t"}

Types = Sequence[TensorType]


def stored(dtype: str, expression: str) -> str:
    """An expression narrowed for a store."""
    return expression if HELD[dtype] == STORED[dtype] else f"({STORED[dtype]}){parenthesize(expression)}"


def parenthesize(expression: str) -> str:
    """The expression, in parentheses unless it is a name, a number or a call."""
    depth = 0
    for i, char in enumerate(expression):
        depth += (char in "([") - (char in ")]")
        if char == " " and depth == 0:
            return f"({expression})"
        if char == "-" and i == 0:
            return f"({expression})"
    return expression


def literal(value: Any, dtype: str) -> str:
    """A constant as C has it."""
    if dtype == "f32":
        number = float(np.float32(value))
        if np.isnan(number):
            return "ND_NAN"
        if np.isinf(number):
            return "ND_INFINITY" if number > 0 else "-ND_INFINITY"
        text = repr(float(str(np.float32(value))))
        return (text if "." in text or "e" in text else f"{text}.0") + "f"
    number = int(value)
    if dtype == "i64":
        return "INT64_MIN" if number == -(1 << 63) else f"INT64_C({number})"
    return "INT32_MIN" if number == -(1 << 31) else str(number)


def _arith(sign: str) -> Callable[..., str]:
    def write(value: Value, a: Sequence[str], types: Types) -> str:
        wide = "(int64_t)" if value.tensor.dtype == "i64" and types[0].dtype != "i64" else ""
        return f"{wide}{a[0]} {sign} {a[1]}"

    return write


def _div(value: Value, a: Sequence[str], types: Types) -> str:
    if value.tensor.dtype == "f32":
        return f"{a[0]} / {a[1]}"
    return f"nd_divide{'64' if value.tensor.dtype == 'i64' else ''}({a[0]}, {a[1]})"


def _pick(sign: str, logic: str) -> Callable[..., str]:
    def write(value: Value, a: Sequence[str], types: Types) -> str:
        if value.tensor.dtype == "bool":
            return f"{a[0]} {logic} {a[1]}"
        if a[0] == a[1]:
            return a[0]
        nan = f" || {a[0]} != {a[0]}" if value.tensor.dtype == "f32" else ""  # NaN wins, as in NumPy
        return f"{a[0]} {sign} {a[1]}{nan} ? {a[0]} : {a[1]}"

    return write


def _float_call(name: str) -> Callable[..., str]:
    return lambda value, a, types: f"nd_{name}f({a[0]})"


def _compare(sign: str) -> Callable[..., str]:
    def write(value: Value, a: Sequence[str], types: Types) -> str:
        if a[0] == a[1] and types[0].dtype != "f32":
            return f"{a[0]} - {a[1]} {sign} 0"  # compilers warn of what compares itself
        return f"{a[0]} {sign} {a[1]}"

    return write


def _abs(value: Value, a: Sequence[str], types: Types) -> str:
    if value.tensor.dtype == "f32":
        return f"{a[0]} <= 0.0f ? 0.0f - {a[0]} : {a[0]}"
    return f"{a[0]} < 0 ? -{a[0]} : {a[0]}"


def _sqrt(value: Value, a: Sequence[str], types: Types) -> str:
    if value.tensor.dtype == "f32":
        return f"nd_sqrtf({a[0]})"
    return f"nd_isqrt({a[0]})" if value.tensor.dtype == "i64" else f"(int32_t)nd_isqrt({a[0]})"


def _relu(value: Value, a: Sequence[str], types: Types) -> str:
    zero = "0.0f" if value.tensor.dtype == "f32" else "0"
    return f"{a[0]} < {zero} ? {zero} : {a[0]}"


def _cast(value: Value, a: Sequence[str], types: Types) -> str:
    into, (given,) = value.tensor.dtype, types
    if into == "bool":
        return f"{a[0]} != {'0.0f' if given.dtype == 'f32' else '0'}"
    if into == "f32":
        return f"(float){a[0]}" if given.dtype != "f32" else a[0]
    if given.dtype == "f32":
        if into == "i64":
            return f"nd_truncate64({a[0]})"
        low, high = int_range(into)
        return f"nd_truncate({a[0]}, {literal(low, 'i32')}, {literal(high, 'i32')})"
    if given.dtype == "bool" or given.nbytes // given.size <= np.dtype(value.tensor.numpy).itemsize:
        return a[0]
    low, high = int_range(into)
    if given.dtype == "i64":
        return f"(int32_t)nd_sat_to({a[0]}, {literal(low, 'i64')}, {literal(high, 'i64')})"
    return f"nd_sat{into[1:]}({a[0]})"


def _requantize(value: Value, a: Sequence[str], types: Types) -> str:
    pre, into = value.attrs.get("pre", 0), value.attrs.get("to", "i16")
    scaled = f"nd_rescale({f'{a[0]} * {1 << pre}' if pre else a[0]}, {a[1]})"
    return scaled if into == "i32" else f"nd_sat{into[1:]}({scaled})"


def _quantize(value: Value, a: Sequence[str], types: Types) -> str:
    low, high = int_range(value.tensor.dtype)
    return f"nd_quantize({a[0]}, {a[1]}, {value.attrs['zero_point']}, {low}, {high})"


def _dequantize(value: Value, a: Sequence[str], types: Types) -> str:
    zero = value.attrs["zero_point"]
    wide = "(int64_t)" if types[0].dtype == "i32" else ""
    return f"(float)({wide}{a[0]} - {zero}) * {a[1]}" if zero else f"(float){a[0]} * {a[1]}"


EXPRESSIONS: Mapping[str, Callable[[Value, Sequence[str], Types], str]] = {
    "add": _arith("+"),
    "sub": _arith("-"),
    "mul": _arith("*"),
    "div": _div,
    "min": _pick("<", "&"),
    "max": _pick(">", "|"),
    "neg": lambda value, a, types: f"-{a[0]}",
    "abs": _abs,
    "tanh": _float_call("tanh"),
    "sigmoid": _float_call("sigmoid"),
    "exp": _float_call("exp"),
    "log": _float_call("log"),
    "softplus": _float_call("softplus"),
    "floor": _float_call("floor"),
    "round": _float_call("rint"),
    "sqrt": _sqrt,
    "relu": _relu,
    "eq": _compare("=="),
    "ne": _compare("!="),
    "lt": _compare("<"),
    "select": lambda value, a, types: f"{a[0]} ? {a[1]} : {a[2]}",
    "cast": _cast,
    "copy": lambda value, a, types: a[0],
    "requantize": _requantize,
    "quantize": _quantize,
    "dequantize": _dequantize,
    **c_tflite_ops.EXPRESSIONS,
}


def expression(value: Value, args: Sequence[str], types: Types) -> str:
    """The C expression of an elementwise value. Raises :class:`UnsupportedError` for an op without one."""
    if value.op not in EXPRESSIONS:
        raise UnsupportedError(
            f"the C backend has no code for {value.op}.", place=f"%{value.name}", hint="Choose another target."
        )
    if value.op == "neg" and args[0].startswith("-"):
        return f"-({args[0]})"
    return EXPRESSIONS[value.op](value, args, types)
