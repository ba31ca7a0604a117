"""Which scale every value is stored at: calibrated ranges, and what must share one type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Graph, Program, Ref, Stage, Value
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.types import Quant, TensorType

#: The argument of tanh: +-8 in steps of 2^-12. Beyond, it is within 2.3e-7 of its limit.
GATE_SCALE = 2.0**-12
#: sigmoid is read from tanh's table at half its argument: +-16.
GATE_SCALES = {"tanh": GATE_SCALE, "sigmoid": 2 * GATE_SCALE}
#: Results of sigmoid and tanh (Q0.15).
UNIT_SCALE = 2.0**-15
_MOVES = frozenset({"slice", "reshape", "transpose", "broadcast", "relu"})
_FINEST, _COARSEST = 60, -40
#: Of a vector's 16 bits, those that are given up for good where its products' weights want them (see Plan.coarsen).
_GIVEN_UP = 3
#: A state gives up bits only if no more than this share of its updates is lost by it.
_LOST_SHARE = 0.03

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
    dtype: str | None = None
    coarser: int = 0  # bits given up


class Plan:
    """Scales of a calibrated, expanded program.

    Classes of names that must have one type: a state and its next, a stage's input and what feeds it, a state and what
    it starts from, an input fed back from an output, a table and the rows put into it.
    """

    def __init__(
        self,
        program: Program,
        state_dtype: str,
        activation_dtype: str,
        measured: Mapping[str, Mapping],
        kept: Mapping[Key, str] | None = None,
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
        self._give_dtypes(kept or {})

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

    def _give_dtypes(self, kept: Mapping[Key, str]) -> None:
        """dtypes of tensors by name; those that share a type must agree."""
        for (stage, name), dtype in kept.items():
            found = self._class((stage, name))
            if found.dtype not in (None, dtype):
                raise UsageError(
                    f"gets {dtype}, but shares its type with a tensor that gets {found.dtype}.",
                    place=f"'{f'{stage}.' if stage else ''}{name}'",
                    hint="Name both alike.",
                )
            found.dtype = dtype

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
        dtype = found.dtype or (self.state_dtype if found.state else self.activation_dtype)
        made = stored_type(type_.shape, dtype, self.top(stage, name), exact=found.fed)
        if not found.coarser or made.quant is None:
            return made
        return made.with_(quant=Quant(float(made.quant.array) * 2**found.coarser))

    def operand_dtype(self, stage: str, name: str) -> str:
        """The dtype of a value as the right side of a product with weights."""
        return self._class((stage, name)).dtype or self.activation_dtype

    def scale(self, stage: str, name: str) -> float:
        """The scale at which a value is narrowed to i16 wherever it must be."""
        if name in self.gates[stage]:
            return float(np.min(self.gates[stage][name]))
        found = self._class((stage, name))
        return i16_scale(self.top(stage, name), exact=found.fed) * 2**found.coarser

    def coarsen(self, wishes: Mapping[tuple[str, str], int], lost: Callable[[str, str, float], float]) -> bool:
        """Keep inputs and states at the scale that their products want, so that no step has to rescale them.

        ``wishes``: (stage, input or state) -> bits that its products would rather have in their weights;
        ``lost(stage, state, scale)``: the share of the state's updates that a scale loses. True if anything changed.
        """
        changed = False
        for key, bits in wishes.items():
            found = self._class(key)
            stored = found.dtype or (self.state_dtype if found.state else self.activation_dtype)
            if not 1 <= bits <= _GIVEN_UP or stored != "i16" or bits <= found.coarser:
                continue
            scale = i16_scale(found.top, exact=found.fed) * 2**bits
            members = [k for k in self._parent if self._root(k) == self._root(key) and k[0] is not None]
            if all(lost(str(stage), name, scale) <= _LOST_SHARE for stage, name in members):
                found.coarser, changed = bits, True
        return changed


def _gate_inputs(graph: Graph) -> dict[str, float | np.ndarray]:
    """Values that only sigmoid and tanh read, directly or through moves: their scale, or one for each row."""
    kept = {*graph.outputs.values(), *(s.next for s in graph.states)}
    uses = graph.uses()
    found: dict[str, float | np.ndarray] = {}
    for value in reversed(graph.values):
        readers = uses.get(value.name, [])
        gates = all(r.op in GATE_SCALES or (r.op in _MOVES and r.name in found) for r in readers)
        if readers and value.name not in kept and gates:
            found[value.name] = _gate_scale(value, readers, found)
    return found


def _gate_scale(value: Value, readers: Sequence[Value], found: Mapping[str, float | np.ndarray]) -> float | np.ndarray:
    """One scale if the readers agree; one a row if they take different rows; else the finest."""
    scales = [GATE_SCALES[r.op] if r.op in GATE_SCALES else found[r.name] for r in readers]
    shape = value.tensor.shape
    if len(shape) == 1 and all(r.op == "slice" for r in readers):
        rows = np.full(shape[0], np.inf)
        for reader, scale in zip(readers, scales, strict=True):
            _, start, stop, step = slice_bounds(reader.attrs, shape)
            rows[start:stop:step] = np.minimum(rows[start:stop:step], scale)
        rows = np.where(np.isinf(rows), GATE_SCALE, rows)
        return rows if len(set(rows.tolist())) > 1 else float(rows[0])
    return float(min(np.min(scale) for scale in scales))


def measured_ranges(program: Program) -> Mapping[str, Mapping[str, list[float]]]:
    """``meta["ranges"]``. Raises :class:`UsageError` for a program that is not calibrated."""
    ranges = program.meta.get("ranges")
    if not isinstance(ranges, Mapping):
        raise UsageError(
            "has no calibrated ranges.", place=program.name, hint="Run the pass calibrate before quantize."
        )
    return ranges
