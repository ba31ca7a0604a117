"""Counting a program's work and memory, exactly, from its shapes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from neurodeploy.ir.graph import Graph, Param, Program, Value, guards, walk
from neurodeploy.ir.ops_math import einsum_terms
from neurodeploy.ir.types import TensorType, Type


@dataclass(frozen=True)
class StageCost:
    """One step of a stage.

    ``macs``: multiply-accumulates of its products if every guard holds; ``macs_always``: those that run whatever the
    guards say. ``parameters``: elements; ``parameter_bytes`` and ``state_bytes`` as the types stand.
    """

    macs: int
    macs_always: int
    parameters: int
    parameter_bytes: int
    states: int
    state_bytes: int


def macs_of(graph: Graph) -> dict[str, int]:
    """Multiply-accumulates of every value that is a product, bodies included."""
    return {value.name: found for value in graph.values if (found := _macs(value, graph.types()))}


def _macs(value: Value, types: dict[str, Type]) -> int:
    if value.body is not None:
        return sum(macs_of(value.body).values())
    shapes = [t.shape for a in value.args if isinstance(t := types[a], TensorType)]
    if value.op == "matmul":
        return value.tensor.size * shapes[0][-1]
    if value.op.startswith("tfl_fully_connected"):
        return value.tensor.size * shapes[1][-1]
    if value.op == "tfl_conv_2d":
        return value.tensor.size * math.prod(shapes[1][1:])
    if value.op == "tfl_depthwise_conv_2d":
        return value.tensor.size * math.prod(shapes[1][1:3])
    if value.op == "tfl_batch_matmul":
        return value.tensor.size * shapes[0][-1]
    if value.op == "einsum":
        _, terms, _ = einsum_terms(value.attrs, len(shapes))
        sizes = {
            letter: n for term, shape in zip(terms, shapes, strict=True) for letter, n in zip(term, shape, strict=True)
        }
        return math.prod(sizes.values())
    return 0


def stage_cost(graph: Graph) -> StageCost:
    """Count one step of a graph."""
    macs, guarded = macs_of(graph), guards(graph)
    params = [param.type for param in graph.params.values()]
    return StageCost(
        macs=sum(macs.values()),
        macs_always=sum(n for name, n in macs.items() if not guarded.get(name)),
        parameters=sum(t.size for t in params),
        parameter_bytes=sum(t.nbytes for t in params),
        states=sum(s.type.size for s in graph.states),
        state_bytes=sum(s.type.nbytes for s in graph.states),
    )


def macs_per_step(program: Program) -> int:
    """Multiply-accumulates of one step of every stage together, every guard open."""
    return sum(stage_cost(stage.graph).macs for stage in program.stages)


def layers(graph: Graph) -> list[tuple[str, str, int]]:
    """``(name, op, macs)`` of the composites and products that do the work, in order; bodies are not entered."""
    macs = macs_of(graph)
    return [(v.name, v.op, macs.get(v.name, 0)) for v in graph.values if v.body is not None or v.name in macs]


def ops_of(program: Program) -> frozenset[str]:
    """Every primitive and composite that a program uses, bodies included."""
    return frozenset(value.op for stage in program.stages for value in walk(stage.graph))


def widths(program: Program) -> str:
    """The types of a program's weights, states and values in words: ``i8 weights, i16 states, i16 values``.

    Of several the most frequent comes first. Counters and conditions aren't counted.
    """
    graphs = [stage.graph for stage in program.stages]
    kinds = {
        "weights": [_dtype(p) for g in graphs for p in g.params.values() if len(p.type.shape) >= 2],
        "states": [s.type.dtype for g in graphs for s in g.states],
        "values": [v.type.dtype for g in graphs for v in g.values if isinstance(v.type, TensorType)],
    }
    told = []
    for what, dtypes in kinds.items():
        found = Counter(d for d in dtypes if d not in ("bool", "i32", "i64"))
        if found:
            told.append(f"{' and '.join(sorted(found, key=lambda d: (-found[d], d)))} {what}")
    return ", ".join(told)


def _dtype(param: Param) -> str:
    """The dtype of weights; i4 where they fit four bits."""
    few = param.type.dtype == "i8" and param.data.size and np.abs(param.data.astype(int)).max() <= 7
    return "i4" if few else param.type.dtype
