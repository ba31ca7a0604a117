"""Building graphs: symbols with operators, so that a cell's body reads like its equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.graph import Graph, Param, State, Value
from neurodeploy.ir.ops import infer
from neurodeploy.ir.types import Quant, TensorType, TupleType, Type


@dataclass(frozen=True)
class Sym:
    """A name in a graph under construction. ``+ - * / @`` and unary minus make values; floats become constants."""

    name: str
    builder: Builder

    @property
    def type(self) -> TensorType:
        found = self.builder.types[self.name]
        if not isinstance(found, TensorType):
            raise IRError("has several results; take one with get.", place=f"%{self.name}")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    def __add__(self, other: Sym | float) -> Sym:
        return self.builder("add", self, other)

    def __radd__(self, other: float) -> Sym:
        return self.builder("add", other, self)

    def __sub__(self, other: Sym | float) -> Sym:
        return self.builder("sub", self, other)

    def __rsub__(self, other: float) -> Sym:
        return self.builder("sub", other, self)

    def __mul__(self, other: Sym | float) -> Sym:
        return self.builder("mul", self, other)

    def __rmul__(self, other: float) -> Sym:
        return self.builder("mul", other, self)

    def __truediv__(self, other: Sym | float) -> Sym:
        return self.builder("div", self, other)

    def __matmul__(self, other: Sym) -> Sym:
        return self.builder("matmul", self, other)

    def __neg__(self) -> Sym:
        return self.builder("neg", self)

    def __lt__(self, other: Sym | float) -> Sym:
        return self.builder("lt", self, other)

    def __gt__(self, other: Sym | float) -> Sym:
        return self.builder("lt", other, self)

    def slice(self, start: int, stop: int, axis: int = 0, step: int = 1) -> Sym:
        """Elements start..stop-1 along an axis."""
        return self.builder("slice", self, axis=axis, start=start, stop=stop, step=step)

    def split(self, count: int) -> list[Sym]:
        """Equal parts along axis 0."""
        size = self.shape[0] // count
        return [self.slice(i * size, (i + 1) * size) for i in range(count)]


class Builder:
    """Makes a :class:`Graph` value by value; every value is checked as it is made."""

    def __init__(self) -> None:
        self.types: dict[str, Type] = {}
        self._inputs: dict[str, TensorType] = {}
        self._params: dict[str, Param] = {}
        self._states: dict[str, State] = {}
        self._values: list[Value] = []
        self._outputs: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """A name that is not taken: the stem itself, or with a number."""
        name = stem
        while name in self.types:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}_{self._counts[stem]}"
        return name

    def _define(self, name: str, type_: Type) -> Sym:
        if name in self.types:
            raise IRError(f"%{name} is defined twice.")
        self.types[name] = type_
        return Sym(name, self)

    def input(
        self, name: str, shape: Sequence[int] | TensorType, dtype: str = "f32", quant: Quant | None = None
    ) -> Sym:
        """An input of the step."""
        type_ = shape if isinstance(shape, TensorType) else TensorType(tuple(shape), dtype, quant)
        self._inputs[name] = type_
        return self._define(name, type_)

    def param(self, name: str, data: Any, quant: Quant | None = None) -> Sym:
        """A constant tensor; the name is made fresh if it is taken."""
        name = self.fresh(name)
        self._params[name] = data if isinstance(data, Param) else Param.of(data, quant)
        return self._define(name, self._params[name].type)

    def state(self, name: str, shape: Sequence[int] | TensorType, init: Any = None, dtype: str = "f32") -> Sym:
        """A state, zero at first or ``init`` (an array or a param's symbol). Give it its next with :meth:`next`."""
        type_ = shape if isinstance(shape, TensorType) else TensorType(tuple(shape), dtype)
        if init is not None and not isinstance(init, Sym):
            init = self.param(f"{name}_init", Param(type_, np.array(init).astype(type_.numpy)))
        self._states[name] = State(name, type_, "", init.name if init is not None else None)
        return self._define(name, type_)

    def next(self, state: Sym, value: Sym, when: Sym | None = None) -> None:
        """What the state becomes, and the condition under which it does."""
        old = self._states[state.name]
        self._states[state.name] = State(old.name, old.type, value.name, old.init, when.name if when else None)

    def output(self, name: str, value: Sym) -> None:
        """An output of the step."""
        self._outputs[name] = value.name

    def const(self, value: Any, dtype: str = "f32", name: str = "const") -> Sym:
        """A small constant written in the graph itself."""
        data = np.asarray(value).tolist()
        for known in self._values:
            if known.op == "const" and known.attrs == {"value": data, "dtype": dtype}:
                return Sym(known.name, self)
        return self("const", name=name, value=data, dtype=dtype)

    def value(self, name: str) -> Value | None:
        """The value of that name, None for an input, state or param."""
        return next((v for v in reversed(self._values) if v.name == name), None)

    def constant(self, name: str) -> np.ndarray | None:
        """The data of the param of that name, None for anything else."""
        return self._params[name].data if name in self._params else None

    def __call__(
        self, op: str, *args: Sym | float, name: str | None = None, quant: Quant | None = None, **attrs: Any
    ) -> Sym:
        """A primitive's value. ``quant`` marks the result's scale. Raises :class:`IRError`."""
        symbols = [a if isinstance(a, Sym) else self.const(float(a)) for a in args]
        type_ = infer(op, [self.types[s.name] for s in symbols], attrs)
        if quant is not None and isinstance(type_, TensorType):
            type_ = type_.with_(quant=quant)
        return self.add_value(Value(self.fresh(name or op), op, tuple(s.name for s in symbols), attrs, type_))

    def add_value(self, value: Value) -> Sym:
        """Append a value that is already made."""
        self._values.append(value)
        return self._define(value.name, value.type)

    def call(self, cell: str, *args: Sym, name: str | None = None, **attrs: Any) -> tuple[Sym, ...]:
        """A composite of :data:`neurodeploy.ir.cells.CELLS` with its body; gives its results."""
        from neurodeploy.ir.cells import body_of

        body = body_of(cell, [a.type for a in args], attrs)
        results = tuple(body.output_types().values())
        type_: Type = results[0] if len(results) == 1 else TupleType(results)
        made = self.add_value(Value(self.fresh(name or cell), cell, tuple(a.name for a in args), attrs, type_, body))
        if len(results) == 1:
            return (made,)
        return tuple(self("get", made, name=f"{made.name}_{out}", index=i) for i, out in enumerate(body.outputs))

    def graph(self) -> Graph:
        """The finished graph. Raises :class:`IRError` if a state has no next or a rule is broken."""
        from neurodeploy.ir.verify import verify_graph

        for state in self._states.values():
            if not state.next:
                raise IRError(f"state %{state.name} has no next.")
        return verify_graph(
            Graph(
                dict(self._inputs),
                dict(self._params),
                tuple(self._states.values()),
                tuple(self._values),
                dict(self._outputs),
            )
        )
