"""A call of several steps written out: for stages without states, and for operators that keep their state themselves.

All others are a loop (:mod:`.loop`). Here the step's operators stand once for each step, and once for all what no state
stands in the way of.

What depends on series inputs alone is computed for all steps at once before the first, and what no state depends on
after the last: one operator on ``[steps, ...]``. Both are exact, since these operators go row by row. A fused LSTM on
such values is one operator too: it runs the steps itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurodeploy.backends.tflite.fused import whole_series
from neurodeploy.ir.graph import Value

if TYPE_CHECKING:
    from neurodeploy.backends.tflite.stage import StageWriter

#: Ops whose operators treat the leading axis as rows of their own.
ROWS = frozenset(
    {"tfl_fully_connected", "tfl_add", "tfl_sub", "tfl_mul", "tfl_relu", "tfl_relu6", "tfl_quantize", "tfl_logistic",
     "tfl_tanh", "cast"}
)  # fmt: skip
#: What CONCATENATION takes at once.
MAX_CONCAT = 10
#: Dtypes that SPLIT doesn't take are cut out by STRIDED_SLICE.
SPLITS = ("FLOAT32", "INT8", "INT16", "INT32")


class Chunk:
    """Writes the steps of one call of a :class:`~neurodeploy.backends.tflite.stage.StageWriter`.

    ``body``: what is written for every step. After :meth:`write`: ``following``, the tensor of every state after the
    last step, and ``trail``, each exposed state after every step.
    """

    def __init__(self, writer: StageWriter) -> None:
        self.writer, self.graph, self.call = writer, writer.graph, writer.call
        self.following: dict[str, int] = {}
        self.trail: dict[str, int] = {}
        self._early = self._before()
        self._late = self._after()
        outside = {value.name for value in (*self._early, *self._late)}
        self.body = [value for value in self.graph.values if value.name not in outside]
        self._pieces: dict[str, list[int]] = {}
        self._parts: dict[str, list[int]] = {}
        self._whole: dict[str, int] = {}

    def write(self) -> list[int]:
        """Write the operators; the tensors of the outputs."""
        writer, steps = self.writer, self.call.steps
        writer.lead = steps
        for value in self._early:
            writer.emit(value)
        writer.lead = 1
        ready = [*self.call.series, *(value.name for value in self._early)]
        self._whole = {name: writer.index[name] for name in ready if name in writer.index}
        body = self.body
        needed = [arg for value in body for arg in value.args]
        needed += [name for state in writer._held() for name in (state.next, state.when) if name]
        for name in dict.fromkeys(needed):
            if name in self._whole:
                self._parts[name] = self._cut(name)
        made = [value.name for value in body] + [state.name for state in self.graph.states]
        trail: dict[str, list[int]] = {name: [] for name in self.call.shown}
        for step in range(steps):
            writer.index.update({name: parts[step] for name, parts in self._parts.items()})
            for value in body:
                writer.emit(value)
            for name in made:
                if name in writer.index:
                    self._pieces.setdefault(name, []).append(writer.index[name])
            self.following = {state.name: writer.following(state) for state in writer._held()}
            for name in trail:
                trail[name].append(self.following[name])
            writer.index.update(self.following)
        self.trail = {name: self._join(name, tensors) for name, tensors in trail.items()}
        writer.lead = steps
        for value in self._late:
            writer.index.update({arg: self._gathered(arg) for arg in value.args if arg not in self.graph.params})
            writer.emit(value)
            self._whole[value.name] = writer.index[value.name]
        return [self._output(name) for name in self.graph.outputs.values()]

    def _before(self) -> list[Value]:
        """Values of series inputs alone."""
        known = {*self.call.series, *self.graph.params}
        found = []
        for value in self.graph.values:
            moving = [a for a in value.args if a not in self.graph.params]
            rows = self._row_by_row(value)
            if value.op == "get" or whole_series(self.graph, value, self.call.shown):
                rows, moving = True, [a for a in moving if a not in self.writer.variables]
            if rows and moving and all(a in known for a in moving):
                known.add(value.name)
                found.append(value)
        return found

    def _after(self) -> list[Value]:
        """Values that only outputs depend on, of values that change from step to step."""
        early = {value.name for value in self._early}
        loop = {name for state in self.graph.states for name in (state.next, state.when) if name}
        constant = {name for name in self.graph.inputs if name not in self.call.series}
        found = []
        for value in reversed(self.graph.values):
            if value.name in early:
                continue
            if value.name in loop or not self._row_by_row(value) or any(a in constant for a in value.args):
                loop.update(value.args)
            else:
                found.append(value)
        return found[::-1]

    def _row_by_row(self, value: Value) -> bool:
        """Whether one operator makes a value of all steps. Operands of fewer axes would broadcast along the steps."""
        if value.op not in ROWS or value.op == "tfl_fully_connected":
            return value.op in ROWS
        params = self.graph.params
        rank = {name: len(self.writer.types[name].shape) for name in (value.name, *value.args)}
        return all(rank[a] <= rank[value.name] if a in params else rank[a] == rank[value.name] for a in value.args)

    def _cut(self, name: str) -> list[int]:
        """A series as one tensor a step."""
        main, whole = self.writer.main, self.writer.main.tensors[self._whole[name]]
        type_ = self.writer.types[name]
        parts = [main.tensor(name, (1, *type_.shape), type_.dtype, type_.quant) for _ in range(self.call.steps)]
        if whole.kind in SPLITS:
            self.writer.split(self._whole[name], 0, parts)
            return parts
        rank = 1 + len(type_.shape)
        stride = main.ints("by", [1] * rank)
        for step, part in enumerate(parts):
            begin = main.ints("begin", [step, *[0] * (rank - 1)])
            end = main.ints("end", [step + 1, *type_.shape])
            main.op("STRIDED_SLICE", [self._whole[name], begin, end, stride], [part], "StridedSliceOptions")
        return parts

    def _gathered(self, name: str) -> int:
        """A value of every step as one tensor ``[steps, ...]``."""
        if name not in self._whole:
            self._whole[name] = self._join(name, self._pieces[name])
        return self._whole[name]

    def _join(self, name: str, tensors: list[int]) -> int:
        """Rows under one another, as many at once as CONCATENATION takes."""
        main, type_ = self.writer.main, self.writer.types[name]
        while len(tensors) > 1:
            joined = []
            for start in range(0, len(tensors), MAX_CONCAT):
                group = tensors[start : start + MAX_CONCAT]
                if len(group) == 1:
                    joined += group
                    continue
                rows = sum(main.tensors[t].shape[0] for t in group)
                joined.append(main.tensor(name, (rows, *type_.shape), type_.dtype, type_.quant))
                main.op("CONCATENATION", group, joined[-1:], "ConcatenationOptions", axis=0)
            tensors = joined
        return tensors[0]

    def _output(self, name: str) -> int:
        """The tensor of an output: what is an input is copied, what doesn't change is repeated."""
        writer = self.writer
        name = writer.flat.get(name, name)
        if name in self.graph.params or (name in self.graph.inputs and name not in self.call.series):
            return self._join(name, [writer.at(name)] * self.call.steps)
        whole = self._gathered(name)
        if name not in self.graph.inputs:
            return whole
        type_ = writer.types[name]
        copy = writer.main.tensor(f"{name}_out", (self.call.steps, *type_.shape), type_.dtype, type_.quant)
        writer.reshape(whole, copy)
        return copy
