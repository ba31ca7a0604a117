"""Which products share a matrix: decided by counting conversions.

Products of one vector are stacked along the outputs and share the vector's input converters. A sum ``W x + U h`` can be
one product ``[W U] [x; h]``: its outputs are converted once instead of twice, and one digital addition less is left;
but a vector that another matrix takes too is then converted for both. So sums that share a vector can lie in one
*block matrix*, whose outputs take some of its vectors only; cells of the others stay empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neurodeploy.passes.tiling_products import ONE, Product, Sum

Span = tuple[int, int]
Rectangle = tuple[Span, Span]  # inputs, outputs
Cost = tuple[int, int]  # conversions a step, tiles


@dataclass(frozen=True)
class Grid:
    """What one array takes: ``rows`` inputs, ``outputs`` of ``slices`` conversions each.

    ``blocks``: whether cells may stay empty within a matrix (a reference column hears every word line, so not there).
    """

    rows: int
    outputs: int
    slices: int = 1
    blocks: bool = True


@dataclass(frozen=True)
class Group:
    """Sums that one matrix gives, ordered along its outputs, over its vectors, ordered along its inputs."""

    sums: tuple[Sum, ...]
    vectors: tuple[Product, ...]  # the first product of each vector

    @classmethod
    def of(cls, sums: Sequence[Sum]) -> Group:
        """Vectors in the program's order; outputs so that each vector's lie together where two or three share."""
        vectors: dict[str, Product] = {}
        for product in sorted((p for s in sums for p in s.products), key=lambda p: p.order):
            vectors.setdefault(product.input, product)
        place = {name: i for i, name in enumerate(vectors)}

        def reach(one: Sum) -> tuple[int, int]:
            found = [place[p.input] for p in one.products]
            return min(found), max(found)

        return cls(tuple(sorted(sums, key=reach)), tuple(vectors.values()))

    def inputs(self) -> dict[str, Span]:
        """Vector -> its inputs of the matrix."""
        table, start = {}, 0
        for product in self.vectors:
            table[product.input] = (start, start + product.inputs)
            start += product.inputs
        return table

    def rectangles(self) -> list[tuple[Sum, Product, Rectangle]]:
        """Where the weights of each product lie."""
        inputs, found, start = self.inputs(), [], 0
        for one in self.sums:
            outputs = (start, start + one.outputs)
            found += [(one, product, (inputs[product.input], outputs)) for product in one.products]
            start = outputs[1]
        return found


def cut(rectangles: Iterable[Rectangle], rows: int, outputs: int) -> list[Rectangle]:
    """The tiles of a matrix whose weights fill these rectangles: at most ``rows`` x ``outputs``, none of them empty.

    Inputs are cut every ``rows``; then each run of outputs with weights there is cut every ``outputs``, and word lines
    before the first and after the last weight of a tile are left out.
    """
    held = list(rectangles)
    total = max(inputs[1] for inputs, _ in held)
    tiles = []
    for start in range(0, total, rows):
        block = (start, min(start + rows, total))
        here = [(_common(inputs, block), out) for inputs, out in held if _overlap(inputs, block)]
        for first, last in _runs(out for _, out in here):
            for left in range(first, last, outputs):
                columns = (left, min(left + outputs, last))
                inside = [inputs for inputs, out in here if _overlap(out, columns)]
                tiles.append(((min(i[0] for i in inside), max(i[1] for i in inside)), columns))
    return tiles


def empty(rectangles: Iterable[Rectangle], tile: Rectangle) -> tuple[Rectangle, ...]:
    """The parts of a tile without weights, as rectangles."""
    rows, columns = tile
    held = [
        (_common(i, rows), _common(o, columns)) for i, o in rectangles if _overlap(i, rows) and _overlap(o, columns)
    ]
    found: list[Rectangle] = []
    marks = sorted({edge for _, out in held for edge in out} | set(columns))
    for first, last in zip(marks, marks[1:], strict=False):
        at = rows[0]
        for start, stop in [*_runs(i for i, out in held if _overlap(out, (first, last))), (rows[1], rows[1])]:
            if at < start:
                found.append(((at, start), (first, last)))
            at = stop
    return _merged(found)


def plan(sums: Sequence[Sum], candidates: Sequence[Sequence[Sum]], grid: Grid) -> list[Group]:
    """The groups, one a matrix.

    ``sums``: every product on its own. ``candidates``: for each addition of several products, the sums that they can
    become, best first; one is taken if it lessens conversions, or tiles at equal conversions.
    """
    chosen = list(sums)
    best = _total(chosen, grid)
    for options in candidates:
        for option in options:
            gone = {p.name for p in option.products if p.input != ONE}
            held = [bool(gone & {p.name for p in s.products}) for s in chosen]
            kept = [s for s, joined in zip(chosen, held, strict=True) if not joined]
            at = held.index(True)  # where its first product stood, so that groups keep the program's order
            tried = [*kept[:at], option, *kept[at:]]
            cost = _total(tried, grid)
            if cost < best:
                chosen, best = tried, cost
                break
    return [group for level in _levels(chosen) for group in _grouped(level, grid)]


def _total(sums: Sequence[Sum], grid: Grid) -> Cost:
    return _add(cost(group, grid) for level in _levels(sums) for group in _grouped(level, grid))


def cost(group: Group, grid: Grid) -> Cost:
    """Conversions of both kinds at each read of a group's matrix, and its tiles."""
    tiles = cut([rectangle for *_, rectangle in group.rectangles()], grid.rows, grid.outputs)
    return sum(i[1] - i[0] + (o[1] - o[0]) * grid.slices for i, o in tiles), len(tiles)


def _levels(sums: Sequence[Sum]) -> list[list[Sum]]:
    """Sums that can be read together: inputs ready after as many reads, under the same guards, of the same types."""
    table: dict[object, list[Sum]] = {}
    for one in sums:
        table.setdefault((one.level, one.key), []).append(one)
    return list(table.values())


def _grouped(sums: list[Sum], grid: Grid) -> list[Group]:
    """Sums of equal vectors stacked; or, where that costs less, all that are linked by vectors in one block matrix."""
    groups = []
    for linked in _components(sums):
        alike: dict[frozenset[str], list[Sum]] = {}
        for one in linked:
            alike.setdefault(frozenset(p.input for p in one.products), []).append(one)
        apart = [Group.of(members) for members in alike.values()]
        together = [Group.of(linked)]
        smaller = _add(cost(g, grid) for g in together) < _add(cost(g, grid) for g in apart)
        groups += together if grid.blocks and smaller else apart
    return groups


def _components(sums: list[Sum]) -> list[list[Sum]]:
    """Sums linked by a vector that they share, directly or through others; a constant one links nothing."""
    found: list[tuple[set[str], list[Sum]]] = []
    for one in sums:
        names = {p.input for p in one.products if p.input != ONE}
        touching = [c for c in found if c[0] & names]
        merged = (names.union(*(c[0] for c in touching)), [s for c in touching for s in c[1]] + [one])
        at = found.index(touching[0]) if touching else len(found)
        found = [c for c in found if c not in touching]
        found.insert(at, merged)
    order = {id(one): i for i, one in enumerate(sums)}
    return [sorted(members, key=lambda s: order[id(s)]) for _, members in found]


def _runs(spans: Iterable[Span]) -> list[Span]:
    """The union of ranges, as ranges that don't touch."""
    runs: list[Span] = []
    for start, stop in sorted(spans):
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
        else:
            runs.append((start, stop))
    return runs


def _merged(rectangles: list[Rectangle]) -> tuple[Rectangle, ...]:
    """Neighbours along the outputs with equal inputs made one."""
    found: list[Rectangle] = []
    for inputs, (first, last) in sorted(rectangles):
        if found and found[-1][0] == inputs and found[-1][1][1] == first:
            found[-1] = (inputs, (found[-1][1][0], last))
        else:
            found.append((inputs, (first, last)))
    return tuple(found)


def _common(a: Span, b: Span) -> Span:
    return max(a[0], b[0]), min(a[1], b[1])


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _add(costs: Iterable[Cost]) -> Cost:
    found = list(costs)
    return sum(c[0] for c in found), sum(c[1] for c in found)
