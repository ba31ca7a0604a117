"""One stage's graph from float to integers: inputs, states and outputs, and every value by the rule of its op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from neurodeploy.errors import NeurodeployError, UnsupportedError
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Graph, Param, Stage, Value
from neurodeploy.ir.op import kind_of
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.passes.quantize_affine import Sum, accumulate, find_sums, product_terms, spare_bits
from neurodeploy.passes.quantize_plan import Plan
from neurodeploy.passes.quantize_values import Const, Emitter, Fixed, Plain
from neurodeploy.passes.quantize_widths import Widths

Lowered = Fixed | Const | Plain


class Lowering:
    """Lowers one legal float graph. ``ranges``: stage -> value -> [lo, hi]; ``moments``: of the sums of products."""

    def __init__(
        self,
        stage: Stage,
        plan: Plan,
        widths: Widths,
        ranges: Mapping[str, Mapping[str, Any]],
        moments: Mapping[tuple[str, str], np.ndarray] | None = None,
    ) -> None:
        self.stage, self.graph, self.plan, self.widths = stage, stage.graph, plan, widths
        self._moments = moments or {}
        self._ranges = ranges.get(stage.name, {})
        self.b = Builder()
        self.e = Emitter(self.b)
        self.types = stage.graph.types()
        self.env: dict[str, Lowered] = {}
        self.consts: dict[str, Const] = {}
        #: Inputs and states -> bits that their products would rather have in their weights.
        self.wishes: dict[tuple[str, str], int] = {}

    def run(self) -> Graph:
        """The integer graph. Raises :class:`UnsupportedError` naming the value without an integer rule."""
        from neurodeploy.passes.quantize_ops import RULES

        self._leaves()
        sums, absorbed = find_sums(self.graph, set(self.consts))
        for value in self.graph.values:
            if value.name in absorbed or value.name in self.consts:
                continue
            try:
                if value.name in sums:
                    self.env[value.name] = self._sum(value, sums[value.name])
                elif not self._real(value):
                    self._copy(value)
                elif value.op in RULES:
                    self.env[value.name] = RULES[value.op](self, value)
                else:
                    self.refuse(value, f"{value.op} has no integer form")
            except NeurodeployError as error:
                if error.place:
                    raise
                raise type(error)(error.message, place=self.place(value), hint=error.hint) from error
        self._finish()
        return _named_after_what_is_kept(self.b.graph())

    def place(self, value: Value) -> str:
        return f"stage '{self.stage.name}': %{value.name} ({value.op})"

    def refuse(self, value: Value, why: str) -> None:
        """Raise :class:`UnsupportedError` with the remedy."""
        raise UnsupportedError(
            f"{why} in native numerics.", place=self.place(value), hint="Compile with --numerics float."
        )

    # -- ends of the graph --------------------------------------------------------------------------------------------

    def interface(self, name: str) -> TensorType:
        """The type at which an input, a state or an output is kept."""
        found = self.types[name]
        if not isinstance(found, TensorType):
            raise UnsupportedError("a tuple can't be kept.", place=f"stage '{self.stage.name}': %{name}")
        return self.plan.interface(self.stage.name, name, found)

    def _leaves(self) -> None:
        b, graph = self.b, self.graph
        for name in graph.inputs:
            self.env[name] = self._leaf(b.input(name, self.interface(name)))
        for name, param in graph.params.items():
            if param.type.dtype == "f32":
                self.consts[name] = Const(param.data.astype(np.float64))
            else:
                self.env[name] = Plain(b.param(name, param))
        for value in graph.values:
            if value.op == "const" and value.tensor.dtype == "f32":
                self.consts[value.name] = Const(np.asarray(value.attrs["value"], np.float32).astype(np.float64))
        for state in graph.states:
            type_ = self.interface(state.name)
            init = None
            if state.init is not None and state.init in self.consts:
                init = self._kept(self.consts[state.init], type_, state.init)
            elif state.init is not None:
                init = self.plain(state.init)
            self.env[state.name] = self._leaf(b.state(state.name, type_, init))
        self.env.update(self.consts)

    def _leaf(self, sym: Sym) -> Fixed | Plain:
        type_ = sym.type
        if type_.quant is None:
            return Plain(sym)
        low, high = int_range(type_.dtype)
        scale = float(type_.quant.array)
        return Fixed(sym, scale, low, high, scale)

    def _finish(self) -> None:
        b, graph = self.b, self.graph
        for state in graph.states:
            when = self.plain(state.when) if state.when else None
            b.next(Sym(state.name, b), self._final(state.next, self.interface(state.name)), when)
        for out, name in graph.outputs.items():
            b.output(out, self._final(name, self.interface(name)))

    def _final(self, name: str, type_: TensorType) -> Sym:
        """A value in the very type that states, outputs and later stages expect."""
        found = self.env[name]
        if isinstance(found, Plain):
            return found.sym
        if isinstance(found, Const) or type_.quant is None:
            if isinstance(found, Const):
                return self._kept(found, type_, name)
            raise UnsupportedError("has no scale.", place=f"stage '{self.stage.name}': %{name}")
        scale = float(type_.quant.array)
        sym = self.e.rescale(found, scale, type_.dtype, f"{name}.out" if name in self.b.types else name).sym
        if sym.type == type_:
            return sym
        return self.b("cast", sym, name=f"{name}.kept", quant=type_.quant, to=type_.dtype)

    def _kept(self, const: Const, type_: TensorType, name: str) -> Sym:
        """Constant reals as a param of a type."""
        if type_.quant is None:
            raise UnsupportedError("has no scale.", place=f"stage '{self.stage.name}': %{name}")
        from neurodeploy.ir.fixed import quantize

        return self.b.param(name, Param(type_, quantize(const.data, type_)))

    # -- values -------------------------------------------------------------------------------------------------------

    def _real(self, value: Value) -> bool:
        """Whether reals take part in a value (else it is copied as it is)."""
        kinds = [kind_of(self.types[a]) for a in value.args] + [kind_of(value.tensor)]  # type: ignore[arg-type]
        return "float" in kinds

    def _copy(self, value: Value) -> None:
        args = tuple(self.plain(a).name for a in value.args)
        self.env[value.name] = Plain(self.b.add_value(Value(value.name, value.op, args, value.attrs, value.type)))

    def plain(self, name: str) -> Sym:
        """The symbol of a bool or whole number."""
        found = self.env[name]
        if not isinstance(found, Plain):
            raise UnsupportedError("is real where a whole number or bool is needed.", place=f"%{name}")
        return found.sym

    def fixed(self, name: str) -> Fixed:
        """A value as integers with a scale; a constant gets 16 bits."""
        found = self.env[name]
        if isinstance(found, Const):
            from neurodeploy.passes.quantize_plan import i16_scale

            scale = i16_scale(found.top, exact=True)
            return self.e.constant(found, scale, "i16", name, scale)
        if isinstance(found, Plain):
            raise UnsupportedError("is a whole number where a real is needed; cast it.", place=f"%{name}")
        return found

    def operand(self, name: str) -> Fixed:
        """A value as the right side of a product with weights: 16 bits, or 8 if activations are to be."""
        x = self.e.narrow(self.fixed(name))
        if x.dtype == "i16" and self.plan.operand_dtype(self.stage.name, name) == "i8":
            x = self.e.rescale(x, (self.plan.top(self.stage.name, name) or 1.0) / 127, "i8")
        return x

    def range_of(self, name: str) -> tuple[float, float]:
        """Least and greatest value in calibration."""
        if name in self._ranges:
            low, high = self._ranges[name]
            return float(low), float(high)
        top = self.plan.top(self.stage.name, name)
        return -top, top

    def want(self, value: Value) -> float:
        """The scale at which the value is narrowed to 16 bits."""
        return self.plan.scale(self.stage.name, value.name)

    def _sum(self, value: Value, found: Sum) -> Fixed:
        """A tree of sums with products in it: one accumulator, then the other terms one by one."""
        from neurodeploy.passes.quantize_ops import add

        want = self.want(value)
        products = product_terms(found, self.consts)
        terms = [(name, w, self.operand(x)) for name, w, x in products]
        bits = [self.widths.bits(self.stage.name, stem) for stem, _, _ in products]
        for (_, _, name), spare in zip(products, spare_bits(terms, bits), strict=True):
            if name in self.graph.inputs or name in {s.name for s in self.graph.states}:
                key = (self.stage.name, name)
                self.wishes[key] = max(spare, self.wishes.get(key, 0))
        rows = terms[0][1].shape[0]
        bias = np.zeros(rows)
        for sign, name in found.constants:
            bias = bias + sign * self.consts[name].data
        if bias.shape != (rows,):
            raise UnsupportedError("adds a constant of another rank to a vector.", place=self.place(value))
        partial = want if not found.others else self._partial_want(value, found)
        moment = self._moments.get((self.stage.name, value.name))
        acc = accumulate(self.e, terms, bias, bits, partial, value.name, moment)
        if value.name in self.plan.gates[self.stage.name] and not found.others and self._only_moved(value):
            scale = self.plan.gates[self.stage.name][value.name]
            if isinstance(scale, np.ndarray) and not acc.rows:  # a sum of several accumulators
                acc = acc.times(np.ones(len(scale)))
            return self.e.rescale(acc, scale, "i16", value.name)
        for sign, name in found.others:
            acc = add(self, acc, self.env[name], sign, want, value.name)
        return acc

    def _partial_want(self, value: Value, found: Sum) -> float:
        """The scale for the products alone, where other terms are still to be added."""
        from neurodeploy.passes.quantize_plan import i16_scale

        made = {v.name: v for v in self.graph.values}
        pure = {n for n in found.inner if n != value.name}
        leaves = {v.name for _, v in found.products} | {n for _, n in found.constants}

        def covers(name: str) -> set[str]:
            if name in leaves:
                return {name}
            v = made[name]
            return set().union(*(covers(a) if a in pure or a in leaves else {""} for a in v.args))

        for name in pure:
            if covers(name) == leaves and self.plan.known(self.stage.name, name):
                return i16_scale(self.plan.top(self.stage.name, name))
        top = self.plan.top(self.stage.name, value.name)
        return i16_scale(top + sum(self._top(name) for _, name in found.others))

    def _top(self, name: str) -> float:
        found = self.env[name]
        return found.top if isinstance(found, Const) else self.plan.top(self.stage.name, name)

    def _only_moved(self, value: Value) -> bool:
        """Whether moves alone read a value: then it is worth narrowing once, in front of them."""
        readers = self.graph.uses().get(value.name, [])
        return all(r.op not in ("sigmoid", "tanh", "relu") for r in readers)


def _named_after_what_is_kept(graph: Graph) -> Graph:
    """Where a float value has a wide form and one that is kept, the kept one bears its name."""
    kept = {v.name: v.name.removesuffix(".out") for v in graph.values if v.name.endswith(".out")}
    types = graph.types()
    swapped: dict[str, str] = {}
    for out, name in kept.items():
        wide = f"{name}.wide"
        if name in types and name not in graph.params and wide not in types:
            swapped |= {out: name, name: wide}
    swapped = {old: new for old, new in swapped.items() if old not in graph.inputs}
    rename = {v.name: swapped[v.name] for v in graph.values if v.name in swapped}
    values = tuple(
        replace(v, name=rename.get(v.name, v.name), args=tuple(rename.get(a, a) for a in v.args)) for v in graph.values
    )
    states = tuple(
        replace(s, next=rename.get(s.next, s.next), when=rename.get(s.when, s.when) if s.when else None)
        for s in graph.states
    )
    outputs = {out: rename.get(name, name) for out, name in graph.outputs.items()}
    return replace(graph, values=values, states=states, outputs=outputs)
