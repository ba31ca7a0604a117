"""One stage's float graph rewritten in TFLite's ops, value by value (:mod:`~neurodeploy.passes.tflite.rules`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.ir.fixed import saturate
from neurodeploy.ir.graph import Graph, Param, Stage, State, Value, prune
from neurodeploy.ir.ops import infer, op
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes.tflite.rounding import Moments
from neurodeploy.passes.tflite.row_scales import chosen_tops
from neurodeploy.passes.tflite.scales import Form, Scales, even, narrow, step

#: log2 of how much finer one QUANTIZE or RELU makes a value of a dtype: its int32 overflows beyond.
UPSCALE = {"i8": 22, "i16": 14}
#: One step of i8 in steps of an i16 that holds the same value exactly, whatever the zero point.
WIDENING = 128


@dataclass
class StageQuantizer:
    """Rewrites one stage's graph, value by value."""

    stage: Stage
    program: str
    scales: Scales
    moments: Moments = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    params: dict[str, Param] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.stage.graph
        self.known = self.scales.constant[self.stage.name]
        self.source: dict[str, Any] = graph.types()
        self.made = {value.name: value for value in graph.values}
        self.taken = set(graph.types())
        self.uses = Counter(arg for value in graph.values for arg in value.args)
        self.uses.update(graph.outputs.values())
        self.uses.update(name for state in graph.states for name in (state.next, state.when) if name)
        self.ranges = self.scales.program.meta.get("ranges", {}).get(self.stage.name, {})
        self.sums = self._absorbed()
        self._copies: dict[tuple[str, Form], str] = {}
        self.tops = chosen_tops(self)

    def graph(self) -> Graph:
        """The quantized graph."""
        from neurodeploy.passes.tflite.activations import fuse
        from neurodeploy.passes.tflite.functions import links
        from neurodeploy.passes.tflite.rules import RULES

        old = self.stage.graph
        inputs = {name: self._leaf(name, type_) for name, type_ in old.inputs.items()}
        states = tuple(self._state(state) for state in old.states)
        absorbed = self.sums | links(self)
        for value in old.values:
            if value.name in self.known or value.name in absorbed:
                continue
            rule = RULES.get(value.op)
            if rule is None and value.body is not None:
                raise IRError(f"{value.op} is a composite; expand the program first.", place=self.place(value.name))
            if rule is None:
                raise UnsupportedError(
                    f"{value.op} has no integer kernel in TFLite Micro.",
                    place=self.place(value.name),
                    hint="Choose a C target, or keep that part off the device.",
                )
            rule(self, value)
        for name in [*old.outputs.values(), *(s.next for s in old.states)]:
            if name in self.known:
                self.param(name, self.known[name], self.form(name), name)
        return prune(fuse(self, Graph(inputs, self.params, states, tuple(self.values), old.outputs)))

    def place(self, name: str) -> str:
        """Where a value stands, for messages."""
        return f"{self.program}/{self.stage.name}: %{name}"

    def form(self, name: str) -> Form:
        """The form of a value's class; of what isn't real its own dtype."""
        dtype = self.source[name].dtype
        return self.scales.form((self.stage.name, name)) if dtype == "f32" else Form(dtype)

    def held(self, name: str) -> Form:
        """The form in which a value that is made stands."""
        type_ = self.types[name]
        return Form(type_.dtype, type_.quant)

    def _leaf(self, name: str, type_: TensorType) -> TensorType:
        self.types[name] = self.scales.typed((self.stage.name, name), type_)
        return self.types[name]

    def _state(self, state: State) -> State:
        type_ = self._leaf(state.name, state.type)
        init = None
        if state.init is not None and np.any(self.known[state.init]):
            init = self.param(state.init, self.known[state.init], self.form(state.name), state.init)
        return replace(state, type=type_, init=init)

    def fresh(self, stem: str) -> str:
        """A name that is not taken."""
        name, count = stem, 1
        while name in self.taken:
            name, count = f"{stem}_{count}", count + 1
        self.taken.add(name)
        return name

    def emit(self, opcode: str, args: list[str], form: Form, name: str, **attrs: Any) -> str:
        """Append a value of the dialect in that form (``Form("bool")`` for a bool)."""
        if "to" in op(opcode).attrs and form.dtype != self.types[args[0]].dtype:
            attrs["to"] = form.dtype
        type_ = infer(opcode, [self.types[a] for a in args], attrs)
        if not isinstance(type_, TensorType) or type_.dtype != form.dtype:
            raise IRError(f"{opcode} gives {type_}, not {form.dtype}.", place=self.place(name))
        self.types[name] = type_.with_(quant=form.quant)
        self.values.append(Value(name, opcode, tuple(args), attrs, self.types[name]))
        return name

    def finish(self, opcode: str, args: list[str], made_in: Form, name: str, **attrs: Any) -> str:
        """Append a value whose kernel can give ``made_in``, and bring it to the form of its class if that differs."""
        target = self.form(name)
        if made_in == target:
            return self.emit(opcode, args, target, name, **attrs)
        raw = self.emit(opcode, args, made_in, self.fresh(f"{name}_raw"), **attrs)
        return self.rescale(raw, target, name)

    def rescale(self, name: str, form: Form, made: str) -> str:
        """A value in another form, of any dtype; very much finer in several QUANTIZE."""
        while (held := self.held(name)).scale / (finer := 1 << UPSCALE[held.dtype]) > form.scale:
            name = self.emit("tfl_quantize", [name], held.at(held.scale / finer), self.fresh(f"{made}_step"))
        if (held.dtype, form.dtype) == ("i8", "i16") and held.quant == form.quant:
            return self.emit("cast", [name], form, made, to="i16")
        return self.emit("tfl_quantize", [name], form, made)

    def at(self, name: str, form: Form) -> str:
        """A value or constant in that form."""
        if name in self.known:
            return self.param(self.fresh(name), self.known[name], form)
        if self.held(name) == form:
            return name
        key = name, form
        if key not in self._copies:
            self._copies[key] = self.rescale(name, form, self.fresh(f"{name}_q"))
        return self._copies[key]

    def operand(self, name: str, dtype: str | None = None) -> str:
        """An elementwise operand: a value as it is or in another dtype, a constant on a scale of its own."""
        if name not in self.known:
            held = self.held(name)
            if (held.dtype, dtype) == ("i8", "i16") and held.quant == Quant(held.scale):
                return self.at(name, Form("i16", held.quant))
            return name if dtype is None else self.cast(name, dtype)
        dtype = dtype or self.scales.widths.activations
        data = np.asarray(self.known[name], np.float64)
        if dtype == "i8" and data.size > 1:
            return self.param(name, data, Form("i8", narrow(float(data.min()), float(data.max()))))
        top = float(np.abs(data).max(initial=0)) or 1.0
        steps = {"i8": 64, "i16": 32767 if data.size > 1 else 16384}[dtype]
        return self.param(name, data, Form(dtype, Quant(step(top / steps))))

    def operands(self, value: Value) -> list[str]:
        """The arguments of an elementwise value in the dtype that it is computed in."""
        dtype = self.computed(value)
        return [self.operand(a, dtype) for a in value.args]

    def computed(self, value: Value) -> str:
        """The dtype that an elementwise value is computed in: of its form, or i16 where an argument has that."""
        wide = any(a not in self.known and self.held(a).dtype == "i16" for a in value.args)
        return "i16" if wide else self.form(value.name).dtype

    def in_dtype(self, name: str, dtype: str) -> Form:
        """The form of a value's class, or one for its range in another dtype; at i16 a power of two, as SUB needs."""
        form = self.form(name)
        if form.dtype == dtype:
            return form
        made = self.span_form(*self.span(name), dtype)
        return made if dtype == "i8" else Form(dtype, Quant(even(made.scale)))

    def cast(self, name: str, dtype: str) -> str:
        """A value in a dtype: exactly where it becomes wider, on the scale of its range where it becomes narrower."""
        held = self.held(name)
        if held.dtype == dtype:
            return name
        if dtype == "i16":
            return self.at(name, Form("i16", Quant(step(held.scale / WIDENING))))
        if name in self.stage.graph.types():
            return self.at(name, self.scales.form((self.stage.name, name), dtype))
        return self.at(name, held.narrowed())

    def plain(self, name: str) -> str:
        """What isn't real as it is, or as a param if it is constant."""
        return self.at(name, Form(self.source[name].dtype)) if name in self.known else name

    def param(
        self, stem: str, data: np.ndarray, form: Form, name: str | None = None, *, limit: int | None = None
    ) -> str:
        """A constant in that form, its name made of ``stem`` unless ``name`` gives it; no integer beyond ``limit``."""
        name = name or self.fresh(stem)
        if form.quant is None:
            type_ = form.of(tuple(np.shape(data)))
            self.params[name] = Param(type_, np.asarray(data, type_.numpy))
            self.types[name] = type_
            return name
        whole = np.rint(np.asarray(data, np.float64) / form.quant.shaped(np.ndim(data)))
        whole = np.clip(whole, -(2.0**62), 2.0**62).astype(np.int64)
        whole = whole if limit is None else np.clip(whole, -limit, limit)
        type_ = form.of(tuple(np.shape(data)))
        self.params[name] = Param(type_, np.array(saturate(whole + form.quant.zero_point, form.dtype)))
        self.types[name] = type_
        return name

    # sums of products

    def terms(self, name: str) -> list[str]:
        """The leaves of a tree of adds whose inner sums nobody else uses."""
        value = self.made.get(name)
        if value is None or name in self.known or value.op != "add" or value.tensor.dtype != "f32":
            return [name]
        leaves = []
        for arg in value.args:
            inner = self.uses[arg] == 1
            leaves += self.terms(arg) if inner and self.same_shape(arg, name) else [arg]
        return leaves

    def same_shape(self, a: str, b: str) -> bool:
        """Whether two values of the float graph have one shape."""
        types = self.stage.graph.types()
        return types[a].same_data(types[b])  # type: ignore[union-attr]

    def product(self, name: str) -> bool:
        """Whether a value is a FULLY_CONNECTED that only one value uses: a product with constant weights."""
        value = self.made.get(name)
        if value is None or name in self.known or value.op != "matmul" or self.uses[name] != 1:
            return False
        first, second = value.args
        return second in self.known or (first in self.known and len(self.stage.graph.tensor(second).shape) == 1)

    def _absorbed(self) -> set[str]:
        """Values that a sum takes into itself: its inner sums, and products that only it uses."""
        taken: set[str] = set()
        for value in reversed(self.stage.graph.values):
            if value.op != "add" or value.name in self.known or value.name in taken or value.tensor.dtype != "f32":
                continue
            leaves = self.terms(value.name)
            taken.update(leaf for leaf in leaves if self.product(leaf))
            stack = [arg for arg in value.args if arg not in leaves]
            while stack:
                taken.add(inner := stack.pop())
                stack += [arg for arg in self.made[inner].args if arg not in leaves]
        return taken

    def span(self, name: str) -> tuple[float, float]:
        """The calibrated range of a value, or that of a constant, with 0 in it."""
        seen = self.known[name] if name in self.known else self.ranges[name]
        return min(0.0, float(np.min(seen, initial=0))), max(0.0, float(np.max(seen, initial=0)))

    def span_form(self, low: float, high: float, dtype: str) -> Form:
        """A form for values from ``low`` to ``high``."""
        if dtype == "i8":
            return Form("i8", narrow(low, high))
        return Form("i16", Quant(step((max(-low, high) * self.scales.headroom or 1.0) / 32767)))


#: Appends to the quantizer what a value of the float program becomes.
Rule = Callable[[StageQuantizer, Value], None]
