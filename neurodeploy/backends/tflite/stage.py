"""One stage's step graph as a ``.tflite`` model: subgraph 0 is one call at batch 1.

With states as variables the model is what TensorFlow's converter makes of them: CALL_ONCE, then VAR_HANDLE and
READ_VARIABLE of every state, the ops, ASSIGN_VARIABLE; subgraph 1 assigns the initial values. With states as inputs and
outputs the caller feeds them back. A call is one step, or a chunk of several (:mod:`.chunk`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.calculate import Calculator
from neurodeploy.backends.tflite.chunk import Chunk
from neurodeploy.backends.tflite.fused import variables
from neurodeploy.backends.tflite.loop import Loop
from neurodeploy.backends.tflite.write import Model, Subgraph
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, State, Value
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.types import TensorType

#: Dtypes that SPLIT takes.
SPLITS = ("f32", "i8", "i16", "i32")


@dataclass(frozen=True)
class Call:
    """What one call of a model does.

    ``state``: ``variables`` keeps states in the interpreter; ``io`` takes each behind the inputs and gives what becomes
    of it behind the outputs. ``steps`` a call; with several, inputs in ``series`` and all outputs are ``[steps, ...]``.
    ``start``: variables whose first value is fed, behind the inputs, then a bool that is true on the first call.
    ``expose``: states that are outputs of every step, behind all others. ``small``: the least bytes that TFLM runs,
    without names inside, signature and metadata, and with one zero point a tensor, which LiteRT doesn't take.
    """

    state: str = "variables"
    steps: int = 1
    series: frozenset[str] = frozenset()
    start: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    small: bool = False

    @classmethod
    def of(cls, layout: Mapping[str, Any]) -> Call:
        """The call of a stage in a manifest's layout."""
        sets = {key: tuple(layout[key]) for key in ("start", "expose")}
        return cls(layout["state"], layout["steps"], frozenset(layout["series"]), **sets, small=layout["small"])

    @property
    def shown(self) -> tuple[str, ...]:
        """States that are outputs of every step and not outputs of the call already."""
        return () if self.state == "io" and self.steps == 1 else self.expose


def first(graph: Graph, state: State) -> np.ndarray:
    """The first value of a state."""
    if state.init is None:
        return np.zeros(state.type.shape, state.type.numpy)
    return graph.params[state.init].data


def begins_reset(graph: Graph, state: State) -> bool:
    """Whether a variable's first value is what TFLM's reset leaves: the zero point in every byte
    (``MicroResourceVariables::Allocate`` and ``ResetAll``)."""
    zero = state.type.quant.zero_point if state.type.quant is not None else 0
    return first(graph, state).tobytes() == bytes([zero & 255]) * state.type.nbytes


class StageWriter:
    """Writes the calls of one graph into a :class:`Model`. Every per-sample shape gets a leading axis, of 1 or, for
    series of a chunk, of its steps."""

    def __init__(self, graph: Graph, name: str, call: Call) -> None:
        from neurodeploy.backends.tflite.floats import constants_as_params

        graph = constants_as_params(graph)
        self.graph, self.name, self.call = graph, name, call
        self.expose, self.start = call.expose, call.start
        self.types: Mapping[str, Any] = graph.types()
        self.model = Model(small=call.small)
        self.main = self.model.subgraph("main")
        self.index: dict[str, int] = {}
        self.lead = 1
        self.variables = variables(graph)
        self._partitions = partitions(graph, self.types)
        self.flat = self._flat() if call.small else {}
        self._shared: dict[str, int] = {}
        self._once: dict[str, tuple[int, int]] = {}

    def write(self, describe: Callable[[StageWriter], None] | None = None) -> bytes:
        """The file's bytes; ``describe`` adds what it says of itself.

        Raises :class:`UnsupportedError` naming op and value where there is no such operator.
        """
        main = self.main
        self._inputs()
        handles = self._read_states()
        self._start_states()
        if self.call.steps == 1:
            for value in self.graph.values:
                self.emit(value)
            names = [self.flat.get(name, name) for name in self.graph.outputs.values()]
            outputs = {name: self._result(name) for name in names}
            main.outputs = [outputs[name] for name in names]
            following = {state.name: self.following(state) for state in self._held()}
            shown = [following[name] for name in self.call.shown]
        else:
            chunk = Chunk(self)
            if chunk.body and not self.variables:
                chunk = Loop(self)
            main.outputs = chunk.write()
            following, shown = chunk.following, [chunk.trail[name] for name in self.call.shown]
        if self.call.state == "io":
            main.outputs += [following[state.name] for state in self.graph.states]
        main.outputs += shown
        for name in handles:
            main.op("ASSIGN_VARIABLE", [handles[name], following[name]], [])
        if describe is not None and not self.call.small:
            describe(self)
        return self.model.finish()

    @contextmanager
    def inside(self, subgraph: Subgraph) -> Iterator[None]:
        """What is written in this block goes into another subgraph, with tensors and constants of its own."""
        kept = self.main, self.index, self._shared
        self.main, self.index, self._shared = subgraph, {}, {}
        try:
            yield
        finally:
            self.main, self.index, self._shared = kept

    def emit(self, value: Value) -> None:
        """The operators of one value."""
        from neurodeploy.backends.tflite.rules import RULES

        rule = RULES.get(value.op)
        if rule is None:
            raise UnsupportedError(
                f"{value.op} has no operator in a tflite program.", place=f"{self.name}: %{value.name}"
            )
        if value.name in self.flat:
            return
        if value.name in self._partitions:
            self._split(value)
        else:
            rule(self, value)

    def _flat(self) -> dict[str, str]:
        """Reshapes that only outputs need, and what they reshape: a small file gives the same bytes as they are."""
        graph = self.graph
        used = {arg for value in graph.values for arg in value.args}
        used |= {name for state in graph.states for name in (state.next, state.when) if name}
        found = {v.name: v.args[0] for v in graph.values if v.op == "reshape" and v.name not in used}
        return {name: source for name, source in found.items() if source not in {**graph.inputs, **graph.params}}

    # -- inputs and states ---------------------------------------------------------------------------------------------

    def _inputs(self) -> None:
        for name, type_ in self.graph.inputs.items():
            lead = self.call.steps if name in self.call.series else 1
            self.index[name] = self.main.tensor(name, (lead, *type_.shape), type_.dtype, type_.quant)
            self.main.inputs.append(self.index[name])

    def _held(self) -> list[State]:
        """States that the graph's values make, or that are given back."""
        shown = {*self.call.expose, *(s.name for s in self.graph.states if self.call.state == "io")}
        return [state for state in self.graph.states if state.name not in self.variables or state.name in shown]

    def _read_states(self) -> dict[str, int]:
        """Every state's tensor; the handles of those that are variables."""
        states = [state for state in self.graph.states if state.name not in self.variables]
        if self.call.state == "io":
            for state in self.graph.states:
                if state.name in self.variables:
                    raise UnsupportedError(
                        f"the fused LSTM keeps the state %{state.name} itself; needed one that can be fed.",
                        place=self.name,
                        hint="Compile with states as variables, or without the fused LSTM.",
                    )
                self.index[state.name] = self._tensor(state.name, state.type)
                self.main.inputs.append(self.index[state.name])
            return {}
        if any(not self.call.small or not begins_reset(self.graph, state) for state in states):
            self._assign_first(states)
        handles = {}
        for state in states:
            handles[state.name] = self._handle(self.main, state.name)
            self.index[state.name] = self._tensor(state.name, state.type)
            self.main.op("READ_VARIABLE", [handles[state.name]], [self.index[state.name]])
        return handles

    def _assign_first(self, states: Collection[State]) -> None:
        """A subgraph that assigns the first values, called once."""
        init = self.model.subgraph("init")
        self.main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
        for state in states:
            data, type_ = first(self.graph, state), state.type
            value = init.tensor(f"{state.name}_init", (1, *type_.shape), type_.dtype, type_.quant, data)
            init.op("ASSIGN_VARIABLE", [self._handle(init, state.name), value], [])

    def _start_states(self) -> None:
        """Inputs for the first values of states in ``start``, then a bool that is true on the first step."""
        main = self.main
        if not self.start or self.call.state == "io":
            return
        begun = [self._tensor(f"start.{name}", self.types[name]) for name in self.start]
        first_call = main.tensor("first", (1,), "bool")
        main.inputs += [*begun, first_call]
        for name, given in zip(self.start, begun, strict=True):
            chosen = self._tensor(f"{name}_now", self.types[name])
            Calculator(main, name).choose(first_call, given, self.index[name], out=chosen)
            self.index[name] = chosen

    def _handle(self, subgraph: Subgraph, state: str) -> int:
        handle = subgraph.tensor(f"{state}_handle", (1,), "resource")
        subgraph.op("VAR_HANDLE", [], [handle], "VarHandleOptions", container="", sharedName=state)
        return handle

    def variable(self, name: str, shape: tuple[int, ...] | None = None) -> int:
        """The tensor of a state that an operator keeps itself, from call to call; ``shape`` if it has another there."""
        key = f"{name}@variable"
        if key not in self._shared:
            type_ = self.types[name]
            self._shared[key] = self._tensor(name, type_ if shape is None else type_.with_(shape=shape))
            self.main.tensors[self._shared[key]].isVariable = True
        return self._shared[key]

    def _result(self, name: str) -> int:
        """The tensor of an output; what no operator made is copied first."""
        given = {*self.graph.inputs, *self.graph.params}
        given |= {state.name for state in self.graph.states if self.call.state == "io"}
        if name not in given:
            return self.at(name)
        type_ = self.types[name]
        copy = self.main.tensor(f"{name}_out", (1, *type_.shape), type_.dtype, type_.quant)
        self.reshape(self.at(name), copy)
        return copy

    def following(self, state: State) -> int:
        """The tensor of what a state becomes: its next, or where ``when`` is false itself."""
        if state.when is None:
            given = state.name in self.call.expose or self.call.state == "io"
            return self._result(state.next) if given else self.at(state.next)
        held = self._tensor(f"{state.name}_next", state.type)
        inputs = [self.at(state.when), self.at(state.next), self.at(state.name)]
        Calculator(self.main, state.name).choose(*inputs, out=held)
        return held

    # -- tensors -------------------------------------------------------------------------------------------------------

    def _tensor(self, name: str, type_: TensorType) -> int:
        return self.main.tensor(name, (1, *type_.shape), type_.dtype, type_.quant)

    def at(self, name: str, rank: int | None = None) -> int:
        """The tensor of a value, or of a param as an elementwise operand of that rank (per sample)."""
        if name not in self.graph.params:
            return self.index[name]
        param = self.graph.params[name]
        shape = (1,) * (1 + (rank or len(param.type.shape)) - len(param.type.shape)) + param.type.shape
        return self._constant(f"{name}@{len(shape)}", name, shape, param.type.dtype)

    def weights(self, name: str, dtype: str | None = None) -> int:
        """The tensor of a param in its own shape, on request as another dtype: ``i4`` for i8 that is packed."""
        param = self.graph.params[name]
        dtype = dtype or param.type.dtype
        return self._constant(f"{name}@{dtype}", name, param.type.shape, dtype)

    def _constant(self, key: str, name: str, shape: tuple[int, ...], dtype: str) -> int:
        if key not in self._shared:
            param = self.graph.params[name]
            self._shared[key] = self.main.tensor(name, shape, dtype, param.type.quant, param.data)
        return self._shared[key]

    def out(self, value: Value) -> int:
        """A new tensor for a value."""
        type_ = value.tensor
        self.index[value.name] = self.main.tensor(value.name, (self.lead, *type_.shape), type_.dtype, type_.quant)
        return self.index[value.name]

    def reshape(self, source: int, result: int) -> None:
        """A RESHAPE of one tensor into another."""
        shape = self.main.tensors[result].shape
        self.main.op("RESHAPE", [source], [result], "ReshapeOptions", newShape=shape)

    def once(self, key: str, make: Callable[[], tuple[int, int]]) -> tuple[int, int]:
        """What is made at its first use and shared by later ones."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def split(self, source: int, axis: int, results: Collection[int]) -> None:
        """A SPLIT of one tensor into equal parts along one of its axes."""
        key = f"{axis}@axis"
        if key not in self._shared:
            self._shared[key] = self.main.tensor("axis", (), "i32", data=np.array(axis, np.int32))
        self.main.op("SPLIT", [self._shared[key], source], results, "SplitOptions", numSplits=len(results))

    def _split(self, value: Value) -> None:
        """All parts of a value at once, where its first one stands."""
        parts, axis, earliest = self._partitions[value.name]
        if earliest == value.name:
            self.same_scale(value)
            self.split(self.at(value.args[0]), 1 + axis, [self.out(part) for part in parts])

    def same_scale(self, value: Value) -> None:
        """Refuse a move between scales: these operators don't rescale. Integers without a scale go with any."""
        self._same_scale(value, [self.types[a] for a in value.args if isinstance(self.types[a], TensorType)])

    def same_table(self, value: Value) -> None:
        """The same for what an index reads or writes."""
        self._same_scale(value, [self.types[a] for i, a in enumerate(value.args) if i != 1])

    def _same_scale(self, value: Value, tensors: list[TensorType]) -> None:
        scaled = [t.quant for t in (*tensors, value.tensor) if t.dtype != "bool" and t.quant is not None]
        if any(quant != scaled[0] for quant in scaled):
            raise UnsupportedError(
                f"{value.op} joins {', '.join(map(str, tensors))} into {value.tensor}; needed one scale.",
                place=f"{self.name}: %{value.name}",
            )


#: Slices in the order of what they hold, their axis, and the name of the one that comes first in the graph.
Partition = tuple[list[Value], int, str]


def partitions(graph: Graph, types: Mapping[str, Any]) -> dict[str, Partition]:
    """Slices that together are all of a value in equal parts, each by its name."""
    groups: dict[tuple[str, int], list[tuple[int, int, Value]]] = {}
    for value in graph.values:
        if value.op == "slice" and value.tensor.dtype in SPLITS and value.args[0] not in graph.params:
            axis, start, stop, step = slice_bounds(value.attrs, types[value.args[0]].shape)
            if step == 1:
                groups.setdefault((value.args[0], axis), []).append((start, stop, value))
    found: dict[str, Partition] = {}
    for (source, axis), slices in groups.items():
        earliest = slices[0][2].name
        slices.sort(key=lambda s: s[0])
        bounds = [0, *(stop for _, stop, _ in slices)]
        whole = [start for start, _, _ in slices] == bounds[:-1] and bounds[-1] == types[source].shape[axis]
        if whole and len(slices) > 1 and len({stop - start for start, stop, _ in slices}) == 1:
            parts = [value for _, _, value in slices]
            found.update({value.name: (parts, axis, earliest) for value in parts})
    return found


#: Writes the operators of one value.
Rule = Callable[[StageWriter, Value], None]


def stage_model(
    graph: Graph,
    name: str,
    expose: Collection[str] = (),
    start: Collection[str] = (),
    *,
    call: Call | None = None,
    describe: Callable[[StageWriter], None] | None = None,
) -> bytes:
    """A stage's step graph as a ``.tflite`` file.

    Inputs and outputs stand in the graph's order, then as ``call`` says (``Call(expose=..., start=...)`` by default).
    Raises :class:`UnsupportedError` naming what has no operator, :class:`MissingExtraError` without a schema module.
    """
    if call is None:
        shown = tuple(state.name for state in graph.states if state.name in expose)
        call = Call(start=tuple(start), expose=shown)
    return StageWriter(graph, name, call).write(describe)
