"""Clocked sigma-delta: a ``native`` program whose vectors in front of weights have few levels, sent by their changes.

Every vector that a weight matrix multiplies, and that itself comes out of a state or another weighted sum, becomes::

    k_j = clip(floor(x_j m_j + 1/2), -n, n)            m_j = n / range_j, range_j: the largest |x_j| on the data
    W x = f (W' k),   W'_ij = round(W_ij / (m_j f_i))  f_i: the least whole factor for which a row's W' fit their bits

A neuron sends the change of k_j, a receiver adds ``W'_ij dk_j`` to a sum that is therefore ``W' k`` at all times: the
spiking network *equals* this program. Products of the program's inputs stay input currents. The gates of GRU and LSTM
multiply inside the neuron.

The accumulators' scales stay those of the ``native`` program, so every other value is untouched. A row is proved:
``f sum_j |W'_ij| n`` is at most ``sum_j |W_ij| max_j range_j``, which the native program's proof bounds (where rounding
would pass that, weights are rounded towards zero). Multipliers of every ``requantize`` keep 20 significant bits: then
``x mult`` has at most 51, and each op is exact in float64 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError, UsageError, nearest
from neurodeploy.ir.graph import Graph, Param, Program, Stage, State, Value, prune
from neurodeploy.ir.interpret import run
from neurodeploy.ir.ops import infer
from neurodeploy.ir.types import Quant, TensorType, int_range
from neurodeploy.passes.expand import expand_graph
from neurodeploy.passes.rewrite import Names
from neurodeploy.passes.spiking_levels import level_multipliers, level_weights, short

MOST_LEVELS = 32767
_BATCH = 256
#: What only moves or rescales a vector: of an input, it is still an input current.
_MOVES = "slice reshape concat transpose broadcast gather row"
_CURRENT = frozenset(f"requantize cast mul neg abs relu select {_MOVES}".split())

Key = tuple[str, str]


@dataclass(frozen=True)
class SigmaDelta:
    """A ``native`` program as its n-level program, all primitives; its vectors' ranges are measured on ``data``.

    ``levels``: n, from zero to a unit's largest size (1 to 32767). ``named``: other numbers of levels for vectors by
    name, ``"stage.value"`` as in the native program. ``weight_bits``: 2 to 16 of the weights that events pass through.
    ``inputs``: code the inputs too. ``meta["spiking"]`` gets method, levels and ``sent``: stage -> names of the values
    whose changes are sent. Raises :class:`UsageError`, and :class:`UnsupportedError` where nothing would be sent.
    """

    levels: int = 16
    named: Mapping[str, int] = field(default_factory=dict)
    weight_bits: int = 16
    inputs: bool = False
    data: Data | None = field(default=None, compare=False, repr=False, metadata={"text": False})

    def __call__(self, program: Program) -> Program:
        if program.numerics != "native":
            raise UsageError(f"is {program.numerics}; needed a native integer program.", place=program.name)
        for name, count in {"levels": self.levels, **self.named}.items():
            if not 1 <= count <= MOST_LEVELS:
                raise UsageError(f"the levels of '{name}' are {count}; needed 1 to {MOST_LEVELS}.")
        if not 2 <= self.weight_bits <= 16:
            raise UsageError(f"weight_bits is {self.weight_bits}; needed 2 to 16.")
        if self.data is None or not self.data.samples:
            raise UsageError(
                "levels need the range of every unit on samples.",
                place=program.name,
                hint="Give some with --data FILE.npz.",
            )
        plain = program.map_graphs(lambda graph: expand_graph(graph, ("affine",)))
        operands = sent_operands(plain, self.inputs)
        groups = {stage.name: _groups(stage.graph, operands[stage.name]) for stage in plain.stages}
        if not any(operands.values()):
            raise UnsupportedError(
                "no vector that the network itself computes is multiplied by weights: there is nothing to send.",
                place=program.name,
                hint="Compile it for a board or a crossbar.",
            )
        known = [f"{stage}.{name}" for stage, found in operands.items() for name in found]
        for name in self.named:
            if name not in known:
                raise UsageError(f"no vector '{name}' is sent.", hint=nearest(name, known))
        ranges = measured(plain, groups, self.data)
        finals = {(ref.stage, ref.name) for ref in _refs(plain) if ref.at == "final"}
        stages: list[Stage] = []
        sent: dict[str, list[str]] = {}
        of: dict[str, int] = {}
        for stage in plain.stages:
            writer = _Writer(stage, self, groups[stage.name], ranges, finals)
            stages.append(replace(stage, graph=writer.run(operands[stage.name])))
            live = stages[-1].graph.types()
            sent[stage.name] = [name for name in writer.sent if name in live]
            named = {f"{stage.name}.{name}": count for name, count in writer.levels.items()}
            of |= {name: count for name, count in named.items() if name in known}
        alike = {tuple(f"{s}.{m}" for m in sorted(group)) for s, found in groups.items() for group in found.values()}
        spiking = {
            "method": "sigma-delta",
            "levels": self.levels,
            "sent": sent,
            "levels_of": of,
            "groups": [[name for name in group if name in known] for group in sorted(alike)],
        }
        return replace(plain, stages=tuple(stages), meta={**program.meta, "spiking": spiking})


def _refs(program: Program) -> Iterable[Any]:
    yield from program.outputs.values()
    for stage in program.stages:
        yield from stage.inputs_from.values()
        yield from stage.state_from.values()


# -- what is sent ------------------------------------------------------------------------------------------------------


def products_of(graph: Graph) -> dict[str, list[tuple[str, str]]]:
    """Value name -> its products of constant weights [m,k] and a changing vector [k]: (weights, vector)."""
    constant = {*graph.params, *(v.name for v in graph.values if v.op == "const")}
    found: dict[str, list[tuple[str, str]]] = {}
    for value in graph.values:
        if value.op == "affine":
            pairs = list(zip(value.args[:-1:2], value.args[1:-1:2], strict=True))
        elif value.op == "matmul" and len(value.tensor.shape) == 1 and len(graph.tensor(value.args[0]).shape) == 2:
            pairs = [(value.args[0], value.args[1])]
        else:
            continue
        if all(w in graph.params and v not in constant for w, v in pairs):
            found[value.name] = pairs
    return found


def sent_operands(program: Program, inputs: bool = False) -> dict[str, list[str]]:
    """Stage -> vectors in front of weights that are sent: all but those that are inputs, moved or rescaled at most."""
    currents: dict[Key, bool] = {}
    table: dict[str, list[str]] = {}
    for stage in program.stages:
        graph = stage.graph
        still = {*graph.params, *(v.name for v in graph.values if v.op == "const")}
        current = set(still)
        for name in graph.inputs:
            ref = stage.inputs_from[name]
            outside = ref.stage is None or (ref.at != "final" and currents.get((ref.stage, ref.name), False))
            if outside and name not in stage.drive.feedback:
                current.add(name)
        for value in graph.values:
            if value.op in _CURRENT and all(a in current for a in value.args):
                current.add(value.name)
        currents |= {(stage.name, out): name in current for out, name in graph.outputs.items()}
        found: dict[str, None] = {}
        for pairs in products_of(graph).values():
            for _, vector in pairs:
                small = graph.tensor(vector).dtype in ("i8", "i16")
                if small and (inputs or vector not in current) and vector not in still:
                    found[vector] = None
        table[stage.name] = list(found)
    return table


def _groups(graph: Graph, operands: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Sent vector -> the names that share its step: a state has the levels of what it becomes."""
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in operands}
    becomes = {state.name: state.next for state in graph.states}
    for name in list(groups):
        if name not in becomes:
            continue
        joined = tuple(dict.fromkeys([*groups[name], *groups.get(becomes[name], (becomes[name],))]))
        for member in joined:
            groups[member] = joined
    return groups


def measured(program: Program, groups: Mapping[str, Mapping[str, tuple[str, ...]]], data: Data) -> dict[Key, Any]:
    """(stage, name) -> the largest size of each of its elements on the data, where its guards hold."""
    wanted = {(stage, name) for stage, found in groups.items() for name in found}
    largest: dict[Key, np.ndarray] = {}

    def observe(stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        if (stage, name) not in wanted:
            return
        seen = array[active] if len(array) == len(active) else array if active.any() else array[:0]
        if len(seen):
            top = np.abs(seen.astype(np.int64)).max(axis=0)
            largest[stage, name] = np.maximum(largest.get((stage, name), 0), top)

    for start in range(0, data.samples, _BATCH):
        part = slice(start, start + _BATCH)
        lengths = None if data.lengths is None else data.lengths[part]
        run(program, {n: a[part] for n, a in data.inputs.items()}, lengths, observe=observe)
    return largest


# -- writing -----------------------------------------------------------------------------------------------------------


class _Writer:
    """One stage's graph with its vectors in levels."""

    def __init__(
        self, stage: Stage, how: SigmaDelta, groups: Mapping[str, tuple[str, ...]], ranges: Mapping[Key, Any],
        finals: set[tuple[str | None, str]],
    ) -> None:  # fmt: skip
        self.stage, self.graph, self.how, self.groups, self.ranges = stage, stage.graph, how, groups, ranges
        self.finals = finals
        self.types: dict[str, Any] = dict(stage.graph.types())
        self.names = Names(self.types)
        self.params: dict[str, Param] = dict(stage.graph.params)
        self.values: list[Value] = []
        self.states: list[State] = []
        self.level: dict[str, str] = {}
        self.sent: list[str] = []
        self.levels: dict[str, int] = {}
        self._shortened: dict[str, str] = {}

    def run(self, operands: list[str]) -> Graph:
        products = products_of(self.graph)
        self._consts = {v.name: v for v in self.graph.values if v.op == "const"}
        ahead = [s for s in self.graph.states if s.name in operands and self._constant_start(s)]
        for state in ahead:
            self._open_state(state)
        for value in self.graph.values:
            if value.op == "affine" or value.name in products:
                self._sum(value, products.get(value.name), operands)
            elif value.op == "requantize":
                self.values.append(replace(value, args=(value.args[0], self._short(value.args[1]))))
            else:
                self.values.append(value)
        for state in ahead:
            self._close_state(state)
        return self._pruned()

    def _pruned(self) -> Graph:
        """Without states that only their levels are read of."""
        graph = replace(
            self.graph, values=tuple(self.values), params=self.params, states=(*self.graph.states, *self.states)
        )
        while True:
            graph = prune(graph)
            read = {*graph.outputs.values(), *(a for v in graph.values for a in v.args)}
            read |= {n for s in graph.states for n in (s.next, s.when) if n and n != s.name}
            kept = tuple(s for s in graph.states if s.name in read or (self.stage.name, s.name) in self.finals)
            kept = tuple(s for s in graph.states if s in kept or s.name in self.stage.state_from)
            if len(kept) == len(graph.states):
                return graph
            graph = replace(graph, states=kept)

    # -- levels --------------------------------------------------------------------------------------------------------

    def _constant_start(self, state: State) -> bool:
        return state.name not in self.stage.state_from

    def _numbers(self, name: str) -> tuple[np.ndarray, int, np.ndarray, int, int]:
        """Multipliers, shift, steps, levels and largest range of a sent vector."""
        members = self.groups[name]
        size = self.types[name].shape[0]
        found = [self.ranges[self.stage.name, m] for m in members if (self.stage.name, m) in self.ranges]
        reach = np.max(found, axis=0) if found else np.zeros(size, np.int64)
        wanted = [
            self.how.named[f"{self.stage.name}.{m}"] for m in members if f"{self.stage.name}.{m}" in self.how.named
        ]
        levels = max(wanted, default=self.how.levels)
        mult, pre, step = level_multipliers(np.broadcast_to(reach, (size,)), levels)
        self.levels |= {m: levels for m in members if m in self.groups}
        return mult, pre, step, levels, int(reach.max(initial=0)) or levels

    def _open_state(self, state: State) -> None:
        mult, pre, step, levels, _ = self._numbers(state.name)
        name = self.names.fresh(f"{state.name}.level")
        type_ = self._level_type(state.name, step, levels)
        init = None
        if state.init is not None:
            start = self.params[state.init].data.astype(np.int64)
            whole = ((start << pre) * mult.astype(np.int64) + (1 << 31)) >> 32
            init = self._param(f"{name}.init", np.clip(whole, -levels, levels).astype(type_.numpy), type_.quant)
        self.level[state.name] = name
        self.types[name] = type_
        self.sent.append(name)
        self.states.append(State(name, type_, "", init, state.when))

    def _close_state(self, state: State) -> None:
        at = next(i for i, s in enumerate(self.states) if s.name == self.level[state.name])
        self.states[at] = replace(self.states[at], next=self._level_of(state.next, send=False))

    def _level_type(self, name: str, step: np.ndarray, levels: int) -> TensorType:
        quant = self.types[name].quant
        if quant is not None:
            scale = quant.array * step
            quant = Quant(tuple(np.broadcast_to(scale, step.shape).tolist()), 0, 0)
        return TensorType(self.types[name].shape, "i8" if levels <= 127 else "i16", quant)

    def _level_of(self, name: str, send: bool = True) -> str:
        """The value that holds a vector's levels, written if it isn't yet."""
        if name not in self.level:
            mult, pre, step, levels, _ = self._numbers(name)
            type_ = self._level_type(name, step, levels)
            factor = self._param(f"{name}.level.mult", mult)
            low, high = int_range(self.types[name].dtype)
            ends = [int(((end << pre) * mult.astype(np.int64) + (1 << 31) >> 32).max()) for end in (-low, high)]
            if max(ends) <= levels:
                made = self._emit("requantize", (name, factor), f"{name}.level", type_, pre=pre, to=type_.dtype)
            else:
                made = self._emit("requantize", (name, factor), f"{name}.free", type_, pre=pre, to=type_.dtype)
                made = self._emit("min", (made, self._const(levels, type_.dtype)), f"{name}.below", type_)
                made = self._emit("max", (made, self._const(-levels, type_.dtype)), f"{name}.level", type_)
            self.level[name] = made
        made = self.level[name]
        if send and made not in self.sent:
            self.sent.append(made)
        return made

    # -- sums ----------------------------------------------------------------------------------------------------------

    def _sum(self, value: Value, pairs: list[tuple[str, str]] | None, operands: list[str]) -> None:
        """An affine as products that are added, those of sent vectors in levels."""
        if pairs is None:
            pairs = list(zip(value.args[:-1:2], value.args[1:-1:2], strict=True))
        terms = [self._product(value, w, v, v in operands) for w, v in pairs]
        if value.op == "affine" and not self._is_zero(value.args[-1]):
            terms.append(value.args[-1])
        total = terms[0]
        for i, term in enumerate(terms[1:], 2):
            last = i == len(terms)
            total = self._emit("add", (total, term), value.name if last else f"{value.name}.part", last=last)
        if len(terms) == 1:
            made = self.values.pop()
            self.values.append(replace(made, name=value.name))

    def _product(self, value: Value, weights: str, vector: str, sent: bool) -> str:
        if not sent:
            return self._emit("matmul", (weights, vector), f"{value.name}.{weights}")
        _, _, step, levels, size = self._numbers(vector)
        level = self._level_of(vector)
        old = self.params[weights]
        whole, f = level_weights(old.data, step, levels, size, self.how.weight_bits)
        made = self._emit("matmul", (self._param(f"{weights}.level", whole), level), f"{value.name}.{weights}")
        if (f == 1).all():
            return made
        return self._emit("mul", (made, self._param(f"{weights}.factor", f)), f"{value.name}.{weights}.scaled")

    def _is_zero(self, name: str) -> bool:
        return name in self.params and not self.params[name].data.any()

    # -- pieces --------------------------------------------------------------------------------------------------------

    def _emit(
        self, op: str, args: tuple[str, ...], stem: str, type_: TensorType | None = None, *, last: bool = False,
        **attrs: Any,
    ) -> str:  # fmt: skip
        name = stem if last else self.names.fresh(stem)
        made = type_ or infer(op, [self.types[a] for a in args], attrs)
        self.types[name] = made
        self.values.append(Value(name, op, args, attrs, made))
        return name

    def _param(self, stem: str, data: np.ndarray, quant: Quant | None = None) -> str:
        name = self.names.fresh(stem)
        self.params[name] = Param.of(data, quant)
        self.types[name] = self.params[name].type
        return name

    def _const(self, value: int, dtype: str) -> str:
        for known in self.values:
            if known.op == "const" and known.attrs == {"value": value, "dtype": dtype}:
                return known.name
        return self._emit("const", (), "const", value=value, dtype=dtype)

    def _short(self, name: str) -> str:
        """A multiplier of 20 significant bits."""
        if name not in self._shortened:
            self._shortened[name] = name
            data = self.params[name].data if name in self.params else None
            if name in self._consts:
                data = np.asarray(self._consts[name].attrs["value"])
            if data is None:
                raise UnsupportedError(
                    f"%{name}, a multiplier, is computed; needed a constant.",
                    place=self.stage.name,
                    hint="Compile it for a board.",
                )
            cut = short(data)
            if (cut != data).any():
                self._shortened[name] = self._param(f"{name}.short", cut)
        return self._shortened[name]
