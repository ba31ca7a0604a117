"""TFLite's comparisons, operators of bools, and CAST."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_forms import bools
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Param
from neurodeploy.ir.types import INT_BITS, int_range

#: Code -> whether the arguments are exchanged; "less" or "equal"; what counts besides, or the opposite.
_COMPARISONS: Mapping[str, tuple[bool, bool, str]] = {
    "LESS": (False, True, ""),
    "GREATER": (True, True, ""),
    "LESS_EQUAL": (False, True, "or equal"),
    "GREATER_EQUAL": (True, True, "or equal"),
    "EQUAL": (False, False, ""),
    "NOT_EQUAL": (False, False, "not"),
}


def _compare(exchanged: bool, less: bool, more: str) -> Rule:
    """Integers of int8 by the dialect, which goes by their scales; int32 and floats as they are."""

    def rule(call: Call) -> None:
        a, b = (call.x(i) for i in ((1, 0) if exchanged else (0, 1)))
        names = ("lt", "eq")
        if call.quantized:
            for tensor in (call.tensor(0), call.tensor(1)):
                if tensor.kind != "INT8" or len(tensor.scale) != 1 or tensor.scale[0] >= 1:
                    found = f"{tensor.kind} of the scale {tensor.scale[0]:g}" if tensor.scale else tensor.kind
                    raise UnsupportedError(f"compares {found}; on integers needed int8 with a scale below 1.")
            names = ("tfl_less", "tfl_equal")
        made = call.emit(names[0 if less else 1], a, b)
        if more == "or equal":
            made = call.emit("max", made, call.emit(names[1], a, b))
        call.give(_opposite(call, made) if more == "not" else made)

    return rule


def _opposite(call: Call, x: Sym) -> Sym:
    return call.emit("eq", x, call.step.builder.param("false", Param.of(np.zeros((), bool))))


def _logical(op: str) -> Rule:
    def rule(call: Call) -> None:
        bools(call)
        call.put(op, call.x(0), call.x(1))

    return rule


def _logical_not(call: Call) -> None:
    bools(call)
    call.give(_opposite(call, call.x()))


def _cast(call: Call) -> None:
    """Integers that a narrower type doesn't hold wrap around, as in C++."""
    source, target = call.x(), call.step.type_of(call.result())
    if call.tensor().kind == "UINT8" or call.result().kind == "UINT8":
        raise UnsupportedError("casts uint8, which is held as i8 here.", hint="Quantize with int8.")
    if source.type.dtype == target.dtype:
        call.give(source)
        return
    widths = INT_BITS.get(source.type.dtype, 0), INT_BITS.get(target.dtype, 64)
    if widths[0] > widths[1] and not _within(call, source, target.dtype):
        source = _wrapped(call, source, widths[1])
    call.put("cast", source, to=target.dtype)


def _within(call: Call, x: Sym, dtype: str) -> bool:
    """Whether a value is a MINIMUM of a MAXIMUM (or the reverse) by constants that the dtype holds."""
    low, high = int_range(dtype)
    found = set()
    for _ in range(2):
        value = call.step.builder.value(x.name)
        if value is None or value.op not in ("min", "max"):
            return False
        sides = [(a, call.step.builder.constant(a)) for a in value.args]
        bound = next((data for _, data in sides if data is not None), None)
        if bound is None or not (low <= bound.min() and bound.max() <= high):
            return False
        found.add(value.op)
        x = Sym(next((a for a, data in sides if data is None), x.name), call.step.builder)
    return found == {"min", "max"}


def _wrapped(call: Call, x: Sym, bits: int) -> Sym:
    """Less the nearest multiple of ``2^bits`` whose product fits, and once more where that is still too large."""
    wide = "i64" if x.type.dtype == "i64" else "i32"
    if x.type.dtype != wide:
        x = call.emit("cast", x, to=wide)

    def number(value: int) -> Sym:
        return call.step.builder.const(value, wide)

    turns = call.emit("min", call.emit("div", x, number(1 << bits)), number((1 << (INT_BITS[wide] - 1 - bits)) - 1))
    rest = call.emit("sub", x, call.emit("mul", turns, number(1 << bits)))
    above = call.emit("lt", number((1 << (bits - 1)) - 1), rest)
    return call.emit("sub", rest, call.emit("select", above, number(1 << bits), number(0)))


RULES: Mapping[str, Rule] = {
    **{code: _compare(*how) for code, how in _COMPARISONS.items()},
    "LOGICAL_AND": _logical("min"),
    "LOGICAL_OR": _logical("max"),
    "LOGICAL_NOT": _logical_not,
    "CAST": _cast,
}
#: Those that also compute on quantized integers.
ON_INTEGERS = ("CAST", *_COMPARISONS)
