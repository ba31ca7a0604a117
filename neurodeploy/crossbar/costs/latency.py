"""How long a step takes on crossbars: what waits for what, on arrays that work side by side.

A read of a tile applies its inputs in ``cycles`` serial pulses, and its converters take their bit lines in turn, in
``rounds``. With a sample-and-hold the next pulse runs while the last one is converted::

    latency  = pulse + (cycles - 1) max(pulse, rounds conversion) + rounds conversion
    interval = cycles max(pulse, rounds conversion)

without one every round needs a pulse of its own: both are ``cycles rounds (pulse + conversion)``. Tiles of a matrix are
read side by side, vectors and matrices that share an array one after the other.

A digital operation takes a cycle of the clock on one of ``lanes``: one for each value at the low end, a single one at
the high end, where the target doesn't say how many there are. The low end lets values wait for their arguments only;
the high end does no digital work while arrays are read. Both follow the path that takes longest at the high end of the
conversions' times, so the low end is a lower bound and the high end an upper one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.costs.work import Work
from neurodeploy.crossbar.mapping.tiles import Matrix, Tile
from neurodeploy.ir.graph import Graph

PARTS = ("array", "adc", "digital")
#: Stands for the lanes among the arrays.
LANES = -1


@dataclass(frozen=True)
class Timing:
    """Seconds of a pulse, of a conversion [low, high] and of a clock cycle, and how reads are organised.

    ``lanes``: values of the digital part in one cycle, None where the target doesn't say.
    """

    pulse: float
    conversion: tuple[float, float]
    clock: float
    cycles: int
    columns_per_adc: int
    sample_and_hold: bool
    lanes: int | None


@dataclass(frozen=True)
class Span:
    """Seconds by part: pulses, conversions, digital operations."""

    array: float = 0.0
    adc: float = 0.0
    digital: float = 0.0

    def __add__(self, other: Span) -> Span:
        return Span(self.array + other.array, self.adc + other.adc, self.digital + other.digital)

    @property
    def seconds(self) -> float:
        """All parts together."""
        return self.array + self.adc + self.digital


@dataclass(frozen=True)
class Steps:
    """``latency`` of a step, by part along its longest path. ``sequence``: after how long the next step of the same
    sequence can begin. ``busy``: seconds in which each array is read, and the lanes (:data:`LANES`) compute."""

    latency: Span
    sequence: float
    busy: Mapping[int, float]


def rounds(matrix: Matrix, tile: Tile, columns_per_adc: int) -> int:
    """Conversions that the busiest converter makes one after the other for one pulse of a tile.

    Each serves that many neighbouring bit lines from the array's first one on; a pair's difference is converted where
    its first line is.
    """
    plus, _ = matrix.lines(tile)
    return int(np.bincount(plus.reshape(-1) // columns_per_adc).max())


def read(matrix: Matrix, timing: Timing, conversion: float) -> tuple[Span, float]:
    """Latency and interval of reading a matrix once: its slowest tile, every vector."""
    turns = max(rounds(matrix, tile, timing.columns_per_adc) for tile in matrix.tiles)
    convert = turns * conversion
    repeats = matrix.vectors * timing.cycles
    if timing.sample_and_hold:
        beat = max(timing.pulse, convert)
        more = (repeats - 1) * beat
        slower = Span(array=more) if timing.pulse >= convert else Span(adc=more)
        return Span(array=timing.pulse, adc=convert) + slower, repeats * beat
    span = Span(array=repeats * turns * timing.pulse, adc=repeats * convert)
    return span, span.seconds


def schedule(
    graph: Graph, matrices: Mapping[str, Matrix], work: Mapping[str, Work], timing: Timing
) -> tuple[Steps, Steps]:
    """A step of a stage at the low and the high end.

    ``matrices``: crossbar value -> its matrix; ``work``: value -> its digital operations.
    """
    most = 1 if timing.lanes is None else timing.lanes
    serial = sum(_cycles(w, most) for w in work.values()) * timing.clock
    low_end, high_end = (_Reads(matrices, work, timing, conversion) for conversion in timing.conversion)
    path = _longest(graph, high_end)
    latencies = [total(end.span(*node) for node in path) for end in (low_end, high_end)]
    latencies[1] = Span(latencies[1].array, latencies[1].adc, max(serial, latencies[1].digital))
    busy = [{**end.busy(), LANES: serial} for end in (low_end, high_end)]
    if timing.lanes is None:
        del busy[0][LANES]
    loops = (_loop(graph, low_end, True), _loop(graph, high_end, False) + serial * bool(graph.states))
    low, high = (
        Steps(latency, max([loop, *seconds.values()]), seconds)
        for latency, loop, seconds in zip(latencies, loops, busy, strict=True)
    )
    return low, high


def interval(stages: Iterable[Steps]) -> float:
    """After how long a step of every stage can begin again: the busiest array, or the lanes, are free."""
    found: dict[int, float] = {}
    for steps in stages:
        for array, seconds in steps.busy.items():
            found[array] = found.get(array, 0.0) + seconds
    return max(found.values(), default=0.0)


@dataclass(frozen=True)
class _Reads:
    """What each value takes at one end."""

    matrices: Mapping[str, Matrix]
    work: Mapping[str, Work]
    timing: Timing
    conversion: float

    def span(self, value: str, reading: bool) -> Span:
        """Its read, or its digital operations on as many lanes as there are."""
        if not reading:
            return Span(digital=_cycles(self.work[value], self.timing.lanes) * self.timing.clock)
        matrix = self.matrices.get(value)
        return Span() if matrix is None else read(matrix, self.timing, self.conversion)[0]

    def arrays(self, value: str) -> set[int]:
        """The arrays that it reads."""
        matrix = self.matrices.get(value)
        return set() if matrix is None else {tile.array for tile in matrix.tiles}

    def busy(self) -> dict[int, float]:
        """Seconds of a step in which each array is read."""
        found: dict[int, float] = {}
        for name, matrix in self.matrices.items():
            _, seconds = read(matrix, self.timing, self.conversion)
            for array in self.arrays(name):
                found[array] = found.get(array, 0.0) + seconds
        return found


def total(spans: Iterable[Span]) -> Span:
    """All of them, one after the other."""
    found = Span()
    for span in spans:
        found = found + span
    return found


def _cycles(work: Work, lanes: int | None) -> int:
    if not work.all:
        return 0
    return 1 if lanes is None else math.ceil(work.all / lanes)


def _longest(graph: Graph, reads: _Reads) -> list[tuple[str, bool]]:
    """What a step waits for, in order: a value's read (True) or its digital operations (False).

    A read starts when its arguments are there and its arrays are free of other reads.
    """
    done: dict[tuple[str, bool], tuple[float, tuple[str, bool] | None]] = {}
    free: dict[int, tuple[str, bool]] = {}
    for value in graph.values:
        before = [(a, False) for a in value.args if (a, False) in done]
        arrays = reads.arrays(value.name)
        before += [free[array] for array in arrays if array in free]
        for part in (True, False):
            last = max(before, key=lambda node: done[node][0], default=None)
            start = 0.0 if last is None else done[last][0]
            done[value.name, part] = (start + reads.span(value.name, part).seconds, last)
            before = [(value.name, True)]
        free.update(dict.fromkeys(arrays, (value.name, True)))
    at = max(done, key=lambda node: done[node][0], default=None)
    path: list[tuple[str, bool]] = []
    while at is not None:
        path.append(at)
        at = done[at][1]
    return path[::-1]


def _loop(graph: Graph, reads: _Reads, digital: bool) -> float:
    """The largest mean time round a cycle of states, by dependencies alone (Karp, Discrete Math. 23, 1978).

    ``digital``: with the digital operations of each value.
    """
    own = {}
    for value in graph.values:
        own[value.name] = reads.span(value.name, True).seconds + digital * reads.span(value.name, False).seconds
    edges: list[list[float]] = []
    for state in graph.states:
        longest = {state.name: 0.0}
        for value in graph.values:
            before = [longest[a] for a in value.args if a in longest]
            if before:
                longest[value.name] = max(before) + own[value.name]
        edges.append([longest.get(other.next, -math.inf) for other in graph.states])
    return _cycle_mean(edges)


def _cycle_mean(edges: Sequence[Sequence[float]]) -> float:
    """The largest mean weight of a cycle of a graph, ``edges[i][j]`` from i to j (-inf for none); 0 without a cycle."""
    n = len(edges)
    walks = [[0.0] * n]
    for _ in range(n):
        last = walks[-1]
        walks.append([max(last[i] + edges[i][j] for i in range(n)) for j in range(n)])
    means = [
        min((walks[n][j] - walks[k][j]) / (n - k) for k in range(n) if walks[k][j] > -math.inf)
        for j in range(n)
        if walks[n][j] > -math.inf
    ]
    return max(means, default=0.0)
