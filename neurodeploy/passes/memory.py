"""Memory: in which order a step's work is done, and where every value lies meanwhile.

- A state is updated *in place* by whatever computes its next value, if every other read of the old value can come
  before; else the new value is copied at the end, through scratch where states swap.
- ``put`` on a state stores one row; a delay line (``shift``, or a state with room behind it) moves in place. A line is
  moved rather than turned as a ring because whoever reads it, reads it whole and in order, and because a state then
  means the same wherever it lies.
- An output is written straight to the caller's memory once no input is read any more: ``in`` and ``out`` may overlap.
- What is left lies in scratch, where values that are not alive together share bytes; a loop may write a vector over one
  that it reads for the last time. Where RAM matters most, an output's own memory is scratch until it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import NUMPY_DTYPES
from neurodeploy.passes.fuse import Call, Fused, Item, Loop, View

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


def plan(
    fused: Fused,
    workspace: Callable[[Value], tuple[str, int] | None] = lambda value: None,
    *,
    small: bool = False,
) -> Plan:
    """Order the work of a step and give everything its place.

    ``small``: an output's memory serves as scratch until the output is written.
    ``workspace(value)``: dtype and count of what a call needs while it runs; it gets a buffer ``NAME.work``.
    """
    return _Planner(fused, workspace, small).plan()


class _Planner:
    def __init__(self, fused: Fused, workspace: Callable[[Value], tuple[str, int] | None], small: bool = False) -> None:
        self.workspace, self.small = workspace, small
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
            onto_itself = self._base(self._copy(number).source) == name and not self._moves_down(number)
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

    def _moves_down(self, number: int) -> bool:
        """Whether a commit moves rows that lie behind a state's own to its front: an overlap that does no harm."""
        view = self.fused.views[self._copy(number).source]
        return view.contiguous and view.offset > 0

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

    def _pointed(self) -> set[str]:
        """Bases that calls read as vectors: a scalar among them has to lie in memory, in its own type."""
        calls = [node for node in self.nodes.values() if isinstance(node.action, Call)]
        return {self._base(name) for node in calls for name in node.reads if self.fused.views[name].shape}

    def _finish(self, order: list[int]) -> Plan:
        actions = tuple(self.nodes[n].action for n in order)
        written, read = self._lives(order)
        shapes: dict[str, tuple[str, int]] = {}
        pointed = self._pointed()
        for name in written:
            if name in self.places:
                continue
            type_ = self.types[self.saved.get(name, name)]
            if not type_.shape and name not in self.saved and name not in pointed:  # type: ignore[union-attr]
                self.places[name] = Place("local", name)
                continue
            self.places[name] = Place("scratch", name)
            shapes[name] = (type_.dtype, max(1, type_.size))  # type: ignore[union-attr]
        lives = {n: self._life(n, written[n], read.get(n, written[n]), actions) for n in shapes}
        for name in self._into_outputs(shapes, lives, actions) if self.small else ():
            del lives[name]
        wanted = {n: (*shapes[n], *life) for n, life in lives.items()}
        for i, action in enumerate(actions):
            work = self.workspace(action.value) if isinstance(action, Call) else None
            if work is not None:
                wanted[f"{action.value.name}.work"] = (*work, 2 * i, 2 * i + 1)  # type: ignore[union-attr]
        buffers, total = _allocate(wanted)
        stores = {name: tuple(places) for name, places in self.stores.items()}
        return Plan(self.fused, actions, self.places, stores, buffers, total)

    def _life(self, name: str, first: int, last: int, actions: Sequence[Action]) -> tuple[int, int]:
        """From when to when a base is alive, in half actions: a loop reads an element before it writes one."""
        begin = 2 * first + (1 if self._by_element(name, actions[first]) else 0)
        return begin, max(2 * last + (0 if self._by_element(name, actions[last]) else 1), begin)

    def _by_element(self, name: str, action: Action) -> bool:
        """Whether an action is a loop that takes every element of a base in the order in which they lie."""
        if not isinstance(action, Loop) or name in self.saved:
            return False
        mentioned = [n for v in action.values for n in (v.name, *v.args) if self._base(n) == name]
        whole = View.whole(name, action.shape)
        return bool(mentioned) and all(self.fused.views[n] == whole for n in mentioned)

    def _into_outputs(
        self, shapes: Mapping[str, tuple[str, int]], lives: Mapping[str, tuple[int, int]], actions: Sequence[Action]
    ) -> list[str]:
        """Give values the memory of outputs that are written when they are no longer needed."""
        reads_in = [i for i, a in enumerate(actions) if any(b in self.graph.inputs for b in self._bases(a))]
        free = 2 * max(reads_in, default=-1) + 2
        moved: list[str] = []
        for out, source in self._direct_outputs():
            type_, writer = self.graph.tensor(source), next(i for i, a in enumerate(actions) if self._makes(a, source))
            view_is_whole = self.fused.views[source] == View.whole(source, type_.shape)
            if not type_.shape or actions[writer].guard or not view_is_whole or isinstance(actions[writer], Copy):
                continue
            end = 2 * writer - 1 + (1 if isinstance(actions[writer], Loop) else 0)
            for name in sorted(lives, key=lambda n: (-shapes[n][1], lives[n])):
                begin, last = lives[name]
                if name in moved or name in self.saved or shapes[name] != (type_.dtype, type_.size):
                    continue
                used = any(self._makes(a, name) and a.guard for a in actions)
                if begin >= free and last <= end and not used:
                    self.places[name] = Place("out", out)
                    moved.append(name)
                    free = last + 1
        return moved

    def _direct_outputs(self) -> list[tuple[str, str]]:
        """Outputs that are stored by what computes them, and the value of each."""
        found = [(p.name, n) for n, p in self.places.items() if p.kind == "out"]
        return found + [(p.name, n) for n, places in self.stores.items() for p in places if p.kind == "out"]

    def _makes(self, action: Action, name: str) -> bool:
        return not isinstance(action, Copy) and any(self._base(v.name) == name for v in action.values)

    def _bases(self, action: Action) -> set[str]:
        names = [action.source, *action.guard] if isinstance(action, Copy) else self.fused.reads(action)
        return {self._base(n) for n in names}

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
    """Offsets in scratch: largest first, each at the lowest place that is free while it lives (in half actions)."""
    placed: list[tuple[Buffer, int, int, int]] = []
    sizes = {n: count * np.dtype(NUMPY_DTYPES[dtype]).itemsize for n, (dtype, count, _, _) in wanted.items()}
    for name in sorted(wanted, key=lambda n: (-sizes[n], wanted[n][2], n)):
        dtype, count, first, last = wanted[name]
        align = max(4, np.dtype(NUMPY_DTYPES[dtype]).itemsize)
        offset = 0
        for other, begin, end, size in sorted(placed, key=lambda p: p[0].offset):
            alive = begin <= last and first <= end
            # One loop reads the one and writes the other: element by element, if they are the very same bytes.
            meet = begin // 2 == last // 2 or first // 2 == end // 2
            apart = offset >= other.offset + size or other.offset >= offset + sizes[name]
            same = (offset, sizes[name]) == (other.offset, size)
            if not apart and (alive or (meet and not same)):
                offset = -(-(other.offset + size) // align) * align
        placed.append((Buffer(name, dtype, count, offset), first, last, sizes[name]))
    total = max((b.offset + size for b, _, _, size in placed), default=0)
    buffers = tuple(sorted((p[0] for p in placed), key=lambda b: (b.offset, b.name)))
    return buffers, -(-total // 4) * 4
