"""Scales for TFLite Micro: which values of a program share one, and which one.

Values that must share a scale (a state and what it becomes, a slice and its source, a stage's input and what feeds it)
form a class; each class gets one scale from its calibrated range:

- ``2^-15`` where it holds a result of tanh or sigmoid, as TFLM's kernels prescribe;
- a power of two where it feeds tanh or sigmoid (no rounding of the table's input), between 2^-14 (finer than the
  table) and 2^-11 (beyond which both are flat) if it feeds nothing else;
- else ``headroom * max|x| / 32767``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Graph, Program, Ref, Stage
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import Quant, TensorType

TABLES = {"sigmoid": "tfl_logistic", "tanh": "tfl_tanh"}
TABLE_SCALE = 2.0**-15
FINEST, COARSEST = -14, -11
#: The cell state of a fused LSTM is on a power of two; LiteRT's kernel knows none below.
FINEST_CELL = -15
MOVES = ("slice", "reshape", "transpose", "broadcast", "shift")
Key = tuple[str, str]


def f32(x: float) -> float:
    """The float32 next to it, as a flatbuffer will hold it."""
    return float(np.float32(x))


@dataclass(frozen=True)
class Form:
    """How a value is held: its dtype, with its scale and zero point if it has one."""

    dtype: str
    quant: Quant | None = None

    @property
    def scale(self) -> float:
        """The one scale (0 where there is none)."""
        return 0.0 if self.quant is None else float(self.quant.array)

    def at(self, scale: float) -> Form:
        """The same at the float32 next to another scale."""
        return replace(self, quant=Quant(f32(scale), 0 if self.quant is None else self.quant.zero_point))

    def of(self, shape: tuple[int, ...]) -> TensorType:
        """The type of a value of that shape."""
        return TensorType(shape, self.dtype, self.quant)


# -- constants ---------------------------------------------------------------------------------------------------------


def constants(graph: Graph) -> dict[str, np.ndarray]:
    """Every value that depends on params alone, params included, in float64."""
    known: dict[str, np.ndarray] = {name: param.data for name, param in graph.params.items()}
    types = graph.types()
    for value in graph.values:
        if value.body is None and value.op != "get" and all(a in known for a in value.args):
            args = [known[a][None] for a in value.args]
            arg_types: list[Any] = [types[a] for a in value.args]
            known[value.name] = OPS[value.op].eval(args, value.attrs, value.tensor, arg_types)[0]
    return known


# -- scales ------------------------------------------------------------------------------------------------------------


class Scales:
    """The classes of one program's values, and each class's scale. Keys are ``(stage, value)``, ``("", input)``."""

    def __init__(self, program: Program, headroom: float) -> None:
        self.program, self.headroom = program, headroom
        self._parent: dict[Key, Key] = {}
        self._range: dict[Key, float] = {}
        self._from_table: set[Key] = set()
        self._to_table: set[Key] = set()
        self._elsewhere: set[Key] = set()
        self._cells: set[Key] = set()
        self.constant = {stage.name: constants(stage.graph) for stage in program.stages}
        for stage in program.stages:
            self._link(stage)
        for stage in program.stages:
            self._collect(stage)

    def find(self, key: Key) -> Key:
        """The class of a key."""
        while (parent := self._parent.get(key, key)) != key:
            key = parent
        return key

    def _join(self, a: Key, b: Key) -> None:
        first, second = self.find(a), self.find(b)
        if first != second:
            self._parent[first] = second

    def _source(self, ref: Ref) -> Key:
        if ref.stage is None:
            return "", ref.name
        if ref.at == "final":
            return ref.stage, ref.name
        return ref.stage, self.program.stage(ref.stage).graph.outputs[ref.name]

    def _link(self, stage: Stage) -> None:
        graph, known = stage.graph, self.constant[stage.name]
        for name, ref in {**stage.inputs_from, **stage.state_from}.items():
            self._join((stage.name, name), self._source(ref))
        for name, output in stage.drive.feedback.items():
            self._join((stage.name, name), (stage.name, graph.outputs[output]))
        for state in graph.states:
            self._join((stage.name, state.name), (stage.name, state.next))
        for value in graph.values:
            if value.op in MOVES and value.name not in known:
                self._join((stage.name, value.name), (stage.name, value.args[0]))

    def _collect(self, stage: Stage) -> None:
        graph, known = stage.graph, self.constant[stage.name]
        ranges = self.program.meta.get("ranges", {}).get(stage.name, {})
        for name, type_ in graph.types().items():
            if name in known or not isinstance(type_, TensorType) or type_.dtype != "f32":
                continue
            if name not in ranges:
                raise UsageError(
                    "has no calibrated range: no calibration sample has computed it.",
                    place=f"{stage.name}: %{name}",
                    hint="Calibrate the expanded program, on data that reach it.",
                )
            root = self.find((stage.name, name))
            self._range[root] = max(self._range.get(root, 0.0), *(abs(float(v)) for v in ranges[name]))
        for state in graph.states:
            if state.init is not None:
                root = self.find((stage.name, state.name))
                self._range[root] = max(self._range.get(root, 0.0), float(np.abs(known[state.init]).max(initial=0)))
        self._elsewhere.update(self.find((stage.name, name)) for name in graph.outputs.values())
        for value in graph.values:
            if value.op in TABLES:
                self._from_table.add(self.find((stage.name, value.name)))
                self._to_table.add(self.find((stage.name, value.args[0])))
                continue
            if value.op == "tflite_lstm":
                self._cells.add(self.find((stage.name, value.args[2])))
            if value.op not in MOVES:
                self._elsewhere.update(self.find((stage.name, a)) for a in value.args)

    def form(self, key: Key) -> Form:
        """The form of a key's class."""
        return Form("i16", Quant(self._scale(key)))

    def _scale(self, key: Key) -> float:
        root = self.find(key)
        top = self._range.get(root, 0.0)
        if root in self._from_table and top <= 1:
            return TABLE_SCALE
        top = top * self.headroom or 1.0
        if root in self._cells:
            return 2.0 ** max(math.ceil(math.log2(top / 32767)), FINEST_CELL)
        if root not in self._to_table:
            return f32(top / 32767)
        exponent = math.ceil(math.log2(top / 32767))
        if root not in self._elsewhere:
            exponent = min(max(exponent, FINEST), COARSEST)
        return 2.0**exponent

    def typed(self, key: Key, type_: TensorType) -> TensorType:
        """A float type in the form of its class; others stay."""
        return self.form(key).of(type_.shape) if type_.dtype == "f32" else type_
