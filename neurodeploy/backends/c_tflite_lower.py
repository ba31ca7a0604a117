"""A graph on its way from the TFLite dialect to the C backend's own ops: what the rules of each op ask for and emit.

Three ops of this backend (:mod:`~neurodeploy.backends.c_tflite_ops`) say all of the arithmetic on single elements. What
depends on one int8 alone becomes a table of its 256 results, whatever way it takes: a sigmoid by way of int16 as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.backends.c_rounding import I32, Bounds, any_of, bounds_of
from neurodeploy.backends.c_tflite_ops import high_bounds, shift_bounds
from neurodeploy.errors import NumericsError, UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Value, prune
from neurodeploy.ir.op import Op
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite import TFLITE_OPS
from neurodeploy.ir.tflite.fixed_point import activation_range, quantize_multiplier, zero_of
from neurodeploy.ir.types import TensorType

HALF = 1 << 30  # the multiplier of a power of two


@dataclass
class Lowering:
    """One graph on its way; rules emit values and ask for types, constants and bounds."""

    graph: Graph
    rules: Mapping[str, Callable[[Lowering, Value], None]]
    params: dict[str, Param] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    known: dict[str, Bounds] = field(default_factory=dict)
    every: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    number: int = 0

    def lower(self) -> Graph:
        self.params = dict(self.graph.params)
        self.types = self.graph.types()
        for name, type_ in self.types.items():
            if isinstance(type_, TensorType):
                self._assume(name, type_)
        for value in self.graph.values:
            if self._as_table(value):
                continue
            if value.op in TFLITE_OPS:
                self._rule(value)
            else:
                self._keep(value)
        made = replace(self.graph, params=self.params, values=tuple(self.values))
        return prune(made) if self.every else made

    def _rule(self, value: Value) -> None:
        if value.op not in self.rules:
            raise UnsupportedError(
                f"the C backend has no code for {value.op}.", place=f"%{value.name}", hint="Choose another target."
            )
        self.rules[value.op](self, value)

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
            self.known[name] = any_of(type_.dtype)

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
        if type_.shape == shape:
            return name
        return self.emit("reshape", [name], replace(type_, shape=shape), {"shape": shape})

    def centred(self, name: str) -> str:
        """An integer less its zero point."""
        zero, data = zero_of(self.type(name)), self.data(name)
        if not zero:
            return name
        if data is not None:
            return self.constant(data - zero)
        return self.emit("add", [name, self.constant(-zero)], TensorType(self.type(name).shape, "i32"))

    def scaled(self, name: str, factor: tuple[int, int], left: int = 0) -> str:
        """``multiply_32(x << left, mult, shift)`` in 32 bits."""
        return self._rescale(name, factor, left, TensorType(self.type(name).shape, "i32"), None, "")

    def result(self, name: str, factor: tuple[int, int], into: TensorType, act: str | None, result: str) -> str:
        """``multiply_32(x, mult, shift)`` with the zero point of a narrower type, clamped."""
        return self._rescale(name, factor, 0, into, act, result)

    def _rescale(
        self, name: str, factor: tuple[int, int], left: int, into: TensorType, act: str | None, result: str
    ) -> str:
        (mult, shift), (low, high) = factor, self.known[name]
        up = left + max(shift, 0)
        if not mult:
            return self.offset(self.constant(np.zeros(into.shape, np.int64)), into, act, result)
        if mult == HALF and up + min(shift, 0) >= 1:
            by = 1 << (up + min(shift, 0) - 1)
            made = name if by == 1 else self.emit("mul", [name, self.constant(by)], TensorType(into.shape, "i32"))
            return made if into.dtype == "i32" and not result else self.offset(made, into, act, result)
        narrow = low << (up + 1) >= I32[0] and high << (up + 1) <= I32[1]
        attrs = {"by": mult, "left": up, "narrow": narrow, "shift": max(-shift, 0)}
        return self.emit(
            "rescale",
            [name],
            into,
            attrs | self._end(high_bounds((low, high), up, mult), attrs["shift"], into, act),
            result,
        )

    def _end(self, high: Bounds, shift: int, into: TensorType, act: str | None) -> dict[str, Any]:
        """Attributes of a rescale's end: zero point, clamp, and whether half a step may be added first."""
        zero, (least, most) = zero_of(into), activation_range(into, act)
        low, top = shift_bounds(high, shift, zero, None)
        more = (1 << shift >> 1) + (zero << shift)
        far = bool(shift) and not (I32[0] <= high[0] - 1 + more and high[1] + more <= I32[1])
        return {"zero": zero, "clamp": None if least <= low and top <= most else (least, most), "far": far}

    def offset(self, name: str, into: TensorType, act: str | None, result: str) -> str:
        """An integer with the zero point of a narrower type, clamped."""
        end = self._end(self.known[name], 0, into, act)
        return self.emit("offset", [name], into, {"zero": end["zero"], "clamp": end["clamp"]}, result)

    # -- tables -------------------------------------------------------------------------------------------------------

    def _as_table(self, value: Value) -> bool:
        """An elementwise op of one int8, or of what is a function of one, and of constants that are single numbers, as
        a table of its 256 results. Of what isn't an int8 itself they are kept for what is made of it."""
        op = OPS[value.op]
        free = {a for a in value.args if a not in self.params}
        rest = [a for a in value.args if a in self.params]
        if not op.elementwise or len(free) != 1 or any(self.type(a).size != 1 for a in rest):
            return False
        (x,) = free
        widens = value.op == "cast" and value.tensor.dtype == "i16"
        if self.type(x).shape != value.tensor.shape or not (value.op in TFLITE_OPS or widens):
            return False
        if self.type(x).dtype == "i8":
            source, given = x, np.arange(-128, 128, dtype=np.int8)
        elif x in self.every:
            source, given = self.every[x]
        else:
            return False
        try:
            results = _results(op, value, given, self.params, self.types)
        except NumericsError:  # an argument that never comes
            return False
        if value.tensor.dtype != "i8":
            self.every[value.name] = source, results
            return False
        self.emit("table", [source, self.constant(results, "i8")], value.tensor, {}, value.name)
        return True


def _results(
    op: Op, value: Value, given: np.ndarray, params: Mapping[str, Param], types: Mapping[str, Any]
) -> np.ndarray:
    """An op's results for each of those arguments."""
    kinds = [replace(types[a], shape=given.shape if a not in params else ()) for a in value.args]
    arrays = [params[a].data.reshape(1) if a in params else given[None] for a in value.args]
    return op.eval(arrays, value.attrs, replace(value.tensor, shape=given.shape), kinds).reshape(given.shape)


def single(factor: Any) -> tuple[int, int]:
    """Multiplier and shift of one factor."""
    mult, shift = quantize_multiplier(factor)
    return int(mult), int(shift)
