"""How long a step takes on crossbars: what waits for what, on arrays that work side by side.

A read of a tile applies its inputs in ``cycles`` serial pulses, and its converters take their bit lines in turn, in
``rounds``. With a sample-and-hold the next pulse runs while the last one is converted::

    latency  = pulse + (cycles - 1) max(pulse, rounds conversion) + rounds conversion
    interval = cycles max(pulse, rounds conversion)

without one every round needs a pulse of its own: both are ``cycles rounds (pulse + conversion)``. Tiles of a matrix are
read side by side, vectors and matrices that share an array one after the other. A digital operation takes a cycle of
the clock: where the target doesn't say how many lanes there are, the low end has one for every value, the high end one
for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurodeploy.crossbar.costs_work import Work
from neurodeploy.crossbar.tiles import Matrix, Tile
from neurodeploy.ir.graph import Graph

PARTS = ("array", "adc", "digital")


@dataclass(frozen=True)
class Timing:
    """Seconds of a pulse, a conversion and a clock cycle at one end of their ranges, and how reads are organised.

    ``lanes``: values of the digital part in one cycle; None for as many as there are.
    """

    pulse: float
    conversion: float
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
    """``latency`` of a step, by part along its critical path. ``sequence``: after how long the next step of the same
    sequence can begin; ``interval``: the next step of any other sequence."""

    latency: Span
    sequence: float
    interval: float


def rounds(matrix: Matrix, tile: Tile, columns_per_adc: int) -> int:
    """Conversions that the busiest converter makes one after the other for one pulse of a tile.

    Each serves that many neighbouring bit lines from the array's first one on; a pair's difference is converted where
    its first line is.
    """
    plus, _ = matrix.lines(tile)
    counts: dict[int, int] = {}
    for line in plus.reshape(-1).tolist():
        counts[line // columns_per_adc] = counts.get(line // columns_per_adc, 0) + 1
    return max(counts.values())


def read(matrix: Matrix, timing: Timing) -> tuple[Span, float]:
    """Latency and interval of reading a matrix once: its slowest tile, every vector."""
    turns = max(rounds(matrix, tile, timing.columns_per_adc) for tile in matrix.tiles)
    convert = turns * timing.conversion
    if timing.sample_and_hold:
        beat = max(timing.pulse, convert)
        interval = timing.cycles * beat
        more = (matrix.vectors * timing.cycles - 1) * beat
        slower = Span(array=more) if timing.pulse >= convert else Span(adc=more)
        return Span(array=timing.pulse, adc=convert) + slower, matrix.vectors * interval
    repeats = matrix.vectors * timing.cycles
    span = Span(array=repeats * turns * timing.pulse, adc=repeats * convert)
    return span, span.seconds


def schedule(graph: Graph, matrices: Mapping[str, Matrix], work: Mapping[str, Work], timing: Timing) -> Steps:
    """A step of a stage. ``matrices``: crossbar value -> its matrix; ``work``: value -> its digital operations.

    Values start as soon as their arguments are there and their arrays, and lanes, are free, in the graph's order.
    """
    latency = max(_finish(graph, matrices, work, timing).values(), key=lambda span: span.seconds, default=Span())
    busy: dict[int, float] = {}
    for matrix in matrices.values():
        _, interval = read(matrix, timing)
        for array in {tile.array for tile in matrix.tiles}:
            busy[array] = busy.get(array, 0.0) + interval
    if timing.lanes is not None:
        busy[-1] = sum(_cycles(work[name], timing.lanes) for name in work) * timing.clock
    interval = max(busy.values(), default=0.0)
    return Steps(latency, max(_loop(graph, matrices, work, timing), interval), interval)


def _cycles(work: Work, lanes: int | None) -> int:
    if not work.all:
        return 0
    return 1 if lanes is None else math.ceil(work.all / lanes)


def _finish(graph: Graph, matrices: Mapping[str, Matrix], work: Mapping[str, Work], timing: Timing) -> dict[str, Span]:
    """When each value is there, counted from the step's start, by part along the path that it waited for."""
    done: dict[str, Span] = {}
    free: dict[int, Span] = {}
    nothing = Span()
    for value in graph.values:
        start = max((done.get(a, nothing) for a in value.args), key=lambda span: span.seconds, default=nothing)
        matrix = matrices.get(value.name)
        if matrix is not None:
            arrays = {tile.array for tile in matrix.tiles}
            start = max([start, *(free.get(a, nothing) for a in arrays)], key=lambda span: span.seconds)
            start = start + read(matrix, timing)[0]
            free.update(dict.fromkeys(arrays, start))
        cycles = _cycles(work[value.name], timing.lanes)
        if cycles:
            if timing.lanes is not None:
                start = max(start, free.get(-1, nothing), key=lambda span: span.seconds)
            start = start + Span(digital=cycles * timing.clock)
            if timing.lanes is not None:
                free[-1] = start
        done[value.name] = start
    return done


def _loop(graph: Graph, matrices: Mapping[str, Matrix], work: Mapping[str, Work], timing: Timing) -> float:
    """The largest mean time round a cycle of states, by dependencies alone (Karp, Discrete Math. 23, 1978)."""
    states = graph.states
    own = {
        value.name: (read(matrices[value.name], timing)[0].seconds if value.name in matrices else 0.0)
        + _cycles(work[value.name], timing.lanes) * timing.clock
        for value in graph.values
    }
    edges: list[list[float]] = []
    for state in states:
        longest = {state.name: 0.0}
        for value in graph.values:
            before = [longest[a] for a in value.args if a in longest]
            if before:
                longest[value.name] = max(before) + own[value.name]
        edges.append([longest.get(other.next, -math.inf) for other in states])
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
