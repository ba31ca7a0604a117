"""Rules for whole numbers, bools and tables: what indexes, counts and decides.

Integers without a scale are computed in int32. Where TFLM's kernel lacks a type, the value goes by others that are
exact: int16 by float32 (which holds each of them), int32 in two halves of 16 bits, bool by int8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from neurodeploy.backends.tflite.calculate import Calculator
from neurodeploy.backends.tflite.philox import random
from neurodeploy.backends.tflite.stage import Rule, StageWriter
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import TensorType, int_range

#: The largest float32 below 2^31.
BELOW_I32 = 2.0**31 - 128
HALF = 1 << 16


def is_whole(type_: TensorType) -> bool:
    """Whether a type is one of whole numbers or bools, not of real numbers on a scale."""
    return type_.dtype != "f32" and type_.quant is None


def calculator(writer: StageWriter, value: Value) -> Calculator:
    """Operators for that value; raises :class:`UnsupportedError` for 64-bit integers."""
    for type_ in (value.tensor, *(writer.types[a] for a in value.args)):
        if type_.dtype == "i64":
            raise UnsupportedError(
                f"{value.op} takes {type_}; TFLite Micro's integer kernels take 32 bits.",
                place=f"{writer.name}: %{value.name}",
            )
    return Calculator(writer.main, value.name)


def _wide(writer: StageWriter, value: Value, calc: Calculator) -> list[int]:
    """The arguments in int32."""
    return [calc.cast(writer.at(a, len(value.tensor.shape)), "i32") for a in value.args]


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _arithmetic(code: str) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        calc = calculator(writer, value)
        calc(code, *_wide(writer, value, calc), out=writer.out(value))

    return write


def _neg(writer: StageWriter, value: Value) -> None:
    calc = calculator(writer, value)
    calc("SUB", calc.const(0), *_wide(writer, value, calc), out=writer.out(value))


def _abs(writer: StageWriter, value: Value) -> None:
    calc = calculator(writer, value)
    (x,) = _wide(writer, value, calc)
    calc("MAXIMUM", x, calc("SUB", calc.const(0), x), out=writer.out(value))


def _relu(writer: StageWriter, value: Value) -> None:
    calc, x = calculator(writer, value), writer.at(value.args[0])
    calc("MAXIMUM", x, calc.const(0, calc.dtype(x)), out=writer.out(value))


def _div(writer: StageWriter, value: Value) -> None:
    """To the nearest, halves away from zero; by 0 int32's extremes. DIV cuts (kernels/div.cc): where the rest is at
    least half of the divisor, one is added. Sizes are compared as negative numbers, of which there is one more."""
    calc = calculator(writer, value)
    a, b = _wide(writer, value, calc)
    zero, one = calc.const(0), calc.const(1)
    none = calc("EQUAL", b, zero, dtype="bool")
    divisor = calc("ADD", b, calc.cast(none, "i32"))
    cut = calc("DIV", a, divisor)
    rest = calc("SUB", a, calc("MUL", cut, divisor))
    small, large = (calc("MINIMUM", x, calc("SUB", zero, x)) for x in (rest, divisor))
    up = calc("LESS_EQUAL", small, calc("SUB", large, small), dtype="bool")
    unlike = calc("NOT_EQUAL", *(calc("LESS", x, zero, dtype="bool") for x in (a, divisor)), dtype="bool")
    sign = calc("SUB", one, calc("MUL", calc.const(2), calc.cast(unlike, "i32")))
    rounded = calc("ADD", cut, calc("MUL", sign, calc.cast(up, "i32")))
    low, high = (calc.const(x) for x in int_range("i32"))
    above = calc.choose(calc("LESS", zero, a, dtype="bool"), high, zero)
    extreme = calc.choose(calc("LESS", a, zero, dtype="bool"), low, above)
    calc.choose(none, extreme, rounded, out=writer.out(value))


def _matmul(writer: StageWriter, value: Value) -> None:
    """Broadcast products and their sum: no product of matrices takes int32."""
    calc = calculator(writer, value)
    first, second = (calc.cast(writer.at(a), "i32") for a in value.args)
    rows, columns = calc.shape(first)[1:-1], calc.shape(second)[2:]
    inner = calc.shape(first)[-1]
    left = calc.reshape(first, (1, *rows, inner, *(1 for _ in columns)))
    right = calc.reshape(second, (1, *(1 for _ in rows), inner, *columns))
    total = calc.fold("ADD", calc("MUL", left, right), 1 + len(rows))
    calc.reshape(total, (1, *value.tensor.shape), out=writer.out(value))


def _refuse(writer: StageWriter, value: Value) -> None:
    raise UnsupportedError(
        f"{value.op} of {writer.types[value.args[0]]} has no operator in TFLite Micro (it takes float32 alone).",
        place=f"{writer.name}: %{value.name}",
        hint="Cast it to f32 first, or choose a C target.",
    )


# -- decisions ---------------------------------------------------------------------------------------------------------


def _compare(writer: StageWriter, value: Value) -> None:
    """Bools are compared as such, integers in int32."""
    calc, out = calculator(writer, value), writer.out(value)
    code = {"lt": "LESS", "eq": "EQUAL", "ne": "NOT_EQUAL"}[value.op]
    if writer.types[value.args[0]].dtype != "bool":
        calc(code, *_wide(writer, value, calc), out=out)
        return
    first, second = (writer.at(a, len(value.tensor.shape)) for a in value.args)
    if value.op == "lt":
        calc("LOGICAL_AND", calc("LOGICAL_NOT", first), second, out=out)
    else:
        calc(code, first, second, out=out)


def _select(writer: StageWriter, value: Value) -> None:
    rank = len(value.tensor.shape)
    condition, first, second = (writer.at(a, rank) for a in value.args)
    calculator(writer, value).choose(condition, first, second, out=writer.out(value))


def _cast(writer: StageWriter, value: Value) -> None:
    """Integers saturate, where CAST would wrap; floats are cut towards zero, and what is no number is 0."""
    calc, x, to = calculator(writer, value), writer.at(value.args[0]), value.tensor.dtype
    source = calc.dtype(x)
    if to == "bool":
        zero = calc.const(0, "i32" if source in ("i8", "i16") else source)
        calc("NOT_EQUAL", calc.cast(x, calc.dtype(zero)), zero, out=writer.out(value))
        return
    if source == "f32" and to != "f32":
        x = calc.choose(calc("EQUAL", x, x, dtype="bool"), x, calc.const(0.0, "f32"))
        bounded = calc("MINIMUM", calc("MAXIMUM", x, calc.const(-(2.0**31), "f32")), calc.const(BELOW_I32, "f32"))
        whole = calc.cast(bounded, "i32")
        over = calc("LESS", calc.const(BELOW_I32, "f32"), x, dtype="bool")
        x, source = calc("ADD", whole, calc("MUL", calc.cast(over, "i32"), calc.const(127))), "i32"
    if to in ("i8", "i16") and source in ("i16", "i32"):
        low, high = int_range(to)
        if low > int_range(source)[0]:
            x = calc("MINIMUM", calc("MAXIMUM", x, calc.const(low, source)), calc.const(high, source))
    if calc.dtype(x) == to:
        calc.reshape(x, calc.shape(x), out=writer.out(value))
    else:
        calc.cast(x, to, out=writer.out(value))


# -- reductions --------------------------------------------------------------------------------------------------------


def _axis(writer: StageWriter, value: Value) -> int:
    return 1 + value.attrs.get("axis", 0) % len(writer.types[value.args[0]].shape)


def _sum(writer: StageWriter, value: Value) -> None:
    calc = calculator(writer, value)
    total = calc.fold("ADD", calc.cast(writer.at(value.args[0]), "i32"), _axis(writer, value))
    calc.reshape(total, (1, *value.tensor.shape), out=writer.out(value))


def _reduce_max(writer: StageWriter, value: Value) -> None:
    """REDUCE_MAX takes float32 and int8 (``EvalMinMaxHelper`` of kernels/reduce_common.cc); int32 goes by halves."""
    writer.same_scale(value)
    calc, x, axis = calculator(writer, value), writer.at(value.args[0]), _axis(writer, value)
    keep, out, dtype = bool(value.attrs.get("keepdims")), writer.out(value), calc.dtype(x)
    if dtype == "i32":
        calc.reshape(calc.fold("MAXIMUM", x, axis), calc.shape(out), out=out)
    elif dtype == "i16":
        wide = calc.cast(x, "f32")
        most = calc("REDUCE_MAX", wide, calc.const([axis]), shape=calc.shape(out), keepDims=keep)
        calc.cast(most, "i16", out=out)
    else:
        calc("REDUCE_MAX", x, calc.const([axis]), out=out, keepDims=keep)


def _argmax(writer: StageWriter, value: Value) -> None:
    """ARG_MAX takes float32 and int8 (kernels/arg_min_max.cc). Of int32 the first that equals the largest: the largest
    distance from the end of those that do."""
    calc, x, axis, out = calculator(writer, value), writer.at(value.args[0]), _axis(writer, value), writer.out(value)
    if calc.dtype(x) != "i32":
        x = calc.cast(x, "f32") if calc.dtype(x) == "i16" else x
        kind = writer.model.fb.TensorType.INT32
        calc("ARG_MAX", x, calc.const([axis]), out=out, outputType=kind)
        return
    shape = calc.shape(x)
    size, along = shape[axis], [1] * len(shape)
    along[axis] = size
    left = calc.const(np.arange(size, 0, -1).reshape(along))
    equal = calc.cast(calc("EQUAL", x, calc.fold("MAXIMUM", x, axis), dtype="bool"), "i32")
    first = calc.fold("MAXIMUM", calc("MUL", equal, left), axis)
    calc.reshape(calc("SUB", calc.const(size), first), calc.shape(out), out=out)


# -- tables ------------------------------------------------------------------------------------------------------------


def _through(calc: Calculator, x: int, out: int, change: Callable[[int], int]) -> None:
    """A move that TFLM's kernel makes of float32 and int8 alone, of any dtype."""
    dtype = calc.dtype(x)
    if dtype == "i32":
        high = calc("DIV", x, calc.const(HALF))
        low = calc("SUB", x, calc("MUL", high, calc.const(HALF)))
        upper, lower = (calc.cast(change(calc.cast(part, "f32")), "i32") for part in (high, low))
        calc("ADD", calc("MUL", upper, calc.const(HALF)), lower, out=out)
    elif dtype == "bool":
        calc("NOT_EQUAL", calc.cast(change(calc.cast(x, "i8")), "i32"), calc.const(0), out=out)
    elif dtype == "i16":
        calc.cast(change(calc.cast(x, "f32")), "i16", out=out)
    else:
        calc.reshape(made := change(x), calc.shape(made), out=out)


def _within(calc: Calculator, index: int, size: int) -> int:
    """Indices moved to the nearest end."""
    return calc("MINIMUM", calc("MAXIMUM", index, calc.const(0)), calc.const(size - 1))


def _entry(calc: Calculator, table: int, axis: int, index: int, out: int | None = None) -> tuple[int, int]:
    """The entry of a table at an index ``[1]`` that is inside, with a length of 1 along the axis, and where it begins:
    SLICE takes every dtype, and a beginning that is computed."""
    shape = list(calc.shape(table))
    begin = calc("MUL", calc.reshape(index, (1,)), calc.const(np.eye(len(shape), dtype=int)[axis]))
    shape[axis] = 1
    return calc("SLICE", table, begin, calc.const(shape), shape=shape, dtype=calc.dtype(table), out=out), begin


def _gather(writer: StageWriter, value: Value) -> None:
    """One entry by SLICE, several by GATHER, which takes float32 and int8 (kernels/gather.cc)."""
    writer.same_table(value)
    calc, axis, out = calculator(writer, value), _axis(writer, value), writer.out(value)
    table, index = writer.at(value.args[0]), calc.cast(writer.at(value.args[1]), "i32")
    inside = _within(calc, index, calc.shape(table)[axis])
    if int(np.prod(calc.shape(index))) == 1:
        entry, _ = _entry(calc, table, axis, inside)
        calc.reshape(entry, calc.shape(out), out=out)
        return

    def change(source: int) -> int:
        return calc("GATHER", source, inside, shape=calc.shape(out), dtype=calc.dtype(source), axis=axis, batchDims=1)

    if calc.dtype(table) in ("f32", "i8"):
        calc("GATHER", table, inside, out=out, axis=axis, batchDims=1)
    else:
        _through(calc, table, out, change)


def _row(writer: StageWriter, value: Value) -> None:
    """A row, or zeros where the index is outside."""
    writer.same_table(value)
    calc, out = calculator(writer, value), writer.out(value)
    table, index = writer.at(value.args[0]), calc.cast(writer.at(value.args[1]), "i32")
    inside = _within(calc, index, calc.shape(table)[1])
    entry, _ = _entry(calc, table, 1, inside)
    found = calc.reshape(entry, calc.shape(out))
    dtype = calc.dtype(table)
    zeros = calc.const(np.zeros((1,) * len(calc.shape(out))), dtype)
    calc.choose(calc("EQUAL", index, inside, dtype="bool"), found, zeros, out=out)


def _put(writer: StageWriter, value: Value) -> None:
    """DYNAMIC_UPDATE_SLICE moves an index to the nearest end: where it is outside, the row there is put back."""
    writer.same_table(value)
    calc, out, dtype = calculator(writer, value), writer.out(value), value.tensor.dtype
    names = (value.args[0], value.args[2])
    table, row = (calc.cast(writer.at(a), "i8") if dtype == "bool" else writer.at(a) for a in names)
    index = calc.cast(writer.at(value.args[1]), "i32")
    inside = _within(calc, index, calc.shape(table)[1])
    old, begin = _entry(calc, table, 1, inside)
    new = calc.reshape(row, calc.shape(old))
    entry = calc.choose(calc("EQUAL", index, inside, dtype="bool"), new, old)
    if dtype == "bool":
        changed = calc("DYNAMIC_UPDATE_SLICE", table, entry, begin, shape=calc.shape(table))
        calc("NOT_EQUAL", calc.cast(changed, "i32"), calc.const(0), out=out)
    else:
        calc("DYNAMIC_UPDATE_SLICE", table, entry, begin, out=out)


def _transpose(writer: StageWriter, value: Value) -> None:
    """TRANSPOSE takes float32, int8 and int16 (kernels/transpose.cc)."""
    calc, x, out = calculator(writer, value), writer.at(value.args[0]), writer.out(value)
    order = [0, *(1 + p for p in value.attrs["perm"])]

    def change(source: int) -> int:
        return calc("TRANSPOSE", source, calc.const(order), shape=calc.shape(out))

    _through(calc, x, out, change)


# -- both kinds --------------------------------------------------------------------------------------------------------

#: What takes the place of another rule where a value or an argument is whole.
_WHOLE: Mapping[str, Rule] = {
    "add": _arithmetic("ADD"),
    "sub": _arithmetic("SUB"),
    "mul": _arithmetic("MUL"),
    "div": _div,
    "neg": _neg,
    "abs": _abs,
    "relu": _relu,
    "sqrt": _refuse,
    "matmul": _matmul,
    "lt": _compare,
    "eq": _compare,
    "ne": _compare,
    "select": _select,
    "sum": _sum,
    "transpose": _transpose,
}

#: One rule whatever the types.
_ANY: Mapping[str, Rule] = {
    "cast": _cast,
    "reduce_max": _reduce_max,
    "argmax": _argmax,
    "gather": _gather,
    "row": _row,
    "put": _put,
    "random": random,
}


#: Every op whose rule knows whole numbers.
WRITTEN = frozenset({*_WHOLE, *_ANY})


def with_whole(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Rules that also take whole numbers: by dtype of the last argument, another rule for some."""

    def either(whole: Rule, real: Rule | None) -> Rule:
        def write(writer: StageWriter, value: Value) -> None:
            (whole if real is None or is_whole(writer.types[value.args[-1]]) else real)(writer, value)

        return write

    return {**rules, **{name: either(rule, rules.get(name)) for name, rule in _WHOLE.items()}, **_ANY}
