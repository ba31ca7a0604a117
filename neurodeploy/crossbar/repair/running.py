"""What a repaired chip runs, for its costs: products that have left their arrays, terms that are added to results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.crossbar.repair import Repair
from neurodeploy.crossbar.repair.readouts import Readout, whole
from neurodeploy.ir.graph import Graph, Param, Program, Value
from neurodeploy.ir.types import TensorType


def running(program: Program, matrices: Sequence[Matrix], repair: Repair) -> tuple[Program, tuple[Matrix, ...]]:
    """The tiled program and its matrices as repaired chips run them. It is there to be counted, not to be run.

    A readout that is digital as a whole is a ``matmul``, and its matrix is gone; of one that is so in part, a
    ``matmul`` of those rows stands beside the matrix. Repaired columns are an addition to each result.
    """
    of = {(m.stage, m.value): m for m in matrices}
    there: dict[tuple[str, str], list[Readout]] = {}
    for readout in repair.readouts:
        there.setdefault((readout.stage, readout.value), []).append(readout)
    gone = {key for key, readouts in there.items() if whole(readouts, of[key].outputs)}
    stages = []
    for stage in program.stages:
        params, values = dict(stage.graph.params), []
        for value in stage.graph.values:
            key = stage.name, value.name
            if key in gone:
                args = value.args if value.attrs["side"] == "left" else tuple(reversed(value.args))
                values.append(Value(value.name, "matmul", args, {}, value.type))
                continue
            values.append(value)
            for readout in there.get(key, ()):
                values.append(_product(params, value, readout))
            if key in repair.vectors:
                values.append(_term(params, value))
        graph: Graph = replace(stage.graph, params=params, values=tuple(values))
        stages.append(replace(stage, graph=graph))
    kept = tuple(m for m in matrices if (m.stage, m.value) not in gone)
    return replace(program, stages=tuple(stages)), kept


def _product(params: dict[str, Param], value: Value, readout: Readout) -> Value:
    """Digital rows of a product."""
    name = f"{value.name}.digital_{readout.start}"
    _zeros(params, f"{name}.weight", (readout.outputs, readout.inputs), value)
    return Value(name, "matmul", (f"{name}.weight", value.args[1]), {}, value.tensor.with_(shape=(readout.outputs,)))


def _term(params: dict[str, Param], value: Value) -> Value:
    """The term of each output."""
    name = f"{value.name}.shifted"
    _zeros(params, f"{name}.term", value.tensor.shape, value)
    return Value(name, "add", (value.name, f"{name}.term"), {}, value.type)


def _zeros(params: dict[str, Param], name: str, shape: tuple[int, ...], value: Value) -> None:
    type_ = TensorType(shape, value.tensor.dtype)
    params[name] = Param(type_, np.zeros(shape, type_.numpy))
