"""Blends in three operations: ``(1 - z) a + z b`` becomes ``a + z (b - a)``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.ir.graph import Graph, Program, Value, prune
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.rewrite import Names, rebuild


@dataclass(frozen=True)
class BlendTFLite:
    """Write the gated mean of two values, as the GRU has it, with one product instead of two.

    An operator, a constant and two results less, and one rounding less; values stay what they were up to float
    rounding, and the sum keeps its name.
    """

    def __call__(self, program: Program) -> Program:
        return program.map_graphs(_blended)


def _blended(graph: Graph) -> Graph:
    made = {value.name: value for value in graph.values}
    uses = Counter(arg for value in graph.values for arg in value.args)
    uses.update(graph.outputs.values())
    uses.update(name for state in graph.states for name in (state.next, state.when) if name)
    names, values = Names(graph.types()), list[Value]()
    for value in graph.values:
        found = next(_blends(graph, made, uses, value), None)
        if found is None:
            values.append(value)
            continue
        gate, first, second = found
        difference, product = names.fresh(f"{value.name}.away"), names.fresh(f"{value.name}.part")
        values.append(replace(value, name=difference, op="sub", args=(second, first)))
        values.append(replace(value, name=product, op="mul", args=(gate, difference)))
        values.append(replace(value, args=(first, product)))
    return prune(rebuild(graph, values, graph.params, {}))


def _blends(graph: Graph, made: dict[str, Value], uses: Counter[str], value: Value) -> Iterator[tuple[str, str, str]]:
    """``z, a, b`` of a value ``(1 - z) a + z b`` whose parts nothing else uses."""
    if value.op != "add" or any(a not in made or made[a].op != "mul" or uses[a] != 1 for a in value.args):
        return
    for one, other in (value.args, value.args[::-1]):
        for rest, first in (made[one].args, made[one].args[::-1]):
            for gate, second in (made[other].args, made[other].args[::-1]):
                whole = made.get(rest)
                if whole is None or whole.op != "sub" or uses[rest] != 1 or whole.args[1] != gate:
                    continue
                shapes = [graph.types()[name] for name in (first, second)]
                if _is_one(graph, made, whole.args[0]) and all(_same(s, value) for s in shapes):
                    yield gate, first, second


def _is_one(graph: Graph, made: Mapping[str, Value], name: str) -> bool:
    if name in graph.params:
        return bool(np.all(graph.params[name].data == 1))
    return made[name].op == "const" and made[name].attrs["value"] == 1 if name in made else False


def _same(type_: object, value: Value) -> bool:
    return isinstance(type_, TensorType) and type_.same_data(value.type)
