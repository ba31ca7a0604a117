"""One stage's step graph as a stateful ``.tflite`` model.

The model is what TensorFlow's converter makes of variables: subgraph 0 is one step at batch 1 (CALL_ONCE, then
VAR_HANDLE and READ_VARIABLE of every state, the ops, ASSIGN_VARIABLE), subgraph 1 assigns the initial values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from neurodeploy.backends.tflite_write import Model, Subgraph
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, State, Value
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.tflite_ops import add_factors
from neurodeploy.ir.types import TensorType

MAX_CONCAT = 10


class StageWriter:
    """Writes the step of one graph into a :class:`Model`. Every per-sample shape gets a leading batch axis of 1."""

    def __init__(self, graph: Graph, name: str, expose: Collection[str] = (), start: Collection[str] = ()) -> None:
        self.graph, self.name, self.start = graph, name, tuple(start)
        self.expose = [state.name for state in graph.states if state.name in expose]
        self.types: Mapping[str, Any] = graph.types()
        self.model = Model()
        self.main = self.model.subgraph("main")
        self.index: dict[str, int] = {}

    def write(self) -> bytes:
        """The file's bytes. Raises :class:`UnsupportedError` naming op and value where there is no such operator."""
        graph, main = self.graph, self.main
        for name, type_ in graph.inputs.items():
            self.index[name] = main.tensor(name, (1, *type_.shape), type_.dtype, type_.quant)
            main.inputs.append(self.index[name])
        handles = self._read_states()
        self._start_states()
        for value in graph.values:
            rule = RULES.get(value.op)
            if rule is None:
                raise UnsupportedError(
                    f"{value.op} has no operator in a tflite program.", place=f"{self.name}: %{value.name}"
                )
            rule(self, value)
        main.outputs = [self._result(name) for name in graph.outputs.values()]
        following = {state.name: self._following(state) for state in graph.states}
        main.outputs += [following[name] for name in self.expose]
        for name, tensor in following.items():
            main.op("ASSIGN_VARIABLE", [handles[name], tensor], [], "AssignVariableOptions")
        return self.model.finish(f"{self.name}: one step a call")

    def _read_states(self) -> dict[str, int]:
        if not self.graph.states:
            return {}
        init = self.model.subgraph("init")
        self.main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
        handles = {}
        for state in self.graph.states:
            shape = (1, *state.type.shape)
            start = np.zeros(shape, state.type.numpy)
            if state.init is not None:
                start = self.graph.params[state.init].data.reshape(shape)
            value = init.tensor(f"{state.name}_init", shape, state.type.dtype, state.type.quant, start)
            init.op("ASSIGN_VARIABLE", [self._handle(init, state.name), value], [], "AssignVariableOptions")
            handles[state.name] = self._handle(self.main, state.name)
            self.index[state.name] = self.main.tensor(state.name, shape, state.type.dtype, state.type.quant)
            self.main.op("READ_VARIABLE", [handles[state.name]], [self.index[state.name]], "ReadVariableOptions")
        return handles

    def _start_states(self) -> None:
        """Inputs for the first values of states in ``start``, then a bool that is true on the first step."""
        main, begun = self.main, []
        for name in self.start:
            type_ = self.types[name]
            begun.append(main.tensor(f"start.{name}", (1, *type_.shape), type_.dtype, type_.quant))
        if not begun:
            return
        first = main.tensor("first", (1,), "bool")
        main.inputs += [*begun, first]
        for name, given in zip(self.start, begun, strict=True):
            type_ = self.types[name]
            chosen = main.tensor(f"{name}_now", (1, *type_.shape), type_.dtype, type_.quant)
            main.op("SELECT_V2", [first, given, self.index[name]], [chosen], "SelectV2Options")
            self.index[name] = chosen

    def _handle(self, subgraph: Subgraph, state: str) -> int:
        handle = subgraph.tensor(f"{state}_handle", (1,), "resource")
        subgraph.op("VAR_HANDLE", [], [handle], "VarHandleOptions", container="", sharedName=state)
        return handle

    def _result(self, name: str) -> int:
        """The tensor of an output; what no operator made is copied first."""
        if name not in self.graph.inputs and name not in self.graph.params:
            return self.at(name)
        type_ = self.types[name]
        copy = self.main.tensor(f"{name}_out", (1, *type_.shape), type_.dtype, type_.quant)
        shape = self.main.ints(f"{name}_out_shape", (1, *type_.shape))
        self.main.op("RESHAPE", [self.at(name), shape], [copy], "ReshapeOptions", newShape=[1, *type_.shape])
        return copy

    def _following(self, state: State) -> int:
        """The tensor of what a state becomes: its next, or where ``when`` is false itself."""
        if state.when is None:
            return self._result(state.next) if state.name in self.expose else self.at(state.next)
        held = self.main.tensor(f"{state.name}_next", (1, *state.type.shape), state.type.dtype, state.type.quant)
        inputs = [self.at(state.when), self.at(state.next), self.at(state.name)]
        self.main.op("SELECT_V2", inputs, [held], "SelectV2Options")
        return held

    def at(self, name: str, rank: int | None = None) -> int:
        """The tensor of a value, or of a param as an elementwise operand of that rank (per sample)."""
        if name in self.graph.params and name not in self.index:
            param = self.graph.params[name]
            shape = (1,) * (1 + (rank or len(param.type.shape)) - len(param.type.shape)) + param.type.shape
            self.index[name] = self.main.tensor(name, shape, param.type.dtype, param.type.quant, param.data)
        return self.index[name]

    def weights(self, name: str) -> int:
        """The tensor of a param in its own shape."""
        param = self.graph.params[name]
        if name not in self.index:
            self.index[name] = self.main.tensor(name, param.type.shape, param.type.dtype, param.type.quant, param.data)
        return self.index[name]

    def out(self, value: Value) -> int:
        """A new tensor for a value."""
        type_ = value.tensor
        self.index[value.name] = self.main.tensor(value.name, (1, *type_.shape), type_.dtype, type_.quant)
        return self.index[value.name]

    def same_scale(self, value: Value) -> None:
        """Refuse a move between scales: these operators don't rescale."""
        tensors = [self.types[a] for a in value.args if isinstance(self.types[a], TensorType)]
        if any(t.quant != value.tensor.quant for t in tensors if t.dtype != "bool"):
            raise UnsupportedError(
                f"{value.op} joins {', '.join(map(str, tensors))} into {value.tensor}; needed one scale.",
                place=f"{self.name}: %{value.name}",
            )


Rule = Callable[[StageWriter, Value], None]


def _elementwise(code: str, table: str | None = None, **options: Any) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        rank = len(value.tensor.shape)
        inputs = [writer.at(a, rank) for a in value.args]
        writer.main.op(code, inputs, [writer.out(value)], table, **options)

    return write


def _sums(code: str, table: str) -> Rule:
    """ADD or SUB. TFLM aborts the whole process for a result much finer than its arguments: refused here."""
    rule = _elementwise(code, table, potScaleInt16=False)

    def write(writer: StageWriter, value: Value) -> None:
        left, right = (writer.types[a] for a in value.args)
        if add_factors(left, right, value.tensor)[2] >= 1:
            raise UnsupportedError(
                f"{value.op} of {left} and {right} can't be made on {value.tensor}; needed a scale above 1/16384 of "
                "the coarser one.",
                place=f"{writer.name}: %{value.name}",
            )
        rule(writer, value)

    return write


def _moves(code: str, table: str | None = None, *, logical: str | None = None) -> Rule:
    """An operator that moves integers as they are; ``logical`` is its twin for bools."""
    rule = _elementwise(code, table)
    boolean = _elementwise(logical) if logical else rule

    def write(writer: StageWriter, value: Value) -> None:
        writer.same_scale(value)
        (boolean if value.tensor.dtype == "bool" else rule)(writer, value)

    return write


def _compare(writer: StageWriter, value: Value) -> None:
    """Integers of one scale, widened to int32: TFLM's only int16 comparison, GREATER, computes with multipliers that
    its Prepare sets for int8 alone."""
    code = {"lt": "LESS", "eq": "EQUAL", "ne": "NOT_EQUAL"}[value.op]
    first, second = (writer.types[a] for a in value.args)
    if first.quant != second.quant:
        raise UnsupportedError(
            f"{value.op} compares {first} with {second}; needed one scale.", place=f"{writer.name}: %{value.name}"
        )
    main, rank, wide = writer.main, len(value.tensor.shape), []
    for side, name in enumerate(value.args):
        source = writer.at(name, rank)
        wide.append(main.tensor(f"{value.name}_wide{side}", tuple(main.tensors[source].shape), "i32"))
        main.op("CAST", [source], [wide[-1]], "CastOptions")
    main.op(code, wide, [writer.out(value)])


def _fully_connected(writer: StageWriter, value: Value) -> None:
    x, *constants = value.args
    inputs = [writer.at(x), *(writer.weights(c) for c in constants)]
    keep = len(value.tensor.shape) > 1
    writer.main.op("FULLY_CONNECTED", inputs, [writer.out(value)], "FullyConnectedOptions", keepNumDims=keep)


def _slice(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    shape = writer.types[value.args[0]].shape
    axis, start, stop, step = slice_bounds(value.attrs, shape)
    begin, end, strides = [0] * (1 + len(shape)), [1, *shape], [1] * (1 + len(shape))
    begin[1 + axis], end[1 + axis], strides[1 + axis] = start, stop, step
    bounds = [writer.main.ints(f"{value.name}_{n}", v) for n, v in (("begin", begin), ("end", end), ("by", strides))]
    writer.main.op("STRIDED_SLICE", [writer.at(value.args[0]), *bounds], [writer.out(value)], "StridedSliceOptions")


def _concat(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    if len(value.args) > MAX_CONCAT:
        raise UnsupportedError(
            f"concat joins {len(value.args)} values; TFLM joins {MAX_CONCAT} at most.",
            place=f"{writer.name}: %{value.name}",
        )
    axis = value.attrs.get("axis", 0) % len(value.tensor.shape) + 1
    inputs = [writer.at(a) for a in value.args]
    writer.main.op("CONCATENATION", inputs, [writer.out(value)], "ConcatenationOptions", axis=axis)


def _reshape(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    shape = [1, *value.tensor.shape]
    inputs = [writer.at(value.args[0]), writer.main.ints(f"{value.name}_shape", shape)]
    writer.main.op("RESHAPE", inputs, [writer.out(value)], "ReshapeOptions", newShape=shape)


def _transpose(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    order = writer.main.ints(f"{value.name}_perm", [0, *(p + 1 for p in value.attrs["perm"])])
    writer.main.op("TRANSPOSE", [writer.at(value.args[0]), order], [writer.out(value)], "TransposeOptions")


def _broadcast(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    rank = len(value.tensor.shape)
    source = writer.at(value.args[0])
    shape = writer.types[value.args[0]].shape
    if len(shape) != rank:
        wide = [1] * (1 + rank - len(shape)) + list(shape)
        seen = writer.main.tensor(f"{value.name}_wide", tuple(wide), value.tensor.dtype, value.tensor.quant)
        sizes = writer.main.ints(f"{value.name}_wide_shape", wide)
        writer.main.op("RESHAPE", [source, sizes], [seen], "ReshapeOptions", newShape=wide)
        source = seen
    sizes = writer.main.ints(f"{value.name}_shape", [1, *value.tensor.shape])
    writer.main.op("BROADCAST_TO", [source, sizes], [writer.out(value)], "BroadcastToOptions")


def _shift(writer: StageWriter, value: Value) -> None:
    """A delay line: all but its oldest entry, then the new one."""
    writer.same_scale(value)
    main, type_ = writer.main, value.tensor
    length, *rest = type_.shape
    entry, kept = (1, 1, *rest), (1, length - 1, *rest)
    sizes = main.ints(f"{value.name}_entry", entry)
    newest = main.tensor(f"{value.name}_new", entry, type_.dtype, type_.quant) if length > 1 else writer.out(value)
    main.op("RESHAPE", [writer.at(value.args[1]), sizes], [newest], "ReshapeOptions", newShape=list(entry))
    if length == 1:
        return
    bounds = {"begin": [0, 1] + [0] * len(rest), "end": [1, *type_.shape], "by": [1] * (2 + len(rest))}
    inputs = [writer.at(value.args[0]), *(main.ints(f"{value.name}_{n}", v) for n, v in bounds.items())]
    older = main.tensor(f"{value.name}_old", kept, type_.dtype, type_.quant)
    main.op("STRIDED_SLICE", inputs, [older], "StridedSliceOptions")
    main.op("CONCATENATION", [older, newest], [writer.out(value)], "ConcatenationOptions", axis=1)


RULES: Mapping[str, Rule] = {
    "tfl_fully_connected": _fully_connected,
    "tfl_add": _sums("ADD", "AddOptions"),
    "tfl_sub": _sums("SUB", "SubOptions"),
    "tfl_mul": _elementwise("MUL", "MulOptions"),
    "tfl_relu": _elementwise("RELU"),
    "tfl_quantize": _elementwise("QUANTIZE", "QuantizeOptions"),
    "tfl_logistic": _elementwise("LOGISTIC"),
    "tfl_tanh": _elementwise("TANH"),
    "min": _moves("MINIMUM", "MaximumMinimumOptions", logical="LOGICAL_AND"),
    "max": _moves("MAXIMUM", "MaximumMinimumOptions", logical="LOGICAL_OR"),
    "select": _moves("SELECT_V2", "SelectV2Options"),
    "lt": _compare,
    "eq": _compare,
    "ne": _compare,
    "slice": _slice,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "shift": _shift,
}


def stage_model(graph: Graph, name: str, expose: Collection[str] = (), start: Collection[str] = ()) -> bytes:
    """A stage's step graph as a ``.tflite`` file.

    Inputs and outputs stand in the graph's order. Behind the outputs come the new values of the states in ``expose``,
    in the order of the states; behind the inputs the first values of the states in ``start`` and a bool that is true on
    the first step.
    Raises :class:`UnsupportedError` naming what has no operator, :class:`MissingExtraError` without a schema module.
    """
    return StageWriter(graph, name, expose, start).write()
