"""Scales for TFLite Micro: which values of a program share one, and which one.

Values that must share a scale (a state and what it becomes, a slice and its source, a stage's input and what feeds it)
form a class; each class gets one scale from its calibrated range:

- ``2^-15`` where it holds a result of tanh or sigmoid, as TFLM's kernels prescribe;
- a power of two where it feeds tanh or sigmoid (no rounding of the table's input), between 2^-14 (finer than the
  table) and 2^-11 (beyond which both are flat) if it feeds nothing else;
- a power of two where SUB or RELU makes it, or it is SUB's coarser argument: some versions of TFLM compute these
  kernels' multipliers in float32, others in double; so they are the same (:mod:`~neurodeploy.passes.tflite.portable`);
- else ``headroom * max|x| / 32767``.

With 8 bits it is the range over 255 steps with a zero point, or, of a state, ``max|x| / 127`` with the zero point 0;
what feeds tanh or sigmoid alone ends where they are flat, and their results have the kernels' scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Graph, Program, Ref, Stage
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite.tables import RESULTS
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes.tflite.widths import Widths

TABLES = {"sigmoid": "tfl_logistic", "tanh": "tfl_tanh"}
FINEST, COARSEST = -14, -11
#: Where both are within half a step of 8 bits of their last value.
FLAT = {"sigmoid": math.log(511.0), "tanh": math.atanh(1 - 2.0**-8)}
#: A zero point is worth its while if it makes the step smaller than this share of the even one.
LOPSIDED = 0.95
#: The zero point 0 makes a step at most so much larger where CAST to 16 bits is to take the place of QUANTIZE.
CENTRED = 1.25
#: Scales are not smaller, so that products of them stay within float32.
SMALLEST = 2.0**-60
#: Bits of a scale: two of them make a product that float32 holds.
SCALE_BITS = 12
#: The 8-bit kernels of tanh and sigmoid shift their argument left: its step is at least that of their fixed point.
FINEST_SERIES = 2.0**-27
#: The cell state of a fused LSTM is on a power of two; LiteRT's kernel knows none below.
FINEST_CELL = -15
MOVES = ("slice", "reshape", "transpose", "broadcast", "shift", "gather", "row", "put", "reduce_max")
#: Ops through which a wide state asks for wide arguments.
CARRIES = frozenset({*MOVES, "add", "sub", "mul", "div", "neg", "abs", "relu", "min", "max", "select", "concat"})
Key = tuple[str, str]


def f32(x: float) -> float:
    """The float32 next to it, as a flatbuffer will hold it."""
    return float(np.float32(x))


def step(size: float) -> float:
    """A scale of 12 bits, ``size`` or just above it; not so small that products of scales leave float32.

    The product of two is exact in float32, in which some versions of TFLM compute it.
    """
    fraction, exponent = math.frexp(max(size, SMALLEST))
    return math.ldexp(math.ceil(math.ldexp(fraction, SCALE_BITS)), exponent - SCALE_BITS)


def even(size: float) -> float:
    """The power of two at ``size`` or above it."""
    fraction, exponent = math.frexp(max(size, SMALLEST))
    return math.ldexp(1.0, exponent - (fraction == 0.5))


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
        return replace(self, quant=Quant(step(scale), 0 if self.quant is None else self.quant.zero_point))

    def narrowed(self) -> Form:
        """An i8 with the range of this i16."""
        return Form("i8", Quant(step(self.scale * 32767 / 127)))

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
    """The classes of one program's values, and each class's form. Keys are ``(stage, value)``, ``("", input)``."""

    def __init__(self, program: Program, headroom: float, widths: Widths | None = None) -> None:
        self.program, self.headroom, self.widths = program, headroom, widths or Widths()
        self.warnings: list[str] = []
        self._parent: dict[Key, Key] = {}
        self._range: dict[Key, tuple[float, float]] = {}
        self._tables: dict[Key, set[str]] = {}
        self._to_tables: dict[Key, set[str]] = {}
        self._elsewhere: set[Key] = set()
        self._states: set[Key] = set()
        self._dtypes: dict[Key, tuple[str, Key]] = {}
        self._cells: set[Key] = set()
        self._random: set[Key] = set()
        self._even: set[Key] = set()
        self._coarser: dict[Key, float] = {}
        self._cast: set[Key] = set()
        self._followed: set[Key] = set()
        self.constant = {stage.name: constants(stage.graph) for stage in program.stages}
        for stage in program.stages:
            self._link(stage)
        for stage in program.stages:
            self._collect(stage)
        self._choose_dtypes()
        while sum(self._make_even(stage) for stage in program.stages):
            pass

    def find(self, key: Key) -> Key:
        """The class of a key."""
        while (parent := self._parent.get(key, key)) != key:
            key = parent
        return key

    def _join(self, a: Key, b: Key) -> None:
        first, second = self.find(a), self.find(b)
        if first != second:
            self._parent[first] = second

    def source(self, ref: Ref) -> Key:
        """The program input, value or state that a ref means."""
        if ref.stage is None:
            return "", ref.name
        if ref.at == "final":
            return ref.stage, ref.name
        return ref.stage, self.program.stage(ref.stage).graph.outputs[ref.name]

    def _link(self, stage: Stage) -> None:
        graph, known = stage.graph, self.constant[stage.name]
        for name, ref in {**stage.inputs_from, **stage.state_from}.items():
            self._join((stage.name, name), self.source(ref))
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
            self._reach((stage.name, name), *map(float, ranges[name]))
        for state in graph.states:
            if state.type.dtype != "f32":
                continue
            self._states.add(self.find((stage.name, state.name)))
            if state.init is not None:
                start = known[state.init]
                self._reach((stage.name, state.name), float(start.min(initial=0)), float(start.max(initial=0)))
        self._elsewhere.update(self.find((stage.name, name)) for name in graph.outputs.values())
        for value in graph.values:
            if value.op in TABLES:
                self._tables.setdefault(self.find((stage.name, value.name)), set()).add(value.op)
                self._to_tables.setdefault(self.find((stage.name, value.args[0])), set()).add(value.op)
                continue
            if value.op == "random":
                self._random.add(root := self.find((stage.name, value.name)))
                self._tables.setdefault(root, set()).add(value.op)
            if value.op in MOVES and value.args[0] in known and value.name not in known:
                table = known[value.args[0]]
                self._reach((stage.name, value.name), float(table.min(initial=0)), float(table.max(initial=0)))
            if value.op == "softmax":  # on sigmoid's scales
                self._tables.setdefault(self.find((stage.name, value.name)), set()).add("sigmoid")
            if value.op == "tflite_lstm":
                self._cells.add(self.find((stage.name, value.args[2])))
            if value.op not in MOVES:
                self._elsewhere.update(self.find((stage.name, a)) for a in value.args)

    def _reach(self, key: Key, low: float, high: float) -> None:
        root = self.find(key)
        least, most = self._range.get(root, (0.0, 0.0))
        self._range[root] = min(least, low), max(most, high)

    # widths

    def _choose_dtypes(self) -> None:
        """States have their own width, named tensors theirs; sums and products on the way to a wide state are wide.

        The cell state of a fused LSTM is i16 whatever is asked.
        """
        self._dtypes.update((root, ("i16", root)) for root in self._cells)
        for (stage, name), dtype in self.widths.named.items():
            key = stage or "", name
            before, other = self._dtypes.setdefault(self.find(key), (dtype, key))
            if before != dtype:
                raise UsageError(
                    f"'{name}' is to be {dtype} and '{other[1]}' {before}, but they share one scale and width.",
                    hint="Name one of them.",
                )
        if self.widths.states == self.widths.activations:
            chosen = {root for root, (dtype, _) in self._dtypes.items() if root in self._states and dtype == "i16"}
        else:
            chosen = self._states
        for key in self.widths.wide:
            self._dtypes.setdefault(self.find(key), ("i16", key))
        for root in chosen:
            self._dtypes.setdefault(root, (self.widths.states, root))
        for root in self._random:
            self._dtypes.setdefault(root, ("i16", root))
        for stage in self.program.stages:
            self._widen(stage)
        if (self.widths.tables, self.widths.activations) == ("i16", "i8"):
            while sum(self._follow(stage) for stage in self.program.stages):
                pass

    def _widen(self, stage: Stage) -> None:
        known = self.constant[stage.name]
        made = {value.name: value for value in stage.graph.values}
        open_ = [state.next for state in stage.graph.states if self.dtype((stage.name, state.next)) == "i16"]
        while open_:
            value = made.get(open_.pop())
            if value is None or value.op not in CARRIES or value.name in known:
                continue
            for arg in value.args:
                root = self.find((stage.name, arg))
                real = arg in made and arg not in known and made[arg].tensor.dtype == "f32"
                if real and made[arg].op in CARRIES and root not in self._dtypes:
                    self._dtypes[root] = "i16", root
                    open_.append(arg)

    def _follow(self, stage: Stage) -> bool:
        """What sigmoid, tanh and wide values become is wide up to the next product, state or output, and so are sums
        that are their arguments; what of 8 bits joins them has the zero point 0 if it can. Whether any is new."""
        graph, known, before = stage.graph, self.constant[stage.name], (len(self._dtypes), len(self._cast))
        kept = self._states | {self.find((stage.name, n)) for n in (*graph.inputs, *graph.outputs.values())}
        for value in graph.values:
            if value.op not in (*TABLES, *CARRIES) or value.name in known or value.tensor.dtype != "f32":
                continue
            root = self.find((stage.name, value.name))
            args = [(stage.name, a) for a in value.args if a not in known and graph.tensor(a).dtype == "f32"]
            if value.op in TABLES:
                wide = [root, self.find(args[0])] if self._is_joined(stage, value.args[0]) else [root]
            else:
                wide = [root] if any(self.dtype(key) == "i16" for key in (root, *args)) else []
            for new in wide:
                if new not in kept and new not in self._dtypes:
                    self._dtypes[new] = "i16", new
                    self._followed.add(new)
            if wide:
                self._cast.update(self.find(key) for key in args if self.dtype(key) == "i8")
        return before != (len(self._dtypes), len(self._cast))

    def _is_joined(self, stage: Stage, name: str) -> bool:
        """Whether a value is elementwise arithmetic on two computed values, or moved from such."""
        known = self.constant[stage.name]
        made = {value.name: value for value in stage.graph.values}
        while name in made and name not in known:
            value = made[name]
            moving = [a for a in value.args if a not in known]
            if value.op in ("add", "sub", "mul") and len(moving) == 2:
                return True
            if value.op not in ("add", "sub", *MOVES):
                return False
            name = moving[0]
        return False

    def dtype(self, key: Key) -> str:
        """The dtype of a key's class."""
        found = self._dtypes.get(self.find(key))
        return found[0] if found else self.widths.activations

    def products(self, key: Key) -> str:
        """The dtype of products in a sum of that class: 8 bits if it is wide for elementwise ops alone."""
        return "i8" if self.find(key) in self._followed else self.dtype(key)

    # forms

    def _make_even(self, stage: Stage) -> bool:
        """Powers of two for what SUB and RELU make with 16 bits, and for SUB's coarser argument: whether any is new.

        The finer argument is divided by the coarser one alone.
        """
        known, before = self.constant[stage.name], len(self._even)
        for value in stage.graph.values:
            key = stage.name, value.name
            takes_off = value.op == "sub" and value.args[1] not in known  # a constant's negative is added
            if not (takes_off or value.op == "relu") or value.tensor.dtype != "f32" or self.dtype(key) != "i16":
                continue
            self._even.add(self.find(key))
            if takes_off:
                moving = [(stage.name, a) for a in value.args if a not in known]
                self._even.add(self.find(max(moving, key=lambda k: self.form(k, "i16").scale)))
        return len(self._even) > before

    def form(self, key: Key, dtype: str | None = None) -> Form:
        """The form of a key's class, in its own dtype or another."""
        root, dtype = self.find(key), dtype or self.dtype(key)
        return Form(dtype, self._wide(root) if dtype == "i16" else self._narrow(root))

    def _wide(self, root: Key) -> Quant:
        top = max(-self._range.get(root, (0.0, 0.0))[0], self._range.get(root, (0.0, 0.0))[1])
        if root in self._tables and top <= 1:
            return RESULTS["tanh", "i16"]
        top = top * self.headroom or 1.0
        if root in self._cells:
            return Quant(2.0 ** max(math.ceil(math.log2(max(top / 32767, SMALLEST))), FINEST_CELL))
        if root not in self._to_tables:
            return Quant((even if root in self._even else step)(top / 32767))
        exponent = math.ceil(math.log2(max(top / 32767, SMALLEST)))
        if root not in self._elsewhere:
            exponent = min(max(exponent, FINEST), COARSEST)
        return Quant(2.0**exponent)

    def _narrow(self, root: Key) -> Quant:
        """8 bits: the kernel's own scale for results of tanh and sigmoid, else the range without headroom."""
        low, high = self._range.get(root, (0.0, 0.0))
        tables, held = self._tables.get(root, set()), root in self._states
        if tables and -1 <= low and high <= 1:
            if tables == {"sigmoid"} and low >= 0 and not held:
                return RESULTS["sigmoid", "i8"]
            if "tanh" in tables:
                return RESULTS["tanh", "i8"]
        if root in self._to_tables and root not in self._elsewhere:
            flat = max(FLAT[op] for op in self._to_tables[root])
            low, high = max(low, -flat), min(high, flat)
        coarser = self._coarser.get(root, 1.0)
        least = FINEST_SERIES if root in self._to_tables else SMALLEST
        centred = held or (root in self._cast and max(-low, high) <= CENTRED * (high - low) / 2)
        return narrow(low * coarser, high * coarser, centred=centred, least=least)

    def coarsen(self, key: Key) -> None:
        """Make the i8 scale of a key's class another one, by one part in 1,000."""
        root = self.find(key)
        self._coarser[root] = self._coarser.get(root, 1.0) + 1e-3

    def typed(self, key: Key, type_: TensorType) -> TensorType:
        """A float type in the form of its class; others stay."""
        return self.form(key).of(type_.shape) if type_.dtype == "f32" else type_


def narrow(low: float, high: float, *, centred: bool = False, least: float = SMALLEST) -> Quant:
    """Scale (``least`` or more) and zero point of an i8 that holds 0 and a range; the zero point is 0 where another
    wouldn't pay."""
    low, high = min(low, 0.0), max(high, 0.0)
    centre, sloped = max(-low, high) / 127 or 1.0, (high - low) / 255
    if centred or sloped < least or sloped > LOPSIDED * centre:
        even_below = even(centre) / 2
        return Quant(even_below if least <= even_below >= centre * 127 / 128 else step(max(centre, least)))
    return Quant(step(sloped), int(np.clip(round(-128 - low / sloped), -128, 127)))
