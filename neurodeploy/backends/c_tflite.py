"""TFLite's integer ops as the few shapes of work that the C backend knows, with every multiplier a constant.

A FULLY_CONNECTED becomes a product of 32-bit sums (the input's zero point is folded into the bias) and a rescale, so
that the kernels of ``native`` numerics serve both. What depends on one int8 alone becomes a table of 256. The rest is
arithmetic on single elements, written with three ops of this backend (:mod:`~neurodeploy.backends.c_tflite_ops`).
Multipliers come from the types by the very functions that the golden model uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.backends.c_rounding import I32, Bounds, bounds_of
from neurodeploy.errors import NumericsError, UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Value
from neurodeploy.ir.op import Op
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite import TFLITE_OPS
from neurodeploy.ir.tflite.fixed_point import (
    activation_range,
    multiply_32,
    nearest_step,
    offset,
    quantize_multiplier,
    scale_of,
    zero_of,
)
from neurodeploy.ir.tflite.pointwise import ADD_SHIFT, add_factors, mul_factor
from neurodeploy.ir.tflite.products import fully_connected_factor
from neurodeploy.ir.tflite.tables import table_input
from neurodeploy.ir.types import TensorType, int_range

HALF = 1 << 30  # the multiplier of a power of two


def lower_tflite(graph: Graph) -> Graph:
    """The graph without ops of the dialect. Raises :class:`UnsupportedError` for one that has no C."""
    return _Lowering(graph).lower() if any(v.op in TFLITE_OPS for v in graph.values) else graph


@dataclass
class _Lowering:
    """One graph on its way; rules emit values and ask for types, constants and bounds."""

    graph: Graph
    params: dict[str, Param] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    known: dict[str, Bounds] = field(default_factory=dict)
    number: int = 0

    def lower(self) -> Graph:
        self.params = dict(self.graph.params)
        self.types = self.graph.types()
        for name, type_ in self.types.items():
            if isinstance(type_, TensorType):
                self._assume(name, type_)
        for value in self.graph.values:
            if value.op in TFLITE_OPS:
                self._rule(value)
            else:
                self._keep(value)
        return replace(self.graph, params=self.params, values=tuple(self.values))

    def _rule(self, value: Value) -> None:
        if self._as_table(value):
            return
        if value.op not in RULES:
            raise UnsupportedError(
                f"the C backend has no code for {value.op}.", place=f"%{value.name}", hint="Choose another target."
            )
        RULES[value.op](self, value)

    # -- what rules ask -----------------------------------------------------------------------------------------------

    def type(self, name: str) -> TensorType:
        found = self.types[name]
        if not isinstance(found, TensorType):
            raise TypeError(f"%{name} is no tensor")
        return found

    def data(self, name: str) -> np.ndarray | None:
        """The elements of a constant as int64; None for what is computed."""
        return self.params[name].data.astype(np.int64) if name in self.params else None

    # -- what rules emit ----------------------------------------------------------------------------------------------

    def _assume(self, name: str, type_: TensorType) -> None:
        """Take a name for anything that its type holds; a constant for what it is."""
        data = self.data(name)
        if data is not None and data.size and type_.dtype != "f32":
            self.known[name] = int(data.min()), int(data.max())
        elif type_.dtype != "f32":
            self.known[name] = (0, 1) if type_.dtype == "bool" else int_range(type_.dtype)

    def _keep(self, value: Value) -> None:
        self.values.append(value)
        if value.name in self.known and all(a in self.known for a in value.args):
            self.known[value.name] = bounds_of(value, self.known.__getitem__) or self.known[value.name]

    def emit(
        self, op: str, args: Sequence[str], type_: TensorType, attrs: Mapping[str, Any] | None = None, name: str = ""
    ) -> str:
        """A value; ``name`` where it is the one that the graph asked for."""
        if not name:
            name = self._fresh()
        self.types[name] = type_
        self._assume(name, type_)
        self._keep(Value(name, op, tuple(args), attrs or {}, type_))
        return name

    def constant(self, data: Any, dtype: str = "i32") -> str:
        """A constant of any whole numbers."""
        name, type_ = self._fresh(), TensorType(np.shape(data), dtype)
        self.params[name] = Param(type_, np.array(np.asarray(data).astype(type_.numpy), order="C"))
        self.types[name] = type_
        self._assume(name, type_)
        return name

    def _fresh(self) -> str:
        while True:
            self.number += 1
            name = f"q{self.number}"
            if name not in self.types:
                return name

    def reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        """A value in another shape."""
        type_ = self.type(name)
        return (
            name
            if type_.shape == shape
            else self.emit("reshape", [name], replace(type_, shape=shape), {"shape": shape})
        )

    def centred(self, name: str) -> str:
        """An integer less its zero point."""
        zero, data = zero_of(self.type(name)), self.data(name)
        if not zero:
            return name
        if data is not None:
            return self.constant(data - zero)
        return self.emit("sub", [name, self.constant(zero)], TensorType(self.type(name).shape, "i32"))

    def scaled(self, name: str, factor: tuple[int, int], left: int = 0) -> str:
        """``multiply_32(x << left, mult, shift)`` in 32 bits."""
        made, shift = self.high(name, factor, left)
        return (
            self.emit("round_shift", [made], TensorType(self.type(name).shape, "i32"), _shifting(shift))
            if shift
            else made
        )

    def result(self, name: str, factor: tuple[int, int], value: Value, act: str | None) -> None:
        """The value that the graph asked for: ``multiply_32(x, mult, shift)`` with a zero point, clamped."""
        made, shift = self.high(name, factor, 0)
        self.narrowed(made, shift, value.tensor, act, value.name)

    def high(self, name: str, factor: tuple[int, int], left: int) -> tuple[str, int]:
        """The product before its last shift, and that shift."""
        (mult, shift), (low, high) = factor, self.known[name]
        wide = TensorType(self.type(name).shape, "i32")
        up = left + max(shift, 0)
        if mult == HALF and up + min(shift, 0) >= 1:
            by = 1 << (up + min(shift, 0) - 1)
            return (self.emit("mul", [name, self.constant(by)], wide) if by > 1 else name), 0
        narrow = low << (up + 1) >= I32[0] and high << (up + 1) <= I32[1]
        return self.emit("high_mul", [name], wide, {"by": mult, "left": up, "narrow": narrow}), max(-shift, 0)

    def narrowed(self, name: str, shift: int, into: TensorType, act: str | None = None, result: str = "") -> str:
        """A rounding shift to the right, the zero point, and what a result is clamped to."""
        zero, (least, most) = zero_of(into), activation_range(into, act)
        low, high = (_rounded(x, shift) + zero for x in self.known[name])
        clamp = None if least <= low and high <= most else (least, most)
        return self.emit("round_shift", [name], into, _shifting(shift, zero, clamp), result)

    # -- tables -------------------------------------------------------------------------------------------------------

    def _as_table(self, value: Value) -> bool:
        """An elementwise op of one int8 and of constants that are single numbers, as a table of its 256 results."""
        op = OPS[value.op]
        free = [a for a in value.args if a not in self.params]
        rest = [a for a in value.args if a in self.params]
        if not op.elementwise or len(set(free)) != 1 or self.type(free[0]).dtype != "i8" or value.tensor.dtype != "i8":
            return False
        if any(self.type(a).size != 1 for a in rest) or self.type(free[0]).shape != value.tensor.shape:
            return False
        try:
            table = self.constant(_every(op, value, self.params, self.types), "i8")
        except NumericsError:  # an argument that never comes
            return False
        self.emit("table", [free[0], table], value.tensor, {}, value.name)
        return True


def _every(op: Op, value: Value, params: Mapping[str, Param], types: Mapping[str, Any]) -> np.ndarray:
    """An op's results for every int8."""
    every = np.arange(-128, 128, dtype=np.int8)[None]
    kinds = [replace(types[a], shape=(256,) if a not in params else ()) for a in value.args]
    arrays = [params[a].data.reshape(1) if a in params else every for a in value.args]
    return op.eval(arrays, value.attrs, replace(value.tensor, shape=(256,)), kinds).reshape(256)


def _rounded(x: int, shift: int) -> int:
    """``x / 2^shift`` to the nearest integer, halves away from zero."""
    return (x + (1 << shift >> 1) - (x < 0)) >> shift if shift else x


def _shifting(shift: int, zero: int = 0, clamp: tuple[int, int] | None = None) -> dict[str, Any]:
    """Attributes of a ``round_shift``."""
    return {"shift": shift, "zero": zero, "clamp": clamp}


# -- pointwise ---------------------------------------------------------------------------------------------------------


def _single(factor: Any) -> tuple[int, int]:
    mult, shift = quantize_multiplier(factor)
    return int(mult), int(shift)


def _sum(q: _Lowering, value: Value) -> None:
    into = value.tensor
    left = ADD_SHIFT[into.dtype]
    *factors, last = map(_single, add_factors(q.type(value.args[0]), q.type(value.args[1]), into))
    parts = []
    for arg, factor in zip(value.args, factors, strict=True):
        data = q.params[arg].data if arg in q.params else None
        if data is None:
            parts.append(q.scaled(q.centred(arg), factor, left))
        else:
            parts.append(q.constant(multiply_32(offset(data, q.type(arg)) << left, *map(np.array, factor))))
    total = q.emit("add" if value.op == "tfl_add" else "sub", parts, TensorType(into.shape, "i32"))
    q.result(total, last, value, value.attrs.get("act"))


def _mul(q: _Lowering, value: Value) -> None:
    a, b = map(q.centred, value.args)
    product = q.emit("mul", [a, b], TensorType(value.tensor.shape, "i32"))
    factor = mul_factor(q.type(value.args[0]), q.type(value.args[1]), value.tensor)
    q.result(product, _single(factor), value, value.attrs.get("act"))


def _quantize(q: _Lowering, value: Value) -> None:
    (x,) = value.args
    factor = np.float64(scale_of(q.type(x))) / np.float64(scale_of(value.tensor))
    q.result(q.centred(x), _single(factor), value, "relu" if value.op == "tfl_relu" else None)


def _relu6(q: _Lowering, value: Value) -> None:
    type_ = q.type(value.args[0])
    low, high = int_range(type_.dtype)
    clamp = zero_of(type_), min(max(nearest_step(6.0, type_), low), high)
    q.emit("round_shift", value.args, value.tensor, _shifting(0, 0, clamp), value.name)


def _curve(most: int) -> Callable[[_Lowering, Value], None]:
    def rule(q: _Lowering, value: Value) -> None:
        factor, shift = table_input(scale_of(q.type(value.args[0])), most)
        q.emit(value.op, value.args, value.tensor, {"factor": factor, "shift": shift}, value.name)

    return rule


# -- products ----------------------------------------------------------------------------------------------------------


def _fully_connected(q: _Lowering, value: Value) -> None:
    """Rows of inputs one by one."""
    x, into = value.args[0], value.tensor
    columns, lead = q.type(x).shape[-1], int(np.prod(into.shape[:-1], dtype=int))
    if lead == 1:
        if into.shape == (into.shape[-1],):
            _dense(q, value, x, value.name)
            return
        made = _dense(q, value, q.reshaped(x, (columns,)), "")
        q.emit("reshape", [made], into, {"shape": into.shape}, value.name)
        return
    flat = q.reshaped(x, (lead * columns,))
    rows = []
    for i in range(lead):
        bounds = {"axis": 0, "start": i * columns, "stop": (i + 1) * columns, "step": 1}
        part = q.emit("slice", [flat], replace(q.type(x), shape=(columns,)), bounds)
        rows.append(_dense(q, value, part, ""))
    joined = q.emit("concat", rows, replace(into, shape=(into.size,)), {"axis": 0})
    q.emit("reshape", [joined], into, {"shape": into.shape}, value.name)


def _dense(q: _Lowering, value: Value, x: str, result: str) -> str:
    """One input vector's sums, and their rescale."""
    w = value.args[1]
    weights = q.data(w)
    if weights is None:
        raise UnsupportedError(
            f"{value.op} multiplies by weights that are computed.", place=f"%{value.name}", hint="Keep them constant."
        )
    weights = weights - zero_of(q.type(w))
    rows, given = len(weights), q.type(value.args[0])
    bias = q.data(value.args[2]) if len(value.args) == 3 else None
    bias = (np.zeros(rows, np.int64) if bias is None else bias) - zero_of(given) * weights.sum(1)
    into = replace(value.tensor, shape=(rows,))
    factors = quantize_multiplier(fully_connected_factor(given, q.type(w), into))
    mult, shift = (np.broadcast_to(a, (rows,)) for a in factors)
    reach = int((np.abs(weights).sum(1) * max(map(abs, q.known[value.args[0]])) + np.abs(bias)).max(initial=0))
    rescale = _Rescale(mult, shift, into, value.attrs.get("act"), result)
    if reach > I32[1]:
        return rescale.by_64(q, _wide_sums(q, weights, x, bias), reach)
    total = q.emit(
        "product", [q.constant(weights, _narrowest(weights)), x, q.constant(bias)], TensorType((rows,), "i32")
    )
    q.known[total] = (-reach, reach)
    in_64 = given.dtype == "i16" and (len(value.args) == 2 or q.type(value.args[2]).dtype == "i64")
    return rescale.by_64(q, total, reach) if in_64 else rescale.by_32(q, total)


def _narrowest(weights: np.ndarray) -> str:
    return "i8" if not weights.size or (-128 <= weights.min() and weights.max() <= 127) else "i16"


def _wide_sums(q: _Lowering, weights: np.ndarray, x: str, bias: np.ndarray) -> str:
    """Sums of 64 bits, where 32 are too few."""
    rows, columns = weights.shape
    args = [q.constant(weights, "i16"), x, q.constant(bias, "i64")]
    return q.emit("wide_sums", args, TensorType((rows,), "i64"), {"rows": rows, "columns": columns})


@dataclass(frozen=True)
class _Rescale:
    """The rescale of a product's sums, with a multiplier and a shift for each channel."""

    mult: np.ndarray
    shift: np.ndarray
    into: TensorType
    act: str | None
    result: str

    def by_64(self, q: _Lowering, total: str, reach: int) -> str:
        """The int64 product: a multiplier of 16 bits, one rounding. Native's rescale wherever that has the bits."""
        reduced = np.where(self.mult < 0x7FFF0000, (self.mult + (1 << 15)) >> 16, 0x7FFF)
        up = 17 + self.shift  # y = (x * reduced * 2^up + 2^31) >> 32
        plain = self.into.with_(quant=None)
        clamp = activation_range(self.into, self.act)
        whole = clamp == int_range(self.into.dtype)
        for pre in range(16):
            scaled = reduced << np.maximum(up - pre, 0)
            if reach << pre <= I32[1] and (up >= pre).all() and (scaled <= I32[1]).all():
                attrs = {"pre": pre, "to": self.into.dtype}
                args = [total, q.constant(scaled)]
                made = q.emit("requantize", args, self.into if whole else plain, attrs, self.result if whole else "")
                break
        else:
            args = [total, q.constant(reduced), q.constant(15 - self.shift, "i8")]
            made = q.emit("rescale_64", args, self.into if whole else plain, {}, self.result if whole else "")
        return made if whole else q.emit("round_shift", [made], self.into, _shifting(0, 0, clamp), self.result)

    def by_32(self, q: _Lowering, total: str) -> str:
        """The int32 product, per channel where the channels differ."""
        mult, shift, into = self.mult, self.shift, self.into
        if (mult == mult[0]).all() and (shift == shift[0]).all():
            made, left = q.high(total, (int(mult[0]), int(shift[0])), 0)
            return q.narrowed(made, left, into, self.act, self.result)
        low, high = q.known[total]
        wide = TensorType(into.shape, "i32")
        clamp = activation_range(into, self.act)
        if shift.max() <= -1 and 2 * low >= I32[0] and 2 * high <= I32[1]:
            made = q.emit("high_mul", [total, q.constant(mult)], wide, {"left": 0, "narrow": True})
            args = [made, q.constant(-shift - 1, "i8")] if (shift != shift[0]).any() else [made]
            return q.emit("round_shift", args, into, _shifting(int(-shift[0]), zero_of(into), clamp), self.result)
        args = [total, q.constant(mult), q.constant(shift, "i8")]
        return q.emit("rescale_32", args, into, {"zero": zero_of(into), "clamp": clamp}, self.result)


RULES: Mapping[str, Callable[[_Lowering, Value], None]] = {
    "tfl_add": _sum,
    "tfl_sub": _sum,
    "tfl_mul": _mul,
    "tfl_relu": _quantize,
    "tfl_relu6": _relu6,
    "tfl_quantize": _quantize,
    "tfl_logistic": _curve(0),
    "tfl_tanh": _curve(1),
    "tfl_fully_connected": _fully_connected,
}
