"""``solve`` for TFLite Micro: Gauss-Jordan elimination with partial pivoting, written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Program, Value
from neurodeploy.ir.ops import infer
from neurodeploy.ir.types import Type
from neurodeploy.passes.rewrite import Names, rebuild

#: Unknowns at most: each takes about 16 operators.
MOST = 8


@dataclass(frozen=True)
class SolveTFLite:
    """Write every ``solve`` in other primitives, for at most 8 unknowns.

    For each unknown the row with the greatest coefficient among those not taken yet becomes the pivot (ARG_MAX, and a
    product with its one-hot vector); it is divided by that coefficient and subtracted from all other rows. Rows stay in
    their places. A singular matrix gives NaN or infinities. ``meta["solved"]`` names what is written out, so that the
    quantizer can warn of it. Raises :class:`UnsupportedError` for more unknowns.
    """

    def __call__(self, program: Program) -> Program:
        solved = [f"{s.name}.{v.name}" for s in program.stages for v in s.graph.values if v.op == "solve"]
        if not solved:
            return program
        return program.map_graphs(_written, meta={**program.meta, "solved": solved})


def _written(graph: Graph) -> Graph:
    emit = _Emitter(graph)
    for value in graph.values:
        if value.op == "solve":
            _eliminate(emit, value)
        else:
            emit.values.append(value)
    return rebuild(graph, emit.values, graph.params, {})


class _Emitter:
    """Appends primitives to a graph; a method's last arguments are the primitive's attributes."""

    def __init__(self, graph: Graph) -> None:
        self.types: dict[str, Type] = graph.types()
        self.names = Names(self.types)
        self.values: list[Value] = []

    def __call__(self, op: str, *args: str, stem: str, name: str | None = None, **attrs: Any) -> str:
        name = name or self.names.fresh(f"{stem}.{op}")
        self.types[name] = infer(op, [self.types[a] for a in args], attrs)
        self.values.append(Value(name, op, args, attrs, self.types[name]))
        return name


def _eliminate(emit: _Emitter, value: Value) -> None:
    (matrix, right), stem = value.args, value.name
    n = value.tensor.size
    if n > MOST:
        raise UnsupportedError(
            f"solve has {n} unknowns; for TFLite Micro {MOST} at most are written out.",
            place=f"%{value.name}",
            hint="Choose a C target.",
        )

    def shaped(source: str, *shape: int) -> str:
        return emit("reshape", source, stem=stem, shape=list(shape))

    def const(data: Any, dtype: str = "f32") -> str:
        return emit("const", stem=stem, value=np.asarray(data).tolist(), dtype=dtype)

    rows = emit("concat", matrix, shaped(right, n, 1), stem=stem, axis=1)
    places, taken, chosen = const(np.arange(n), "i32"), const(np.zeros(n, bool), "bool"), []
    for k in range(n):
        column = shaped(emit("slice", rows, stem=stem, axis=1, start=k, stop=k + 1), n)
        sizes = emit("select", taken, const(-1.0), emit("abs", column, stem=stem), stem=stem)
        here = emit("eq", places, emit("argmax", sizes, stem=stem, axis=0), stem=stem)
        chosen.append(hot := emit("cast", here, stem=stem, to="f32"))
        taken = emit("max", taken, here, stem=stem)
        pivot = emit("matmul", hot, rows, stem=stem)
        greatest = emit("slice", pivot, stem=stem, axis=0, start=k, stop=k + 1)
        pivot = shaped(emit("div", pivot, greatest, stem=stem), 1, n + 1)
        less = emit("sub", rows, emit("mul", shaped(column, n, 1), pivot, stem=stem), stem=stem)
        rows = emit("select", shaped(here, n, 1), pivot, less, stem=stem)
    order = emit("concat", *(shaped(hot, 1, n) for hot in chosen), stem=stem, axis=0)
    results = shaped(emit("slice", rows, stem=stem, axis=1, start=n, stop=n + 1), n)
    emit("matmul", order, results, stem=stem, name=value.name)
