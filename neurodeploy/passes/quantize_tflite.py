"""Quantization for TFLite Micro: a calibrated float program becomes one of TFLite's int16x8 ops.

int8 weights with a scale per row, int16 values and states with zero point 0, int64 biases. Scales are chosen by
:mod:`neurodeploy.passes.tflite_scales`; where a kernel can't make its result on the scale that its class has, it is
made on a coarser one and rescaled. A sum of products and constants becomes FULLY_CONNECTED ops, one of them with the
constants as its bias, and ADDs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError, UsageError
from neurodeploy.ir.fixed import saturate
from neurodeploy.ir.graph import Graph, Param, Program, ProgramInput, Stage, State, Value, prune
from neurodeploy.ir.ops import infer
from neurodeploy.ir.tflite_ops import add_factors, fully_connected_factor, mul_factor
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from neurodeploy.passes.quantize import STALL_SHARE, lost_updates
from neurodeploy.passes.tflite_scales import COARSEST, MOVES, TABLE_SCALE, TABLES, Scales, f32

#: log2 of how much finer one QUANTIZE makes a value.
UPSCALE = 14


#: What to do about values that count or index.
WHOLE = "Whole numbers stay off TFLite Micro here; choose a C target."


@dataclass(frozen=True)
class QuantizeTFLite:
    """Quantize a calibrated, expanded float program for TFLite Micro.

    ``headroom``: how far beyond its calibrated range a value may go before it saturates. Needs
    ``meta["ranges"][stage][value] = [lo, hi]``. Raises :class:`UnsupportedError` naming an op and value without an
    int16 kernel, :class:`UsageError` for a value that was not calibrated.
    """

    headroom: float = 1.1

    def __call__(self, program: Program) -> Program:
        """The program with ``numerics="tflite"``."""
        if program.numerics != "float":
            raise UsageError(f"is {program.numerics} already; needed a float program.", place=program.name)
        scales = Scales(program, self.headroom)
        inputs = {
            name: ProgramInput(scales.typed(("", name), spec.type), spec.kind) for name, spec in program.inputs.items()
        }
        stages = tuple(replace(s, graph=StageQuantizer(s, program.name, scales).graph()) for s in program.stages)
        meta = {key: value for key, value in program.meta.items() if key not in ("ranges", "updates")}
        if stalled := _stalls(program, scales):
            meta["warnings"] = [*meta.get("warnings", []), *stalled]
        return verify(replace(program, inputs=inputs, stages=stages, numerics="tflite", meta=meta))


def _stalls(program: Program, scales: Scales) -> list[str]:
    """A warning for every state most of whose updates are below half a step, by ``meta["updates"]``."""
    found = []
    for stage in program.stages:
        for state in stage.graph.states:
            sizes = program.meta.get("updates", {}).get(stage.name, {}).get(state.name)
            lsb = scales.scale((stage.name, state.name))
            if sizes and (lost := lost_updates(sizes, lsb)) >= STALL_SHARE:
                found.append(
                    f"state '{stage.name}.{state.name}' (i16, one step is {lsb:.3g}) stalls: {100 * lost:.0f} % of its "
                    "updates in calibration are below half a step and are lost. "
                    "Choose a C target with --numerics float."
                )
    return found


# -- one stage ---------------------------------------------------------------------------------------------------------


@dataclass
class StageQuantizer:
    """Rewrites one stage's graph, value by value."""

    stage: Stage
    program: str
    scales: Scales
    values: list[Value] = field(default_factory=list)
    params: dict[str, Param] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.stage.graph
        self.known = self.scales.constant[self.stage.name]
        self.made = {value.name: value for value in graph.values}
        self.taken = set(graph.types())
        self.uses = Counter(arg for value in graph.values for arg in value.args)
        self.uses.update(graph.outputs.values())
        self.uses.update(name for state in graph.states for name in (state.next, state.when) if name)
        self.ranges = self.scales.program.meta.get("ranges", {}).get(self.stage.name, {})

    def graph(self) -> Graph:
        """The quantized graph."""
        old = self.stage.graph
        inputs = {name: self._leaf(name, type_) for name, type_ in old.inputs.items()}
        states = tuple(self._state(state) for state in old.states)
        absorbed = self._absorbed()
        for value in old.values:
            if value.name in self.known or value.name in absorbed:
                continue
            if value.body is not None:
                raise IRError(f"{value.op} is a composite; expand the program first.", place=self.place(value.name))
            rule = RULES.get(value.op)
            if rule is None:
                raise UnsupportedError(
                    f"{value.op} has no int16 kernel in TFLite Micro.",
                    place=self.place(value.name),
                    hint="Choose a C target, or keep that part off the device.",
                )
            rule(self, value)
        for name in [*old.outputs.values(), *(s.next for s in old.states)]:
            if name in self.known and old.tensor(name).dtype == "bool":
                self.params[name] = Param.of(np.asarray(self.known[name], bool))
            elif name in self.known:
                self._param(name, self.known[name], self.target(name), name)
        return prune(Graph(inputs, self.params, states, tuple(self.values), old.outputs))

    def place(self, name: str) -> str:
        """Where a value stands, for messages."""
        return f"{self.program}/{self.stage.name}: %{name}"

    def target(self, name: str) -> Quant:
        """The scale of a value's class."""
        return Quant(self.scales.scale((self.stage.name, name)))

    def _leaf(self, name: str, type_: TensorType) -> TensorType:
        if type_.dtype != "f32":
            raise UnsupportedError(f"is {type_}; needed f32.", place=self.place(name), hint=WHOLE)
        self.types[name] = self.scales.typed((self.stage.name, name), type_)
        return self.types[name]

    def _state(self, state: State) -> State:
        type_ = self._leaf(state.name, state.type)
        init = None
        if state.init is not None and np.any(self.known[state.init]):
            init = self._param(state.init, self.known[state.init], self.target(state.name), state.init)
        return replace(state, type=type_, init=init)

    def fresh(self, stem: str) -> str:
        """A name that is not taken."""
        name, count = stem, 1
        while name in self.taken:
            name, count = f"{stem}_{count}", count + 1
        self.taken.add(name)
        return name

    def emit(self, op: str, args: list[str], quant: Quant | None, name: str, **attrs: Any) -> str:
        """Append a value of the dialect (``quant`` None for a bool)."""
        type_ = infer(op, [self.types[a] for a in args], attrs)
        if not isinstance(type_, TensorType):
            raise IRError(f"{op} has several results.", place=self.place(name))
        self.types[name] = type_.with_(quant=quant)
        self.values.append(Value(name, op, tuple(args), attrs, self.types[name]))
        return name

    def finish(self, op: str, args: list[str], made_at: Quant, name: str, **attrs: Any) -> str:
        """Append a value whose kernel can give ``made_at``, and bring it to the scale of its class if that differs."""
        target = self.target(name)
        if made_at == target:
            return self.emit(op, args, target, name, **attrs)
        raw = self.emit(op, args, made_at, self.fresh(f"{name}_raw"), **attrs)
        return self.rescale(raw, target, name)

    def rescale(self, name: str, quant: Quant, made: str) -> str:
        """A value on another scale; QUANTIZE makes it finer by up to 2^14 at once (its int32 overflows beyond)."""
        while (step := float(self.types[name].quant.scale) / (1 << UPSCALE)) > float(quant.scale):  # type: ignore
            name = self.emit("tfl_quantize", [name], Quant(f32(step)), self.fresh(f"{made}_step"))
        return self.emit("tfl_quantize", [name], quant, made)

    def at(self, name: str, quant: Quant) -> str:
        """A value or constant on that scale."""
        if name in self.known:
            return self._param(self.fresh(name), self.known[name], quant)
        if self.types[name].quant == quant:
            return name
        return self.rescale(name, quant, self.fresh(f"{name}_q"))

    def operand(self, name: str) -> str:
        """An elementwise operand: a value as it is, a constant on a scale of its own."""
        if name not in self.known:
            return name
        data = np.asarray(self.known[name], np.float64)
        top = float(np.abs(data).max(initial=0)) or 1.0
        return self._param(name, data, Quant(f32(top / (32767 if data.size > 1 else 16384))))

    def boolean(self, name: str) -> str:
        """A bool as it is, or as a param if it is constant."""
        if name not in self.known:
            return name
        made = self.fresh(name)
        self.params[made] = Param.of(np.asarray(self.known[name], bool))
        self.types[made] = self.params[made].type
        return made

    def _param(self, stem: str, data: np.ndarray, quant: Quant, name: str | None = None, dtype: str = "i16") -> str:
        name = name or self.fresh(stem)
        whole = np.rint(np.asarray(data, np.float64) / quant.shaped(np.ndim(data))).astype(np.int64)
        type_ = TensorType(tuple(np.shape(data)), dtype, quant)
        self.params[name] = Param(type_, np.array(saturate(whole, dtype)))
        self.types[name] = type_
        return name

    # sums of products

    def terms(self, name: str) -> list[str]:
        """The leaves of a tree of adds whose inner sums nobody else uses."""
        value = self.made.get(name)
        if value is None or name in self.known or value.op != "add":
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
        """Whether a value is a product with a constant that only one value uses."""
        value = self.made.get(name)
        if value is None or name in self.known or value.op != "matmul":
            return False
        return self.uses[name] == 1 and any(a in self.known for a in value.args)

    def _absorbed(self) -> set[str]:
        """Values that a sum takes into itself: its inner sums, and products that only it uses."""
        taken: set[str] = set()
        for value in reversed(self.stage.graph.values):
            if value.op != "add" or value.name in self.known or value.name in taken:
                continue
            leaves = self.terms(value.name)
            taken.update(leaf for leaf in leaves if self.product(leaf))
            stack = [arg for arg in value.args if arg not in leaves]
            while stack:
                taken.add(inner := stack.pop())
                stack += [arg for arg in self.made[inner].args if arg not in leaves]
        return taken

    def span(self, name: str) -> float:
        """The calibrated size of a value, or of a constant."""
        if name in self.known:
            return float(np.abs(self.known[name]).max(initial=0))
        return max(abs(float(v)) for v in self.ranges[name])

    def span_quant(self, span: float) -> Quant:
        """A scale for values up to ``span``."""
        return Quant(f32((span * self.scales.headroom or 1.0) / 32767))


def _fully_connected(q: StageQuantizer, value: Value, bias: np.ndarray | None, name: str, quant: Quant) -> str:
    """``W @ x`` or ``x @ W`` plus a bias, made at ``quant`` or (where the kernel can't) coarser and then rescaled."""
    first, second = value.args
    if second in q.known:
        x, weights, stem = first, q.known[second].reshape(len(q.known[second]), -1).T, second
    elif first in q.known and len(q.stage.graph.tensor(second).shape) == 1:
        x, weights, stem = second, q.known[first].reshape(-1, q.known[first].shape[-1]), first
    else:
        raise UnsupportedError(
            "multiplies two computed values; TFLite Micro has FULLY_CONNECTED with constant weights.",
            place=q.place(value.name),
            hint="Choose a C target.",
        )
    weights = weights.astype(np.float64)
    tops = np.abs(weights).max(axis=1, initial=0)
    tops = np.where(tops > 0, tops, tops.max(initial=0) or 1.0)
    scales = tuple(f32(t / 127) for t in tops)
    args = [x, q._param(stem, weights, Quant(scales, 0, 0), dtype="i8")]
    into = f32(q.types[x].quant.scale)  # type: ignore[union-attr,arg-type]
    if bias is not None:
        steps = tuple(f32(into * s) for s in scales)
        full = np.broadcast_to(bias, (len(weights),))
        args.append(q._param(f"{name}_bias", full, Quant(steps, 0, 0), dtype="i64"))
    result = TensorType((*q.types[x].shape[:-1], len(weights)), "i16", quant)
    worst = float(np.max(fully_connected_factor(q.types[x], q.types[args[1]], result)))
    made_at = quant if worst < 64 else Quant(f32(float(quant.scale) * worst / 32))  # type: ignore[arg-type]
    shape = q.stage.graph.tensor(value.name).shape
    made = name if made_at == quant else q.fresh(f"{name}_raw")
    if result.shape == shape:
        q.emit("tfl_fully_connected", args, made_at, made)
    else:
        raw = q.emit("tfl_fully_connected", args, made_at, q.fresh(f"{name}_rows"))
        q.emit("reshape", [raw], made_at, made, shape=list(shape))
    return made if made_at == quant else q.rescale(made, quant, name)


def _matmul(q: StageQuantizer, value: Value) -> None:
    _fully_connected(q, value, None, value.name, q.target(value.name))


def _add(q: StageQuantizer, value: Value) -> None:
    """A sum: its constants become the bias of its last product, or one operand."""
    leaves = q.terms(value.name)
    fixed = [leaf for leaf in leaves if leaf in q.known]
    moving = [leaf for leaf in leaves if leaf not in q.known]
    products = [leaf for leaf in moving if q.product(leaf)]
    total = sum((np.asarray(q.known[leaf], np.float64) for leaf in fixed), np.zeros(()))
    shape = q.stage.graph.tensor(value.name).shape
    takes = (
        products[-1]
        if fixed
        and products
        and total.shape in ((), shape[-1:])
        and q.same_shape(products[-1], value.name)
        and len(shape) >= 1
        else None
    )
    parts: list[tuple[str, float]] = []
    alone = len(moving) == 1 and (not fixed or takes is not None)
    for leaf in moving:
        span = q.span(leaf)
        if leaf not in products:
            parts.append((leaf, span))
            continue
        bias = total if leaf == takes else None
        span += float(np.abs(total).max()) if bias is not None else 0.0
        name = value.name if alone else q.fresh(f"{leaf}_biased") if bias is not None else leaf
        quant = q.target(value.name) if alone else q.span_quant(span)
        parts.append((_fully_connected(q, q.made[leaf], bias, name, quant), span))
    if alone:
        return
    if fixed and takes is None:
        name = q.fresh(f"{value.name}_const")
        q.known[name] = total
        parts.append((q.operand(name), float(np.abs(total).max(initial=0))))
    (left, reach), *rest = parts
    for i, (right, span) in enumerate(rest):
        reach += span
        if i == len(rest) - 1:
            _sum(q, "tfl_add", left, right, value.name, q.target(value.name))
        else:
            left = _sum(q, "tfl_add", left, right, q.fresh(f"{value.name}_part"), q.span_quant(reach))


def _sum(q: StageQuantizer, op: str, left: str, right: str, name: str, quant: Quant) -> str:
    """An ADD or SUB; its kernel can't make a result finer than 1/16384 of its coarser argument."""
    out = TensorType((), "i16", quant)
    worst = add_factors(q.types[left], q.types[right], out)[2]
    if worst < 0.999:
        return q.emit(op, [left, right], quant, name)
    raw = q.emit(op, [left, right], Quant(f32(float(quant.scale) * worst * 1.01)), q.fresh(f"{name}_raw"))  # type: ignore[arg-type]
    return q.rescale(raw, quant, name)


def _sub(q: StageQuantizer, value: Value) -> None:
    left, right = (q.operand(a) for a in value.args)
    _sum(q, "tfl_sub", left, right, value.name, q.target(value.name))


def _product(q: StageQuantizer, left: str, right: str, name: str) -> None:
    """A MUL; its result is no finer than the product of its arguments' scales."""
    target = q.target(name)
    worst = mul_factor(q.types[left], q.types[right], TensorType((), "i16", target))
    made_at = target if worst < 0.999 else Quant(f32(float(target.scale) * worst * 1.01))  # type: ignore[arg-type]
    q.finish("tfl_mul", [left, right], made_at, name)


def _mul(q: StageQuantizer, value: Value) -> None:
    left, right = (q.operand(a) for a in value.args)
    _product(q, left, right, value.name)


def _constant(q: StageQuantizer, stem: str, data: Any) -> str:
    name = q.fresh(stem)
    q.known[name] = np.asarray(data, np.float64)
    return q.operand(name)


def _div(q: StageQuantizer, value: Value) -> None:
    x, divisor = value.args
    if divisor not in q.known or not np.all(q.known[divisor]):
        raise UnsupportedError(
            "divides by a computed value (or by 0); DIV has no int16 kernel in TFLite Micro.",
            place=q.place(value.name),
            hint="Choose a C target.",
        )
    _product(q, x, _constant(q, f"{divisor}_inverse", 1 / q.known[divisor].astype(np.float64)), value.name)


def _neg(q: StageQuantizer, value: Value) -> None:
    _product(q, value.args[0], _constant(q, "minus_one", -1.0), value.name)


def _abs(q: StageQuantizer, value: Value) -> None:
    target = q.target(value.name)
    x = q.at(value.args[0], target)
    minus = q.emit("tfl_mul", [x, _constant(q, "minus_one", -1.0)], target, q.fresh(f"{value.name}_minus"))
    q.emit("max", [x, minus], target, value.name)


def _table(q: StageQuantizer, value: Value) -> None:
    """The table; its kernel multiplies by 12288 times the scale in int32, so a coarse input is saturated first."""
    x = value.args[0]
    if float(q.target(x).array) > 1:
        x = q.at(x, Quant(2.0**COARSEST))
    q.finish(TABLES[value.op], [x], Quant(TABLE_SCALE), value.name)


def _relu(q: StageQuantizer, value: Value) -> None:
    source, target = q.types[value.args[0]].quant, q.target(value.name)
    finest = 0.0 if source is None else float(source.array) / (1 << UPSCALE)
    q.finish("tfl_relu", [value.args[0]], target if float(target.array) > finest else Quant(f32(finest)), value.name)


def _move(q: StageQuantizer, value: Value) -> None:
    """The same op: its arguments (the first is in its class) on its own scale."""
    if value.tensor.dtype == "bool":
        q.emit(value.op, [q.boolean(a) for a in value.args], None, value.name, **value.attrs)
        return
    target = q.target(value.name)
    q.emit(value.op, [q.at(a, target) for a in value.args], target, value.name, **value.attrs)


def _compare(q: StageQuantizer, value: Value) -> None:
    """Integers compared on one scale: the coarser of two values, or the value's where the other is constant."""
    source = q.stage.graph.tensor(value.args[0])
    if source.dtype != "f32":
        raise UnsupportedError(f"compares {source}; needed f32.", place=q.place(value.name), hint=WHOLE)
    quants = [q.types[a].quant for a in value.args if a not in q.known]
    quant = max((t for t in quants if t is not None), key=lambda t: float(t.array))
    q.emit(value.op, [q.at(a, quant) for a in value.args], None, value.name)


def _select(q: StageQuantizer, value: Value) -> None:
    condition, *choices = value.args
    if value.tensor.dtype != "f32":
        raise UnsupportedError(f"chooses between {value.tensor}; needed f32.", place=q.place(value.name), hint=WHOLE)
    target = q.target(value.name)
    q.emit("select", [q.boolean(condition), *(q.at(a, target) for a in choices)], target, value.name)


def _sum_axis(q: StageQuantizer, value: Value) -> None:
    """A sum over the last axis: a product with ones."""
    source = q.stage.graph.tensor(value.args[0])
    axis = value.attrs.get("axis", 0) % len(source.shape)
    if axis != len(source.shape) - 1:
        raise UnsupportedError(
            f"sums over axis {axis} of {source.shape}; only the last one is supported.", place=q.place(value.name)
        )
    ones = q.fresh(f"{value.name}_ones")
    q.known[ones] = np.ones((source.shape[-1], 1))
    _fully_connected(q, replace(value, args=(value.args[0], ones)), None, value.name, q.target(value.name))


RULES: Mapping[str, Callable[[StageQuantizer, Value], None]] = {
    "matmul": _matmul,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "abs": _abs,
    "tanh": _table,
    "sigmoid": _table,
    "relu": _relu,
    "min": _move,
    "max": _move,
    "concat": _move,
    "lt": _compare,
    "eq": _compare,
    "ne": _compare,
    "select": _select,
    "sum": _sum_axis,
    **dict.fromkeys(MOVES, _move),
}
