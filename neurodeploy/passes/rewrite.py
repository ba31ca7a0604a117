"""What passes share to rewrite a graph: renaming uses, unused names, evaluating a value on constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from neurodeploy.ir.graph import Graph, Param, State, Value
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.ir.types import TensorType


class Names:
    """Names that a graph has not used yet."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """The stem itself if it is free, else with a number."""
        name = stem
        while name in self._taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name


def resolve(renamed: Mapping[str, str], name: str) -> str:
    """Where a chain of renamings ends."""
    while name in renamed:
        name = renamed[name]
    return name


def rename_states(states: Iterable[State], renamed: Mapping[str, str]) -> tuple[State, ...]:
    """The states with what they refer to renamed."""
    return tuple(
        replace(
            s,
            next=resolve(renamed, s.next),
            init=resolve(renamed, s.init) if s.init else None,
            when=resolve(renamed, s.when) if s.when else None,
        )
        for s in states
    )


def rebuild(graph: Graph, values: Iterable[Value], params: Mapping[str, Param], renamed: Mapping[str, str]) -> Graph:
    """The graph with other values and params, and every use by states and outputs renamed."""
    return replace(
        graph,
        values=tuple(values),
        params=dict(params),
        states=rename_states(graph.states, renamed),
        outputs={out: resolve(renamed, name) for out, name in graph.outputs.items()},
    )


def evaluate(value: Value, args: list[Param]) -> Param:
    """A value whose arguments are all constant, computed by the golden model.

    Raises whatever the interpreter raises (a value that can't be computed is no constant).
    """
    names = [f"a{i}" for i in range(len(args))]
    graph = Graph(
        params=dict(zip(names, args, strict=True)),
        values=(replace(value, name="result", args=tuple(names)),),
        outputs={"result": "result"},
    )
    interpreter = StepInterpreter(graph)
    interpreter.reset(1, {})
    data = interpreter.step({}, np.ones(1, bool))["result"][0]
    type_ = value.type
    if not isinstance(type_, TensorType):
        raise TypeError("a tuple is no param")
    return Param(type_, np.array(data, dtype=type_.numpy, order="C"))
