"""Memory: in which order a step's work is done, and where every value lies meanwhile.

- A state is updated *in place* by whatever computes its next value, if every other read of the old value can come
  before; else the new value is copied at the end, through scratch where states swap.
- ``put`` on a state stores one row; a delay line (``shift``) moves in place. A line is moved rather than turned as a
  ring because whoever reads it, reads it whole and in order, and because a state then means the same wherever it lies.
- An output is written straight to the caller's memory once no input is read any more: ``in`` and ``out`` may overlap.
- What is left lies in scratch, where values that are not alive together share bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import NUMPY_DTYPES
from neurodeploy.passes.fuse import Call, Fused, Item, Loop

ROW_STORES = ("put", "shift")


@dataclass(frozen=True)
class Place:
    """Where a base lies. ``kind``: ``in``, ``state``, ``out``, ``const``, ``scratch`` or ``local`` (a scalar)."""

    kind: str
    name: str


@dataclass(frozen=True)
class Copy:
    """Copy a value to a state, an output, or (``scratch``) to where it outlives the state that it is read from.

    ``saved``: the scratch name of such a copy, that is read in place of the state below ``source``.
    """

    source: str
    to: Place
    guard: tuple[str, ...] = ()
    saved: str = ""


Action = Item | Copy


@dataclass(frozen=True)
class Buffer:
    """One value's place in scratch, in bytes."""

    name: str
    dtype: str
    count: int
    offset: int


@dataclass(frozen=True)
class Plan:
    """A step's schedule and memory.

    ``places``: base -> where it lies. ``stores``: value -> places that get it besides its own.
    """

    fused: Fused
    actions: tuple[Action, ...]
    places: Mapping[str, Place]
    stores: Mapping[str, tuple[Place, ...]]
    buffers: tuple[Buffer, ...]
    scratch_bytes: int

    def in_place(self) -> set[str]:
        """States that are updated where they lie."""
        return {p.name for n, p in self.places.items() if p.kind == "state" and n != p.name}


@dataclass
class _Node:
    """One action while its order is still open."""

    action: Action
    reads: tuple[str, ...]
    after: set[int] = field(default_factory=set)


def plan(fused: Fused, workspace: Callable[[Value], tuple[str, int] | None] = lambda value: None) -> Plan:
    """Order the work of a step and give everything its place.

    ``workspace(value)``: dtype and count of what a call needs while it runs; it gets a buffer ``NAME.work``.
    """
    return _Planner(fused, workspace).plan()


class _Planner:
    def __init__(self, fused: Fused, workspace: Callable[[Value], tuple[str, int] | None]) -> None:
        self.workspace = workspace
        self.fused, self.graph = fused, fused.graph
        self.types = fused.graph.types()
        self.places: dict[str, Place] = {name: Place("in", name) for name in self.graph.inputs}
        self.places.update((name, Place("const", name)) for name in self.graph.params)
        self.places.update((state.name, Place("state", state.name)) for state in self.graph.states)
        self.nodes: dict[int, _Node] = {}
        self.numbers = count()
        self.maker: dict[str, int] = {}
        self.stores: dict[str, list[Place]] = {}
        self.saved: dict[str, str] = {}

    def plan(self) -> Plan:
        for item in self.fused.items:
            number = self._add(item, self.fused.reads(item))
            self.maker.update((value.name, number) for value in item.values)
        for number in list(self.nodes):
            self._wait_for_reads(number)
        direct = self._output_copies()
        self.shown = {source for _, source in direct}
        commits = self._commits()
        for state in self.graph.states:
            self._try_in_place(state.name, commits)
        order = self._order()
        order = self._place_outputs(order, direct)
        return self._finish(order)

    # -- nodes and their order ----------------------------------------------------------------------------------------

    def _add(self, action: Action, reads: Iterable[str]) -> int:
        number = next(self.numbers)
        self.nodes[number] = _Node(action, tuple(reads))
        return number

    def _wait_for_reads(self, number: int) -> None:
        node = self.nodes[number]
        for name in node.reads:
            node.after |= {self.maker[n] for n in self.fused.needs.get(name, ()) if n in self.maker} - {number}

    def _base(self, name: str) -> str:
        return self.fused.views[name].base

    def _readers(self, base: str, but: int) -> set[int]:
        return {n for n, node in self.nodes.items() if n != but and any(self._base(r) == base for r in node.reads)}

    def _order(self) -> list[int] | None:
        """A topological order that keeps to one guard while it can; None if there is a circle."""
        waiting = {n: set(node.after) for n, node in self.nodes.items()}
        order: list[int] = []
        guard: tuple[str, ...] = ()
        while waiting:
            ready = [n for n, after in waiting.items() if not after]
            if not ready:
                return None
            same = [n for n in ready if self.nodes[n].action.guard == guard]
            chosen = min(same or ready)
            guard = self.nodes[chosen].action.guard
            order.append(chosen)
            del waiting[chosen]
            for after in waiting.values():
                after.discard(chosen)
        return order

    def _try_edges(self, edges: Sequence[tuple[int, int]]) -> bool:
        """Add (before, after) edges if no circle closes."""
        new = [(a, b) for a, b in edges if a not in self.nodes[b].after]
        for before, after in new:
            self.nodes[after].after.add(before)
        if self._order() is not None:
            return True
        for before, after in new:
            self.nodes[after].after.discard(before)
        return False

    # -- outputs that are no fresh values -----------------------------------------------------------------------------

    def _output_copies(self) -> list[tuple[str, str]]:
        """Outputs that a computed value can be stored to; the others are copied, and that is a read like any other."""
        direct = []
        for out, name in self.graph.outputs.items():
            source = self.fused.source.get(name)
            if source is not None and self._base(source) == source:
                direct.append((out, source))
            else:
                node = self._add(Copy(name, Place("out", out)), [name])
                self._wait_for_reads(node)
        return direct

    # -- states -------------------------------------------------------------------------------------------------------

    def _commits(self) -> dict[str, int]:
        commits: dict[str, int] = {}
        for state in self.graph.states:
            if self.fused.views[state.next] == self.fused.views[state.name]:
                continue  # it holds what it has
            guard = (state.when,) if state.when else ()
            number = self._add(Copy(state.next, Place("state", state.name), guard), [state.next, *guard])
            self._wait_for_reads(number)
            commits[state.name] = number
        for name, number in commits.items():
            onto_itself = self._base(self._copy(number).source) == name
            if onto_itself or not self._try_edges(self._reads_first(name, number)):
                self._save(name, commits)
        return commits

    def _reads_first(self, state: str, writer: int) -> list[tuple[int, int]]:
        return [(reader, writer) for reader in self._readers(state, writer)]

    def _copy(self, number: int) -> Copy:
        action = self.nodes[number].action
        if not isinstance(action, Copy):
            raise AssertionError("no copy")
        return action

    def _save(self, name: str, commits: Mapping[str, int]) -> None:
        """Let commits that read an old state read a copy of it that is made before anything is overwritten."""
        saved = f"{name}.old"
        maker = self._add(Copy(name, Place("scratch", saved)), [name])
        self.saved[saved] = name
        for number in commits.values():
            copy, node = self._copy(number), self.nodes[number]
            if self._base(copy.source) == name:
                node.action = replace(copy, saved=saved)
                node.reads = copy.guard
                node.after.add(maker)
        if not self._try_edges(self._reads_first(name, commits[name])):
            raise AssertionError(f"state %{name} can't be ordered")  # the copy has opened every circle

    def _try_in_place(self, name: str, commits: dict[str, int]) -> None:
        state = next(s for s in self.graph.states if s.name == name)
        source = self.fused.source.get(state.next)
        if name not in commits or source is None or self._base(source) != source or source in self.places:
            return
        if self.fused.views[source] != self.fused.views[state.next]:
            return
        maker = self.maker[source]
        action = self.nodes[maker].action
        if (state.when and state.when not in action.guard) or not self._safe(action, source, name):
            return
        commit = self.nodes.pop(commits[name])
        for node in self.nodes.values():
            node.after.discard(commits[name])
        if not self._try_edges(self._reads_first(name, maker)):
            self.nodes[commits[name]] = commit
            return
        del commits[name]
        self.places[source] = Place("state", name)
        self._chain(source, name)

    def _safe(self, action: Action, source: str, state: str) -> bool:
        """Whether an item may overwrite the state that it reads: element by element, or row by row."""
        if isinstance(action, Loop):
            views = [self.fused.views[a] for value in action.values for a in value.args if self._base(a) == state]
            return all(view == self.fused.views[state] for view in views) and (
                not views or action.shape == self.fused.views[state].shape
            )
        if not isinstance(action, Call):
            return False
        args = action.value.args
        if action.value.op in ROW_STORES and self.fused.views[args[0]] == self.fused.views[state]:
            return all(self._base(a) != state for a in args[1:])
        return all(self._base(a) != state for a in args)

    def _chain(self, source: str, state: str) -> None:
        """Carry on backwards through rows stored one after the other in the same table."""
        value = self._value(source)
        while value.op in ROW_STORES:
            below = self.fused.source.get(value.args[0])
            if below is None or below in self.places or self._base(below) != below or below in self.shown:
                return
            lower, upper = self.maker[below], self.maker[value.name]
            action = self.nodes[lower].action
            if action.guard != self.nodes[upper].action.guard or not self._safe(action, below, state):
                return
            edges = self._reads_first(below, upper)
            edges += [(reader, lower) for reader in self._readers(state, lower) - {upper}]
            if not self._try_edges(edges):
                return
            self.places[below] = Place("state", state)
            value = self._value(below)

    def _value(self, name: str) -> Value:
        return next(v for v in self.nodes[self.maker[name]].action.values if v.name == name)  # type: ignore[union-attr]

    # -- outputs and scratch ------------------------------------------------------------------------------------------

    def _place_outputs(self, order: list[int] | None, direct: Sequence[tuple[str, str]]) -> list[int]:
        if order is None:
            raise AssertionError("the plan has a circle")
        last_read = max(
            (i for i, n in enumerate(order) if any(self._base(r) in self.graph.inputs for r in self.nodes[n].reads)),
            default=-1,
        )
        at = {n: i for i, n in enumerate(order)}
        for out, source in direct:
            action = self.nodes[self.maker[source]].action
            scalar = not self.fused.views[source].shape
            taken = source in self.places
            if at[self.maker[source]] <= last_read or (taken and not scalar and isinstance(action, Call)):
                order.append(self._add(Copy(source, Place("out", out)), [source]))
            elif taken or scalar:
                self.stores.setdefault(source, []).append(Place("out", out))
            else:
                self.places[source] = Place("out", out)
        return order

    def _finish(self, order: list[int]) -> Plan:
        actions = tuple(self.nodes[n].action for n in order)
        written, read = self._lives(order)
        shapes: dict[str, tuple[str, int]] = {}
        for name in written:
            if name in self.places:
                continue
            type_ = self.types[self.saved.get(name, name)]
            if not type_.shape and name not in self.saved:  # type: ignore[union-attr]
                self.places[name] = Place("local", name)
                continue
            self.places[name] = Place("scratch", name)
            shapes[name] = (type_.dtype, max(1, type_.size))  # type: ignore[union-attr]
        wanted = {n: (*shapes[n], written[n], read.get(n, written[n])) for n in shapes}
        for i, action in enumerate(actions):
            work = self.workspace(action.value) if isinstance(action, Call) else None
            if work is not None:
                wanted[f"{action.value.name}.work"] = (*work, i, i)  # type: ignore[union-attr]
        buffers, total = _allocate(wanted)
        stores = {name: tuple(places) for name, places in self.stores.items()}
        return Plan(self.fused, actions, self.places, stores, buffers, total)

    def _lives(self, order: Sequence[int]) -> tuple[dict[str, int], dict[str, int]]:
        """Base -> first action that writes it, base -> last one that reads it; only what has to be in memory."""
        written: dict[str, int] = {}
        read: dict[str, int] = {}
        for i, number in enumerate(order):
            node = self.nodes[number]
            for name in node.reads:
                read[self._base(name)] = i
            if isinstance(node.action, Copy):
                if node.action.to.kind == "scratch":
                    written[node.action.to.name] = i
                if node.action.saved:
                    read[node.action.saved] = i
        for i, number in enumerate(order):
            action = self.nodes[number].action
            if isinstance(action, Copy):
                continue
            for value in action.values:
                base = self._base(value.name)
                if isinstance(action, Call) or base != value.name or base in read:
                    written[base] = min(written.get(base, i), i)
        return written, read


def _allocate(wanted: Mapping[str, tuple[str, int, int, int]]) -> tuple[tuple[Buffer, ...], int]:
    """Offsets in scratch: largest first, each at the lowest place that is free while it lives."""
    placed: list[tuple[Buffer, int, int, int]] = []
    sizes = {n: count * np.dtype(NUMPY_DTYPES[dtype]).itemsize for n, (dtype, count, _, _) in wanted.items()}
    for name in sorted(wanted, key=lambda n: (-sizes[n], wanted[n][2], n)):
        dtype, count, first, last = wanted[name]
        align = max(4, np.dtype(NUMPY_DTYPES[dtype]).itemsize)
        offset = 0
        for other, begin, end, size in sorted(placed, key=lambda p: p[0].offset):
            if begin <= last and first <= end and offset < other.offset + size and other.offset < offset + sizes[name]:
                offset = -(-(other.offset + size) // align) * align
        placed.append((Buffer(name, dtype, count, offset), first, last, sizes[name]))
    total = max((b.offset + size for b, _, _, size in placed), default=0)
    buffers = tuple(sorted((p[0] for p in placed), key=lambda b: (b.offset, b.name)))
    return buffers, -(-total // 4) * 4
