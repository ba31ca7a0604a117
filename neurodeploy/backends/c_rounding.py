"""Rescales by powers of two as additions and shifts, where no sum can leave 32 bits; and the bounds that prove it.

``requantize`` with a multiplier of 2^k is ``saturate((x + 2^(n-1)) >> n)``, n = 32 - k - pre. It becomes ``shift_down``
(attributes ``add``, ``shift``, ``saturate``), and its addend moves into a product below it (attribute ``plus``) or into
the addend of another shift, where a core's multiply-accumulate takes it for nothing. Both exist in this backend only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neurodeploy.backends import c_tflite_ops
from neurodeploy.ir.fixed import lut_ends
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.types import TensorType, int_range

Bounds = tuple[int, int]
I32 = int_range("i32")


def round_by_shifts(graph: Graph) -> Graph:
    """The graph with every rescale by a power of two as a shift."""
    known = bounds(graph)
    made = {v.name: v for v in graph.values}
    uses = graph.uses()
    kept = {*graph.outputs.values(), *(n for s in graph.states for n in (s.next, s.when) if n)}

    def single(name: str) -> bool:
        return name in made and len(uses.get(name, [])) == 1 and name not in kept

    for value in graph.values:
        shifted = _as_shift(value, graph, known)
        if shifted is not None:
            made[value.name] = shifted
    for value in reversed(graph.values):
        found = made[value.name]
        if found.op == "shift_down" and single(found.args[0]):
            _move_addend(found, made, known, single, graph)
    return replace(graph, values=tuple(made[v.name] for v in graph.values))


def _as_shift(value: Value, graph: Graph, known: Mapping[str, Bounds]) -> Value | None:
    mult = graph.params.get(value.args[1]) if value.op == "requantize" else None
    if mult is None or mult.data.size != 1 or value.args[0] not in known:
        return None
    number = int(mult.data.reshape(-1)[0])
    shift = 32 - value.attrs.get("pre", 0) - (number.bit_length() - 1)
    if number <= 0 or number & (number - 1) or not 0 <= shift <= 31:
        return None
    add = 1 << (shift - 1) if shift else 0
    low, high = known[value.args[0]]
    if high + add > I32[1]:
        return None
    dtype = value.tensor.dtype
    fits = _within((low + add >> shift, high + add >> shift), int_range(dtype))
    return replace(
        value, op="shift_down", args=value.args[:1], attrs={"add": add, "shift": shift, "saturate": not fits}
    )


def _move_addend(
    value: Value, made: dict[str, Value], known: Mapping[str, Bounds], single: Callable[[str], bool], graph: Graph
) -> None:
    """Let what is added before a shift be added where it costs nothing; a product with a constant comes last."""

    def scaled(name: str) -> bool:
        return name in made and any(a in graph.params for a in made[name].args)

    add, below = value.attrs["add"], made[value.args[0]]
    operands = [below.name] if below.op == "mul" else list(below.args) if below.op == "add" else []
    for name in sorted(operands, key=scaled):
        part = made.get(name)
        if part is None or not single(name) or part.tensor.dtype != "i32":
            continue
        low, high = known.get(name, I32)
        if part.op == "shift_down" and not part.attrs["saturate"]:
            more = part.attrs["add"] + (add << part.attrs["shift"])
            inner = known.get(part.args[0], I32)
            if inner[1] + more <= I32[1]:
                made[name] = replace(part, attrs={**part.attrs, "add": more})
                made[value.name] = replace(value, attrs={**value.attrs, "add": 0})
                return
        if part.op == "mul" and "plus" not in part.attrs and high + add <= I32[1] and low + add >= I32[0]:
            made[name] = replace(part, attrs={**part.attrs, "plus": add})
            made[value.name] = replace(value, attrs={**value.attrs, "add": 0})
            return


def _within(inner: Bounds, outer: Bounds) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


# -- bounds ------------------------------------------------------------------------------------------------------------


def bounds(graph: Graph) -> dict[str, Bounds]:
    """Least and greatest integer of every integer tensor, whatever the inputs are."""
    known: dict[str, Bounds] = {}
    for name, type_ in graph.types().items():
        if isinstance(type_, TensorType) and type_.dtype != "f32":
            known[name] = any_of(type_.dtype)
    for name, param in graph.params.items():
        if name in known and param.data.size:
            known[name] = (int(param.data.min()), int(param.data.max()))
    for value in graph.values:
        if value.name in known and all(a in known for a in value.args):
            known[value.name] = bounds_of(value, known.__getitem__) or known[value.name]
    return known


def bounds_of(value: Value, known: Callable[[str], Bounds]) -> Bounds | None:
    """Least and greatest integer of one value; None where nothing says more than its dtype."""
    rule = _RULES.get(value.op)
    if rule is None or value.tensor.dtype == "bool":
        return None
    found = rule([known(a) for a in value.args], value.attrs, value)
    return found if _within(found, any_of(value.tensor.dtype)) else None


def any_of(dtype: str) -> Bounds:
    """Least and greatest integer of a dtype that is no float."""
    return (0, 1) if dtype == "bool" else int_range(dtype)


def _corners(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    ends = [p * q for p in a[0] for q in a[1]]
    plus = attrs.get("plus", 0)
    return min(ends) + plus, max(ends) + plus


def _requantized(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    pre, ends = attrs.get("pre", 0), []
    for x in a[0]:
        ends += [((x << pre) * m + (1 << 31)) >> 32 for m in a[1]]
    low, high = int_range(value.tensor.dtype)
    return max(min(ends), low), min(max(ends), high)


def _shifted(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    low, high = int_range(value.tensor.dtype)
    ends = [x + attrs["add"] >> attrs["shift"] for x in a[0]]
    return max(ends[0], low), min(ends[1], high)


def _lut(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    return lut_ends(np.array(a[1]), attrs)


def _same(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    return a[0]


def _joined(a: Sequence[Bounds], attrs: Mapping[str, Any], value: Value) -> Bounds:
    return min(x[0] for x in a), max(x[1] for x in a)


_RULES: Mapping[str, Callable[[Sequence[Bounds], Mapping[str, Any], Value], Bounds]] = {
    "add": lambda a, attrs, value: (a[0][0] + a[1][0], a[0][1] + a[1][1]),
    "sub": lambda a, attrs, value: (a[0][0] - a[1][1], a[0][1] - a[1][0]),
    "neg": lambda a, attrs, value: (-a[0][1], -a[0][0]),
    "mul": _corners,
    "min": lambda a, attrs, value: (min(a[0][0], a[1][0]), min(a[0][1], a[1][1])),
    "max": lambda a, attrs, value: (max(a[0][0], a[1][0]), max(a[0][1], a[1][1])),
    "relu": lambda a, attrs, value: (max(a[0][0], 0), max(a[0][1], 0)),
    "select": lambda a, attrs, value: _joined(a[1:], attrs, value),
    "requantize": _requantized,
    "shift_down": _shifted,
    "lut": _lut,
    "concat": _joined,
    "slice": _same,
    "reshape": _same,
    "transpose": _same,
    "broadcast": _same,
    "copy": _same,
    **c_tflite_ops.BOUNDS,
}
