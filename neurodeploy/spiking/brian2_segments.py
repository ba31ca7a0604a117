"""Where the vectors of a step program are cut, so that slices and concatenations vanish.

Slicing commutes with everything elementwise and with the rows of a product. So each vector is cut wherever a slice or a
concatenation of it, or of what is computed with it, has an end; every piece is then computed by itself, and a slice or
a concatenation is but another name of pieces. The gates of a GRU become variables of the same units.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.spiking.brian2_ops import MOVES, RULES

#: (name, first element, one past its last).
Piece = tuple[str, int, int]


class Segments:
    """The pieces of every name of a graph.

    Raises :class:`UnsupportedError` for a slice with a step, whose elements don't stand side by side.
    """

    def __init__(self, graph: Graph, place: str) -> None:
        self.graph, self.place = graph, place
        self.values: Mapping[str, Value] = {value.name: value for value in graph.values}
        self.sizes = {name: int(np.prod(t.shape)) for name, t in graph.types().items()}  # type: ignore[union-attr]
        self._cuts: dict[str, set[int]] = {name: {0, size} for name, size in self.sizes.items()}
        before = -1
        while before != (before := sum(map(len, self._cuts.values()))):
            for value in graph.values:
                self._meet(value)
            for state in graph.states:
                self._join([state.name, state.next])

    def of(self, name: str) -> list[Piece]:
        """The pieces of a name, in order."""
        cuts = sorted(self._cuts[name])
        return [(name, a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]

    def source(self, piece: Piece) -> Piece:
        """The piece that is computed, of which a slice's or a concatenation's piece is another name."""
        name, a, b = piece
        value = self.values.get(name)
        if value is None or value.op not in MOVES:
            return piece
        if value.op == "slice":
            start = self._bounds(value)[0]
            return self.source((value.args[0], a + start, b + start))
        if value.op == "concat":
            for arg, offset in self._offsets(value):
                if offset <= a and b <= offset + self.sizes[arg]:
                    return self.source((arg, a - offset, b - offset))
        if self.sizes[value.args[0]] == 1:
            return self.source((value.args[0], 0, 1))
        return self.source((value.args[0], a, b))

    def _bounds(self, value: Value) -> tuple[int, int]:
        shape = self.graph.tensor(value.args[0]).shape
        _, start, stop, step = slice_bounds(value.attrs, shape)
        if step != 1 or len(shape) != 1:
            raise UnsupportedError(
                f"%{value.name} (slice) takes every {step}th element of shape {list(shape)}; needed neighbours of [n].",
                place=self.place,
                hint="Run it with snnTorch (target snntorch-sigma-delta) or with the runner reference.",
            )
        return start, stop

    def _offsets(self, value: Value) -> list[tuple[str, int]]:
        ends = np.cumsum([0, *(self.sizes[arg] for arg in value.args)]).tolist()
        return list(zip(value.args, ends[:-1], strict=True))

    def _meet(self, value: Value) -> None:
        if value.op == "slice":
            start, stop = self._bounds(value)
            self._shift(value.args[0], value.name, start, stop)
        elif value.op == "concat":
            for arg, offset in self._offsets(value):
                self._shift(value.name, arg, offset, offset + self.sizes[arg])
        elif value.op in RULES or value.op in MOVES:
            args = value.args[:1] if value.op == "lut" else value.args
            self._join([value.name, *args])

    def _join(self, names: list[str]) -> None:
        """One set of cuts for all that have the first one's size."""
        same = [name for name in names if self.sizes[name] == self.sizes[names[0]]]
        cuts = set().union(*(self._cuts[name] for name in same))
        for name in same:
            self._cuts[name] = set(cuts)

    def _shift(self, whole: str, part: str, start: int, stop: int) -> None:
        """Exchange cuts between a vector and a part of it."""
        inside = {cut for cut in self._cuts[whole] if start <= cut <= stop} | {c + start for c in self._cuts[part]}
        self._cuts[whole] |= inside
        self._cuts[part] |= {cut - start for cut in inside}
