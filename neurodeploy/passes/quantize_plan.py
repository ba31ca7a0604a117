"""Which scale every value is stored at: calibrated ranges, and what must share one type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Graph, Program, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType

#: The inputs of sigmoid and tanh: +-8 in steps of 2^-12. Beyond, both are within 3.4e-4 and 2.3e-7 of their limits.
GATE_SCALE = 2.0**-12
#: Results of sigmoid and tanh (Q0.15).
UNIT_SCALE = 2.0**-15
_MOVES = frozenset({"slice", "reshape", "transpose", "broadcast", "relu"})
_FINEST, _COARSEST = 60, -40

Key = tuple[str | None, str]


def i16_scale(top: float, *, exact: bool = False) -> float:
    """The smallest power of two at which ``+-top`` fits 16 bits.

    A top in (32767/32768, 1] takes 2^-15 all the same (1 is stored as 32767/32768, as tanh and sigmoid have it),
    unless ``exact``. Powers of two make sums of products exact: what differs in scale is aligned by a shift.
    """
    if not top > 0:
        return UNIT_SCALE
    if not exact and 0.9999 < top <= 1.0:
        return UNIT_SCALE
    bits = math.floor(math.log2(32767.49 / top))
    return 2.0 ** -max(_COARSEST, min(_FINEST, bits))


def stored_type(shape: tuple[int, ...], dtype: str, top: float, *, exact: bool = False) -> TensorType:
    """The type of a value that is kept: i16 at a power of two, i8 at ``top / 127``."""
    scale = i16_scale(top, exact=exact) if dtype == "i16" else (top if top > 0 else 1.0) / 127
    return TensorType(shape, dtype, Quant(scale))


@dataclass
class _Class:
    """Names that share one type."""

    top: float = 0.0
    known: bool = False
    state: bool = False
    fed: bool = False


class Plan:
    """Scales of a calibrated, expanded program.

    Classes of names that must have one type: a state and its next, a stage's input and what feeds it, a state and what
    it starts from, an input fed back from an output, a table and the rows put into it.
    """

    def __init__(
        self, program: Program, state_dtype: str, activation_dtype: str, measured: Mapping[str, Mapping]
    ) -> None:
        self.program, self.state_dtype, self.activation_dtype = program, state_dtype, activation_dtype
        self._parent: dict[Key, Key] = {}
        self._classes: dict[Key, _Class] = {}
        self._ranges = measured
        self.unknown: list[str] = []
        for name, spec in program.inputs.items():
            if spec.type.dtype == "f32":
                self._class((None, name)).fed = True
        for stage in program.stages:
            self._stage(stage)
        for stage in program.stages:
            for name, (low, high) in measured.get(stage.name, {}).items():
                found = self._class((stage.name, name))
                found.top, found.known = max(found.top, abs(low), abs(high)), True
        self.gates = {stage.name: _gate_inputs(stage.graph) for stage in program.stages}

    # -- classes ------------------------------------------------------------------------------------------------------

    def _root(self, key: Key) -> Key:
        while self._parent.get(key, key) != key:
            key = self._parent[key]
        return key

    def _class(self, key: Key) -> _Class:
        root = self._root(key)
        if root not in self._classes:
            self._classes[root] = _Class()
            self._parent[root] = root
        return self._classes[root]

    def _tie(self, one: Key, other: Key) -> None:
        a, b = self._class(one), self._class(other)
        if a is b:
            return
        a.top, a.known = max(a.top, b.top), a.known or b.known
        a.state, a.fed = a.state or b.state, a.fed or b.fed
        gone = self._root(other)
        self._parent[gone] = self._root(one)
        del self._classes[gone]

    def _stage(self, stage: Stage) -> None:
        graph = stage.graph
        for name, ref in stage.inputs_from.items():
            if graph.inputs[name].dtype == "f32":
                self._tie((stage.name, name), self._source(ref))
        for state in graph.states:
            if state.type.dtype == "f32":
                self._class((stage.name, state.name)).state = True
                self._tie((stage.name, state.name), (stage.name, state.next))
        for name, ref in stage.state_from.items():
            if self.program.ref_type(ref).dtype == "f32":
                self._tie((stage.name, name), self._source(ref))
        for name, output in stage.drive.feedback.items():
            if graph.inputs[name].dtype == "f32":
                self._tie((stage.name, name), (stage.name, graph.outputs[output]))
        for value in graph.values:
            if value.op in ("put", "shift") and value.tensor.dtype == "f32":
                self._tie((stage.name, value.name), (stage.name, value.args[0]))

    def _source(self, ref: Ref) -> Key:
        if ref.stage is None:
            return (None, ref.name)
        if ref.at == "final":
            return (ref.stage, ref.name)
        return (ref.stage, self.program.stage(ref.stage).graph.outputs[ref.name])

    # -- answers ------------------------------------------------------------------------------------------------------

    def top(self, stage: str | None, name: str) -> float:
        """The largest magnitude that calibration met."""
        found = self._class((stage, name))
        if not found.known:
            label = f"{stage}.{name}" if stage else name
            if label not in self.unknown:
                self.unknown.append(label)
            return 1.0
        return found.top

    def set_top(self, stage: str, name: str, top: float) -> None:
        """Give a value that calibration did not see its largest magnitude."""
        found = self._class((stage, name))
        found.top, found.known = max(found.top, top), True

    def known(self, stage: str, name: str) -> bool:
        """Whether calibration saw the value."""
        return self._class((stage, name)).known

    def interface(self, stage: str | None, name: str, type_: TensorType) -> TensorType:
        """The type of a program's or stage's input, of a state and of an output."""
        if type_.dtype != "f32":
            return type_
        found = self._class((stage, name))
        dtype = self.state_dtype if found.state else self.activation_dtype
        return stored_type(type_.shape, dtype, self.top(stage, name), exact=found.fed)

    def scale(self, stage: str, name: str) -> float:
        """The scale at which a value is narrowed to i16 wherever it must be."""
        if name in self.gates[stage]:
            return GATE_SCALE
        return i16_scale(self.top(stage, name), exact=self._class((stage, name)).fed)


def _gate_inputs(graph: Graph) -> set[str]:
    """Values that only sigmoid and tanh read, directly or through moves."""
    kept = {*graph.outputs.values(), *(s.next for s in graph.states)}
    uses = graph.uses()
    found: set[str] = set()
    for value in reversed(graph.values):
        readers = uses.get(value.name, [])
        gates = all(r.op in ("sigmoid", "tanh") or (r.op in _MOVES and r.name in found) for r in readers)
        if readers and value.name not in kept and gates:
            found.add(value.name)
    return found


def measured_ranges(program: Program) -> Mapping[str, Mapping[str, list[float]]]:
    """``meta["ranges"]``. Raises :class:`UsageError` for a program that is not calibrated."""
    ranges = program.meta.get("ranges")
    if not isinstance(ranges, Mapping):
        raise UsageError(
            "has no calibrated ranges.", place=program.name, hint="Run the pass calibrate before quantize."
        )
    return ranges
