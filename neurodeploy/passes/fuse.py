"""Fusion: what becomes one loop, what is only another way to look at memory, and what is a call of its own.

Slices, reshapes, transposes and broadcasts become :class:`View` (an offset and strides into what they look at), a
``concat`` becomes the place that its parts are written to, and chains of elementwise values of one shape become one
:class:`Loop`, in which a value lives in a register unless somebody outside needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from neurodeploy.ir.graph import Graph, Value, prune
from neurodeploy.passes.views import View, is_elementwise, push_slices, region_guards, resolve_views, sources


@dataclass(frozen=True)
class Loop:
    """Elementwise values of one shape, computed together element by element, in this order."""

    values: tuple[Value, ...]
    guard: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values[0].tensor.shape


@dataclass(frozen=True)
class Call:
    """Any other value: a piece of code of its own."""

    value: Value
    guard: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Value, ...]:
        return (self.value,)


Item = Loop | Call


@dataclass(frozen=True)
class Fused:
    """A graph as work to be done.

    ``views``: where every name's elements lie. ``source``: name -> the computed value that it is just another name
    for. ``needs``: name -> the computed values that must be there before it can be read. ``items`` in some right order.
    """

    graph: Graph
    views: Mapping[str, View]
    source: Mapping[str, str]
    needs: Mapping[str, frozenset[str]]
    items: tuple[Item, ...]

    def reads(self, item: Item) -> list[str]:
        """Names that an item reads from memory (not from its own registers), and its conditions."""
        own = {value.name for value in item.values}
        names = [arg for value in item.values for arg in value.args if self.source.get(arg) not in own]
        return list(dict.fromkeys([*names, *item.guard]))


def fuse(graph: Graph, contiguous: Callable[[Value], Mapping[int, int]] = lambda value: {}) -> Fused:
    """Fuse a graph of primitives.

    ``contiguous(value)`` names the arguments that must lie contiguously, with the alignment in elements that their
    offset must have; where they don't, a copy is put in front.
    """
    graph = replace(prune(push_slices(graph)), params=graph.params)  # params are also named by attributes
    graph, views = resolve_views(graph, contiguous)
    source, needs = sources(graph, views)
    conditions = region_guards(graph)
    items = _Grouping(graph, source, needs, conditions, views).items()
    return Fused(graph, views, source, needs, items)


# -- grouping ----------------------------------------------------------------------------------------------------------


@dataclass
class _Group:
    values: list[Value]
    guard: tuple[str, ...]
    registers: set[int] = field(default_factory=set)  # groups whose values are read element by element
    memory: set[int] = field(default_factory=set)  # groups whose values must be in memory before

    @property
    def before(self) -> set[int]:
        return self.registers | self.memory


class _Grouping:
    """Greedy fusion: each elementwise value joins the groups that feed it, unless that would close a circle."""

    def __init__(
        self,
        graph: Graph,
        source: Mapping[str, str],
        needs: Mapping[str, frozenset[str]],
        conditions: Mapping[str, tuple[str, ...]],
        views: Mapping[str, View],
    ) -> None:
        self.states = {state.name for state in graph.states}
        self.read_by: dict[tuple[View, tuple[int, ...]], set[int]] = {}
        self.part_of: dict[int, int] = {}
        self.groups: dict[int, _Group] = {}
        self.owner: dict[str, int] = {}
        self.position = {value.name: i for i, value in enumerate(graph.values)}
        for number, value in enumerate(v for v in graph.values if source.get(v.name) == v.name):
            group = _Group([value], conditions.get(value.name, ()))
            elementwise = is_elementwise(value)
            for arg in value.args:
                if elementwise and arg in source and self._same_shape(source[arg], value):
                    group.registers.add(self.owner[source[arg]])
                else:
                    group.memory |= {self.owner[n] for n in needs[arg] if n in self.owner}
            for condition in group.guard:
                group.memory |= {self.owner[n] for n in needs[condition] if n in self.owner}
            group.registers -= group.memory
            self.groups[number], self.owner[value.name] = group, number
            if elementwise:
                self._join(number, sorted(group.registers, reverse=True))
                self._join(number, self._siblings(number, value, views))

    def _siblings(self, number: int, value: Value, views: Mapping[str, View]) -> list[int]:
        """Loops of this shape that read one of the same states: states that read each other then move together."""
        if not value.tensor.shape:
            return []
        read = {views[arg] for arg in value.args if views[arg].base in self.states}
        found = {n for view in read for n in self.read_by.get((view, value.tensor.shape), set())}
        for view in read:
            self.read_by.setdefault((view, value.tensor.shape), set()).add(number)
        return sorted((self.moved(n) for n in found), reverse=True)

    def moved(self, number: int) -> int:
        """The group that a group has become part of."""
        while number in self.part_of:
            number = self.part_of[number]
        return number

    def _same_shape(self, name: str, value: Value) -> bool:
        group = self.groups[self.owner[name]]
        made = next(v for v in group.values if v.name == name)
        return is_elementwise(made) and made.tensor.shape == value.tensor.shape

    def _join(self, number: int, candidates: Sequence[int]) -> None:
        for other in candidates:
            group, feeds = self.groups[number], self.groups.get(other)
            if feeds is None or other == number or feeds.guard != group.guard or other in group.memory:
                continue
            if not is_elementwise(feeds.values[0]) or number in feeds.memory:
                continue
            if self._reaches(other, group.before - {other}) or self._reaches(number, feeds.before - {number}):
                continue
            group.values = feeds.values + group.values
            group.registers = (group.registers | feeds.registers) - {other, number}
            group.memory |= feeds.memory
            group.registers -= group.memory
            del self.groups[other]
            self.part_of[other] = number
            for value in feeds.values:
                self.owner[value.name] = number
            for third in self.groups.values():
                for links in (third.registers, third.memory):
                    if other in links:
                        links.discard(other)
                        links.add(number)

    def _reaches(self, target: int, start: set[int]) -> bool:
        """Whether one of ``start`` needs ``target``, directly or not (or is it)."""
        seen: set[int] = set()
        stack = list(start)
        while stack:
            number = stack.pop()
            if number == target:
                return True
            if number not in seen:
                seen.add(number)
                stack.extend(self.groups[number].before)
        return False

    def items(self) -> tuple[Item, ...]:
        """The groups in an order of dependency."""
        made: dict[int, Item] = {}

        def visit(number: int) -> None:
            if number in made:
                return
            group = self.groups[number]
            for other in sorted(group.before):
                visit(other)
            group.values.sort(key=lambda value: self.position[value.name])
            single = len(group.values) == 1 and not is_elementwise(group.values[0])
            made[number] = Call(group.values[0], group.guard) if single else Loop(tuple(group.values), group.guard)

        for number in sorted(self.groups):
            visit(number)
        return tuple(made.values())
