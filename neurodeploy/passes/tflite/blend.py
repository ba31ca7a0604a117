"""Blends in three operations: ``(1 - z) a + z b`` becomes ``a + z (b - a)`` where z is computed.

Where it is constant, as the leak of an echo state net, ``a + z (b - a)`` becomes ``(1 - z) a + z b``: TFLM's SUB takes
more than twice as long as MUL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.ir.graph import Graph, Param, Program, Value, prune
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.rewrite import Names, rebuild

#: The least constant weight of a mean that is written with two products.
LEAST = 1 / 16


@dataclass(frozen=True)
class BlendTFLite:
    """Write the gated mean of two values, as the GRU has it, with one product instead of two.

    An operator, a constant and two results less, and one rounding less; values stay what they were up to float
    rounding, and the sum keeps its name. A mean with constant weights has two products and no difference, unless a
    weight is so small that roundings would add up over many steps.
    """

    def __call__(self, program: Program) -> Program:
        return program.map_graphs(_blended).map_graphs(_leaking)


def _blended(graph: Graph) -> Graph:
    made = {value.name: value for value in graph.values}
    uses = _uses(graph)
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


def _uses(graph: Graph) -> Counter[str]:
    uses = Counter(arg for value in graph.values for arg in value.args)
    uses.update(graph.outputs.values())
    uses.update(name for state in graph.states for name in (state.next, state.when) if name)
    return uses


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


def _leaking(graph: Graph) -> Graph:
    made = {value.name: value for value in graph.values}
    uses = _uses(graph)
    names, values, params = Names(graph.types()), list[Value](), dict(graph.params)
    for value in graph.values:
        found = next(_leaks(graph, made, uses, value), None)
        if found is None:
            values.append(value)
            continue
        leak, parts = found, []
        for weight, name, stem in ((1 - leak[0], leak[1], "kept"), (leak[0], leak[2], "part")):
            data = np.broadcast_to(weight, value.tensor.shape).astype(np.float32)
            params[number := names.fresh(f"{value.name}.{stem}_share")] = Param(value.tensor, data.copy())
            parts.append(replace(value, name=names.fresh(f"{value.name}.{stem}"), op="mul", args=(name, number)))
        values += [*parts, replace(value, args=tuple(p.name for p in parts))]
    return prune(rebuild(graph, values, params, {}))


def _leaks(
    graph: Graph, made: Mapping[str, Value], uses: Counter[str], value: Value
) -> Iterator[tuple[np.ndarray, str, str]]:
    """``z, a, b`` of a value ``a + z (b - a)`` with a constant z."""
    if value.op != "add" or not isinstance(value.type, TensorType) or value.type.dtype != "f32":
        return
    for first, part in (value.args, value.args[::-1]):
        product = made.get(part)
        if product is None or product.op != "mul" or uses[part] != 1:
            continue
        for weight, away in (product.args, product.args[::-1]):
            difference = made.get(away)
            if difference is None or difference.op != "sub" or uses[away] != 1 or difference.args[1] != first:
                continue
            second = difference.args[0]
            same = all(_same(graph.types()[name], value) for name in (first, second))
            if weight in graph.params and same:
                leak = graph.params[weight].data
                if LEAST <= leak.min() and leak.max() <= 1 - LEAST:
                    yield leak, first, second


def _is_one(graph: Graph, made: Mapping[str, Value], name: str) -> bool:
    if name in graph.params:
        return bool(np.all(graph.params[name].data == 1))
    return made[name].op == "const" and made[name].attrs["value"] == 1 if name in made else False


def _same(type_: object, value: Value) -> bool:
    return isinstance(type_, TensorType) and type_.same_data(value.type)
