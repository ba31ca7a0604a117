"""The ops that TFLite's are lowered to: their C, and their bounds. They exist in this backend only.

``high_mul`` (attributes ``left``, ``narrow``, and ``by`` where it is no argument) is gemmlowp's rounding doubling high
multiply of ``x << left``; ``narrow``: twice that fits 32 bits. ``round_shift`` (``shift``, ``zero``, ``clamp``)
rounds halves away from zero; where shifts differ they are an argument, less one. ``table``: 256 results of an int8.
``rescale_32`` and ``rescale_64`` are the kernels' whole rescales, for factors that no shorter form holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import TensorType, int_range

Bounds = tuple[int, int]
Types = Sequence[TensorType]


#: Ops that read the core's table of the sigmoid.
CURVES = frozenset({"tfl_logistic", "tfl_tanh"})


def _times(text: str, bits: int) -> str:
    return f"{text} * {1 << bits}" if bits else text


def _high_mul(value: Value, a: Sequence[str], types: Types) -> str:
    mult = a[1] if len(a) == 2 else str(value.attrs["by"])
    left = value.attrs["left"]
    if value.attrs["narrow"]:
        return f"nd_rescale({_times(a[0], left + 1)}, {mult})"
    return f"nd_tfl_high({_times(a[0], left)}, {mult})"


def _round_shift(value: Value, a: Sequence[str], types: Types) -> str:
    shift, zero = value.attrs["shift"], value.attrs["zero"]
    if len(a) == 2:
        made = f"(((({a[0]} + ({a[0]} >> 31)) >> {a[1]}) + {1 + 2 * zero}) >> 1)"
    elif shift:
        made = f"(({a[0]} + ({a[0]} >> 31) + {(1 << shift >> 1) + (zero << shift)}) >> {shift})"
    else:
        made = f"{a[0]} + {zero}" if zero > 0 else f"{a[0]} - {-zero}" if zero else a[0]
    return clamped(value, made)


def clamped(value: Value, text: str) -> str:
    """The text between the two ends of attribute ``clamp``, if there are any."""
    clamp, dtype = value.attrs["clamp"], value.tensor.dtype
    if clamp is None or dtype == "i32":
        return text
    if clamp == int_range(dtype):
        return f"nd_sat{dtype[1:]}({text})"
    return f"nd_tfl_clamp({text}, {clamp[0]}, {clamp[1]})"


def _table(value: Value, a: Sequence[str], types: Types) -> str:
    return f"{a[1]}[{a[0]} + 128]"


def _curve(value: Value, a: Sequence[str], types: Types) -> str:
    factor, shift = value.attrs["factor"], value.attrs["shift"]
    made = f"({a[0]} * {factor} + {1 << shift >> 1}) >> {shift}" if shift else f"{a[0]} * {factor}"
    return f"nd_{value.op}({made})"


def _rescale_32(value: Value, a: Sequence[str], types: Types) -> str:
    zero = value.attrs["zero"]
    return clamped(value, f"nd_tfl_multiply({', '.join(a)}){f' + {zero}' if zero else ''}")


def _rescale_64(value: Value, a: Sequence[str], types: Types) -> str:
    return f"nd_sat16(nd_tfl_multiply_64({', '.join(a)}))"


EXPRESSIONS: Mapping[str, Callable[[Value, Sequence[str], Types], str]] = {
    "high_mul": _high_mul,
    "round_shift": _round_shift,
    "table": _table,
    "tfl_logistic": _curve,
    "tfl_tanh": _curve,
    "rescale_32": _rescale_32,
    "rescale_64": _rescale_64,
}


# -- bounds ------------------------------------------------------------------------------------------------------------


def _high_bounds(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    mults = a[1] if len(a) == 2 else (attrs["by"],)
    ends = [((x << attrs["left"]) * m + (1 << 30)) >> 31 for x in a[0] for m in mults]
    return min(ends), max(ends)


def _shift_bounds(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    shifts = [e + 1 for e in a[1]] if len(a) == 2 else [attrs["shift"]]
    ends = [((x + (1 << e >> 1) - (x < 0)) >> e if e else x) + attrs["zero"] for x in a[0] for e in shifts]
    low, high = attrs["clamp"] or int_range(value.tensor.dtype)
    return min(max(min(ends), low), high), max(min(max(ends), high), low)


BOUNDS: Mapping[str, Callable[[Sequence[Bounds], Mapping[str, Any], Value], Bounds]] = {
    "high_mul": _high_bounds,
    "round_shift": _shift_bounds,
    "table": lambda a, attrs, value: a[1],
    "tfl_logistic": lambda a, attrs, value: (0, 32767),
    "tfl_tanh": lambda a, attrs, value: (-32767, 32767),
}
