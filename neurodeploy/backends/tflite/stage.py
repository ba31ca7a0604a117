"""One stage's step graph as a stateful ``.tflite`` model.

The model is what TensorFlow's converter makes of variables: subgraph 0 is one step at batch 1 (CALL_ONCE, then
VAR_HANDLE and READ_VARIABLE of every state, the ops, ASSIGN_VARIABLE), subgraph 1 assigns the initial values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.write import Model, Subgraph
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, State, Value
from neurodeploy.ir.types import TensorType


class StageWriter:
    """Writes the step of one graph into a :class:`Model`. Every per-sample shape gets a leading batch axis of 1."""

    def __init__(self, graph: Graph, name: str, expose: Collection[str] = (), start: Collection[str] = ()) -> None:
        from neurodeploy.backends.tflite.floats import constants_as_params

        graph = constants_as_params(graph)
        self.graph, self.name, self.start = graph, name, tuple(start)
        self.expose = [state.name for state in graph.states if state.name in expose]
        self.types: Mapping[str, Any] = graph.types()
        self.model = Model()
        self.main = self.model.subgraph("main")
        self.index: dict[str, int] = {}

    def write(self) -> bytes:
        """The file's bytes. Raises :class:`UnsupportedError` naming op and value where there is no such operator."""
        from neurodeploy.backends.tflite.rules import RULES

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

    def weights(self, name: str, dtype: str | None = None) -> int:
        """The tensor of a param in its own shape, on request as another dtype: ``i4`` for i8 that is packed."""
        param, dtype = self.graph.params[name], dtype or self.graph.params[name].type.dtype
        key = name if dtype == param.type.dtype else f"{name}_{dtype}"
        if key not in self.index:
            self.index[key] = self.main.tensor(name, param.type.shape, dtype, param.type.quant, param.data)
        return self.index[key]

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


#: Writes the operators of one value.
Rule = Callable[[StageWriter, Value], None]


def stage_model(graph: Graph, name: str, expose: Collection[str] = (), start: Collection[str] = ()) -> bytes:
    """A stage's step graph as a ``.tflite`` file.

    Inputs and outputs stand in the graph's order. Behind the outputs come the new values of the states in ``expose``,
    in the order of the states; behind the inputs the first values of the states in ``start`` and a bool that is true on
    the first step.
    Raises :class:`UnsupportedError` naming what has no operator, :class:`MissingExtraError` without a schema module.
    """
    return StageWriter(graph, name, expose, start).write()
