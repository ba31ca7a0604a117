"""The ops that TFLite's are lowered to: their C, and their bounds. They exist in this backend only.

``rescale`` is gemmlowp's rounding doubling high multiply of ``x << left`` by ``by``, a rounding shift to the right by
``shift``, halves away from zero, a zero point and a clamp. ``narrow``: twice ``x << left`` fits 32 bits; ``far``: half
a step may not be added before the shift. ``offset`` is its end alone, a zero point and a clamp. ``table``: 256 results
of an int8. ``weighted_sum``: two int8, each times a number, and one more, shifted to the right and clamped.
``rescale_32`` and ``rescale_64`` are the kernels' whole rescales, for factors that no shorter form holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import TensorType, int_range

Bounds = tuple[int, int]
Types = Sequence[TensorType]
Clamp = tuple[int, int] | None

#: Ops that read the core's table of the sigmoid, and the bits of x between two of its knots.
CURVES: Mapping[str, int] = {"tfl_logistic": 9, "tfl_tanh": 8}


def _times(text: str, bits: int) -> str:
    return f"{text} * {1 << bits}" if bits else text


def _plus(text: str, number: int) -> str:
    return f"{text} + {number}" if number > 0 else f"{text} - {-number}" if number else text


def rescale(value: Value, a: Sequence[str], held: Callable[[int], str]) -> str:
    """The C of a ``rescale``; ``held`` writes a constant that a loop may keep in a register."""
    attrs = value.attrs
    left, shift, zero, narrow = (attrs[key] for key in ("left", "shift", "zero", "narrow"))
    x = _times(a[0], left + 1 if narrow else left)
    mult = held(attrs["by"])
    if not shift:
        high = "nd_rescale" if narrow else "nd_tfl_high"
        return clamped(value, _plus(f"{high}({x}, {mult})", zero))
    scale = "nd_tfl_scale" if narrow else "nd_tfl_scale_wide"
    if attrs["far"]:
        return clamped(value, _plus(f"({scale}({x}, {mult}, 0) >> {shift - 1})", 1 + 2 * zero), 1)
    return clamped(value, f"{scale}({x}, {mult}, {held((1 << shift >> 1) + (zero << shift))})", shift)


def weighted_sum(value: Value, a: Sequence[str], held: Callable[[int], str]) -> str:
    """The C of a ``weighted_sum``: two multiply-accumulates and a saturating shift."""
    first, second = value.attrs["by"]
    text = f"{a[0]} * {held(first)} + ({a[1]} * {held(second)} + {held(value.attrs['plus'])})"
    return clamped(value, text, value.attrs["shift"])


def clamped(value: Value, text: str, shift: int = 0) -> str:
    """The text, shifted to the right, between the two ends of attribute ``clamp``, if there are any."""
    clamp, dtype = value.attrs["clamp"], value.tensor.dtype
    if clamp == int_range(dtype) and dtype in ("i8", "i16"):
        return f"nd_tfl_sat{dtype[1:]}({text}, {shift})" if shift else f"nd_sat{dtype[1:]}({text})"
    made = f"({text}) >> {shift}" if shift else text
    return made if clamp is None or dtype == "i32" else f"nd_tfl_clamp({made}, {clamp[0]}, {clamp[1]})"


def _offset(value: Value, a: Sequence[str], types: Types) -> str:
    return clamped(value, _plus(a[0], value.attrs["zero"]))


def _table(value: Value, a: Sequence[str], types: Types) -> str:
    return f"{a[1]}[{a[0]} + 128]"


def curve(value: Value, x: str, table: str, held: Callable[[int], str]) -> str:
    """The C of LOGISTIC and TANH at int16; ``table``: how the loop knows the core's table."""
    factor, shift, wide = (value.attrs[key] for key in ("factor", "shift", "wide"))
    made = f"({x} * {held(factor)} + {held(1 << shift >> 1)}) >> {shift}" if shift else f"{x} * {factor}"
    return f"nd_{value.op}{'_wide' if wide else ''}({table}, {made})"


def _rescale_32(value: Value, a: Sequence[str], types: Types) -> str:
    zero = value.attrs["zero"]
    return clamped(value, f"nd_tfl_multiply({', '.join(a)}){f' + {zero}' if zero else ''}")


def _rescale_64(value: Value, a: Sequence[str], types: Types) -> str:
    return f"nd_sat16(nd_tfl_multiply_64({', '.join(a)}))"


def _from_float(value: Value, a: Sequence[str], types: Types) -> str:
    low, high = value.attrs["clamp"]
    return f"nd_quantize_away({a[0]}, {a[1]}, {value.attrs['zero']}, {low}, {high})"


EXPRESSIONS: Mapping[str, Callable[[Value, Sequence[str], Types], str]] = {
    "rescale": lambda value, a, types: rescale(value, a, str),
    "offset": _offset,
    "weighted_sum": lambda value, a, types: weighted_sum(value, a, str),
    "table": _table,
    "from_float": _from_float,
    "rescale_32": _rescale_32,
    "rescale_64": _rescale_64,
}


# -- bounds ------------------------------------------------------------------------------------------------------------


def high_bounds(x: Bounds, left: int, mult: int) -> Bounds:
    """Of the product before its shift."""
    low, high = (((end << left) * mult + (1 << 30)) >> 31 for end in x)
    return low, high


def shift_bounds(x: Bounds, shift: int, zero: int, clamp: Clamp) -> Bounds:
    """Of what is shifted, offset and clamped."""
    least, most = (((end + (1 << shift >> 1) - (end < 0)) >> shift if shift else end) + zero for end in x)
    low, high = clamp or (least, most)
    return min(max(least, low), high), max(min(most, high), low)


def _rescale_bounds(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    high = high_bounds(a[0], attrs["left"], attrs["by"])
    return shift_bounds(high, attrs["shift"], attrs["zero"], attrs["clamp"])


BOUNDS: Mapping[str, Callable[[Sequence[Bounds], Mapping[str, Any], Value], Bounds]] = {
    "rescale": _rescale_bounds,
    "offset": lambda a, attrs, value: shift_bounds(a[0], 0, attrs["zero"], attrs["clamp"]),
    "table": lambda a, attrs, value: a[1],
    "weighted_sum": lambda a, attrs, value: attrs["clamp"],
    "tfl_logistic": lambda a, attrs, value: (0, 32767),
    "tfl_tanh": lambda a, attrs, value: (-32767, 32767),
}
