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
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Value
from neurodeploy.ir.op import Op
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite import TFLITE_OPS
from neurodeploy.ir.tflite.fixed_point import multiply_32, quantize_multiplier, scale_of
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

    def zero(self, name: str) -> int:
        quant = self.type(name).quant
        return 0 if quant is None else int(quant.zero_point)

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
        zero, data = self.zero(name), self.data(name)
        if not zero:
            return name
        if data is not None:
            return self.constant(data - zero)
        return self.emit("sub", [name, self.constant(zero)], TensorType(self.type(name).shape, "i32"))

    def scaled(
        self, name: str, mult: int, shift: int, *, left: int = 0, zero: int = 0, into: TensorType | None = None,
        result: str = "",
    ) -> str:  # fmt: skip
        """``multiply_32(x << left, mult, shift) + zero``, saturated if it goes ``into`` a narrow type."""
        low, high = self.known[name]
        shape = self.type(name).shape
        wide = TensorType(shape, "i32")
        up = left + max(shift, 0)
        if mult == HALF and up + min(shift, 0) >= 1:
            factor = 1 << (up + min(shift, 0) - 1)
            made = self.emit("mul", [name, self.constant(factor)], wide) if factor > 1 else name
            return self.narrowed(made, 0, zero, into, result)
        narrow = low << (up + 1) >= I32[0] and high << (up + 1) <= I32[1]
        made = self.emit("high_mul", [name], wide, {"by": mult, "left": up, "narrow": narrow})
        return self.narrowed(made, max(-shift, 0), zero, into, result)

    def narrowed(self, name: str, shift: int, zero: int, into: TensorType | None, result: str = "") -> str:
        """A rounding shift to the right, a zero point, a saturation: what there is to do of them."""
        if not shift and not zero and into is None:
            return name
        low, high = self.known[name]
        type_ = into or TensorType(self.type(name).shape, "i32")
        ends = [_rounded(x, shift) + zero for x in (low, high)]
        least, most = int_range(type_.dtype)
        attrs = {"shift": shift, "zero": zero, "saturate": not (least <= ends[0] and ends[1] <= most)}
        return self.emit("round_shift", [name], type_, attrs, result)

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
        table = self.constant(_every(op, value, self.params, self.types), "i8")
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


# -- pointwise ---------------------------------------------------------------------------------------------------------


def _single(factor: Any) -> tuple[int, int]:
    mult, shift = quantize_multiplier(factor)
    return int(mult), int(shift)


def _sum(q: _Lowering, value: Value) -> None:
    into = value.tensor
    factors = add_factors(q.type(value.args[0]), q.type(value.args[1]), into)
    parts = []
    for arg, factor in zip(value.args, factors, strict=False):
        mult, shift = _single(factor)
        data = q.data(arg)
        if data is not None:
            parts.append(q.constant(multiply_32((data - q.zero(arg)) << ADD_SHIFT, np.array(mult), np.array(shift))))
        else:
            parts.append(q.scaled(q.centred(arg), mult, shift, left=ADD_SHIFT))
    total = q.emit("add" if value.op == "tfl_add" else "sub", parts, TensorType(into.shape, "i32"))
    q.scaled(total, *_single(factors[2]), zero=q.zero(value.name), into=into, result=value.name)


def _mul(q: _Lowering, value: Value) -> None:
    into = value.tensor
    a, b = map(q.centred, value.args)
    product = q.emit("mul", [a, b], TensorType(into.shape, "i32"))
    factor = mul_factor(q.type(value.args[0]), q.type(value.args[1]), into)
    q.scaled(product, *_single(factor), zero=q.zero(value.name), into=into, result=value.name)


def _quantize(q: _Lowering, value: Value) -> None:
    (x,), into = value.args, value.tensor
    factor = np.float64(scale_of(q.type(x))) / np.float64(scale_of(into))
    made = q.scaled(q.centred(x), *_single(factor), zero=q.zero(value.name), into=into,
                    result=value.name if value.op == "tfl_quantize" else "")  # fmt: skip
    if value.op == "tfl_relu":
        q.emit("max", [made, q.constant(q.zero(value.name), into.dtype)], into, {}, value.name)


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
    rows = len(weights)
    bias = q.data(value.args[2]) if len(value.args) == 3 else np.zeros(rows, np.int64)
    bias = bias - q.zero(value.args[0]) * weights.sum(1)
    into = replace(value.tensor, shape=(rows,))
    mult, shift = quantize_multiplier(fully_connected_factor(q.type(value.args[0]), q.type(w), into))
    mult, shift = (np.broadcast_to(a, (rows,)) for a in (mult, shift))
    most = max(map(abs, q.known[value.args[0]]))
    reach = int((np.abs(weights).sum(1) * most + np.abs(bias)).max(initial=0))
    if reach > I32[1]:
        total = _wide_sums(q, w, x, bias)
    else:
        total = q.emit("product", [w, x, q.constant(bias)], TensorType((rows,), "i32"))
        q.known[total] = (-reach, reach)
    if q.type(x).dtype == "i16":
        return _rescaled_16(q, total, reach, mult, shift, into, result)
    return _rescaled_32(q, total, mult, shift, into, result)


def _wide_sums(q: _Lowering, w: str, x: str, bias: np.ndarray) -> str:
    """Sums of 64 bits, where 32 are too few."""
    rows, columns = q.type(w).shape
    attrs = {"rows": rows, "columns": columns}
    return q.emit("wide_sums", [w, x, q.constant(bias, "i64")], TensorType((rows,), "i64"), attrs)


def _rescaled_16(
    q: _Lowering, total: str, reach: int, mult: np.ndarray, shift: np.ndarray, into: TensorType, result: str
) -> str:
    """The int64 product: a multiplier of 16 bits, one rounding. It is native's rescale wherever that has the bits."""
    reduced = np.where(mult < 0x7FFF0000, (mult + (1 << 15)) >> 16, 0x7FFF)
    up = 17 + shift  # y = (x * reduced * 2^up + 2^31) >> 32
    for pre in range(16):
        fits = reach << pre <= I32[1] and (up >= pre).all()
        scaled = reduced << np.maximum(up - pre, 0)
        if fits and (scaled <= I32[1]).all():
            attrs = {"pre": pre, "to": into.dtype}
            return q.emit("requantize", [total, q.constant(scaled)], into, attrs, result)
    args = [total, q.constant(reduced), q.constant(15 - shift, "i8")]
    return q.emit("rescale_64", args, into, {}, result)


def _rescaled_32(q: _Lowering, total: str, mult: np.ndarray, shift: np.ndarray, into: TensorType, result: str) -> str:
    """The int32 product, per channel where the channels differ."""
    zero = 0 if into.quant is None else int(into.quant.zero_point)
    if (mult == mult[0]).all() and (shift == shift[0]).all():
        return q.scaled(total, int(mult[0]), int(shift[0]), zero=zero, into=into, result=result)
    low, high = q.known[total]
    wide = TensorType(into.shape, "i32")
    if shift.max() <= -1 and 2 * low >= I32[0] and 2 * high <= I32[1]:
        made = q.emit("high_mul", [total, q.constant(mult)], wide, {"left": 0, "narrow": True})
        args = [made, q.constant(-shift - 1, "i8")] if (shift != shift[0]).any() else [made]
        return q.emit("round_shift", args, into, {"shift": int(-shift[0]), "zero": zero, "saturate": True}, result)
    args = [total, q.constant(mult), q.constant(shift, "i8")]
    return q.emit("rescale_32", args, into, {"zero": zero}, result)


RULES: Mapping[str, Callable[[_Lowering, Value], None]] = {
    "tfl_add": _sum,
    "tfl_sub": _sum,
    "tfl_mul": _mul,
    "tfl_relu": _quantize,
    "tfl_quantize": _quantize,
    "tfl_logistic": _curve(0),
    "tfl_tanh": _curve(1),
    "tfl_fully_connected": _fully_connected,
}
