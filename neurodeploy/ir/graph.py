"""Programs: step graphs, and the drives that run them.

A :class:`Graph` is one step, ``(inputs[t], state[t]) -> (outputs[t], state[t+1])``: a DAG of values in which every loop
is cut by a named :class:`State`. A :class:`Stage` is a graph with a :class:`Drive` that says how the step is run; a
:class:`Program` is a list of stages, each fed from the program's inputs and from earlier stages.
Everything here is immutable; a pass makes new ones with :func:`dataclasses.replace`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.types import TensorType, Type

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
NUMERICS = ("float", "native", "tflite")
DRIVES = ("forward", "reverse", "order", "until", "generate")


@dataclass(frozen=True, eq=False)
class Param:
    """A constant tensor of the model: its type, and its data of just that shape and dtype."""

    type: TensorType
    data: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", np.asarray(self.data))  # NumPy makes scalars of arrays without axes
        self.data.flags.writeable = False

    @classmethod
    def of(cls, data: Any, quant: Any = None) -> Param:
        """A parameter from an array; float64 becomes f32, int64 that fits becomes i32."""
        array = np.array(data, order="C")
        kinds = {"f": "f32", "b": "bool"}
        names = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i32"}
        dtype = kinds.get(array.dtype.kind) or names[array.dtype.name]
        type_ = TensorType(array.shape, dtype, quant)
        return cls(type_, array.astype(type_.numpy))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Param) and self.type == other.type and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Value:
    """One op's result.

    ``name`` is unique in its graph and is its identity; ``args`` are names. A composite carries its ``body``: a graph
    without states or params whose inputs stand for ``args`` in order and whose outputs are its results in order.
    """

    name: str
    op: str
    args: tuple[str, ...]
    attrs: Mapping[str, Any]
    type: Type
    body: Graph | None = None

    @property
    def tensor(self) -> TensorType:
        """The type, which must be a tensor's (a composite with several results has none)."""
        if not isinstance(self.type, TensorType):
            raise IRError("has several results; take one with get.", place=f"%{self.name}")
        return self.type


@dataclass(frozen=True)
class State:
    """A register: holds its value from one step to the next.

    ``init`` names a param, or is None for zeros. ``next`` names what it becomes; all are computed, then committed.
    ``when`` names a ``bool[]``: where that is false the state holds.
    """

    name: str
    type: TensorType
    next: str
    init: str | None = None
    when: str | None = None


@dataclass(frozen=True)
class Graph:
    """One step. ``values`` stand in an order in which every argument comes before its use."""

    inputs: Mapping[str, TensorType] = field(default_factory=dict)
    params: Mapping[str, Param] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    values: tuple[Value, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)

    def types(self) -> dict[str, Type]:
        """Every name's type."""
        table: dict[str, Type] = dict(self.inputs)
        table.update((name, param.type) for name, param in self.params.items())
        table.update((state.name, state.type) for state in self.states)
        table.update((value.name, value.type) for value in self.values)
        return table

    def tensor(self, name: str) -> TensorType:
        """The tensor type of a name."""
        found = self.types()[name]
        if not isinstance(found, TensorType):
            raise IRError("has several results; take one with get.", place=f"%{name}")
        return found

    def output_types(self) -> dict[str, TensorType]:
        """Output name -> type."""
        return {out: self.tensor(name) for out, name in self.outputs.items()}

    def uses(self) -> dict[str, list[Value]]:
        """Name -> the values that take it as an argument."""
        table: dict[str, list[Value]] = {}
        for value in self.values:
            for arg in dict.fromkeys(value.args):
                table.setdefault(arg, []).append(value)
        return table


@dataclass(frozen=True)
class Ref:
    """Where data comes from: ``x`` (a program input), ``enc.y`` (a stage's output, step by step), ``enc.y@last`` (at
    the last time index), ``enc.h@final`` (a stage's state when it has ended)."""

    name: str
    stage: str | None = None
    at: str = "series"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Parse what ``str(ref)`` printed."""
        head, mark, at = text.strip().partition("@")
        stage, dot, name = head.partition(".")
        if not dot:
            stage, name = "", head
        if not NAME.match(name) or (mark and at not in ("last", "final")) or (mark and not stage):
            raise IRError(f"'{text}' is no reference; write x, stage.y, stage.y@last or stage.state@final.")
        return cls(name, stage or None, at or "series")

    def __str__(self) -> str:
        head = f"{self.stage}.{self.name}" if self.stage else self.name
        return head if self.at == "series" else f"{head}@{self.at}"


@dataclass(frozen=True)
class Drive:
    """How a stage's step is run.

    ``forward``/``reverse``: along the series inputs (one step if there are none). ``order``: along the indices that
    program input ``order`` lists; series inputs are read and outputs written at those indices. ``until``: on constant
    inputs, until output ``predicate`` is true, ``max_steps`` at most. ``generate``: ``feedback`` maps inputs to the
    outputs that feed them from the second step on; ends when output ``stop`` is true, or after ``max_steps``.
    """

    kind: str = "forward"
    order: str | None = None
    predicate: str | None = None
    max_steps: int | None = None
    feedback: Mapping[str, str] = field(default_factory=dict)
    stop: str | None = None


@dataclass(frozen=True)
class Stage:
    """A step graph, its drive, and where its inputs and initial states come from (by name of input and state)."""

    name: str
    graph: Graph
    drive: Drive = field(default_factory=Drive)
    inputs_from: Mapping[str, Ref] = field(default_factory=dict)
    state_from: Mapping[str, Ref] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgramInput:
    """A program's input: its type, and whether it comes once a time step (``series``) or once (``static``)."""

    type: TensorType
    kind: str = "series"


@dataclass(frozen=True)
class Program:
    """A whole network.

    ``outputs``: name -> ref. ``numerics``: ``float``, or for an integer program ``native`` or ``tflite``.
    ``meta``: JSON that travels with the network: ``labels``, ``normalisation`` {mean, std}, ``warnings`` ...
    """

    name: str
    inputs: Mapping[str, ProgramInput]
    stages: tuple[Stage, ...]
    outputs: Mapping[str, Ref]
    numerics: str = "float"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise IRError(f"there is no stage '{name}'.", place=self.name)

    def ref_type(self, ref: Ref) -> TensorType:
        """The per-step type of what a ref names."""
        if ref.stage is None:
            if ref.name not in self.inputs:
                raise IRError(f"there is no input '{ref.name}'.", place=self.name)
            return self.inputs[ref.name].type
        graph = self.stage(ref.stage).graph
        if ref.at == "final":
            for state in graph.states:
                if state.name == ref.name:
                    return state.type
            raise IRError(f"stage '{ref.stage}' has no state '{ref.name}'.", place=self.name)
        if ref.name not in graph.outputs:
            raise IRError(f"stage '{ref.stage}' has no output '{ref.name}'.", place=self.name)
        return graph.tensor(graph.outputs[ref.name])

    def is_series(self, ref: Ref) -> bool:
        """Whether a ref yields one value a step (rather than one in all)."""
        if ref.stage is None:
            return self.inputs[ref.name].kind == "series"
        return ref.at == "series"

    def output_types(self) -> dict[str, TensorType]:
        """Output name -> per-step type."""
        return {name: self.ref_type(ref) for name, ref in self.outputs.items()}

    def map_graphs(self, change: Any, **changes: Any) -> Program:
        """A copy with ``change(graph)`` in place of every stage's graph."""
        return replace(self, stages=tuple(replace(s, graph=change(s.graph)) for s in self.stages), **changes)


def walk(graph: Graph) -> Iterator[Value]:
    """Every value, those in bodies included, innermost first."""
    for value in graph.values:
        if value.body is not None:
            yield from walk(value.body)
        yield value


def prune(graph: Graph) -> Graph:
    """The graph without values and params that neither an output nor a state needs."""
    live = set(graph.outputs.values())
    for state in graph.states:
        live.update(name for name in (state.next, state.init, state.when) if name)
    kept: list[Value] = []
    for value in reversed(graph.values):
        if value.name in live:
            live.update(value.args)
            kept.append(value)
    params = {name: param for name, param in graph.params.items() if name in live}
    return replace(graph, values=tuple(reversed(kept)), params=params)


def guards(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Value name -> the conditions under which it is needed (empty: always).

    A value used only by states under one ``when``, only as the middle argument of ``select`` on that
    condition, or only by values that are themselves so guarded, forms a *guarded region*: it need not be computed where
    the condition is false. Conditions of nested regions add up (AND); equal ones merge.
    """
    every: dict[str, frozenset[str] | None] = {name: frozenset() for name in graph.outputs.values()}

    def need(name: str, conditions: frozenset[str]) -> None:
        old = every.get(name)
        every[name] = conditions if old is None else old & conditions

    for state in graph.states:
        need(state.next, frozenset([state.when]) if state.when else frozenset())
        if state.when:
            need(state.when, frozenset())
    for value in reversed(graph.values):
        own = every.get(value.name)
        if own is None:
            continue
        for position, arg in enumerate(value.args):
            extra = {value.args[0]} if value.op == "select" and position == 1 and _is_scalar_bool(graph, value) else ()
            need(arg, own | frozenset(extra))
    order = {value.name: i for i, value in enumerate(graph.values)}
    return {
        value.name: tuple(sorted(every.get(value.name) or (), key=lambda n: (order.get(n, -1), n)))
        for value in graph.values
    }


def _is_scalar_bool(graph: Graph, value: Value) -> bool:
    kind = graph.types()[value.args[0]]
    return isinstance(kind, TensorType) and kind.shape == () and kind.dtype == "bool"
