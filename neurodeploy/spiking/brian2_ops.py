"""Integer ops as expressions of Brian2 in float64, exact: every integer and every product stays below 2^53.

A boolean is 0 or 1. ``requantize`` is ``floor(x factor + 0.5)`` with ``factor = mult 2^(pre-32)``: exact because the
multipliers of a spiking program have few significant bits. ``lut`` looks its result up in a table of all 65,536 inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.fixed import LUT_STEP_BITS, lut_rounding
from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import TensorType, int_range

#: Integers that float64 holds exactly.
EXACT = 2**53
Expression = Callable[[Value, Sequence[str], Sequence[TensorType]], str]


def _clip(text: str, dtype: str) -> str:
    low, high = int_range(dtype)
    return f"clip({text}, {low}, {high})"


def _cast(value: Value, args: Sequence[str], types: Sequence[TensorType]) -> str:
    to, given = value.tensor.dtype, types[0].dtype
    if to == "bool":
        return f"int({args[0]} != 0)"
    narrow = given != "bool" and int_range(to)[1] < int_range(given)[1]
    return _clip(args[0], to) if narrow else args[0]


def _requantize(value: Value, args: Sequence[str], types: Sequence[TensorType]) -> str:
    return _clip(f"floor({args[0]} * {args[1]} + 0.5)", value.tensor.dtype)


def _extreme(sign: str) -> Expression:
    """The smaller (``<``) or the larger (``>``) of two."""

    def write(value: Value, args: Sequence[str], types: Sequence[TensorType]) -> str:
        low, high = int_range("i32")
        for a, b in (args, args[::-1]):
            if b.strip("(-)").isdigit():
                return f"clip({a}, {low}, {b})" if sign == "<" else f"clip({a}, {b}, {high})"
        return f"{args[1]} + ({args[0]} - {args[1]}) * int({args[0]} {sign} {args[1]})"

    return write


#: op -> its expression; arguments are names or numbers.
RULES: Mapping[str, Expression] = {
    "add": lambda v, a, t: f"{a[0]} + {a[1]}",
    "sub": lambda v, a, t: f"{a[0]} - {a[1]}",
    "mul": lambda v, a, t: f"{a[0]} * {a[1]}",
    "neg": lambda v, a, t: f"-{a[0]}",
    "abs": lambda v, a, t: f"abs({a[0]})",
    "relu": lambda v, a, t: f"{a[0]} * int({a[0]} > 0)",
    "min": _extreme("<"),
    "max": _extreme(">"),
    "eq": lambda v, a, t: f"int({a[0]} == {a[1]})",
    "ne": lambda v, a, t: f"int({a[0]} != {a[1]})",
    "lt": lambda v, a, t: f"int({a[0]} < {a[1]})",
    "select": lambda v, a, t: f"{a[2]} + ({a[1]} - {a[2]}) * {a[0]}",
    "cast": _cast,
    "requantize": _requantize,
    "lut": lambda v, a, t: f"{a[1]}(({a[0]} + 32768) * second)",
}
#: Ops that only say where elements stand.
MOVES = ("slice", "concat", "reshape", "broadcast")


def factors(mult: np.ndarray, value: Value, x: TensorType, place: str) -> np.ndarray:
    """What a ``requantize`` multiplies by. Raises :class:`UnsupportedError` where a product isn't exact in float64."""
    whole = np.abs(mult.astype(np.int64))
    odd = whole // np.maximum(whole & -whole, 1)
    largest = int(odd.max(initial=0)) * (int_range(x.dtype)[1] + 1)
    if largest >= EXACT:
        raise UnsupportedError(
            f"%{value.name} multiplies {x.dtype} by {int(odd.max()).bit_length()} significant bits, which float64 "
            "doesn't hold exactly; needed at most 21.",
            place=place,
            hint="Convert the network with the method sigma-delta, whose multipliers have at most 20.",
        )
    return mult.astype(np.float64) * 2.0 ** (value.attrs.get("pre", 0) - 32)


def table(knots: np.ndarray, value: Value) -> np.ndarray:
    """A ``lut`` for every one of its 65,536 inputs, i16."""
    u = np.arange(1 << 16)
    index, part = u >> LUT_STEP_BITS, u & 127
    t = knots.astype(np.int64)
    offset, shift = lut_rounding(value.attrs)
    return ((t[index] * (128 - part) + t[index + 1] * part + offset) >> shift).astype(np.int16)


def check(value: Value, types: Sequence[TensorType], place: str) -> None:
    """Raises :class:`UnsupportedError` for an op or a type that neurons of the script can't compute."""
    hint = "Run it with snnTorch (target snntorch-sigma-delta) or with the runner reference."
    if value.op not in RULES and value.op not in (*MOVES, "matmul", "const"):
        raise UnsupportedError(f"%{value.name}: Brian2's neurons have no {value.op}.", place=place, hint=hint)
    for t in (*types, value.tensor):
        if t.dtype in ("f32", "i64"):
            raise UnsupportedError(
                f"%{value.name} ({value.op}) computes with {t.dtype}; the script's neurons hold integers of up to 32 "
                "bits.", place=place, hint=hint,
            )  # fmt: skip
    if len(value.tensor.shape) > 1:
        raise UnsupportedError(
            f"%{value.name} ({value.op}) has shape {list(value.tensor.shape)}; neurons stand in rows [n].",
            place=place, hint=hint,
        )  # fmt: skip
