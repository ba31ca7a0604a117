"""A call of several steps as a loop: the step's operators stand in the file once, in the body of a WHILE.

TFLM keeps its structures for every operator of a file, and its plan for every tensor: with the step written out
(:mod:`.chunk`), a call of 5 steps takes three times the memory of one step. Here the number of steps costs what the
series take. TFLM's WHILE copies what it carries from step to step: the series, the states and the outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.backends.tflite.calculate import Calculator
from neurodeploy.backends.tflite.write import Subgraph

if TYPE_CHECKING:
    from neurodeploy.backends.tflite.stage import StageWriter


class Loop:
    """Writes the steps of one call of a :class:`~neurodeploy.backends.tflite.stage.StageWriter`.

    Carried are the number of the step, the graph's inputs, its states, and a row of each step's outputs and exposed
    states, the newest last. After :meth:`write`: ``following`` and ``trail`` as of :class:`~.chunk.Chunk`.
    """

    def __init__(self, writer: StageWriter) -> None:
        self.writer, self.graph, self.call = writer, writer.graph, writer.call
        self.following: dict[str, int] = {}
        self.trail: dict[str, int] = {}

    def write(self) -> list[int]:
        """Write the operators; the tensors of the outputs."""
        writer, graph, main = self.writer, self.graph, self.writer.main
        names = [*graph.inputs, *(state.name for state in graph.states)]
        given = [writer.index[name] for name in names]
        results = [writer.flat.get(name, name) for name in graph.outputs.values()]
        calc = Calculator(main, "steps")
        empty = [self._empty(name) for name in (*results, *self.call.shown)]
        carried = [calc.const(0), *given, *empty]
        condition, body = writer.model.subgraph("more"), writer.model.subgraph("step")
        for part in (condition, body):
            part.inputs = [_like(main, tensor, part) for tensor in carried]
        more = Calculator(condition, "more")
        condition.outputs = [more("LESS", condition.inputs[0], more.const(self.call.steps), dtype="bool")]
        self._body(body, names, results)
        made = [_like(main, tensor, main) for tensor in carried]
        where = [writer.model.subgraphs.index(part) for part in (condition, body)]
        main.op("WHILE", carried, made, "WhileOptions", condSubgraphIndex=where[0], bodySubgraphIndex=where[1])
        after = dict(zip(names, made[1:], strict=False))
        self.following = {state.name: after[state.name] for state in graph.states}
        found = made[1 + len(names) :]
        self.trail = dict(zip(self.call.shown, found[len(results) :], strict=True))
        return found[: len(results)]

    def _empty(self, name: str) -> int:
        """The rows of a value before the first step, as many as steps: what stands there is pushed out."""
        type_ = self.writer.types[name]
        data = np.zeros((self.call.steps, *type_.shape), type_.numpy)
        return self.writer.main.tensor("rows", data.shape, type_.dtype, type_.quant, data)

    def _body(self, body: Subgraph, names: list[str], results: list[str]) -> None:
        """One step on what is carried."""
        writer, graph, call = self.writer, self.graph, self.call
        number, *given = body.inputs
        held, rows = given[: len(names)], given[len(names) :]
        calc = Calculator(body, "step")
        with writer.inside(body):
            writer.index = dict(zip(names, held, strict=True))
            for name in graph.inputs:
                if name in call.series:
                    writer.index[name] = self._row(calc, number, name)
            for value in graph.values:
                writer.emit(value)
            following = {state.name: writer.following(state) for state in graph.states}
            new = [writer.at(name) for name in results] + [following[name] for name in call.shown]
        series = [self._pushed(calc, row, last) for row, last in zip(rows, new, strict=True)]
        after = [following.get(name, tensor) for name, tensor in zip(names, held, strict=True)]
        body.outputs = [calc("ADD", number, calc.const(1)), *after, *series]

    def _row(self, calc: Calculator, number: int, name: str) -> int:
        """The step's row of a series."""
        whole, type_ = self.writer.index[name], self.writer.types[name]
        shape = (1, *type_.shape)
        row = calc.subgraph.tensor(name, shape, type_.dtype, type_.quant)
        begin = calc("MUL", number, calc.const([1] + [0] * len(type_.shape)))
        return calc("SLICE", whole, begin, calc.const(list(shape)), out=row)

    def _pushed(self, calc: Calculator, rows: int, last: int) -> int:
        """The rows without the first, and a new last one."""
        graph, steps = calc.subgraph, calc.shape(rows)[0]
        kept, result = _like(graph, rows, graph, steps - 1), _like(graph, rows, graph)
        begin = calc.const([1] + [0] * (len(calc.shape(rows)) - 1))
        calc("SLICE", rows, begin, calc.const(list(calc.shape(kept))), out=kept)
        return calc("CONCATENATION", kept, last, out=result, axis=0)


def _like(source: Subgraph, tensor: int, result: Subgraph, rows: int | None = None) -> int:
    """A new tensor of the same kind, on request with another number of rows."""
    made = source.tensors[tensor]
    shape = tuple(made.shape) if rows is None else (rows, *made.shape[1:])
    return result.tensor(made.name, shape, made.kind, made.quant)
